"""What a rollout has come to: pure judgement of what Argo CD shows, with the time handed in.

`judge` looks at one application at one moment. Whatever may still recover is a *doubt*: it becomes a verdict when
it has stood for its grace time without a break. The caller keeps the doubts between calls and nothing else.

Traps that the rules answer (measured on Argo CD 3.1):
- Healthy is stale between a push and its sync, so Synced, the revision and Healthy are required together, and then
  that the pods of the newest ReplicaSet run our image.
- A commit that a later one swallowed never appears as synced revision: a descendant proves as much.
- A manifest that cannot be rendered leaves health at Healthy and sync at Unknown, with a condition.
- The resource tree shows a broken pod minutes before the application turns Degraded.
- A refused manifest is tried again for minutes, in which the operation is Running, not Failed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pipeline.core.argocd import Operation, Pod, Resource
from pipeline.core.deployment import Application, Cause, Image, RolloutOutcome
from pipeline.core.observation import Observation, matches
from pipeline.core.wording import short
from pipeline.errors import Unreachable

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
_JOB_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", *_FINAL_REASONS})
"""What a Job does not get over by the next of its tries."""
_WORKLOADS = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Rollout"})
_VAULT_AGENT = "vault-agent-init"
_VAULT_TROUBLE = re.compile(r"\[ERROR\]|permission denied|error authenticating", re.IGNORECASE)
_INVALID = re.compile(r"\bis invalid: |field is immutable|unknown field")
"""What an API server says of a manifest that it will not take at the next try either."""
_KUBECTL = re.compile(r'error when \w+ "/dev/shm/[^"]*": ')
"""The name of a temporary file of Argo CD's, which tells nobody anything."""
_RENDERING = frozenset({"ComparisonError", "InvalidSpecError"})
"""Conditions that say why Argo CD cannot tell what should be there."""
_OUTAGE = re.compile(r"code = (Unavailable|DeadlineExceeded|Canceled)|connection refused|i/o timeout")

Question = Pod | Literal["sync window"]
"""What to ask: a pod, what it says of itself (whether an init container ever ends, why a Job's try failed); or whether
a sync window forbids the automated sync that should have begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The rollout is over. `pod` is the one whose logs and events explain it, if it is still there."""

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


def judge(seen: Observation, doubts: Mapping[str, float], now: float) -> Final | Pending:
    """What the rollout of one application has come to at `now` (seconds, monotonic)."""
    final = _failed_sync(seen) or _rewritten(seen) or _superseded(seen) or _deployed(seen)
    if final:
        return final
    found = list(_doubts(seen))
    # A crashing pod runs now and then, and what is known of git is neither better nor worse while Argo CD looks anew.
    lasting = {f"pod {pod.uid}" for pod in seen.suspects if not pod.healthy}
    lasting |= {*_RENDERING, "gone back"} if seen.state.refreshing else set()
    since = {key: at for key, at in doubts.items() if key in lasting}
    since |= {doubt.key: doubts.get(doubt.key, now) for doubt in found}
    ripe = [doubt.then for doubt in found if now >= since[doubt.key] + doubt.grace]
    for verdict in ripe:
        if isinstance(verdict, Final):
            return verdict
    later = (since[doubt.key] + doubt.grace for doubt in found)
    return Pending(
        text=describe(seen),
        doubts=since,
        look_again=min((at for at in later if at > now), default=None),
        questions=tuple(question for question in ripe if not isinstance(question, Final)),
    )


def timed_out(seen: Observation, seconds: float) -> Final:
    """The verdict when the deadline, `seconds` after the beginning, has passed: with what the wait was still for."""
    pod = next(iter(seen.troubled), None)
    message = f"after {seconds:.0f} s: {describe(seen)}; {_obstacle(seen)}"
    return _bad(seen, "timed_out", "TimedOut", message, pod)


def unanswered(seen: Observation, seconds: float, error: Unreachable) -> Application:
    """The verdict when Argo CD has not answered for so long, or something else has in its place."""
    message = f"no usable answer for {seconds:.0f} s: {error}"
    return _bad(seen, "unreachable", type(error).__name__, message).application


