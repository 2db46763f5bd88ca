"""The GitOps repository over git: at a URL, as a bare repository on this machine, or as a work tree.

A URL is never cloned whole. The head commit comes with the trees of its first two levels; from there the way to the
asked files is fetched step by step, and nothing else. Commits are made by plumbing, so no work tree is needed, and a
push names the head that was read as the only one it may replace.
"""

import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.core.order import Relation
from pipeline.core.secret import Secret
from pipeline.edges.commit_graph import CommitGraph, descends, relation
from pipeline.edges.git import Address, Git, GitError, Scratch, explain, explained, parse_address
from pipeline.edges.git_objects import Change, GitObjects, Identity
from pipeline.edges.git_push import push_commit, require_writable
from pipeline.edges.github import Access, by_ssh, connect, slug
from pipeline.edges.github_app import sign_in
from pipeline.edges.github_repository import GitHubRepository
from pipeline.edges.work_tree import WorkTree
from pipeline.errors import BranchNotFound, CommitRefused, GitUnusable, RepositoryNotFound, UsageError
from pipeline.steps.publish_change import Head

_NO_BRANCH_NAME = re.compile(r"[\s:~^?*\[\\\x00-\x1f\x7f]|\.\.|@\{|//|^/|/$")
_DEPTHS = (100, 2000, 2**31 - 1)  # of history; the last one stands for all


def open_repository(
    where: str,
    branch: str | None = None,
    *,
    token: Secret | None = None,
    author: str | None = None,
    committer: str | None = None,
    push: bool = True,
    commit: bool = True,
    dry_run: bool = False,
    read_only: bool = False,
    access: Access | None = None,
) -> "Repository":
    """Open the repository at a URL or path; `branch` is its default, or the checked-out one of a work tree.

    `push` and `commit` may be switched off for a work tree alone. Nothing is fetched before the first read, and with
    `dry_run` nothing into a work tree's own repository. With `read_only` a work tree is read as it is checked out, and
    needs neither a branch nor a remote. With `access`, a repository on GitHub is worked on through GitHub's API.
    Raises RepositoryNotFound, UsageError, GitUnusable.
    """
    address = sign_in(parse_address(where, token), access)
    identity = Identity(author, committer or author)
    path = address.path
    if path is None:
        _only_for_work_trees(push, commit)
        by_git = TransportedRepository(_Server(address), address.url, branch, identity)
        return (access and _on_github(address, branch, identity, access, by_git)) or by_git
    if not path.is_dir():
        raise RepositoryNotFound(f"{where}: no such folder")
    git = Git(path)
    with explained(where):
        asked = ("--is-bare-repository", "--show-object-format", "--absolute-git-dir")
        bare, hashing, folder = git.line("rev-parse", *asked).split("\n", 2)
    if hashing != "sha1":
        raise GitUnusable(f"{where}: a repository with {hashing} object names", remedy="Use a SHA-1 repository.")
    if bare == "true":
        _only_for_work_trees(push, commit)
        return TransportedRepository(_Neighbour(Path(folder)), str(path), branch, identity)
    commit = commit and not read_only
    return WorkTree(
        git, Path(folder), branch, identity, token, access, push=push and commit, commit=commit, aside=dry_run
    )


def _only_for_work_trees(push: bool, commit: bool) -> None:
    if not (push and commit):
        raise UsageError(
            "--no-push and --no-commit are for a local work tree", remedy="Use --dry-run, or --gitops with a work tree."
        )


def _on_github(
    address: Address, branch: str | None, identity: Identity, access: Access, by_git: "TransportedRepository"
) -> GitHubRepository | None:
    """The repository through GitHub's API; None, with a word, where that cannot do what is asked for."""
    where = slug(address.url, access.api_url)
    if where is None:
        if by_ssh(address.url, access.api_url):
            access.say("Using git instead of GitHub's API: it has an SSH address, and a token is for https")
        return None
    if identity.author or identity.committer:
        why = "it does not let us choose author and committer"
    elif address.credentials is None:
        why = "neither GITOPS_TOKEN, GITHUB_TOKEN nor GITHUB_APP_ID is set"
    else:
        try:
            api = connect(where, address.credentials, access)
            return GitHubRepository(api, where, branch, by_git, access.say)
        except ModuleNotFoundError as error:
            why = f"the Python package {error.name!r} is missing (extra: github)"
    access.say(f"Using git instead of GitHub's API: {why}")
    return None


# Repositories that are not a work tree


