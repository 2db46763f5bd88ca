"""A deployment as a Slack message: blocks for people, plain text for notifications and screen readers.

Everything that others wrote is escaped, so that it can neither mention people nor look like a link
(https://docs.slack.dev/messaging/formatting-message-text). Every text keeps to Slack's limits, and says so where it
was cut: 50 blocks and 3,000 characters in one text (https://docs.slack.dev/reference/block-kit/blocks); about 13,000
in all blocks together, else `msg_blocks_too_long` (https://github.com/slackapi/bolt-js/issues/2509); 4,000 bytes of
plain text when a message is updated, else `msg_too_long`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.deployment import Deployment
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
    stages,
    state,
    visible,
)

Block = Mapping[str, Any]

# Bytes of escaped text, each with some room below Slack's limit.
_BLOCK = 2800
_BLOCKS = 12_000
_TEXT = 3500
# Characters that a person reads at a glance, and how many lines of a kind.
_NAME = 80
_SENTENCE = 400
_ROWS = 15
_CAUSES = 5


@dataclass(frozen=True, slots=True)
class Message:
    """One Slack message. `text` stands in for the blocks where these cannot be shown."""

    text: str
    blocks: tuple[Block, ...]


def message(deployment: Deployment, *, final: bool) -> Message:
    """The one message of a deployment; `final` is False while it is still under way."""
    emoji, sentence = state(deployment, final=final)
    images = list(_rows(_images(deployment)))
    causes = list(_rows(_causes(deployment))) if final else []
    facts = list(_facts(deployment))
    blocks = [_section(f"{emoji} *{_escape(sentence)}*")]
    blocks += [_section("\n".join(rows)) for rows in (images, causes) if rows]
    if facts:
        blocks.append({"type": "context", "elements": [_mrkdwn("  ·  ".join(facts))]})
    text = "\n".join([f"{emoji} {_escape(sentence)}", *images, *causes])
    return Message(_clip(text, _TEXT), tuple(blocks))


def details(deployment: Deployment, diff: str = "") -> Message | None:
    """What the thread holds: causes with log lines and events, the error with its remedy, the diff; None without."""
    blocks = tuple(_fitting(list(_details(deployment, diff))))
    return Message(_clip(f"Details: {_escape(state(deployment)[1])}", _TEXT), blocks) if blocks else None


def joined(first: Message, second: Message | None) -> Message:
    """Both in one message, for a webhook, which has no threads."""
    return Message(first.text, tuple(_fitting([*first.blocks, *second.blocks]))) if second else first


def _images(deployment: Deployment) -> Iterator[str]:
    for image in deployment.images:
        url = source_url(image)
        now = f"<{_escape(url)}|{_escape(short(image.tag))}>" if url else _code(short(image.tag))
        before = f"{_code(short(image.previous))} → " if image.previous else ""
        if left_out(deployment, image):
            before = f"{_code(short(image.previous))} stays, newer than "
        yield f"{_escape(one_line(image.name, _NAME))}  {before}{now}"


def _causes(deployment: Deployment) -> Iterator[str]:
    items = broken(deployment)
    for item in items:
        if cause := item.cause:
            place = ", ".join(filter(None, (item.name, cause.resource, cause.container)))
            text = f"{one_line(place, 2 * _NAME)}: {one_line(cause.message, _SENTENCE)}"
            yield f"{mark(item.outcome)} *{_escape(one_line(cause.reason, _NAME))}* {_escape(text)}"
    if deployment.error and not items:
        yield f"*{_escape(deployment.error.class_)}* {_escape(one_line(deployment.error.message, _SENTENCE))}"
    if back := rollback(deployment):
        yield _escape(one_line(back, _SENTENCE))


def _facts(deployment: Deployment) -> Iterator[str]:
    timed = stages(deployment)
    if timed:
        yield " → ".join(f"{_escape(one_line(name, _NAME))} {duration(seconds)}" for name, seconds in timed)
    if total := (deployment.seconds or {}).get("total"):
        yield f"{duration(total)} in all"
    if deployment.actor:
        yield f"by {_escape(one_line(deployment.actor, _NAME))}"
    yield from [f"<{_escape(url)}|{_escape(label)}>" for label, url in links(deployment)]


def _details(deployment: Deployment, diff: str) -> Iterator[Block]:
    for item in broken(deployment)[:_CAUSES]:
        if cause := item.cause:
            place = ", ".join(filter(None, (item.name, cause.resource, cause.container)))
            head = f"*{_escape(one_line(cause.reason, _NAME))}* {_escape(one_line(place, 2 * _NAME))}"
            yield _section(f"{head}\n{_escape(visible(cause.message))}")
            yield from (_fence(lines, last=True) for lines in (cause.logs, cause.events) if lines)
    if deployment.error:
        if not broken(deployment):
            yield _section(_escape(visible(deployment.error.message)))
        yield _section(f"*What to do:* {_escape(visible(deployment.error.remedy))}")
    if diff:
        yield _fence(visible(diff).splitlines(), last=False)


def _rows(rows: Iterable[str]) -> Iterator[str]:
    for number, row in enumerate(rows):
        if number == _ROWS:
            yield "… and more"
            return
        yield row


def _fitting(blocks: Sequence[Block]) -> Iterator[Block]:
    """As many blocks as one message may hold."""
    room = _BLOCKS
    for block in blocks:
        room -= len(str(block))
        if room < 0:
            yield _section("_More is left out here; the run has it all._")
            return
        yield block


def _section(text: str) -> Block:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> Block:
    # `verbatim`: Slack must not turn plain text that looks like a channel, a mention or an address into one.
    return {"type": "mrkdwn", "text": _clip(text, _BLOCK), "verbatim": True}


def _fence(lines: Sequence[str], *, last: bool) -> Block:
    """A code block of the last or the first lines that fit."""
    kept: list[str] = []
    room = _BLOCK - 100
    for line in reversed(lines) if last else lines:
        escaped = _escape(one_line(line, _SENTENCE) if last else line[:_SENTENCE])
        room -= len(escaped) + 1
        if room < 0:
            break
        kept.append(escaped)
    note = [f"… {len(lines) - len(kept)} more lines"] if len(kept) < len(lines) else []
    shown = [*note, *reversed(kept)] if last else [*kept, *note]
    return _section("```\n" + "\n".join(shown) + "\n```")


def _code(text: str) -> str:
    text = text.replace("`", "'")
    return f"`{_escape(text)}`"


def _escape(text: str) -> str:
    """Slack's three control characters as entities; no code block begins or ends, and `@channel` stays plain text."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("```", "'''")
    return re.sub("@(?=channel|here|everyone)", "@\N{ZERO WIDTH SPACE}", text)


def _clip(text: str, limit: int) -> str:
    """At most `limit` bytes of escaped text, cut neither inside a character nor inside an entity."""
    data = text.encode()
    if len(data) <= limit:
        return text
    cut = data[: limit - 20].decode(errors="ignore")
    return re.sub(r"&[a-z]*$|<[^>]*$", "", cut) + "… (cut)"
