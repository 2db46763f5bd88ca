"""Folders that ship beside the code: in the wheel inside the package, in a checkout at its root."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `gitops-repo-template` or `sample-apps`, wherever this installation keeps it."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
