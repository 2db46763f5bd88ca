"""What fake pods do: kwok's stages for healthy ones, and one stage more for each image that shall fail.

A stage of the second kind is made for one exact image and outweighs the others, so that no other tag ever trips it.
Stages: https://kwok.sigs.k8s.io/docs/user/stages-configuration/
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.api import Api, Object
from pipeline.errors import UsageError

KINDS = ("pull", "crash", "oom", "slow", "never-ready", "vault-init")
SLOW_SECONDS = 8.0
VERSION = "kwok.x-k8s.io/v1alpha1"
LOG = "lab.openeg/log"
"""The annotation of a stage that holds what the broken container wrote, as a JSON list of lines."""

_BROKEN = "lab.openeg/broken"
_HERE = Path(__file__).parent
_OUTWEIGHS = 1000
_LOGS = {
    "crash": ("starting", "Traceback (most recent call last):", "KeyError: 'MONGODB_URI'"),
    "oom": ("starting", "loading all lessons into memory"),
    "vault-init": (
        "[INFO]  agent.auth.handler: authenticating",
        "[ERROR] agent.auth.handler: error authenticating: permission denied",
    ),
}
_EVENTS = {
    "pull": ("Failed", "Failed to pull image: not found"),
    "crash": ("BackOff", "Back-off restarting failed container"),
    "oom": ("BackOff", "Back-off restarting failed container"),
}
# jq; kwok compares what it yields as text
_READY = '.status.conditions.[] | select(.type == "Ready") | .status'
_PHASE = ".status.phase"


def break_image(api: Api, image: str, kind: str, *, seconds: float = SLOW_SECONDS, log: Sequence[str] = ()) -> None:
    """Let new pods of `image` (as the pod's spec says it) fail from now on.

    `seconds` is how slow `slow` is; `log` is what the container has written. Raises UsageError for another kind.
    """
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no fault", remedy=f"Choose one of {', '.join(KINDS)}.")
    api.apply([_fault(image, kind, seconds, log or _LOGS.get(kind, ("starting",)))])


def mend_image(api: Api, image: str) -> None:
    """Let pods of `image` be healthy again, also those that fail now."""
    api.delete(VERSION, "Stage", stage_name(image))
    for pod in api.list("v1", "Pod"):
        if any(container["image"] == image for container in pod["spec"]["containers"]):
            metadata = pod["metadata"]
            api.merge(
                "v1", "Pod", metadata["name"], {"metadata": {"annotations": {_BROKEN: None}}}, metadata["namespace"]
            )


def stage_name(image: str) -> str:
    """The name of the stage that makes pods of `image` fail."""
    return f"broken-{hashlib.sha256(image.encode()).hexdigest()[:16]}"


def healthy() -> Iterator[Object]:
    """The stages of nodes and pods to which nothing happens."""
    node = (_HERE / "node-status.gotmpl").read_text()
    owner = ".metadata.ownerReferences.[].kind"
    yield _stage("node-ready", "Node", [_key(_READY, "NotIn", "True")], {"patches": [_status(node)]})
    yield _stage("pod-ready", "Pod", [*_STARTING, _WELL], {"patches": [_status(_pod(""))]})
    done = [_PRESENT, _key(_READY, "In", "True"), _key(owner, "In", "Job")]
    yield _stage("pod-completed", "Pod", done, {"patches": [_status(_pod("completed"))]})
    gone = {"finalizers": {"empty": True}, "delete": True}
    yield _stage("pod-deleted", "Pod", [_key(".metadata.deletionTimestamp", "Exists")], gone)


def _fault(image: str, kind: str, seconds: float, log: Sequence[str]) -> Object:
    """The stage that makes pods of `image` fail, and marks them: no stage then takes them for starting ones."""
    ours = _key(f"[.spec.containers[].image == {json.dumps(image)}] | any", "In", "true")
    patches = [_status(_pod(kind, image))]
    if kind != "slow":
        patches.append({"root": "metadata", "template": f'annotations: {{{_BROKEN}: "{kind}"}}', "type": "merge"})
    after: dict[str, object] = {"patches": patches}
    if kind in _EVENTS:
        reason, message = _EVENTS[kind]
        after["event"] = {"type": "Warning", "reason": reason, "message": message}
    delay = {"delay": {"durationMilliseconds": int(seconds * 1000)}} if kind == "slow" else {}
    stage = _stage(stage_name(image), "Pod", [*_STARTING, _WELL, ours], after, weight=_OUTWEIGHS, **delay)
    return {**stage, "metadata": {**stage["metadata"], "annotations": {LOG: json.dumps(list(log))}}}


def _status(template: str) -> Object:
    return {"subresource": "status", "root": "status", "template": template}


def _pod(fault: str, image: str = "") -> str:
    """The template of a pod's status, merged into it by kwok."""
    chosen = f"{{{{ $fault := {json.dumps(fault)} }}}}{{{{ $image := {json.dumps(image)} }}}}\n"
    return chosen + (_HERE / "pod-status.gotmpl").read_text()


def _stage(name: str, kind: str, match: Sequence[Object], after: Object, **spec: object) -> Object:
    return {
        "apiVersion": VERSION,
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": list(match)},
            "next": after,
            **spec,
        },
    }


def _key(path: str, operator: str, *values: str) -> Object:
    return {"key": path, "operator": operator, **({"values": list(values)} if values else {})}


_PRESENT = _key(".metadata.deletionTimestamp", "DoesNotExist")
_STARTING = (_PRESENT, _key(_READY, "NotIn", "True"), _key(_PHASE, "NotIn", "Succeeded", "Failed"))
_WELL = _key(f'.metadata.annotations["{_BROKEN}"]', "DoesNotExist")
