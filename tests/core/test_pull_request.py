"""A deployment as a pull request: names, texts, and GitHub's limit."""

import re
from dataclasses import replace

import pytest

from pipeline.core import commit_message, pull_request
from pipeline.core.commit_message import Trailers
from pipeline.core.deployment import Image
from pipeline.core.pull_request import LIMIT, Since, SourceCommit

OLD, NEW = "a" * 40, "b" * 40
DIGEST = f"sha256:{'1' * 64}"
DIFF = "--- a/k.yaml\n+++ b/k.yaml\n@@ -1 +1 @@\n-  newTag: old\n+  newTag: new\n"


def image(name: str, service: str | None = None) -> Image:
    return Image(
        name=name, service=service, repository=f"registry/{name}", tag=NEW, digest=DIGEST, previous=OLD,
        source=f"https://github.com/openeg/{name}@{NEW}",
    )  # fmt: skip


def trailers(*images: Image) -> Trailers:
    bare = tuple(replace(item, previous=None, service=None) for item in images)
    return Trailers(
        deployment_id="4711-production",
        kind="deploy",
        environment="production",
        images=bare,
        actor="ada",
        run="https://github.com/openeg/flask/actions/runs/4711",
    )


def commits(count: int, text: str = "Serve lessons") -> tuple[SourceCommit, ...]:
    page = "https://github.com/openeg/flask"
    return tuple(
        SourceCommit(
            f"{number:040x}", f"{text} {number}", "ada", f"{page}/commit/{number:040x}", f"{page}/pull/{number}"
        )
        for number in range(count)
    )


@pytest.mark.parametrize(
    ("names", "branch"),
    [
        (["flask"], "deploy/production/flask"),
        (["node", "flask", "node"], "deploy/production/flask+node"),
        ([f"service-{number}" for number in range(50)], r"deploy/production/service-0\+49-more-[0-9a-f]{8}"),
        (["a b"], "deploy/production/a-b-[0-9a-f]{8}"),
        (["x.lock"], "deploy/production/x-[0-9a-f]{8}"),
    ],
)
def test_a_branch_is_named_by_environment_and_services(names: list[str], branch: str) -> None:
    found = pull_request.branch_name("production", [image("i", service=name) for name in names])
    assert found == branch or re.fullmatch(branch, found)


def test_no_two_sets_of_services_share_a_branch() -> None:
    sets = [["a", "b"], ["a-b"], ["a+b"], ["a b"], ["a/b"], ["a_b"], ["ab"], ["a", "B"]]
    names = {pull_request.branch_name("production", [image("i", service=one) for one in these]) for these in sets}
    assert len(names) == len(sets)


def test_a_body_tells_all_and_keeps_the_trailers() -> None:
    flask = image("flask")
    text = pull_request.body(trailers(flask), [flask], DIFF, [Since(OLD, NEW, commits(2), 3)])
    for part in (DIGEST, "[Run](https://github.com/openeg/flask/actions/runs/4711)", "+  newTag: new"):
        assert part in text
    first, second = text.index("Serve lessons 1"), text.index("Serve lessons 0")
    assert first < second, "the newest first"
    assert "ada, [#1](https://github.com/openeg/flask/pull/1)" in text
    assert "… 3 more commits" in text
    assert commit_message.parse(text) == trailers(flask)
    assert commit_message.parse(text.replace("\n", "\r\n")) == trailers(flask)
    assert pull_request.images_of(text, "production") == trailers(flask).images
    assert pull_request.images_of(text, "staging") == ()
    assert pull_request.is_superseded(pull_request.superseded(text))
    assert not pull_request.is_superseded(text)


@pytest.mark.parametrize(
    ("images", "listed", "diff"),
    [
        (1, 5000, DIFF),
        (1, 3, DIFF + "+" * 500_000),
        (1, 3, DIFF + "+x\n" * 100_000),
        (300, 5000, DIFF + "+``\n" * 50_000),
    ],
)
def test_a_body_that_is_too_long_is_cut_and_says_so(images: int, listed: int, diff: str) -> None:
    many = [image(f"image{number}") for number in range(images)]
    text = pull_request.body(trailers(*many), many, diff, [Since(OLD, NEW, commits(listed, "𝄞" * 190))])
    assert len(pull_request.superseded(text).encode("utf-16-le")) // 2 < LIMIT
    assert listed < 10 or re.search(r"… \d+ more commits", text)
    assert len(diff) < 200_000 or re.search(r"… \d+ more lines|\+{9}…", text)
    kept = commit_message.parse(text)
    assert kept is not None
    assert kept.deployment_id == "4711-production"
    assert len(kept.images) in {0, images}, "some of the images would tell what is not true"
    assert images < 300 or "… 250 more images" in text
