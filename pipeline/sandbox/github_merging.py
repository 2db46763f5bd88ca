"""How pull requests of the sandbox's GitHub follow their branches, and how they are merged.

https://docs.github.com/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request
"""

import contextlib
from typing import Literal

from pipeline.sandbox.github_git import ZERO, Commit
from pipeline.sandbox.github_records import USER, Method, PullRequest, now
from pipeline.sandbox.github_rest import Hosted

_CHANGED = "Head branch was modified. Review and try the merge again."
_BASE_CHANGED = "Base branch was modified. Review and try the merge again."
_NOT_MERGEABLE = "Pull Request is not mergeable"
_KINDS: dict[Method, tuple[str, str]] = {
    "merge": ("allow_merge_commit", "Merge commits"),
    "squash": ("allow_squash_merge", "Squash merges"),
    "rebase": ("allow_rebase_merge", "Rebase merges"),
}


class NotMergedError(Exception):
    """A pull request cannot be merged; `moved` when a branch is not where it was thought to be."""

    def __init__(self, message: str, *, moved: bool = False) -> None:
        super().__init__(message)
        self.moved = moved


def follow(hosted: Hosted) -> None:
    """Let the open pull requests see what has become of their branches, and merge those that only waited for it."""
    for pull in hosted.state.pulls.values():
        if pull.state == "open":
            _follow(hosted, pull)
        if pull.state == "open" and pull.auto_merge and status(hosted, pull) == "clean":
            wanted = pull.auto_merge
            if pull.base in hosted.rules.queues:
                pull.auto_merge = None
                hosted.state.queue[pull.number] = now()
            else:
                merge(hosted, pull, wanted.method, wanted.title, wanted.message)


def _follow(hosted: Hosted, pull: PullRequest) -> None:
    repository = hosted.repository
    head, base = repository.head(pull.head), repository.head(pull.base)
    if (head, base) == (pull.head_oid, pull.base_oid):
        return
    if base is not None and repository.contains(base, pull.head_oid):
        close(hosted, pull, base)  # somebody pushed its commits to the base
    elif head is None or base is None or repository.contains(base, head):
        close(hosted, pull)
    else:
        if head != pull.head_oid:
            hosted.state.queue.pop(pull.number, None)
            pull.updated = now()
        pull.head_oid, pull.base_oid = head, base


def close(hosted: Hosted, pull: PullRequest, merge_commit: str | None = None) -> None:
    """End a pull request, merged or not."""
    pull.state, pull.merge_commit, pull.auto_merge = "closed", merge_commit, None
    pull.closed = pull.updated = now()
    hosted.state.queue.pop(pull.number, None)


def status(hosted: Hosted, pull: PullRequest) -> Literal["clean", "blocked", "dirty", "draft", "unstable"]:
    """What stands against merging, in the REST API's words."""
    if hosted.repository.merged(pull.base_oid, pull.head_oid) is None:
        return "dirty"
    if pull.draft:
        return "draft"
    if obstacle(hosted, pull):
        return "blocked"
    return "clean" if hosted.rules.checks == "success" else "unstable"


def seen_status(hosted: Hosted, pull: PullRequest) -> str:
    """`status` as GitHub tells it: it is found in the background, so that who asks first learns `unknown`.

    https://docs.github.com/rest/guides/using-the-rest-api-to-interact-with-your-git-database
    """
    if pull.state == "closed":
        return "unknown"
    ends = (pull.head_oid, pull.base_oid)
    if pull.judged != ends:
        pull.judged, pull.trial = ends, None
        return "unknown"
    tree = hosted.repository.merged(pull.base_oid, pull.head_oid)
    if tree and pull.trial is None:
        text = f"Merge {pull.head_oid} into {pull.base_oid}"
        pull.trial = hosted.repository.make(tree, (pull.base_oid, pull.head_oid), text)
    return status(hosted, pull)


def obstacle(hosted: Hosted, pull: PullRequest) -> str | None:
    """What the rules of the base branch still ask for."""
    rules = hosted.rules
    if pull.base not in rules.protected:
        return None
    if len(pull.approvals) < rules.approvals:
        return f"At least {rules.approvals} approving review is required by reviewers with write access."
    return None if rules.checks == "success" else 'Required status check "ci" is expected.'


def forbidden(hosted: Hosted, method: Method) -> str | None:
    """What to say where the repository does not merge in this way."""
    setting, kind = _KINDS[method]
    return None if hosted.rules.settings[setting] else f"{kind} are not allowed on this repository."


