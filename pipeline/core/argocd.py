"""What Argo CD shows of an application: small types that hold what we read, and their parsing from its JSON.

Argo CD leaves out what is empty, so every field may be absent.
Fields: https://github.com/argoproj/argo-cd/blob/master/pkg/apis/application/v1alpha1/types.go
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.errors import ApplicationNotFound, ArgoCDDenied, Unreachable

Json = Mapping[str, Any]
MISSHAPEN = (AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""What reading JSON of another shape than Argo CD's raises."""
_Kind = TypeVar("_Kind", dict[str, Any], list[Any], str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of an application: what is wrong with it, or what became of it in a sync."""

    kind: str
    name: str
    health: str | None = None
    synced: bool = True
    message: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The last or present sync."""

    phase: str
    """`Running`, `Terminating`, `Succeeded`, `Failed` or `Error`; retries count as `Running`."""
    revisions: tuple[str, ...] = ()
    message: str = ""
    started: str = ""
    """RFC 3339, UTC, whole seconds, by the cluster's clock: compares as text with a pod's `created`."""
    failures: tuple[Resource, ...] = ()
    images: tuple[str, ...] = ()
    """The images that the applied manifests name; empty for an Argo CD that does not tell (before 3.1)."""

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.phase in {"Running", "Terminating"}

    @property
    def failed(self) -> bool:
        """Whether it ended badly, all retries included."""
        return self.phase in {"Failed", "Error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One of `status.conditions`."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where an application's manifests come from."""

    repository: str
    path: str
    revision: str
    """A branch, a tag or a commit; HEAD stands for the default branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One application as Argo CD showed it at one moment."""

    name: str
    uid: str = ""
    version: int = 0
    """`metadata.resourceVersion`: a greater one is newer."""
    revisions: tuple[str, ...] = ()
    """What Argo CD compared with or synced to, one per source; empty while it cannot tell."""
    sync: str = "Unknown"
    health: str | None = None
    refreshing: bool = False
    """A refresh was asked for and has not been done: all else may be stale."""
    requested: bool = False
    """A sync was asked for and has not begun: `operation` is still the one before."""
    operation: Operation | None = None
    conditions: tuple[Condition, ...] = ()
    automated: bool = False
    resources: tuple[Resource, ...] = ()
    """Those that are not Synced or not Healthy."""
    sources: tuple[Source, ...] = ()
    project: str = ""

    @property
    def source(self) -> str:
        """Where its manifests come from, in words."""
        return ", ".join(f"{source.revision} of {source.repository or '?'}" for source in self.sources)

    @property
    def busy(self) -> bool:
        """Whether a sync is asked for or under way."""
        return self.requested or (self.operation is not None and self.operation.running)

    @property
    def settled(self) -> bool:
        """Whether Argo CD is content; proves nothing by itself, since Healthy may be stale."""
        return self.sync == "Synced" and self.health == "Healthy" and not self.busy

    @property
    def tried(self) -> bool:
        """Whether the last sync was of the revisions that Argo CD compares with now."""
        return self.operation is not None and self.operation.revisions == self.revisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of the resource tree."""

    name: str
    namespace: str = ""
    uid: str = ""
    owner: str = ""
    """`Kind/name` of what made it."""
    reason: str = ""
    """As `kubectl get pods` shows it: `Running`, `ImagePullBackOff`, `Init:0/1`, `Terminating` …"""
    message: str = ""
    healthy: bool = False
    images: tuple[str, ...] = ()
    created: str = ""
    current: bool = True
    """False for a pod that says nothing of the present rollout: its ReplicaSet is not the newest of its owner, a
    CronJob made it, it has done its work, or it is being deleted."""

    def __str__(self) -> str:
        return f"Pod/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What an application has made in the cluster."""

    pods: tuple[Pod, ...] = ()
    degraded: tuple[Resource, ...] = ()
    """Resources, other than pods and ReplicaSets of earlier rollouts, whose health is Degraded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a broken or hanging pod says of itself."""

    container: str | None = None
    running: bool = False
    """Whether that container runs at present."""
    message: str = ""
    logs: tuple[str, ...] = ()
    """Its last lines, oldest first."""
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """Argo CD showed an application. `refreshed`: as the answer to a refresh."""

    state: State
    refreshed: bool = False


@dataclass(frozen=True, slots=True)
class Grown:
    """Argo CD showed the resource tree of an application."""

    application: str
    tree: Tree


@dataclass(frozen=True, slots=True)
class Lost:
    """The application is not to be had, and trying again will not help."""

    application: str
    error: ApplicationNotFound | ArgoCDDenied


@dataclass(frozen=True, slots=True)
class Down:
    """Argo CD stopped giving answers that can be used."""

    error: Unreachable


@dataclass(frozen=True, slots=True)
class Up:
    """Argo CD answers again."""


Event = Seen | Grown | Lost | Down | Up


def parse_state(application: Json) -> State:
    """Read an Application, as `GET /api/v1/applications/NAME` and the stream give it. Raises MISSHAPEN."""
    metadata = _map(application, "metadata")
    spec = _map(application, "spec")
    status = _map(application, "status")
    sync = _map(status, "sync")
    automated = _map(spec, "syncPolicy").get("automated")
    version = _text(metadata, "resourceVersion")
    return State(
        name=_text(metadata, "name"),
        uid=_text(metadata, "uid"),
        version=int(version) if version.isdecimal() else 0,
        revisions=_revisions(sync),
        sync=_text(sync, "status") or "Unknown",
        health=_text(_map(status, "health"), "status") or None,
        refreshing="argocd.argoproj.io/refresh" in _map(metadata, "annotations"),
        requested=bool(application.get("operation")),
        operation=_operation(_map(status, "operationState")),
        conditions=tuple(
            Condition(type=_text(item, "type"), message=_text(item, "message")) for item in _list(status, "conditions")
        ),
        automated=automated is not None and automated.get("enabled") is not False,
        resources=tuple(
            resource
            for resource in map(_resource, _list(status, "resources"))
            if not resource.synced or resource.health not in {None, "Healthy"}
        ),
        sources=tuple(
            Source(_text(source, "repoURL"), _text(source, "path"), _text(source, "targetRevision") or "HEAD")
            for source in _list(spec, "sources") or [_map(spec, "source")]
        ),
        project=_text(spec, "project"),
    )


def parse_tree(tree: Json) -> Tree:
    """Read an ApplicationTree, as `GET /api/v1/applications/NAME/resource-tree` and its stream give it.

    Raises MISSHAPEN.
    """
    nodes = _list(tree, "nodes")
    outdated = _outdated_replica_sets(nodes)
    scheduled = {
        node.get("uid") for node in nodes if any(p.get("kind") == "CronJob" for p in _list(node, "parentRefs"))
    }
    return Tree(
        pods=tuple(_pod(node, outdated | scheduled) for node in nodes if node.get("kind") == "Pod"),
        degraded=tuple(
            _resource(node)
            for node in nodes
            if node.get("kind") != "Pod"
            and _map(node, "health").get("status") == "Degraded"
            and node.get("uid") not in outdated
        ),
    )


def _operation(state: Json) -> Operation | None:
    if not state:
        return None
    result = _map(state, "syncResult")
    resources = _list(result, "resources")
    return Operation(
        phase=_text(state, "phase"),
        revisions=_revisions(result) or _revisions(_map(_map(state, "operation"), "sync")),
        message=_text(state, "message"),
        started=_text(state, "startedAt"),
        failures=tuple(
            _resource(item)
            for item in resources
            if item.get("status") == "SyncFailed" or item.get("hookPhase") in {"Failed", "Error"}
        ),
        images=tuple(
            dict.fromkeys(
                image
                for item in resources
                if not str(item.get("status")).startswith("Prune")  # what was taken away names its image too
                for image in _texts(item, "images")
            )
        ),
    )


def _revisions(sync: Json) -> tuple[str, ...]:
    """Multi-source applications have `revisions`; their `revision` is absent or empty."""
    return tuple(filter(None, _texts(sync, "revisions") or [_text(sync, "revision")]))


def _resource(item: Json) -> Resource:
    health = _map(item, "health")
    return Resource(
        kind=_text(item, "kind"),
        name=_text(item, "name"),
        health=_text(health, "status") or None,
        synced=item.get("status") != "OutOfSync",
        message=_text(item, "message") or _text(health, "message"),
    )


def _pod(node: Json, past: AbstractSet[str]) -> Pod:
    health = _map(node, "health")
    reason = _info(node, "Status Reason")
    parents = _list(node, "parentRefs")
    return Pod(
        name=_text(node, "name"),
        namespace=_text(node, "namespace"),
        uid=_text(node, "uid"),
        owner=f"{parents[0].get('kind')}/{parents[0].get('name')}" if parents else "",
        reason=reason,
        message=_text(health, "message"),
        healthy=health.get("status") == "Healthy",
        images=_texts(node, "images"),
        created=_text(node, "createdAt"),
        current=reason not in {"Terminating", "Completed"} and not any(parent.get("uid") in past for parent in parents),
    )


def _outdated_replica_sets(nodes: list[Json]) -> frozenset[str]:
    """The ReplicaSets that are not the newest of their Deployment or Rollout, by uid."""
    revisions: dict[str, dict[str, int]] = {}
    for node in nodes:
        if node.get("kind") == "ReplicaSet":
            number = re.fullmatch(r"Rev:(\d+)", _info(node, "Revision"))
            for parent in _list(node, "parentRefs"):
                revisions.setdefault(parent.get("uid", ""), {})[_text(node, "uid")] = int(number[1]) if number else 0
    return frozenset(
        uid for siblings in revisions.values() for uid, number in siblings.items() if number < max(siblings.values())
    )


def _info(node: Json, name: str) -> str:
    return next((str(item.get("value", "")) for item in _list(node, "info") if item.get("name") == name), "")


def _map(item: Json, key: str) -> Json:
    return _typed(dict, item, key)


def _list(item: Json, key: str) -> list[Any]:
    return _typed(list, item, key)


def _text(item: Json, key: str) -> str:
    return _typed(str, item, key)


def _texts(item: Json, key: str) -> tuple[str, ...]:
    return tuple(_text({key: value}, key) for value in _list(item, key))


def _typed(kind: type[_Kind], item: Json, key: str) -> _Kind:
    value = item.get(key) or kind()
    if not isinstance(value, kind):
        raise TypeError(f"{key!r} is not what it should be")
    return value
