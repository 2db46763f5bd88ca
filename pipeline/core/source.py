"""The application's source as it is checked out: what an image is built from."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Checkout:
    """A work tree of the application's repository."""

    path: Path
    commit: str
    """Full commit hash of HEAD."""
    url: str
    """Where the repository comes from, without credentials."""
    dirty: tuple[str, ...]
    """Files that differ from the commit, relative to `path`; untracked files that git does not ignore too."""
    committed: datetime
    """When the commit was made, with its time zone."""