def _obstacle(seen: Observation) -> str:
    """What a person should look at first when the time has run out."""
    state = seen.state
    if not seen.fresh:
        return "Argo CD did not answer the refresh: its application controller may be stopped or busy"
    if errors := [condition.message for condition in state.conditions if condition.type in _RENDERING]:
        return errors[0]
    if seen.standing == "earlier" or (not state.revisions and seen.expected.revision):
        return (
            f"the application follows {state.source}: our commit {(seen.expected.revision or '')[:7]} may not be there"
        )
    if seen.standing == "unknown" and seen.expected.revision:
        return (
            f"whether it contains {seen.expected.revision[:7]} cannot be told: "
            "that must be a commit of the GitOps repository, and --gitops must name this repository"
        )
    if seen.before_ours:
        return f"Argo CD still tries {seen.before_ours.revisions[0][:7]}: {seen.before_ours.message}"
    if state.operation and state.operation.running and state.operation.message:
        return state.operation.message
    if state.sync == "OutOfSync":
        differing = [str(resource) for resource in state.resources if not resource.synced]
        return f"these differ from git: {', '.join(differing[:5])}" if differing else "it never became Synced"
    if state.settled and seen.expected.images and seen.tree is None:
        return "its resource tree was not to be had, so that no pod could be looked at"
    unhealthy = [f"{item}: {item.message or item.health}" for item in state.resources if item.health != "Healthy"]
    return "; ".join(unhealthy[:3]) or "it never became Healthy with our image"


def describe(seen: Observation) -> str:
    """What is going on, in a few words: `Progressing · OutOfSync at 3f2a9c1 · 1/2 pods on 5d41402`."""
    state = seen.state
    parts = [
        state.health or "health unknown",
        f"{state.sync} at {seen.short_revision}" if state.revisions else state.sync,
    ]
    if state.operation and state.operation.running:
        parts.append(f"still syncing {seen.before_ours.revisions[0][:7]}" if seen.before_ours else "syncing")
    if not seen.reached:
        waiting = {"earlier": "our commit is not there yet", "unknown": "cannot tell whether our commit is in it"}
        parts += [waiting[seen.standing]] if seen.expected.revision and seen.standing in waiting and seen.fresh else []
        return " · ".join(parts)
    for image in seen.expected.images:
        ours, others = seen.pods_of(image)
        if ours or others:
            ready = sum(pod.healthy for pod in ours)
            parts.append(f"{ready}/{len(ours) or len(others)} pods on {_brief(image)}")
    parts += [f"{pod}: {pod.reason}" for pod in seen.troubled if pod.reason != "Running"]
    return " · ".join(parts[:6])


def _failed_sync(seen: Observation) -> Final | None:
    operation = seen.state.operation
    if operation and operation.failed and not seen.state.requested and seen.carried:
        return _sync_failed(seen, operation)
    return None


def _sync_failed(seen: Observation, operation: Operation) -> Final:
    if not operation.failures:
        return _bad(seen, "sync_failed", operation.phase, operation.message)
    first = operation.failures[0]
    others = [f"{item}: {item.message}" for item in operation.failures[1:]]
    message = _KUBECTL.sub("", "; ".join([first.message or operation.message, *others]))
    pods = seen.tree.pods if seen.tree else ()
    return replace(
        _bad(seen, "sync_failed", "SyncFailed", message, first),
        pod=next((pod for pod in pods if pod.owner == str(first)), None),  # a hook's Job has logs
    )


def _rewritten(seen: Observation) -> Final | None:
    return _without_ours(seen) if seen.standing == "rewritten" else None


def _without_ours(seen: Observation) -> Final:
    ours = (seen.expected.revision or "")[:7]
    message = (
        f"the branch was rewritten without our commit {ours}: Argo CD now has {seen.short_revision}, "
        f"from {seen.state.source}"
    )
    return _bad(seen, "failed", "BranchRewritten", message)


def _superseded(seen: Observation) -> Final | None:
    """A later commit names another image: told by the manifests as they were applied, else by the pods."""
    state = seen.state
    if seen.standing != "later":
        return None
    tags = [matches(image, reference) for reference in seen.applied for image in seen.expected.images]
    named = [match for match in tags if match is not None]
    running = [seen.pods_of(image) for image in seen.expected.images] if state.settled and not named else []
    by_manifests = bool(named) and not any(named)
    by_pods = any(others for _, others in running) and not any(ours for ours, _ in running)
    if not (by_manifests or by_pods):
        return None
    images = ", ".join(map(_brief, seen.expected.images))
    return _good(seen, "superseded", f"the later commit {seen.short_revision} runs another image than {images}")


