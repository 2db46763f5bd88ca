"""What runs in the simulated cluster: workloads, their replica sets and pods, in the words of Argo CD's API."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

Json = dict[str, Any]
Manifest = Mapping[str, Any]
NODE = "sandbox"
Health = Literal["Healthy", "Suspended", "Progressing", "Missing", "Degraded", "Unknown"]


class Key(NamedTuple):
    """Which resource, as Argo CD names it."""

    group: str
    kind: str
    namespace: str
    name: str


def key_of(manifest: Manifest) -> Key:
    """The key of a rendered manifest."""
    metadata = manifest["metadata"]
    group = manifest["apiVersion"].rpartition("/")[0]
    return Key(group, manifest["kind"], metadata.get("namespace", ""), metadata["name"])


def images_of(manifest: Manifest, *, init: bool = True) -> tuple[str, ...]:
    """The images of all containers that a manifest would run, each once. What makes no sense names no image.

    Without `init` as a sync's result tells them, which passes over init containers.
    """
    spec = mapping(manifest.get("spec"))
    if manifest["kind"] == "CronJob":
        spec = mapping(mapping(spec.get("jobTemplate")).get("spec"))
    if manifest["kind"] != "Pod":
        spec = mapping(mapping(spec.get("template")).get("spec"))
    containers = [item for key in ("initContainers",) * init + ("containers",) for item in items(spec.get(key))]
    images = [mapping(container).get("image") for container in containers]
    return tuple(dict.fromkeys(image for image in images if isinstance(image, str) and image))


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def now() -> str:
    """The present time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class Event:
    """Something that was said of a pod; the same words again only raise `count`."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    first: str
    last: str
    count: int = 1
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(slots=True, kw_only=True, eq=False)
class Pod:
    """One pod, in the words that Argo CD's resource tree uses."""

    name: str
    namespace: str
    template: Manifest
    template_hash: str
    owner: Key
    owner_uid: str
    created: str
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    reason: str = "Pending"
    """Argo CD's `Status Reason`."""
    health: Health = "Progressing"
    message: str = ""
    states: dict[str, Json] = field(default_factory=dict)
    """How each container stands, as `state` in a container's status."""
    ended: dict[str, Json] = field(default_factory=dict)
    """How a container ended last, as `lastState` has it."""
    ready: frozenset[str] = frozenset()
    """Those of its containers that are ready."""
    injected: tuple[Mapping[str, Any], ...] = ()
    """Init containers that the template does not have."""
    restarts: int = 0
    ending: bool = False
    logs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Time and text of each line of a container's present run."""
    previous: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    @property
    def containers(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self.template["spec"]["containers"])

    @property
    def initial(self) -> tuple[Mapping[str, Any], ...]:
        """The init containers."""
        return (*self.injected, *items(self.template["spec"].get("initContainers")))

    @property
    def spec(self) -> Json:
        """What the API server holds: the template's, with what was injected."""
        spec = {**self.template["spec"], "nodeName": NODE}
        return {**spec, "initContainers": list(self.initial)} if self.initial else spec

    @property
    def images(self) -> tuple[str, ...]:
        return images_of({"kind": "Pod", "spec": self.spec})

    @property
    def available(self) -> bool:
        return not self.ending and self.health == "Healthy"

    def stand(self, containers: Iterable[Mapping[str, Any]], state: Json) -> None:
        """Note that these containers are in that state now."""
        self.states |= {container["name"]: state for container in containers}

    def tell(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        for event in self.events:
            if (event.reason, event.message) == (reason, message):
                event.count, event.last = event.count + 1, now()
                return
        self.events.append(Event(kind, reason, message, now(), now()))

    def write(self, container: str, lines: Iterable[str]) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.logs.setdefault(container, []).extend((stamp, line) for line in lines)


@dataclass(slots=True, kw_only=True)
class ReplicaSet:
    """One pod template that a Deployment has had. A template that returns gets its old ReplicaSet back."""

    name: str
    template_hash: str
    revision: int
    created: str
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(slots=True, kw_only=True, eq=False)
class Workload:
    """A Deployment, StatefulSet or DaemonSet with all that belongs to it."""

    key: Key
    manifest: Manifest
    created: str
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    revision: int = 0
    restarted: str = ""
    """When `kubectl rollout restart` was last asked for: part of the template, unlike the manifest in git."""
    replica_sets: list[ReplicaSet] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    progress: int = 0
    """Counts the steps forward, so that a deadline can tell whether there was one."""
    overdue: bool = False
    suspended: bool = False

    @property
    def replicas(self) -> int:
        if self.key.kind == "DaemonSet":
            return 1  # the simulated cluster has one node
        count: int | None = self.manifest["spec"].get("replicas")
        return 1 if count is None else count

    @property
    def template_hash(self) -> str:
        template = json.dumps([self.manifest["spec"]["template"], self.restarted], sort_keys=True, default=str)
        return hashlib.sha256(template.encode()).hexdigest()[:10]

    def staying(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.ending]

    def updated(self) -> list[Pod]:
        current = self.template_hash
        return [pod for pod in self.staying() if pod.template_hash == current]

    def settled(self) -> bool:
        pods = self.staying()
        return len(pods) == len(self.updated()) == self.replicas and all(pod.available for pod in pods)

    def health(self) -> tuple[Health, str]:
        """Health and message, worded as Argo CD words them for this kind."""
        if self.suspended:
            return "Suspended", f"{self.key.kind} is paused"
        updated, pods = self.updated(), self.staying()
        available = sum(pod.available for pod in pods)
        if self.key.kind == "StatefulSet":
            if available < self.replicas:
                return "Progressing", f"Waiting for {self.replicas - available} pods to be ready..."
            if len(updated) < self.replicas:
                count = f"{len(updated)} out of {self.replicas} new pods have been updated..."
                return "Progressing", f"Waiting for partitioned roll out to finish: {count}"
            return "Healthy", f"partitioned roll out complete: {len(updated)} new pods have been updated..."
        if self.overdue:
            return "Degraded", f'Deployment "{self.key.name}" exceeded its progress deadline'
        what = f'daemon set "{self.key.name}" rollout' if self.key.kind == "DaemonSet" else "rollout"
        things = "pods" if self.key.kind == "DaemonSet" else "replicas"
        waiting = f"Waiting for {what} to finish:"
        if len(updated) < self.replicas:
            return "Progressing", f"{waiting} {len(updated)} out of {self.replicas} new {things} have been updated..."
        if len(pods) > len(updated):
            return "Progressing", f"{waiting} {len(pods) - len(updated)} old replicas are pending termination..."
        if available < len(updated):
            return "Progressing", f"{waiting} {available} of {len(updated)} updated {things} are available..."
        return "Healthy", ""
