"""Argo CD's resource tree, and what it tells of one pod (manifest, events, log), made from the simulated cluster."""

from collections.abc import Mapping
from typing import Any

from pipeline.sandbox.workload import NODE, Json, Key, Manifest, Pod, ReplicaSet, Workload, now

NO_HEALTH_CHECK = ("ConfigMap", "CronJob", "Namespace", "Role", "RoleBinding", "Secret", "ServiceAccount")
"""Kinds that Argo CD shows without a health."""


def tree_of(wanted: Mapping[Key, Manifest], live: Mapping[Key, Manifest], workloads: Mapping[Key, Workload]) -> Json:
    """The whole tree of an application: what git wants or the cluster has, and what belongs to it."""
    nodes: list[Json] = []
    for key, manifest in wanted.items():
        workload = workloads.get(key)
        if key not in live:
            health = {"status": "Missing", "message": "Resource has not been created"}
            nodes.append({**_reference(key, _version(manifest)), "health": health})
        elif workload is None:
            node = {**_reference(key, _version(manifest)), "uid": f"{key.kind}-{key.namespace}-{key.name}".lower()}
            nodes.append(node if key.kind in NO_HEALTH_CHECK else {**node, "health": {"status": "Healthy"}})
        else:
            nodes += _workload(workload)
    return {"nodes": nodes}


def _workload(workload: Workload) -> list[Json]:
    status, message = workload.health()
    revision = [{"name": "Revision", "value": f"Rev:{workload.revision}"}] if workload.revision else []
    top = _node(workload.key, workload.uid, workload.created, status, message, info=revision)
    owned = [_replica_set(workload, item) for item in workload.replica_sets]
    return [top, *owned, *(_pod(pod) for pod in workload.pods)]


def _replica_set(workload: Workload, replica_set: ReplicaSet) -> Json:
    key = Key("apps", "ReplicaSet", workload.key.namespace, replica_set.name)
    pods = [pod for pod in workload.staying() if pod.template_hash == replica_set.template_hash]
    available = sum(pod.available for pod in pods)
    status, message = "Healthy", ""
    if available < len(pods):
        status = "Progressing"
        message = f"Waiting for rollout to finish: {available} out of {len(pods)} new replicas are available..."
    node = _node(key, replica_set.uid, replica_set.created, status, message, parent=(workload.key, workload.uid))
    node["info"] = [{"name": "Revision", "value": f"Rev:{replica_set.revision}"}]
    return node


def _pod(pod: Pod) -> Json:
    info = [
        {"name": "Status Reason", "value": pod.reason},
        {"name": "Node", "value": NODE},
        {"name": "Containers", "value": f"{len(pod.ready)}/{len(pod.containers)}"},
    ]
    if pod.restarts:
        info.append({"name": "Restart Count", "value": str(pod.restarts)})
    key = Key("", "Pod", pod.namespace, pod.name)
    node = _node(key, pod.uid, pod.created, pod.health, pod.message, parent=(pod.owner, pod.owner_uid), info=info)
    labels = (pod.template.get("metadata") or {}).get("labels") or {}
    labels = {**labels, "pod-template-hash": pod.template_hash}
    return {**node, "images": list(pod.images), "networkingInfo": {"labels": labels}}


def _node(
    key: Key,
    uid: str,
    created: str,
    status: str,
    message: str,
    *,
    parent: tuple[Key, str] | None = None,
    info: list[dict[str, str]] | None = None,
) -> Json:
    node: Json = {**_reference(key, "v1"), "uid": uid, "createdAt": created}
    node["health"] = {"status": status, "message": message} if message else {"status": status}
    if parent is not None:
        node["parentRefs"] = [{**_reference(parent[0], "v1"), "uid": parent[1]}]
    if info:
        node["info"] = info
    return node


def _reference(key: Key, version: str) -> Json:
    """A resource's name as JSON; a part that has nothing to say is left out."""
    parts = {"group": key.group, "version": version, "kind": key.kind, "namespace": key.namespace, "name": key.name}
    return {part: value for part, value in parts.items() if value}


def _version(manifest: Manifest) -> str:
    version: str = manifest["apiVersion"].rpartition("/")[2]
    return version


def manifest_of(pod: Pod) -> Json:
    """The pod as the API server holds it."""
    metadata = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid, "creationTimestamp": pod.created}
    status = {
        "phase": "Pending" if any("waiting" in state for state in pod.states.values()) else "Running",
        "initContainerStatuses": [_container_status(pod, container) for container in pod.initial],
        "containerStatuses": [_container_status(pod, container) for container in pod.containers],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod.spec, "status": status}


def _container_status(pod: Pod, container: Mapping[str, Any]) -> Json:
    name = container["name"]
    state = pod.states.get(name, {})
    return {
        "name": name,
        "image": container["image"],
        "state": state,
        "lastState": pod.ended.get(name, {}),
        "ready": name in pod.ready,
        "started": "running" in state,
        "restartCount": pod.restarts if name in pod.ended else 0,
    }


def events_of(pod: Pod) -> Json:
    """The events of one pod, oldest first, as a Kubernetes EventList."""
    reference = {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid, "apiVersion": "v1"}
    items = [
        {
            "metadata": {"name": f"{pod.name}.{event.uid[:8]}", "namespace": pod.namespace, "uid": event.uid},
            "involvedObject": reference,
            "type": event.type,
            "reason": event.reason,
            "message": event.message,
            "count": event.count,
            "firstTimestamp": event.first,
            "lastTimestamp": event.last,
            "source": {"component": "kubelet", "host": NODE},
            "reportingComponent": "kubelet",
            "reportingInstance": NODE,
        }
        for event in pod.events
    ]
    return {"metadata": {}, "items": items}


def log_of(pod: Pod, container: str | None, *, tail: int | None, previous: bool) -> list[Json]:
    """The log entries of a container, as Argo CD streams them. What the kubelet complains of is content as well."""
    names = [item["name"] for item in pod.containers]
    container = container or names[0]
    waiting = pod.states.get(container, {}).get("waiting")
    if waiting and container not in pod.logs and not previous:
        trouble = f'container "{container}" in pod "{pod.name}" is waiting to start: {waiting["reason"]}'
    elif container not in names and container not in pod.logs:
        trouble = f"container {container} is not valid for pod {pod.name}"
    elif previous and container not in pod.previous:
        trouble = f'previous terminated container "{container}" in pod "{pod.name}" not found'
    else:
        trouble = ""
    lines = (pod.previous if previous else pod.logs).get(container, [])
    lines = lines if tail is None else lines[max(0, len(lines) - tail) :]
    entries = [_entry(text, time, pod.name) for time, text in lines] if not trouble else [_entry(trouble)]
    return [*entries, _entry("", now(), last=True)]


def _entry(text: str, time: str = "0001-01-01T00:00:00Z", pod: str = "", *, last: bool = False) -> Json:
    return {"content": text, "timeStamp": time, "timeStampStr": time, "podName": pod, "last": last}
