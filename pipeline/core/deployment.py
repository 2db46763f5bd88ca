"""The JSON contract: what every command prints, hands on with `--from`, and later records.

The dataclasses are the single source: `docs/reference/result.schema.json` is generated from them.
Keys that have nothing to say are left out of the JSON.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from pipeline.core.check import Check
from pipeline.core.lint.report import Lint
from pipeline.errors import Outcome

SCHEMA = "openeg-deploy/v1"

Kind = Literal["deploy", "rollback", "promote", "revert"]
RolloutOutcome = Literal[
    "deployed",
    "superseded",
    "failed",
    "sync_failed",
    "timed_out",
    "suspended",
    "unreachable",
    "denied",
    "not_found",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of a deployment. `name` is `images[].name`; `repository` says where it is stored."""

    name: str
    repository: str
    tag: str
    digest: str | None = None
    service: str | None = None
    previous: str | None = None
    """The tag that stood there before; None when there was none."""
    source: str | None = None
    """`URL@COMMIT` of the application repository."""

    @property
    def reference(self) -> str:
        """`repository:tag`, as a pod's spec names it."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedLine:
    """One changed value of the GitOps repository; `line` counts from 1 in the new file."""

    file: str
    line: int
    name: str
    old: str | None = None
    """None where nothing stood there."""
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """The pull request that carries a change. What a dry run would open has neither number nor URL yet."""

    number: int | None = None
    url: str | None = None
    state: Literal["open", "merged", "closed"] | None = None
    branch: str
    head: str | None = None
    """The commit that it brings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gitops:
    """What was published where. When nothing changed, `revision` is the head that was read.

    A change that waits in a pull request has no `revision` until it is merged.
    """

    repository: str
    branch: str | None = None
    """None for files that were edited without git."""
    revision: str | None = None
    changed: tuple[ChangedLine, ...] = ()
    pull_request: PullRequest | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a rollout failed, as a person would want to read it."""

    reason: str
    """The field's own word: `ImagePullBackOff`, `CrashLoopBackOff`, `ComparisonError`, `SyncFailed` …"""
    message: str
    resource: str | None = None
    """`Kind/name` of what is broken."""
    container: str | None = None
    logs: tuple[str, ...] = ()
    """The container's last lines, oldest first."""
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """How one Argo CD application ended."""

    name: str
    outcome: RolloutOutcome
    revision: str | None = None
    """The revision that Argo CD has synced."""
    health: str | None = None
    cause: Cause | None = None
    proof: str | None = None
    """What `deployed` rests on, in words: pods seen, or why none were expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How all applications of one wait ended."""

    applications: tuple[Application, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackMessage:
    """Where the one Slack message of a deployment stands; `ts` is None for an incoming webhook."""

    channel: str
    ts: str | None = None
    details: str | None = None
    """The `ts` of the one reply in its thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubDeployment:
    """What the page of an application's repository on GitHub shows of a deployment."""

    repository: str
    """`OWNER/NAME`."""
    commit: str
    id: int
    """GitHub's own."""
    state: str
    """The status that was written last: `queued`, `in_progress`, `success`, `failure`, `error` or `inactive`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """The notices that were written."""

    slack: SlackMessage | None = None
    github: tuple[GitHubDeployment, ...] = ()
    """One for each source repository and commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """The rollback that a failed deployment set off by itself."""

    outcome: Outcome
    images: tuple[Image, ...] = ()
    gitops: Gitops | None = None
    rollout: Rollout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDeployment:
    """One commit that changed image tags of an environment, as `history` tells it."""

    environment: str
    at: str
    """When it was committed: RFC 3339, UTC."""
    revision: str
    """The commit of the GitOps repository."""
    images: tuple[Image, ...]
    """Those whose tag it changed."""
    deployment_id: str | None = None
    """None for a commit that somebody made by hand."""
    kind: Kind | None = None
    outcome: Outcome | None = None
    """None where nothing is recorded of it."""
    cause: str | None = None
    """Why it failed."""
    actor: str | None = None
    run: str | None = None
    seconds: float | None = None
    """From the run's start to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What `init` has written, or with --dry-run would write."""

    folder: str
    files: tuple[str, ...] = ()
    """Paths in the folder, of what was not there or said something else."""
    commit: str | None = None
    """The new repository's first commit; None where none was made."""
    next: tuple[str, ...] = ()
    """The commands to run next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The release that `release` has made or found, or with --dry-run would make."""

    repository: str
    """`OWNER/NAME`."""
    version: str
    tag: str
    commit: str
    previous: str | None = None
    """The tag of the release before."""
    url: str | None = None
    notes: str | None = None
    """Markdown."""
    draft: bool = False
    prerelease: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """The comment that `comment` has written, or with --dry-run would write."""

    pull_request: int
    change: Literal["created", "updated", "unchanged", "planned"]
    url: str | None = None
    body: str | None = None
    """With --dry-run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The error that ended the command."""

    class_: str = field(metadata={"alias": "class"})
    """Name of the class in `pipeline.errors`."""
    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The one object that a command prints."""

    schema: str = SCHEMA
    command: str
    outcome: Outcome
    deployment_id: str | None = None
    environment: str | None = None
    images: tuple[Image, ...] = ()
    gitops: Gitops | None = None
    rollout: Rollout | None = None
    rollback: Rollback | None = None
    notices: Notices | None = None
    init: Created | None = None
    history: tuple[PastDeployment, ...] = ()
    """What `history` found, newest first."""
    release: Release | None = None
    check: Check | None = None
    """What `check` found."""
    lint: Lint | None = None
    """What `lint` found."""
    comment: Comment | None = None
    kind: Kind | None = None
    actor: str | None = None
    run: str | None = None
    started: str | None = None
    """RFC 3339, UTC."""
    finished: str | None = None
    error: Failure | None = None
    urls: dict[str, str] | None = None
    seconds: dict[str, float] | None = None
    """Seconds per stage: build, publish, wait, total."""


def to_json(value: object) -> Any:
    """Plain JSON values of a contract dataclass, without the keys that have nothing to say."""
    if is_dataclass(value):
        pairs = ((item.metadata.get("alias", item.name), getattr(value, item.name)) for item in fields(value))
        return {key: to_json(item) for key, item in pairs if item is not None and item != () and item != {}}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {to_json(key): to_json(item) for key, item in value.items()}
    if isinstance(value, str):
        return value.encode(errors="replace").decode()  # a surrogate, from bytes that are no text, is no JSON either
    return value


def changed_files(lines: Iterable[ChangedLine]) -> tuple[str, ...]:
    """The files that `lines` touch, each once, in order."""
    return tuple(dict.fromkeys(line.file for line in lines))
