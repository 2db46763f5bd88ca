"""Comments and labels of issues and pull requests: https://docs.github.com/rest/issues

Every issue of the sandbox is a pull request.
"""

from typing import Any

from pipeline.sandbox import github_shapes
from pipeline.sandbox.github_records import Comment, PullRequest, now
from pipeline.sandbox.github_rest import Call, RefusedError, Route, invalid, node_id, paged, text

_EITHER = "issues|pull_requests"
_GREY = "ededed"


def pull_request(call: Call, number: int) -> PullRequest:
    """The pull request of that number."""
    try:
        return call.state.pulls[number]
    except KeyError:
        raise RefusedError(404, "Not Found") from None


def label(call: Call, name: str) -> Any:
    """A label."""
    return {
        "id": call.state.labels[name],
        "node_id": node_id("Label", call.state.labels[name]),
        "url": f"{call.url}/labels/{name}",
        "name": name,
        "description": "",
        "color": _GREY,
        "default": False,
    }


def _comments(call: Call, number: int) -> Any:
    pull_request(call, number)
    shown = paged(call, [item for item in call.state.comments.values() if item.issue == number])
    return [_shape(call, item) for item in shown]


def _write(call: Call, number: int) -> Any:
    pull = pull_request(call, number)
    body = text(call, "IssueComment", "body", needed=True) or ""
    new = Comment(next(call.state.ids), number, body)
    call.state.comments[new.id] = new
    pull.updated = new.created
    return _shape(call, new)


def _read(call: Call, comment_id: int) -> Any:
    return _shape(call, comment(call, comment_id))


def _rewrite(call: Call, comment_id: int) -> Any:
    known = comment(call, comment_id)
    known.body = text(call, "IssueComment", "body", needed=True) or ""
    known.updated = now()
    return _shape(call, known)


def _remove(call: Call, comment_id: int) -> None:
    del call.state.comments[comment(call, comment_id).id]


def comment(call: Call, comment_id: int) -> Comment:
    """The comment of that id."""
    try:
        return call.state.comments[comment_id]
    except KeyError:
        raise RefusedError(404, "Not Found") from None


def _shape(call: Call, item: Comment) -> Any:
    url = f"{call.url}/issues/comments/{item.id}"
    return {
        "id": item.id,
        "node_id": node_id("IssueComment", item.id),
        "url": url,
        "html_url": f"{call.page}/pull/{item.issue}#issuecomment-{item.id}",
        "issue_url": f"{call.url}/issues/{item.issue}",
        "body": item.body,
        "user": github_shapes.user(call, item.author),
        "author_association": "COLLABORATOR",
        "created_at": item.created,
        "updated_at": item.updated,
    }


def _labels(call: Call, number: int) -> Any:
    return [label(call, name) for name in paged(call, pull_request(call, number).labels)]


def _add_labels(call: Call, number: int) -> Any:
    """Labels that the repository does not have yet are made."""
    pull = pull_request(call, number)
    given = call.sent if isinstance(call.sent, list) else call.body.get("labels")
    if not isinstance(given, list) or not all(isinstance(name, str) and 0 < len(name) <= 50 for name in given):
        raise invalid("Label", "name")
    for name in given:
        known = next((known for known in call.state.labels if known.lower() == name.lower()), name)
        call.state.labels.setdefault(known, next(call.state.ids))
        if known not in pull.labels:
            pull.labels.append(known)
    return [label(call, name) for name in pull.labels]


ROUTES = (
    Route("GET", "/issues/<int:number>/comments", _EITHER, _comments),
    Route("POST", "/issues/<int:number>/comments", _EITHER, _write, 201, "write"),
    Route("GET", "/issues/comments/<int:comment_id>", _EITHER, _read),
    Route("PATCH", "/issues/comments/<int:comment_id>", _EITHER, _rewrite, 200, "write"),
    Route("DELETE", "/issues/comments/<int:comment_id>", _EITHER, _remove, 204, "write"),
    Route("GET", "/issues/<int:number>/labels", _EITHER, _labels),
    Route("POST", "/issues/<int:number>/labels", _EITHER, _add_labels, 200, "write"),
)
