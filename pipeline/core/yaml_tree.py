"""A YAML text as nodes that know where they stand, and the proof that an edit changed what it should and nothing else.

Texts are never dumped: an edit replaces characters between two positions, and the new text is parsed again.
Only the first document of a text is looked at, as kustomize does.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from pipeline.core.yaml_excerpt import Piece
from pipeline.errors import KustomizationUnusable

LINE_BREAK = re.compile(r"\r\n|\n|\r")

_CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7})(?= |\r?$)", re.MULTILINE)
_TEMPLATE = re.compile(r"\{\{|\{%|@\(")
_SEPARATING_TABS = re.compile(r"(?<=\S)[ \t]*\t[ \t]*")
_COLON = re.compile(r"[ \t]*:")
_NO_MORE = re.compile(r"(?:\s|#.*+)*+(?:---|\.\.\.|\Z)")
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*\s*)*")

Plain = str | tuple["Plain", ...]
"""A node without marks and styles: a scalar's text, a sequence's values, or a mapping's keys and values in turn."""


@dataclass(frozen=True)
class Tree:
    """The first document of `text`, or of `pieces` of it; `root` is None when there is none."""

    file: str
    text: str
    pieces: tuple[Piece, ...]
    root: Node | None

    def start(self, node: Node) -> int:
        """Where the node's value begins in `text`, after an anchor or a tag."""
        start, end = self.position(node.start_mark.index), self.end(node)
        properties = _PROPERTIES.match(self.text, start, end)
        return properties.end() if properties else start

    def end(self, node: Node) -> int:
        """Where the node ends in `text`; of a block collection or block scalar that is after trailing blank lines."""
        start, end = node.start_mark.index, node.end_mark.index
        return self.position(end) if start == end else self.position(end - 1) + 1

    def span(self, key: Node, value: Node) -> tuple[int, int]:
        """Where a value starts and ends; of a null that is not written, right after its key's colon.

        (The parser places such a null at whatever follows.)
        """
        if value.start_mark.index != value.end_mark.index:
            return self.start(value), self.end(value)
        colon = _COLON.match(self.text, self.end(key))
        if colon is None:
            raise self.unusable(key, f"{plain(key)} has no value", "Write `key: value` here.")
        return colon.end(), colon.end()

    def source(self, node: Node) -> str:
        """The node's own characters."""
        return self.text[self.start(node) : self.end(node)]

    def line(self, node: Node) -> int:
        """The line on which the node begins, counted from 1."""
        return self.line_at(self.position(node.start_mark.index))

    def line_at(self, position: int) -> int:
        """The line of a position in `text`, counted from 1."""
        return sum(1 for _ in LINE_BREAK.finditer(self.text, 0, position)) + 1

    def position(self, index: int) -> int:
        """Where the character stands in `text` that the parser saw at `index`."""
        piece = self.pieces[bisect_right(self.pieces, index, key=lambda piece: piece.start) - 1]
        return piece.position + index - piece.start

    def unusable(self, node: Node, problem: str, remedy: str | None = None) -> KustomizationUnusable:
        """The error that names the node's line."""
        return KustomizationUnusable(f"{self.file}:{self.line(node)}: {problem}", remedy=remedy)

    @cached_property
    def shared(self) -> frozenset[int]:
        """The ids of the nodes that stand in more than one place, because an alias repeats them or what they are in."""
        shared: set[int] = set()
        _meet(_meet([self.root] if self.root else [], set()), shared)
        return frozenset(shared)


def parse(file: str, text: str, pieces: tuple[Piece, ...] | None = None) -> Tree:
    """Parse the first document of `text`, or of those pieces of it.

    Raises KustomizationUnusable, with file and line, for what is not YAML.
    """
    pieces = pieces or (Piece(0, 0, len(text)),)
    source = _without_tabs("".join(text[piece.position : piece.position + piece.length] for piece in pieces))
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False
    try:
        root = next(iter(yaml.compose_all(source)), None)
    except (YAMLError, RecursionError, ValueError, OverflowError, AttributeError, IndexError, AssertionError) as error:
        raise _not_yaml(Tree(file, text, pieces, None), error) from None
    tree = Tree(file, text, pieces, root)
    if root is not None and not _NO_MORE.match(source, root.end_mark.index):
        line = tree.line_at(tree.position(root.end_mark.index))
        raise KustomizationUnusable(f"{file}:{line}: not valid YAML: this is indented less than what comes before")
    return tree


