"""The GitOps repository as a local work tree: the checked-out branch, and its remote."""

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.core.secret import Secret
from pipeline.edges.commit_graph import descends, is_ancestor
from pipeline.edges.git import Git, GitError, explain, explained, parse_address
from pipeline.edges.git_objects import Change, GitObjects, Identity
from pipeline.edges.git_push import push_commit, require_writable
from pipeline.edges.github import Access
from pipeline.edges.github_app import sign_in
from pipeline.edges.source_repository import SourceRepository, open_source
from pipeline.errors import BranchNotFound, LocalBranchDiverged, LocalChanges, RepositoryNotFound, UsageError
from pipeline.steps.publish_change import Head

_UNDER_WAY = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")


class WorkTree:
    """The branch that is checked out in a work tree, and its remote.

    The push comes first: only when the remote has the commit do the local branch, the index and the files follow, so
    that a push that fails leaves nothing to undo. Everything is read from commits, never from files on disk.
    """

    def __init__(
        self,
        git: Git,
        folder: Path,
        branch: str | None,
        identity: Identity,
        token: Secret | None,
        access: Access | None,
        *,
        push: bool,
        commit: bool,
        aside: bool = False,
    ) -> None:
        """`folder` is the git directory. With `aside` what is fetched is kept elsewhere, and goes in the end.

        Raises UsageError when there is no branch to commit to, or no remote to push to.
        """
        with explained(str(folder)):
            top = git.line("rev-parse", "--show-toplevel")
        checked_out = git.try_line("symbolic-ref", "--quiet", "--short", "HEAD")
        if checked_out is None and commit:
            raise UsageError(
                f"{top}: no branch is checked out (HEAD is detached)",
                remedy="Check out the branch to change, or give the repository's URL with --gitops.",
            )
        if branch and checked_out and branch != checked_out:
            raise UsageError(
                f"{top}: {checked_out} is checked out, not {branch}",
                remedy=f"Check out {branch}, or give the repository's URL with --gitops.",
            )
        checked_out = checked_out or "HEAD"
        self._remote = _remote_of(git, checked_out)
        if push and self._remote is None:
            raise UsageError(f"{top}: {checked_out} has no remote to push to", remedy="Add one, or pass --no-push.")
        url = git.try_line("remote", "get-url", "--push", self._remote) if self._remote else None
        self.address = address = sign_in(parse_address(url, token), access) if url else None
        """Where others see the branch; None without a remote."""
        self._target = git.try_line("config", f"branch.{checked_out}.merge") or f"refs/heads/{checked_out}"
        self._top = Path(top)
        self._folder = folder
        self._identity = identity
        self._token, self._access = token, access
        self._pushes, self._commits = push, commit
        environment = {"GIT_DIR": str(folder), "GIT_WORK_TREE": top}
        self._aside = tempfile.TemporaryDirectory(prefix="openeg-deploy-") if aside else None
        if self._aside:
            own = git.line("rev-parse", "--path-format=absolute", "--git-path", "objects")
            environment |= {"GIT_OBJECT_DIRECTORY": self._aside.name, "GIT_ALTERNATE_OBJECT_DIRECTORIES": own}
            environment |= {"GIT_OPTIONAL_LOCKS": "0"}  # not even what `git status` has learned is written down
        self._git = Git(self._top, address, environment=environment)
        self._objects = GitObjects(self._git)
        self._expected: str | None = None
        """The remote's head that the next push may replace; None: the remote has no such branch."""
        self.publishes = push
        self.way = "over git"
        self.branch = self._target.removeprefix("refs/heads/") if push else checked_out
        self.name = address.url if address else top

    def read(self, paths: Sequence[str]) -> Head:
        """The newest head: the remote's where the local branch is behind, else the local one."""
        with explained(self.name):
            revision, warnings = self._newest()
            head = self._objects.look_up(revision, paths, warnings)
            return replace(head, ahead=bool(warnings))

    def peek(self, head: Head, path: str) -> bytes | None:
        """Another file's content at `head`; None when it is not there or cannot be had."""
        return self._objects.peek(head.revision, path)

    def publish(self, head: Head, files: Mapping[str, bytes], message: str) -> str | None:
        """Commit onto `head`, push, and let branch, index and files follow, as far as `commit` and `push` say.

        Without files, `head` itself is pushed. Raises LocalChanges before anything is done.
        """
        self.require_unchanged(files)
        with explained(self.name):
            if not self._commits:
                _write_files({self._top / path: data for path, data in files.items()})
                return head.revision
            commit = head.revision
            if files:
                commit = self._objects.commit(head.revision, files, message, self._identity)
            self._follow(commit, try_only=True)
            if self._pushes:
                pushed = push_commit(
                    self._git,
                    str(self._remote),
                    self._target,
                    commit,
                    name=self.name,
                    expected=self._expected,
                    head_now=self._remote_head,
                    hooks=True,
                )
                if pushed is None:
                    return None
                with contextlib.suppress(LocalChanges):  # published all the same; the work tree is behind its remote
                    self._follow(commit)
                return commit
            self._follow(commit)
            return commit

    def history(self, paths: Sequence[str], limit: int) -> Iterator[Change]:
        """The commits of the branch's first-parent history that changed files, newest first, at most `limit`."""
        with explained(self.name):
            revision, _ = self._newest()
            revisions, _ = self._objects.revisions(revision, paths, limit)
            yield from self._objects.changes(revisions, paths)

    def require_writable(self, head: Head) -> None:
        """Raise what keeps us from pushing onto `head`, as GitDenied; nothing is sent."""
        if self._remote:
            require_writable(self._git, self._remote, self._target, head.revision, name=self.name)

    def descends(self, revision: str, ancestor: str) -> bool | None:
        """Whether commit `revision` contains commit `ancestor`; None when that cannot be told."""
        return descends(self._source.relation, revision, ancestor)

    @functools.cached_property
    def _source(self) -> SourceRepository:
        source = open_source(str(self._top), token=self._token, access=self._access)
        if source is None:
            raise RepositoryNotFound(f"{self._top}: not a git repository")
        return source

    def close(self) -> None:
        """End what runs, and remove what was fetched."""
        self._git.close()
        if self._aside:
            self._aside.cleanup()
        if "_source" in self.__dict__:
            self._source.close()

    def _newest(self) -> tuple[str, tuple[str, ...]]:
        local = self._git.try_line("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if local is None:
            raise BranchNotFound(f"{self._top}: there is no commit yet")
        if not self._pushes:
            return local, ()
        self._expected = remote = self._remote_head()
        if remote is None or remote == local:
            return local, ()
        if is_ancestor(self._git, local, remote):
            return remote, ()
        if is_ancestor(self._git, remote, local):
            count = self._git.line("rev-list", "--count", f"{remote}..{local}")
            return local, (f"{count} earlier local commit(s) of {self.branch} go with it",)
        raise LocalBranchDiverged(f"{self._top}: its branch and {self.branch} of {self.name} have diverged")

    def _remote_head(self) -> str | None:
        """The remote's head as it is now, with its history. No ref of the work tree moves."""
        remote = str(self._remote)
        head = self._git.line("ls-remote", remote, self._target).partition("\t")[0] or None
        if head and self._git.object(head) is None:
            quietly = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--refmap=")
            self._git.run("fetch", *quietly, remote, head)
        return head

    def require_unchanged(self, files: Collection[str]) -> None:
        """Raise LocalChanges where one of the files has uncommitted changes, or something is under way."""
        with explained(self.name):
            self._require_unchanged(files)

    def _require_unchanged(self, files: Collection[str]) -> None:
        status = ("--literal-pathspecs", "status", "--porcelain", "-z", "--untracked-files=all", "--", *files)
        changed = [line[3:] for line in os.fsdecode(self._git.run(*status)).split("\0") if line]
        if changed:
            raise LocalChanges(f"{self._top}: {', '.join(changed)} has uncommitted changes")
        under_way = [name for name in _UNDER_WAY if (self._folder / name).exists()]
        if under_way and self._commits:
            raise LocalChanges(
                f"{self._top}: {under_way[0].partition('_')[0].lower()} is under way",
                remedy="Finish or abort it, then run again.",
            )

    def _follow(self, commit: str, *, try_only: bool = False) -> None:
        """Bring index, files and branch to `commit`. What the user changed elsewhere, staged or not, stays."""
        self._git.try_line("update-index", "-q", "--refresh")
        before = self._git.line("rev-parse", "HEAD")
        try:
            self._git.run("read-tree", "-m", "-u", *(["--dry-run"] if try_only else []), before, commit)
        except GitError as error:
            raise LocalChanges(f"{self._top}: {explain(error, 'the work tree cannot follow')}") from None
        if not try_only:
            self._git.run("update-ref", "-m", "openeg-deploy", "HEAD", commit, before)


def _remote_of(git: Git, branch: str) -> str | None:
    """The remote of a branch: its own, else `origin`, else the only one."""
    remotes = (git.try_line("remote") or "").splitlines()
    configured = git.try_line("config", f"branch.{branch}.remote")
    for name in (configured, "origin"):
        if name in remotes:
            return name
    return remotes[0] if len(remotes) == 1 else None


def _write_files(files: Mapping[Path, bytes]) -> None:
    """Replace files, each atomically, and none of them unless there is room for all."""
    with contextlib.ExitStack() as undo:
        written = []
        for path, data in files.items():
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            undo.callback(Path(name).unlink, missing_ok=True)
            with open(handle, "wb") as file:  # noqa: PTH123
                file.write(data)
            shutil.copymode(path, name)
            written.append((name, path))
        for name, path in written:
            os.replace(name, path)  # noqa: PTH105
