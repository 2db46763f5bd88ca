"""What a rollout has come to: pure judgement of what Argo CD shows, with the time handed in.

`judge` looks at one application at one moment. Whatever may still recover is a *doubt*: it becomes a verdict when
it has stood for its grace time without a break. The caller keeps the doubts between calls and nothing else.

Traps that the rules answer (measured on Argo CD 3.1):
- Healthy is stale between a push and its sync, so Synced, the revision and Healthy are required together, and then
  that the pods of the newest ReplicaSet run our image.
- A commit that a later one swallowed never appears as synced revision: a descendant proves as much.
- A manifest that cannot be rendered leaves health at Healthy and sync at Unknown, with a condition.
- The resource tree shows a broken pod minutes before the application turns Degraded.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pipeline.core.argocd import Evidence, Pod, Resource, State, Tree
from pipeline.core.deployment import Application, Cause, Image, RolloutOutcome
from pipeline.core.image import split_reference, split_registry

DEFAULT_GRACE_SECONDS = 30.0
BACKOFF_GRACE_SECONDS = 2.0
"""For what the kubelet already tried more than once; short, because the next try is 10 s or more away."""
SETTLE_SECONDS = 3.0
"""For states that Argo CD passes through by itself within a second or two."""
INIT_SECONDS = 10.0
"""After how long an init container that still runs is asked for its logs."""

_FINAL_REASONS = frozenset(
    {
        "InvalidImageName",  # only another manifest can mend these two
        "ErrImageNeverPull",
    }
)
_BACKOFF_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "CrashLoopBackOff",
        "OOMKilled",
        "RunContainerError",
        "StartError",
        "ContainerCannotRun",
    }
)
_MENDABLE_REASONS = frozenset(
    {
        "CreateContainerConfigError",  # an operator may still be filling the Secret that came with the same commit
        "CreateContainerError",
        "ImageInspectError",
        "RegistryUnavailable",
        "Error",  # the first crash: the kubelet restarts at once, and the next one ends in CrashLoopBackOff
        "ContainerStatusUnknown",
    }
)
_WORKLOADS = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Rollout"})
_VAULT_AGENT = "vault-agent-init"
_VAULT_TROUBLE = re.compile(r"\[ERROR\]|permission denied|error authenticating", re.IGNORECASE)
_OUTAGE = re.compile(r"code = (Unavailable|DeadlineExceeded|Canceled)|connection refused|i/o timeout")

Standing = Literal["ours", "later", "earlier", "rewritten", "unknown"]
"""How the synced revision stands to ours: the same, a descendant, an ancestor, neither, or not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the rollout should come to. Without a revision the images alone are the proof; one of both is needed."""

    revision: str | None
    images: tuple[Image, ...] = ()
    grace_seconds: float | None = None
    """How long what is broken may take to recover; None: 2 s for a pod in back-off, 30 s for all else."""

    def grace(self, usual: float) -> float:
        """The grace time where `usual` is the default."""
        return usual if self.grace_seconds is None else self.grace_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that is known of one application at one moment."""

    state: State
    tree: Tree | None = None
    standing: Standing = "unknown"
    fresh: bool = False
    """Argo CD has looked at git since the wait began."""
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    """What pods that hang in an init container say, by uid."""
    blocked: str | None = None
    """The sync window that keeps automated sync from beginning."""


