"""Pull requests of the GitOps repository on GitHub, and the branches that they come from.

A branch is never set back to its base, or GitHub would close the pull request: the new commit is made on a scratch
branch, and the branch is moved there in one step, together with the scratch branch's end.
"""

import contextlib
import itertools
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pipeline.core import pull_request
from pipeline.edges.github import PAGE, Api, Slug, StaleHeadError, plain
from pipeline.edges.github_repository import commit
from pipeline.errors import BranchIsProtected, CommitRefused, PipelineError, PullRequestBlocked, Unreachable
from pipeline.steps.propose_change import BranchCommit, Options, Proposal, Tip

_PERMISSION = "pull_requests: write"
_SCRATCH = "deploy-scratch/"
_NOBODY = "0" * 40
_TRIES = 5
_PAUSE_SECONDS = 0.5
_METHODS = (("squashMergeAllowed", "SQUASH"), ("mergeCommitAllowed", "MERGE"), ("rebaseMergeAllowed", "REBASE"))
"""A squash first: it is one commit of our message, and fits a branch that asks for a linear history."""
_MERGEABLE = {"CLEAN", "HAS_HOOKS", "UNSTABLE"}

_REF = """query($owner: String!, $name: String!, $branch: String!) {
  repository(owner: $owner, name: $name) { id ref(qualifiedName: $branch) { target { oid } } }
}"""
_UPDATE = "mutation($input: UpdateRefsInput!) { updateRefs(input: $input) { clientMutationId } }"
_RULES = """query($owner: String!, $name: String!, $branch: String!, $number: Int!) {
  repository(owner: $owner, name: $name) {
    autoMergeAllowed mergeCommitAllowed squashMergeAllowed rebaseMergeAllowed
    mergeQueue(branch: $branch) { id }
    pullRequest(number: $number) {
      id merged headRefOid isInMergeQueue mergeStateStatus autoMergeRequest { commitHeadline commitBody }
    }
  }
}"""
_ENQUEUE = """mutation($input: EnqueuePullRequestInput!) {
  enqueuePullRequest(input: $input) { clientMutationId }
}"""
_AUTO_MERGE = """mutation($input: EnablePullRequestAutoMergeInput!) {
  enablePullRequestAutoMerge(input: $input) { clientMutationId }
}"""

_NO_AUTO_MERGE = """mutation($input: DisablePullRequestAutoMergeInput!) {
  disablePullRequestAutoMerge(input: $input) { clientMutationId }
}"""


