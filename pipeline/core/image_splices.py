"""How a value gets into the text of a kustomization: what to replace or insert, and what that must change.

Each function gives an `Edit`: splices of the old text, and the changes that the new tree must then show.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.core.image_items import Item, images_field, root_mapping
from pipeline.core.yaml_scalar import write
from pipeline.core.yaml_tree import LINE_BREAK, Change, Plain, Tree

_PLACEHOLDER = re.compile(r"\s*#\{")


@dataclass(frozen=True, slots=True)
class Splice:
    """Replace the characters from `start` to `end` by `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Edit:
    """Splices, and the changes of the tree that they stand for."""

    splices: tuple[Splice, ...]
    changes: tuple[Change, ...]


def apply(text: str, splices: Sequence[Splice]) -> str:
    """The text with all splices made; those at one place follow each other in the order given."""
    parts, position = [], 0
    for splice in sorted(splices, key=lambda splice: splice.start):
        parts += [text[position : splice.start], splice.text]
        position = splice.end
    return "".join([*parts, text[position:]])


def replace(tree: Tree, item: Item, field: str, value: str) -> Edit:
    """Give a field that is there another value, in the quotes that it has."""
    key, node = item.fields[field]
    _require_own(tree, item.node, node)
    start, end = tree.span(key, node)
    source = tree.text[start:end]
    if not source:
        if _PLACEHOLDER.match(tree.text, end):
            raise tree.unusable(
                key,
                f"{field} is a template placeholder that YAML reads as a comment",
                "Edit the rendered file, or put the placeholder in quotes.",
            )
        new = f" {write(value)}"
    elif node.style in {"|", ">"}:
        if "#" in source.splitlines()[0]:
            raise tree.unusable(node, f"{field} is a block scalar with a comment", f"Write {field} on one line.")
        new = write(value) + source[len(source.rstrip()) :]
    else:
        new = write(value, node.style)
    return Edit((Splice(start, end, new),), (Change(node, value),))


def insert(tree: Tree, items: Sequence[Item], item: Item, fields: Mapping[str, str]) -> Edit:
    """Add fields to an item, after its `newName`, or else its `name`."""
    _require_own(tree, item.node)
    key, value = item.fields.get("newName") or item.fields["name"]
    changes = tuple(Change(item.node, text, field) for field, text in fields.items())
    if item.node.flow_style:
        position, new = tree.end(value), "".join(f", {pair}" for pair in _flow_pairs(fields, key.style))
    else:
        position, eol = _line_end(tree.text, _text_end(tree, key, value))
        pad = eol + " " * key.start_mark.column
        new = "".join(f"{pad}{field}: {write(text, _quote(items, field))}" for field, text in fields.items())
    return Edit((Splice(position, position, new),), changes)


def append(tree: Tree, items: Sequence[Item], entries: Sequence[Mapping[str, str]]) -> Edit:
    """Add entries at the end of `images:`, which is made where it is missing or empty."""
    root, field = root_mapping(tree), images_field(tree)
    plains = tuple(tuple(text for pair in entry.items() for text in pair) for entry in entries)
    if field is None:
        return _append_key(tree, root, entries, plains)
    key, images = field
    _require_own(tree, images)
    if not isinstance(images, SequenceNode) or not images.value:
        return _fill(tree, root, key, images, entries, plains)
    changes = tuple(Change(images, plain, len(images.value) + number) for number, plain in enumerate(plains))
    if images.flow_style:
        quote = next((key.style for item in items for key, _ in item.fields.values()), None)
        position, new = tree.end(images.value[-1]), f", {_flow_entries(entries, quote)}"
    else:
        position, eol = _line_end(tree.text, _list_end(tree, images))
        column = images.start_mark.column
        indent = items[-1].node.start_mark.column - column if items else 2
        new = eol + _block_entries(items, entries, eol, column, indent)
    return Edit((Splice(position, position, new),), changes)


def _append_key(tree: Tree, root: MappingNode, entries: Sequence[Mapping[str, str]], plains: Plain) -> Edit:
    """Write `images:` as the last key."""
    change = Change(root, plains, "images")
    if root.flow_style:
        if not root.value:
            raise tree.unusable(root, "the file is empty", "Write at least its `resources:`.")
        key, value = root.value[-1]
        position, quote = tree.end(value), key.style or ""
        new = f", {quote}images{quote}: [{_flow_entries(entries, quote)}]"
    else:
        position = tree.end(root)
        eol = _first_break(tree.text)
        column = root.start_mark.column
        block = f"{' ' * column}images:{eol}{_block_entries((), entries, eol, _list_column(root), 2)}"
        at_line_start = position == 0 or tree.text[position - 1] in "\r\n"
        new = block + eol if at_line_start else eol + block
    return Edit((Splice(position, position, new),), (change,))


def _fill(
    tree: Tree,
    root: MappingNode,
    key: Node,
    images: Node,
    entries: Sequence[Mapping[str, str]],
    plains: Plain,
) -> Edit:
    """Put entries in the place of `[]` or of null."""
    start, end = tree.span(key, images)
    change = Change(images, plains)
    if root.flow_style:
        space = "" if end > start else " "
        return Edit((Splice(start, end, f"{space}[{_flow_entries(entries, root.value[0][0].style)}]"),), (change,))
    position, eol = _line_end(tree.text, end)
    start -= len(tree.text[:start]) - len(tree.text[:start].rstrip(" "))
    new = eol + _block_entries((), entries, eol, _list_column(root), 2)
    return Edit((Splice(start, end, ""), Splice(position, position, new)), (change,))


def _block_entries(
    items: Sequence[Item], entries: Sequence[Mapping[str, str]], eol: str, column: int, indent: int
) -> str:
    lines = []
    for entry in entries:
        lead = " " * column + "-" + " " * (indent - 1)
        for field, text in entry.items():
            lines.append(f"{lead}{field}: {write(text, _quote(items, field))}")
            lead = " " * (column + indent)
    return eol.join(lines)


def _flow_entries(entries: Sequence[Mapping[str, str]], quote: str | None) -> str:
    return ", ".join(f"{{{', '.join(_flow_pairs(entry, quote))}}}" for entry in entries)


def _flow_pairs(fields: Mapping[str, str], quote: str | None) -> list[str]:
    """`key: value` pairs; where the keys have quotes, as in JSON, the values have them too."""
    quote = quote or ""
    return [f"{quote}{field}{quote}: {write(text, quote)}" for field, text in fields.items()]


def _quote(items: Sequence[Item], field: str) -> str | None:
    """The quotes that the last neighbour has around this field."""
    styles = [item.fields[field][1].style for item in items if item.text(field)]
    return styles[-1] if styles and styles[-1] in {"'", '"'} else None


def _list_column(root: MappingNode) -> int:
    """Where the dashes of the file's first list stand; without one, as kustomize writes them."""
    lists = (value for _, value in root.value if isinstance(value, SequenceNode) and not value.flow_style)
    return int(next((node.start_mark.column for node in lists), root.start_mark.column))


def _list_end(tree: Tree, images: SequenceNode) -> int:
    """Where the text of the last value in the list ends."""
    key, node = None, images.value[-1]
    while not isinstance(node, ScalarNode) and node.value:
        key, node = node.value[-1] if isinstance(node, MappingNode) else (None, node.value[-1])
    _require_own(tree, node)
    return _text_end(tree, key, node)


def _text_end(tree: Tree, key: Node | None, value: Node) -> int:
    """Where a value ends, without the blank lines after a block scalar."""
    start, end = tree.span(key, value) if key else (tree.start(value), tree.end(value))
    return start + len(tree.text[start:end].rstrip())


def _line_end(text: str, position: int) -> tuple[int, str]:
    """Where the line of a position ends, and the kind of line break that is used there."""
    found = LINE_BREAK.search(text, position)
    return (found.start(), found[0]) if found else (len(text), _first_break(text))


def _first_break(text: str) -> str:
    found = LINE_BREAK.search(text)
    return found[0] if found else "\n"


def _require_own(tree: Tree, *nodes: Node) -> None:
    """Refuse to change what an alias repeats in another place."""
    for node in nodes:
        if id(node) in tree.shared:
            raise tree.unusable(
                node,
                "an anchor makes this value stand in other places too",
                "Write the value out in the entry, without anchor and alias.",
            )
