"""Wait until a pull request is merged by whoever may: a person, a queue, or GitHub once its rules are met."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from pipeline.core import pull_request
from pipeline.core.deployment import Image, PullRequest
from pipeline.core.progress import Progress
from pipeline.errors import MergeTimedOut, PullRequestClosed, Unreachable
from pipeline.steps.propose_change import Proposal

_SHORTEST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0


class PullRequests(Protocol):
    """Pull requests of the GitOps repository."""

    def look(self, number: int) -> Proposal:
        """It as it is now; asking again costs nothing as long as nothing has changed."""


def await_merge(
    pulls: PullRequests,
    known: PullRequest,
    environment: str,
    images: Iterable[Image],
    timeout_seconds: float,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Proposal | None:
    """Wait until the pull request is merged; None when a newer deployment has taken its place.

    Raises PullRequestClosed, and MergeTimedOut after `timeout_seconds`.
    """
    wanted = {image.name: image.tag for image in images}
    started, pause, number = clock(), _SHORTEST_PAUSE_SECONDS, known.number or 0
    progress.say(f"Waiting for the merge of pull request #{number}: {known.url}")
    while True:
        left = timeout_seconds - (clock() - started)
        try:
            now = pulls.look(number)
        except Unreachable:
            if left <= 0:
                raise
        else:
            proposed = {image.name: image.tag for image in pull_request.images_of(now.body, environment)}
            others = {name for name, tag in proposed.items() if wanted.get(name, tag) != tag}
            if pull_request.is_superseded(now.body) or (now.head != known.head and others):
                progress.say(f"Pull request #{number} brings a newer change by now")
                return None
            if now.merge_commit:
                progress.say(f"Pull request #{number} is merged as {now.merge_commit[:7]}")
                return now
            if not now.is_open:
                raise PullRequestClosed(f"pull request #{number} was closed without being merged: {known.url}")
        if left <= 0:
            raise MergeTimedOut(f"pull request #{number} is not merged after {timeout_seconds:.0f} s: {known.url}")
        progress.show("merge", f"pull request #{number} is open, {left:.0f} s left")
        sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
