"""What GitHub's Deployments shall say of a deployment: for each source commit one, with its state and a sentence.

https://docs.github.com/rest/deployments/deployments
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.core.deployment import Deployment, Image
from pipeline.core.image import is_commit
from pipeline.core.wording import broken, left_out, one_line, state

State = Literal["queued", "in_progress", "success", "failure", "error", "inactive"]

_LONGEST_DESCRIPTION = 140
_BEFORE = {"queued", "in_progress"}
_STATES: dict[str, State] = {
    "built": "queued",
    "published": "in_progress",
    "suspended": "in_progress",
    "deployed": "success",
    "unchanged": "success",
    "superseded": "inactive",
}
# What went wrong with the version itself; all else kept it from being tried.
_FAILURES = {"BuildFailed", "PushFailed", "SyncFailed", "RolloutFailed", "RolloutTimedOut"}


@dataclass(frozen=True, slots=True)
class Target:
    """One commit of one source repository, as it comes to an environment."""

    source: str
    """The repository's URL."""
    commit: str
    images: tuple[str, ...]
    """Their `images[].name`."""
    task: str
    """What is done, as GitHub calls it: `deploy`, `rollback`, ..."""
    state: State
    description: str


def targets(
    deployment: Deployment, images: Iterable[Image], source: str | None, under_way: State | None = None
) -> Iterator[Target]:
    """What to show, each source repository and commit once; nothing for what was only planned or edited.

    `source` is where images come from that do not say so; `under_way` is the state as long as there is no outcome.
    """
    yield from _targets(deployment, images, source, under_way or _state(deployment))
    if under_way is None and (back := deployment.rollback):
        sources = {image.name: image.source for image in deployment.images}
        restored = (replace(image, source=sources.get(image.name)) for image in back.images)
        undone = replace(deployment, kind="rollback", outcome=back.outcome, error=None, images=back.images)
        undone = replace(undone, rollout=back.rollout, rollback=None, gitops=back.gitops)
        yield from _targets(undone, restored, source, _STATES.get(back.outcome, "failure"))


def _targets(
    deployment: Deployment, images: Iterable[Image], source: str | None, reached: State | None
) -> Iterator[Target]:
    groups: dict[tuple[str, str], list[Image]] = {}
    for image in images:
        repository = (image.source or "").rpartition("@")[0] or source
        if repository and is_commit(image.tag):
            groups.setdefault((repository, image.tag), []).append(image)
    for (repository, commit), group in groups.items():
        names, task = tuple(image.name for image in group), deployment.kind or "deploy"
        shown = replace(deployment, images=tuple(group))
        if all(left_out(deployment, image) for image in group):
            yield Target(repository, commit, names, task, "inactive", _described(replace(shown, outcome="superseded")))
        elif reached:
            yield Target(repository, commit, names, task, reached, _described(shown, final=reached not in _BEFORE))


def _state(deployment: Deployment) -> State | None:
    if deployment.error and deployment.outcome != "suspended":
        return "failure" if deployment.error.class_ in _FAILURES else "error"
    return _STATES.get(deployment.outcome)


def _described(deployment: Deployment, *, final: bool = True) -> str:
    causes = [item.cause for item in broken(deployment) if item.cause] if final else []
    if causes:
        return one_line(f"{causes[0].reason}: {causes[0].message}", _LONGEST_DESCRIPTION)
    if final and deployment.error:
        return one_line(deployment.error.message, _LONGEST_DESCRIPTION)
    return one_line(state(deployment, final=final)[1], _LONGEST_DESCRIPTION)
