"""GitHub's API on loopback, as far as publishing uses it: bare repositories on disk are what it shows and changes.

`/api/v3/` is REST and `/api/graphql` GraphQL, as on a GitHub Enterprise Server. The answers have the shapes of GitHub's
OpenAPI description and GraphQL schema; what these do not say (messages of errors, headers of limits and permissions)
follows GitHub's documentation: https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api
"""

import hashlib
import json
import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import BadGateway, HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from pipeline.core.secret import Secret
from pipeline.sandbox import github_contents, github_issues, github_merging, github_pulls, github_reactions, github_refs
from pipeline.sandbox.github_git import BareRepository
from pipeline.sandbox.github_graphql import Api
from pipeline.sandbox.github_limits import Limits, Meter
from pipeline.sandbox.github_records import Rules, State
from pipeline.sandbox.github_rest import Call, Hosted, RefusedError, Route, error

OWNER = "git"
"""The owner of every repository: so that `HOST/git/NAME.git`, where the sandbox serves git, is an address of GitHub."""
_REST = (
    *github_contents.ROUTES,
    *github_issues.ROUTES,
    *github_pulls.ROUTES,
    *github_reactions.ROUTES,
    *github_refs.ROUTES,
)
_ROUTES = Map(
    [
        Rule("/api/graphql", endpoint="graphql", methods=["POST"]),
        *(Rule(f"/api/v3/repos/<owner>/<name>{route.path}", endpoint=route, methods=[route.method]) for route in _REST),
    ],
    merge_slashes=False,
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
    """The WSGI application. Tests read `exchanges`, and change `permissions`, `rules`, `limits` and `outages`."""

    def __init__(self, root: Path, token: Secret) -> None:
        """The repositories are the folders `NAME.git` in `root`."""
        self.exchanges: list[Exchange] = []
        self.permissions = {"metadata": "read", "contents": "write", "issues": "write", "pull_requests": "write"}
        """What the token may do: `write` or `read`, by permission."""
        self.protected: set[str] = set()
        """Branches that take changes through pull requests only."""
        self.rules = Rules(self.protected)
        self.outages: list[Literal["before", "after"]] = []
        """Each makes one mutation be answered with 502, before or after it is carried out."""
        self.limits = Limits()
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
        response.headers.update({**meter.headers, **headers})
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
            self._admit(request)
            if endpoint == "graphql":
                return 200, self._graphql(request, sent, meter), {}
            answer = self._rest(request, sent, endpoint, dict(values), meter)
            return _as_known(request, answer, meter) if request.method == "GET" else (endpoint.status, answer, {})
        except RefusedError as refusal:
            problems = {"errors": refusal.problems} if refusal.problems else {}
            return refusal.status, {**error(refusal.status, str(refusal)), **problems}, refusal.headers
        except HTTPException as failure:
            return failure.code or 500, error(failure.code or 500, failure.name), {}

    def _admit(self, request: Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in {"token", "bearer"}:
            raise RefusedError(401, "Requires authentication")
        if token != self._token.reveal():
            raise RefusedError(401, "Bad credentials")

    def _rest(self, request: Request, sent: Any, route: Route, values: dict[str, str], meter: Meter) -> Any:
        if not meter.primary():
            raise RefusedError(403, _TOO_MANY)
        hosted = self.find(values.pop("owner"), values.pop("name"))
        if hosted is None:
            raise RefusedError(404, "Not Found")
        kinds = route.permission.split("|")
        if not any(self.permissions.get(kind) in {route.level, "write"} for kind in kinds):
            accepted = "; ".join(f"{kind}={route.level}" for kind in kinds)
            refused = "Resource not accessible by personal access token"
            raise RefusedError(403, refused, {"X-Accepted-GitHub-Permissions": accepted})
        if route.method != "GET" and (wait := meter.retry_after()) is not None:
            raise RefusedError(403, _TOO_FAST, {"Retry-After": str(max(1, math.ceil(wait)))})
        call = Call(hosted.owner, hosted.name, hosted.repository, hosted.state, hosted.rules, request, sent)
        return route.handler(call, **values)

    def _graphql(self, request: Request, sent: Any, meter: Meter) -> Any:
        if not meter.primary():  # https://docs.github.com/graphql/overview/rate-limits-and-query-limits
            return {"errors": [{"type": "RATE_LIMITED", "message": _TOO_MANY}]}
        if not isinstance(sent, dict) or not isinstance(sent.get("query"), str):
            raise RefusedError(400, "Problems parsing JSON")
        if _is_mutation(sent) and (wait := meter.retry_after()) is not None:
            raise RefusedError(403, _TOO_FAST, {"Retry-After": str(max(1, math.ceil(wait)))})
        outage = self.outages.pop(0) if self.outages and _is_mutation(sent) else None
        if outage == "before":
            raise BadGateway
        api = Api(self.find, self.permissions, request.host_url)
        answer = api.execute(sent["query"], sent.get("variables"))
        if outage == "after":
            raise BadGateway
        return answer

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
