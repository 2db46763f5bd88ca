"""Refs of the sandbox's GitHub, and the repository's own page: https://docs.github.com/rest/git/refs"""

import re
from typing import Any

from pipeline.edges.git import GitError
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


def refusal(hosted: Hosted, name: str, new: str, old: str, *, force: bool) -> str | None:
    """Why a ref cannot go from one oid to another; ZERO is none."""
    repository = hosted.repository
    if not name.startswith("refs/") or name.count("/") < 2 or not repository.is_name(name):
        return "Reference name must start with 'refs/' and have at least two slashes."
    if new == ZERO:
        return None if old != ZERO else "Reference does not exist"
    found = repository.resolve(new) if re.fullmatch("[0-9a-f]{40}", new) else None
    if found is None:
        return "Object does not exist"
    if name.startswith("refs/heads/") and found[0] != "commit":
        return "Object is not a commit"
    if old != ZERO and not force and not repository.contains(new, old):
        return "Update is not a fast forward"
    return None


def _create(call: Call) -> Any:
    return _move(call, str(call.body.get("ref", "")), str(call.body.get("sha", "")), new=True)


def _update(call: Call, ref: str) -> Any:
    return _move(call, f"refs/{ref}", str(call.body.get("sha", "")), force=bool(call.body.get("force")))


def _delete(call: Call, ref: str) -> None:
    _move(call, f"refs/{ref}", ZERO)


def _move(call: Call, name: str, oid: str, *, new: bool = False, force: bool = False) -> Any:
    old = call.repository.ref(name) or ZERO if name.startswith("refs/") else ZERO
    if new != (old == ZERO):
        raise RefusedError(422, "Reference already exists" if new else "Reference does not exist")
    if problem := refusal(call, name, oid, old, force=force):
        raise RefusedError(422, problem)
    if is_protected(call, name):
        raise RefusedError(422, _RULES)
    try:
        moved = call.repository.move([(name, oid, old)])
    except GitError:  # as of a branch whose name is a folder of others
        moved = False
    if not moved:
        raise RefusedError(422, "Reference update failed")
    return None if oid == ZERO else _shape(call, name)


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
