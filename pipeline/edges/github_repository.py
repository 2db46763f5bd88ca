"""The GitOps repository over GitHub's API: one query reads head and files, one mutation commits them.

What the API cannot do is left to the git transport, which stands behind: executable files, symbolic links, Git LFS,
submodules and branches that are not there. Once it has taken over, it stays.
"""

import base64
import hashlib
import posixpath
import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.core.commit_message import parse
from pipeline.edges.commit_graph import descends
from pipeline.edges.git_objects import Change
from pipeline.edges.git_push import PAUSES, settled
from pipeline.edges.github import Api, Commits, Slug, StaleHeadError
from pipeline.errors import BranchNotFound, CommitRefused, PathOutsideRepository, PipelineError, Unreachable, UsageError
from pipeline.steps.publish_change import Head

if TYPE_CHECKING:
    from pipeline.edges.github_pull_requests import GitHubPullRequests
    from pipeline.edges.gitops_repository import TransportedRepository

_ONLY_BY_GIT = {0o100755: "is executable", 0o120000: "is a symbolic link", 0o160000: "is a submodule"}
_LISTENING_SECONDS = 1.0
_ROOT = "."
_KINDS = {"oid": "GitObjectID!"}
"""The types of the variables that are no text."""
_SQUASHED = re.compile(r"deploy\(.*\(#\d+\)$", re.MULTILINE)
"""The headline that GitHub makes of our pull request's title."""
_LFS = b"version https://git-lfs"
_LOOKED_BACK = 100
"""How many commits below the head are looked at for one whose arrival is in doubt."""

_ENTRY = "mode object { ... on Blob { oid text isTruncated } ... on Tree { entries { name } } }"
_COMMIT = """mutation($input: CreateCommitOnBranchInput!) {
  createCommitOnBranch(input: $input) { commit { oid } }
}"""
_HISTORY = """query($owner: String!, $name: String!, $branch: String!, $first: Int!) {
  repository(owner: $owner, name: $name) { ref(qualifiedName: $branch) { target { ... on Commit {
    oid history(first: $first) { nodes { oid message parents(first: 1) { nodes { oid } } } }
  } } } }
}"""


class _OnlyByGitError(Exception):
    """The API cannot do what git can."""


def only_by_git(why: object) -> UsageError:
    """Why there can be no pull request."""
    return UsageError(
        f"no pull request can be made: GitHub's API cannot do it: {why}",
        remedy="Use --mode commit, which does it with git.",
    )


