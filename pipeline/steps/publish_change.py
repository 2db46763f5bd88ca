"""Publish a change of image tags as one commit on the GitOps repository's branch, against any number of other writers.

Each try reads the branch's head, judges the order of commits and edits anew, on that head's own content; it wins only
if the head has not moved meanwhile. Nothing is ever rebased, and no old bytes are put on a new head.
"""

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NoReturn, Protocol, TypeVar

import tenacity

from pipeline.core import commit_message, diff, order
from pipeline.core.commit_message import Trailers
from pipeline.core.deployment import ChangedLine, Gitops, Image, Kind, changed_files
from pipeline.core.image import is_commit, require_commit
from pipeline.core.kustomization import KUSTOMIZATION_NAMES, Entry, ImageEdit, read_entries
from pipeline.core.order import Relation, Rule
from pipeline.core.progress import Progress
from pipeline.errors import (
    BranchMovedTooOften,
    Diverged,
    KustomizationUnusable,
    OrderUnknown,
    OverlayNotFound,
    PipelineError,
    Unreachable,
)
from pipeline.steps import edit_tag

_UNREACHABLE_TRIES = 4
_LONGEST_PAUSE_SECONDS = 6.0

_Won = TypeVar("_Won")


@dataclass(frozen=True, slots=True)
class Head:
    """The branch's head as it was read, with what the paths that were asked for lead to."""

    revision: str
    files: Mapping[str, bytes]
    """Content by the file's real path, which has no symbolic links."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """The real path of each asked path that is a file."""
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names in each asked path that is a folder."""
    warnings: tuple[str, ...] = ()
    ahead: bool = False
    """Whether it is on this machine alone, so that publishing brings it to others."""


class GitopsRepository(Protocol):
    """One branch of the GitOps repository."""

    @property
    def name(self) -> str:
        """URL without credentials, or path."""

    @property
    def branch(self) -> str:
        """The branch's name."""

    @property
    def publishes(self) -> bool:
        """Whether `publish` reaches the branch that others see; else it edits or commits in a work tree alone."""

    @property
    def way(self) -> str:
        """How `publish` gets there, for people: `over git`."""

    def read(self, paths: Sequence[str]) -> Head:
        """Fetch the head as it is now. A path that leads nowhere is left out."""

    def peek(self, head: Head, path: str) -> bytes | None:
        """Another file's content at `head`; None when it is not there or cannot be had."""

    def require_unchanged(self, files: Collection[str]) -> None:
        """Raise LocalChanges where publishing these files would be refused."""

    def publish(self, head: Head, files: Mapping[str, bytes], message: str) -> str | None:
        """Put a commit with `files` (by real path) onto `head`: the new revision, or None when the head has moved.

        Without files, a head that is `ahead` is brought to others as it is.
        """


class Source(Protocol):
    """The repository that the images' commits belong to."""

    def relation(self, old: str, new: str) -> Relation:
        """How commit `new` stands to commit `old`."""

    def on_default_branch(self, commit: str) -> bool | None:
        """Whether the default branch contains `commit`; None when that cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What to publish where. `overlays` are folders or kustomization files, relative to the repository's root."""

    environment: str
    images: tuple[Image, ...]
    overlays: tuple[str, ...]
    deployment_id: str
    kind: Kind = "deploy"
    create: bool = False
    order: Rule = "ancestry"
    allow_diverged: bool = False
    actor: str | None = None
    run: str | None = None
    dry_run: bool = False
    deadline_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be done to one head; a dry run shows this very value, a real run publishes it."""

    outcome: Literal["planned", "unchanged", "superseded"]
    before: Mapping[str, bytes] = field(default_factory=dict)
    after: Mapping[str, bytes] = field(default_factory=dict)
    """The files that change, by path."""
    changed: tuple[ChangedLine, ...] = ()
    message: str = ""
    images: tuple[Image, ...] = ()
    superseded: tuple[Image, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def diff(self) -> str:
        """The change as `git apply` takes it."""
        return diff.unified(self.before, self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedChange:
    """What became of the change. `edited` is a work tree's change that was not pushed."""

    outcome: Literal["published", "edited", "unchanged", "superseded", "planned"]
    gitops: Gitops
    images: tuple[Image, ...]
    """The images that now stand in the repository as they were asked for; when superseded, those that do not."""
    superseded: tuple[Image, ...] = ()
    """Images that were left out because a newer commit of them is deployed."""
    diff: str = ""
    warnings: tuple[str, ...] = ()


