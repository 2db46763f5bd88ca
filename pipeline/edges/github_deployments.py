"""The deployments of a repository on GitHub, by its REST API: https://docs.github.com/rest/deployments"""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.core.links import over_https
from pipeline.core.secret import Secret
from pipeline.core.wording import web_url
from pipeline.edges.github import Access, Api, Slug, slug
from pipeline.steps.write_deployment import Shown, Status

_WRITE = "deployments: write"
_PRODUCTION = {"production", "prod", "live"}
_TRANSIENT = "preview"


class Deployments:
    """The deployments of one repository, as far as they are ours: their payload has our deployment's id."""

    def __init__(self, where: Slug, token: Secret, access: Access) -> None:
        self.name = str(where)
        self._api = Api(where.api_url, token, access, variable="GITHUB_TOKEN")
        self._path = f"/repos/{where}/deployments"

    def may_write(self) -> bool | None:
        """Whether the token may make one; None where only making one would tell."""
        return self._api.may_write(self._path, _WRITE)

    def recent(self, environment: str) -> Sequence[Shown]:
        """Our deployments to an environment among its last hundred, newest first."""
        answer = self._api.get(self._path, permission=_WRITE, environment=environment, per_page="100")
        found = ((item, _payload(item)) for item in answer)
        return [
            Shown(
                id=item["id"],
                commit=item["sha"],
                deployment_id=str(payload["deployment_id"]),
                images=frozenset(map(str, payload.get("images") or ())),
            )
            for item, payload in found
            if "deployment_id" in payload
        ]

    def create(self, environment: str, commit: str, deployment_id: str, images: Sequence[str], task: str) -> int:
        """Make a deployment. Nothing is merged, and no check is waited for: both is settled before."""
        first = environment.partition("-")[0]
        answer = self._api.send(
            "POST",
            self._path,
            {
                "ref": commit,
                "task": task,
                "auto_merge": False,
                "required_contexts": [],
                "payload": {"deployment_id": deployment_id, "images": list(images)},
                "environment": environment,
                "description": f"{task} of {', '.join(images)}"[:140],
                "production_environment": first in _PRODUCTION,
                "transient_environment": first == _TRANSIENT,
            },
            permission=_WRITE,
        )
        return int(answer["id"])

    def state(self, deployment: int) -> str | None:
        """The state of the newest status."""
        answer = self._api.get(f"{self._path}/{deployment}/statuses", permission=_WRITE, per_page="1")
        return str(answer[0]["state"]) if answer else None

    def tell(self, deployment: int, status: Status) -> None:
        """Add a status; GitHub takes addresses of the web only."""
        body: dict[str, Any] = {
            "state": status.state,
            "description": status.description,
            "auto_inactive": False,
            "environment_url": web_url(status.environment_url),
            "log_url": web_url(status.log_url),
        }
        given = {name: value for name, value in body.items() if value is not None}
        self._api.send("POST", f"{self._path}/{deployment}/statuses", given, permission=_WRITE)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()


def connect(source: str, token: Secret, access: Access) -> Deployments | None:
    """The deployments of the repository at a URL; None when that is not on GitHub.

    Raises ModuleNotFoundError when PyGithub is not installed.
    """
    where = slug(over_https(source), access.api_url)
    return Deployments(where, token, access) if where else None


def _payload(deployment: Any) -> dict[str, Any]:
    """GitHub gives a payload back as it was sent: an object, or text."""
    payload = deployment.get("payload")
    if isinstance(payload, str):
        try:
            payload = json.loads(payload)
        except ValueError:
            return {}
    return payload if isinstance(payload, dict) else {}
