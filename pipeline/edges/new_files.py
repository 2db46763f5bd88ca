"""New files in a folder, all of them or none, and a git repository around them."""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from pipeline.edges.git import Git, GitError, explain, explained
from pipeline.errors import FilesExist, UsageError


def repository_of(folder: Path) -> Path | None:
    """The work tree that `folder`, or where it would be made, lies in; None outside of any.

    Raises UsageError for what is no folder, GitUnusable where git is not installed.
    """
    with explained(str(folder)):
        here = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not here.is_dir():
            raise UsageError(f"{here}: is a file, not a folder", remedy="Name a folder, or one that is to be made.")
        top = Git(here).try_line("rev-parse", "--show-toplevel")
    return Path(top) if top else None


def in_the_way(folder: Path, files: Mapping[str, str], *, force: bool) -> tuple[str, ...]:
    """The files that are not there as they shall be. Raises FilesExist for those that must not be replaced.

    What is no file, and links that lead elsewhere, are never replaced.
    """
    with explained(str(folder)):
        blocked = {name for file in files for name in _blocked(folder, file)}
        there = [file for file in files if os.path.lexists(folder / file) and file not in blocked]
        differ = [file for file in there if (folder / file).is_symlink() or not _says(folder / file, files[file])]
    if blocked:
        raise FilesExist(
            f"{folder}: where folders and files must be made, something else is: {_listed(sorted(blocked))}",
            remedy="Move it away, or choose another folder.",
        )
    if differ and not force:
        raise FilesExist(f"{folder}: already has {_listed(differ)}")
    return tuple(file for file in files if file not in there or file in differ)


def _blocked(folder: Path, file: str) -> Iterable[str]:
    for parent in Path(file).parents:
        path = folder / parent
        if str(parent) != "." and os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            yield str(parent)
    path = folder / file
    if path.exists() and not path.is_file() and not path.is_symlink():
        yield file


def _says(path: Path, text: str) -> bool:
    return path.read_bytes() == text.encode()


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:10]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def write(folder: Path, files: Mapping[str, str], *, repository: bool = False) -> None:
    """Write the files, and with `repository` make the folder one of its own. After an error all is as it was.

    Raises Denied, NoSpaceLeft, or what git says.
    """
    with explained(str(folder)), ExitStack() as made:
        _make_folder(folder, made)
        with tempfile.TemporaryDirectory(prefix=".openeg-deploy-", dir=folder) as aside, ExitStack() as undo:
            if repository:
                if not os.path.lexists(folder / ".git"):
                    undo.callback(shutil.rmtree, folder / ".git", ignore_errors=True)
                Git(folder).run("init", "--quiet", "--initial-branch=main")
            _write_aside(Path(aside), files.values())
            # From here on nothing is written that could fill a disk, only moved.
            for number, file in enumerate(files):
                target, old = folder / file, Path(aside, f"old-{number}")
                _make_folder(target.parent, undo)
                if os.path.lexists(target):
                    target.replace(old)
                    undo.callback(old.replace, target)
                Path(aside, f"new-{number}").replace(target)
                undo.callback(target.unlink)
            undo.pop_all()
        made.pop_all()


def _write_aside(aside: Path, texts: Iterable[str]) -> None:
    for number, text in enumerate(texts):
        new = aside / f"new-{number}"
        new.write_bytes(text.encode())
        if text.startswith("#!"):
            mode = new.stat().st_mode
            new.chmod(mode | (mode & 0o444) >> 2)


def _make_folder(folder: Path, undo: ExitStack) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir()
        undo.callback(_remove_if_empty, path)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def add(folder: Path, files: Collection[str]) -> None:
    """Add the files to git's index, also those that a personal ignore list names, such as `*.env`."""
    with explained(str(folder)):
        Git(folder).run("add", "--force", "--pathspec-from-file=-", stdin="\n".join(files).encode())


def commit(folder: Path, message: str) -> tuple[str | None, str]:
    """Commit what was added. The commit, or None with the reason: git does not know the user, or refuses."""
    git = Git(folder)
    with explained(str(folder)):
        known = ("-c", "user.useConfigOnly=true", "var")  # git would make an address of the machine's name else
        if not all(git.try_line(*known, f"GIT_{who}_IDENT") for who in ("AUTHOR", "COMMITTER")):
            return None, "git has no user.name and user.email"
        try:
            git.run("commit", "--quiet", f"--message={message}")
        except GitError as error:
            return None, str(explain(error, "git commit"))
        return git.line("rev-parse", "HEAD"), ""
