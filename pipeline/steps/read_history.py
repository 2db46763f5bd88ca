"""read_history: the deployments of one environment, from git; how each ended, from the records.

Git tells what changed, when and by whom. What no record tells of has no outcome: it is listed all the same.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from pipeline.core import commit_message, record
from pipeline.core.deployment import Deployment, Image, PastDeployment
from pipeline.core.history import Place, Step
from pipeline.core.kustomization import read_entries
from pipeline.core.moment import rfc3339
from pipeline.core.progress import Progress
from pipeline.errors import BranchNotFound, PipelineError
from pipeline.steps.publish_change import Head

DEPTH = 200
"""How many commits that changed an environment's kustomizations are looked at, at most."""


class Change(Protocol):
    """One commit, and what it made of the files that were asked for."""

    @property
    def revision(self) -> str:
        """The commit."""

    @property
    def message(self) -> str:
        """Its whole message."""

    @property
    def author(self) -> str:
        """The author's name."""

    @property
    def committed(self) -> int:
        """Seconds since 1970."""

    @property
    def before(self) -> Mapping[str, bytes]:
        """The files before it, by path."""

    @property
    def after(self) -> Mapping[str, bytes]:
        """The files after it, by path."""


class RecordReader(Protocol):
    """The branch that keeps the records."""

    def read(self, paths: Sequence[str]) -> Head:
        """The head as it is now, with what `paths` lead to. Raises BranchNotFound while there is no such branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Which deployments to tell of."""

    environment: str
    images: Collection[str] = ()
    """Names of images; all when none is named."""
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 20


def step_of(change: Change) -> Step:
    """What a commit did to the tags of its files; none where a former commit had one damaged."""
    trailers = commit_message.parse(change.message)
    kind = trailers.kind if trailers else None
    return Step(change.revision, kind, tags(change.before), tags(change.after))


def tags(files: Mapping[str, bytes]) -> dict[Place, str | None]:
    """The tags that kustomizations name; none of one that is damaged."""
    found: dict[Place, str | None] = {}
    for file, data in files.items():
        with contextlib.suppress(PipelineError):
            found |= {(file, entry.name): entry.tag for entry in read_entries(data, file)}
    return found


def read_history(
    changes: Iterable[Change],
    records: RecordReader | None,
    inputs: Inputs,
    parse: Callable[[bytes], Deployment | None],
    progress: Progress,
) -> tuple[PastDeployment, ...]:
    """The environment's deployments, newest first. `changes` come in this order too; `parse` reads a record.

    Raises what reading `changes` raises. Records that cannot be read are a warning.
    """
    found = []
    for past in _deployments(changes, inputs):
        found.append(past)
        if len(found) == inputs.limit:
            break
    kept = _records(records, found, parse, progress)
    return tuple(_completed(past, kept.get(past.deployment_id or "")) for past in found)


def _deployments(changes: Iterable[Change], inputs: Inputs) -> Iterator[PastDeployment]:
    for change in changes:
        committed = datetime.fromtimestamp(change.committed, UTC)
        if inputs.since and committed < inputs.since:
            return
        images = _images(change, inputs.images)
        if not images or (inputs.until and committed > inputs.until):
            continue
        trailers = commit_message.parse(change.message)
        yield PastDeployment(
            environment=inputs.environment,
            at=rfc3339(committed),
            revision=change.revision,
            images=images,
            deployment_id=trailers.deployment_id if trailers else None,
            kind=trailers.kind if trailers else None,
            actor=(trailers.actor if trailers else None) or change.author,
            run=trailers.run if trailers else None,
        )


def _images(change: Change, wanted: Collection[str]) -> tuple[Image, ...]:
    """The images whose tag the commit changed, each once, with what its trailers tell of them."""
    step = step_of(change)
    trailers = commit_message.parse(change.message)
    told = {image.name: image for image in trailers.images} if trailers else {}
    images: dict[str, Image] = {}
    for file, name in step.changed:
        tag = step.after[file, name]
        if tag is None or (wanted and name not in wanted):
            continue
        image = told.get(name)
        if image is None or image.tag != tag:
            image = Image(name=name, repository=name, tag=tag)
        images.setdefault(name, replace(image, previous=step.before.get((file, name))))
    return tuple(images.values())


def _records(
    branch: RecordReader | None,
    found: Iterable[PastDeployment],
    parse: Callable[[bytes], Deployment | None],
    progress: Progress,
) -> Mapping[str, Deployment]:
    paths = {
        past.deployment_id: record.path(past.environment, past.deployment_id) for past in found if past.deployment_id
    }
    if branch is None or not paths:
        return {}
    try:
        files = branch.read(list(paths.values())).files
    except BranchNotFound:
        return {}
    except PipelineError as error:
        progress.say(f"warning: How deployments ended is not told, as the records cannot be read: {error}")
        return {}
    read = {name: parse(files[path]) for name, path in paths.items() if path in files}
    return {name: deployment for name, deployment in read.items() if deployment}


def _completed(past: PastDeployment, kept: Deployment | None) -> PastDeployment:
    outcome, cause = record.ended(kept, past.revision)
    if outcome is None:
        return past
    services = {image.name: image.service for image in kept.images} if kept else {}
    return replace(
        past,
        outcome=outcome,
        cause=cause,
        seconds=kept.seconds.get("total") if kept and kept.seconds else None,
        images=tuple(replace(image, service=services.get(image.name)) for image in past.images),
    )
