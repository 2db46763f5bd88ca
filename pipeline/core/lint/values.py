"""Parsed YAML whose mappings and lists know their lines, and safe ways to look into it.

Nothing of a foreign file is where it should be: what is missing or of another type reads as empty.
Aliases share their value, so that a walk must remember what it has seen: `walk` does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

Value: TypeAlias = Any
"""Map, Seq, str, int, float, bool or None."""


class Map(dict[str, Value]):
    """A mapping; `lines` has the line of every key."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int = 1) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}

    def line_of(self, key: str) -> int:
        """The key's line; the mapping's own where it has no such key."""
        return self.lines.get(key, self.line)


class Seq(list[Value]):
    """A list; `lines` has the line of every item."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int = 1) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a YAML file."""

    file: str
    value: Value


@dataclass(frozen=True, slots=True)
class Rendered:
    """What kustomize made of a folder, or its words why it could not."""

    text: str = ""
    problem: str | None = None


class NotYaml(Exception):
    """A text is not YAML, or too much of it: `args` are the problem and the line, from 1."""

    @property
    def problem(self) -> str:
        """What is wrong, in words."""
        return str(self.args[0])

    @property
    def line(self) -> int:
        """The line, from 1."""
        return int(self.args[1])


def dig(value: Value, *path: str) -> Value:
    """What stands at the end of the keys; None where the way ends before."""
    for key in path:
        value = value.get(key) if isinstance(value, Map) else None
    return value


def mapping(value: Value, *path: str) -> Map:
    """The mapping at the end of the keys; an empty one where there is none."""
    found = dig(value, *path)
    return found if isinstance(found, Map) else Map(value.line if isinstance(value, Map) else 1)


def items(value: Value, *path: str) -> list[Value]:
    """The list at the end of the keys; an empty one where there is none."""
    found = dig(value, *path)
    return found if isinstance(found, Seq) else []


def maps(value: Value, *path: str) -> list[Map]:
    """The mappings in the list at the end of the keys."""
    return [item for item in items(value, *path) if isinstance(item, Map)]


def text(value: Value, *path: str) -> str:
    """The text at the end of the keys; empty where there is none. Numbers are no text."""
    found = dig(value, *path)
    return found if isinstance(found, str) else ""


def walk(value: Value) -> Iterator[Value]:
    """The value and everything in it, each shared part once."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Map | Seq):
            if id(item) in seen:
                continue
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, Map) else item)
        yield item


_PLACEHOLDER = re.compile(
    r"""
    \$\{ | \{\{ | \$\( | \#\{ | ENC\[ | <path: | \b(?:vault|op|ref\+\w+|secretref)(?:\+\w+)?:/?/
  | ^\s*(?: <[^<>]*> | \{[^{}]*\} | [xX*.]{3,} | \$\w+ | %\w+% | __\w+__ | @\w+@ )\s*$
    """,
    re.VERBOSE,
)


def is_placeholder(value: str) -> bool:
    """Whether another tool fills the text in: a template, a variable, a reference, an encrypted value."""
    return _PLACEHOLDER.search(value) is not None
