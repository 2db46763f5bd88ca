"""write_notice: one Slack message per deployment, kept up to date, with the details in its thread.

A notice never fails a deployment: what goes wrong becomes a warning.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.core import notice
from pipeline.core.deployment import Deployment, SlackMessage
from pipeline.core.notice import Message
from pipeline.core.progress import Progress
from pipeline.errors import PipelineError


class Messenger(Protocol):
    """Slack, as far as a notice needs it. Each method raises a PipelineError when Slack does not take the message."""

    @property
    def updates(self) -> bool:
        """Whether messages can be updated and answered; an incoming webhook only posts."""

    def post(self, channel: str, message: Message) -> SlackMessage:
        """Post a new message; says where it stands."""

    def update(self, at: SlackMessage, message: Message) -> bool:
        """Replace a message; False when it is gone."""

    def reply(self, at: SlackMessage, message: Message) -> SlackMessage:
        """Post into the thread of a message; says where the reply stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What to tell, and the message that earlier notices of this deployment have left."""

    deployment: Deployment
    channel: str
    message_so_far: SlackMessage | None = None
    diff: str = ""
    final: bool = True
    """False in the middle of a run: a webhook then keeps quiet, and the thread gets no details yet."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Where the message stands, to be handed on, and what went wrong."""

    slack: SlackMessage | None
    warnings: tuple[str, ...] = ()


def write_notice(messenger: Messenger, inputs: Inputs, progress: Progress) -> Notice:
    """Post the message of a deployment, or bring it up to date. Raises nothing that a messenger may raise."""
    at = inputs.message_so_far
    try:
        message = notice.message(inputs.deployment, final=inputs.final)
        details = notice.details(inputs.deployment, inputs.diff) if inputs.final else None
        if not messenger.updates:
            if inputs.final:
                at = messenger.post(inputs.channel, notice.joined(message, details))
            return Notice(at)
        if at is None or at.ts is None or not messenger.update(at, message):
            at = messenger.post(inputs.channel, message)
        if details:
            at = _reply(messenger, at, details)
    except PipelineError as error:
        warning = f"The notice was not written: {error}. {error.remedy}"
        progress.say(warning)
        return Notice(at, (warning,))
    return Notice(at)


def _reply(messenger: Messenger, at: SlackMessage, details: Message) -> SlackMessage:
    """One reply, too: a later job replaces its text."""
    if at.details and messenger.update(replace(at, ts=at.details), details):
        return at
    return replace(at, details=messenger.reply(at, details).ts)