Question = Pod | Literal["sync window"]
"""What to ask: a pod that stays in an init container, whether that ever ends; or whether a sync window forbids the
automated sync that should have begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The rollout is over. `pod` is the one whose logs and events explain it."""

    application: Application
    pod: Pod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The rollout goes on."""

    text: str
    """What is going on, for a person."""
    doubts: Mapping[str, float] = field(default_factory=dict)
    """What may become a verdict, and since when it has stood: hand it to the next call."""
    look_again: float | None = None
    """When a doubt gets ripe, if nothing happens before."""
    questions: tuple[Question, ...] = ()
    """What the next judgement should know."""


@dataclass(frozen=True, slots=True)
class _Doubt:
    """What comes of something when it has stood for its grace time, in seconds."""

    key: str
    grace: float
    then: Final | Question


def stand(revisions: tuple[str, ...], ours: str | None, descends: Callable[[str, str], bool | None]) -> Standing:
    """How synced `revisions` (one per source) stand to our commit.

    `descends(revision, ancestor)` answers None when it cannot tell; it is not asked where equality answers.
    """
    if ours is None or not revisions:
        return "unknown"
    if ours in revisions:
        return "ours"
    later = [descends(revision, ours) for revision in revisions]
    if True in later:
        return "later"
    earlier = [descends(ours, revision) for revision in revisions]
    if True in earlier:
        return "earlier"
    return "unknown" if None in later or None in earlier else "rewritten"


def judge(expected: Expectation, seen: Observation, doubts: Mapping[str, float], now: float) -> Final | Pending:
    """What the rollout of one application has come to at `now` (seconds, monotonic)."""
    final = _failed_sync(expected, seen) or _rewritten(expected, seen) or _superseded(expected, seen)
    final = final or _deployed(expected, seen)
    if final:
        return final
    found = list(_doubts(expected, seen))
    unwell = {f"pod {pod.uid}" for pod in _suspects(expected, seen) if not pod.healthy}
    since = {key: at for key, at in doubts.items() if key in unwell}  # a crashing pod runs now and then
    since |= {doubt.key: doubts.get(doubt.key, now) for doubt in found}
    ripe = [doubt.then for doubt in found if now >= since[doubt.key] + doubt.grace]
    for verdict in ripe:
        if isinstance(verdict, Final):
            return verdict
    later = (since[doubt.key] + doubt.grace for doubt in found)
    return Pending(
        text=describe(expected, seen),
        doubts=since,
        look_again=min((at for at in later if at > now), default=None),
        questions=tuple(question for question in ripe if not isinstance(question, Final)),
    )


def timed_out(expected: Expectation, seen: Observation | None, name: str, seconds: float) -> Final:
    """The verdict when the deadline, `seconds` after the beginning, has passed: with what the wait was still for."""
    pod = None
    if seen is None:
        message = "Argo CD has not shown the application"
        state = State(name=name)
    else:
        state = seen.state
        message = f"{describe(expected, seen)}; {_obstacle(expected, seen)}"
        pod = next((pod for pod in _suspects(expected, seen) if not pod.healthy), None)
    cause = Cause(reason="TimedOut", message=f"after {seconds:.0f} s: {message}", resource=str(pod) if pod else None)
    application = Application(name=name, outcome="timed_out", revision=_first(state), health=state.health, cause=cause)
    return Final(application=application, pod=pod)


def _obstacle(expected: Expectation, seen: Observation) -> str:
    """What a person should look at first when the time has run out."""
    state = seen.state
    if not seen.fresh:
        return "Argo CD did not answer the refresh: its application controller may be stopped or busy"
    if seen.standing == "earlier" or (not state.revisions and expected.revision):
        return f"the application follows {state.source}: our commit {(expected.revision or '')[:7]} may not be there"
    if seen.standing == "unknown" and expected.revision:
        return "give the GitOps repository (--gitops) so that the order of its commits can be told"
    if state.operation and state.operation.running and state.operation.message:
        return state.operation.message
    if state.sync == "OutOfSync":
        differing = [str(resource) for resource in state.resources if not resource.synced]
        return f"these differ from git: {', '.join(differing[:5])}" if differing else "it never became Synced"
    unhealthy = [f"{item}: {item.message or item.health}" for item in state.resources if item.health != "Healthy"]
    return "; ".join(unhealthy[:3]) or "it never became Healthy with our image"


def describe(expected: Expectation, seen: Observation) -> str:
    """What is going on, in a few words: `Progressing · OutOfSync at 3f2a9c1 · 1/2 pods on 5d41402`."""
    state = seen.state
    parts = [state.health or "health unknown", f"{state.sync} at {_short(state)}" if state.revisions else state.sync]
    if state.operation and state.operation.running:
        parts.append("syncing")
    if not _reached(expected, seen):
        waiting = {"earlier": "our commit is not there yet", "unknown": "cannot tell whether our commit is in it"}
        parts += [waiting[seen.standing]] if expected.revision and seen.standing in waiting and seen.fresh else []
        return " · ".join(parts)
    for image in expected.images:
        ours, others = _pods_of(image, seen)
        if ours or others:
            ready = sum(pod.healthy for pod in ours)
            parts.append(f"{ready}/{len(ours) or len(others)} pods on {image.tag[:7]}")
    parts += [
        f"{pod}: {pod.reason}" for pod in _suspects(expected, seen) if not pod.healthy and pod.reason != "Running"
    ]
    return " · ".join(parts[:6])


def matches(image: Image, reference: str) -> bool | None:
    """Whether a container's `reference` is `image`; None when it is not of the same repository."""
    repository, tag, digest = split_reference(reference)
    if split_registry(repository) != split_registry(image.repository):
        return None
    if digest and image.digest:
        return digest == image.digest
    return tag == image.tag


