"""A deployment as Markdown: GitHub's job summary, and a text that reads well as it is.

Everything that others wrote (names, messages, log lines) is escaped: it stays text, whatever it holds.
"""

import re
from collections.abc import Iterator, Sequence

from pipeline.core.deployment import Application, Deployment, Image, changed_files
from pipeline.core.wording import (
    broken,
    duration,
    left_out,
    links,
    mark,
    one_line,
    rollback,
    short,
    source_url,
    state,
    visible,
    waterfall,
)

LIMIT = 1024 * 1024
"""Bytes of one step's summary. https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands"""

_LEFT_OUT = "\n_More is left out here: GitHub shows at most 1 MiB of a step's summary._\n"
_CAUSES = 10
_LINES = 50
_LINE = 500
_TEXT = 2000
_DIFF_LINES = 2000


def markdown(deployment: Deployment, diff: str = "", *, limit: int = LIMIT) -> str:
    """Heading with the outcome, images, links, error, applications, causes, diff and timeline.

    `diff` is a unified diff. Sections that would exceed `limit` bytes are left out, and the text says so.
    """
    text, room = "", limit - len(_LEFT_OUT.encode())
    for section in _sections(deployment, diff):
        room -= len(section.encode(errors="replace"))
        if room < 0:
            return text + _LEFT_OUT if limit > len(_LEFT_OUT) else ""
        text += section
    return text


def _sections(deployment: Deployment, diff: str) -> Iterator[str]:
    emoji, sentence = state(deployment)
    yield f"## {emoji} {_escape(sentence)}\n"
    if deployment.images:
        rows = [
            (
                _escape(one_line(image.name, _LINE)),
                _code(short(image.previous)),
                f"stays, newer than {_now(image)}" if left_out(deployment, image) else _now(image),
                _code(image.repository),
            )
            for image in deployment.images
        ]
        yield _table(("image", "before", "now", "repository"), rows)
    facts = [f"[{_escape(label)}]({url})" for label, url in links(deployment)]
    if deployment.actor:
        facts.append(f"by {_escape(one_line(deployment.actor, _LINE))}")
    if facts:
        yield f"\n{' · '.join(facts)}\n"
    if deployment.error:
        yield f"\n{_quote(deployment.error.message)}\n>\n{_quote(deployment.error.remedy, '**What to do:** ')}\n"
    if back := rollback(deployment):
        yield f"\n{_escape(one_line(back, _LINE))}\n"
    if deployment.rollout and deployment.rollout.applications:
        yield _table(
            ("application", "outcome", "health", "revision", "why"),
            [_application(item) for item in deployment.rollout.applications],
        )
    for item in broken(deployment)[:_CAUSES]:
        yield from _cause(item)
    if diff:
        yield _diff(deployment, diff)
    if bars := waterfall(deployment):
        total = (deployment.seconds or {}).get("total")
        yield f"\n### Timeline{f': {duration(total)}' if total else ''}\n\n{_fence(bars)}\n"


def _now(image: Image) -> str:
    url = source_url(image)
    return f"[{_code(short(image.tag))}]({url})" if url else _code(short(image.tag))


def _application(item: Application) -> Sequence[str]:
    why = item.proof or (f"{item.cause.reason}: {item.cause.message}" if item.cause else "")
    return (
        _escape(one_line(item.name, _LINE)),
        f"{mark(item.outcome)} {item.outcome.replace('_', ' ')}",
        _escape(one_line(item.health or "", _LINE)),
        _code(short(item.revision)),
        _escape(one_line(why, _LINE)),
    )


def _cause(item: Application) -> Iterator[str]:
    cause = item.cause
    if cause is None:
        return
    place = ", ".join(filter(None, (item.name, cause.resource, cause.container and f"container {cause.container}")))
    yield f"\n### {_escape(one_line(f'{cause.reason}: {place}', _LINE))}\n\n{_quote(cause.message)}\n"
    for title, lines in (("log lines", cause.logs), ("events", cause.events)):
        if lines:
            last = [one_line(line, _LINE) for line in lines[-_LINES:]]
            yield f"\n{_folded(f'Last {title}', _fence(last), opened=title == 'log lines')}\n"


def _diff(deployment: Deployment, diff: str) -> str:
    files = changed_files(deployment.gitops.changed if deployment.gitops else ())
    lines = visible(diff).splitlines()
    if len(lines) > _DIFF_LINES:
        lines = [*lines[:_DIFF_LINES], f"… {len(lines) - _DIFF_LINES} more lines"]
    title = f"Change in {len(files)} files" if len(files) > 1 else "Change"
    return f"\n{_folded(title, _fence(lines, 'diff'), opened=len(lines) <= _LINES)}\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _folded(title: str, content: str, *, opened: bool) -> str:
    return f"<details{' open' if opened else ''}><summary>{title}</summary>\n\n{content}\n\n</details>"


def _fence(lines: Sequence[str], language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks inside, so that nothing inside can end it."""
    text = "\n".join(visible(line) for line in lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _code(text: str) -> str:
    """A code span, also inside a table, where even code must not hold a bare `|`."""
    text = one_line(text, _LINE)
    if not text:
        return ""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}".replace("|", "\\|")


def _quote(text: str, lead: str = "") -> str:
    lines = visible(text)[:_TEXT].splitlines() or [""]
    return "\n".join(f"> {lead if number == 0 else ''}{_escape(line)}  " for number, line in enumerate(lines))


def _escape(text: str) -> str:
    """Foreign text for Markdown: no markup, no HTML, and no mention that would call people."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]#|~$!])", r"\\\1", text)
    return text.replace("@", "@\N{ZERO WIDTH SPACE}")
