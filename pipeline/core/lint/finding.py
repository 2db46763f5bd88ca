"""What a rule says, and where a comment can switch it off."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
Place = tuple[str, int]
"""A file and a line of it, from 1."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One finding. `file` is relative to the linted folder; `line` counts from 1."""

    file: str
    line: int
    rule: str
    message: str
    allowed_at: tuple[Place, ...] = ()
    """Further places where a comment switches it off, such as the pod that a container is in."""


def distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in order of place; what several overlays show of the same base is said once."""
    first = {(item.file, item.line, item.rule, item.message): item for item in findings}
    return tuple(first[key] for key in sorted(first))
