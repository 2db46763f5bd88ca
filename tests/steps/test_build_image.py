from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pipeline.core.progress import Progress, Silent
from pipeline.core.source import Checkout
from pipeline.errors import PushFailed, TagIsMutable, TagIsTaken, TreeIsDirty, UsageError
from pipeline.steps.build_image import BuiltImage, Found, Inputs, Recipe, build_image, find_image

COMMIT = "3f2a9c1b" * 5
OTHER = "0" * 40
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
GOOD = Found(DIGEST, COMMIT)
REPOSITORY = "registry.oud.kr/openegflask"


@dataclass
class Shelf:
    """A registry that holds what it is given."""

    images: dict[tuple[str, str], Found] = field(default_factory=dict)

    def look_up(self, repository: str, tag: str) -> Found | None:
        return self.images.get((repository, tag))


@dataclass
class Press:
    """An engine that puts its product on the shelf; `fumble` replaces what arrives there."""

    shelf: Shelf
    fumble: Found | None = GOOD
    built: list[Recipe] = field(default_factory=list)

    def build_and_push(self, recipe: Recipe, progress: Progress) -> str:
        progress.say("Step 1/1")
        self.built.append(recipe)
        if self.fumble:
            self.shelf.images[recipe.repository, recipe.tag] = self.fumble
        return DIGEST


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\n")
    committed = datetime(2026, 11, 23, 1, 30, tzinfo=timezone(timedelta(hours=9)))
    return Inputs(
        name="openegflask",
        repository=REPOSITORY,
        context=tmp_path / "app",
        dockerfile=None,
        platforms=(),
        checkout=Checkout(tmp_path, COMMIT, "https://github.com/openeg/flask", (), committed),
        service="flask",
    )


def build(shelf: Shelf, press: Press, inputs: Inputs) -> BuiltImage:
    return build_image(press, shelf, inputs, Silent())


def test_the_commit_is_built_under_its_full_hash(inputs: Inputs) -> None:
    press = Press(Shelf())
    built = build(press.shelf, press, inputs)
    assert built.pushed
    assert built.image.reference == f"{REPOSITORY}:{COMMIT}"
    assert built.image.digest == DIGEST
    assert built.image.name == "openegflask"
    assert built.image.service == "flask"
    assert built.image.source == f"https://github.com/openeg/flask@{COMMIT}"


def test_the_labels_tell_what_it_was_built_from(inputs: Inputs) -> None:
    press = Press(Shelf())
    build(press.shelf, press, inputs)
    assert press.built[0].labels == {
        "org.opencontainers.image.revision": COMMIT,
        "org.opencontainers.image.source": "https://github.com/openeg/flask",
        "org.opencontainers.image.created": "2026-11-22T16:30:00Z",
    }
    assert press.built[0].dockerfile == inputs.context / "Dockerfile"


def test_a_second_run_builds_nothing(inputs: Inputs) -> None:
    press = Press(Shelf())
    first = build(press.shelf, press, inputs)
    second = build(press.shelf, press, inputs)
    assert second == BuiltImage(first.image, pushed=False)
    assert len(press.built) == 1


def test_looking_builds_nothing(inputs: Inputs) -> None:
    assert find_image(Shelf(), inputs) is None


@pytest.mark.parametrize(
    ("revision", "words"), [(OTHER, f"built from commit {OTHER}"), (None, "built from an unknown commit")]
)
def test_a_taken_tag_is_never_overwritten(inputs: Inputs, revision: str | None, words: str) -> None:
    press = Press(Shelf({(REPOSITORY, COMMIT): Found(DIGEST, revision)}))
    with pytest.raises(TagIsTaken, match=words):
        build(press.shelf, press, inputs)
    assert not press.built


@pytest.mark.parametrize(
    ("arrived", "words"),
    [
        (None, "does not have it"),
        (Found(OTHER_DIGEST, COMMIT), f"the registry has {OTHER_DIGEST}"),
        (Found(DIGEST, None), "unknown commit"),
    ],
)
def test_the_push_is_believed_only_after_reading_it_back(inputs: Inputs, arrived: Found | None, words: str) -> None:
    press = Press(Shelf(), fumble=arrived)
    with pytest.raises(PushFailed, match=words):
        build(press.shelf, press, inputs)


@pytest.mark.parametrize(
    ("dirty", "words"),
    [
        (("app/main.py", "new.txt"), r"app/main\.py, new\.txt$"),
        (tuple(f"f{number}" for number in range(12)), r"f0, .*, f9 and 2 more$"),
    ],
)
def test_a_dirty_tree_is_refused_with_its_files(inputs: Inputs, dirty: tuple[str, ...], words: str) -> None:
    press = Press(Shelf())
    with pytest.raises(TreeIsDirty, match=words):
        build(press.shelf, press, replace(inputs, checkout=replace(inputs.checkout, dirty=dirty)))
    assert not press.built


@pytest.mark.parametrize(
    ("context", "dockerfile", "words"),
    [
        ("nowhere", None, "nowhere: no such build context"),
        ("app/Dockerfile", None, "no such build context"),
        ("app", "Dockerfile.prod", r"Dockerfile\.prod: no such Dockerfile"),
        ("..", None, "no such Dockerfile|lies outside"),
        ("app/elsewhere", None, "the build context lies outside"),
        ("app", "elsewhere/Dockerfile", "the Dockerfile lies outside"),
    ],
)
def test_only_files_of_the_checkout_are_built(
    inputs: Inputs, tmp_path_factory: pytest.TempPathFactory, context: str, dockerfile: str | None, words: str
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "Dockerfile").write_text("FROM scratch\n")
    (inputs.context / "elsewhere").symlink_to(elsewhere)
    wrong = replace(inputs, context=inputs.checkout.path / context, dockerfile=Path(dockerfile) if dockerfile else None)
    with pytest.raises(UsageError, match=words):
        find_image(Shelf(), wrong)


def test_a_hash_that_is_not_full_is_refused(inputs: Inputs) -> None:
    with pytest.raises(TagIsMutable):
        find_image(Shelf(), replace(inputs, checkout=replace(inputs.checkout, commit=COMMIT[:12])))
