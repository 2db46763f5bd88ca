"""GitHub's API on loopback, as far as publishing uses it: bare repositories on disk are what it shows and changes.

`/api/v3/` is REST and `/api/graphql` GraphQL, as on a GitHub Enterprise Server. The answers have the shapes of GitHub's
OpenAPI description and GraphQL schema; what these do not say (messages of errors, headers of limits and permissions)
follows GitHub's documentation: https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api
"""

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import BadGateway, HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from pipeline.core.secret import Secret
from pipeline.sandbox import (
    github_apps,
    github_contents,
    github_deployments,
    github_issues,
    github_merging,
    github_pulls,
    github_reactions,
    github_refs,
    github_releases,
)
from pipeline.sandbox.github_apps import Apps, Rights
from pipeline.sandbox.github_git import BareRepository
from pipeline.sandbox.github_graphql import Api
from pipeline.sandbox.github_limits import Limits, Meter
from pipeline.sandbox.github_records import Rules, State
from pipeline.sandbox.github_rest import Call, Hosted, RefusedError, Route, error

OWNER = "git"
"""The owner of every repository: so that `HOST/git/NAME.git`, where the sandbox serves git, is an address of GitHub."""
_REST = (
    *github_contents.ROUTES,
    *github_deployments.ROUTES,
    *github_issues.ROUTES,
    *github_pulls.ROUTES,
    *github_reactions.ROUTES,
    *github_refs.ROUTES,
    *github_releases.ROUTES,
)
_ROUTES = Map(
    [
        Rule("/api/graphql", endpoint="graphql", methods=["POST"]),
        *(
            Rule(f"/api/v3{path}", endpoint=name, methods=[method])
            for name, (method, path) in github_apps.ENDPOINTS.items()
        ),
        *(Rule(f"/api/v3/repos/<owner>/<name>{route.path}", endpoint=route, methods=[route.method]) for route in _REST),
    ],
    merge_slashes=False,
)
_SIGN_ON = (
    "Resource protected by organization SAML enforcement. "
    "You must grant your Personal Access token access to this organization."
)
_TOO_MANY = "API rate limit exceeded for user ID 1."
_TOO_FAST = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, for tests to hold against the contracts."""

    method: str
    path: str
    """With its query, from `/api/` on."""
    sent: Any
    """The body, parsed."""
    status: int
    answer: Any


class GitHub:
    """The WSGI application. Tests read `exchanges`, and change the other attributes."""

    def __init__(self, root: Path, token: Secret) -> None:
        """The repositories are the folders `NAME.git` in `root`."""
        self.exchanges: list[Exchange] = []
        self.permissions = {
            "metadata": "read",
            **dict.fromkeys(("contents", "deployments", "issues", "pull_requests"), "write"),
        }
        """What the token may do: `write` or `read`, by permission."""
        self.protected: set[str] = set()
        """Branches that take changes through pull requests only."""
        self.rules = Rules(self.protected)
        self.outages: list[Literal["before", "after"]] = []
        """Each makes one mutation be answered with 502, before or after it is carried out."""
        self.sign_on: str | None = None
        """Where a token is to be authorized for the organization's single sign-on; None when it need not be."""
        self.renamed: dict[str, str] = {}
        """The new names of repositories, by the old ones."""
        self.scopes: str | None = None
        """Those of a classic token, `repo, workflow`; None for a token of another kind."""
        self.private = False
        """Whether git wants a token too, also for reading."""
        self.limits = Limits()
        self.apps = Apps(lambda owner, name: self.find(owner, name) is not None)
        self._root = root
        self._token = token
        writes: list[float] = []
        self._meters = {name: Meter(self.limits, name, writes) for name in ("core", "graphql")}
        self._open: dict[str, BareRepository] = {}
        self._states: dict[str, State] = {}
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = Request(environ)
        meter = self._meters["graphql" if request.path == "/api/graphql" else "core"]
        sent = request.get_json(silent=True)
        with self._lock:
            status, answer, headers = self._answer(request, sent, meter)
            path = request.full_path.rstrip("?")
            self.exchanges.append(Exchange(request.method, path, sent, status, answer))
        body = "" if status in {204, 304} else json.dumps(answer)
        response = Response(body, status, mimetype="application/json")
        response.headers.update({**meter.headers, **self.apps.headers, **headers})
        if self.scopes is not None:
            response.headers["X-OAuth-Scopes"] = self.scopes
        return response(environ, start_response)

    def close(self) -> None:
        """End the git processes."""
        for repository in self._open.values():
            repository.close()

    def run_queue(self, name: str) -> list[str]:
        """Let the merge queues of a repository merge what is in them: the commits that their branches got."""
        with self._lock:
            hosted = self.find(OWNER, name)
            return github_merging.run_queue(hosted) if hosted else []

    def _answer(self, request: Request, sent: Any, meter: Meter) -> tuple[int, Any, Mapping[str, str]]:
        try:
            endpoint, values = _ROUTES.bind_to_environ(request.environ).match()
            if endpoint in github_apps.ENDPOINTS:
                return (*self.apps.answer(endpoint, request, sent, **values), {})
            rights = self._admit(request)
            if self.sign_on:
                return self._want_sign_on(endpoint == "graphql")
            if endpoint == "graphql":
                return 200, self._graphql(request, sent, rights, meter), {}
            answer = self._rest(request, sent, endpoint, dict(values), rights, meter)
            return _as_known(request, answer, meter) if request.method == "GET" else (endpoint.status, answer, {})
        except RefusedError as refusal:
            problems = {"errors": refusal.problems} if refusal.problems else {}
            return refusal.status, {**error(refusal.status, str(refusal)), **problems}, refusal.headers
        except HTTPException as failure:
            return failure.code or 500, error(failure.code or 500, failure.name), {}

    def rights(self, token: str) -> Rights | None:
        """What a token may do; None for one that is not valid."""
        return Rights(self.permissions) if token == self._token.reveal() else self.apps.rights(token)

    def admits(self, token: str, name: str, writes: bool) -> int:
        """The status that git over HTTP answers a token with."""
        if not self.private:
            return 200
        rights = self.rights(token)
        if rights is None:
            return 401
        if rights.repositories is not None and name not in rights.repositories:
            return 404
        return 200 if rights.permissions.get("contents") in {"write", None if writes else "read"} else 403

    def _admit(self, request: Request) -> Rights:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in {"token", "bearer"}:
            raise RefusedError(401, "Requires authentication")
        rights = self.rights(token)
        if rights is None:
            raise RefusedError(401, "Bad credentials")
        return rights

    def _want_sign_on(self, graphql: bool) -> tuple[int, Any, Mapping[str, str]]:
        """https://docs.github.com/rest/authentication/authenticating-to-the-rest-api says what REST answers.

        GraphQL has the same header, and its errors a type: as GitHub's own client, `gh`, reads them.
        """
        headers = {"X-GitHub-SSO": f"required; url={self.sign_on}"}
        if graphql:
            return 200, {"data": {"repository": None}, "errors": [{"type": "FORBIDDEN", "message": _SIGN_ON}]}, headers
        return 403, error(403, _SIGN_ON), headers

    def _rest(
        self, request: Request, sent: Any, route: Route, values: dict[str, str], rights: Rights, meter: Meter
    ) -> Any:
        if not meter.primary():
            raise RefusedError(403, _TOO_MANY)
        owner, name = values.pop("owner"), values.pop("name")
        if name in self.renamed:
            # https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
            new = request.url.replace(f"/{owner}/{name}/", f"/{owner}/{self.renamed[name]}/", 1)
            raise RefusedError(301, "Moved Permanently", {"Location": new})
        hosted = self._seen(rights)(owner, name)
        if hosted is None:
            raise RefusedError(404, "Not Found")
        kinds = route.permission.split("|")
        if not any(rights.permissions.get(kind) in {route.level, "write"} for kind in kinds):
            accepted = "; ".join(f"{kind}={route.level}" for kind in kinds)
            who = "personal access token" if rights.repositories is None else "integration"
            refused = f"Resource not accessible by {who}"
            raise RefusedError(403, refused, {"X-Accepted-GitHub-Permissions": accepted})
        if route.method != "GET" and (wait := meter.retry_after()) is not None:
            raise RefusedError(403, _TOO_FAST, {"Retry-After": str(max(1, math.ceil(wait)))})
        call = Call(hosted.owner, hosted.name, hosted.repository, hosted.state, hosted.rules, request, sent)
        return route.handler(call, **values)

    def _graphql(self, request: Request, sent: Any, rights: Rights, meter: Meter) -> Any:
        if not meter.primary():  # https://docs.github.com/graphql/overview/rate-limits-and-query-limits
            return {"errors": [{"type": "RATE_LIMITED", "message": _TOO_MANY}]}
        if not isinstance(sent, dict) or not isinstance(sent.get("query"), str):
            raise RefusedError(400, "Problems parsing JSON")
        if _is_mutation(sent) and (wait := meter.retry_after()) is not None:
            raise RefusedError(403, _TOO_FAST, {"Retry-After": str(max(1, math.ceil(wait)))})
        outage = self.outages.pop(0) if self.outages and _is_mutation(sent) else None
        if outage == "before":
            raise BadGateway
        api = Api(self._seen(rights), rights.permissions, request.host_url, self.renamed)
        answer = api.execute(sent["query"], sent.get("variables"))
        if outage == "after":
            raise BadGateway
        return answer

    def _seen(self, rights: Rights) -> Callable[[str, str], Hosted | None]:
        """Finds the repositories that a token sees."""
        seen = rights.repositories
        return lambda owner, name: self.find(owner, name) if seen is None or name in seen else None

    def find(self, owner: str, name: str) -> Hosted | None:
        """A repository as git has it now; tests look behind the API there, or act as somebody else."""
        folder = self._root / f"{name}.git"
        if owner != OWNER or folder.parent != self._root or not folder.is_dir():
            return None
        repository = self._open.setdefault(name, BareRepository(folder))
        hosted = Hosted(owner, name, repository, self._states.setdefault(name, State()), self.rules)
        github_merging.follow(hosted)
        return hosted


def _as_known(request: Request, answer: Any, meter: Meter) -> tuple[int, Any, Mapping[str, str]]:
    """The answer, or 304 for who has it already."""
    tag = hashlib.sha256(json.dumps(answer).encode()).hexdigest()
    headers = {"ETag": f'W/"{tag}"'}
    if not request.if_none_match.contains_weak(tag):
        return 200, answer, headers
    meter.forget()
    return 304, None, headers


def _is_mutation(sent: Any) -> bool:
    return bool(sent["query"].lstrip().startswith("mutation"))
