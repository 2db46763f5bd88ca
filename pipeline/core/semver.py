"""Versions as https://semver.org/ has them, and the one that follows from what was committed since the last."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

Weight = Literal["major", "minor", "patch"]

_NUMBER = r"(0|[1-9]\d*)"
_VERSION = re.compile(rf"v?{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Version:
    """One version. Build metadata is not known here: a tag that differs in it alone would be the same version."""

    major: int
    minor: int
    patch: int
    pre: str = ""
    """`rc.1`; empty for a version that is released."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What `1.2.3`, `v1.2.3` or `v1.2.3-rc.1` means; None for anything else.

        >>> Version.parse("v1.2.3-rc.1")
        Version(major=1, minor=2, patch=3, pre='rc.1')
        """
        found = _VERSION.fullmatch(text)
        if found is None:
            return None
        pre = found[4] or ""
        if any(part.isdigit() and part != str(int(part)) for part in pre.split(".")):
            return None
        return cls(int(found[1]), int(found[2]), int(found[3]), pre)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}{f'-{self.pre}' if self.pre else ''}"

    @property
    def rank(self) -> tuple[object, ...]:
        """What versions are ordered by: a release after its release candidates, numbers as numbers."""
        parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre.split(".")]
        return (self.major, self.minor, self.patch, not self.pre, parts if self.pre else [])

    def next(self, weight: Weight) -> "Version":
        """The version after a change. Below 1.0.0 what breaks is a minor change."""
        match weight:
            case "major" if self.major:
                return Version(self.major + 1, 0, 0)
            case "major" | "minor":
                return Version(self.major, self.minor + 1, 0)
            case _:
                return Version(self.major, self.minor, self.patch + 1)


FIRST = Version(0, 1, 0)


def following(last: Version | None, weights: Iterable[Weight]) -> Version:
    """The version for changes since `last`; the first one where there is none."""
    if last is None:
        return FIRST
    found = set(weights)
    return last.next("major" if "major" in found else "minor" if "minor" in found else "patch")
