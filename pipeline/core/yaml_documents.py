"""A YAML file of several documents: what stands where, and entries taken out or put in as whole lines.

As in `yaml_tree` nothing is dumped: an edit is a splice of the text between two marks, all other bytes stay.
"""

from collections.abc import Iterator
from functools import lru_cache

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from pipeline.core.image_splices import Splice
from pipeline.core.yaml_excerpt import Piece
from pipeline.core.yaml_tree import Tree


@lru_cache(maxsize=1024)
def documents(file: str, text: str) -> list[Tree]:
    """The documents of `text`, each as a tree whose marks are positions in the whole text."""
    roots = YAML(typ="safe", pure=True).compose_all(text)
    return [Tree(file, text, (Piece(0, 0, len(text)),), root) for root in roots if root is not None]


def at(node: Node | None, *path: str | int) -> Node | None:
    """The node at a path of keys and indices; None where there is none."""
    for part in path:
        if isinstance(node, MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            return None
    return node


def text_at(node: Node | None, *path: str | int) -> str | None:
    """The text of the scalar at a path; None where there is none."""
    found = at(node, *path)
    return found.value if isinstance(found, ScalarNode) else None


def items(node: Node | None) -> list[Node]:
    """The items of a sequence; none where it is no sequence."""
    return list(node.value) if isinstance(node, SequenceNode) else []


def pairs(node: Node | None) -> list[tuple[Node, Node]]:
    """The keys and values of a mapping; none where it is no mapping."""
    return list(node.value) if isinstance(node, MappingNode) else []


def nodes(node: Node | None) -> Iterator[Node]:
    """A node and all below it, in the order of the text."""
    if node is None:
        return
    yield node
    for key, value in pairs(node):
        yield from nodes(key)
        yield from nodes(value)
    for item in items(node):
        yield from nodes(item)


def scalars(node: Node | None) -> Iterator[ScalarNode]:
    """All scalars at or below a node, keys too, in the order of the text."""
    return (found for found in nodes(node) if isinstance(found, ScalarNode))


def removal(tree: Tree, parent: CollectionNode, index: int) -> Splice:
    """Take an entry out of a mapping or a list: its lines, and the comment lines right above, which speak of it."""
    if parent.flow_style:
        kept = [entry for number, entry in enumerate(parent.value) if number != index]
        ends = [entry if isinstance(entry, tuple) else (entry, entry) for entry in kept]
        inside = ", ".join(tree.text[tree.start(first) : tree.end(last)] for first, last in ends)
        left, right = "{}" if isinstance(parent, MappingNode) else "[]"
        return Splice(tree.start(parent), tree.end(parent), f"{left}{inside}{right}")
    start, end = lines(tree, parent, index)
    while (above := tree.text.rfind("\n", 0, start - 1) + 1) < start and tree.text[above:start].lstrip(" ")[:1] == "#":
        start = above
    return Splice(start, end, "")


def lines(tree: Tree, parent: CollectionNode, index: int) -> tuple[int, int]:
    """Where the lines of an entry of a block mapping or list start and end, without comments around them."""
    entry = parent.value[index]
    key, value = entry if isinstance(entry, tuple) else (None, entry)
    start = tree.text.rfind("\n", 0, tree.start(key or value)) + 1
    end = tree.text.find("\n", _text_end(tree, key, value)) + 1
    return start, end or len(tree.text)


def without_document(tree: Tree) -> str:
    """The text without this document. What stands above the first one is the file's own comment, and stays."""
    text, start = tree.text, tree.position(tree.root.start_mark.index) if tree.root else 0
    mark, after = text.rfind("---\n", 0, start), text.find("\n---\n", start) + 1
    if mark < 0:  # the first
        return text[:start] + text[after + 4 :] if after else ""
    return text[:mark] + (text[after:] if after else "")


def _text_end(tree: Tree, key: Node | None, value: Node) -> int:
    """Where the last character of a value stands, whatever comments and blank lines follow."""
    while isinstance(value, CollectionNode) and value.value and not value.flow_style:
        last = value.value[-1]
        key, value = last if isinstance(last, tuple) else (None, last)
    start, end = tree.span(key, value) if key else (tree.start(value), tree.end(value))
    return start + len(tree.text[start:end].rstrip())
