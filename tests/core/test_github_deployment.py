"""What GitHub shall show: each source commit once, in the state that the outcome stands for."""

from dataclasses import replace

import pytest

from pipeline.core.deployment import Failure, Image
from pipeline.core.github_deployment import targets
from pipeline.errors import Outcome
from tests.deployments import CAUSE, DEPLOYED, HOSTILE, NEW, OLD, failed, rolled_back

SOURCE = "https://git.example/openeg/app.git"


def image(name: str, source: str | None, tag: str = NEW) -> Image:
    return Image(name=name, repository=f"registry.example/{name}", tag=tag, source=source and f"{source}@{tag}")


def test_each_source_repository_and_commit_has_one() -> None:
    other = "https://git.example/openeg/other"
    images = (image("a", SOURCE), image("b", SOURCE), image("c", other), image("d", None, OLD), image("e", None, "v1"))
    record = replace(DEPLOYED, images=images, gitops=None)
    found = list(targets(record, images, SOURCE))
    assert [(item.source, item.commit, item.images) for item in found] == [
        (SOURCE, NEW, ("a", "b")),
        (other, NEW, ("c",)),
        (SOURCE, OLD, ("d",)),
    ]
    assert {item.state for item in found} == {"success"}
    assert [item.source for item in targets(record, images, None)] == [SOURCE, other]


@pytest.mark.parametrize(
    ("outcome", "error", "state"),
    [
        ("built", None, "queued"),
        ("published", None, "in_progress"),
        ("deployed", None, "success"),
        ("unchanged", None, "success"),
        ("superseded", None, "inactive"),
        ("failed", "RolloutFailed", "failure"),
        ("timed_out", "RolloutTimedOut", "failure"),
        ("failed", "BuildFailed", "failure"),
        ("suspended", "RolloutSuspended", "in_progress"),
        ("refused", "Diverged", "error"),
        ("failed", "Interrupted", "error"),
        ("failed", "Unreachable", "error"),
        ("planned", None, None),
        ("edited", None, None),
    ],
)
def test_each_outcome_has_its_state(outcome: Outcome, error: str | None, state: str | None) -> None:
    failure = Failure(class_=error, message="why", remedy="Do.") if error else None
    found = list(targets(replace(DEPLOYED, outcome=outcome, error=failure), DEPLOYED.images, None))
    assert [item.state for item in found] == ([state] if state else [])


def test_what_a_newer_one_overtook_is_inactive_though_others_were_deployed() -> None:
    stays = replace(image("b", SOURCE, OLD), previous="f" * 40)
    images = (*DEPLOYED.images, stays)
    found = list(targets(replace(DEPLOYED, images=images), images, None))
    assert [(item.commit, item.state) for item in found] == [(NEW, "success"), (OLD, "inactive")]


def test_a_rollback_is_a_deployment_of_the_commit_restored() -> None:
    broken, restored = targets(rolled_back(), rolled_back().images, None)
    assert (broken.commit, broken.state, broken.task) == (NEW, "failure", "deploy")
    assert broken.description == "CrashLoopBackOff: back-off 10s restarting failed container"
    assert (restored.commit, restored.state, restored.task) == (OLD, "success", "rollback")
    assert restored.description == "Rollback of openegflask to production succeeded"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_description_is_one_line_within_githubs_limit(text: str) -> None:
    told = replace(failed(replace(CAUSE, message=text)), environment=text or "x", actor=text)
    for item in (*targets(told, told.images, None), *targets(told, told.images, None, "queued")):
        assert len(item.description) <= 140
        assert item.description.isprintable()
