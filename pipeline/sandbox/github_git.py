"""A bare repository as GitHub's API shows and changes it, by git's plumbing."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import git_tree
from pipeline.core.git_tree import Entry
from pipeline.edges.git import Git, GitError

_ZERO = "0" * 40
_PEOPLE = {
    "GIT_AUTHOR_NAME": "sandbox",
    "GIT_AUTHOR_EMAIL": "sandbox@users.noreply.github.com",
    # https://docs.github.com/authentication/managing-commit-signature-verification/about-commit-signature-verification
    "GIT_COMMITTER_NAME": "GitHub",
    "GIT_COMMITTER_EMAIL": "noreply@github.com",
}


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
            lines = [f"0 {_ZERO}\t{path}" for path in deletions]
            for path, data in additions.items():
                blob = self._git.run("hash-object", "-w", "--stdin", stdin=data).decode().strip()
                lines.append(f"100644 {blob}\t{path}")
            listed = "\0".join(lines).encode()
            self._git.run("update-index", "--add", "--replace", "-z", "--index-info", stdin=listed, environment=index)
            tree = self._git.run("write-tree", environment=index).decode().strip()
        command = ("commit-tree", tree, "-p", head, "-F", "-")
        commit = self._git.run(*command, stdin=message.encode(), environment=_PEOPLE).decode().strip()
        try:
            self._git.run("update-ref", f"refs/heads/{branch}", commit, head)
        except GitError:
            if self.head(branch) != head:
                return None
            raise
        return commit

    def close(self) -> None:
        """End the long-lived process."""
        self._git.close()


def _person(line: str) -> tuple[str, str, str]:
    name, mail, moment = line.split("\0")
    return name, mail, moment