def _deployed(seen: Observation) -> Final | None:
    """Proof: our revision or a later one, Synced, Healthy, no sync under way, and our image in the newest pods."""
    if not (seen.state.settled and seen.reached):
        return None
    if seen.expected.images and seen.tree is None:
        return None
    words = []
    for image in seen.expected.images:
        ours, others = seen.pods_of(image)
        ready = sum(pod.healthy for pod in ours)
        if ours and ready:
            words.append(f"{ready} pod{' runs' if ready == 1 else 's run'} {_brief(image)}")
        elif ours or (others and seen.standing != "later"):
            return None
        elif others:
            words.append(f"{image.repository} was moved on to another tag by a later commit")
        else:
            words.append(f"no pod of {image.repository} is expected here ({_why_no_pod(seen, image)})")
    if seen.standing == "unknown" and not any(seen.pods_of(image)[0] for image in seen.expected.images):
        return None
    if not seen.expected.images:
        words.append("no image was named, so pods were not compared")
    if seen.standing == "unknown" and seen.expected.revision:
        words.append(f"whether {seen.short_revision} contains our commit could not be told")
    words.append(f"Synced at {seen.short_revision} and Healthy")
    return _good(seen, "deployed", "; ".join(words))


def _why_no_pod(seen: Observation, image: Image) -> str:
    if not seen.applied:
        return "no replicas, a CronJob, or not part of it"
    return "no replicas, or a CronJob" if seen.applies(image) else "the sync applied no manifest that names it"


def _doubts(seen: Observation) -> Iterator[_Doubt]:
    """All that will end the wait if it stays, the most telling first."""
    state = seen.state
    yield from _broken_pods(seen)
    yield from _hanging_pods(seen)
    yield from _refused(seen)
    if not state.refreshing:
        yield from _unrenderable(seen)
    if seen.standing == "earlier" and seen.been_there and not state.refreshing:
        yield _Doubt("gone back", seen.expected.grace(DEFAULT_GRACE_SECONDS), _without_ours(seen))
    if seen.unsynced:
        if seen.blocked:
            yield _Doubt("window", 0, _bad(seen, "sync_failed", "SyncWindow", seen.blocked))
        elif state.automated:
            yield _Doubt("stalled", SETTLE_SECONDS, "sync window")
        else:
            message = f"{seen.short_revision} is not synced, and nothing will sync it: automated sync is off"
            yield _Doubt("manual", SETTLE_SECONDS, _bad(seen, "suspended", "ManualSync", message))
    if seen.reached and not state.busy and (state.sync == "Synced" or seen.carried):
        yield from _unhealthy(seen)
        yield from _unused(seen)


def _broken_pods(seen: Observation) -> Iterator[_Doubt]:
    for pod in seen.suspects:
        reason = pod.reason.removeprefix("Init:")
        if reason in _FINAL_REASONS:
            grace = 0.0
        elif reason in _BACKOFF_REASONS:
            grace = seen.expected.grace(BACKOFF_GRACE_SECONDS)
        elif reason in _MENDABLE_REASONS or reason.startswith(("ExitCode:", "Signal:")):
            grace = seen.expected.grace(DEFAULT_GRACE_SECONDS)
        else:
            continue
        if pod.owner.startswith("Job/") and reason not in _JOB_REASONS:
            yield _Doubt(f"job {pod.uid}", 0, pod)  # a hook's pod may be gone by the time that its Job has failed
        else:
            yield _Doubt(f"pod {pod.uid}", grace, _bad(seen, "failed", pod.reason, pod.message, pod))


def _hanging_pods(seen: Observation) -> Iterator[_Doubt]:
    """Vault's agent fetches its secrets in seconds or not at all; another init container may rightly take long."""
    for pod in seen.suspects:
        if not re.fullmatch(r"Init:\d+/\d+", pod.reason):
            continue
        said = seen.evidence.get(pod.uid)
        if said and said.container == _VAULT_AGENT and said.running:
            failing = any(_VAULT_TROUBLE.search(line) for line in said.logs)
            grace = 0 if failing else seen.expected.grace(DEFAULT_GRACE_SECONDS)
            message = f"{_VAULT_AGENT} does not end"
            yield _Doubt(f"vault {pod.uid}", grace, _bad(seen, "failed", pod.reason, message, pod))
        yield _Doubt(f"init {pod.uid}", INIT_SECONDS, pod)


