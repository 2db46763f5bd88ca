"""The files of a GitOps repository: what git knows of a folder, else what lies in it. Links are not followed."""

import functools
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

AT_MOST = 4 * 1024 * 1024
"""Bytes of a file that is read."""
FILES = 50_000

_GIT_SECONDS = 60.0
_LEFT_OUT = {".git", ".venv", "node_modules", "__pycache__", ".terraform"}


def list_files(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The regular files of a folder, relative to it and in order, and what was left out and why."""
    skipped: list[str] = []
    files: list[str] = []
    for name in sorted(_of_git(root) or _of_disk(root)):
        if len(files) == FILES:
            skipped.append(f"other files: more than {FILES}")
            break
        try:
            status = (root / name).lstat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and not _through_link(root, name):
            if not os.access(root / name, os.R_OK):
                skipped.append(f"{name}: it cannot be read")
            elif status.st_size > AT_MOST:
                skipped.append(f"{name}: it is larger than {AT_MOST // 1024 // 1024} MB")
            else:
                files.append(name)
    return tuple(files), tuple(skipped)


def read(root: Path, name: str) -> bytes:
    """The content of a file; empty where it cannot be read."""
    try:
        with (root / name).open("rb") as file:
            return file.read(AT_MOST)
    except OSError:
        return b""


def _through_link(root: Path, name: str) -> bool:
    folder = name.rpartition("/")[0]
    return bool(folder) and _is_through_link(root, folder)


@functools.cache
def _is_through_link(root: Path, folder: str) -> bool:
    return (root / folder).is_symlink() or _through_link(root, folder)


def _of_git(root: Path) -> list[str]:
    """What is tracked, or new and not ignored; empty where git does not know the folder.

    The repository is not trusted: none of its settings may start a program.
    """
    command = ("git", "-C", str(root), "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    try:
        done = subprocess.run(
            (*command, "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name] if done.returncode == 0 else []


def _of_disk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118 -- some hundred thousand of them
