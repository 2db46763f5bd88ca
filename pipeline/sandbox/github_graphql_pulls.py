"""Pull requests, auto-merge and merge queues in GraphQL.

Who asks for what cannot be done gets `UNPROCESSABLE`; the words are those that clients of GitHub have published.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline.sandbox import github_merging
from pipeline.sandbox.github_objects import Json, commit, connection, person
from pipeline.sandbox.github_pulls import pull_id
from pipeline.sandbox.github_records import USER, AutoMerge, PullRequest, now
from pipeline.sandbox.github_rest import Hosted, ProblemError, node_id


class _Require(Protocol):
    def __call__(self, permission: str, /, *levels: str) -> None: ...


class PullRequests:
    """What one token may see and do of pull requests."""

    def __init__(self, named: Callable[[str, str], tuple[Hosted, str]], require: _Require, host_url: str) -> None:
        """`named` finds what a node's id of some kind names; `require` raises ProblemError for who may not."""
        self._named = named
        self._require = require
        self._host_url = host_url

    def fields(self, hosted: Hosted) -> Json:
        """What a repository tells of them."""
        settings = hosted.rules.settings
        return {
            "autoMergeAllowed": settings["allow_auto_merge"],
            "mergeCommitAllowed": settings["allow_merge_commit"],
            "squashMergeAllowed": settings["allow_squash_merge"],
            "rebaseMergeAllowed": settings["allow_rebase_merge"],
            "pullRequest": functools.partial(self._one, hosted),
            "pullRequests": functools.partial(self._list, hosted),
            "mergeQueue": functools.partial(self._queue, hosted),
        }

    def mutations(self) -> Json:
        """What can be done with them, by name."""
        return {
            "convertPullRequestToDraft": functools.partial(self._draft, draft=True),
            "markPullRequestReadyForReview": functools.partial(self._draft, draft=False),
            "enablePullRequestAutoMerge": self._enable,
            "disablePullRequestAutoMerge": self._disable,
            "enqueuePullRequest": self._enqueue,
            "dequeuePullRequest": self._dequeue,
        }

    def of_commit(self, hosted: Hosted, oid: str) -> Json:
        """What a commit tells of them."""

        def bringing(_: Any, first: int | None = None) -> Json:
            self._require("pull_requests", "read", "write")
            found = github_merging.bringing(hosted, oid)
            return connection("associatedPullRequests", [self._shape(hosted, pull) for pull in found], first)

        return {"associatedPullRequests": bringing}

    def _one(self, hosted: Hosted, _: Any, number: int) -> Json:
        self._require("pull_requests", "read", "write")
        if number not in hosted.state.pulls:
            raise ProblemError("NOT_FOUND", f"Could not resolve to a PullRequest with the number of {number}.")
        return self._shape(hosted, hosted.state.pulls[number])

    def _list(
        self,
        hosted: Hosted,
        _: Any,
        first: int | None = None,
        states: list[str] | None = None,
        baseRefName: str | None = None,  # noqa: N803
        headRefName: str | None = None,  # noqa: N803
    ) -> Json:
        self._require("pull_requests", "read", "write")
        found = [
            pull
            for pull in hosted.state.pulls.values()
            if baseRefName in {None, pull.base}
            and headRefName in {None, pull.head}
            and (states is None or _state(pull) in states)
        ]
        return connection("pullRequests", [self._shape(hosted, pull) for pull in found], first)

    def _shape(self, hosted: Hosted, pull: PullRequest) -> Json:
        status = functools.cache(lambda: github_merging.seen_status(hosted, pull))
        merged = {"unknown": "UNKNOWN", "dirty": "CONFLICTING"}
        return {
            "id": pull_id(hosted, pull.number),
            "number": pull.number,
            "url": f"{self._host_url}{hosted.slug}/pull/{pull.number}",
            "title": pull.title,
            "body": pull.body or "",
            "author": person(pull.author),
            "state": _state(pull),
            "closed": pull.state == "closed",
            "merged": pull.merged,
            "isDraft": pull.draft,
            "baseRefName": pull.base,
            "baseRefOid": pull.base_oid,
            "headRefName": pull.head,
            "headRefOid": pull.head_oid,
            "mergeable": lambda _: merged.get(status(), "MERGEABLE"),
            "mergeStateStatus": lambda _: status().upper(),
            "mergeCommit": commit(hosted.repository, pull.merge_commit) if pull.merge_commit else None,
            "reviewDecision": _decision(hosted, pull),
            "autoMergeRequest": _auto_merge(pull),
            "isMergeQueueEnabled": pull.base in hosted.rules.queues,
            "isInMergeQueue": pull.number in hosted.state.queue,
            "mergeQueueEntry": lambda _: self._entry(hosted, pull),
            "labels": lambda _, first=None: connection("labels", [{"name": name} for name in pull.labels], first),
            "commits": functools.partial(_commits, hosted, pull),
        }

    def _queue(self, hosted: Hosted, _: Any, branch: str | None = None) -> Json | None:
        self._require("pull_requests", "read", "write")
        branch = branch or hosted.repository.default_branch() or ""
        if branch not in hosted.rules.queues:
            return None
        waiting = [pull for pull in map(hosted.state.pulls.__getitem__, hosted.state.queue) if pull.base == branch]
        return {
            "id": node_id("MergeQueue", f"{hosted.slug}/{branch}"),
            "url": f"{self._host_url}{hosted.slug}/queue/{branch}",
            "configuration": {"mergeMethod": hosted.rules.queues[branch].upper()},
            "entries": lambda _, first=None: connection(
                "entries", [self._entry(hosted, pull) or {} for pull in waiting], first
            ),
        }

    def _entry(self, hosted: Hosted, pull: PullRequest) -> Json | None:
        since = hosted.state.queue.get(pull.number)
        if since is None:
            return None
        return {
            "id": node_id("MergeQueueEntry", f"{hosted.slug}/{pull.number}"),
            "enqueuedAt": since,
            "position": list(hosted.state.queue).index(pull.number) + 1,
            "state": "QUEUED",
            "pullRequest": lambda _: self._shape(hosted, pull),
        }

    def _open(self, input: Mapping[str, Any], *, merges: bool) -> tuple[Hosted, PullRequest]:  # noqa: A002
        """The open pull request that a mutation names."""
        hosted, number = self._named("PullRequest", input["pullRequestId"])
        self._require("pull_requests", "write")
        if merges:
            self._require("contents", "write")
        pull = hosted.state.pulls[int(number)]
        if pull.state == "closed":
            raise ProblemError("UNPROCESSABLE", "Pull request is closed")
        if input.get("expectedHeadOid") not in {None, pull.head_oid}:
            raise ProblemError("UNPROCESSABLE", "Head branch was modified. Review and try the merge again.")
        return hosted, pull

    def _answer(self, input: Mapping[str, Any], hosted: Hosted, pull: PullRequest) -> Json:  # noqa: A002
        return {"clientMutationId": input.get("clientMutationId"), "pullRequest": self._shape(hosted, pull)}

    def _draft(self, _: Any, input: Mapping[str, Any], *, draft: bool) -> Json:  # noqa: A002
        hosted, pull = self._open(input, merges=False)
        pull.draft, pull.updated = draft, now()
        return self._answer(input, hosted, pull)

    def _enable(self, _: Any, input: Mapping[str, Any]) -> Json:  # noqa: A002
        hosted, pull = self._open(input, merges=True)
        method = input["mergeMethod"].lower()
        if not hosted.rules.settings["allow_auto_merge"]:
            raise ProblemError("UNPROCESSABLE", "Pull request Auto merge is not allowed for this repository")
        if pull.base not in hosted.rules.protected:
            raise ProblemError("UNPROCESSABLE", "Pull request Protected branch rules not configured for this branch")
        if refused := github_merging.forbidden(hosted, method):
            raise ProblemError("UNPROCESSABLE", refused)
        status = github_merging.status(hosted, pull)
        if status != "blocked":
            raise ProblemError("UNPROCESSABLE", f"Pull request Pull request is in {status} status")
        pull.auto_merge = AutoMerge(method, input.get("commitHeadline"), input.get("commitBody"))
        return self._answer(input, hosted, pull)

    def _disable(self, _: Any, input: Mapping[str, Any]) -> Json:  # noqa: A002
        hosted, pull = self._open(input, merges=True)
        pull.auto_merge = None
        return self._answer(input, hosted, pull)

    def _enqueue(self, _: Any, input: Mapping[str, Any]) -> Json:  # noqa: A002
        hosted, pull = self._open(input, merges=True)
        if pull.base not in hosted.rules.queues:
            raise ProblemError("UNPROCESSABLE", f"The merge queue is not enabled for {pull.base}")
        if pull.number in hosted.state.queue:
            raise ProblemError("UNPROCESSABLE", "Pull request is already in the queue")
        if (status := github_merging.status(hosted, pull)) != "clean":
            raise ProblemError("UNPROCESSABLE", f"Pull request is in {status} status")
        hosted.state.queue[pull.number] = now()
        return {"clientMutationId": input.get("clientMutationId"), "mergeQueueEntry": self._entry(hosted, pull)}

    def _dequeue(self, _: Any, input: Mapping[str, Any]) -> Json:  # noqa: A002
        hosted, pull = self._open({"pullRequestId": input["id"]}, merges=True)
        entry = self._entry(hosted, pull)
        hosted.state.queue.pop(pull.number, None)
        return {"clientMutationId": input.get("clientMutationId"), "mergeQueueEntry": entry}


def _state(pull: PullRequest) -> str:
    return "MERGED" if pull.merged else pull.state.upper()


def _decision(hosted: Hosted, pull: PullRequest) -> str | None:
    if pull.base not in hosted.rules.protected or not hosted.rules.approvals:
        return None
    return "APPROVED" if len(pull.approvals) >= hosted.rules.approvals else "REVIEW_REQUIRED"


def _auto_merge(pull: PullRequest) -> Json | None:
    wanted = pull.auto_merge
    if wanted is None:
        return None
    return {
        "mergeMethod": wanted.method.upper(),
        "commitHeadline": wanted.title,
        "commitBody": wanted.message,
        "enabledAt": wanted.enabled,
        "enabledBy": person(USER),
    }


def _commits(hosted: Hosted, pull: PullRequest, _: Any, first: int | None = None, last: int | None = None) -> Json:
    found = [{"commit": commit(hosted.repository, item.oid)} for item in github_merging.commits(hosted, pull)]
    return connection("commits", found, first, last)
