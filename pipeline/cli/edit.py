"""`edit`: the pure edit on files, for people who script their own."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from pipeline.cli.flags import Run
from pipeline.errors import Denied, NoSpaceLeft, NotFound, UsageError


def edit(run: Run) -> None:
    """Set image tags in kustomization files, printed or written in place."""
    from pipeline.core import diff
    from pipeline.core.image import parse_wanted, require_commit
    from pipeline.core.kustomization import ImageEdit
    from pipeline.steps import edit_tag

    wanted = [parse_wanted(argument) for argument in run.texts("image")]
    if not wanted:
        raise UsageError("--image is missing", remedy="Pass --image NAME=TAG.")
    for image in wanted:
        require_commit(image.tag, image.name)
    files = {name: _read(name) for name in run.texts("files")}
    in_place, dry_run = run.switch("in-place"), run.switch("dry-run")
    if len(files) > 1 and not (in_place or dry_run or run.report.json):
        raise UsageError(
            "several files cannot be printed at once", remedy="Pass --in-place, or --dry-run for the diff."
        )

    edits = tuple(ImageEdit(image.name, image.tag, image.digest) for image in wanted)
    result = edit_tag.edit_tag(files, edit_tag.Inputs(edits, create=run.switch("create")), _read_if_there)
    for warning in result.warnings:
        run.progress.say(f"warning: {warning}")
    run.report.diff = diff.unified(files, result.files)
    if in_place and not dry_run:
        for name, data in result.files.items():
            _replace(Path(name), data)
    run.report.edited(result.changed, planned=dry_run or not in_place)
    if not (in_place or dry_run or run.report.json):
        run.report.content = next(result.files.get(name, data) for name, data in files.items())


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise NotFound(f"{name}: {error.strerror}", remedy="Name kustomization files that can be read.") from error


def _read_if_there(name: str) -> bytes | None:
    try:
        return Path(name).read_bytes()
    except OSError:
        return None


def _replace(path: Path, data: bytes) -> None:
    """Put new content in place in one step: a full disk or an interrupt leaves the old file whole."""
    real = path.resolve()
    try:
        with tempfile.NamedTemporaryFile(dir=real.parent, prefix=f".{real.name}.", delete=False) as new:
            try:
                new.write(data)
                new.flush()
                os.fsync(new.fileno())
                shutil.copymode(real, new.name)
                Path(new.name).replace(real)
            except BaseException:
                Path(new.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise NoSpaceLeft(f"{path}: {error.strerror}") from error
        raise Denied(f"{path}: {error.strerror}", remedy="Check who may write the folder.") from error
