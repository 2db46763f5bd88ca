"""What the REST endpoints of the sandbox's GitHub share: the call they answer, refusals, ids and addresses.

Each module of endpoints has a table `ROUTES`; `pipeline.sandbox.github` puts the tables together.
"""

import base64
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from werkzeug.wrappers import Request

from pipeline.sandbox.github_git import BareRepository

if TYPE_CHECKING:
    from pipeline.sandbox.github_deployments import Kept

DOCS = "https://docs.github.com/rest"


class RefusedError(Exception):
    """An error of the REST API."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


@dataclass(slots=True)
class State:
    """What GitHub keeps of one repository beside git."""

    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Issues and pull requests are numbered together."""
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    deployments: "dict[int, Kept]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one repository, admitted and within the limits."""

    request: Request
    sent: Any
    """The body, parsed."""
    owner: str
    name: str
    repository: BareRepository
    state: State

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
    """What GitHub asks of the token: `contents`, `pull_requests`, ..."""
    handler: Callable[..., Any]
    """Takes the call and the path's values; returns the answer."""
    status: int = 200
    level: Literal["read", "write"] = "read"


def error(status: int, message: str) -> Any:
    """The body of an error."""
    return {"message": message, "documentation_url": DOCS, "status": str(status)}


def node_id(kind: str, oid: object) -> str:
    """An id of GraphQL."""
    return base64.b64encode(f"{kind}:{oid}".encode()).decode()
