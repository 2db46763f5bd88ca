"""GitHub's API on loopback, as far as publishing uses it: bare repositories on disk are what it shows and changes.

`/api/v3/` is REST and `/api/graphql` GraphQL, as on a GitHub Enterprise Server. The answers have the shapes of GitHub's
OpenAPI description and GraphQL schema; what these do not say (messages of errors, headers of limits and permissions)
follows GitHub's documentation: https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api
"""

import base64
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
from pipeline.sandbox.github_git import BareRepository, Commit
from pipeline.sandbox.github_graphql import Api
from pipeline.sandbox.github_limits import Limits, Meter

OWNER = "git"
"""The owner of every repository: so that `HOST/git/NAME.git`, where the sandbox serves git, is an address of GitHub."""
_REPOSITORY = "/api/v3/repos/<owner>/<name>"
_ROUTES = Map(
    [
        Rule("/api/graphql", endpoint="graphql", methods=["POST"]),
        Rule(f"{_REPOSITORY}/git/blobs/<sha>", endpoint="blob", methods=["GET"]),
        Rule(f"{_REPOSITORY}/compare/<path:basehead>", endpoint="compare", methods=["GET"]),
    ],
    merge_slashes=False,
)
_DOCS = "https://docs.github.com/rest"
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


class _RefusedError(Exception):
    """An error of the REST API."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class GitHub:
    """The WSGI application. Tests read `exchanges`, and change `permissions`, `protected`, `limits` and `outages`."""

    def __init__(self, root: Path, token: Secret) -> None:
        """The repositories are the folders `NAME.git` in `root`."""
        self.exchanges: list[Exchange] = []
        self.permissions: dict[str, str] = {"contents": "write"}
        """What the token may do: `write` or `read`, by permission."""
        self.protected: set[str] = set()
        """Branches that take changes through pull requests only."""
        self.outages: list[Literal["before", "after"]] = []
        """Each makes one mutation be answered with 502, before or after it is carried out."""
        self.limits = Limits()
        self._root = root
        self._token = token
        self._meters = {name: Meter(self.limits, name) for name in ("core", "graphql")}
        self._open: dict[str, BareRepository] = {}
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
        response = Response(json.dumps(answer), status, mimetype="application/json")
        response.headers.update({**meter.headers, **headers})
        return response(environ, start_response)

    def close(self) -> None:
        """End the git processes."""
        for repository in self._open.values():
            repository.close()

    def _answer(self, request: Request, sent: Any, meter: Meter) -> tuple[int, Any, Mapping[str, str]]:
        try:
            endpoint, values = _ROUTES.bind_to_environ(request.environ).match()
            self._admit(request)
            if endpoint == "graphql":
                return 200, self._graphql(sent, meter), {}
            return 200, self._rest(request, endpoint, dict(values), meter), {}
        except _RefusedError as refusal:
            return refusal.status, _error(refusal.status, str(refusal)), refusal.headers
        except HTTPException as error:
            return error.code or 500, _error(error.code or 500, error.name), {}

    def _admit(self, request: Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in {"token", "bearer"}:
            raise _RefusedError(401, "Requires authentication")
        if token != self._token.reveal():
            raise _RefusedError(401, "Bad credentials")

    def _rest(self, request: Request, endpoint: str, values: dict[str, str], meter: Meter) -> Any:
        if not meter.primary():
            raise _RefusedError(403, _TOO_MANY)
        repository = self._readable(values.pop("owner"), values.pop("name"))
        answers: Mapping[str, Callable[..., Any]] = {"blob": _blob, "compare": _compare}
        return answers[endpoint](repository, request, **values)

    def _graphql(self, sent: Any, meter: Meter) -> Any:
        if not meter.primary():  # https://docs.github.com/graphql/overview/rate-limits-and-query-limits
            return {"errors": [{"type": "RATE_LIMITED", "message": _TOO_MANY}]}
        if not isinstance(sent, dict) or not isinstance(sent.get("query"), str):
            raise _RefusedError(400, "Problems parsing JSON")
        if _is_mutation(sent) and (wait := meter.retry_after()) is not None:
            raise _RefusedError(403, _TOO_FAST, {"Retry-After": str(max(1, math.ceil(wait)))})
        outage = self.outages.pop(0) if self.outages and _is_mutation(sent) else None
        if outage == "before":
            raise BadGateway
        api = Api(self._find, self.permissions.get("contents"), frozenset(self.protected))
        answer = api.execute(sent["query"], sent.get("variables"))
        if outage == "after":
            raise BadGateway
        return answer

    def _find(self, owner: str, name: str) -> BareRepository | None:
        folder = self._root / f"{name}.git"
        if owner != OWNER or folder.parent != self._root or not folder.is_dir():
            return None
        return self._open.setdefault(name, BareRepository(folder))

    def _readable(self, owner: str, name: str) -> BareRepository:
        repository = self._find(owner, name)
        if repository is None:
            raise _RefusedError(404, "Not Found")
        if "contents" not in self.permissions:
            accepted = {"X-Accepted-GitHub-Permissions": "contents=read"}
            raise _RefusedError(403, "Resource not accessible by personal access token", accepted)
        return repository


def _is_mutation(sent: Any) -> bool:
    return bool(sent["query"].lstrip().startswith("mutation"))


def _error(status: int, message: str) -> Any:
    return {"message": message, "documentation_url": _DOCS, "status": str(status)}


def _node_id(kind: str, oid: str) -> str:
    return base64.b64encode(f"{kind}:{oid}".encode()).decode()


def _blob(repository: BareRepository, request: Request, sha: str) -> Any:
    found = repository.resolve(sha) if len(sha) == 40 else None
    if found is None or found[0] != "blob":
        raise _RefusedError(404, "Not Found")
    data = repository.read(found[1])
    return {
        "sha": sha,
        "node_id": _node_id("Blob", sha),
        "size": len(data),
        "url": request.base_url,
        "content": base64.encodebytes(data).decode(),
        "encoding": "base64",
    }


def _compare(repository: BareRepository, request: Request, basehead: str) -> Any:
    """Two commits compared. The files that differ are on GitHub's first page only, and left out here."""
    names = basehead.split("...")
    found = [repository.resolve(f"{name}^{{commit}}") for name in names]
    if len(names) != 2 or None in found:
        raise _RefusedError(404, "Not Found")
    base, head = (item[1] for item in found if item)
    common, ahead, behind = repository.between(base, head)
    if common is None:
        raise _RefusedError(404, f"No common ancestor between {names[0]} and {names[1]}.")
    page, size = (request.args.get(name, usual, int) for name, usual in (("page", 1), ("per_page", 100)))
    url = request.base_url.partition("/compare/")[0]
    status = ("diverged" if behind else "ahead") if ahead else ("behind" if behind else "identical")
    page_url = f"{url.replace('/api/v3/repos/', '/')}/compare/{basehead}"
    return {
        "url": request.base_url,
        "html_url": page_url,
        "permalink_url": page_url,
        "diff_url": f"{page_url}.diff",
        "patch_url": f"{page_url}.patch",
        "base_commit": _commit(repository.commit(base), url),
        "merge_base_commit": _commit(repository.commit(common), url),
        "status": status,
        "ahead_by": len(ahead),
        "behind_by": behind,
        "total_commits": len(ahead),
        "commits": [_commit(repository.commit(oid), url) for oid in ahead[(page - 1) * size : page * size]],
    }


def _commit(commit: Commit, url: str) -> Any:
    def person(who: tuple[str, str, str]) -> Any:
        return dict(zip(("name", "email", "date"), who, strict=True))

    return {
        "sha": commit.oid,
        "node_id": _node_id("Commit", commit.oid),
        "url": f"{url}/commits/{commit.oid}",
        "html_url": f"{url.replace('/api/v3/repos/', '/')}/commit/{commit.oid}",
        "comments_url": f"{url}/commits/{commit.oid}/comments",
        "author": None,
        "committer": None,
        "parents": [{"sha": oid, "url": f"{url}/commits/{oid}"} for oid in commit.parents],
        "commit": {
            "url": f"{url}/git/commits/{commit.oid}",
            "author": person(commit.author),
            "committer": person(commit.committer),
            "message": commit.message,
            "comment_count": 0,
            "tree": {"sha": commit.tree, "url": f"{url}/git/trees/{commit.tree}"},
        },
    }
