"""Markdown in which what others wrote stays text: names, messages and log lines, whatever they hold."""

import re
from collections.abc import Sequence

from pipeline.core.wording import one_line, visible

LINE = 500
"""Characters of a line, or of a cell."""
_TEXT = 2000


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def folded(title: str, content: str, *, opened: bool) -> str:
    """Content that readers may unfold; both are Markdown already."""
    return f"<details{' open' if opened else ''}><summary>{title}</summary>\n\n{content}\n\n</details>"


def fence(lines: Sequence[str], language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks inside, so that nothing inside can end it."""
    text = "\n".join(visible(line) for line in lines)
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"


def code(text: str) -> str:
    """A code span, also inside a table, where even code must not hold a bare `|`."""
    text = one_line(text, LINE)
    if not text:
        return ""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}".replace("|", "\\|")


def quote(text: str, lead: str = "") -> str:
    """Foreign text as a quote, after a `lead` of ours."""
    lines = visible(text)[:_TEXT].splitlines() or [""]
    return "\n".join(f"> {lead if number == 0 else ''}{escape(line)}  " for number, line in enumerate(lines))


def escape(text: str) -> str:
    """Foreign text for Markdown: no markup, no HTML, no link, and no mention that would call people."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]#|~$!])", r"\\\1", text)
    return re.sub(r"(?i)(@|#|://|\bwww\.|\bgh-)", "\\1\N{ZERO WIDTH SPACE}", text)