def _failed_sync(expected: Expectation, seen: Observation) -> Final | None:
    operation = seen.state.operation
    if not (operation and operation.failed and not seen.state.requested and _carries_ours(expected, seen)):
        return None
    if not operation.failures:
        return _final(seen, "sync_failed", operation.phase, operation.message)
    first = operation.failures[0]
    others = [f"{item}: {item.message}" for item in operation.failures[1:]]
    pods = seen.tree.pods if seen.tree else ()
    return replace(
        _final(seen, "sync_failed", "SyncFailed", "; ".join([first.message or operation.message, *others]), first),
        pod=next((pod for pod in pods if pod.owner == str(first)), None),  # a hook's Job has logs
    )


def _rewritten(expected: Expectation, seen: Observation) -> Final | None:
    if seen.standing != "rewritten":
        return None
    message = (
        f"Argo CD synced {_short(seen.state)}, which neither contains our commit {(expected.revision or '')[:7]} nor "
        f"comes before it: the branch ({seen.state.source}) was rewritten without it"
    )
    return _final(seen, "failed", "BranchRewritten", message)


def _superseded(expected: Expectation, seen: Observation) -> Final | None:
    """A later commit names another image: told by the manifests as they were applied, else by the pods."""
    state = seen.state
    if seen.standing != "later":
        return None
    applied = state.operation.images if state.operation and _carries_ours(expected, seen) else ()
    named = [match for ref in applied for image in expected.images if (match := matches(image, ref)) is not None]
    running = [_pods_of(image, seen) for image in expected.images] if state.settled and not named else []
    by_manifests = bool(named) and not any(named)
    by_pods = any(others for _, others in running) and not any(ours for ours, _ in running)
    if not (by_manifests or by_pods):
        return None
    return Final(
        application=Application(
            name=state.name,
            outcome="superseded",
            revision=_revision(expected, seen),
            health=state.health,
            proof=f"the later commit {_short(state)} runs another image in place of "
            + ", ".join(image.reference for image in expected.images),
        )
    )


def _deployed(expected: Expectation, seen: Observation) -> Final | None:
    """Proof: our revision or a later one, Synced, Healthy, no sync under way, and our image in the newest pods."""
    if not (seen.state.settled and _reached(expected, seen)):
        return None
    if expected.images and seen.tree is None:
        return None
    words = []
    moved = 0
    for image in expected.images:
        ours, others = _pods_of(image, seen)
        ready = sum(pod.healthy for pod in ours)
        if ours and ready:
            words.append(f"{_count(ready, 'pod')} {'runs' if ready == 1 else 'run'} {image.reference}")
        elif ours or (others and seen.standing != "later"):
            return None
        elif others:
            moved += 1
            words.append(f"{image.repository} was moved on to another tag by a later commit")
        else:
            words.append(f"no pod of {image.repository} is expected here (no replicas, a CronJob, or not part of it)")
    if seen.standing == "unknown" and not any(_pods_of(image, seen)[0] for image in expected.images):
        return None
    if not expected.images:
        words.append("no image was named, so pods were not compared")
    if seen.standing == "unknown" and expected.revision:
        words.append(f"whether {_short(seen.state)} contains our commit could not be told")
    words.append(f"Synced at {_short(seen.state)} and Healthy")
    return Final(
        application=Application(
            name=seen.state.name,
            outcome="deployed",
            revision=_revision(expected, seen),
            health=seen.state.health,
            proof="; ".join(words),
        )
    )


