"""Slack's API on loopback, as far as notices use it: what Slack's documentation says is refused is refused here.

`/api/auth.test`, `/api/chat.postMessage`, `/api/chat.update` and the incoming webhook `/services/sandbox`;
`/messages` shows what was posted as JSON, `/` as a page. https://docs.slack.dev/reference/methods
"""

import html
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from pipeline.core.secret import Secret

WEBHOOK = "sandbox"
"""Last part of the webhook's path."""

_ROUTES = Map(
    [
        Rule("/api/<method>", endpoint="api"),
        Rule("/services/<name>", endpoint="webhook", methods=["POST"]),
        Rule("/messages", endpoint="messages", methods=["GET"]),
        Rule("/", endpoint="page", methods=["GET"]),
    ]
)
_BOT = {"user": "deploy", "user_id": "U00DEPLOY", "bot_id": "B00DEPLOY", "team": "Sandbox", "team_id": "T00SANDBOX"}

_MOST_BLOCKS = 50
_LONGEST_BLOCK = 3000
_LONGEST_HEADER = 150
_MOST_ELEMENTS = 10
# Not in the documentation, but measured: https://github.com/slackapi/bolt-js/issues/2509
_LONGEST_BLOCKS = 13_000
_LONGEST_TEXT = 40_000
_LONGEST_UPDATE_BYTES = 4000


@dataclass(slots=True)
class Posted:
    """One message as it stands now."""

    channel: str
    ts: str
    text: str
    blocks: list[Any]
    thread_ts: str | None = None
    attachments: list[Any] = field(default_factory=list)
    """The older form of what is below the text, which Argo CD's notifications use."""
    edits: int = 0
    """How often it was updated."""