def _without_tabs(text: str) -> str:
    """`text` with a space for every tab that does not indent: YAML allows those, kustomize takes them, ruamel does not.

    Every character keeps its place, and from the result nothing but positions and comparisons are taken.
    """
    return _SEPARATING_TABS.sub(lambda tabs: " " * len(tabs[0]), text) if "\t" in text else text


def _not_yaml(tree: Tree, error: Exception) -> KustomizationUnusable:
    conflict = _CONFLICT.search(tree.text)
    if conflict:
        return KustomizationUnusable(
            f"{tree.file}:{tree.line_at(conflict.start())}: an unresolved merge conflict",
            remedy="Resolve the conflict in the GitOps repository, then run again.",
        )
    position, problem = 0, str(error) or type(error).__name__
    if isinstance(error, ReaderError):
        position, problem = tree.position(error.position), "a character that YAML does not allow"
    elif isinstance(error, MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        position, problem = tree.position(mark.index), error.problem or error.context or problem
    elif isinstance(error, RecursionError):
        problem = "it is nested too deeply"
    line = tree.line_at(position)
    if _TEMPLATE.search(LINE_BREAK.split(tree.text)[line - 1]):
        return KustomizationUnusable(
            f"{tree.file}:{line}: a template placeholder makes this no YAML",
            remedy="Edit the rendered file, or quote the placeholder so that kustomize can read the file too.",
        )
    return KustomizationUnusable(f"{tree.file}:{line}: not valid YAML: {problem}")


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit intends: `node` becomes `value`; with a key, or an index, `value` is added there to `node`."""

    node: Node
    value: Plain
    at: str | int | None = None


def proves(before: Node, after: Node, intended: Sequence[Change]) -> bool:
    """Whether `after` differs from `before` by the intended changes, all of them, and by nothing else.

    Scalars are compared with their style, mappings with the order of their keys. A pair of nodes is looked at once,
    so that aliases cost nothing.
    """
    expected = {(id(change.node), change.at): change.value for change in intended}
    seen: set[tuple[int, int]] = set()
    waiting = [(before, after)]
    while waiting:
        old, new = waiting.pop()
        if (id(old), id(new)) in seen:
            continue
        seen.add((id(old), id(new)))
        if (id(old), None) in expected:
            if expected.pop((id(old), None)) != plain(new):
                return False
        elif (old.tag, _style(old)) != (new.tag, _style(new)):
            return False
        elif isinstance(old, ScalarNode):
            if old.value != new.value:
                return False
        else:
            children = _pair_up(old, new, expected)
            if children is None:
                return False
            waiting.extend(children)
    return not expected


def plain(node: Node) -> Plain:
    """The node's values alone."""
    return node.value if isinstance(node, ScalarNode) else tuple(plain(child) for child in _children(node))


def _pair_up(
    old: Node, new: Node, expected: dict[tuple[int, str | int | None], Plain]
) -> list[tuple[Node, Node]] | None:
    """The children to compare with each other; None where `new` lacks one, or has one that nobody expected.

    What was added as intended is taken out of `expected`.
    """
    slots, pairs, matched = _slots(old), list[tuple[Node, Node]](), 0
    for at, nodes in _slots(new):
        if matched < len(slots) and slots[matched][0] == at:
            pairs.extend(zip(slots[matched][1], nodes, strict=True))
            matched += 1
        elif (id(old), at) not in expected or expected.pop((id(old), at)) != plain(nodes[-1]):
            return None
    return pairs if matched == len(slots) else None


def _slots(node: Node) -> list[tuple[str | int | None, tuple[Node, ...]]]:
    """The places in a collection: each key of a mapping with key and value, each index of a sequence with its item."""
    if isinstance(node, MappingNode):
        return [(key.value if isinstance(key, ScalarNode) else None, (key, value)) for key, value in node.value]
    return [(index, (item,)) for index, item in enumerate(node.value)]


def _children(node: Node) -> Iterator[Node]:
    if not isinstance(node, ScalarNode):
        for _, nodes in _slots(node):
            yield from nodes


def _meet(nodes: Iterable[Node], met: set[int]) -> list[Node]:
    """Add the ids of the nodes and of all below them to `met`; those that were met again come back."""
    waiting, again = list(nodes), []
    while waiting:
        node = waiting.pop()
        if id(node) in met:
            again.append(node)
        else:
            met.add(id(node))
            waiting.extend(_children(node))
    return again


def _style(node: Node) -> object:
    return node.style if isinstance(node, ScalarNode) else getattr(node, "flow_style", None)
