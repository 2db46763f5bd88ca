"""Who is told of a deployment: GitHub's page of the application, Slack, and the GitOps repository's records.

Whatever goes wrong is a warning: a deployment does not depend on being told.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.cli import settings
from pipeline.cli.flags import Run
from pipeline.cli.settings import Place
from pipeline.core.deployment import Image, Notices
from pipeline.core.secret import Secret
from pipeline.errors import PipelineError, RateLimited, Unreachable

if TYPE_CHECKING:
    from pipeline.core.github_deployment import State, Target

_NOTICE_SECONDS = 10.0
"""How long GitHub's limits may hold a deployment up for a notice."""


def notify(run: Run, where: Place | None = None, *, final: bool = True) -> None:
    """Bring GitHub's deployments and the one Slack message up to date; silent where these are not configured.

    Whatever goes wrong is a warning: a deployment does not depend on being told.
    """
    tell_github(run, None if final else "in_progress")
    _tell_slack(run, where, final=final)


def tell_github(run: Run, under_way: "State | None" = None, images: Iterable[Image] | None = None) -> None:
    """Bring what the source repositories' pages on GitHub show up to date; `under_way` until there is an outcome.

    `images` stand in for the report's as long as none are there.
    """
    from pipeline.core.github_deployment import targets

    token, so_far = run.secret("github-token"), run.report.deployment
    if token is None or not (so_far.environment and so_far.deployment_id) or "github" in run.report.untold:
        return
    shown = images or so_far.images
    for target in targets(so_far, shown, settings.source_url(run) if shown else None, under_way):
        try:
            _show(run, target, token)
        except ModuleNotFoundError as error:
            _leave_github(run, f"the Python package {error.name!r} is missing (extra: github)")
        except PipelineError as error:
            if isinstance(error, Unreachable | RateLimited):
                run.progress.say(f"warning: GitHub was not told of the deployment: {error}")
                continue
            _leave_github(run, f"{error}. {error.remedy}")
        if "github" in run.report.untold:
            return


def _leave_github(run: Run, why: str) -> None:
    run.report.untold.add("github")
    run.progress.say(f"warning: GitHub was not told of the deployment: {why}")


def _show(run: Run, target: "Target", token: Secret) -> None:
    from pipeline.edges import github_deployments
    from pipeline.steps import write_deployment

    so_far = run.report.deployment
    notices = so_far.notices or Notices()
    access = replace(settings.github_access(run), deadline_seconds=_NOTICE_SECONDS)
    page = github_deployments.connect(target.source, token, access)
    if page is None:
        return
    with contextlib.closing(page):
        written = write_deployment.write_deployment(
            page,
            write_deployment.Inputs(
                target=target,
                environment=so_far.environment or "",
                deployment_id=so_far.deployment_id or "",
                environment_url=(so_far.urls or {}).get("environment"),
                log_url=so_far.run,
                before=notices.github,
            ),
        )
    if written is None:
        return
    others = (item for item in notices.github if (item.repository, item.commit) != (written.repository, written.commit))
    run.report.update(notices=replace(notices, github=(*others, written)))


def _tell_slack(run: Run, where: Place | None, *, final: bool) -> None:
    token, webhook = run.secret("slack-token"), run.secret("slack-webhook")
    if token is None and webhook is None:
        return
    from pipeline.steps import write_notice

    so_far = run.report.deployment
    configured = where.config.slack.channel if where and where.config else None
    try:
        from pipeline.edges import slack

        messenger = slack.connect(token, webhook, run.text("slack-api-url"))
    except ModuleNotFoundError as error:
        run.progress.say(f"warning: Slack was not told: the Python package {error.name!r} is missing (extra: notify)")
        return
    except PipelineError as error:
        run.progress.say(f"warning: Slack was not told: {error} ({error.remedy})")
        return
    if messenger:
        inputs = write_notice.Inputs(
            deployment=so_far,
            channel=run.required("slack-channel", configured),
            message_so_far=so_far.notices.slack if so_far.notices else None,
            diff=run.report.diff,
            final=final,
        )
        notice = write_notice.write_notice(messenger, inputs, run.progress)
        if notice.slack:
            run.report.update(notices=replace(so_far.notices or Notices(), slack=notice.slack))


def record(run: Run, where: Place) -> None:
    """Record on the branch `deploy-records` how a wait ended; a warning where that does not go."""
    if run.report.deployment.rollout is None:
        return
    from pipeline.cli.earlier import recorded
    from pipeline.core.record import BRANCH
    from pipeline.edges.gitops_repository import beside
    from pipeline.steps.record_outcome import record_outcome

    branch = beside(where.repository, BRANCH)
    if branch:
        run.report.stamp()
        record_outcome(branch, run.report.deployment, recorded, run.progress)
