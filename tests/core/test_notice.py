"""A Slack message says what matters, keeps to Slack's limits, and lets nobody speak through it."""

import re
from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.deployment import Application, Deployment, Failure, Image, Rollout
from pipeline.core.notice import Message, details, joined, message
from tests.deployments import CAUSE, DEPLOYED, HOSTILE, IMAGE, REVISION, failed, rolled_back

DIFF = "--- a/k.yaml\n+++ b/k.yaml\n@@ -1 +1 @@\n-  newTag: a\n+  newTag: b\n"


def texts(shown: Message) -> list[str]:
    return [text["text"] for block in shown.blocks for text in block.get("elements", [block.get("text")])]


def hostile(text: str) -> Deployment:
    """A deployment in which everything that others can write is `text`."""
    cause = replace(
        CAUSE, reason=text, message=text, resource=text, container=text, logs=(text,) * 60, events=(text,) * 60
    )
    applications = tuple(Application(name=f"{text}{n}", outcome="failed", health=text, cause=cause) for n in range(30))
    return replace(
        DEPLOYED,
        outcome="failed",
        environment=text or None,
        actor=text,
        images=tuple(
            Image(name=f"{text}{n}", repository=text, tag=text, previous=text, source=text) for n in range(60)
        ),
        rollout=Rollout(applications=applications),
        urls={text: "https://ok.example/", "commit": text},
        error=Failure(class_=text, message=text, remedy=text),
        seconds={text: 1.0, "total": 2.0},
    )


def test_a_deployment_is_told_in_a_few_lines() -> None:
    shown = message(DEPLOYED, final=True)
    assert shown.text.splitlines()[0] == "✅ Deployment of openegflask to production succeeded"
    assert texts(shown) == [
        "✅ *Deployment of openegflask to production succeeded*",
        f"openegflask  `3f2a9c1` → <https://git.example/openeg/app/commit/{IMAGE.tag}|8b1c2d3>",
        (
            "build 12.0 s → publish 2.0 s → wait 14.0 s  ·  28.4 s in all  ·  by kim  ·  "
            f"<https://git.example/openeg/gitops/commit/{REVISION}|Commit>  ·  "
            "<https://argocd.example/applications/openeg|Argo CD openeg>"
        ),
    ]


def test_a_failure_names_its_cause_in_the_message_and_its_log_lines_in_the_thread() -> None:
    assert "❌ *CrashLoopBackOff* openeg, Pod/flask-7d9c, flask: back-off 10s" in "\n".join(
        texts(message(failed(), final=True))
    )
    thread = details(failed(), DIFF)
    assert thread
    told = "\n".join(texts(thread))
    assert "```\nTraceback (most recent call last):\nValueError: no DATABASE_URL\n```" in told
    assert "*What to do:* Run `rollback`." in told
    assert "+  newTag: b" in told


def test_a_rollback_is_told_beside_the_cause() -> None:
    told = "\n".join(texts(message(rolled_back(), final=True)))
    assert "failed and was rolled back" in told
    assert "Rollback deployed: openegflask 3f2a9c1" in told


def test_an_error_before_any_rollout_is_told_too() -> None:
    refused = replace(
        DEPLOYED, outcome="refused", rollout=None, error=Failure(class_="Diverged", message="no", remedy="Merge.")
    )
    assert "*Diverged* no" in texts(message(refused, final=True))
    thread = details(refused)
    assert thread
    assert texts(thread) == ["no", "*What to do:* Merge."]


def test_there_is_no_thread_when_there_is_nothing_to_add() -> None:
    assert details(DEPLOYED) is None
    assert joined(message(DEPLOYED, final=True), None) == message(DEPLOYED, final=True)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_out_or_exceeds_slacks_limits(text: str) -> None:
    deployment = hostile(text)
    first, second = message(deployment, final=True), details(deployment, text)
    assert second
    for shown in (first, second, joined(first, second)):
        blocks: list[Any] = list(shown.blocks)
        assert 1 <= len(blocks) <= 50
        assert len(shown.text.encode()) <= 4000
        assert sum(map(len, texts(shown))) <= 13_000
        for part in [shown.text, *texts(shown)]:
            assert 1 <= len(part) <= 3000 or part is shown.text
            part.encode()
            assert all(link.startswith("<https://") for link in re.findall("<[^>]*>?", part))
            assert not re.search("@(channel|here|everyone)", part)
            assert part.count("```") in {0, 2}
            assert not re.search("&(?!amp;|lt;|gt;)", part)


def test_what_is_cut_says_so_and_the_last_log_lines_are_kept() -> None:
    logs = tuple(f"line {number} {'<' * 20}" for number in range(1000))
    thread = details(failed(replace(CAUSE, logs=logs)), "+x\n" * 5000)
    assert thread
    fences = [text for text in texts(thread) if text.startswith("```")]
    assert re.match(r"```\n… \d+ more lines\n", fences[0])
    assert "line 999 " in fences[0]
    assert re.search(r"\n… \d+ more lines\n```$", fences[-1])