class LostRaceError(Exception):
    """The head moved between reading and publishing."""


def publish_change(
    repository: GitopsRepository,
    source: Source | None,
    inputs: Inputs,
    progress: Progress,
    *,
    head: Head | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> PublishedChange:
    """Publish `inputs.images`, or find that there is nothing to do. `head` spares the first read.

    Raises what reading, editing and judging raise; Diverged and OrderUnknown when the order says no;
    BranchMovedTooOften when others won every race until the deadline.
    """
    if inputs.kind in {"deploy", "promote"}:
        for image in inputs.images:
            require_commit(image.tag, image.name)
    ancestry = Ancestry(source)
    first = [head] if head else []

    def attempt() -> PublishedChange:
        now = complete(repository, inputs.overlays, first.pop() if first else None, sleep)
        plan = make_plan(now, inputs, ancestry, functools.partial(repository.peek, now))
        if inputs.dry_run:
            repository.require_unchanged(plan.after)
        if inputs.dry_run or not (plan.outcome == "planned" or (plan.outcome == "unchanged" and now.ahead)):
            return _result(repository, plan, plan.outcome, now.revision)
        revision = repository.publish(now, plan.after, plan.message)
        if revision is None:
            raise LostRaceError
        return _result(repository, plan, "published" if repository.publishes else "edited", revision)

    change, attempts = race(attempt, repository, inputs.deadline_seconds, progress, clock, sleep)
    progress.show("publish", "")
    _tell(change, repository.way, progress)
    return replace(change, gitops=replace(change.gitops, attempts=attempts))


def race(
    attempt: Callable[[], _Won],
    repository: GitopsRepository,
    deadline_seconds: float,
    progress: Progress,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[_Won, int]:
    """What `attempt` returns at last, and at which try: it is made again where it raises LostRaceError.

    Raises BranchMovedTooOften when others win every race until the deadline.
    """
    started = clock()

    def give_up(state: tenacity.RetryCallState) -> NoReturn:
        raise BranchMovedTooOften(
            f"{repository.name}: {repository.branch} moved at each of {state.attempt_number} attempts "
            f"in {clock() - started:.0f} s"
        )

    racing = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(LostRaceError),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE_SECONDS),
        stop=lambda state: clock() - started + state.upcoming_sleep >= deadline_seconds,
        retry_error_callback=give_up,
        before_sleep=lambda state: progress.show(
            "publish", f"attempt {state.attempt_number}: {repository.branch} moved meanwhile, editing anew"
        ),
        sleep=sleep,
    )
    won: _Won = racing(attempt)
    return won, racing.statistics["attempt_number"]


def read_patiently(
    repository: GitopsRepository, paths: Sequence[str], *, sleep: Callable[[float], None] = time.sleep
) -> Head:
    """Read the head as it is now; a short outage is waited out."""
    reading = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unreachable),
        wait=tenacity.wait_exponential_jitter(multiplier=0.5),
        stop=tenacity.stop_after_attempt(_UNREACHABLE_TRIES),
        reraise=True,
        sleep=sleep,
    )
    head: Head = reading(repository.read, paths)
    return head


def read_overlays(repository: GitopsRepository, head: Head, overlays: Sequence[str]) -> Head:
    """`head` if it holds the overlays' kustomizations, else the head as it is now, with them."""
    return complete(repository, overlays, head, time.sleep)


