"""Deployments and their statuses on the sandbox's GitHub.

What the contract does not say is from https://docs.github.com/rest/deployments: newest come first, a ref that is not
there and a description of over 140 characters are refused with 422, and what `auto_inactive` does.
"""

from datetime import UTC, datetime
from typing import Any

from pipeline.sandbox import github_shapes
from pipeline.sandbox.github_records import USER, Kept
from pipeline.sandbox.github_rest import Call, RefusedError, Route, node_id, paged

Json = dict[str, Any]
_LONGEST_DESCRIPTION = 140


def _create(call: Call) -> Json:
    sent = call.sent
    found = call.repository.resolve(f"{sent['ref']}^{{commit}}")
    if found is None:
        raise RefusedError(422, f"No ref found for: {sent['ref']}")
    _require_short(sent.get("description"))
    if sent.get("required_contexts") is None:  # the sandbox has no checks that could be green
        raise RefusedError(409, "Conflict: Commit status checks failed for " + sent["ref"])
    number = next(call.state.ids)
    environment = sent.get("environment", "production")
    url = f"{call.url}/deployments/{number}"
    shown = {
        "url": url,
        "id": number,
        "node_id": node_id("Deployment", number),
        "sha": found[1],
        "ref": sent["ref"],
        "task": sent.get("task", "deploy"),
        "payload": sent.get("payload", ""),
        "original_environment": environment,
        "environment": environment,
        "description": sent.get("description"),
        "creator": github_shapes.user(call, USER),
        "created_at": _now(),
        "updated_at": _now(),
        "statuses_url": f"{url}/statuses",
        "repository_url": call.url,
        "transient_environment": sent.get("transient_environment", False),
        "production_environment": sent.get("production_environment", environment == "production"),
    }
    call.state.deployments[number] = Kept(shown)
    return shown


def _list(call: Call) -> Any:
    asked = {name: value for name, value in call.request.args.items() if name in {"sha", "ref", "task", "environment"}}
    newest = [kept.shown for kept in reversed(call.state.deployments.values())]
    return paged(call, [item for item in newest if all(item[name] == value for name, value in asked.items())])


def _statuses(call: Call, number: int) -> Any:
    return paged(call, _find(call, number).statuses[::-1])


def _tell(call: Call, number: int) -> Json:
    kept, sent = _find(call, number), call.sent
    _require_short(sent.get("description"))
    if sent["state"] == "success" and sent.get("auto_inactive", True):
        for other in call.state.deployments.values():
            if _gives_way(other, kept):
                _add(call, other, {"state": "inactive"})
    return _add(call, kept, sent)


def _gives_way(other: Kept, kept: Kept) -> bool:
    shown = other.shown
    lasting = not (shown["transient_environment"] or shown["production_environment"])
    succeeded = bool(other.statuses) and other.statuses[-1]["state"] == "success"
    return other is not kept and lasting and succeeded and shown["environment"] == kept.shown["environment"]


def _add(call: Call, kept: Kept, sent: Json) -> Json:
    number, url = next(call.state.ids), kept.shown["url"]
    status = {
        "url": f"{url}/statuses/{number}",
        "id": number,
        "node_id": node_id("DeploymentStatus", number),
        "state": sent["state"],
        "creator": github_shapes.user(call, USER),
        "description": sent.get("description", ""),
        "environment": sent.get("environment", kept.shown["environment"]),
        "target_url": sent.get("log_url", ""),
        "created_at": _now(),
        "updated_at": _now(),
        "deployment_url": url,
        "repository_url": call.url,
        "environment_url": sent.get("environment_url", ""),
        "log_url": sent.get("log_url", ""),
    }
    kept.statuses.append(status)
    return status


def _find(call: Call, number: int) -> Kept:
    kept = call.state.deployments.get(number)
    if kept is None:
        raise RefusedError(404, "Not Found")
    return kept


def _require_short(description: str | None) -> None:
    if len(description or "") > _LONGEST_DESCRIPTION:
        raise RefusedError(422, "Validation Failed: description is too long (maximum is 140 characters)")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


ROUTES = (
    Route("GET", "/deployments", "deployments", _list),
    Route("POST", "/deployments", "deployments", _create, 201, "write"),
    Route("GET", "/deployments/<int:number>/statuses", "deployments", _statuses),
    Route("POST", "/deployments/<int:number>/statuses", "deployments", _tell, 201, "write"),
)