def _doubts(expected: Expectation, seen: Observation) -> Iterator[_Doubt]:
    """All that will end the wait if it stays, the most telling first."""
    state = seen.state
    yield from _broken_pods(expected, seen)
    yield from _hanging_pods(expected, seen)
    if not state.refreshing:
        yield from _unrenderable(expected, seen)
    if seen.fresh and _waits_for_sync(seen):
        if seen.blocked:
            yield _Doubt("window", 0, _final(seen, "sync_failed", "SyncWindow", seen.blocked))
        elif state.automated:
            yield _Doubt("stalled", SETTLE_SECONDS, "sync window")
        else:
            message = f"{_short(state)} is not synced, and nothing will sync it: automated sync is off"
            yield _Doubt("manual", SETTLE_SECONDS, _final(seen, "suspended", "ManualSync", message))
    if _reached(expected, seen) and not state.busy and (state.sync == "Synced" or _carries_ours(expected, seen)):
        yield from _unhealthy(expected, seen)


def _broken_pods(expected: Expectation, seen: Observation) -> Iterator[_Doubt]:
    for pod in _suspects(expected, seen):
        reason = pod.reason.removeprefix("Init:")
        if reason in _FINAL_REASONS:
            grace = 0.0
        elif reason in _BACKOFF_REASONS:
            grace = expected.grace(BACKOFF_GRACE_SECONDS)
        elif reason in _MENDABLE_REASONS or reason.startswith(("ExitCode:", "Signal:")):
            grace = expected.grace(DEFAULT_GRACE_SECONDS)
        else:
            continue
        yield _Doubt(f"pod {pod.uid}", grace, _final(seen, "failed", pod.reason, pod.message, pod))


def _hanging_pods(expected: Expectation, seen: Observation) -> Iterator[_Doubt]:
    """Vault's agent fetches its secrets in seconds or not at all; another init container may rightly take long."""
    for pod in _suspects(expected, seen):
        if not re.fullmatch(r"Init:\d+/\d+", pod.reason):
            continue
        said = seen.evidence.get(pod.uid)
        if said and said.container == _VAULT_AGENT and said.running:
            failing = any(_VAULT_TROUBLE.search(line) for line in said.logs)
            grace = 0 if failing else expected.grace(DEFAULT_GRACE_SECONDS)
            message = f"{_VAULT_AGENT} does not end"
            yield _Doubt(f"vault {pod.uid}", grace, _final(seen, "failed", pod.reason, message, pod))
        yield _Doubt(f"init {pod.uid}", INIT_SECONDS, pod)


def _unrenderable(expected: Expectation, seen: Observation) -> Iterator[_Doubt]:
    """A rendering error is Argo CD's word on the present head; an outage of its repo-server may pass."""
    for condition in seen.state.conditions:
        if condition.type in {"ComparisonError", "InvalidSpecError"}:
            outage = _OUTAGE.search(condition.message)
            grace = expected.grace(DEFAULT_GRACE_SECONDS) if outage or not seen.fresh else SETTLE_SECONDS
            yield _Doubt(condition.type, grace, _final(seen, "sync_failed", condition.type, condition.message))


