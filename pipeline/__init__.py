"""OpenEG Deploy: a commit becomes a healthy deployment, by way of git.

Read `pipeline/steps/` from top to bottom of the flow:
build_image -> edit_tag -> publish_change -> wait_rollout -> write_notice.
"""

__version__ = "0.1.0"
