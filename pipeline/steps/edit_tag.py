"""Edit: write the new tags into the kustomization files."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.deployment import ChangedLine
from pipeline.core.kustomization import Entry, ImageEdit, entry_not_found, read_entries, set_images
from pipeline.core.manifests import Read, unmatched
from pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images to set; with `create`, entries that are missing in the one file are added to it."""

    images: tuple[ImageEdit, ...]
    create: bool = False


@dataclass(frozen=True, slots=True)
class TagEdit:
    """The files that change, with their new content, and what they said before."""

    files: Mapping[str, bytes]
    changed: tuple[ChangedLine, ...]
    previous: Mapping[str, Entry]
    """Per image the entry as it was, from the first file that has it; an image that was added is not there."""
    warnings: tuple[str, ...] = ()


def edit_tag(files: Mapping[str, bytes], inputs: Inputs, read: Read | None = None) -> TagEdit:
    """Set every image in each of the files that has an entry for it.

    Where `read` gives the repository's other files, an image that no manifest names is warned about.

    Raises what `set_images` raises; EntryNotFound for an image that is in none of the files.
    """
    edited: dict[str, bytes] = {}
    changed: list[ChangedLine] = []
    previous: dict[str, Entry] = {}
    warnings: list[str] = []
    for file, images in _placed(files, inputs).items():
        result = set_images(files[file], images, file=file, create=inputs.create)
        changed += result.changed
        for image, entry in zip(images, result.before, strict=True):
            if entry is not None:
                previous.setdefault(image.name, entry)
        if result.changed:
            edited[file] = result.data
        if read is not None:
            warnings += unmatched(file, [image.name for image in images], read)
    return TagEdit(edited, tuple(changed), previous, tuple(warnings))


def _placed(files: Mapping[str, bytes], inputs: Inputs) -> dict[str, list[ImageEdit]]:
    """The images to set in each file."""
    if len(files) == 1:
        return {file: list(inputs.images) for file in files}
    if inputs.create:
        raise UsageError(
            f"with --create there must be one file, and there are {len(files)}",
            remedy="Name the file that the entry shall be added to.",
        )
    entries = {file: read_entries(data, file) for file, data in files.items()}
    names = {file: {entry.name for entry in found} for file, found in entries.items()}
    missing = [image.name for image in inputs.images if not any(image.name in there for there in names.values())]
    if missing:
        raise entry_not_found(missing, ", ".join(files), (e for found in entries.values() for e in found))
    return {file: [image for image in inputs.images if image.name in there] for file, there in names.items()}
