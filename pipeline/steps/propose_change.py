"""Publish a change of image tags as a pull request: one branch for each environment and set of services.

Each try reads the base branch and what is proposed already, judges the order of commits against both, and edits anew on
the base's own content. A branch that says the same already stays as it is, so that the same run again changes nothing.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import tenacity

from pipeline.core import commit_message, pull_request
from pipeline.core.commit_message import Trailers
from pipeline.core.deployment import ChangedLine, Gitops, Image, PullRequest
from pipeline.core.order import Relation
from pipeline.core.progress import Progress
from pipeline.core.pull_request import Since
from pipeline.core.wording import one_line
from pipeline.errors import (
    BranchIsNotOurs,
    CommitRefused,
    PipelineError,
    Unreachable,
)
from pipeline.steps import publish_change
from pipeline.steps.publish_change import (
    Ancestry,
    GitopsRepository,
    Head,
    Inputs,
    LostRaceError,
    Plan,
    PublishedChange,
    complete,
    is_superseded,
    make_plan,
    race,
)

_TRIES = 4
_COMMITS = 100
"""How many commits since the running version are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the pull request is to be. Reviewers are logins, or ORGANISATION/TEAM."""

    reviewers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    draft: bool = False
    merge: bool = False
    """Whether to merge it as the repository's rules allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A pull request as it is now."""

    number: int
    url: str
    branch: str
    head: str
    title: str
    body: str
    labels: frozenset[str] = frozenset()
    reviewers: frozenset[str] = frozenset()
    """Who is asked for a review."""
    is_open: bool = True
    merge_commit: str | None = None
    """The commit on the base that it became, however it was merged."""


@dataclass(frozen=True, slots=True)
class BranchCommit:
    """A commit that a branch has and its base has not."""

    oid: str
    parents: tuple[str, ...]
    message: str
    author: str
    by_api: bool
    """Whether GitHub itself committed it, as it does for the API and its pages; a push comes from elsewhere."""


@dataclass(frozen=True, slots=True)
class Tip:
    """A branch as it is now, and what it has more than its base, oldest first."""

    oid: str
    commits: tuple[BranchCommit, ...]


class PullRequests(Protocol):
    """Pull requests of the GitOps repository, and their branches."""

    def open_ones(self, base: str) -> tuple[Proposal, ...]:
        """Those onto `base` that come from the repository itself."""

    def tip(self, branch: str, base: str) -> Tip | None:
        """A branch over the commit `base`; None where there is none."""

    def files(self, revision: str, paths: Collection[str]) -> Mapping[str, bytes]:
        """What stands at `paths` in a commit."""

    def push(self, branch: str, before: str | None, base: str, files: Mapping[str, bytes], message: str) -> str | None:
        """Have `branch` point to a new commit with `files` on `base`; None when it is not at `before` any more."""

    def write(
        self, known: Proposal | None, branch: str, base: str, title: str, body: str, options: Options
    ) -> Proposal:
        """Open the pull request, or bring `known` up to date."""

    def ask_reviewers(self, proposal: Proposal, reviewers: Sequence[str]) -> None:
        """Ask those who are not asked yet."""

    def close(self, proposal: Proposal, comment: str) -> None:
        """Close it with a comment and delete its branch, if that is where the proposal says."""

    def merge(self, proposal: Proposal, base: str, message: str) -> str:
        """Merge it, or have it merged, as the repository's rules allow: what was done, in words."""

    def look(self, number: int) -> Proposal:
        """It as it is now; asking again costs nothing as long as nothing has changed."""


