"""The Markdown summary reads well, and stays Markdown of ours whatever others wrote."""

import re
from dataclasses import replace

import pytest

from pipeline.core.summary import markdown
from tests.core.test_notice import hostile
from tests.deployments import CAUSE, DEPLOYED, HOSTILE, NEW, failed

DIFF = "--- a/k.yaml\n+++ b/k.yaml\n@@ -1 +1 @@\n-  newTag: a\n+  newTag: b\n"


def outside_code(text: str) -> str:
    """The Markdown without code blocks and code spans: what a renderer interprets."""
    kept, fence = [], ""
    for line in text.split("\n"):
        if fence:
            fence = "" if line == fence else fence
        elif opening := re.match("(`{3,})[a-z]*$", line):
            fence = opening[1]
        else:
            kept.append(line)
    assert not fence, "a code block is not closed"
    return re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", "\n".join(kept))


def test_a_deployment_reads_as_a_page() -> None:
    text = markdown(DEPLOYED, DIFF)
    assert text.startswith("## ✅ Deployment of openegflask to production succeeded\n")
    assert f"| openegflask | `3f2a9c1` | [`8b1c2d3`](https://git.example/openeg/app/commit/{NEW}) |" in text
    assert "| openeg | ✅ deployed | Healthy | `1a2b3c4` | 2 of 2 pods run the image |" in text
    assert "[Argo CD openeg](https://argocd.example/applications/openeg)" in text
    assert f"```diff\n{DIFF}```" in text
    assert "### Timeline: 28.4 s\n" in text


def test_a_failure_shows_cause_log_lines_and_remedy() -> None:
    text = markdown(failed())
    assert "> **What to do:** Run \\`rollback\\`." in text
    assert "### CrashLoopBackOff: openeg, Pod/flask-7d9c, container flask\n" in text
    assert (
        "<details open><summary>Last log lines</summary>\n\n```\nTraceback (most recent call last):\nValueError" in text
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_stays_text(text: str) -> None:
    page = outside_code(markdown(hostile(text), text))
    tags = set(re.findall(r"</?[a-z][^>]*>", page))
    assert tags <= {"<details>", "<details open>", "</details>", "<summary>", "</summary>"}
    assert not re.search(r"(?<!\\)\]\(https://evil", page)
    assert not re.search("^## injected", page, re.MULTILINE)
    assert not re.search("@(?=[a-z])", page)
    rows = [line for line in page.split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {5, 6}, "a cell ended early"


def test_a_code_block_is_fenced_by_more_backticks_than_it_holds() -> None:
    page = markdown(failed(replace(CAUSE, logs=("````", "</details>", "```"))))
    assert "\n`````\n````\n</details>\n```\n`````\n" in page


@pytest.mark.parametrize("limit", [0, 50, 100, 1000, 100_000])
def test_the_summary_keeps_to_the_room_that_is_left(limit: int) -> None:
    page = markdown(failed(), "+x\n" * 50_000, limit=limit)
    assert len(page.encode()) <= limit
    assert limit in {0, 50, 100_000} or "More is left out here" in page
    outside_code(page)


def test_a_hostile_deployment_fits_into_github_summary() -> None:
    assert max(len(markdown(hostile(text), text).encode()) for text in HOSTILE) < 1024 * 1024
