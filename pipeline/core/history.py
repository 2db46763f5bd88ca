"""What the history of a kustomization says of versions: which deployment was the last, and what stood there before."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.core.deployment import Kind


@dataclass(frozen=True, slots=True)
class Step:
    """One commit that changed the kustomization: the tags before and after it, by image name."""

    revision: str
    kind: Kind | None
    """Of the commit's trailer; None when a person made it."""
    before: Mapping[str, str | None]
    after: Mapping[str, str | None]

    @property
    def changed(self) -> tuple[str, ...]:
        """The images whose tag this commit changed."""
        return tuple(name for name, tag in self.after.items() if self.before.get(name) != tag)


def last_deployed(steps: Iterable[Step]) -> tuple[str, ...]:
    """The images of the last commit, newest first in `steps`, that changed a tag."""
    return next((step.changed for step in steps if step.changed), ())


def version_before(steps: Iterable[Step], name: str) -> str | None:
    """The tag that `name` had before the deployment that is in effect now; None when history has none.

    `steps` are newest first. A rollback does not count as a deployment: what it undid is passed over, so that a
    second rollback goes one version further back and never forward to what was undone.
    """
    present: str | None = None
    for step in steps:
        if name not in step.changed:
            continue
        present = present or step.after[name]
        if step.after[name] == present and step.kind != "rollback":
            return step.before.get(name)
    return None