class Source(publish_change.Source, Protocol):
    """The repository that the images' commits belong to."""

    def between(self, old: str, new: str, limit: int) -> Since:
        """The commits that `new` has and `old` has not. Raises PipelineError when they cannot be had."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """What open pull requests of this environment propose already."""

    branch: str
    own: Proposal | None
    others: tuple[Proposal, ...]
    tip: Tip | None
    images: Mapping[str, Image] = field(default_factory=dict)
    """Of our own pull request, by name."""


def propose_change(
    repository: GitopsRepository,
    pulls: PullRequests,
    source: Source | None,
    inputs: Inputs,
    options: Options,
    progress: Progress,
    *,
    head: Head | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> PublishedChange:
    """Propose `inputs.images`, or find that there is nothing to do. `head` spares the first read.

    Raises what `publish_change` raises, and BranchIsNotOurs for a branch that somebody else has committed to.
    """
    ancestry = Ancestry(source)
    first = [head] if head else []
    patient = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((Unreachable, CommitRefused)),
        wait=tenacity.wait_exponential_jitter(multiplier=0.5),
        stop=tenacity.stop_after_attempt(_TRIES),
        reraise=True,
        sleep=sleep,
    )

    def attempt() -> PublishedChange:
        now = complete(repository, inputs.overlays, first.pop() if first else None, sleep)
        return _attempt(now, repository, pulls, source, inputs, options, ancestry, progress)

    change, attempts = race(lambda: patient(attempt), repository, inputs.deadline_seconds, progress, clock, sleep)
    progress.show("publish", "")
    for warning in change.warnings:
        progress.say(f"warning: {warning}")
    if change.outcome == "unchanged":
        progress.say("Nothing to change: the tags stand there already")
    return replace(change, gitops=replace(change.gitops, attempts=attempts))


def _attempt(
    now: Head,
    repository: GitopsRepository,
    pulls: PullRequests,
    source: Source | None,
    inputs: Inputs,
    options: Options,
    ancestry: Ancestry,
    progress: Progress,
) -> PublishedChange:
    pending = _pending(now, repository, pulls, inputs)
    warnings: list[str] = []
    images, newer = _over_pending(inputs, pending, ancestry, warnings)
    if newer and not images:
        known = pending.own or next(p for p in pending.others if newer[0].name in _names(p, inputs))
        return PublishedChange(
            outcome="superseded",
            gitops=_gitops(repository, known),
            images=newer,
            superseded=newer,
            warnings=tuple(warnings),
        )
    plan = make_plan(now, replace(inputs, images=images), ancestry, lambda path: repository.peek(now, path))
    proposed = {image.name for image in plan.images}
    change = PublishedChange(
        outcome=plan.outcome,
        gitops=Gitops(
            repository=repository.name, branch=repository.branch, revision=now.revision, changed=plan.changed
        ),
        images=plan.images,
        superseded=tuple(image for image in (*newer, *plan.superseded) if image.name not in proposed),
        diff=plan.diff,
        warnings=(*warnings, *plan.warnings),
    )
    if plan.outcome != "planned":
        if plan.outcome == "unchanged" and not inputs.dry_run:
            covered = _covered((pending.own, *pending.others), plan.images, inputs, ancestry)
            _close(pulls, covered, pull_request.overtaken(repository.branch), now, inputs, progress)
        return change
    if inputs.dry_run:
        what = f"update pull request #{pending.own.number}" if pending.own else f"open a pull request {pending.branch}"
        progress.say(f"Would {what}")
        return replace(change, gitops=_gitops(repository, pending.own, pending.branch, changed=plan.changed))
    message, revision = plan.message, None
    if pending.tip and _is_up_to_date(pending.tip, plan, now, pulls):
        message, revision = pending.tip.commits[-1].message, pending.tip.oid
    fresh = revision is None
    revision = revision or pulls.push(
        pending.branch, pending.tip.oid if pending.tip else None, now.revision, plan.after, plan.message
    )
    if revision is None:
        raise LostRaceError
    proposal = pulls.write(
        pending.own,
        pending.branch,
        repository.branch,
        pull_request.title(message),
        _body(message, plan, source, inputs, ancestry),
        options,
    )
    if fresh or pending.own is None:
        pulls.ask_reviewers(proposal, options.reviewers)
    if proposal.head != revision or not proposal.is_open:  # somebody was quicker, and may be newer
        raise LostRaceError
    done = "Opened" if pending.own is None else "Updated" if fresh or proposal != pending.own else "Nothing new in"
    progress.say(f"{done} pull request #{proposal.number}: {proposal.url}")
    covered = _covered(pending.others, plan.images, inputs, ancestry)
    _close(pulls, covered, pull_request.closing(proposal.number), now, inputs, progress)
    if options.merge:
        progress.say(pulls.merge(proposal, repository.branch, message))
        proposal = pulls.look(proposal.number)
    return replace(
        change, outcome="published", gitops=_gitops(repository, proposal, proposal.branch, changed=plan.changed)
    )


def entered(proposal: Proposal) -> PullRequest:
    """A pull request as the JSON contract has it."""
    return PullRequest(
        number=proposal.number,
        url=proposal.url,
        state="merged" if proposal.merge_commit else "open" if proposal.is_open else "closed",
        branch=proposal.branch,
        head=proposal.head,
    )


def _pending(now: Head, repository: GitopsRepository, pulls: PullRequests, inputs: Inputs) -> _Pending:
    branch = pull_request.branch_name(inputs.environment, inputs.images)
    found = pulls.open_ones(repository.branch)
    own = next((proposal for proposal in found if proposal.branch == branch), None)
    others = tuple(p for p in found if p is not own and _names(p, inputs))
    tip = pulls.tip(branch, now.revision)
    if tip is None:
        return _Pending(branch, None, others, None)
    if foreign := _foreign(tip, inputs.environment):
        raise BranchIsNotOurs(
            f"the branch {branch} of {repository.name} carries commit {foreign.oid[:7]} of "
            f"{one_line(foreign.author, 60)}, {one_line(foreign.message.partition(chr(10))[0], 80)!r}: "
            "it would be lost",
            remedy=f"Merge or close {own.url if own else 'its pull request'}, delete the branch {branch}, "
            "then run again.",
        )
    ours = commit_message.parse(tip.commits[-1].message) if own and tip.commits else None
    return _Pending(branch, own, others, tip, {image.name: image for image in ours.images} if ours else {})


def _names(proposal: Proposal, inputs: Inputs) -> Mapping[str, Image]:
    """The images that a pull request of ours deploys to this environment, by name."""
    if not proposal.branch.startswith(pull_request.PREFIX):
        return {}
    return {image.name: image for image in pull_request.images_of(proposal.body, inputs.environment)}


def _foreign(tip: Tip, environment: str) -> BranchCommit | None:
    """A commit that is not of ours. One that somebody amended has our message still, but was pushed."""
    for commit in tip.commits:
        trailers = commit_message.parse(commit.message)
        if trailers is None or trailers.environment != environment or not commit.by_api:
            return commit
    return None


def _over_pending(
    inputs: Inputs, pending: _Pending, ancestry: Ancestry, warnings: list[str]
) -> tuple[tuple[Image, ...], tuple[Image, ...]]:
    """The images to propose, and those that open pull requests have newer.

    What our own pull request has newer stays in it, as long as anything else in it changes.
    """
    wanted: list[Image] = []
    kept: list[Image] = []
    newer: list[Image] = []
    for image in inputs.images:
        proposed = pending.images.get(image.name)
        if (
            proposed
            and pending.own
            and is_superseded(image, proposed.tag, inputs, ancestry, warnings, f"proposed (#{pending.own.number})")
        ):
            kept.append(replace(proposed, service=image.service))
            at: int | None = pending.own.number
        else:
            at = next((p.number for p in pending.others if _is_newer(p, image, inputs, ancestry)), None)
        if at is None:
            wanted.append(image)
            continue
        there = proposed or next(_names(p, inputs)[image.name] for p in pending.others if p.number == at)
        newer.append(replace(image, previous=there.tag))
        warnings.append(
            f"{image.name} {image.tag[:12]} is superseded: {there.tag[:12]}, which is newer, is proposed in #{at}"
        )
    return ((*wanted, *kept) if wanted else ()), tuple(newer)


def _is_newer(proposal: Proposal, image: Image, inputs: Inputs, ancestry: Ancestry) -> bool:
    there = _names(proposal, inputs).get(image.name)
    if there is None or inputs.kind != "deploy":
        return False
    return ancestry.relation(there.tag, image.tag) is Relation.ANCESTOR


def _covered(
    proposals: Iterable[Proposal | None], images: Iterable[Image], inputs: Inputs, ancestry: Ancestry
) -> tuple[Proposal, ...]:
    """Those of the pull requests of which each image is among `images`, the same or older.

    A rollback is never covered: that a newer version is there is what it is about.
    """
    new = {image.name: image.tag for image in images}
    older = {Relation.EQUAL, Relation.DESCENDANT}
    return tuple(
        proposal
        for proposal in proposals
        if proposal
        and (theirs := _names(proposal, inputs))
        and not pull_request.goes_back(proposal.body)
        and all(name in new and ancestry.relation(image.tag, new[name]) in older for name, image in theirs.items())
    )


def _close(
    pulls: PullRequests, covered: Iterable[Proposal], comment: str, now: Head, inputs: Inputs, progress: Progress
) -> None:
    for proposal in covered:
        tip = pulls.tip(proposal.branch, now.revision)
        if tip and _foreign(tip, inputs.environment):
            progress.say(f"warning: #{proposal.number} is superseded, and stays: somebody else has committed to it")
            continue
        pulls.close(replace(proposal, head=tip.oid if tip else proposal.head), comment)
        progress.say(f"Closed pull request #{proposal.number}, which is superseded: {proposal.url}")


def _is_up_to_date(tip: Tip, plan: Plan, now: Head, pulls: PullRequests) -> bool:
    """Whether the branch is one commit that makes this very edit of what the base has now."""
    if len(tip.commits) != 1 or pulls.files(tip.oid, plan.after.keys()) != plan.after:
        return False
    parent = tip.commits[0].parents[0]
    return parent == now.revision or pulls.files(parent, plan.before.keys()) == plan.before


def _body(message: str, plan: Plan, source: Source | None, inputs: Inputs, ancestry: Ancestry) -> str:
    trailers = commit_message.parse(message) or Trailers(
        deployment_id=inputs.deployment_id, kind=inputs.kind, environment=inputs.environment, images=()
    )
    known = {image.name: image for image in plan.images}
    images = tuple(replace(known.get(image.name, image), source=image.source) for image in trailers.images)
    since = []
    for old, new in dict.fromkeys((image.previous, image.tag) for image in images):
        if source and old and ancestry.relation(old, new) in {Relation.DESCENDANT, Relation.DIVERGED}:
            try:
                since.append(source.between(old, new, _COMMITS))
            except PipelineError:
                continue  # the body is as good as what is known
    return pull_request.body(trailers, images, plan.diff, since)


def _gitops(
    repository: GitopsRepository,
    known: Proposal | None,
    branch: str = "",
    changed: tuple[ChangedLine, ...] = (),
) -> Gitops:
    proposed = entered(known) if known else PullRequest(branch=branch)
    return Gitops(
        repository=repository.name,
        branch=repository.branch,
        revision=known.merge_commit if known else None,
        changed=changed,
        pull_request=proposed,
    )
