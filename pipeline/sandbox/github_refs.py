"""Refs of the sandbox's GitHub, and the repository's own page: https://docs.github.com/rest/git/refs"""

from typing import Any

from pipeline.sandbox import github_shapes
from pipeline.sandbox.github_git import ZERO
from pipeline.sandbox.github_rest import Call, Hosted, RefusedError, Route, node_id

_RULES = "Repository rule violations found\n\nChanges must be made through a pull request.\n\n"


def is_protected(hosted: Hosted, ref: str) -> bool:
    """Whether a ref, by its full name, takes no direct change."""
    return ref.removeprefix("refs/heads/") in hosted.rules.protected


def _repository(call: Call) -> Any:
    return {
        **github_shapes.repository(call),
        "permissions": {"admin": False, "maintain": False, "push": True, "triage": True, "pull": True},
        "network_count": 0,
        "subscribers_count": 0,
        **call.rules.settings,
    }


def _one(call: Call, ref: str) -> Any:
    found = call.repository.ref(f"refs/{ref}")
    if found is None:
        raise RefusedError(404, "Not Found")
    return _shape(call, f"refs/{ref}")


def _matching(call: Call, ref: str) -> Any:
    return [_shape(call, name) for name, _, _ in call.repository.refs(f"refs/{ref}")]


def _create(call: Call) -> Any:
    name, oid = str(call.sent.get("ref", "")), str(call.sent.get("sha", ""))
    if not name.startswith("refs/") or name.count("/") < 2 or not call.repository.is_name(name):
        raise RefusedError(422, "Reference name must start with 'refs/' and have at least two slashes.")
    _require_commit(call, oid)
    if is_protected(call, name):
        raise RefusedError(422, _RULES)
    if call.repository.ref(name):
        raise RefusedError(422, "Reference already exists")
    call.repository.move([(name, oid, ZERO)])
    return _shape(call, name)


def _update(call: Call, ref: str) -> Any:
    name, oid = f"refs/{ref}", str(call.sent.get("sha", ""))
    old = _existing(call, name)
    _require_commit(call, oid)
    if not call.sent.get("force") and not call.repository.contains(oid, old):
        raise RefusedError(422, "Update is not a fast forward")
    call.repository.move([(name, oid, old)])
    return _shape(call, name)


def _delete(call: Call, ref: str) -> None:
    name = f"refs/{ref}"
    call.repository.move([(name, ZERO, _existing(call, name))])


def _existing(call: Call, name: str) -> str:
    old = call.repository.ref(name)
    if old is None:
        raise RefusedError(422, "Reference does not exist")
    if is_protected(call, name):
        raise RefusedError(422, _RULES)
    return old


def _require_commit(call: Call, oid: str) -> None:
    found = call.repository.resolve(oid) if len(oid) == len(ZERO) else None
    if found is None:
        raise RefusedError(422, "Object does not exist")


def _shape(call: Call, name: str) -> Any:
    kind, oid = call.repository.resolve(name) or ("", "")
    return {
        "ref": name,
        "node_id": node_id("Ref", f"{call.slug}:{name}"),
        "url": f"{call.url}/git/{name}",
        "object": {"type": kind, "sha": oid, "url": f"{call.url}/git/{kind}s/{oid}"},
    }


ROUTES = (
    Route("GET", "", "metadata", _repository),
    Route("GET", "/git/ref/<path:ref>", "contents", _one),
    Route("GET", "/git/matching-refs/<path:ref>", "contents", _matching),
    Route("POST", "/git/refs", "contents", _create, 201, "write"),
    Route("PATCH", "/git/refs/<path:ref>", "contents", _update, 200, "write"),
    Route("DELETE", "/git/refs/<path:ref>", "contents", _delete, 204, "write"),
)
