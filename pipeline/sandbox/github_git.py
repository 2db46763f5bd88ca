"""A bare repository as GitHub's API shows and changes it, by git's plumbing."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import git_tree
from pipeline.core.git_tree import Entry
from pipeline.edges.git import Git, GitError

ZERO = "0" * 40
_PEOPLE = {
    "GIT_AUTHOR_NAME": "sandbox",
    "GIT_AUTHOR_EMAIL": "sandbox@users.noreply.github.com",
    # https://docs.github.com/authentication/managing-commit-signature-verification/about-commit-signature-verification
    "GIT_COMMITTER_NAME": "GitHub",
    "GIT_COMMITTER_EMAIL": "noreply@github.com",
}

_USER = {"GIT_COMMITTER_NAME": "sandbox", "GIT_COMMITTER_EMAIL": "sandbox@users.noreply.github.com"}
_AUTHOR = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE")


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit object says."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    author: tuple[str, str, str]
    """Name, mail and moment (ISO 8601)."""
    committer: tuple[str, str, str]
    message: str


@dataclass(frozen=True, slots=True)
class Difference:
    """How one file differs between two commits."""

    path: str
    former: str | None
    """Its name before, where it was renamed."""
    letter: str
    """git's: A, D, M, R, T."""
    oid: str | None
    additions: int
    deletions: int
    patch: str