def _unhealthy(expected: Expectation, seen: Observation) -> Iterator[_Doubt]:
    state = seen.state
    grace = expected.grace(DEFAULT_GRACE_SECONDS)
    in_tree = seen.tree.degraded if seen.tree else ()
    sick = [item for item in (*in_tree, *state.resources) if item.health == "Degraded"]
    if state.health == "Degraded" or any(item.kind in _WORKLOADS for item in in_tree):
        pod = next((pod for pod in _suspects(expected, seen) if not pod.healthy), None)
        first = next((item for item in sick if item.message), sick[0] if sick else None)
        message = (first and first.message) or "the application is Degraded, and no resource says why"
        yield _Doubt("degraded", grace, replace(_final(seen, "failed", "Degraded", message, first), pod=pod))
    if state.health == "Suspended":
        paused = next((item for item in state.resources if item.health == "Suspended"), None)
        message = (paused and paused.message) or "the rollout is paused"
        yield _Doubt("suspended", grace, _final(seen, "suspended", "Suspended", message, paused))
    if state.settled and seen.standing == "ours":
        for image in expected.images:
            ours, others = _pods_of(image, seen)
            if others and not ours:
                wrong = next(ref for ref in others[0].images if matches(image, ref) is False)
                message = (
                    f"the commit is synced, yet {others[0]} runs {wrong}, not {image.reference}: "
                    f"no manifest may use the images entry {image.name!r}, or the application overrides it"
                )
                yield _Doubt(f"unused {image.name}", grace, _final(seen, "failed", "ImageNotUsed", message))


def _suspects(expected: Expectation, seen: Observation) -> list[Pod]:
    """The pods whose trouble is ours: of the newest rollout, made by a sync that carries our commit.

    A pod that runs another tag of an image of ours belongs to another commit. While a sync runs, a pod from before
    its start may hold what the sync is about to mend.
    """
    if seen.tree is None or not _reached(expected, seen):
        return []
    state, operation = seen.state, seen.state.operation
    applied = state.sync == "Synced" and not state.busy
    start = operation.started if operation and _carries_ours(expected, seen) else None
    suspects = []
    for pod in seen.tree.pods:
        known = [matches(image, reference) for image in expected.images for reference in pod.images]
        made = applied or (start is not None and pod.created >= start)
        if pod.current and made and (True in known or False not in known):
            suspects.append(pod)
    return suspects


def _pods_of(image: Image, seen: Observation) -> tuple[list[Pod], list[Pod]]:
    """The newest pods that run `image`, and those that run its repository with another tag or digest."""
    current = [pod for pod in seen.tree.pods if pod.current] if seen.tree else []
    ours = [pod for pod in current if any(matches(image, reference) for reference in pod.images)]
    others = [pod for pod in current if pod not in ours and any(matches(image, ref) is False for ref in pod.images)]
    return ours, others


def _reached(expected: Expectation, seen: Observation) -> bool:
    """Whether what Argo CD compares with contains our commit; where nobody can tell, the images must."""
    return seen.standing in {"ours", "later"} or (seen.standing == "unknown" and seen.fresh and bool(expected.images))


def _carries_ours(expected: Expectation, seen: Observation) -> bool:
    """Whether the last sync was one of our commit, or of the revision that contains it."""
    operation = seen.state.operation
    if operation is None:
        return False
    if expected.revision in operation.revisions:
        return True
    return _reached(expected, seen) and seen.state.tried


def _waits_for_sync(seen: Observation) -> bool:
    """Whether our commit is known to Argo CD and not synced, and no sync of it is or was under way."""
    state = seen.state
    arrived = seen.standing in {"ours", "later", "unknown"} and not state.refreshing
    return arrived and state.sync == "OutOfSync" and not state.busy and not state.tried


def _final(
    seen: Observation, outcome: RolloutOutcome, reason: str, message: str, where: Resource | Pod | None = None
) -> Final:
    """A bad end and its cause; `where` is what is broken."""
    cause = Cause(reason=reason, message=message, resource=str(where) if where else None)
    state = seen.state
    return Final(
        application=Application(
            name=state.name, outcome=outcome, revision=_first(state), health=state.health, cause=cause
        ),
        pod=where if isinstance(where, Pod) else None,
    )


def _revision(expected: Expectation, seen: Observation) -> str | None:
    """The revision to report: ours where it is one of several sources' revisions."""
    return expected.revision if expected.revision in seen.state.revisions else _first(seen.state)


def _first(state: State) -> str | None:
    return state.revisions[0] if state.revisions else None


def _short(state: State) -> str:
    return "+".join(revision[:7] for revision in state.revisions) or "no revision"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
