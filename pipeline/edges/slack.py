"""Slack through its SDK: a bot, which can update its messages, or an incoming webhook, which only posts."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry import (
    ConnectionErrorRetryHandler,
    HttpRequest,
    HttpResponse,
    RateLimitErrorRetryHandler,
    RetryHandler,
    RetryState,
)
from slack_sdk.web import WebClient
from slack_sdk.webhook import WebhookClient

from pipeline.core.deployment import SlackMessage
from pipeline.core.notice import Message
from pipeline.core.secret import Secret
from pipeline.errors import PipelineError, SlackChannelNotFound, SlackDenied, SlackRefused, Unreachable

_TIMEOUT_SECONDS = 10
_LONGEST_WAIT_SECONDS = 5

# The SDK logs errors by itself, and an error of urllib may quote a malformed token.
_SILENT = logging.getLogger(f"{__name__}.sdk")
_SILENT.setLevel(logging.CRITICAL)

_DENIED = {
    "not_authed",
    "invalid_auth",
    "account_inactive",
    "token_revoked",
    "token_expired",
    "missing_scope",
    "no_permission",
    "invalid_token",
    "no_service",
    "no_team",
    "action_prohibited",
}
_NO_CHANNEL = {"channel_not_found", "not_in_channel", "is_archived", "channel_is_archived"}
_GONE = {"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"}


class Bot:
    """A bot token's view of Slack."""

    updates = True

    def __init__(self, token: Secret, api_url: str | None = None) -> None:
        """`api_url` replaces https://slack.com/api/."""
        self._client = WebClient(
            token=token.reveal().strip(),
            base_url=f"{(api_url or WebClient.BASE_URL).rstrip('/')}/",
            timeout=_TIMEOUT_SECONDS,
            logger=_SILENT,
            retry_handlers=_retries(),
        )
        self._client.proxy = None  # urllib itself obeys HTTPS_PROXY and NO_PROXY; the SDK knows only the first

    def user(self) -> str:
        """Who the token's bot is, and where. Raises SlackDenied, SlackRefused and Unreachable."""
        with _explained(""):
            answer = self._client.api_call("auth.test")
        return f"{answer.get('user')} in {answer.get('team')}"

    def post(self, channel: str, message: Message) -> SlackMessage:
        """Post to a channel by name or id. The answer has the id, which an update needs."""
        return self._send("chat.postMessage", channel=channel, **_content(message))

    def update(self, at: SlackMessage, message: Message) -> bool:
        """Replace a message; False when Slack has it no more, or lets nobody change it."""
        try:
            self._send("chat.update", channel=at.channel, ts=at.ts, **_content(message))
        except _MessageGone:
            return False
        return True

    def reply(self, at: SlackMessage, message: Message) -> SlackMessage:
        """Post into the thread of `at`."""
        return self._send("chat.postMessage", channel=at.channel, thread_ts=at.ts, **_content(message))

    def _send(self, method: str, **arguments: Any) -> SlackMessage:
        channel = str(arguments["channel"])
        with _explained(channel):
            answer = self._client.api_call(method, json={**arguments, "unfurl_links": False, "unfurl_media": False})
        return SlackMessage(channel=answer.get("channel") or channel, ts=answer.get("ts"))


class Webhook:
    """An incoming webhook. It belongs to one channel, whatever the notice asks for."""

    updates = False

    def __init__(self, url: Secret) -> None:
        """`url` is a secret: whoever has it can post."""
        self._client = WebhookClient(
            url.reveal().strip(), timeout=_TIMEOUT_SECONDS, logger=_SILENT, retry_handlers=_retries()
        )
        self._client.proxy = None

    def post(self, channel: str, message: Message) -> SlackMessage:
        """Post the message. A webhook does not say where it stands, so that `ts` is None."""
        with _explained(channel):
            if urlsplit(self._client.url).scheme not in {"http", "https"}:
                raise ValueError
            answer = self._client.send(
                text=message.text,
                blocks=[dict(block) for block in message.blocks],
                unfurl_links=False,
                unfurl_media=False,
            )
        if answer.status_code != 200:
            raise _error_of(answer.body, channel, answer.status_code)
        return SlackMessage(channel=channel)

    def update(self, at: SlackMessage, message: Message) -> bool:  # noqa: ARG002 -- as the bot has it
        """A webhook cannot."""
        return False

    def reply(self, at: SlackMessage, message: Message) -> SlackMessage:
        """A webhook has no threads: one more message."""
        return self.post(at.channel, message)


def connect(token: Secret | None, webhook: Secret | None, api_url: str | None = None) -> Bot | Webhook | None:
    """The bot where there is a token, else the webhook, else None. Connects to nothing yet."""
    if token:
        return Bot(token, api_url)
    return Webhook(webhook) if webhook else None


class _MessageGone(PipelineError):
    """Never leaves this module."""

    exit_code = SlackRefused.exit_code
    remedy = SlackRefused.remedy


class _ShortWaits(RateLimitErrorRetryHandler):
    """Waits out a rate limit once, if it is over in a few seconds: a notice is not worth more."""

    def _can_retry(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        if response is None or not super()._can_retry(state=state, request=request, response=response, error=error):
            return False
        headers = {name.lower(): value for name, value in response.headers.items()}
        seconds = headers.get("retry-after", ["1"])[0]
        return seconds.isdecimal() and int(seconds) <= _LONGEST_WAIT_SECONDS


def _retries() -> list[RetryHandler]:
    # URLError alone means that the request was not sent; after any other error a second try might post twice.
    return [ConnectionErrorRetryHandler(error_types=[URLError]), _ShortWaits()]


def _content(message: Message) -> dict[str, Any]:
    # chat.update takes `parse: client` when it is not told otherwise, which would link @mentions and #channels.
    return {"text": message.text, "blocks": list(message.blocks), "parse": "none", "link_names": False}


@contextmanager
def _explained(channel: str) -> Iterator[None]:
    """Turn the SDK's errors into ours; none of them may quote a token or a webhook's address."""
    try:
        yield
    except SlackApiError as error:
        response = error.response
        raise _error_of(str(response.get("error", "")), channel, getattr(response, "status_code", None)) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"Slack: {getattr(reason, 'strerror', None) or type(reason).__name__}") from None
    except (SlackClientError, ValueError):
        raise SlackDenied("the Slack token or address has characters that do not belong there") from None


def _error_of(code: str, channel: str, status: object) -> PipelineError:
    if code in _DENIED:
        return SlackDenied(f"Slack: {code}")
    if code in _NO_CHANNEL:
        return SlackChannelNotFound(f"Slack: {code}: {channel}")
    if code in _GONE:
        return _MessageGone(f"Slack: {code}")
    if status == 429 or code in {"ratelimited", "rate_limited"}:
        return SlackRefused(f"Slack: too many messages to {channel}")
    if not re.fullmatch("[a-z0-9_]+", code):
        return SlackRefused(f"Slack: HTTP status {status}, and the answer is none of Slack's API")
    return SlackRefused(f"Slack: {code}")
