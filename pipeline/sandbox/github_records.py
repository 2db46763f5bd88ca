"""What the sandbox's GitHub keeps beside git: pull requests, comments, labels; and the rules that tests set."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

USER = "sandbox"
"""Whom the token belongs to."""
Method = Literal["merge", "squash", "rebase"]


def now() -> str:
    """The moment as GitHub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class AutoMerge:
    """What is to be done as soon as nothing blocks a pull request."""

    method: Method
    title: str | None = None
    message: str | None = None
    enabled: str = field(default_factory=now)


@dataclass(slots=True)
class PullRequest:
    """One pull request. Of an open one, git says where head and base are; of a closed one, these fields keep it."""

    number: int
    id: int
    title: str
    body: str | None
    head: str
    """The branch."""
    base: str
    head_oid: str
    base_oid: str
    draft: bool = False
    author: str = USER
    state: Literal["open", "closed"] = "open"
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)
    closed: str | None = None
    merge_commit: str | None = None
    """Where it was merged."""
    labels: list[str] = field(default_factory=list)
    reviewers: list[str] = field(default_factory=list)
    """Who has been asked."""
    teams: list[str] = field(default_factory=list)
    approvals: set[str] = field(default_factory=set)
    """Who approved it; tests add to it."""
    auto_merge: AutoMerge | None = None
    judged: tuple[str, str] | None = None
    """The head and base for which somebody has asked already whether they merge: GitHub answers the second time."""
    trial: str | None = None
    """The commit that showed it; `merge_commit_sha` of a pull request that is not merged."""

    @property
    def merged(self) -> bool:
        """Whether it ended by a merge."""
        return self.merge_commit is not None


@dataclass(slots=True)
class Reaction:
    """A reaction to a comment."""

    id: int
    content: str
    author: str
    created: str


@dataclass(slots=True)
class Comment:
    """A comment on an issue or pull request."""

    id: int
    issue: int
    body: str
    author: str = USER
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)
    reactions: list[Reaction] = field(default_factory=list)


@dataclass(slots=True)
class State:
    """What GitHub keeps of one repository beside git."""

    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Issues and pull requests are numbered together."""
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    pulls: dict[int, PullRequest] = field(default_factory=dict)
    queue: dict[int, str] = field(default_factory=dict)
    """The pull requests in merge queues, in order, and since when."""
    comments: dict[int, Comment] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    """The id of each label."""


@dataclass(slots=True)
class Rules:
    """What holds for every repository here; tests set it."""

    protected: set[str]
    """Branches that take changes through pull requests only."""
    approvals: int = 0
    """How many a pull request to a protected branch needs."""
    checks: Literal["success", "pending", "failure"] = "success"
    """How the checks that protected branches require stand, for all pull requests."""
    queues: dict[str, Method] = field(default_factory=dict)
    """Protected branches with a merge queue, and how it merges."""
    users: set[str] = field(default_factory=lambda: {USER, "octocat"})
    """Who may review."""
    teams: set[str] = field(default_factory=set)
    """The same, by slug."""
    roles: dict[str, str] = field(default_factory=lambda: {USER: "write"})
    """`admin`, `maintain`, `write`, `triage` or `read`, by login; of all others `users` may read."""
    settings: dict[str, Any] = field(
        default_factory=lambda: {
            "allow_auto_merge": False,
            "allow_merge_commit": True,
            "allow_squash_merge": True,
            "allow_rebase_merge": True,
            "delete_branch_on_merge": False,
            "squash_merge_commit_title": "COMMIT_OR_PR_TITLE",
            "squash_merge_commit_message": "COMMIT_MESSAGES",
            "merge_commit_title": "MERGE_MESSAGE",
            "merge_commit_message": "PR_TITLE",
        }
    )
    """Of the repositories, by the names of the REST API; here with the defaults that GitHub gives to a new one."""
