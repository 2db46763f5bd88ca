"""The few pieces of a large kustomization that hold the wanted image entries.

The YAML parser needs a second for ten thousand lines. Where every line of a file is of a kind that cannot change the
meaning of another section or item, the file falls apart into pieces that mean alone what they mean together: a
top-level key with its value, an item of `images`. Then only the pieces that matter are parsed.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

# A line that opens no quote or bracket without closing it, and uses no anchor, alias, tag or directive.
_LINE = re.compile(
    r"""
    (?P<indent>\ *) (?P<dashes>(?:-\ +)*+)
    (?: (?P<key>[A-Za-z_][A-Za-z0-9_./-]*+) : (?=\ |$) \ *+ )?
    (?P<value>
        (?P<block>[|>][0-9+-]*)
      | "[^"\\]*" | '[^']*'
      | \[ (?: [^\[\]{}"'\#] | "[^"\\]*" | '[^']*' )*+ \] | \{ (?: [^\[\]{}"'\#] | "[^"\\]*" | '[^']*' )*+ \}
      | (?: [^\s"'\[\]{}|>*&!%\#`@,?:-] | -(?=[^\s-]) ) (?: [^\s:] | :(?=\S) | \ (?!\#) )*+
      | -
    )?
    (?:\ *+ | \ ++ \#.*)
    """,
    re.VERBOSE,
)
_DOCUMENT_START = re.compile(r"--- *(?: #.*)?")
_ODD_BREAK = re.compile("[\x85\u2028\u2029\ufeff]|\r(?!\n)")


class Piece(NamedTuple):
    """`length` characters at `position` in the text, which stand at `start` among all pieces put together."""

    start: int
    position: int
    length: int


@dataclass(slots=True)
class _Line:
    """A line that is neither blank nor comment nor inside a block scalar."""

    position: int
    column: int
    dash: bool
    key: str | None
    bare: bool


def excerpt(text: str, names: Collection[str] | None) -> tuple[Piece, ...] | None:
    """The pieces of the only top-level `images:` of `text` that speak of `names` (None: all of it).

    The last item is always among them, since a new one is written after its pattern. None when the lines of `text` do
    not prove that its pieces can be parsed alone, or when `images` is missing, twice, or not a block list.
    """
    lines = _lines(text)
    if lines is None:
        return None
    tops = [number for number, line in enumerate(lines) if line.column == 0 and not line.dash]
    images = [number for number in tops if (lines[number].key or "").lower() == "images"]
    if len(images) != 1 or any(lines[number].key is None for number in tops):
        return None
    head = images[0]
    after = next((number for number in tops if number > head), len(lines))
    end = lines[after].position if after < len(lines) else len(text)
    inside = lines[head + 1 : after]
    column = inside[0].column if inside else 0
    items = [line for line in inside if line.column == column]
    if not lines[head].bare or not items or any(line.column < column for line in inside):
        return None
    if not all(item.dash for item in items):
        return None
    starts = [item.position for item in items]
    spans = [(lines[head].position, starts[0])]
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        if names is None or stop == end or any(text.find(name, start, stop) >= 0 for name in names):
            spans.append((start, stop))
    return _pieces(spans)


def _pieces(spans: list[tuple[int, int]]) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    index = 0
    for start, stop in spans:
        if pieces and pieces[-1].position + pieces[-1].length == start:
            last = pieces.pop()
            pieces.append(Piece(last.start, last.position, last.length + stop - start))
        else:
            pieces.append(Piece(index, start, stop - start))
        index += stop - start
    return tuple(pieces)


def _lines(text: str) -> list[_Line] | None:
    """The lines that carry structure; None when some line is of another kind than `_LINE`."""
    if _ODD_BREAK.search(text):
        return None
    lines: list[_Line] = []
    position = 0
    block: int | None = None  # inside a block scalar: the column that its lines must exceed
    for raw in text.split("\n"):
        start, position = position, position + len(raw) + 1
        line = raw.rstrip("\r")
        content = line.lstrip(" ")
        column = len(line) - len(content)
        if not content.strip() or (block is not None and column > block):
            continue
        block = None
        if content[0] == "#" or (not lines and _DOCUMENT_START.fullmatch(line)):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        dashes, key, value = match.group("dashes", "key", "value")
        if match["block"]:
            block = column + len(dashes) if key else column + len(dashes.rstrip()) - 1
        lines.append(_Line(start, column, bool(dashes) or (value == "-" and key is None), key, value is None))
    return lines