def entries(head: Head, overlays: Sequence[str]) -> Mapping[str, Entry]:
    """The images entries of the overlays, by name; `head` holds their files."""
    files = (kustomization_file(head, overlay) for overlay in overlays)
    return {entry.name: entry for file in files for entry in read_entries(head.files[file], file)}


def make_plan(head: Head, inputs: Inputs, ancestry: "Ancestry", peek: Callable[[str], bytes | None]) -> Plan:
    """What `inputs` mean for one head. Each image is judged for itself, and a superseded one is left out.

    Whether the manifests name the image at all is looked up when it is first adopted, and in a dry run: over a network
    it costs a request or two.
    """
    paths = dict.fromkeys(kustomization_file(head, overlay) for overlay in inputs.overlays)
    files = {path: head.files[path] for path in paths}
    present: dict[str, list[str]] = {}
    for path, data in files.items():
        for entry in read_entries(data, path):
            if entry.tag is not None:
                present.setdefault(entry.name, []).append(entry.tag)
    warnings = list(head.warnings)
    wanted: list[Image] = []
    superseded: list[Image] = []
    for image in inputs.images:
        tags = tuple(dict.fromkeys(present.get(image.name, ())))
        # Where some files name the new tag already, the version before is what the others say.
        known = replace(image, previous=next((tag for tag in tags if tag != image.tag), next(iter(tags), None)))
        newer = [tag for tag in tags if is_superseded(known, tag, inputs, ancestry, warnings)]
        if newer:
            superseded.append(known)
            warnings.append(
                f"{image.name} {image.tag[:12]} is superseded: {newer[0][:12]}, which is newer, is deployed"
            )
        else:
            wanted.append(known)
    if not wanted:
        return Plan(
            outcome="superseded", images=tuple(superseded), superseded=tuple(superseded), warnings=tuple(warnings)
        )
    adopted = any(image.previous is None or not is_commit(image.previous) for image in wanted)
    edit = edit_tag.edit_tag(
        files,
        edit_tag.Inputs(
            images=tuple(ImageEdit(image.name, image.tag, image.digest, image.repository) for image in wanted),
            create=inputs.create,
        ),
        peek if adopted or inputs.dry_run else None,
    )
    if not edit.files:
        return Plan(
            outcome="unchanged",
            images=tuple(wanted),
            superseded=tuple(superseded),
            warnings=(*warnings, *edit.warnings),
        )
    changed_names = {line.name for line in edit.changed}
    return Plan(
        outcome="planned",
        before={path: files[path] for path in edit.files},
        after=edit.files,
        changed=edit.changed,
        message=commit_message.compose(
            Trailers(
                deployment_id=inputs.deployment_id,
                kind=inputs.kind,
                environment=inputs.environment,
                images=tuple(image for image in wanted if image.name in changed_names),
                actor=inputs.actor,
                run=inputs.run,
            )
        ),
        images=tuple(wanted),
        superseded=tuple(superseded),
        warnings=(*warnings, *edit.warnings),
    )


class Ancestry:
    """Asks the source each question once. A source that cannot answer is no reason to fail: the rule decides."""

    def __init__(self, source: Source | None) -> None:
        self._source = source
        self._known: dict[tuple[str, str], Relation] = {}
        self.trouble = "" if source else "no source repository is known"

    def relation(self, old: str, new: str) -> Relation:
        if old == new:
            return Relation.EQUAL
        if self._source and (old, new) not in self._known:
            try:
                self._known[old, new] = self._source.relation(old, new)
            except PipelineError as error:
                self.trouble = str(error)
        return self._known.get((old, new), Relation.UNKNOWN)

    def on_default_branch(self, commit: str) -> bool | None:
        try:
            return self._source.on_default_branch(commit) if self._source else None
        except PipelineError as error:
            self.trouble = str(error)
            return None


