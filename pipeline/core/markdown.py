"""Markdown that holds what others wrote (names, messages, log lines): it stays text, whatever it holds."""

import re
from collections.abc import Sequence

from pipeline.core.wording import one_line, visible

LINE = 500
"""The longest line of foreign text that is shown."""
_TEXT = 2000
_CALLS = re.compile(r"#(?=\w)|\bgh-(?=\d)|\bwww(?=\.)|:(?=:|//)", re.IGNORECASE)
"""What begins a reference, a link without brackets, or a workflow command."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def folded(title: str, content: str, *, opened: bool) -> str:
    """A section that opens at a click."""
    return f"<details{' open' if opened else ''}><summary>{title}</summary>\n\n{content}\n\n</details>"


def fence(lines: Sequence[str], language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks inside, so that nothing inside can end it."""
    text = "\n".join(visible(line) for line in lines)
    marks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{marks}{language}\n{text}\n{marks}"


def code(text: str) -> str:
    """A code span, also inside a table, where even code must not hold a bare `|`."""
    text = one_line(text, LINE)
    if not text:
        return ""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}".replace("|", "\\|")


def quote(text: str, lead: str = "", *, links: bool = False) -> str:
    """Foreign text as a quotation; `lead` is Markdown that goes before it. `links`: addresses in it stay links."""
    shown = _text if links else escape
    lines = visible(text)[:_TEXT].splitlines() or [""]
    return "\n".join(f"> {lead if number == 0 else ''}{shown(line)}  " for number, line in enumerate(lines))


def escape(text: str) -> str:
    """Foreign text that calls nobody, refers and links to nothing, and is no workflow command in a log."""
    return _CALLS.sub(lambda mark: f"{mark[0]}\N{ZERO WIDTH SPACE}", _text(text))


def inert(text: str, limit: int = LINE) -> str:
    """Foreign text on one line, as `escape` shows it."""
    return escape(one_line(text, limit))


def _text(text: str) -> str:
    """No markup, no HTML, and no mention that would call people."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]#|~$!])", r"\\\1", text)
    return text.replace("@", "@\N{ZERO WIDTH SPACE}")
