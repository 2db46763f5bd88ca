"""wait_rollout: wait until Argo CD proves that our commit runs, or tells why it does not.

The loop blocks on what Argo CD reports and sleeps only until a doubt gets ripe; what it sees is judged by
`pipeline.core.rollout`.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from pipeline.core.argocd import Down, Event, Evidence, Grown, Lost, Operation, Pod, Seen, State, Tree, Up
from pipeline.core.deployment import Application, Cause, Image, Rollout, RolloutOutcome
from pipeline.core.observation import Expectation, Observation, Standing, stand
from pipeline.core.progress import Progress
from pipeline.core.rollout import Final, Question, judge, timed_out, unanswered
from pipeline.errors import (
    ApplicationNotFound,
    ArgoCDDenied,
    NotArgoCD,
    PipelineError,
    RolloutFailed,
    RolloutSuspended,
    RolloutTimedOut,
    SyncFailed,
    Unreachable,
    UsageError,
)

OUTAGE_SECONDS = 60.0
"""How long Argo CD may be silent: its API server restarts within 20 to 30 s."""
REFRESH_AGAIN_SECONDS = 15.0
"""A git server may show a push late; Argo CD would look again by itself after three minutes."""
INSIST_SECONDS = 1.0
"""After a refresh that did not bring our commit: asked for while another was under way, it ends with that one, which
may have read git before our push."""
RETRY_SECONDS = 1.0
"""After a question that Argo CD did not answer."""
ASK_AGAIN_SECONDS = 5.0
"""Between two questions about a hanging pod, a sync window, or a sync that another one keeps from beginning."""


class Feed(Protocol):
    """What Argo CD reports of the applications that are watched. It survives cut connections by itself."""

    def next(self, seconds: float) -> Event | None:
        """The next event, or None when there was none for so long."""

    def refresh(self, application: str) -> None:
        """Let Argo CD look at git now; returns at once, the answer comes as an event."""

    def follow(self, application: str) -> None:
        """Report the resource tree too."""

    def drop(self, application: str) -> None:
        """Report nothing more of this application."""


class ArgoCD(Protocol):
    """One Argo CD server. Every call may raise ApplicationNotFound, ArgoCDDenied or Unreachable."""

    def watch(self, applications: Sequence[str]) -> AbstractContextManager[Feed]:
        """Report the present state of each application, then each change."""

    def sync(self, application: str) -> str | None:
        """Begin a sync; None, or the rule that forbids it."""

    def end_sync(self, application: str) -> None:
        """End the sync that is under way."""

    def tree(self, application: str) -> Tree:
        """The resource tree as it is now."""

    def explain(self, application: str, pod: Pod) -> Evidence:
        """Last log lines and events of the pod's container that is in trouble."""

    def sync_window(self, application: str) -> str | None:
        """The sync window that keeps automated sync from beginning now, in words."""


class History(Protocol):
    """The commits of the GitOps repository."""

    def descends(self, revision: str, ancestor: str) -> bool | None:
        """Whether `revision` is a descendant of `ancestor`; None when that cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Which applications of one Argo CD should come to which revision and images; one of these two is needed."""

    applications: tuple[str, ...]
    revision: str | None
    images: tuple[Image, ...] = ()
    timeout_seconds: float = 600.0
    grace_seconds: float | None = None
    """How long what is broken may take to recover; None: 2 s for a pod in back-off, 30 s for all else."""
    sync: bool = False
    """Begin the sync of applications that have no automated sync."""
    overtake: bool = False
    """End the sync of another commit that fails and is tried again and again, since ours must wait for its end."""


@dataclass(slots=True, kw_only=True)
class _Watch:
    """What is known of one application, and what was asked about it when."""

    name: str
    state: State | None = None
    tree: Tree | None = None
    tree_is_newest: bool = False
    fresh: bool = False
    been_there: bool = False
    refreshing: bool = False
    asked_refresh: float
    insisted: bool = False
    asked_sync: float = float("-inf")
    asked_end: float = float("-inf")
    asked: float = float("-inf")
    blocked: str | None = None
    """The rule that forbids a sync."""
    evidence: dict[str, Evidence] = field(default_factory=dict)
    """What pods said when they were asked, by uid."""
    last_words: dict[str, Evidence] = field(default_factory=dict)
    """The same by owner, for when the pod is gone."""
    applied: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    """The images that the manifests of each revision name, from all syncs of it that were seen."""
    doubts: Mapping[str, float] = field(default_factory=dict)
    look_again: float = float("inf")
    uses: tuple[bool | None, ...] = ()
    """Of each image whether the manifests name it, as far as Argo CD tells."""
    final: Application | None = None


def _patience(watch: _Watch) -> float:
    """Seconds between two refreshes."""
    return REFRESH_AGAIN_SECONDS if watch.insisted or watch.been_there or not watch.fresh else INSIST_SECONDS


