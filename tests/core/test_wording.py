"""The words for a deployment are the same everywhere, and foreign text is made harmless in one place."""

from dataclasses import replace

import pytest

from pipeline.core.deployment import Deployment, Image
from pipeline.core.wording import duration, links, one_line, short, source_url, state, visible, waterfall, web_url
from pipeline.errors import Outcome
from tests.deployments import DEPLOYED, HOSTILE, IMAGE, NEW, failed, rolled_back


@pytest.mark.parametrize(
    ("deployment", "final", "sentence"),
    [
        (DEPLOYED, True, "✅ Deployment of openegflask to production succeeded"),
        (DEPLOYED, False, "🔄 Deployment of openegflask to production is under way"),
        (failed(), True, "❌ Deployment of openegflask to production failed"),
        (rolled_back(), True, "↩️ Deployment of openegflask to production failed and was rolled back"),
        (replace(DEPLOYED, kind="rollback"), True, "✅ Rollback of openegflask to production succeeded"),
        (replace(DEPLOYED, outcome="refused"), True, "⛔ Deployment of openegflask to production was refused"),
        (replace(DEPLOYED, images=()), True, "✅ Deployment of openeg to production succeeded"),
        (replace(failed(), images=(), rollout=None), True, "❌ Deployment of the configuration to production failed"),
        (Deployment(command="bump", outcome="refused"), True, "⛔ bump was refused"),
    ],
)  # fmt: skip
def test_the_state_is_one_sentence(deployment: Deployment, final: bool, sentence: str) -> None:
    assert " ".join(state(deployment, final=final)) == sentence


@pytest.mark.parametrize("outcome", Outcome.__args__)  # type: ignore[attr-defined]
def test_every_outcome_has_words(outcome: Outcome) -> None:
    assert all(state(replace(DEPLOYED, outcome=outcome)))


def test_many_images_are_counted() -> None:
    images = tuple(replace(IMAGE, name=name) for name in "abcde")
    assert "a, b, c, 2 more to" in state(replace(DEPLOYED, images=images))[1]


@pytest.mark.parametrize("text", HOSTILE)
def test_visible_text_has_no_control_characters_and_can_be_encoded(text: str) -> None:
    assert visible(text).encode().decode().isprintable() or "\n" in text
    line = one_line(text, 100)
    assert len(line) <= 100
    assert line.isprintable()


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://argocd.example/applications/x", "https://argocd.example/applications/x"),
        ("https://user:token@git.example/g", "https://git.example/g"),
        ("https://git.example/a(b)", "https://git.example/a%28b%29"),
        ("javascript:alert(1)", None),
        ("git@git.example:g.git", None),
        ("https://git.example/a|b", None),
        ("https://git.example/a b", None),
        ("https://git.example/\x07", None),
        ("https://[git.example/", None),
        ("https://", None),
        ("", None),
        (None, None),
    ],
)
def test_only_a_plain_web_address_becomes_a_link(url: str | None, clean: str | None) -> None:
    assert web_url(url) == clean


@pytest.mark.parametrize(
    ("source", "url"),
    [
        (f"https://git.example/app.git@{NEW}", f"https://git.example/app/commit/{NEW}"),
        (f"https://user:token@git.example/app@{NEW}", f"https://git.example/app/commit/{NEW}"),
        (f"git@git.example:app.git@{NEW}", None),
        (f"/srv/app@{NEW}", None),
        ("https://git.example/app@main", None),
        (None, None),
    ],
)
def test_the_source_links_to_its_commit(source: str | None, url: str | None) -> None:
    assert source_url(Image(name="a", repository="a", tag=NEW, source=source)) == url


def test_links_have_labels() -> None:
    assert [label for label, _ in links(DEPLOYED)] == ["Commit", "Argo CD openeg"]


@pytest.mark.parametrize(
    ("tag", "shown"), [(NEW, "8b1c2d3"), ("v1.2.3", "v1.2.3"), (None, "none"), ("x" * 99, "x" * 39 + "…")]
)
def test_a_tag_is_shown_short(tag: str | None, shown: str) -> None:
    assert short(tag) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.42, "0.4 s"), (99.9, "99.9 s"), (184.2, "3 min 4 s"), (3600, "60 min 0 s")]
)
def test_seconds_are_shown_as_people_say_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_each_stage_is_a_bar_that_starts_where_the_last_one_ended() -> None:
    lines = waterfall(replace(DEPLOYED, seconds={"build": 4.0, "publish": 0.0, "wait": 4.0}), width=8)
    assert lines == (
        "build    ████           4.0 s",
        "publish      █          0.0 s",
        "wait         ████       4.0 s",
    )
    assert waterfall(replace(DEPLOYED, seconds=None)) == ()
    assert len(waterfall(replace(DEPLOYED, seconds={"build": 0.0, "wait": 0.0}))) == 2
