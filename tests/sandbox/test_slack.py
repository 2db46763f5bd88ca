"""The sandbox refuses what Slack's documentation says Slack refuses."""

import json
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from pipeline.core.secret import Secret
from pipeline.sandbox.slack import WEBHOOK, Slack

SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "x"}}
HEADERS = {"Authorization": "Bearer sandbox"}


@pytest.fixture
def double() -> Slack:
    return Slack(Secret("sandbox"), ["cicd", "other"])


@pytest.fixture
def client(double: Slack) -> Client:
    return Client(double)


def call(client: Client, method: str, **arguments: Any) -> dict[str, Any]:
    answer = client.post(f"/api/{method}", json=arguments, headers=HEADERS)
    assert answer.status_code == 200
    result: dict[str, Any] = json.loads(answer.data)
    return result


def body(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_data(as_text=True)


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"text": "x"}, "channel_not_found"),
        ({"channel": "nowhere", "text": "x"}, "channel_not_found"),
        ({"channel": "cicd"}, "no_text"),
        ({"channel": "cicd", "text": "x" * 40_001}, "msg_too_long"),
        ({"channel": "cicd", "text": "x", "thread_ts": "1.2"}, "thread_not_found"),
        ({"channel": "cicd", "blocks": "[1"}, "invalid_blocks_format"),
        ({"channel": "cicd", "blocks": {"type": "section"}}, "invalid_blocks_format"),
        ({"channel": "cicd", "blocks": [SECTION] * 51}, "invalid_blocks"),
        ({"channel": "cicd", "blocks": [{"type": "nonsense"}]}, "invalid_blocks"),
        ({"channel": "cicd", "blocks": ["section"]}, "invalid_blocks"),
        ({"channel": "cicd", "blocks": [section("")]}, "invalid_blocks"),
        ({"channel": "cicd", "blocks": [section("x" * 3001)]}, "invalid_blocks"),
        ({"channel": "cicd", "blocks": [{"type": "section", "text": "x"}]}, "invalid_blocks"),
        ({"channel": "cicd", "blocks": [{"type": "header", "text": SECTION["text"]}]}, "invalid_blocks"),
        ({"channel": "cicd", "blocks": [{"type": "context", "elements": []}]}, "invalid_blocks"),
        ({"channel": "cicd", "blocks": [{"type": "context", "elements": [SECTION["text"]] * 11}]}, "invalid_blocks"),
        ({"channel": "cicd", "blocks": [section("x" * 2900)] * 5}, "msg_blocks_too_long"),
    ],
)
def test_a_message_that_slack_would_not_take_is_refused(
    client: Client, double: Slack, arguments: dict[str, Any], error: str
) -> None:
    assert call(client, "chat.postMessage", **arguments)["error"] == error
    assert double.messages == []


@pytest.mark.parametrize("channel", ["cicd", "#cicd", "C00000001"])
def test_a_channel_is_named_or_numbered(client: Client, channel: str) -> None:
    assert call(client, "chat.postMessage", channel=channel, text="x")["channel"] == "C00000001"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"channel": "cicd"}, "channel_not_found"),
        ({"channel": "C00000002"}, "message_not_found"),
        ({"ts": "1.2"}, "message_not_found"),
        ({"text": ""}, "no_text"),
        ({"text": "é" * 2001}, "msg_too_long"),
    ],
)
def test_an_update_needs_the_id_of_the_channel_and_a_message_that_is_there(
    client: Client, change: dict[str, str], error: str
) -> None:
    posted = call(client, "chat.postMessage", channel="cicd", text="x")
    arguments = {"channel": posted["channel"], "ts": posted["ts"], "text": "y", **change}
    assert call(client, "chat.update", **arguments)["error"] == error


def test_an_update_without_blocks_keeps_them(client: Client, double: Slack) -> None:
    posted = call(client, "chat.postMessage", channel="cicd", text="x", blocks=[SECTION])
    call(client, "chat.update", channel=posted["channel"], ts=posted["ts"], text="y")
    assert [(item.text, item.blocks, item.edits) for item in double.messages] == [("y", [SECTION], 1)]


