"""git objects: the way to asked files through commits and trees, and new commits, all by plumbing."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core import git_tree
from pipeline.edges.git import Git, GitError
from pipeline.errors import GitUnusable, PipelineError, Unreachable, UsageError
from pipeline.steps.publish_change import Head

DEFAULT_IDENTITY = "openeg-deploy <openeg-deploy@users.noreply.github.com>"

_PERSON = re.compile(r" *([^<>\r\n]*[^<>\s]) *<([^<>\s]+)> *")
_CHANGES_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One commit that changed files, and the files' content before and after it, by path, where they were there."""

    revision: str
    message: str
    author: str
    """The author's name."""
    committed: int
    """Seconds since 1970."""
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who commits, each as `NAME <MAIL>`; None leaves it to git's own settings, then to DEFAULT_IDENTITY."""

    author: str | None = None
    committer: str | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for one that is not `NAME <MAIL>`."""
        for role, given in (("author", self.author), ("committer", self.committer)):
            if given:
                _person(role, given)


class _MissingError(Exception):
    """An object is not here (yet)."""

    def __init__(self, oid: str) -> None:
        super().__init__(f"object {oid} is missing")
        self.oid = oid


class GitObjects:
    """Reads and writes git objects; those that are missing are fetched, as many at once as are known to be needed."""

    def __init__(self, git: Git, fetch: Callable[[Collection[str]], None] | None = None) -> None:
        self._git = git
        self._fetch = fetch
        self._known: dict[str, bytes] = {}

    def read(self, oid: str) -> bytes:
        """The content of an object that is here; raises _MissingError."""
        if oid not in self._known:
            found = self._git.object(oid)
            if found is None:
                raise _MissingError(oid)
            self._known[oid] = found[1]
        return self._known[oid]

    def need(self, oids: Collection[str]) -> None:
        """Fetch what is missing of `oids`."""
        missing = set()
        for oid in oids:
            try:
                self.read(oid)
            except _MissingError:
                missing.add(oid)
        if missing:
            self._get(missing)

    def look_up(self, revision: str, paths: Sequence[str], warnings: tuple[str, ...] = ()) -> Head:
        """What `paths` lead to in a commit."""
        root = self._tree(revision)
        while True:
            files: dict[str, bytes] = {}
            reals: dict[str, str] = {}
            folders: dict[str, tuple[str, ...]] = {}
            missing = set()
            for path in paths:
                try:
                    found = git_tree.find(root, path, self.read)
                    content = self.read(found.oid) if found else b""
                except _MissingError as error:
                    missing.add(error.oid)
                    continue
                if found and found.is_folder:
                    folders[path] = tuple(git_tree.parse(content))
                elif found:
                    files[found.path], reals[path] = content, found.path
            if not missing:
                return Head(revision, files, reals, folders, warnings)
            self._get(missing)

    def peek(self, revision: str, path: str) -> bytes | None:
        """A file's content in a commit; None when it is not there or cannot be had."""
        try:
            return next(iter(self.look_up(revision, [path]).files.values()), None)
        except (GitError, PipelineError):
            return None

    def commit(self, parent: str | None, files: Mapping[str, bytes], message: str, identity: Identity) -> str:
        """Make a commit on `parent` (None: the first) with `files`, signed when git is set so. Returns its oid."""
        write = self._git.run
        blobs = {path: _oid(write("hash-object", "-w", "--stdin", stdin=data)) for path, data in files.items()}
        while True:
            try:
                tree = git_tree.rewrite(
                    self._tree(parent) if parent else None,
                    blobs,
                    self.read,
                    lambda data: _oid(write("hash-object", "-w", "-t", "tree", "--stdin", stdin=data)),
                )
                break
            except _MissingError as error:
                self._get({error.oid})
        environment, signing = _identity(self._git, identity)
        command = ("commit-tree", tree, *(("-p", parent) if parent else ()), *signing, "-F", "-")
        try:
            return _oid(write(*command, stdin=message.encode(), environment=environment))
        except GitError as error:
            if signing:
                raise GitUnusable(f"the commit cannot be signed: {error}") from None
            raise

    def revisions(self, head: str, paths: Sequence[str], limit: int) -> tuple[list[str], bool]:
        """The first-parent commits that changed `paths`, newest first; and whether history is not cut off below."""
        listed = self._git.line("rev-list", "--first-parent", f"--max-count={limit}", head, "--", *paths).splitlines()
        for number, revision in enumerate(listed):
            parent = self._parent(revision)
            if parent and self._git.object(parent) is None:
                return listed[:number], False
        return listed, True

    def changes(self, revisions: Sequence[str], paths: Sequence[str]) -> Iterator[Change]:
        """What each commit made of the files."""
        for start in range(0, len(revisions), _CHANGES_AT_ONCE):
            chosen = revisions[start : start + _CHANGES_AT_ONCE]
            parents = {revision: self._parent(revision) for revision in chosen}
            found = {
                (commit, path): git_tree.find(self._tree(commit), path, self.read)
                for commit in {*chosen, *parents.values()}
                if commit is not None
                for path in paths
            }
            self.need({file.oid for file in found.values() if file})
            contents: dict[str | None, dict[str, bytes]] = {}
            for (commit, path), file in found.items():
                if file and not file.is_folder:
                    contents.setdefault(commit, {})[path] = self.read(file.oid)
            for revision in chosen:
                who = _author_and_moment(self.read(revision).decode("utf-8", "replace").partition("\n\n")[0])
                before, after = (contents.get(commit, {}) for commit in (parents[revision], revision))
                yield Change(revision, self._messages(revision), *who, before, after)

    def _messages(self, revision: str) -> str:
        """The message of a commit, and of those that it merged: a merge on a server's page says little of its own."""
        head, _, message = self.read(revision).partition(b"\n\n")
        merged = re.findall(rb"^parent (\w+)$", head, re.MULTILINE)[1:]
        found = (self._git.object(parent.decode()) for parent in merged)
        texts = [message, *(item[1].partition(b"\n\n")[2] for item in found if item)]
        return b"\n\n".join(texts).decode("utf-8", "replace")

    def _parent(self, revision: str) -> str | None:
        match = re.match(rb"tree \w+\nparent (\w+)\n", self.read(revision))
        return match[1].decode() if match else None

    def _tree(self, revision: str) -> str:
        try:
            return self.read(revision)[5:45].decode()  # a commit begins with "tree OID"
        except _MissingError:
            raise Unreachable(f"commit {revision} is not in the repository, or was cut off from its history") from None

    def _get(self, oids: set[str]) -> None:
        if self._fetch:
            self._fetch(oids)
        still = [oid for oid in oids if self._git.object(oid) is None]
        if still:
            raise Unreachable(f"git object {still[0]} is missing, and the server does not give it")


