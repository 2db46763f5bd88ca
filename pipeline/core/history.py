"""What the history of kustomizations says of versions: which deployment was the last, and what stood there before."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pipeline.core.deployment import Kind

Place = tuple[str, str]
"""The path of a kustomization file, and the name of an image in it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One commit that changed kustomizations: the tags before and after it."""

    revision: str
    kind: Kind | None
    """Of the commit's trailer; None when a person made it."""
    before: Mapping[Place, str | None]
    after: Mapping[Place, str | None]

    @property
    def changed(self) -> tuple[Place, ...]:
        """The places whose tag this commit changed."""
        return tuple(place for place, tag in self.after.items() if self.before.get(place) != tag)


def last_deployed(steps: Iterable[Step], among: Collection[str] = ()) -> tuple[str, ...]:
    """The images of the last commit, newest first in `steps`, that changed a tag; of `among` where that names any."""
    changed = ([name for _, name in step.changed if not among or name in among] for step in steps)
    return tuple(dict.fromkeys(next(filter(None, changed), ())))


def version_before(steps: Iterable[Step], place: Place) -> str | None:
    """The tag that `place` had before the deployment that is in effect now; None when history has none.

    `steps` are newest first. A rollback does not count as a deployment: what it undid is passed over, so that a
    second rollback goes one version further back and never forward to what was undone.
    """
    present: str | None = None
    for step in steps:
        if place not in step.changed:
            continue
        present = present or step.after[place]
        if step.after[place] == present and step.kind != "rollback":
            return step.before.get(place)
    return None