class BareRepository:
    """One repository. It has no lock of its own."""

    def __init__(self, folder: Path) -> None:
        self._git = Git(folder, environment={"GIT_DIR": str(folder)})

    def default_branch(self) -> str | None:
        """The short name of the branch that HEAD names."""
        return self._git.try_line("symbolic-ref", "--short", "HEAD")

    def head(self, branch: str) -> str | None:
        """The commit of a branch."""
        return self._git.try_line("rev-parse", "--verify", "--quiet", "--end-of-options", f"refs/heads/{branch}^{{}}")

    def resolve(self, expression: str) -> tuple[str, str] | None:
        """Kind and oid of what a revision expression names."""
        oid = self._git.try_line("rev-parse", "--verify", "--quiet", "--end-of-options", f"{expression}^{{object}}")
        return (self._git.line("cat-file", "-t", oid), oid) if oid else None

    def read(self, oid: str) -> bytes:
        """The content of an object; raises KeyError."""
        found = self._git.object(oid)
        if found is None:
            raise KeyError(oid)
        return found[1]

    def commit(self, revision: str) -> Commit:
        """The commit that `revision` names; raises GitError."""
        fields = "%H%n%T%n%P%n%an%x00%ae%x00%aI%n%cn%x00%ce%x00%cI%n%B"
        shown = self._git.run("log", "-1", f"--format={fields}", "--end-of-options", revision, "--")
        lines = shown.decode("utf-8", "replace").split("\n", 5)
        oid, tree, parents, author, committer, message = lines
        return Commit(oid, tree, tuple(parents.split()), _person(author), _person(committer), message.rstrip("\n"))

    def history(self, revision: str, limit: int) -> Iterator[str]:
        """The commits down from `revision`, as `git log` orders them."""
        yield from self._git.line("rev-list", f"--max-count={limit}", revision).splitlines()

    def entry(self, tree: str, path: str) -> Entry | None:
        """What stands at `path`; symbolic links are not followed."""
        *folders, name = path.split("/")
        for folder in folders:
            entry = git_tree.parse(self.read(tree)).get(folder)
            if entry is None or entry.mode != git_tree.TREE:
                return None
            tree = entry.oid
        return git_tree.parse(self.read(tree)).get(name)

    def between(self, base: str, head: str) -> tuple[str | None, list[str], int]:
        """The merge base, the commits that only `head` has (oldest first), and how many only `base` has."""
        ahead = self._git.line("rev-list", "--reverse", f"{base}..{head}").splitlines()
        behind = int(self._git.line("rev-list", "--count", f"{head}..{base}"))
        return self._git.try_line("merge-base", base, head), ahead, behind

    def append(
        self, branch: str, head: str, additions: Mapping[str, bytes], deletions: list[str], message: str
    ) -> str | None:
        """Commit onto `head` and move the branch there: the new commit; None when the branch is not at `head`.

        Every added file gets the mode 100644, as it does on GitHub.
        """
        with tempfile.TemporaryDirectory(prefix="openeg-sandbox-") as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            self._git.run("read-tree", head, environment=index)
            lines = [f"0 {ZERO}\t{path}" for path in deletions]
            for path, data in additions.items():
                blob = self._git.run("hash-object", "-w", "--stdin", stdin=data).decode().strip()
                lines.append(f"100644 {blob}\t{path}")
            listed = "\0".join(lines).encode()
            self._git.run("update-index", "--add", "--replace", "-z", "--index-info", stdin=listed, environment=index)
            tree = self._git.run("write-tree", environment=index).decode().strip()
        commit = self.make(tree, (head,), message)
        return commit if self.move([(f"refs/heads/{branch}", commit, head)]) else None

    def make(self, tree: str, parents: Sequence[str], message: str, author: tuple[str, str, str] | None = None) -> str:
        """Make a commit: GitHub commits for the token's user, and the user for another `author`."""
        people = _PEOPLE if author is None else _USER | dict(zip(_AUTHOR, author, strict=True))
        command = ("commit-tree", tree, *(word for parent in parents for word in ("-p", parent)), "-F", "-")
        return self._git.run(*command, stdin=message.encode(), environment=people).decode().strip()

    def move(self, updates: Sequence[tuple[str, str, str | None]]) -> bool:
        """Let each ref point to its new oid, all or none; False when one is not at its old oid.

        ZERO as the new oid deletes, as the old one it says that there is none; None as the old one takes any.
        """
        lines = [f"update {name} {new}{f' {old}' if old else ''}\n" for name, new, old in updates]
        try:
            self._git.run("update-ref", "--stdin", stdin="".join(lines).encode())
        except GitError:
            if any(old and (self.ref(name) or ZERO) != old for name, _, old in updates):
                return False
            raise
        return True

    def ref(self, name: str) -> str | None:
        """What a ref points to, by its full name."""
        return self._git.try_line("show-ref", "--verify", "--hash", name)

    def refs(self, prefix: str) -> list[tuple[str, str, str]]:
        """Full name, kind and oid of the refs whose full name begins so."""
        listed = self._git.line("for-each-ref", "--format=%(refname) %(objecttype) %(objectname)").splitlines()
        split = (line.split(" ") for line in listed)
        return [(name, kind, oid) for name, kind, oid in split if name.startswith(prefix)]

    def is_name(self, name: str) -> bool:
        """Whether a ref may have this full name."""
        return self._git.try_line("check-ref-format", name) is not None

    def contains(self, descendant: str, ancestor: str) -> bool:
        """Whether one commit is the other or one of its ancestors."""
        return self._git.try_line("merge-base", "--is-ancestor", ancestor, descendant) is not None

    def merged(self, base: str, head: str) -> str | None:
        """The tree of both merged; None where they conflict."""
        return self._git.try_line("merge-tree", "--write-tree", base, head)

    def replayed(self, base: str, head: str) -> str | None:
        """The commits that `head` has more, each made again onto `base`; None where they conflict."""
        commits = self._git.line("rev-list", "--reverse", "--no-merges", f"{base}..{head}").splitlines()
        for commit in map(self.commit, commits):
            # The base with the commit's own parent is a stand-in, so that the merge brings this commit's change alone.
            stand_in = self.make(self.commit(base).tree, commit.parents, "stand-in")
            tree = self.merged(stand_in, commit.oid)
            if tree is None:
                return None
            base = self.make(tree, (base,), commit.message, commit.author)
        return base

    def differences(self, base: str, head: str) -> list[Difference]:
        """The files that differ."""
        diff = ("diff-tree", "-r", "-M", "-z")
        fields = iter(self._git.line(*diff, "--raw", base, head).split("\0"))
        found = []
        for raw in filter(None, fields):
            oid, letter = raw.split()[3], raw.split()[4][0]
            former = next(fields) if letter == "R" else None
            path = next(fields)
            paths = ("--", *filter(None, (former, path)))
            added, deleted = self._git.line(*diff, "--numstat", base, head, *paths).split("\0")[0].split("\t")[:2]
            # Of a patch, GitHub shows what follows the file's header.
            patch = self._git.run(*diff, "-p", "--full-index", base, head, *paths).decode("utf-8", "replace")
            _, at, hunks = patch.partition("\n@@ ")
            lines, gone = (int(count) if count.isdigit() else 0 for count in (added, deleted))
            shown = f"@@ {hunks}".rstrip("\n") if at else ""
            found.append(Difference(path, former, letter, None if oid == ZERO else oid, lines, gone, shown))
        return found

    def close(self) -> None:
        """End the long-lived process."""
        self._git.close()


def _person(line: str) -> tuple[str, str, str]:
    name, mail, moment = line.split("\0")
    return name, mail, moment
