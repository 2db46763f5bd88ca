"""record_outcome: write how a deployment ended to the branch `deploy-records` of the GitOps repository.

A record never fails a deployment: what goes wrong becomes a warning.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import tenacity

from pipeline.core import record
from pipeline.core.deployment import Deployment
from pipeline.core.progress import Progress
from pipeline.errors import BranchMovedTooOften, BranchNotFound, PipelineError
from pipeline.steps.publish_change import Head

_DEADLINE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 3.0


class RecordBranch(Protocol):
    """The branch that keeps the records."""

    def read(self, paths: Sequence[str]) -> Head:
        """The head as it is now, with what `paths` lead to. Raises BranchNotFound while there is no such branch."""

    def publish(self, head: Head, files: Mapping[str, bytes], message: str) -> str | None:
        """Commit onto `head`: the new revision, or None when the head has moved."""

    def begin(self, files: Mapping[str, bytes], message: str) -> str | None:
        """Commit to a branch of no commits: the revision, or None when somebody else has begun it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where a record stands."""

    path: str
    revision: str


def record_outcome(
    branch: RecordBranch,
    deployment: Deployment,
    parse: Callable[[bytes], Deployment | None],
    progress: Progress,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Recorded | None:
    """Write the record, among any number of other writers; None where there is nothing to write, or it cannot be.

    `deployment` has an id and an environment; `parse` reads a record, and gives None for what is none.
    Raises nothing that the branch may raise.
    """
    path = record.path(deployment.environment or "", deployment.deployment_id or "")
    writing = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BranchMovedTooOften),
        wait=tenacity.wait_random_exponential(multiplier=0.3, max=_LONGEST_PAUSE_SECONDS),
        stop=tenacity.stop_after_delay(_DEADLINE_SECONDS),
        reraise=True,
        sleep=sleep,
    )
    try:
        revision: str | None = writing(_write, branch, path, deployment, parse)
    except PipelineError as error:
        progress.say(f"warning: The outcome was not recorded: {error}. {error.remedy}")
        return None
    return Recorded(path, revision) if revision else None


def _write(
    branch: RecordBranch, path: str, deployment: Deployment, parse: Callable[[bytes], Deployment | None]
) -> str | None:
    try:
        head = branch.read([path])
    except BranchNotFound:
        head = None
    before = parse(head.files[path]) if head and path in head.files else None
    outcome = record.renewed(before, deployment)
    if outcome is None:
        return None
    files = {path: record.dump(outcome)}
    message = f"record({deployment.environment}): {outcome.outcome} {deployment.deployment_id}\n"
    revision = branch.publish(head, files, message) if head else branch.begin(files, message)
    if revision is None:
        raise BranchMovedTooOften(f"the branch {record.BRANCH} moved at each attempt")
    return revision
