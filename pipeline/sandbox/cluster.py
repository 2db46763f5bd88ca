"""A simulated Kubernetes: workloads roll over pods that live, break and restart as a kubelet would report them.

What the pods and workloads say (reasons, health, messages, events) is what Argo CD 3.1 reports of real ones.
Nothing here knows of Argo CD's applications, git or HTTP; time comes from the timeline that is handed in.
"""

import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, get_args

from pipeline.core.image import split_reference
from pipeline.sandbox.workload import (
    NODE,
    Json,
    Key,
    Manifest,
    Pod,
    ReplicaSet,
    Workload,
    images_of,
    items,
    key_of,
    mapping,
    now,
)

FaultKind = Literal["pull", "crash", "oom", "slow", "never-ready", "vault-init", "recover", "sync", "suspended"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

ROLLED = ("Deployment", "StatefulSet", "DaemonSet")
"""The kinds whose pods are simulated; any other resource is healthy as soon as it is applied."""
KEPT_REPLICA_SETS = 10
LONGEST_BACKOFF = 300.0
VAULT_INIT, VAULT_IMAGE = "vault-agent-init", "hashicorp/vault:1.20.0"

_DEFAULT_LOGS: Mapping[FaultKind, tuple[str, ...]] = {
    "crash": ("starting", "Traceback (most recent call last):", "RuntimeError: DATABASE_URL is not set"),
    "oom": ("starting", "loading model into memory"),
    "recover": ("starting", "database is not up yet: connection refused"),
    "vault-init": (
        "==> Vault Agent started! Log data will stream in below:",
        "[INFO]  agent.auth.handler: authenticating",
        "[ERROR] agent.auth.handler: error authenticating: permission denied",
    ),
}


class Timeline(Protocol):
    """When things happen. Actions run one at a time, under the lock that guards the cluster."""

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do `action` in `seconds` from now."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with an image; `logs` replaces the lines that its container writes."""

    kind: FaultKind
    logs: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        return self.logs or _DEFAULT_LOGS.get(self.kind, ())


class InvalidManifest(Exception):
    """What an API server would say of a manifest that it refuses."""


def _check(manifest: Manifest) -> None:
    what = f'{manifest["kind"]}.apps "{manifest["metadata"]["name"]}" is invalid'
    spec = mapping(manifest.get("spec"))
    replicas = spec.get("replicas")
    if not isinstance(replicas, int | None):
        raise InvalidManifest(f"{what}: spec.replicas: Invalid value: {replicas!r}: must be a number")
    deadline = spec.get("progressDeadlineSeconds")
    if not isinstance(deadline, int | None):
        raise InvalidManifest(f"{what}: spec.progressDeadlineSeconds: Invalid value: {deadline!r}: must be a number")
    containers = items(mapping(mapping(spec.get("template")).get("spec")).get("containers"))
    if not containers:
        raise InvalidManifest(f"{what}: spec.template.spec.containers: Required value")
    for place, container in enumerate(map(mapping, containers)):
        if not all(isinstance(container.get(key), str) and container[key] for key in ("name", "image")):
            raise InvalidManifest(f"{what}: spec.template.spec.containers[{place}]: name and image are required")


class Cluster:
    """Holds the workloads and moves their pods. Every call must hold the timeline's lock."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        pod_seconds: float,
        progress_deadline_seconds: float,
        has_image: Callable[[str], bool],
    ) -> None:
        """`has_image` says whether an image can be pulled."""
        self._timeline = timeline
        self._pod_seconds = max(pod_seconds, 0.01)  # a crash loop without waits would keep a processor busy
        self._deadline = progress_deadline_seconds
        self._has_image = has_image
        self.on_change: Callable[[Key], None] = lambda _: None
        """Told of each workload that changed."""
        self.workloads: dict[Key, Workload] = {}
        self.faults: dict[str, Fault] = {}

    def set_fault(self, tag: str, fault: Fault | None) -> None:
        """Break every image with that tag (or `NAME:TAG`) that starts from now on; None mends it."""
        if fault is None:
            self.faults.pop(tag, None)
        else:
            self.faults[tag] = fault
        for workload in self.workloads.values():
            self._roll(workload)

    def fault_of(self, image: str) -> Fault | None:
        """The fault that an image has: one for `NAME:TAG` goes before one for the tag alone."""
        repository, tag, _ = split_reference(image)
        if tag is None:
            return None
        parts = repository.split("/")
        names = ["/".join(parts[start:]) for start in range(len(parts))]
        return next(
            (self.faults[key] for key in [*(f"{name}:{tag}" for name in names), tag] if key in self.faults), None
        )

    def apply(self, manifest: Manifest) -> None:
        """Create or change a workload; resources of other kinds need no simulation.

        Raises InvalidManifest, as an API server refuses what makes no sense.
        """
        key = key_of(manifest)
        for fault in map(self.fault_of, images_of(manifest)):
            if fault is not None and fault.kind == "sync":
                what = f'{key.kind}.{key.group} "{key.name}" is invalid'
                raise InvalidManifest(f"{what}: spec.template.spec.containers[0].image: Forbidden: refused by policy")
        if key.kind not in ROLLED:
            return
        _check(manifest)
        workload = self.workloads.get(key)
        if workload is None:
            workload = self.workloads[key] = Workload(key=key, manifest=manifest, created=now())
        else:
            workload.manifest = manifest
        self._advance(workload)
        self._roll(workload)

    def delete(self, key: Key) -> None:
        """Remove a workload with its pods."""
        workload = self.workloads.pop(key, None)
        if workload is not None:
            for pod in workload.pods:
                pod.ending = True
            self.on_change(key)

    def restart(self, key: Key) -> None:
        """What `kubectl rollout restart` does: the same template with another annotation."""
        workload = self.workloads[key]
        workload.restarted = datetime.now(UTC).isoformat()
        self._advance(workload)
        self._roll(workload)

    def _advance(self, workload: Workload) -> None:
        """Count a step forward and give the rollout its whole deadline for the next one."""
        workload.progress += 1
        workload.overdue = False
        if workload.key.kind != "Deployment":
            return  # the others have no progress deadline
        seen = workload.progress

        def judge() -> None:
            if workload.progress == seen and not workload.settled() and not workload.suspended:
                workload.overdue = True
                self.on_change(workload.key)

        deadline = workload.manifest["spec"].get("progressDeadlineSeconds")
        self._timeline.after(self._deadline if deadline is None else deadline, judge)

    def _roll(self, workload: Workload) -> None:
        """One turn of the workload's controller: a rolling update with Kubernetes' default surge of a quarter."""
        if workload.key.kind == "Deployment":
            self._current_replica_set(workload)
        replicas = workload.replicas
        surge, unavailable = -(-replicas // 4), replicas // 4
        if workload.key.kind != "Deployment":
            surge, unavailable = 0, 1
        current = workload.template_hash
        workload.suspended = any(pod.available for pod in workload.updated()) and any(
            fault is not None and fault.kind == "suspended"
            for fault in map(self.fault_of, images_of(workload.manifest))
        )
        # Broken pods of former templates go first, then healthy ones as far as enough stay available.
        old = sorted((pod for pod in workload.staying() if pod.template_hash != current), key=lambda pod: pod.available)
        available = sum(pod.available for pod in workload.staying())
        for pod in old if not workload.suspended else ():
            if pod.available and available - 1 < replicas - unavailable:
                break
            available -= pod.available
            self._end(workload, pod)
        surplus = len(workload.updated()) - replicas
        for pod in sorted(workload.updated(), key=lambda pod: pod.available)[: max(0, surplus)]:
            self._end(workload, pod)
        # A StatefulSet's pod keeps its name, so its successor waits until it is gone.
        standing = workload.pods if workload.key.kind == "StatefulSet" else workload.staying()
        room = min(replicas - len(workload.updated()), replicas + surge - len(standing))
        for _ in range(0 if workload.suspended else room):
            self._start(workload)
        self.on_change(workload.key)

    def _current_replica_set(self, workload: Workload) -> ReplicaSet:
        current = workload.template_hash
        newest = workload.replica_sets[-1] if workload.replica_sets else None
        if newest is not None and newest.template_hash == current:
            return newest
        workload.revision += 1
        kept = next((item for item in workload.replica_sets if item.template_hash == current), None)
        if kept is None:
            name = f"{workload.key.name}-{current}"
            kept = ReplicaSet(name=name, template_hash=current, revision=workload.revision, created=now())
        else:
            workload.replica_sets.remove(kept)
            kept.revision = workload.revision
        workload.replica_sets = [*workload.replica_sets, kept][-KEPT_REPLICA_SETS:]
        return kept

    def _start(self, workload: Workload) -> None:
        key, current = workload.key, workload.template_hash
        owner, owner_uid, name = key, workload.uid, f"{key.name}-{secrets.token_hex(3)[:5]}"
        if key.kind == "Deployment":
            replica_set = self._current_replica_set(workload)
            owner, owner_uid = Key("apps", "ReplicaSet", key.namespace, replica_set.name), replica_set.uid
            name = f"{replica_set.name}-{secrets.token_hex(3)[:5]}"
        elif key.kind == "StatefulSet":
            taken = {pod.name for pod in workload.pods}
            name = next(name for name in (f"{key.name}-{n}" for n in itertools.count()) if name not in taken)
        pod = Pod(
            name=name,
            namespace=key.namespace,
            template=workload.manifest["spec"]["template"],
            template_hash=current,
            owner=owner,
            owner_uid=owner_uid,
            created=now(),
        )
        workload.pods.append(pod)
        self._step(workload, pod, self._live(pod))

    def _end(self, workload: Workload, pod: Pod) -> None:
        """Ask a pod to end: it stands in the tree until its grace is over."""
        pod.ending, pod.reason = True, "Terminating"

        def gone() -> None:
            workload.pods.remove(pod)
            if self.workloads.get(workload.key) is workload:
                self._roll(workload)

        self._timeline.after(self._pod_seconds / 2, gone)

    def _step(self, workload: Workload, pod: Pod, life: Iterator[float]) -> None:
        """Let the pod live up to its next wait, and tell the workload's controller."""
        if pod.ending:
            return
        was_available = pod.available
        wait = next(life, None)
        if wait is not None:
            self._timeline.after(wait, lambda: self._step(workload, pod, life))
        if pod.available and not was_available:
            self._advance(workload)
            self._roll(workload)
        else:
            self.on_change(workload.key)

    def _fault(self, pod: Pod, *kinds: FaultKind) -> tuple[Mapping[str, Any], Fault] | None:
        """The first container of the pod that has one of these faults."""
        for container in pod.containers:
            fault = self.fault_of(container["image"])
            if fault is not None and fault.kind in kinds:
                return container, fault
        return None

    def _live(self, pod: Pod) -> Iterator[float]:
        """The life of a pod as its kubelet reports it; what it yields is the seconds until its next change."""
        pod.tell("Normal", "Scheduled", f"Successfully assigned {pod.namespace}/{pod.name} to {NODE}")
        pod.stand(pod.containers, _waiting("PodInitializing" if pod.initial else "ContainerCreating"))
        yield self._pod_seconds * 0.2
        yield from self._initialize(pod)
        pod.stand(pod.initial, {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now()}})
        pod.reason = "ContainerCreating"
        yield self._pod_seconds * 0.2
        yield from self._pull(pod)
        yield from self._run(pod)

    def _initialize(self, pod: Pod) -> Iterator[float]:
        """Vault's injector adds an init container, which waits for ever where Vault does not let it in."""
        while found := self._fault(pod, "vault-init"):
            if all(container["name"] != VAULT_INIT for container in pod.initial):
                pod.injected = ({"name": VAULT_INIT, "image": VAULT_IMAGE},)
            agent = [container for container in pod.initial if container["name"] == VAULT_INIT]
            if not pod.reason.startswith("Init:"):
                pod.stand(pod.containers, _waiting("PodInitializing"))
                pod.stand(agent, _running())
                pod.tell("Normal", "Started", f"Started container {VAULT_INIT}")
            pod.reason = f"Init:0/{len(pod.initial)}"
            pod.write(VAULT_INIT, found[1].lines)
            yield self._pod_seconds * 4

    def _pull(self, pod: Pod) -> Iterator[float]:
        backoff = self._pod_seconds * 2
        while True:
            missing = next((c for c in pod.containers if not self._can_pull(c["image"])), None)
            if missing is None:
                pod.health, pod.message = "Progressing", ""
                return
            image = missing["image"]
            pod.health, pod.reason = "Degraded", "ErrImagePull"
            pod.message = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": not found'
            pod.stand([missing], _waiting(pod.reason, pod.message))
            pod.tell("Warning", "Failed", f'Failed to pull image "{image}": {pod.message}')
            yield self._pod_seconds * 0.4
            pod.reason, pod.message = "ImagePullBackOff", f'Back-off pulling image "{image}"'
            pod.stand([missing], _waiting(pod.reason, pod.message))
            pod.tell("Normal", "BackOff", pod.message)
            yield backoff
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    def _can_pull(self, image: str) -> bool:
        fault = self.fault_of(image)
        return not (fault and fault.kind == "pull") and self._has_image(image)

    def _run(self, pod: Pod) -> Iterator[float]:
        """Start the containers, and start them again as often as one of them ends."""
        pod.stand(pod.containers, _running())
        everyone = frozenset(container["name"] for container in pod.containers)
        backoff = 10  # seconds in the kubelet's words; the sandbox's own are shorter
        while found := self._fault(pod, "crash", "oom", "recover"):
            container, fault = found
            name = container["name"]
            if fault.kind == "recover" and pod.restarts >= 2:
                break
            # A container that has ended before makes a pod that is not ready Degraded, also while it runs again.
            pod.reason, pod.health, pod.message = "Running", "Degraded" if pod.restarts else "Progressing", ""
            pod.ready = everyone - {name}
            pod.stand([container], _running())
            pod.tell("Normal", "Started", f"Started container {name}")
            pod.logs[name] = []
            pod.write(name, fault.lines)
            yield self._pod_seconds * 0.4
            code, pod.reason = (137, "OOMKilled") if fault.kind == "oom" else (1, "Error")
            ended = {"terminated": {"exitCode": code, "reason": pod.reason, "finishedAt": now()}}
            pod.stand([container], ended)
            pod.previous[name] = pod.logs[name]
            yield self._pod_seconds * 0.2
            pod.ended[name] = ended
            if pod.restarts:  # the first restart is immediate
                pod.reason, pod.health = "CrashLoopBackOff", "Degraded"
                pod.message = (
                    f"back-off {backoff}s restarting failed container={name} pod={pod.name}_{pod.namespace}({pod.uid})"
                )
                pod.stand([container], _waiting(pod.reason, pod.message))
                pod.tell("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {pod.name}")
                yield min(self._pod_seconds * backoff / 5, LONGEST_BACKOFF)
                backoff = min(backoff * 2, 300)
            pod.restarts += 1
        pod.stand(pod.containers, _running())
        pod.reason, pod.message, pod.health = "Running", "", "Degraded" if pod.restarts else "Progressing"
        for container in pod.containers:
            pod.logs[container["name"]] = []
            pod.write(container["name"], ("starting",))
        yield self._pod_seconds * (10 if self._fault(pod, "slow") else 0.6)
        while found := self._fault(pod, "never-ready"):
            pod.ready = everyone - {found[0]["name"]}
            pod.tell("Warning", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
            yield max(self._pod_seconds, 1.0)
        pod.ready, pod.health = everyone, "Healthy"
        for container in pod.containers:
            pod.write(container["name"], ("ready",))


def _waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def _running() -> Json:
    return {"running": {"startedAt": now()}}