class _Origin(Protocol):
    """Where branches are kept, seen through a scratch repository that is made at the first question."""

    @property
    def scratch(self) -> Scratch:
        """The repository to work in."""

    def branches(self) -> tuple[str | None, tuple[str, ...]]:
        """The default branch, and the names of all."""

    def head(self, branch: str) -> str:
        """The head commit as it is now, fit for reading its tree."""

    def fetch(self, oids: Collection[str]) -> None:
        """Make objects readable."""

    def head_and_history(self, branch: str) -> str:
        """The head commit as it is now, with every commit since the former `head`."""

    def history(self, branch: str, depth: int) -> tuple[str, GitObjects]:
        """The head commit as it is now, and where it and the `depth` commits below it can be read."""

    def relation(self, old: str, new: str) -> Relation:
        """How two commits are related."""

    def close(self) -> None:
        """Remove what was fetched."""


class _Server:
    """Branches at a URL.

    Servers differ in the filters that they allow: GitHub knows `tree:0` and `blob:none`, and some servers know none
    and send everything. `tree:2` brings the tree of the wanted commit or folder, with the files and trees in it.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._wide = ["tree:2", "blob:none"]
        self._narrow = ["tree:0", "blob:none"]
        self._graph = CommitGraph(address)

    @functools.cached_property
    def scratch(self) -> Scratch:
        return Scratch(self._address)

    def branches(self) -> tuple[str | None, tuple[str, ...]]:
        answer = self.scratch.git.line("ls-remote", "--symref", "origin", "HEAD", "refs/heads/*")
        default = re.search(r"^ref: refs/heads/(.*)\tHEAD$", answer, re.MULTILINE)
        return default and default[1], tuple(re.findall(r"\trefs/heads/(.*)$", answer, re.MULTILINE))

    def head(self, branch: str) -> str:
        self._fetch(self._wide, "--depth=1", "origin", _same(branch))
        return self._fetched(branch)

    def fetch(self, oids: Collection[str]) -> None:
        self._fetch(self._wide, "origin", *oids)

    def head_and_history(self, branch: str) -> str:
        self._fetch(self._narrow, "origin", _same(branch), negotiate=True)
        return self._fetched(branch)

    def _fetch(self, filters: list[str], *arguments: str, negotiate: bool = False) -> None:
        """Fetch with the first of `filters` that the server allows; those that it refuses are not tried again."""
        while True:
            try:
                return self.scratch.fetch(f"--filter={filters[0]}", *arguments, negotiate=negotiate)
            except GitError as error:
                if len(filters) == 1 or not isinstance(explain(error, ""), CommitRefused):
                    raise
                del filters[0]

    def _fetched(self, branch: str) -> str:
        found = self.scratch.git.object(f"refs/heads/{branch}")
        if found is None:
            raise BranchNotFound(branch)
        return found[0]

    @functools.cached_property
    def _past(self) -> Scratch:
        """Apart from `scratch`, whose commits lack most of their trees: a server would take these for present."""
        return Scratch(self._address)

    def history(self, branch: str, depth: int) -> tuple[str, GitObjects]:
        past = self._past
        past.fetch(f"--depth={depth}", "--filter=blob:none", "origin", _same(branch))
        objects = GitObjects(past.git, lambda oids: past.fetch("--filter=blob:none", "origin", *oids))
        return past.git.line("rev-parse", f"refs/heads/{branch}"), objects

    def relation(self, old: str, new: str) -> Relation:
        return self._graph.relation(old, new)

    def close(self) -> None:
        self._graph.close()
        for made in self.__dict__.keys() & {"scratch", "_past"}:
            self.__dict__[made].close()


def _same(branch: str) -> str:
    return f"+refs/heads/{branch}:refs/heads/{branch}"


class _Neighbour:
    """Branches of a bare repository on this machine: its objects are borrowed, never copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._git = Git(folder, environment={"GIT_DIR": str(folder)})

    @functools.cached_property
    def scratch(self) -> Scratch:
        return Scratch(Address(str(self._folder)), objects=self._folder / "objects")

    def branches(self) -> tuple[str | None, tuple[str, ...]]:
        names = self._git.line("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").splitlines()
        return self._git.try_line("symbolic-ref", "--short", "HEAD"), tuple(names)

    def head(self, branch: str) -> str:
        found = self._git.object(f"refs/heads/{branch}")
        if found is None:
            raise BranchNotFound(branch)
        return found[0]

    def fetch(self, oids: Collection[str]) -> None:
        """Everything is readable already."""

    def head_and_history(self, branch: str) -> str:
        return self.head(branch)

    def history(self, branch: str, depth: int) -> tuple[str, GitObjects]:  # noqa: ARG002 -- all of it is here
        return self.head(branch), GitObjects(self.scratch.git)

    def relation(self, old: str, new: str) -> Relation:
        return relation(self._git, old, new, complete=True)

    def close(self) -> None:
        self._git.close()
        if "scratch" in self.__dict__:
            self.scratch.close()


