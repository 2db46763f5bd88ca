"""Pushing one commit so that its fate is always known: it landed, somebody else was first, or the server said no."""

import time
from collections.abc import Callable
from typing import TypeVar

import tenacity

from pipeline.edges.git import Git, GitError, explain, explained
from pipeline.errors import Denied, NoSpaceLeft, NotFound, PipelineError, Unreachable

PAUSES = (0.2, 0.8)  # seconds between the tries of a push that was refused though nobody moved the branch
_TRIES_TO_SETTLE = 6

T = TypeVar("T")


def push_commit(
    git: Git,
    remote: str,
    ref: str,
    commit: str,
    *,
    name: str,
    expected: str | None,
    head_now: Callable[[], str | None],
    hooks: bool,
) -> str | None:
    """Push `commit` to `ref`, which must still be at `expected` (None: not exist yet).

    Whatever git says of a push that failed, the branch itself is asked what became of it: `head_now` gives its head
    as it is, with its history. Returns the commit, or None when somebody else has moved the branch. Raises what the
    server's refusal means; Unreachable when the server does not come back to tell.

    `name` is the repository's for messages; `hooks` whether the pre-push hook may have its say.
    """
    lease = f"--force-with-lease={ref}:{expected or ''}"
    options = ("--porcelain", "--no-follow-tags", "--recurse-submodules=no", "--verify" if hooks else "--no-verify")
    pauses = iter(PAUSES)

    def ask() -> str | None:
        with explained(name):
            return head_now()

    while True:
        refusal = _refusal(git, name, "push", *options, lease, remote, f"{commit}:{ref}")
        if refusal is None:
            return commit
        now = settled(ask, refusal, f"commit {commit} arrived")
        if now and git.try_line("merge-base", "--is-ancestor", commit, now) is not None:
            return commit
        if now != expected:
            return None
        pause = next(pauses, None)
        if pause is None or isinstance(refusal, Denied | NotFound | NoSpaceLeft):
            raise refusal
        time.sleep(pause)


def require_writable(git: Git, remote: str, ref: str, commit: str, *, name: str) -> None:
    """Raise what keeps us from pushing to `ref`, which is at `commit`; nothing is sent.

    The server says whether it lets us write before it is sent anything.
    """
    refusal = _refusal(git, name, "push", "--dry-run", "--porcelain", "--no-verify", remote, f"{commit}:{ref}")
    if isinstance(refusal, Denied | NotFound | Unreachable):  # anything else is of git's own: the branch has moved on
        raise refusal


def _refusal(git: Git, name: str, *push: str) -> PipelineError | None:
    try:
        git.run(*push)
    except GitError as error:
        return explain(error, name)
    except Unreachable as error:
        return error
    return None


def settled(ask: Callable[[], T], refusal: PipelineError, arrived: str) -> T:
    """What `ask` tells of the branch after a push that failed; asked until the server answers.

    Raises Unreachable, which says that it is not known whether it `arrived`, when it does not.
    """
    asking = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unreachable),
        wait=tenacity.wait_exponential_jitter(multiplier=0.3, max=5),
        stop=tenacity.stop_after_attempt(_TRIES_TO_SETTLE),
    )
    try:
        return asking(ask)
    except tenacity.RetryError:
        raise Unreachable(
            f"{refusal}; whether {arrived} is not known",
            remedy="Run again when the server answers: if the commit arrived, nothing is done twice.",
        ) from None
