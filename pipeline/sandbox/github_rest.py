"""What the endpoints of the sandbox's GitHub share: the call they answer, refusals, ids and addresses.

Each module of endpoints has a table `ROUTES`; `pipeline.sandbox.github` puts the tables together.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from werkzeug.wrappers import Request

from pipeline.sandbox.github_git import BareRepository
from pipeline.sandbox.github_records import Rules, State

DOCS = "https://docs.github.com/rest"


LONGEST_BODY = 65_536
"""Characters of a comment or of a pull request's description."""


class RefusedError(Exception):
    """An error of the REST API."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        problems: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.problems = problems


class ProblemError(Exception):
    """An error of GraphQL, with GitHub's `type`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Hosted:
    """One repository as GitHub has it."""

    owner: str
    name: str
    repository: BareRepository
    state: State
    rules: Rules

    @property
    def slug(self) -> str:
        """`OWNER/NAME`."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class Call(Hosted):
    """One request to one repository, admitted and within the limits."""

    request: Request
    sent: Any
    """The body, parsed."""

    @property
    def body(self) -> Mapping[str, Any]:
        """The body, which must be an object."""
        if self.sent is not None and not isinstance(self.sent, dict):
            raise RefusedError(400, "Problems parsing JSON")
        return self.sent or {}

    @property
    def url(self) -> str:
        """The API's address of the repository."""
        return f"{self.request.host_url}api/v3/repos/{self.owner}/{self.name}"

    @property
    def page(self) -> str:
        """The page of the repository that people look at."""
        return f"{self.request.host_url}{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint below `/repos/{owner}/{repo}`."""

    method: str
    path: str
    """A rule of werkzeug's routing."""
    permission: str
    """What GitHub asks of the token: `contents`, `pull_requests`, ...; of `issues|pull_requests` one will do."""
    handler: Callable[..., Any]
    """Takes the call and the path's values; returns the answer."""
    status: int = 200
    level: Literal["read", "write"] = "read"


def error(status: int, message: str) -> Any:
    """The body of an error."""
    return {"message": message, "documentation_url": DOCS, "status": str(status)}


def invalid(resource: str, field: str, message: str | None = None, *, code: str | None = None) -> RefusedError:
    """The refusal of a value: https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api"""
    problem = {"resource": resource, "field": field, "code": code or ("custom" if message else "invalid")}
    return RefusedError(422, "Validation Failed", problems=[problem | ({"message": message} if message else {})])


def text(call: Call, resource: str, field: str, *, needed: bool = False) -> str | None:
    """A text of the body, None where it is not given; refuses one that is too long or of another type."""
    value = call.body.get(field)
    if value is None or (needed and not str(value).strip()):
        if needed:
            raise invalid(resource, field, code="missing_field")
        return None
    if not isinstance(value, str):
        raise invalid(resource, field)
    if len(value) > LONGEST_BODY:
        raise invalid(resource, field, f"{field} is too long (maximum is {LONGEST_BODY} characters)")
    return value


def paged(call: Call, items: Sequence[Any]) -> Sequence[Any]:
    """The part that `page` and `per_page` ask for, at most 100."""
    page, size = (call.request.args.get(name, usual, int) for name, usual in (("page", 1), ("per_page", 30)))
    size = max(1, min(100, size))
    return items[(max(1, page) - 1) * size :][:size]


def node_id(kind: str, oid: object) -> str:
    """An id of GraphQL."""
    return base64.b64encode(f"{kind}:{oid}".encode()).decode()


def named_by(kind: str, given: str) -> str:
    """What `node_id` was made of; raises ProblemError for an id of anything else."""
    try:
        found, _, oid = base64.b64decode(given, validate=True).decode().partition(":")
    except ValueError:
        found, oid = "", ""
    if found != kind:
        raise ProblemError("NOT_FOUND", f"Could not resolve to a node with the global id of '{given}'")
    return oid