class TransportedRepository:
    """A branch that is read and pushed to without a work tree."""

    publishes = True
    way = "over git"

    def __init__(self, origin: _Origin, name: str, branch: str | None, identity: Identity) -> None:
        self._origin = origin
        self._branch = branch
        self._identity = identity
        self.name = name

    @functools.cached_property
    def branch(self) -> str:
        """The branch that was asked for, else the repository's default. Raises BranchNotFound."""
        if self._branch:
            if _NO_BRANCH_NAME.search(self._branch):
                raise BranchNotFound(f"{self.name} cannot have a branch {self._branch!r}: git allows no such name")
            return self._branch
        with explained(self.name):
            default, _ = self._origin.branches()
        if default is None:
            raise BranchNotFound(f"{self.name}: the repository is empty, or its HEAD names no branch")
        return default

    @functools.cached_property
    def _objects(self) -> GitObjects:
        return GitObjects(self._origin.scratch.git, self._origin.fetch)

    def read(self, paths: Sequence[str]) -> Head:
        """Fetch the head as it is now, and what `paths` lead to."""
        with explained(self.name):
            return self._objects.look_up(self._head(), paths)

    def peek(self, head: Head, path: str) -> bytes | None:
        """Another file's content at `head`; None when it is not there or cannot be had."""
        return self._objects.peek(head.revision, path)

    def require_unchanged(self, files: Collection[str]) -> None:
        """There is no work tree that could differ."""

    def publish(self, head: Head, files: Mapping[str, bytes], message: str) -> str | None:
        """Push a commit onto `head`: its revision, or None when somebody else has moved the branch."""
        return self._publish(head.revision, files, message)

    def begin(self, files: Mapping[str, bytes], message: str) -> str | None:
        """Push the branch's first commit: its revision, or None when somebody else has begun it."""
        return self._publish(None, files, message)

    def _publish(self, parent: str | None, files: Mapping[str, bytes], message: str) -> str | None:
        with explained(self.name):
            commit = self._objects.commit(parent, files, message, self._identity)
            return push_commit(
                self._origin.scratch.git,
                "origin",
                f"refs/heads/{self.branch}",
                commit,
                name=self.name,
                expected=parent,
                head_now=self._head_and_history,
                hooks=False,
            )

    def _head_and_history(self) -> str | None:
        try:
            with explained(self.name):
                return self._origin.head_and_history(self.branch)
        except BranchNotFound:
            return None

    def beside(self, branch: str) -> "TransportedRepository":
        """Another branch of the same repository."""
        return TransportedRepository(self._origin, self.name, branch, self._identity)

    def require_writable(self, head: Head) -> None:
        """Raise what keeps us from pushing onto `head`, as GitDenied; nothing is sent."""
        with explained(self.name):
            git, ref = self._origin.scratch.git, f"refs/heads/{self.branch}"
            require_writable(git, "origin", ref, head.revision, name=self.name)

    def history(self, paths: Sequence[str], limit: int) -> Iterator[Change]:
        """The commits of the branch's first-parent history that changed files, newest first, at most `limit`."""
        with explained(self.name):
            newest, told = "", 0
            for depth in _DEPTHS:
                head, objects = self._origin.history(self.branch, depth)
                newest = newest or head  # somebody may push while we read
                revisions, complete = objects.revisions(newest, paths, limit)
                yield from objects.changes(revisions[told:], paths)
                told = len(revisions)
                if complete or told >= limit:
                    return

    def descends(self, revision: str, ancestor: str) -> bool | None:
        """Whether commit `revision` contains commit `ancestor`; None when that cannot be told."""
        return descends(self._origin.relation, revision, ancestor)

    def close(self) -> None:
        """Remove what was fetched."""
        self._origin.close()

    def _head(self) -> str:
        try:
            return self._origin.head(self.branch)
        except (GitError, BranchNotFound) as error:
            if isinstance(error, GitError) and not isinstance(explain(error, ""), BranchNotFound):
                raise
            _, names = self._origin.branches()
            there = f"it has {', '.join(names[:20])}" if names else "the repository is empty"
            raise BranchNotFound(f"{self.name} has no branch {self.branch!r}; {there}") from None


Repository = TransportedRepository | GitHubRepository | WorkTree


def beside(repository: Repository, branch: str) -> TransportedRepository | GitHubRepository | None:
    """Another branch of the same repository, where others see it; None for a work tree without a remote."""
    if not isinstance(repository, WorkTree):
        return repository.beside(branch)
    address = repository.address
    if address is None:
        return None
    origin = _Neighbour(address.path) if address.path else _Server(address)
    return TransportedRepository(origin, address.url, branch, Identity())