def is_superseded(
    image: Image, present: str, inputs: Inputs, ancestry: Ancestry, warnings: list[str], stands: str = "deployed"
) -> bool:
    """Judge one image over the tag that stands there; raises Diverged or OrderUnknown where the order says no."""
    if present == image.tag:
        return False
    asked = order.needs_relation(inputs.kind, present, image.tag)
    relation = ancestry.relation(present, image.tag) if asked else Relation.UNKNOWN
    merged = ancestry.on_default_branch(image.tag) if relation is Relation.DIVERGED else None
    judgement = order.judge(
        inputs.kind, inputs.order, present, relation, on_default_branch=merged, allow_diverged=inputs.allow_diverged
    )
    trouble = f" ({ancestry.trouble})" if asked and ancestry.trouble else ""
    if judgement.verdict == "diverged":
        raise Diverged(f"{image.name}: {image.tag} and the {stands} {present} are on different branches{trouble}")
    if judgement.verdict == "unknown":
        raise OrderUnknown(f"{image.name}: {image.tag} cannot be compared with the {stands} {present}{trouble}")
    if judgement.warning:
        warnings.append(f"{image.name}: {judgement.warning}{trouble}")
    return judgement.verdict == "superseded"


def complete(
    repository: GitopsRepository, overlays: Sequence[str], head: Head | None, sleep: Callable[[float], None]
) -> Head:
    """`head` if it holds every overlay's kustomization, else the head as it is now."""
    if head and all(_candidates(overlay) & head.paths.keys() for overlay in overlays):
        return head
    paths = sorted({path for overlay in overlays for path in _candidates(overlay)})
    now = read_patiently(repository, paths, sleep=sleep)
    for overlay in overlays:
        if not _candidates(overlay) & now.paths.keys():
            raise _no_overlay(repository, now, overlay)
    return now


def _candidates(overlay: str) -> set[str]:
    return {overlay, *(f"{overlay}/{name}" for name in KUSTOMIZATION_NAMES)}


def kustomization_file(head: Head, overlay: str) -> str:
    """The real path of the overlay's kustomization file."""
    found = sorted({head.paths[path] for path in _candidates(overlay) & head.paths.keys()})
    if len(found) > 1:
        raise KustomizationUnusable(
            f"{overlay} holds several kustomization files: {', '.join(found)}",
            remedy="Keep one of them: kustomize refuses such a folder.",
        )
    return found[0]


def _no_overlay(repository: GitopsRepository, head: Head, overlay: str) -> OverlayNotFound:
    names = head.folders.get(overlay)
    if names is not None:
        there = f"it has {', '.join(names[:20])}" if names else "it is empty"
        return OverlayNotFound(f"{overlay} of {repository.name} holds no kustomization file; {there}")
    parent = overlay.rstrip("/").rpartition("/")[0] or "."
    beside = repository.read([parent]).folders.get(parent, ())
    there = f"; {parent} has {', '.join(beside[:20])}" if beside else ""
    return OverlayNotFound(f"{repository.name} has no {overlay} on {repository.branch}{there}")


def _result(
    repository: GitopsRepository,
    plan: Plan,
    outcome: Literal["published", "edited", "unchanged", "superseded", "planned"],
    revision: str,
) -> PublishedChange:
    return PublishedChange(
        outcome=outcome,
        gitops=Gitops(
            repository=repository.name, branch=repository.branch, revision=revision, changed=plan.changed, attempts=1
        ),
        images=plan.images,
        superseded=plan.superseded,
        diff=plan.diff,
        warnings=plan.warnings,
    )


def _tell(change: PublishedChange, way: str, progress: Progress) -> None:
    for warning in change.warnings:
        progress.say(f"warning: {warning}")
    if change.outcome in {"published", "edited"}:
        files = ", ".join(changed_files(change.gitops.changed)) or "earlier commits"
        done = f"Published {way}" if change.outcome == "published" else "Edited, not pushed"
        progress.say(f"{done}: {files} on {change.gitops.branch}, {(change.gitops.revision or '')[:7]}")
    elif change.outcome == "unchanged":
        progress.say("Nothing to change: the tags stand there already")
