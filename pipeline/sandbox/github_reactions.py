"""Reactions to comments, and what people may do: https://docs.github.com/rest/reactions and /rest/collaborators."""

from typing import Any

from pipeline.sandbox import github_shapes
from pipeline.sandbox.github_issues import comment
from pipeline.sandbox.github_records import USER, Reaction, now
from pipeline.sandbox.github_rest import Call, RefusedError, Route, invalid, node_id, paged

_EITHER = "issues|pull_requests"
_CONTENTS = {"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"}


def _list(call: Call, comment_id: int) -> Any:
    return [_shape(call, reaction) for reaction in paged(call, comment(call, comment_id).reactions)]


def _react(call: Call, comment_id: int) -> Any:
    """Somebody's same reaction twice is one; GitHub then answers with 200 in place of 201."""
    reactions = comment(call, comment_id).reactions
    content = call.sent.get("content") if isinstance(call.sent, dict) else None
    if content not in _CONTENTS:
        raise invalid("Reaction", "content")
    known = next((item for item in reactions if (item.author, item.content) == (USER, content)), None)
    if known is None:
        known = Reaction(next(call.state.ids), content, USER, now())
        reactions.append(known)
    return _shape(call, known)


def _shape(call: Call, reaction: Reaction) -> Any:
    return {
        "id": reaction.id,
        "node_id": node_id("Reaction", reaction.id),
        "user": github_shapes.user(call, reaction.author),
        "content": reaction.content,
        "created_at": reaction.created,
    }


def _permission(call: Call, login: str) -> Any:
    """Everybody may read a public repository; `maintain` counts as write and `triage` as read."""
    role = call.rules.roles.get(login, "read")
    if login not in {*call.rules.users, *call.rules.roles}:
        raise RefusedError(404, "Not Found")
    permission = {"maintain": "write", "triage": "read"}.get(role, role)
    levels = ("read", "triage", "write", "maintain", "admin")
    rights = zip(("pull", "triage", "push", "maintain", "admin"), levels, strict=True)
    may = {right: levels.index(level) <= levels.index(role) for right, level in rights}
    person = {**github_shapes.user(call, login), "permissions": may, "role_name": role}
    return {"permission": permission, "role_name": role, "user": person}


ROUTES = (
    Route("GET", "/issues/comments/<int:comment_id>/reactions", _EITHER, _list),
    Route("POST", "/issues/comments/<int:comment_id>/reactions", _EITHER, _react, 201, "write"),
    Route("GET", "/collaborators/<login>/permission", "metadata", _permission),
)
