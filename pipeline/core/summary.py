"""A deployment as Markdown: GitHub's job summary, and a text that reads well as it is.

Everything that others wrote (names, messages, log lines) is escaped: it stays text, whatever it holds.
"""

from collections.abc import Iterator, Sequence

from pipeline.core.deployment import Application, Deployment, Image, changed_files
from pipeline.core.markdown import LINE, code, escape, fence, folded, quote, table
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

_LEFT_OUT = "\n_More is left out here: GitHub shows no longer text; the run's log has it all._\n"
_CAUSES = 10
_LINES = 50
_DIFF_LINES = 2000


def markdown(deployment: Deployment, diff: str = "", *, limit: int = LIMIT, final: bool = True) -> str:
    """Heading with the outcome, images, links, error, applications, causes, diff and timeline.

    `diff` is a unified diff; what is not `final` is under way. Sections that would exceed `limit` bytes are
    left out, and the text says so.
    """
    text, room = "", limit - len(_LEFT_OUT.encode())
    for section in _sections(deployment, diff, final):
        room -= len(section.encode(errors="replace"))
        if room < 0:
            return text + _LEFT_OUT if limit > len(_LEFT_OUT) else ""
        text += section
    return text


def _sections(deployment: Deployment, diff: str, final: bool) -> Iterator[str]:
    emoji, sentence = state(deployment, final=final)
    yield f"## {emoji} {escape(sentence)}\n"
    if deployment.images:
        rows = [
            (
                escape(one_line(image.name, LINE)),
                code(short(image.previous)),
                f"stays, newer than {_now(image)}" if left_out(deployment, image) else _now(image),
                code(image.repository),
            )
            for image in deployment.images
        ]
        yield table(("image", "before", "now", "repository"), rows)
    facts = [f"[{escape(label)}]({url})" for label, url in links(deployment)]
    if deployment.actor:
        facts.append(f"by {escape(one_line(deployment.actor, LINE))}")
    if facts:
        yield f"\n{' · '.join(facts)}\n"
    if deployment.error:
        remedy = quote(deployment.error.remedy, "**What to do:** ", links=True)
        yield f"\n{quote(deployment.error.message)}\n>\n{remedy}\n"
    if back := rollback(deployment):
        yield f"\n{escape(one_line(back, LINE))}\n"
    if deployment.rollout and deployment.rollout.applications:
        yield table(
            ("application", "outcome", "health", "revision", "why"),
            [_application(item) for item in deployment.rollout.applications],
        )
    for item in broken(deployment)[:_CAUSES]:
        yield from _cause(item)
    if diff:
        yield _diff(deployment, diff)
    if bars := waterfall(deployment):
        total = (deployment.seconds or {}).get("total")
        yield f"\n### Timeline{f': {duration(total)}' if total else ''}\n\n{fence(bars)}\n"


def _now(image: Image) -> str:
    url = source_url(image)
    return f"[{code(short(image.tag))}]({url})" if url else code(short(image.tag))


def _application(item: Application) -> Sequence[str]:
    why = item.proof or (f"{item.cause.reason}: {item.cause.message}" if item.cause else "")
    return (
        escape(one_line(item.name, LINE)),
        f"{mark(item.outcome)} {item.outcome.replace('_', ' ')}",
        escape(one_line(item.health or "", LINE)),
        code(short(item.revision)),
        escape(one_line(why, LINE)),
    )


def _cause(item: Application) -> Iterator[str]:
    cause = item.cause
    if cause is None:
        return
    place = ", ".join(filter(None, (item.name, cause.resource, cause.container and f"container {cause.container}")))
    yield f"\n### {escape(one_line(f'{cause.reason}: {place}', LINE))}\n\n{quote(cause.message)}\n"
    for title, lines in (("log lines", cause.logs), ("events", cause.events)):
        if lines:
            last = [one_line(line, LINE) for line in lines[-_LINES:]]
            yield f"\n{folded(f'Last {title}', fence(last), opened=title == 'log lines')}\n"


def _diff(deployment: Deployment, diff: str) -> str:
    files = changed_files(deployment.gitops.changed if deployment.gitops else ())
    lines = visible(diff).splitlines()
    if len(lines) > _DIFF_LINES:
        lines = [*lines[:_DIFF_LINES], f"… {len(lines) - _DIFF_LINES} more lines"]
    title = f"Change in {len(files)} files" if len(files) > 1 else "Change"
    return f"\n{folded(title, fence(lines, 'diff'), opened=len(lines) <= _LINES)}\n"