def _author_and_moment(head: str) -> tuple[str, int]:
    author = re.search(r"^author (.*) <", head, re.MULTILINE)
    moment = re.search(r"^committer .*> (-?\d+)", head, re.MULTILINE)
    return author[1] if author else "", int(moment[1]) if moment else 0


def _oid(output: bytes) -> str:
    return output.decode().strip()


def _person(role: str, text: str) -> tuple[str, str]:
    match = _PERSON.fullmatch(text)
    if match is None:
        raise UsageError(f"--{role} {text!r} is not 'NAME <MAIL>'")
    return match[1], match[2]


def _identity(git: Git, identity: Identity) -> tuple[dict[str, str], list[str]]:
    """The environment that says who commits, and the flag for signing."""
    names = r"^(user|author|committer)\.(name|email)$|^commit\.gpgsign$"
    found = git.try_line("config", "-z", "--get-regexp", names) or ""
    settings = {key.lower(): value for key, _, value in (item.partition("\n") for item in found.split("\0"))}
    environment: dict[str, str] = {}
    for role, given in (("author", identity.author), ("committer", identity.committer)):
        ours = given or ("" if _knows_who(role, settings) else DEFAULT_IDENTITY)
        if ours:
            name, mail = _person(role, ours)
            environment |= {f"GIT_{role.upper()}_NAME": name, f"GIT_{role.upper()}_EMAIL": mail}
    signs = settings.get("commit.gpgsign", "false").lower() not in {"false", "no", "off", "0"}
    return environment, ["-S"] if signs else []


def _knows_who(role: str, settings: Mapping[str, str]) -> bool:
    """Whether git itself has been told who the author or committer is: else it would make up a name and an address."""
    return all(
        os.environ.get(f"GIT_{role}_{what}".upper()) or settings.get(f"{role}.{what}") or settings.get(f"user.{what}")
        for what in ("name", "email")
    )
