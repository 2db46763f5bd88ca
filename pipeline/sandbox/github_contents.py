"""Blobs and comparisons of the sandbox's GitHub."""

import base64
from typing import Any

from pipeline.sandbox import github_shapes
from pipeline.sandbox.github_rest import Call, RefusedError, Route, node_id


def _blob(call: Call, sha: str) -> Any:
    repository = call.repository
    found = repository.resolve(sha) if len(sha) == 40 else None
    if found is None or found[0] != "blob":
        raise RefusedError(404, "Not Found")
    data = repository.read(found[1])
    return {
        "sha": sha,
        "node_id": node_id("Blob", sha),
        "size": len(data),
        "url": call.request.base_url,
        "content": base64.encodebytes(data).decode(),
        "encoding": "base64",
    }


def _compare(call: Call, basehead: str) -> Any:
    """Two commits compared. The files that differ are on the first page only."""
    repository, request = call.repository, call.request
    names = basehead.split("...")
    found = [repository.resolve(f"{name}^{{commit}}") for name in names]
    if len(names) != 2 or None in found:
        raise RefusedError(404, "Not Found")
    base, head = (item[1] for item in found if item)
    common, ahead, behind = repository.between(base, head)
    if common is None:
        raise RefusedError(404, f"No common ancestor between {names[0]} and {names[1]}.")
    page, size = (request.args.get(name, usual, int) for name, usual in (("page", 1), ("per_page", 100)))
    status = ("diverged" if behind else "ahead") if ahead else ("behind" if behind else "identical")
    page_url = f"{call.page}/compare/{basehead}"
    return {
        "url": call.request.base_url,
        "html_url": page_url,
        "permalink_url": page_url,
        "diff_url": f"{page_url}.diff",
        "patch_url": f"{page_url}.patch",
        "base_commit": github_shapes.commit(call, base),
        "merge_base_commit": github_shapes.commit(call, common),
        "status": status,
        "ahead_by": len(ahead),
        "behind_by": behind,
        "total_commits": len(ahead),
        "commits": [github_shapes.commit(call, oid) for oid in ahead[(page - 1) * size : page * size]],
        **({"files": github_shapes.files(call, common, head)} if page == 1 else {}),
    }


ROUTES = (
    Route("GET", "/git/blobs/<sha>", "contents", _blob),
    Route("GET", "/compare/<path:basehead>", "contents", _compare),
)
