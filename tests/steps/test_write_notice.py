"""One message per deployment, one reply in its thread, and no failure because of either."""

from dataclasses import dataclass, field, replace

from pipeline.core.deployment import SlackMessage
from pipeline.core.notice import Message
from pipeline.core.progress import Silent
from pipeline.errors import PipelineError, SlackDenied, SlackRefused
from pipeline.steps.write_notice import Inputs, Notice, write_notice
from tests.deployments import DEPLOYED, failed

UNDER_WAY = replace(DEPLOYED, outcome="published", rollout=None)


@dataclass
class Channel:
    """A channel in memory. `broken` is what the next calls end in."""

    updates: bool = True
    messages: dict[str, str] = field(default_factory=dict)
    threads: dict[str, list[str]] = field(default_factory=dict)
    broken: PipelineError | None = None

    def post(self, channel: str, message: Message) -> SlackMessage:
        return SlackMessage(
            channel=f"id of {channel}", ts=self._keep(message) if self.updates else (self._keep(message) and None)
        )

    def update(self, at: SlackMessage, message: Message) -> bool:
        if self.broken:
            raise self.broken
        if at.ts not in self.messages:
            return False
        self.messages[at.ts] = message.text
        return True

    def reply(self, at: SlackMessage, message: Message) -> SlackMessage:
        ts = self._keep(message)
        self.threads.setdefault(at.ts or "", []).append(ts)
        return SlackMessage(channel=at.channel, ts=ts)

    def _keep(self, message: Message) -> str:
        if self.broken:
            raise self.broken
        ts = f"{len(self.messages)}"
        self.messages[ts] = message.text
        return ts


def tell(channel: Channel, inputs: Inputs) -> Notice:
    return write_notice(channel, inputs, Silent())


def test_a_run_posts_once_and_then_updates() -> None:
    channel = Channel()
    begun = tell(channel, Inputs(deployment=UNDER_WAY, channel="cicd", final=False))
    ended = tell(channel, Inputs(deployment=DEPLOYED, channel="cicd", message_so_far=begun.slack))
    assert begun.slack == ended.slack == SlackMessage(channel="id of cicd", ts="0")
    assert list(channel.messages) == ["0"]
    assert "succeeded" in channel.messages["0"]


def test_details_are_one_reply_however_often_jobs_tell_them() -> None:
    channel = Channel()
    inputs = Inputs(deployment=failed(), channel="cicd", diff="+x\n")
    first = tell(channel, inputs)
    again = tell(channel, replace(inputs, message_so_far=first.slack))
    assert first == again
    assert first.slack == SlackMessage(channel="id of cicd", ts="0", details="1")
    assert channel.threads == {"0": ["1"]}


def test_a_message_under_way_has_no_details() -> None:
    channel = Channel()
    tell(channel, Inputs(deployment=failed(), channel="cicd", diff="+x\n", final=False))
    assert channel.threads == {}


def test_a_message_that_somebody_deleted_is_posted_again() -> None:
    gone = SlackMessage(channel="id of cicd", ts="9", details="10")
    channel = Channel()
    notice = tell(channel, Inputs(deployment=failed(), channel="cicd", message_so_far=gone))
    assert notice.slack == SlackMessage(channel="id of cicd", ts="0", details="1")


def test_a_webhook_gets_one_message_at_the_end() -> None:
    webhook = Channel(updates=False)
    assert tell(webhook, Inputs(deployment=UNDER_WAY, channel="cicd", final=False)) == Notice(None)
    notice = tell(webhook, Inputs(deployment=failed(), channel="cicd", diff="+x\n"))
    assert notice.slack == SlackMessage(channel="id of cicd")
    assert list(webhook.messages) == ["0"]


def test_a_failing_notice_is_a_warning() -> None:
    notice = tell(Channel(broken=SlackDenied("Slack: invalid_auth")), Inputs(deployment=DEPLOYED, channel="cicd"))
    assert notice.slack is None
    assert notice.warnings == (f"The notice was not written: Slack: invalid_auth. {SlackDenied.remedy}",)


def test_where_the_message_stands_is_not_forgotten_when_an_update_fails() -> None:
    at = SlackMessage(channel="id of cicd", ts="0")
    notice = tell(
        Channel(broken=SlackRefused("Slack: x")), Inputs(deployment=DEPLOYED, channel="cicd", message_so_far=at)
    )
    assert notice.slack == at
    assert len(notice.warnings) == 1
