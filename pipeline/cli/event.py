"""The event that GitHub Actions runs us for, read as data: only the fields that we use, each of the right type."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import UsageError

_LONGEST = 8 * 1024 * 1024
"""Bytes. A comment and a description have 65,536 characters each, and each of these at most twelve bytes in JSON."""
_REMEDY = "Let the workflow run `on: issue_comment`, or name the pull request with --pr."


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class User(_Part):
    """Who wrote a comment."""

    login: str = Field(max_length=100, pattern=r"^[A-Za-z0-9_-]+(\[bot\])?$")
    type: str = "User"


class Comment(_Part):
    """A comment on an issue or a pull request."""

    id: int = Field(gt=0)
    body: str | None = None
    user: User | None = None
    """None for an account that is gone."""


class Issue(_Part):
    """An issue; a pull request is one too."""

    number: int = Field(gt=0)
    pull_request: dict[str, Any] | None = None
    """None for a plain issue."""


class IssueComment(_Part):
    """https://docs.github.com/webhooks/webhook-events-and-payloads#issue_comment"""

    action: str
    issue: Issue
    comment: Comment


class PullRequest(_Part):
    """A pull request."""

    number: int = Field(gt=0)


class PullRequestEvent(_Part):
    """https://docs.github.com/webhooks/webhook-events-and-payloads#pull_request"""

    pull_request: PullRequest


_Event = TypeVar("_Event", bound=_Part)


def issue_comment(environ: Mapping[str, str]) -> IssueComment | None:
    """The comment that was written; None for any other event. Raises UsageError."""
    return _read(IssueComment, environ) if environ.get("GITHUB_EVENT_NAME") == "issue_comment" else None


def pull_request(environ: Mapping[str, str]) -> int | None:
    """The number of the pull request that the event is about; None for any other event. Raises UsageError."""
    if not environ.get("GITHUB_EVENT_NAME", "").startswith("pull_request"):
        return None
    return _read(PullRequestEvent, environ).pull_request.number


def _read(model: type[_Event], environ: Mapping[str, str]) -> _Event:
    path = environ.get("GITHUB_EVENT_PATH")
    if not path:
        raise UsageError("GITHUB_EVENT_PATH is not set, so there is no event to read", remedy=_REMEDY)
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise UsageError(f"GITHUB_EVENT_PATH: {path}: {error.strerror}", remedy=_REMEDY) from error
    if len(data) > _LONGEST:
        raise UsageError(f"GITHUB_EVENT_PATH: {path}: longer than any event of GitHub's", remedy=_REMEDY)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, item['loc'])) or 'the event'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        )
        raise UsageError(f"GITHUB_EVENT_PATH: {path}: {'; '.join(problems)}", remedy=_REMEDY) from error
