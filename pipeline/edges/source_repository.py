"""The application's repository: what is checked out, and how its commits are related."""

import contextlib
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipeline.core.links import commit_page
from pipeline.core.order import Relation
from pipeline.core.pull_request import Since, SourceCommit, merged_by
from pipeline.core.secret import Secret
from pipeline.core.source import Checkout
from pipeline.edges.commit_graph import CommitGraph, relation
from pipeline.edges.git import Address, Git, GitError, explained, parse_address
from pipeline.edges.github import Access, Commits, connect, slug
from pipeline.edges.github_app import sign_in
from pipeline.errors import BranchNotFound, NotFound, PipelineError, RepositoryNotFound

_FORMAT = "%H%x00%aN%x00%s"


class SourceRepository:
    """Tells the order of commits: a local clone by itself as far as it can, then together with its remote."""

    def __init__(self, git: Git | None, graph: CommitGraph | Commits | None, *, complete: bool, url: str = "") -> None:
        """`url` is where the remote is, without credentials."""
        self._git = git
        self._url = url
        self._graph = graph
        self._complete = complete

    def relation(self, old: str, new: str) -> Relation:
        """How `new` stands to `old`. Raises PipelineError when the remote cannot be asked."""
        known = relation(self._git, old, new, complete=self._complete) if self._git else Relation.UNKNOWN
        if known is Relation.UNKNOWN and self._graph:
            return self._graph.relation(old, new)
        return known

    def on_default_branch(self, commit: str) -> bool | None:
        """Whether the remote's default branch contains `commit`, now; None where there is no remote."""
        head = self._graph.default_branch() if self._graph else None
        if head is None:
            return None
        return self.relation(commit, head) in {Relation.EQUAL, Relation.DESCENDANT}

    def answers(self) -> bool | None:
        """Whether the remote, asked now, has a default branch; None where there is no remote. Raises PipelineError."""
        return self._graph.default_branch() is not None if self._graph else None

    def between(self, old: str, new: str, limit: int) -> Since:
        """The commits that `new` has and `old` has not, the newest `limit` of them.

        Raises PipelineError when they cannot be had.
        """
        if isinstance(self._graph, Commits):
            with contextlib.suppress(PipelineError):
                return self._graph.between(old, new)  # it knows accounts and pull requests, where git has names alone
        if self._git and relation(self._git, old, new, complete=self._complete) is not Relation.UNKNOWN:
            page = _page(self._url)
            with explained(self._url):
                shown = self._git.line("log", f"--max-count={limit}", f"--format={_FORMAT}", f"{old}..{new}")
                more = int(self._git.line("rev-list", "--count", f"{old}..{new}"))
            fields = [line.split("\0") for line in shown.splitlines()]
            commits = tuple(
                SourceCommit(oid, headline, author, f"{page}/commit/{oid}" if page else None, merged_by(headline, page))
                for oid, author, headline in reversed(fields)
            )
            return Since(old, new, commits, more - len(commits))
        raise NotFound(f"the commits between {old[:12]} and {new[:12]} are not at hand")

    def close(self) -> None:
        """Remove what was fetched."""
        if self._graph:
            self._graph.close()
        if self._git:
            self._git.close()


def open_source(where: str, *, token: Secret | None = None, access: Access | None = None) -> SourceRepository | None:
    """The source repository at a URL or path; None when the path is no git repository.

    With `access`, GitHub's API tells what a local clone does not know of a repository on GitHub.
    """
    address = sign_in(parse_address(where, token), access)
    if address.path is None:
        return SourceRepository(None, _by_api(address, access) or CommitGraph(address), complete=False)
    if not address.path.is_dir():
        return None
    git = Git(address.path)
    try:
        with explained(where):
            folder = git.line("rev-parse", "--path-format=absolute", "--git-common-dir")
    except RepositoryNotFound:
        return None
    origin = _origin(git, address.path, token, access)
    if origin is None and git.line("rev-parse", "--is-bare-repository") == "true":
        origin = Address(str(address.path.resolve()))  # a bare repository's own HEAD names its default branch
    complete = git.line("rev-parse", "--is-shallow-repository") == "false"
    # The clone's settings may hold what reaches its remote: headers, ssh commands, rewritten URLs.
    settings = [("include.path", f"{folder}/config")]
    objects = Path(folder, "objects") if complete else None
    graph: CommitGraph | Commits | None = None
    if origin:
        graph = _by_api(origin, access) or CommitGraph(origin, objects=objects, settings=settings)
    return SourceRepository(git, graph, complete=complete, url=origin.url if origin else "")


def url_of(where: str) -> str | None:
    """The URL of the source repository at a URL or path, without credentials; None where no remote is known."""
    address = parse_address(where, None)
    if address.path is None:
        return address.url
    origin = _origin(Git(address.path), address.path, None) if address.path.is_dir() else None
    return origin.url if origin else None


def _by_api(address: Address, access: Access | None) -> Commits | None:
    """GitHub's API, where the repository is there, a token too, and PyGithub is installed."""
    where = slug(address.url, access.api_url) if access else None
    if access is None or where is None or address.credentials is None:
        return None
    try:
        return Commits(connect(where, address.credentials, access), where)
    except ModuleNotFoundError:
        return None


def _page(url: str) -> str | None:
    """The repository's page, where its commits are at `/commit/`."""
    commit = commit_page(url, "-")
    return commit.removesuffix("/commit/-") if commit else None


def checkout(path: Path) -> Checkout:
    """What is checked out at `path`, which may be any folder of the work tree.

    Raises RepositoryNotFound outside of a work tree, BranchNotFound where there is no commit yet.
    """
    if not path.is_dir():
        raise RepositoryNotFound(f"{path}: no such folder")
    git = Git(path)
    try:
        with explained(str(path)):
            top = git.line("rev-parse", "--show-toplevel")
    except RepositoryNotFound:
        raise RepositoryNotFound(
            f"{path}: not a git work tree", remedy="Run in the application's repository, or name it with --source."
        ) from None
    head = git.try_line("show", "--no-patch", "--format=%H %cI", "HEAD")
    if head is None:
        raise BranchNotFound(f"{top}: there is no commit yet", remedy="Commit the sources first.")
    commit, _, committed = head.partition(" ")
    with explained(top):
        git = Git(Path(top))
        status = os.fsdecode(git.run("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all"))
        origin = _origin(git, Path(top))
    return Checkout(
        path=Path(top),
        commit=commit,
        url=origin.url if origin else top,
        dirty=tuple(line[3:] for line in status.split("\0") if line),
        committed=datetime.fromisoformat(committed),
    )


def differs(path: Path, running: str, paths: Sequence[str]) -> bool:
    """Whether `paths` (git's globs, seen from `path`) differ between the commit `running` and the one checked out.

    True too where that cannot be told: the clone lacks the commit, or one of the paths leads nowhere.
    """
    git, wanted = Git(path), [f":(glob){each}" for each in paths]
    try:
        git.run("ls-files", "--error-unmatch", "--", *wanted)
        git.run("diff", "--quiet", running, "HEAD", "--", *wanted)
    except GitError:
        return True
    return False


def _origin(git: Git, clone: Path, token: Secret | None = None, access: Access | None = None) -> Address | None:
    """The remote of a clone: `origin`, or the only one."""
    remotes = (git.try_line("remote") or "").splitlines()
    name = "origin" if "origin" in remotes else remotes[0] if len(remotes) == 1 else None
    url = git.try_line("remote", "get-url", name) if name else None
    if url is None:
        return None
    address = sign_in(parse_address(url, token), access)
    return Address(str((clone / address.path).resolve())) if address.path else address
