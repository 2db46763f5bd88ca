"""How commits are related: the commits of a remote repository without any files, as deep as a question needs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.core.order import Relation
from pipeline.edges.git import Address, Git, Scratch, explained
from pipeline.errors import PipelineError

_DEPTHS = (64, 1024, 2**31 - 1)  # the last one stands for all


class CommitGraph:
    """Answers for one remote repository; what was fetched for a question serves the next."""

    def __init__(
        self, origin: Address, *, objects: Path | None = None, settings: Sequence[tuple[str, str]] = ()
    ) -> None:
        """`objects` is the object folder of a full clone on this machine; `settings` are its git settings."""
        self._origin = origin
        self._objects = objects
        self._settings = settings
        self._scratch: Scratch | None = None

    def relation(self, old: str, new: str) -> Relation:
        """How `new` stands to `old`. Raises PipelineError when the remote does not give the commits."""
        if old == new:
            return Relation.EQUAL
        with explained(self._origin.url):
            self._scratch = self._scratch or Scratch(self._origin, objects=self._objects, settings=self._settings)
            git = self._scratch.git
            for depth in _DEPTHS:
                known = relation(git, old, new, complete=not self._scratch.is_shallow)
                if known is not Relation.UNKNOWN:
                    return known
                if self._objects:
                    missing = [commit for commit in (old, new) if not has_commit(git, commit)]
                    self._scratch.fetch("--filter=tree:0", "origin", *missing, negotiate=True)
                else:
                    self._scratch.fetch(f"--depth={depth}", "--filter=tree:0", "origin", old, new)
            return relation(git, old, new, complete=not self._scratch.is_shallow)

    def default_branch(self) -> str | None:
        """The head commit of the remote's default branch."""
        with explained(self._origin.url):
            self._scratch = self._scratch or Scratch(self._origin, objects=self._objects, settings=self._settings)
            return self._scratch.git.line("ls-remote", "origin", "HEAD").partition("\t")[0] or None

    def close(self) -> None:
        """Remove what was fetched."""
        if self._scratch:
            self._scratch.close()


def relation(git: Git, old: str, new: str, *, complete: bool) -> Relation:
    """What one repository knows of two commits. Only a `complete` history can tell that neither contains the other."""
    if not (has_commit(git, old) and has_commit(git, new)):
        return Relation.UNKNOWN
    if old == new:
        return Relation.EQUAL
    if is_ancestor(git, old, new):
        return Relation.DESCENDANT
    if is_ancestor(git, new, old):
        return Relation.ANCESTOR
    return Relation.DIVERGED if complete else Relation.UNKNOWN


def has_commit(git: Git, commit: str) -> bool:
    """Whether the repository has the commit itself."""
    return git.object(commit) is not None


def is_ancestor(git: Git, old: str, new: str) -> bool:
    """Whether `new` is seen to descend from `old`, or to be it."""
    return git.try_line("merge-base", "--is-ancestor", old, new) is not None


def descends(ask: Callable[[str, str], Relation], revision: str, ancestor: str) -> bool | None:
    """Whether commit `revision` contains commit `ancestor`, as `ask(old, new)` tells; None when it cannot."""
    try:
        known = ask(ancestor, revision)
    except PipelineError:
        return None
    return None if known is Relation.UNKNOWN else known in {Relation.EQUAL, Relation.DESCENDANT}