@pytest.mark.parametrize(
    ("headers", "data", "error"),
    [
        ({}, {}, "not_authed"),
        ({"Authorization": "Bearer wrong"}, {}, "invalid_auth"),
        ({}, {"token": "wrong"}, "invalid_auth"),
        (HEADERS, {}, None),
        ({}, {"token": "sandbox"}, None),
    ],
)
def test_a_token_comes_as_header_or_form_field(
    client: Client, headers: dict[str, str], data: dict[str, str], error: str | None
) -> None:
    answer = json.loads(client.post("/api/auth.test", headers=headers, data=data).data)
    assert (answer["ok"], answer.get("error")) == (error is None, error)


@pytest.mark.parametrize(
    ("data", "content_type", "error"),
    [
        ("{", "application/json", "invalid_json"),
        ("[]", "application/json", "json_not_object"),
        ("<x/>", "text/xml", "invalid_post_type"),
    ],
)
def test_a_body_that_is_no_arguments_is_refused(client: Client, data: str, content_type: str, error: str) -> None:
    answer = client.post("/api/chat.postMessage", data=data, content_type=content_type, headers=HEADERS)
    assert json.loads(answer.data)["error"] == error


def test_a_form_carries_blocks_as_json_text(client: Client, double: Slack) -> None:
    data = {"channel": "cicd", "blocks": json.dumps([SECTION])}
    client.post("/api/chat.postMessage", data=data, headers=HEADERS)
    assert double.messages[0].blocks == [SECTION]


def test_an_unknown_method_is_named_so(client: Client) -> None:
    assert call(client, "chat.shout")["error"] == "unknown_method"


def test_the_webhook_answers_in_plain_words(client: Client, double: Slack) -> None:
    path = f"/services/{WEBHOOK}"
    assert body(client.post(path, json={"text": "x"})) == (200, "ok")
    assert body(client.post(path, data={"payload": '{"text": "y"}'})) == (200, "ok")
    assert body(client.post(path, data="{", content_type="application/json")) == (400, "invalid_payload")
    assert body(client.post(path, data={"payload": "{"})) == (400, "invalid_payload")
    assert body(client.post(path, json={"blocks": [section("")]})) == (400, "invalid_blocks")
    assert body(client.post(path, json={})) == (400, "no_text")
    assert body(client.post("/services/removed", json={"text": "x"})) == (404, "no_service")
    assert [item.text for item in double.messages] == ["x", "y"]


@pytest.mark.parametrize("path", ["/api/chat.postMessage", f"/services/{WEBHOOK}"])
def test_a_rate_limit_says_how_long(client: Client, double: Slack, path: str) -> None:
    double.limits = [7]
    answer = client.post(path, json={"channel": "cicd", "text": "x"}, headers=HEADERS)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert client.post(path, json={"channel": "cicd", "text": "x"}, headers=HEADERS).status_code == 200


def test_messages_can_be_looked_at(client: Client) -> None:
    posted = call(
        client,
        "chat.postMessage",
        channel="cicd",
        text="x",
        blocks=[section("*done* <https://a.example|see> <!here> &lt;b&gt;")],
    )
    call(client, "chat.postMessage", channel="cicd", text="`why` <script>", thread_ts=posted["ts"])
    listed = json.loads(client.get("/messages").data)["messages"]
    assert [item["thread_ts"] for item in listed] == [None, posted["ts"]]
    page = client.get("/").get_data(as_text=True)
    assert '<p><b>done</b> <a href="https://a.example">see</a> &lt;!here&gt; &lt;b&gt;</p>' in page
    assert "<code>why</code> &lt;script&gt;" in page


def test_attachments_are_kept_and_must_be_a_list(client: Client, double: Slack) -> None:
    form = {"channel": "cicd", "text": "x", "token": "sandbox", "attachments": '[{"text": "below"}]'}
    assert json.loads(client.post("/api/chat.postMessage", data=form).data)["ok"]
    wrong = client.post("/api/chat.postMessage", data=form | {"attachments": "{"})
    assert json.loads(wrong.data)["error"] == "invalid_arguments"
    assert [item.attachments for item in double.messages] == [[{"text": "below"}]]