class GitHubRepository:
    """A branch on GitHub."""

    publishes = True

    def __init__(
        self, api: Api, where: Slug, branch: str | None, by_git: "TransportedRepository", say: Callable[[str], None]
    ) -> None:
        """`by_git` is the same branch over git; it does nothing until it is needed."""
        self._api = api
        self._where = where
        self._branch = branch
        self._by_git = by_git
        self._say = say
        self._commits = Commits(api, where)
        self._gave_up = False
        self._lost = False
        self.name = by_git.name

    @property
    def way(self) -> str:
        """How a commit gets there."""
        return self._by_git.way if self._gave_up else "through GitHub's API"

    @property
    def branch(self) -> str:
        """The branch that was asked for, else the repository's default. Raises BranchNotFound."""
        if self._branch is None and not self._gave_up:
            self.read(())
        return self._by_git.branch if self._gave_up or self._branch is None else self._branch

    def read(self, paths: Sequence[str]) -> Head:
        """Read the head as it is now, and what `paths` lead to, in one request."""
        if not self._gave_up:
            try:
                return self._head(paths)
            except _OnlyByGitError as why:
                self._gave_up = True
                self._say(f"Using git instead of GitHub's API: {why}")
        return self._by_git.read(paths)

    def peek(self, head: Head, path: str) -> bytes | None:
        """Another file's content at `head`; None when it is not there or cannot be had."""
        if self._gave_up:
            return self._by_git.peek(head, path)
        try:
            found = self._ask("object(oid: $oid) { %s }", [path], oid=head.revision)["object"]
            return next(iter(self._look_up(found, [path]).files.values()), None)
        except (_OnlyByGitError, PipelineError):
            return None

    def files(self, revision: str, paths: Collection[str]) -> Mapping[str, bytes]:
        """What stands at `paths` in a commit, which need not be on the branch. Raises UsageError."""
        try:
            found = self._ask("object(oid: $oid) { %s }", sorted(paths), oid=revision)["object"]
            return self._look_up(found, sorted(paths)).files if found else {}
        except _OnlyByGitError as why:
            raise only_by_git(why) from None

    def pull_requests(self) -> "GitHubPullRequests":
        """The repository's pull requests. Raises UsageError where only git can do what a change needs."""
        from pipeline.edges.github_pull_requests import GitHubPullRequests

        if self._gave_up:
            raise only_by_git("something that only git can change is in the way")
        return GitHubPullRequests(self._api, self._where, self._say, self.files)

    def require_unchanged(self, files: Collection[str]) -> None:
        """There is no work tree that could differ."""

    def publish(self, head: Head, files: Mapping[str, bytes], message: str) -> str | None:
        """Commit onto `head`: the new revision, or None when somebody else has moved the branch.

        When an answer is lost or makes no sense, the branch is asked what became of the commit.
        """
        if self._gave_up:
            return self._by_git.publish(head, files, message)
        if self._lost and self._moved_while_listening(head):
            return None
        doubtful = False
        for pause in (*PAUSES, None):
            try:
                return self._commit(head, files, message)
            except StaleHeadError:
                if not doubtful:
                    self._lost = True
                    return None
                refusal: PipelineError = CommitRefused(f"{self.name}: {self.branch} moved")
            except (Unreachable, CommitRefused) as error:
                refusal, doubtful = error, True
            now, landed = settled(lambda: self._landed(head, message), refusal, "the commit arrived")
            if landed or now != head.revision:
                return landed
            if pause is None:
                break
            time.sleep(pause)
        raise refusal

    def begin(self, files: Mapping[str, bytes], message: str) -> str | None:
        """Push the branch's first commit: its revision, or None when somebody else has begun it."""
        return self._by_git.begin(files, message)

    def beside(self, branch: str) -> "GitHubRepository":
        """Another branch of the same repository."""
        return GitHubRepository(self._api, self._where, branch, self._by_git.beside(branch), self._say)

    def require_writable(self, head: Head) -> None:  # noqa: ARG002 -- git wants a head that it has read itself
        """Raise what keeps us from pushing, as GitDenied; nothing is sent. Git and the API need the same right."""
        self._by_git.require_writable(self._by_git.read(()))

    def history(self, paths: Sequence[str], limit: int) -> Iterator[Change]:
        """The commits of the branch's first-parent history that changed files, newest first; git has them faster.

        A squash whose message has lost what ours said brings along what its pull request says.
        """
        for change in self._by_git.history(paths, limit):
            lost = parse(change.message) is None and _SQUASHED.match(change.message)
            yield replace(change, message=f"{change.message}\n\n{self._proposed(change.revision)}") if lost else change

    def _proposed(self, revision: str) -> str:
        """The body of the pull request that brought a commit; empty where that cannot be told."""
        try:
            found = self._api.get(f"/repos/{self._where}/commits/{revision}/pulls", permission="pull_requests: read")
        except PipelineError:
            return ""
        return str(found[0]["body"] or "") if found else ""

    def descends(self, revision: str, ancestor: str) -> bool | None:
        """Whether commit `revision` contains commit `ancestor`; None when that cannot be told."""
        return descends(self._commits.relation, revision, ancestor)

    def close(self) -> None:
        """Close the connections, and remove what git fetched."""
        self._api.close()
        self._by_git.close()

    # Reading

    def _head(self, paths: Sequence[str]) -> Head:
        if self._branch is None:
            found = self._ask("defaultBranchRef { name target { %s } }", paths)["defaultBranchRef"]
        else:
            field = "ref(qualifiedName: $branch) { name target { %s } }"
            found = self._ask(field, paths, branch=f"refs/heads/{self._branch}")["ref"]
        if found is None:
            raise _OnlyByGitError(f"there is no branch {self._branch or 'yet'}")
        self._branch = self._branch or found["name"]
        return self._look_up(found["target"], paths)

    def _ask(self, field: str, paths: Sequence[str], **variables: str) -> Any:
        """The repository with one field, a commit, and what stands in it at `paths`.

        All hangs off the one commit, so that no push can come between. Paths and names travel as variables.
        """
        names = _names(paths)
        variables |= {"owner": self._where.owner, "name": self._where.name}
        variables |= {name: place for place, name in names.items()}
        declared = ", ".join(f"${variable}: {_KINDS.get(variable, 'String!')}" for variable in variables)
        wanted = {_normal(path) for path in paths}
        fields = ["oid"] + [
            f"{name}: file(path: ${name}) {{ {_ENTRY if place in wanted else 'mode'} }}"
            for place, name in names.items()
        ]
        if _ROOT in wanted:
            fields.append("tree { entries { name } }")
        commit = f"... on Commit {{ {' '.join(fields)} }}"
        wanted_of_all = f"nameWithOwner {field % commit}"
        document = f"query({declared}) {{ repository(owner: $owner, name: $name) {{ {wanted_of_all} }} }}"
        found = self._api.graphql(document, variables)["repository"]
        self._follow(found["nameWithOwner"])
        return found

    def _follow(self, name: str) -> None:
        """Go on under the repository's new name, if it has one: queries may use the old one, commits may not."""
        if name.lower() != str(self._where).lower():
            self._say(f"{self._where} is called {name} now: change the address before the old name is given away")
            owner, _, new = name.partition("/")
            self._where = Slug(self._where.api_url, owner, new)

    def _look_up(self, commit: Mapping[str, Any], paths: Sequence[str]) -> Head:
        """What `_ask` was answered, as the paths' files and folders."""
        entries = {place: commit[name] for place, name in _names(paths).items() if commit[name]}
        for place, entry in entries.items():
            if entry["mode"] in _ONLY_BY_GIT:
                raise _OnlyByGitError(f"{place} {_ONLY_BY_GIT[entry['mode']]}")
        files: dict[str, bytes] = {}
        reals: dict[str, str] = {}
        folders: dict[str, tuple[str, ...]] = {}
        for path in paths:
            place = _normal(path)
            found = commit["tree"] if place == _ROOT else entries.get(place, {}).get("object")
            if found and "entries" in found:
                folders[path] = tuple(entry["name"] for entry in found["entries"] or ())
            elif found:
                reals[path] = place
                files[place] = files.get(place) or self._content(found)
                if files[place].startswith(_LFS):
                    raise _OnlyByGitError(f"{place} is kept in Git LFS")
        return Head(commit["oid"], files, reals, folders)

    def _content(self, blob: Mapping[str, Any]) -> bytes:
        """The bytes of a blob. GitHub's text may be cut off or decoded: only its oid proves that it is whole."""
        text = blob["text"]
        data = None if text is None or blob["isTruncated"] else text.encode("utf-8", "surrogatepass")
        if data is None or _oid(data) != blob["oid"]:
            data = base64.b64decode(self._api.get(f"/repos/{self._where}/git/blobs/{blob['oid']}")["content"])
        if _oid(data) != blob["oid"]:
            raise Unreachable(f"{self.name}: GitHub's content of blob {blob['oid']} is damaged")
        return data

    # Publishing

    def _commit(self, head: Head, files: Mapping[str, bytes], message: str) -> str:
        return commit(self._api, self._where, self.branch, head.revision, files, message)

    def _moved_while_listening(self, head: Head) -> bool:
        """Whether others write now: after a lost race we listen before we write.

        Writes are scarce on GitHub, also those that fail (80 a minute); reads are not.
        """
        time.sleep(random.uniform(0, _LISTENING_SECONDS))  # noqa: S311 -- no secret: each listens for another while
        try:
            return self._head(()).revision != head.revision
        except _OnlyByGitError:  # the branch is gone, as the next read will say
            return True

    def _landed(self, head: Head, message: str) -> tuple[str, str | None]:
        """The branch's head, and the commit that was made of `message` on `head`, if there is one."""
        variables = {"owner": self._where.owner, "name": self._where.name, "branch": f"refs/heads/{self.branch}"}
        answer = self._api.graphql(_HISTORY, {**variables, "first": _LOOKED_BACK})
        branch = answer["repository"]["ref"]
        if branch is None:
            raise BranchNotFound(f"{self.name}: {self.branch} was deleted meanwhile")
        target = branch["target"]
        for commit in target["history"]["nodes"]:
            parents = [parent["oid"] for parent in commit["parents"]["nodes"]]
            if parents == [head.revision] and commit["message"].strip() == message.strip():
                return target["oid"], commit["oid"]
        return target["oid"], None