class GitHubPullRequests:
    """The pull requests of one repository. Whatever they ask raises GitDenied, RateLimited and Unreachable."""

    def __init__(
        self,
        api: Api,
        where: Slug,
        say: Callable[[str], None],
        files: Callable[[str, Collection[str]], Mapping[str, bytes]],
    ) -> None:
        """`files` reads what stands at paths in a commit."""
        self._api = api
        self._where = where
        self._say = say
        self._path = f"/repos/{where}"
        self._seen: dict[int, tuple[str | None, Proposal]] = {}
        self._id = ""
        self.files = files

    def may_write(self) -> bool | None:
        """Whether the token may open one; None where only opening one would tell."""
        return self._api.may_write(f"{self._path}/pulls", _PERMISSION)

    def open_ones(self, base: str) -> tuple[Proposal, ...]:
        """Those onto `base` that come from the repository itself: a fork may name its branches as it likes."""
        found = self._api.all(f"{self._path}/pulls", permission="pull_requests: read", state="open", base=base)
        ours = str(self._where).lower()
        return tuple(
            _proposal(item) for item in found if ((item["head"]["repo"] or {}).get("full_name") or "").lower() == ours
        )

    def tip(self, branch: str, base: str) -> Tip | None:
        """A branch over the commit `base`; None where there is none."""
        oid = self._head(branch)
        if oid is None:
            return None
        commits: list[Any] = []
        total = 1
        while len(commits) < total:
            page = str(1 + len(commits) // PAGE)
            compared = self._api.get(f"{self._path}/compare/{base}...{oid}", per_page=str(PAGE), page=page)
            commits += compared["commits"]
            total = compared["total_commits"] if compared["commits"] else 0
        return Tip(oid, tuple(map(_commit, commits)))

    def push(self, branch: str, before: str | None, base: str, files: Mapping[str, bytes], message: str) -> str | None:
        """Have `branch` point to a new commit with `files` on `base`; None when it is not at `before` any more.

        Whatever goes wrong, the scratch branch does not stay, and the branch is asked what became of it.
        """
        scratch, made = f"{_SCRATCH}{secrets.token_hex(8)}", None
        try:
            self._move((scratch, base, None))
            made = commit(self._api, self._where, scratch, base, files, message)
            self._move((branch, made, before or _NOBODY), (scratch, _NOBODY, made))
        except (PipelineError, StaleHeadError) as error:
            self._drop(scratch)
            now = self._head(branch)
            if now and now == made:
                return made
            if now != before:
                return None
            if isinstance(error, StaleHeadError):
                raise CommitRefused(f"{self._where}: {branch}: {error}") from None
            raise
        except BaseException:
            self._drop(scratch)
            raise
        return made

    def write(
        self, known: Proposal | None, branch: str, base: str, title: str, body: str, options: Options
    ) -> Proposal:
        """Open the pull request, or bring `known` up to date; what is as it should be is left alone."""
        if known is None:
            wanted = {"title": title, "body": body, "head": branch, "base": base, "draft": options.draft}
            known = _proposal(self._send("POST", "/pulls", wanted))
        elif (known.title, plain(known.body)) != (title, plain(body)):
            known = _proposal(self._send("PATCH", f"/pulls/{known.number}", {"title": title, "body": body}))
        else:
            known = _proposal(self._api.get(f"{self._path}/pulls/{known.number}", permission=_PERMISSION))
        present = {label.lower() for label in known.labels}
        if missing := [label for label in options.labels if label.lower() not in present]:
            self._send("POST", f"/issues/{known.number}/labels", {"labels": missing})
        return known

    def ask_reviewers(self, proposal: Proposal, reviewers: Sequence[str]) -> None:
        """Ask those who are not asked yet. Whom GitHub does not take is told: the pull request is there already."""
        asked = {name.lower() for name in proposal.reviewers}
        missing = [name for name in reviewers if name.rpartition("/")[2].lower() not in asked]
        if not missing:
            return
        wanted = {
            "reviewers": [name for name in missing if "/" not in name],
            "team_reviewers": [name.rpartition("/")[2] for name in missing if "/" in name],
        }
        try:
            self._send("POST", f"/pulls/{proposal.number}/requested_reviewers", wanted)
        except CommitRefused as error:
            self._say(f"warning: {', '.join(missing)} cannot be asked to review #{proposal.number}: {error}")

    def close(self, proposal: Proposal, comment: str) -> None:
        """Close it with a comment and delete its branch, unless that has moved meanwhile."""
        self._send("POST", f"/issues/{proposal.number}/comments", {"body": comment})
        ended = {"state": "closed", "body": pull_request.superseded(proposal.body)}
        self._send("PATCH", f"/pulls/{proposal.number}", ended)
        with contextlib.suppress(StaleHeadError, CommitRefused):
            self._move((proposal.branch, _NOBODY, proposal.head))

    def merge(self, proposal: Proposal, base: str, message: str) -> str:
        """Have it merged as the rules allow: what was done, in words.

        Where the branch has a merge queue, into the queue; what cannot be merged yet is by auto-merge; else at once.
        Raises PullRequestBlocked.
        """
        told = f"pull request #{proposal.number}"
        for attempt in itertools.count(1):
            rules = self._rules(proposal, base)
            now = rules["pullRequest"]
            if now["merged"]:
                return f"{told.capitalize()} is merged"
            if now["isInMergeQueue"]:
                return f"{told.capitalize()} is in the merge queue already"
            try:
                return self._merge(proposal, message, rules).format(told.capitalize())
            except (Unreachable, CommitRefused, BranchIsProtected, StaleHeadError) as error:
                if attempt == _TRIES and isinstance(error, Unreachable):
                    raise
                if attempt == _TRIES or now["headRefOid"] != proposal.head:
                    raise PullRequestBlocked(f"{told} is not merged: {error}: {proposal.url}") from None
            time.sleep(_PAUSE_SECONDS * attempt)
        raise AssertionError  # not reached

    def look(self, number: int) -> Proposal:
        """It as it is now. What has not changed since the last look costs nothing of the rate limit."""
        tag, known = self._seen.get(number, (None, None))
        path = f"{self._path}/pulls/{number}"
        tag, answer = self._api.get_if_changed(path, tag, permission="pull_requests: read")
        found = _proposal(answer) if answer or known is None else known
        self._seen[number] = tag, found
        return found

    def _rules(self, proposal: Proposal, base: str) -> Any:
        """What the repository allows, and how the pull request stands; GitHub finds that out in the background."""
        variables = {"owner": self._where.owner, "name": self._where.name, "branch": base, "number": proposal.number}
        for attempt in range(_TRIES):
            found = self._api.graphql(_RULES, variables, permission=_PERMISSION)["repository"]
            if found["pullRequest"]["merged"] or found["pullRequest"]["mergeStateStatus"] != "UNKNOWN":
                break
            time.sleep(_PAUSE_SECONDS * (attempt + 1))
        return found

    def _merge(self, proposal: Proposal, message: str, rules: Mapping[str, Any]) -> str:
        now = rules["pullRequest"]
        state = now["mergeStateStatus"]
        method = next((method for allowed, method in _METHODS if rules[allowed]), "MERGE")
        headline, _, rest = message.partition("\n\n")
        this = {"pullRequestId": now["id"], "expectedHeadOid": proposal.head}
        if state in {"DIRTY", "DRAFT"}:
            why = "it conflicts with its base" if state == "DIRTY" else "it is a draft"
            raise PullRequestBlocked(f"pull request #{proposal.number} cannot be merged: {why}: {proposal.url}")
        if rules["mergeQueue"] and state in _MERGEABLE:
            self._api.graphql(_ENQUEUE, {"input": this}, permission=_PERMISSION)
            return "{} is put into the merge queue"
        if state in _MERGEABLE:
            wanted = {
                "sha": proposal.head,
                "merge_method": method.lower(),
                "commit_title": headline,
                "commit_message": rest.rstrip("\n"),
            }
            self._send("PUT", f"/pulls/{proposal.number}/merge", wanted, "contents: write")
            return "{} is merged"
        if not rules["autoMergeAllowed"]:
            raise PullRequestBlocked(
                f"pull request #{proposal.number} cannot be merged yet ({state.lower()}), "
                f"and the repository does not allow auto-merge: {proposal.url}"
            )
        text = {"commitHeadline": headline, "commitBody": rest.rstrip("\n")}
        if now["autoMergeRequest"] == text:
            return "{} is to be merged as soon as its rules are met"
        if now["autoMergeRequest"]:  # of the commit that was here before, with its message
            self._api.graphql(_NO_AUTO_MERGE, {"input": {"pullRequestId": now["id"]}}, permission=_PERMISSION)
        asked = {**this, **text, "mergeMethod": method}
        self._api.graphql(_AUTO_MERGE, {"input": asked}, permission=_PERMISSION)
        return "{} is to be merged as soon as its rules are met"

    def _send(self, verb: str, path: str, body: Mapping[str, Any], permission: str = _PERMISSION) -> Any:
        return self._api.send(verb, f"{self._path}{path}", body, permission=permission)

    def _head(self, branch: str) -> str | None:
        variables = {"owner": self._where.owner, "name": self._where.name, "branch": f"refs/heads/{branch}"}
        found = self._api.graphql(_REF, variables)["repository"]
        self._id = found["id"]
        return str(found["ref"]["target"]["oid"]) if found["ref"] else None

    def _move(self, *moves: tuple[str, str, str | None]) -> None:
        """Let branches go from one commit to another, all or none; `_NOBODY` stands for no branch, None for any."""
        if not self._id:
            self._head("")
        updates = [
            {"name": f"refs/heads/{branch}", "afterOid": after, "force": True}
            | ({"beforeOid": before} if before else {})
            for branch, after, before in moves
        ]
        wanted = {"repositoryId": self._id, "refUpdates": updates}
        self._api.graphql(_UPDATE, {"input": wanted}, permission="contents: write")

    def _drop(self, scratch: str) -> None:
        """Delete a scratch branch, if it was made at all."""
        with contextlib.suppress(PipelineError, StaleHeadError):
            if self._head(scratch):
                self._move((scratch, _NOBODY, None))


def _proposal(item: Mapping[str, Any]) -> Proposal:
    people = [person["login"] for person in item["requested_reviewers"] or ()]
    teams = [team["slug"] for team in item["requested_teams"] or ()]
    return Proposal(
        number=item["number"],
        url=item["html_url"],
        branch=item["head"]["ref"],
        head=item["head"]["sha"],
        title=item["title"],
        body=item["body"] or "",
        labels=frozenset(label["name"] for label in item["labels"]),
        reviewers=frozenset([*people, *teams]),
        is_open=item["state"] == "open",
        merge_commit=item["merge_commit_sha"] if item["merged_at"] else None,
    )


def _commit(item: Mapping[str, Any]) -> BranchCommit:
    made = item["commit"]
    committer = made["committer"] or {}
    return BranchCommit(
        oid=item["sha"],
        parents=tuple(parent["sha"] for parent in item["parents"]),
        message=made["message"],
        author=(item["author"] or {}).get("login") or (made["author"] or {}).get("name") or "somebody",
        # https://docs.github.com/authentication/managing-commit-signature-verification/about-commit-signature-verification
        by_api=str(committer.get("name")).startswith("GitHub") and str(committer.get("email")).startswith("noreply@"),
    )