def _refused(seen: Observation) -> Iterator[_Doubt]:
    """Argo CD tries a failed sync again, five times in some minutes; it stays Running and lists what failed."""
    operation = seen.state.operation
    if operation and operation.running and operation.failures and seen.carried:
        invalid = all(_INVALID.search(item.message) for item in operation.failures)
        grace = seen.expected.grace(SETTLE_SECONDS if invalid else DEFAULT_GRACE_SECONDS)
        yield _Doubt("refused", grace, _sync_failed(seen, operation))


def _unrenderable(seen: Observation) -> Iterator[_Doubt]:
    """A rendering error is Argo CD's word on the present head; an outage of its repo-server may pass."""
    for condition in seen.state.conditions:
        if condition.type in _RENDERING:
            outage = _OUTAGE.search(condition.message)
            grace = seen.expected.grace(DEFAULT_GRACE_SECONDS) if outage or not seen.fresh else SETTLE_SECONDS
            reason = "Unavailable" if outage else condition.type
            yield _Doubt(condition.type, grace, _bad(seen, "sync_failed", reason, condition.message))


def _unhealthy(seen: Observation) -> Iterator[_Doubt]:
    state = seen.state
    grace = seen.expected.grace(DEFAULT_GRACE_SECONDS)
    in_tree = seen.tree.degraded if seen.tree else ()
    sick = [item for item in (*in_tree, *state.resources) if item.health == "Degraded"]
    if state.health == "Degraded" or any(item.kind in _WORKLOADS for item in in_tree):
        pod = next(iter(seen.troubled), None)
        first = next((item for item in sick if item.message), sick[0] if sick else None)
        message = (first and first.message) or "the application is Degraded, and no resource says why"
        yield _Doubt("degraded", grace, replace(_bad(seen, "failed", "Degraded", message, first), pod=pod))
    if state.health == "Suspended":
        paused = next((item for item in state.resources if item.health == "Suspended"), None)
        message = (paused and paused.message) or "the rollout is paused"
        yield _Doubt("suspended", grace, _bad(seen, "suspended", "Suspended", message, paused))


def _unused(seen: Observation) -> Iterator[_Doubt]:
    """Our very commit is synced, and yet its manifests name another tag of our image, or all is well with another."""
    if seen.standing != "ours":
        return
    for image in seen.expected.images:
        ours, others = seen.pods_of(image)
        applied = [reference for reference in seen.applied if matches(image, reference) is not None]
        if ours or any(matches(image, reference) for reference in applied):
            continue
        if applied:
            what, grace = f"its manifests name {applied[0]}", SETTLE_SECONDS
        elif seen.state.settled and others:
            wrong = next(reference for reference in others[0].images if matches(image, reference) is False)
            what, grace = f"{others[0]} runs {wrong}", DEFAULT_GRACE_SECONDS
        else:
            continue
        message = (
            f"the commit is synced, yet {what}, not {image.reference}: "
            f"no manifest may use the images entry {image.name!r}, or the application overrides it"
        )
        verdict = _bad(seen, "failed", "ImageNotUsed", message)
        yield _Doubt(f"unused {image.name}", seen.expected.grace(grace), verdict)


def _brief(image: Image) -> str:
    """The image for people: `openegflask:724cc4d`."""
    return f"{image.repository.rpartition('/')[2]}:{short(image.tag)}"


def _good(seen: Observation, outcome: Literal["deployed", "superseded"], proof: str) -> Final:
    name, health = seen.state.name, seen.state.health
    return Final(
        application=Application(name=name, outcome=outcome, revision=seen.revision, health=health, proof=proof)
    )


def _bad(
    seen: Observation, outcome: RolloutOutcome, reason: str, message: str, where: Resource | Pod | None = None
) -> Final:
    """A bad end and its cause; `where` is what is broken."""
    cause = Cause(reason=reason, message=message, resource=str(where) if where else None)
    name, health = seen.state.name, seen.state.health
    return Final(
        application=Application(name=name, outcome=outcome, revision=seen.revision, health=health, cause=cause),
        pod=where if isinstance(where, Pod) else None,
    )