def wait_rollout(
    argocd: ArgoCD, history: History | None, inputs: Inputs, progress: Progress, clock: Callable[[], float]
) -> Rollout:
    """Wait for all applications; each ends with its own outcome, none raises. `clock` gives monotonic seconds.

    Raises UsageError when nothing says what to wait for.
    """
    if not inputs.applications:
        raise UsageError("there is no application to wait for", remedy="Name one with --app.")
    if inputs.revision is None and not inputs.images:
        raise UsageError("there is nothing to wait for", remedy="Give --revision, or --image NAME=TAG.")
    return _Wait(argocd, history, inputs, progress, clock).run()


def _with_images(state: State, applied: dict[tuple[str, ...], tuple[str, ...]]) -> State:
    """Enter the sync's images in `applied`, and give the state all that are known of its revision: the sync that heals
    one resource comes after the one of all, and names that resource alone."""
    if state.operation is None:
        return state
    revisions = state.operation.revisions
    applied[revisions] = tuple(dict.fromkeys((*applied.get(revisions, ()), *state.operation.images)))
    return replace(state, operation=replace(state.operation, images=applied[revisions]))


class _Wait:
    """One run of the loop: its observations, by application."""

    def __init__(
        self,
        argocd: ArgoCD,
        history: History | None,
        inputs: Inputs,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        self._argocd = argocd
        self._history = history
        self._inputs = inputs
        self._progress = progress
        self._clock = clock
        self._start = clock()
        self._down: Down | None = None
        self._down_since = 0.0
        self._standings: dict[tuple[str, ...], Standing] = {}
        self._expected = Expectation(revision=inputs.revision, images=inputs.images, grace_seconds=inputs.grace_seconds)
        names = dict.fromkeys(inputs.applications)
        self._watches = {name: _Watch(name=name, asked_refresh=self._start) for name in names}

    def run(self) -> Rollout:
        deadline = self._start + self._inputs.timeout_seconds
        with self._argocd.watch(tuple(self._watches)) as feed:
            for name in self._watches:
                feed.refresh(name)
            while pending := [watch for watch in self._watches.values() if watch.final is None]:
                now = self._clock()
                outage_ends = self._down_since + OUTAGE_SECONDS if self._down else float("inf")
                if now >= min(deadline, outage_ends):
                    self._give_up(pending)
                    break
                wake = min(deadline, outage_ends, *(self._wake(watch) for watch in pending))
                touched = self._take(feed.next(max(0.0, wake - now)), feed)
                now = self._clock()
                for watch in pending:
                    if watch.final is None and (watch is touched or now >= self._wake(watch)):
                        self._step(watch, feed, now)
        self._warn_of_unused()
        return Rollout(applications=tuple(watch.final for watch in self._watches.values() if watch.final))

    def _warn_of_unused(self) -> None:
        """An image that no manifest names was deployed nowhere, however healthy all is."""
        for image, *uses in zip(self._inputs.images, *(watch.uses for watch in self._watches.values()), strict=False):
            if uses and all(use is False for use in uses):
                self._progress.say(
                    f"warning: no manifest of {', '.join(self._watches)} names {image.repository}: the images entry "
                    f"{image.name!r} changes nothing there (the entry's name must be the one in `image:`)"
                )

    def _wake(self, watch: _Watch) -> float:
        """When to look at the application again if nothing is reported."""
        return min(watch.look_again, watch.asked_refresh + _patience(watch))

    def _take(self, event: Event | None, feed: Feed) -> _Watch | None:
        """Note what was reported; returns the application that it concerns."""
        match event:
            case Seen(state, refreshed) if watch := self._watches.get(state.name):
                watch.state = _with_images(state, watch.applied)
                watch.fresh |= refreshed or (watch.refreshing and not state.refreshing)
                watch.refreshing = state.refreshing
                watch.tree_is_newest = False
                return watch
            case Grown(name, tree) if watch := self._watches.get(name):
                watch.tree, watch.tree_is_newest = tree, False
                return watch
            case Lost(name, error) if watch := self._watches.get(name):
                self._lose(watch, error)
            case Down():
                self._down, self._down_since = event, self._clock()
                self._progress.say(f"Argo CD gives no usable answer ({event.error}); trying again")
            case Up():
                self._down = None
                self._progress.say("Argo CD answers again")
                for name in (watch.name for watch in self._watches.values() if not (watch.final or watch.fresh)):
                    feed.refresh(name)  # what was asked before was lost
        return None

    def _step(self, watch: _Watch, feed: Feed, now: float) -> None:
        """Judge one application, and ask what the judgement needs."""
        watch.look_again = float("inf")
        if now - watch.asked_refresh >= _patience(watch):
            watch.insisted |= watch.fresh
            self._refresh_again(watch, feed, now)
        if watch.state is None or self._begin_sync(watch, watch.state, now):
            return
        standing = self._standing(watch)
        watch.been_there |= standing in {"ours", "later"}
        underway = standing in {"ours", "later"} or (standing == "unknown" and watch.fresh)
        if underway and self._inputs.images and watch.state.settled and not watch.tree_is_newest:
            self._look_at_tree(watch, now)  # the tree's stream may lag behind the state's
        seen = self._observe(watch, watch.state)
        if self._inputs.overtake and seen.before_ours and seen.before_ours.failures:
            self._overtake(watch, seen.before_ours, now)
        verdict = judge(seen, watch.doubts, now)
        if isinstance(verdict, Final):
            watch.uses = tuple(seen.applies(image) for image in self._inputs.images)
            self._end(watch, self._explained(watch, verdict))
            feed.drop(watch.name)
            return
        if underway:
            feed.follow(watch.name)
        self._progress.show(watch.name, verdict.text)
        watch.doubts = verdict.doubts
        if verdict.look_again is not None:
            watch.look_again = min(watch.look_again, verdict.look_again)
        if verdict.questions:
            self._ask(watch, verdict.questions, now)

    def _refresh_again(self, watch: _Watch, feed: Feed, now: float) -> None:
        watch.asked_refresh = now
        if watch.state is None or watch.state.refreshing:
            return
        if self._standing(watch) == "unknown":  # the history may have been out of reach for a moment
            self._standings.pop(watch.state.revisions, None)
        feed.refresh(watch.name)  # in a rollout under way too: another commit may have come, or ours have gone

    def _observe(self, watch: _Watch, state: State) -> Observation:
        return Observation(
            expected=self._expected,
            state=state,
            tree=watch.tree,
            standing=self._standing(watch),
            fresh=watch.fresh,
            been_there=watch.been_there,
            evidence=watch.evidence,
            blocked=watch.blocked,
        )

    def _standing(self, watch: _Watch) -> Standing:
        """How the synced revision stands to ours. History is asked only after the refresh: before it, the answer
        nearly always is that Argo CD has not seen our commit yet, and it may cost a fetch."""
        revisions = watch.state.revisions if watch.state else ()
        if not watch.fresh and self._inputs.revision not in revisions:
            return "unknown"
        if revisions not in self._standings:
            self._standings[revisions] = stand(revisions, self._inputs.revision, self._descends)
        return self._standings[revisions]

    def _descends(self, revision: str, ancestor: str) -> bool | None:
        if self._history is None:
            return None
        try:
            return self._history.descends(revision, ancestor)
        except PipelineError as error:
            self._progress.say(f"the order of {revision[:7]} and {ancestor[:7]} cannot be told: {error}")
            return None

    def _look_at_tree(self, watch: _Watch, now: float) -> None:
        try:
            watch.tree = self._argocd.tree(watch.name)
            watch.tree_is_newest = True
        except PipelineError:
            watch.tree = None
            watch.look_again = now + RETRY_SECONDS

    def _ask(self, watch: _Watch, questions: Sequence[Question], now: float) -> None:
        """Ask Argo CD what the judgement needs to know; the answers are judged at the next look."""
        if now >= watch.asked + ASK_AGAIN_SECONDS:
            watch.asked = watch.look_again = now
            for question in questions:
                if isinstance(question, Pod):
                    said = self._explain(watch.name, question)
                    watch.evidence[question.uid] = watch.last_words[question.owner] = said
                else:
                    with contextlib.suppress(PipelineError):
                        watch.blocked = self._argocd.sync_window(watch.name)
        else:
            watch.look_again = min(watch.look_again, watch.asked + ASK_AGAIN_SECONDS)

    def _begin_sync(self, watch: _Watch, state: State, now: float) -> bool:
        """Begin the sync that --sync asks for; True while nothing may be judged because of it.

        No revision is named: a later commit that is there already must not be undone.
        """
        if not self._inputs.sync or state.automated or state.sync == "Synced" or watch.blocked:
            return False
        if not watch.fresh:  # what is seen may be of an earlier commit, or the failure that this sync is to mend
            return True
        asked = watch.asked_sync > float("-inf")
        if state.busy or state.sync != "OutOfSync" or self._standing(watch) == "earlier" or (asked and state.tried):
            return False
        if now - watch.asked_sync >= ASK_AGAIN_SECONDS:
            watch.asked_sync = now
            with contextlib.suppress(Unreachable):
                try:
                    watch.blocked = self._argocd.sync(watch.name)
                    self._progress.say(f"{watch.name}: {watch.blocked or 'asked Argo CD to sync'}")
                except (ApplicationNotFound, ArgoCDDenied) as error:
                    self._lose(watch, error)
        watch.look_again = watch.asked_sync + ASK_AGAIN_SECONDS
        return watch.blocked is None

    def _overtake(self, watch: _Watch, other: Operation, now: float) -> None:
        """End the sync of another commit; where that is forbidden, its own end is waited for."""
        if now < watch.asked_end + ASK_AGAIN_SECONDS:
            return
        watch.asked_end = now
        commit = other.revisions[0][:7]
        with contextlib.suppress(Unreachable):
            try:
                self._argocd.end_sync(watch.name)
                self._progress.say(f"{watch.name}: ended the sync of {commit}, which failed again and again")
            except (ApplicationNotFound, ArgoCDDenied) as error:
                watch.asked_end = float("inf")
                self._progress.say(f"{watch.name}: the sync of {commit} fails again and again, and goes on: {error}")

    def _explained(self, watch: _Watch, verdict: Final) -> Application:
        application, cause = verdict.application, verdict.application.cause
        if cause is None:
            return application
        kept = watch.last_words.get(cause.resource or "")
        said = self._explain(watch.name, verdict.pod) if verdict.pod else kept
        if said is None:
            return application
        message = ": ".join(dict.fromkeys(filter(None, (cause.message, said.message))))
        return replace(
            application,
            cause=replace(cause, message=message, container=said.container, logs=said.logs, events=said.events),
        )

    def _explain(self, application: str, pod: Pod) -> Evidence:
        """What the pod says of itself; not to be told is no reason to hide the verdict."""
        try:
            return self._argocd.explain(application, pod)
        except PipelineError as error:
            return Evidence(logs=(f"(not to be had: {error})",))

    def _give_up(self, pending: Sequence[_Watch]) -> None:
        """The deadline has passed, or Argo CD has been silent for too long."""
        for watch in pending:
            seen = self._observe(watch, watch.state or State(name=watch.name))
            if self._down:
                seconds = self._clock() - self._down_since
                self._end(watch, unanswered(seen, seconds, self._down.error))
            else:
                self._end(watch, self._explained(watch, timed_out(seen, self._inputs.timeout_seconds)))

    def _lose(self, watch: _Watch, error: ApplicationNotFound | ArgoCDDenied) -> None:
        outcome: RolloutOutcome = "not_found" if isinstance(error, ApplicationNotFound) else "denied"
        cause = Cause(reason=type(error).__name__, message=str(error).removeprefix(f"{watch.name}: "))
        self._end(watch, Application(name=watch.name, outcome=outcome, cause=cause))

    def _end(self, watch: _Watch, application: Application) -> None:
        watch.final = application
        text = application.proof or (application.cause and f"{application.cause.reason}: {application.cause.message}")
        self._progress.show(watch.name, f"{application.outcome.replace('_', ' ')} · {text}")


_ERRORS: Mapping[RolloutOutcome, type[PipelineError]] = {
    # the worst first: what a rollback can mend, then what needs a person elsewhere
    "failed": RolloutFailed,
    "sync_failed": SyncFailed,
    "not_found": ApplicationNotFound,
    "denied": ArgoCDDenied,
    "unreachable": Unreachable,
    "timed_out": RolloutTimedOut,
    "suspended": RolloutSuspended,
}


def error_of(rollout: Rollout) -> PipelineError | None:
    """The worst outcome as the error that gives the exit code; None when every application is done.

    The message tells of every application that is not done, the worst first.
    """
    order = list(_ERRORS)
    bad = sorted(
        (app for app in rollout.applications if app.outcome in _ERRORS), key=lambda app: order.index(app.outcome)
    )
    if not bad:
        return None
    remedy = _REMEDIES.get(bad[0].cause.reason) if bad[0].cause else None
    return _ERRORS[bad[0].outcome]("\n".join(line for app in bad for line in _tell(app)), remedy=remedy)


_REMEDIES = {
    "ManualSync": "Pass --sync, or sync the application in Argo CD and run `wait` again.",
    "SyncWindow": "Wait for the window to end, or change it in the project's syncWindows.",
    "Unavailable": "Argo CD could not reach its repo-server or git: mend that, then run `wait` again.",
    "BranchRewritten": "Find out who rewrote the branch, then deploy again.",
    "NotArgoCD": NotArgoCD.remedy,
    "ImageNotUsed": "Compare the entry's name with `image:` in the manifests: they must be the same.",
}


def _tell(application: Application) -> Iterator[str]:
    cause = application.cause or Cause(reason=application.outcome, message="")
    where = f" in {cause.resource}" if cause.resource else ""
    where += f", container {cause.container}" if cause.container else ""
    yield f"{application.name}: {cause.reason}{where}: {cause.message}".rstrip(": ")
    yield from (f"  | {line}" for line in cause.logs)
    yield from (f"  event: {event}" for event in cause.events)