class Slack:
    """The WSGI application. Tests look at `messages`, in the order they were posted."""

    def __init__(self, token: Secret, channels: Iterable[str] = ("cicd",)) -> None:
        """`channels` are the names of the channels that there are; the webhook posts to the first."""
        self.messages: list[Posted] = []
        self.limits: list[int] = []
        """For each number of seconds in it, one request is refused with that `Retry-After`."""
        self._token = token
        self._channels = {name: f"C{number:08}" for number, name in enumerate(channels, 1)}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = Request(environ)
        answers: Mapping[str, Callable[..., Response]] = {
            "api": self._api,
            "webhook": self._webhook,
            "messages": self._list,
            "page": self._page,
        }
        response: Response | HTTPException
        try:
            endpoint, values = _ROUTES.bind_to_environ(environ).match()
            with self._lock:
                response = answers[endpoint](request, **values)
        except HTTPException as error:
            response = error
        return response(environ, start_response)

    def _api(self, request: Request, method: str) -> Response:
        if self.limits:
            return _limited(self.limits.pop(0))
        try:
            answer = {"ok": True, **self._call(method, request)}
        except _Refused as refusal:
            answer = {"ok": False, "error": refusal.code, "response_metadata": {"messages": refusal.messages}}
        return _json(answer)

    def _webhook(self, request: Request, name: str) -> Response:
        if self.limits:
            return _limited(self.limits.pop(0))
        if name != WEBHOOK:
            return Response("no_service", 404)
        try:
            content = json.loads(request.form["payload"]) if "payload" in request.form else _arguments(request)
            self._add(next(iter(self._channels.values())), content)
        except _Refused as refusal:
            return Response("invalid_payload" if refusal.code in _UNREADABLE else refusal.code, 400)
        except ValueError:
            return Response("invalid_payload", 400)
        return Response("ok")

    def _call(self, method: str, request: Request) -> Mapping[str, Any]:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.form.get("token", "")
        if token != self._token.reveal():
            raise _Refused("invalid_auth" if token else "not_authed")
        match method:
            case "auth.test":
                return _BOT
            case "chat.postMessage":
                return self._post(_arguments(request))
            case "chat.update":
                return self._update(_arguments(request))
        raise _Refused("unknown_method")

    def _post(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        channel = str(arguments.get("channel", "")).removeprefix("#")
        channel = self._channels.get(channel, channel)
        if channel not in self._channels.values():
            raise _Refused("channel_not_found")
        if (thread := arguments.get("thread_ts")) and not self._find(channel, thread):
            raise _Refused("thread_not_found")
        return self._shown(self._add(channel, arguments))

    def _update(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        channel = arguments.get("channel", "")
        if channel not in self._channels.values():  # a name will not do here
            raise _Refused("channel_not_found")
        posted = self._find(channel, arguments.get("ts"))
        if not posted:
            raise _Refused("message_not_found")
        text, blocks = _content(arguments)
        if len(text.encode()) > _LONGEST_UPDATE_BYTES:
            raise _Refused("msg_too_long")
        posted.text, posted.blocks, posted.edits = text, blocks or posted.blocks, posted.edits + 1
        return self._shown(posted)

    def _add(self, channel: str, arguments: Mapping[str, Any]) -> Posted:
        text, blocks = _content(arguments)
        attachments = _listed(arguments, "attachments", "invalid_arguments")
        ts = f"{int(time.time())}.{next(self._numbers):06}"
        posted = Posted(channel, ts, text, blocks, arguments.get("thread_ts"), attachments)
        self.messages.append(posted)
        return posted

    def _find(self, channel: str, ts: object) -> Posted | None:
        return next((item for item in self.messages if item.channel == channel and item.ts == ts), None)

    def _shown(self, posted: Posted) -> dict[str, Any]:
        inner = {"type": "message", "text": posted.text, "ts": posted.ts, "blocks": posted.blocks, **_BOT}
        return {"channel": posted.channel, "ts": posted.ts, "text": posted.text, "message": inner}

    def _list(self, _request: Request) -> Response:
        return _json({"messages": [asdict(item) for item in self.messages]})

    def _page(self, _request: Request) -> Response:
        names = {number: name for name, number in self._channels.items()}
        parts = [_PAGE]
        for item in (item for item in self.messages if not item.thread_ts):
            replies = [_article(reply) for reply in self.messages if reply.thread_ts == item.ts]
            parts.append(f"<h2>#{html.escape(names[item.channel])}</h2>{_article(item)}")
            parts.append(f"<div>{''.join(replies)}</div>")
        return Response("".join(parts), content_type="text/html; charset=utf-8")


class _Refused(Exception):
    """An error of the Web API, which answers 200 and says `ok: false`."""

    def __init__(self, code: str, *messages: str) -> None:
        super().__init__(code)
        self.code = code
        self.messages = messages


_UNREADABLE = {"invalid_json", "json_not_object", "invalid_post_type"}


def _json(value: object) -> Response:
    return Response(json.dumps(value), content_type="application/json; charset=utf-8")


def _limited(seconds: int) -> Response:
    return Response('{"ok": false, "error": "ratelimited"}', 429, {"Retry-After": str(seconds)}, "application/json")


def _arguments(request: Request) -> Mapping[str, Any]:
    if request.mimetype in {"application/x-www-form-urlencoded", "multipart/form-data", ""}:
        return dict(request.values.items())
    if request.mimetype != "application/json":
        raise _Refused("invalid_post_type")
    try:
        value: object = json.loads(request.get_data())
    except ValueError:
        raise _Refused("invalid_json") from None
    if not isinstance(value, dict):
        raise _Refused("json_not_object")
    return value


def _content(arguments: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Text and blocks, checked. In a form the blocks are JSON text."""
    text, blocks = arguments.get("text") or "", _listed(arguments, "blocks", "invalid_blocks_format")
    if not text and not blocks:
        raise _Refused("no_text")
    if len(text) > _LONGEST_TEXT:
        raise _Refused("msg_too_long")
    problems = list(_problems(blocks))
    if problems:
        raise _Refused("invalid_blocks", *problems)
    if sum(len(item["text"]) for item in _texts(blocks)) > _LONGEST_BLOCKS:
        raise _Refused("msg_blocks_too_long")
    return text, blocks


def _listed(arguments: Mapping[str, Any], name: str, otherwise: str) -> list[Any]:
    """A list among the arguments, in a form as JSON text; `otherwise` is the error's code."""
    value = arguments.get(name) or []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise _Refused(otherwise) from None
    if not isinstance(value, list):
        raise _Refused(otherwise)
    return value


def _problems(blocks: list[Any]) -> Iterator[str]:
    """What the reference of Block Kit does not allow. Only the types that a plain message needs are known here."""
    if len(blocks) > _MOST_BLOCKS:
        yield f"[ERROR] no more than {_MOST_BLOCKS} items allowed [json-pointer:/blocks]"
    for number, block in enumerate(blocks):
        match block:
            case {"type": "divider"}:
                pass
            case {"type": "section", "text": text}:
                yield from _text_problems(text, {"mrkdwn", "plain_text"}, _LONGEST_BLOCK, f"/blocks/{number}/text")
            case {"type": "header", "text": text}:
                yield from _text_problems(text, {"plain_text"}, _LONGEST_HEADER, f"/blocks/{number}/text")
            case {"type": "context", "elements": [_, *_] as elements} if len(elements) <= _MOST_ELEMENTS:
                for index, text in enumerate(elements):
                    where = f"/blocks/{number}/elements/{index}"
                    yield from _text_problems(text, {"mrkdwn", "plain_text"}, _LONGEST_BLOCK, where)
            case _:
                yield f"[ERROR] unsupported or incomplete block [json-pointer:/blocks/{number}]"


def _text_problems(text: object, kinds: set[str], longest: int, where: str) -> Iterator[str]:
    match text:
        case {"type": str() as kind, "text": str() as content} if kind in kinds:
            if not 1 <= len(content) <= longest:
                yield f"[ERROR] must be 1 to {longest} characters [json-pointer:{where}/text]"
        case _:
            yield f"[ERROR] expected a text object of type {' or '.join(sorted(kinds))} [json-pointer:{where}]"


def _texts(blocks: list[Any]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        yield from block.get("elements", [block["text"]] if "text" in block else [])


_PAGE = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>Sandbox: Slack</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; color: #1d1c1d }
h2 { font-size: 1rem; color: #616061 } pre, code { background: #f6f6f6; border-radius: 4px; padding: .1em .3em }
pre { padding: .6em; overflow: auto } div { border-left: 3px solid #ddd; padding-left: 1em } p { white-space: pre-wrap }
</style>
"""


def _article(item: Posted) -> str:
    texts = [text["text"] for text in _texts(item.blocks)] or [item.text]
    edited = f" <small>(edited {item.edits} times)</small>" if item.edits else ""
    return "".join(f"<p>{_rendered(text)}</p>" for text in texts) + edited


def _rendered(text: str) -> str:
    """Slack's mrkdwn as HTML: links, bold, code."""
    parts = []
    for part in re.split("(<[^>]*>)", text):
        link = re.fullmatch(r"<(https?://[^|>]+)\|?([^>]*)>", part)
        shown = html.escape(html.unescape(part))
        parts.append(f'<a href="{html.escape(html.unescape(link[1]))}">{link[2] or link[1]}</a>' if link else shown)
    joined = re.sub(r"```\n?(.*?)```", r"<pre>\1</pre>", "".join(parts), flags=re.DOTALL)
    joined = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", joined)
    return re.sub(r"(?<!\w)\*([^*\n]+)\*", r"<b>\1</b>", joined)
