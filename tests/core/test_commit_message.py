"""The commit message of a deployment, written and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.commit_message import Trailers, compose, parse
from pipeline.core.deployment import Image

TAG = "3f2a9c1" + "0" * 33
DIGEST = f"sha256:{'d' * 64}"
SOURCE = f"https://github.com/openeg/flask@{TAG}"


def image(name: str = "openegflask", tag: str = TAG, *, digest: str | None = None, source: str | None = None) -> Image:
    return Image(name=name, repository=f"registry.oud.kr/{name}", tag=tag, digest=digest, source=source)


def trailers(*images: Image, actor: str | None = None, run: str | None = None) -> Trailers:
    return Trailers(
        deployment_id="4711", kind="deploy", environment="production", images=images or (image(),), actor=actor, run=run
    )


def headline(*images: Image) -> str:
    return compose(trailers(*images)).partition("\n")[0]


def test_the_whole_message() -> None:
    full = trailers(image(digest=DIGEST, source=SOURCE), actor="ada", run="https://ci.example.org/1")
    assert compose(full) == (
        "deploy(production): openegflask 3f2a9c1\n"
        "\n"
        "Deploy-Id: 4711\n"
        "Deploy-Kind: deploy\n"
        "Deploy-Environment: production\n"
        "Deploy-Run: https://ci.example.org/1\n"
        "Deploy-Actor: ada\n"
        f"Deploy-Image: openegflask registry.oud.kr/openegflask:{TAG}@{DIGEST} {SOURCE}\n"
    )
    assert parse(compose(full)) == full


OTHER = "a" * 40
MANY = tuple(image(f"service-number-{number}") for number in range(9))


@pytest.mark.parametrize(
    ("images", "line"),
    [
        ((image(),), "deploy(production): openegflask 3f2a9c1"),
        ((image(tag="v1.2.3"),), "deploy(production): openegflask v1.2.3"),
        ((image("flask"), image("node")), "deploy(production): flask, node 3f2a9c1"),
        ((image("flask"), image("node", OTHER)), "deploy(production): flask 3f2a9c1, node aaaaaaa"),
        (MANY, "deploy(production): service-number-0 and 8 more 3f2a9c1"),
        ((*MANY, image("node", OTHER)), "deploy(production): service-number-0 3f2a9c1 and 9 more"),
    ],
)
def test_the_headline_names_what_fits(images: tuple[Image, ...], line: str) -> None:
    assert headline(*images) == line


@pytest.mark.parametrize("images", [(image("x" * 200),), (image("x" * 200), image("y" * 200)), (image(tag="t" * 128),)])
def test_the_headline_is_never_longer_than_72_characters(images: tuple[Image, ...]) -> None:
    assert len(headline(*images)) <= 72


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r", "\n\n", "\u2028", "\x0b", "\x1e", "\x85"])
def test_no_value_forges_a_line(separator: str) -> None:
    forged = f"mallory{separator}Deploy-Id: forged{separator}Deploy-Image: x y:z"
    message = compose(
        Trailers(
            deployment_id=f"1{separator}Deploy-Id: forged",
            kind="deploy",
            environment=f"prod{separator}{separator}Deploy-Id: forged",
            images=(image(source=forged),),
            actor=forged,
            run=forged,
        )
    )
    assert len([line for line in message.splitlines() if line.startswith("Deploy-Id:")]) == 1
    read = parse(message)
    assert read is not None
    assert read.deployment_id == "1 Deploy-Id: forged"
    assert len(read.images) == 1


@given(st.text(), st.text(), st.text(min_size=1))
def test_whatever_is_written_is_read_back_as_one_line(actor: str, run: str, source: str) -> None:
    read = parse(compose(trailers(image(source=source), actor=actor, run=run)))
    assert read is not None
    assert (read.deployment_id, read.environment, len(read.images)) == ("4711", "production", 1)
    assert read.images[0].reference == image().reference


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Fix the overlay\n",
        'Revert "deploy(production): flask 3f2a9c1"\n\nThis reverts commit 1234.\n',
        "Deploy-Id 1",
    ],
)
def test_a_commit_by_hand_is_no_deployment(message: str) -> None:
    assert parse(message) is None


def test_what_a_server_appends_does_no_harm() -> None:
    message = compose(trailers()) + "\nCo-authored-by: Bob <bob@example.org>\n"
    assert parse(message) == trailers()
    assert parse(message.replace("\n", "\r\n")) == trailers()
