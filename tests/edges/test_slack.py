"""Slack's SDK against Slack's API over HTTP, as the sandbox serves it."""

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.core.deployment import SlackMessage
from pipeline.core.notice import Message, details, message
from pipeline.core.progress import Silent
from pipeline.core.secret import Secret
from pipeline.edges import slack
from pipeline.errors import PipelineError, SlackChannelNotFound, SlackDenied, SlackRefused, Unreachable
from pipeline.sandbox.server import Server
from pipeline.sandbox.slack import WEBHOOK, Slack
from pipeline.steps.write_notice import Inputs, write_notice
from tests.core.test_notice import hostile
from tests.deployments import DEPLOYED, HOSTILE, failed

TOKEN = Secret("xoxb-marked-token")
MESSAGE = Message("hello", ({"type": "divider"},))


@pytest.fixture
def double() -> Slack:
    return Slack(TOKEN)


@pytest.fixture
def url(double: Slack) -> Iterator[str]:
    server = Server(double)
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def bot(url: str, token: Secret = TOKEN) -> slack.Bot:
    return slack.Bot(token, f"{url}/api")


def test_a_message_is_posted_by_channel_name_and_updated_by_the_id_that_slack_answers(url: str, double: Slack) -> None:
    at = bot(url).post("cicd", MESSAGE)
    assert bot(url).update(at, Message("goodbye", MESSAGE.blocks))
    assert [(item.channel, item.ts, item.text, item.edits) for item in double.messages] == [
        (at.channel, at.ts, "goodbye", 1)
    ]


def test_a_reply_stands_in_the_thread(url: str, double: Slack) -> None:
    at = bot(url).post("cicd", MESSAGE)
    reply = bot(url).reply(at, MESSAGE)
    assert [(item.ts, item.thread_ts) for item in double.messages] == [(at.ts, None), (reply.ts, at.ts)]


def test_a_deleted_message_is_gone_not_an_error(url: str) -> None:
    assert bot(url).update(SlackMessage(channel="C00000001", ts="1.2"), MESSAGE) is False


def test_a_webhook_posts_to_its_own_channel(url: str, double: Slack) -> None:
    webhook = slack.Webhook(Secret(f"{url}/services/{WEBHOOK}"))
    assert webhook.post("other", MESSAGE) == SlackMessage(channel="other")
    assert [item.text for item in double.messages] == ["hello"]


@pytest.mark.parametrize("text", HOSTILE)
def test_slack_takes_every_message_that_we_write(url: str, double: Slack, text: str) -> None:
    for messenger in (bot(url), slack.Webhook(Secret(f"{url}/services/{WEBHOOK}"))):
        notice = write_notice(messenger, Inputs(deployment=hostile(text), channel="cicd", diff=text), Silent())
        assert notice.warnings == ()
    assert len(double.messages) == 3


def test_a_run_over_several_jobs_leaves_one_message_and_one_reply(url: str, double: Slack) -> None:
    under_way = Inputs(deployment=replace(DEPLOYED, outcome="published"), channel="cicd", final=False)
    begun = write_notice(bot(url), under_way, Silent())
    ended = Inputs(deployment=failed(), channel="cicd", message_so_far=begun.slack, diff="+x\n")
    first = write_notice(bot(url), ended, Silent())
    again = write_notice(bot(url), replace(ended, message_so_far=first.slack), Silent())
    assert first == again
    told, thread = message(failed(), final=True), details(failed(), "+x\n")
    assert thread
    assert [(item.text, item.thread_ts) for item in double.messages] == [
        (told.text, None),
        (thread.text, double.messages[0].ts),
    ]


def test_a_short_rate_limit_is_waited_out_once(url: str, double: Slack) -> None:
    double.limits = [0]
    assert bot(url).post("cicd", MESSAGE).ts
    double.limits = [0, 0]
    with pytest.raises(SlackRefused, match="too many messages to cicd"):
        bot(url).post("cicd", MESSAGE)


def test_a_long_rate_limit_is_not(url: str, double: Slack) -> None:
    for messenger in (bot(url), slack.Webhook(Secret(f"{url}/services/{WEBHOOK}"))):
        double.limits = [30]
        with pytest.raises(SlackRefused, match="too many messages to cicd"):
            messenger.post("cicd", MESSAGE)


@pytest.mark.parametrize(
    ("token", "channel", "error", "text"),
    [
        ("xoxb-other", "cicd", SlackDenied, "Slack: invalid_auth"),
        ("xoxb-with\nnewline", "cicd", SlackDenied, "characters that do not belong"),
        (TOKEN.reveal(), "nowhere", SlackChannelNotFound, "Slack: channel_not_found: nowhere"),
    ],
)
def test_each_refusal_has_its_error(url: str, token: str, channel: str, error: type[PipelineError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        bot(url, Secret(token)).post(channel, MESSAGE)
    assert token not in str(caught.value)


def test_a_token_may_end_in_a_newline(url: str) -> None:
    assert bot(url, Secret(f"{TOKEN.reveal()}\n")).post("cicd", MESSAGE).ts


def test_what_is_not_slack_is_recognised(url: str) -> None:
    with pytest.raises(SlackRefused, match="HTTP status 404, and the answer is none of Slack's API"):
        slack.Bot(TOKEN, f"{url}/elsewhere").post("cicd", MESSAGE)


def test_a_server_that_is_not_there_is_unreachable(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="Slack: Connection refused"):
            bot(f"http://127.0.0.1:{free.getsockname()[1]}").post("cicd", MESSAGE)
    assert not caplog.records


@pytest.mark.parametrize("address", ["file:///marked-secret", "marked-secret", "http://u:marked-secret@[x/", ""])
def test_a_webhook_that_is_no_web_address_is_not_quoted(address: str) -> None:
    with pytest.raises(SlackDenied) as caught:
        slack.Webhook(Secret(address)).post("cicd", MESSAGE)
    assert "marked-secret" not in str(caught.value)


def test_a_webhook_that_was_removed_is_denied(url: str) -> None:
    with pytest.raises(SlackDenied, match="no_service"):
        slack.Webhook(Secret(f"{url}/services/removed")).post("cicd", MESSAGE)


def test_the_bot_goes_before_the_webhook() -> None:
    assert isinstance(slack.connect(TOKEN, Secret("https://x.example")), slack.Bot)
    assert isinstance(slack.connect(None, Secret("https://x.example")), slack.Webhook)
    assert slack.connect(None, None) is None