def commit(api: Api, where: Slug, branch: str, head: str, files: Mapping[str, bytes], message: str) -> str:
    """Commit `files` onto `head` of a branch: the new revision. Raises StaleHeadError when it is not there."""
    headline, _, body = message.partition("\n\n")
    wanted = {
        "branch": {"repositoryNameWithOwner": str(where), "branchName": branch},
        "expectedHeadOid": head,
        "message": {"headline": headline, "body": body.rstrip("\n")},
        "fileChanges": {
            "additions": [{"path": path, "contents": base64.b64encode(data).decode()} for path, data in files.items()]
        },
    }
    made = api.graphql(_COMMIT, {"input": wanted}, permission="contents: write")
    return str(made["createCommitOnBranch"]["commit"]["oid"])


def _normal(path: str) -> str:
    """`path` as git names it; raises PathOutsideRepository."""
    normal = posixpath.normpath(path)
    if normal.startswith("/"):
        raise PathOutsideRepository(f"{path!r} is not relative to the repository's root")
    if normal.split("/")[0] == "..":
        raise PathOutsideRepository(f"{path!r} leads out of the repository")
    return normal


def _names(paths: Iterable[str]) -> dict[str, str]:
    """The places to ask for, the folders above `paths` included, each with the name of its field in the query."""
    ways = (PurePosixPath(_normal(path)) for path in paths)
    places = {str(place) for way in ways for place in (way, *way.parents)} - {_ROOT}
    return {place: f"p{number}" for number, place in enumerate(sorted(places))}


def _oid(data: bytes) -> str:
    """The name that git gives a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
