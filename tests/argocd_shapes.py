"""Argo CD's JSON for tests, in the shape that Argo CD 3.1 was recorded to give, cut down to what a waiter reads."""

from typing import Any

Json = dict[str, Any]

REPOSITORY = "registry.oud.kr/openegflask"
OLD, OURS, LATER, OTHER = ("0" * 40, "a" * 40, "b" * 40, "c" * 40)
"""Commits of the GitOps repository: OURS follows OLD, LATER follows OURS, OTHER follows OLD alone."""
TAG, OLD_TAG, NEW_TAG = ("1" * 40, "2" * 40, "3" * 40)
IMAGE, OLD_IMAGE, NEW_IMAGE = (f"{REPOSITORY}:{tag}" for tag in (TAG, OLD_TAG, NEW_TAG))


def descends(revision: str, ancestor: str) -> bool | None:
    """The ancestry of the commits above."""
    line = [OLD, OURS, LATER]
    if revision in line and ancestor in line:
        return line.index(revision) > line.index(ancestor)
    return revision == OTHER and ancestor == OLD


def application(
    revision: str = OURS,
    sync: str = "Synced",
    health: str = "Healthy",
    phase: str | None = "Succeeded",
    *,
    name: str = "demo",
    version: int = 1,
    refreshing: bool = False,
    automated: bool = True,
    synced: str | None = None,
    results: list[Json] | None = None,
    message: str = "",
    status: Json | None = None,
    **extra: Any,
) -> Json:
    """An Application. `synced` is the last operation's revision, `results` its `syncResult.resources`."""
    source = {"repoURL": "https://git.example/acme/deploy.git", "path": "overlays/prod", "targetRevision": "main"}
    operation = {
        "operation": {"sync": {"revision": synced or revision, "prune": True}, "initiatedBy": {"automated": True}},
        "phase": phase,
        "message": message,
        "startedAt": "2026-11-23T16:00:10Z",
        "syncResult": {"revision": synced or revision, "source": source, "resources": results or []},
    }
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "annotations": {"argocd.argoproj.io/refresh": "normal"} if refreshing else None,
        },
        "spec": {"source": source, "project": "default", "syncPolicy": {"automated": {}} if automated else {}},
        "status": {
            "sync": {"status": sync, **({"revision": revision} if revision else {})},
            "health": {"status": health},
            **({"operationState": operation} if phase else {}),
            "summary": {},
            **(status or {}),
        },
        **extra,
    }


def pod(
    image: str = IMAGE,
    reason: str = "Running",
    *,
    name: str = "web-new",
    owner: str = "new",
    owner_kind: str = "ReplicaSet",
    message: str = "",
    created: str = "2026-11-23T16:00:11Z",
) -> Json:
    """A Pod's node, healthy when it runs."""
    health = {"status": "Healthy" if reason == "Running" else "Degraded", "message": message}
    return {
        "kind": "Pod",
        "name": name,
        "namespace": "demo",
        "uid": f"uid-{name}",
        "parentRefs": [{"kind": owner_kind, "name": owner, "uid": f"uid-{owner}"}],
        "info": [{"name": "Status Reason", "value": reason}, {"name": "Containers", "value": "1/1"}],
        "images": [image],
        "health": health,
        "createdAt": created,
    }


def replica_set(name: str, revision: int, **extra: Any) -> Json:
    """A ReplicaSet's node of Deployment/web."""
    return {
        "group": "apps",
        "kind": "ReplicaSet",
        "name": name,
        "uid": f"uid-{name}",
        "parentRefs": [{"group": "apps", "kind": "Deployment", "name": "web", "uid": "uid-web"}],
        "info": [{"name": "Revision", "value": f"Rev:{revision}"}],
        "health": {"status": "Healthy"},
        **extra,
    }


def tree(*nodes: Json) -> Json:
    """A resource tree of Deployment/web with an old and a new ReplicaSet, and `nodes`."""
    deployment = {
        "group": "apps",
        "kind": "Deployment",
        "name": "web",
        "uid": "uid-web",
        "health": {"status": "Healthy"},
    }
    return {"nodes": [deployment, replica_set("old", 1), replica_set("new", 2), *nodes]}
