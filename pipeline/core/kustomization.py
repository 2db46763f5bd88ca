"""The `images:` list of a kustomization file: read as kustomize reads it, edited without touching any other byte."""

import codecs
import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.core.deployment import ChangedLine
from pipeline.core.image import is_digest, require_repository, require_tag, split_registry
from pipeline.core.image_items import Item, image_items, tag_setter
from pipeline.core.image_splices import Edit, append, apply, insert, replace
from pipeline.core.yaml_excerpt import Piece, excerpt
from pipeline.core.yaml_tree import Change, Tree, parse, proves
from pipeline.errors import DigestMissing, EntryNotFound, KustomizationUnusable, RepositoryDiffers, UsageError

KUSTOMIZATION_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")

PARSED_WHOLE = 32 * 1024
"""Characters. Up to here a file is parsed whole, so that a mistake anywhere in it is found; of a larger one only the
images are parsed, where its lines allow it."""

PARSED_AT_MOST = 1024 * 1024
"""Characters: the parser needs some six seconds for as many."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of `images:`. `line` is that of its tag, or of the entry where it has none; it counts from 1."""

    name: str
    new_name: str | None
    tag: str | None
    digest: str | None
    line: int


@dataclass(frozen=True, slots=True)
class ImageEdit:
    """What the entry `name` shall say. `repository` is where the image was pushed, where that is known."""

    name: str
    tag: str
    digest: str | None = None
    repository: str | None = None


@dataclass(frozen=True, slots=True)
class Edited:
    """The new bytes, and for each edit the entry as it was; None where the edit has created it."""

    data: bytes
    changed: tuple[ChangedLine, ...]
    before: tuple[Entry | None, ...]


def read_entries(data: bytes, file: str) -> tuple[Entry, ...]:
    """All entries of `images:`, in order. Raises KustomizationUnusable with file and line."""
    text = _decode(data, file)
    tree = _parse(file, text, _pieces(text, None))
    return tuple(_entry(tree, item) for item in image_items(tree))


def set_images(data: bytes, edits: Sequence[ImageEdit], *, file: str, create: bool = False) -> Edited:
    """Write each edit's tag, and its digest where one stands, into the entry that kustomize reads for that name.

    The new text is parsed again and compared: nothing but the intended values has changed, or an error is raised.
    With `create` a missing entry, or a missing `newName`, is added in the style of its neighbours.

    Raises EntryNotFound; RepositoryDiffers where `newName` is not the edit's repository; DigestMissing where a digest
    would go stale; UsageError for a tag or digest that is none; KustomizationUnusable, with file and line, for a file
    that cannot be edited safely.
    """
    _require_sound(edits)
    text = _decode(data, file)
    before, names = _read_for(edits, file, text)
    items = image_items(before)
    targets = {edit.name: _target(before, items, edit, create=create) for edit in edits}
    missing = [edit for edit in edits if targets[edit.name] is None]
    if missing and not create:
        raise entry_not_found([edit.name for edit in missing], file, read_entries(data, file))
    was = tuple(_entry(before, target.item) if target else None for target in targets.values())

    parts = [part for target in targets.values() if target for part in _written(before, items, target)]
    if missing:
        parts.append(append(before, items, [_new_entry(edit) for edit in missing]))
    if not parts:
        return Edited(data, (), was)
    edited = apply(text, [splice for part in parts for splice in part.splices])
    after = _proved(before, edited, names, edits, [change for part in parts for change in part.changes])
    changed = tuple(line for edit in edits for line in _changed_lines(after, targets[edit.name], edit.name))
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    return Edited(mark + edited.encode(), changed, was)


def entry_not_found(names: Sequence[str], where: str, entries: Iterable[Entry]) -> EntryNotFound:
    """The error that tells what is there, the names nearest to the first missing one first."""
    there = sorted(
        dict.fromkeys(entry.name for entry in entries),
        key=lambda name: -difflib.SequenceMatcher(None, names[0], name).ratio(),
    )
    more = f" and {len(there) - 10} more" if len(there) > 10 else ""
    listed = f"there are {', '.join(there[:10])}{more}" if there else "there is none at all"
    return EntryNotFound(f"{where}: no images entry {' or '.join(names)}; {listed}")


# Reading


def _decode(data: bytes, file: str) -> str:
    """The text without its byte order mark."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise KustomizationUnusable(f"{file}:1: it is written in UTF-16", remedy="Save the file as UTF-8.")
    nul = data.find(b"\0")
    if nul >= 0:
        raise KustomizationUnusable(
            f"{file}:{_line(data, nul)}: a binary file", remedy="Name the kustomization file of the overlay instead."
        )
    body = data.removeprefix(codecs.BOM_UTF8)
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise KustomizationUnusable(
            f"{file}:{_line(body, error.start)}: not UTF-8 text", remedy="Save the file as UTF-8."
        ) from None


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _read_for(edits: Sequence[ImageEdit], file: str, text: str) -> tuple[Tree, frozenset[str]]:
    """What decides the tags of the edits' names, and all the names that had to be looked at for it."""
    names = frozenset(edit.name for edit in edits)
    tree = _parse(file, text, _pieces(text, names))
    while True:
        # An entry with a `newName` can hand its image on to the entry of that name; the last entry is the pattern of a
        # new one, after which it is no longer the last.
        items = image_items(tree)
        names |= {item.text("newName") or "" for item in items if item.text("name") in names}
        names = (names | {item.text("name") or "" for item in items[-1:]}) - {""}
        pieces = _pieces(text, names)
        if pieces == tree.pieces:
            return tree, names
        tree = _parse(file, text, pieces)