def merge_now(
    hosted: Hosted,
    pull: PullRequest,
    method: Method,
    *,
    expected: str | None = None,
    title: str | None = None,
    message: str | None = None,
) -> str:
    """Merge where a person may: the commit that the base is at then. Raises NotMergedError."""
    if pull.state == "closed":
        raise NotMergedError(_NOT_MERGEABLE)
    if expected not in {None, pull.head_oid}:
        raise NotMergedError(_CHANGED, moved=True)
    if pull.draft:
        raise NotMergedError("Pull Request is still a draft")
    if refused := forbidden(hosted, method):
        raise NotMergedError(refused)
    if pull.base in hosted.rules.queues:
        raise NotMergedError("Changes must be made through the merge queue")
    if problem := obstacle(hosted, pull):
        raise NotMergedError(problem)
    return merge(hosted, pull, method, title, message)


def run_queue(hosted: Hosted) -> list[str]:
    """Let the merge queues work off what is in them: the commits that the bases got.

    A pull request that its required checks or a conflict hold up leaves the queue and stays open, as on GitHub.
    """
    made = []
    for pull in [hosted.state.pulls[number] for number in hosted.state.queue]:
        if obstacle(hosted, pull) is None:
            with contextlib.suppress(NotMergedError):
                made.append(merge(hosted, pull, hosted.rules.queues[pull.base]))
        hosted.state.queue.pop(pull.number, None)
    return made


def merge(
    hosted: Hosted, pull: PullRequest, method: Method, title: str | None = None, message: str | None = None
) -> str:
    """Merge, whatever the rules say."""
    repository, base = hosted.repository, hosted.repository.head(pull.base) or ZERO
    if method == "rebase":
        made = repository.replayed(base, pull.head_oid)
    else:
        tree = repository.merged(base, pull.head_oid)
        usual = (_squash_text if method == "squash" else _merge_text)(hosted, pull)
        chosen = [given if given is not None else text for given, text in zip((title, message), usual, strict=True)]
        parents = (base,) if method == "squash" else (base, pull.head_oid)
        made = repository.make(tree, parents, "\n\n".join(filter(None, chosen))) if tree else None
    if made is None:
        raise NotMergedError(_NOT_MERGEABLE)
    if not repository.move([(f"refs/heads/{pull.base}", made, base)]):
        raise NotMergedError(_BASE_CHANGED, moved=True)
    pull.base_oid = base
    close(hosted, pull, made)
    if hosted.rules.settings["delete_branch_on_merge"]:
        repository.move([(f"refs/heads/{pull.head}", ZERO, None)])
    return made


def commits(hosted: Hosted, pull: PullRequest) -> list[Commit]:
    """The commits that the head has more than the base, oldest first."""
    return [hosted.repository.commit(oid) for oid in hosted.repository.between(pull.base_oid, pull.head_oid)[1]]


def bringing(hosted: Hosted, oid: str) -> list[PullRequest]:
    """The pull requests that have a commit, or became it."""
    return [
        pull
        for pull in hosted.state.pulls.values()
        if pull.merge_commit == oid or oid in {commit.oid for commit in commits(hosted, pull)}
    ]


def _merge_text(hosted: Hosted, pull: PullRequest) -> tuple[str, str]:
    settings = hosted.rules.settings
    titles = {
        "MERGE_MESSAGE": f"Merge pull request #{pull.number} from {hosted.owner}/{pull.head}",
        "PR_TITLE": _numbered(pull.title, pull),
    }
    messages = {"PR_TITLE": pull.title, "PR_BODY": pull.body or "", "BLANK": ""}
    return titles[settings["merge_commit_title"]], messages[settings["merge_commit_message"]]


def _squash_text(hosted: Hosted, pull: PullRequest) -> tuple[str, str]:
    """Several commits become a list, where the trailers of each are in the middle of the text."""
    settings, squashed = hosted.rules.settings, commits(hosted, pull)
    alone = squashed[0].message if len(squashed) == 1 else None
    first, _, rest = (alone or "").partition("\n")
    titles = {"COMMIT_OR_PR_TITLE": first or pull.title, "PR_TITLE": pull.title}
    listed = "\n\n".join(f"* {commit.message}" for commit in squashed)
    messages = {
        "COMMIT_MESSAGES": listed if alone is None else rest.strip("\n"),
        "PR_BODY": pull.body or "",
        "BLANK": "",
    }
    people = dict.fromkeys(commit.author[:2] for commit in squashed if commit.author[0] != USER)
    credits_ = "\n".join(f"Co-authored-by: {name} <{mail}>" for name, mail in people)
    message = messages[settings["squash_merge_commit_message"]]
    between = "\n\n---------\n\n" if alone is None else "\n\n"
    title = titles[settings["squash_merge_commit_title"]]
    return _numbered(title, pull), between.join(filter(None, (message, credits_)))


def _numbered(title: str, pull: PullRequest) -> str:
    return f"{title} (#{pull.number})"