def _pieces(text: str, names: Collection[str] | None) -> tuple[Piece, ...]:
    found = excerpt(text, names) if len(text) > PARSED_WHOLE else None
    return found or (Piece(0, 0, len(text)),)


def _parse(file: str, text: str, pieces: tuple[Piece, ...]) -> Tree:
    size = sum(piece.length for piece in pieces)
    if size > PARSED_AT_MOST:
        raise KustomizationUnusable(
            f"{file}:1: {size:,} characters would have to be parsed, and {PARSED_AT_MOST:,} are the limit",
            remedy="Move generators and patches into files of their own, so that the kustomization becomes small.",
        )
    return parse(file, text, pieces)


def _entry(tree: Tree, item: Item) -> Entry:
    node = item.fields["newTag"][1] if item.text("newTag") else item.node
    return Entry(
        item.text("name") or "", item.text("newName"), item.text("newTag"), item.text("digest"), tree.line(node)
    )


# Editing


def _require_sound(edits: Sequence[ImageEdit]) -> None:
    for number, edit in enumerate(edits):
        require_tag(edit.tag, edit.name)
        if edit.digest is not None and not is_digest(edit.digest):
            raise UsageError(f"{edit.name}: {edit.digest!r} is not a digest", remedy="Write sha256: and 64 hex digits.")
        if edit.repository is not None:
            require_repository(edit.repository)
        if any(edit.name == other.name for other in edits[:number]):
            raise UsageError(f"{edit.name} is given twice", remedy="Give one tag for each image.")


@dataclass(frozen=True, slots=True)
class _Target:
    """An item, and the fields that it shall have."""

    item: Item
    fields: dict[str, str]


def _target(tree: Tree, items: Sequence[Item], edit: ImageEdit, *, create: bool) -> _Target | None:
    """Where to write and what; None when no item has that name.

    Raises where the edit would not reach the cluster, or would name another image.
    """
    found = tag_setter(items, edit.name)
    if found is None:
        return None
    item, image = found
    name = item.text("name")
    if name != edit.name:
        raise tree.unusable(
            item.node,
            f"`newName` of {edit.name} hands it on to the entry {name}, which sets the tag",
            f"Give --image {name}={edit.tag}, or remove one of the two entries.",
        )
    fields = {"newTag": edit.tag}
    if edit.repository and split_registry(image) != split_registry(edit.repository):
        if image != edit.name or not create:
            raise RepositoryDiffers(
                f"{tree.file}:{tree.line(item.node)}: the entry {name} stands for {image}, "
                f"and the image was pushed to {edit.repository}"
            )
        fields = {"newName": edit.repository} | fields
    if item.text("digest"):
        if edit.digest:
            fields["digest"] = edit.digest
        elif not item.says("newTag", edit.tag):
            raise DigestMissing(
                f"{tree.file}:{tree.line(item.fields['digest'][1])}: the entry {name} pins a digest, "
                "which would stay that of the former image",
                remedy=f"Give --image {name}={edit.tag}@sha256:…, or remove `digest` there.",
            )
    return _Target(item, fields)


def _written(tree: Tree, items: Sequence[Item], target: _Target) -> list[Edit]:
    """The edits that make the item say what it shall; none when it does already."""
    item = target.item
    there = {field: text for field, text in target.fields.items() if field in item.fields}
    edits = [replace(tree, item, field, text) for field, text in there.items() if not item.says(field, text)]
    if len(there) < len(target.fields):
        added = {field: text for field, text in target.fields.items() if field not in there}
        edits.append(insert(tree, items, item, added))
    return edits


def _new_entry(edit: ImageEdit) -> dict[str, str]:
    require_repository(edit.name)
    differs = edit.repository is not None and split_registry(edit.repository) != split_registry(edit.name)
    return {"name": edit.name} | ({"newName": edit.repository or ""} if differs else {}) | {"newTag": edit.tag}


def _proved(
    before: Tree, edited: str, names: frozenset[str], edits: Sequence[ImageEdit], changes: Sequence[Change]
) -> Tree:
    """Parse the new text, and raise unless it says what the old one said but for the changes."""
    whole = before.pieces == (Piece(0, 0, len(before.text)),)
    pieces = (Piece(0, 0, len(edited)),) if whole else excerpt(edited, names)
    try:
        after = parse(before.file, edited, pieces)
        items = image_items(after)
    except KustomizationUnusable:
        after, items = before, ()
    setters = [tag_setter(items, edit.name) for edit in edits]
    told = all(found and found[0].text("newTag") == edit.tag for found, edit in zip(setters, edits, strict=True))
    if not (told and before.root and after.root and proves(before.root, after.root, changes)):
        raise before.unusable(
            changes[0].node, "the edit would change more here than the wanted values", "Make the change here by hand."
        )
    return after


def _changed_lines(after: Tree, target: _Target | None, name: str) -> Iterator[ChangedLine]:
    """The lines of the new text that say something new about the image."""
    found = tag_setter(image_items(after), name)
    wanted = target.fields.keys() if target else {"newName", "newTag"}
    for field, (_, node) in found[0].fields.items() if found else ():
        if field in wanted and not (target and target.item.says(field, node.value)):
            old = target.item.text(field) if target else None
            yield ChangedLine(file=after.file, line=after.line(node), name=name, old=old, new=node.value)
