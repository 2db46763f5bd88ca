"""Which version a rollback goes back to."""

import pytest

from pipeline.core.deployment import Kind
from pipeline.core.history import Place, Step, last_deployed, version_before

FLASK: Place = ("overlays/production/kustomization.yaml", "flask")
NODE: Place = (FLASK[0], "node")


def story(*moves: tuple[str, Kind | None]) -> list[Step]:
    """Steps of one image, newest first, from moves told oldest first."""
    tags: list[str | None] = [None, *(tag for tag, _ in moves)]
    steps = [Step(str(index), kind, {FLASK: tags[index]}, {FLASK: tag}) for index, (tag, kind) in enumerate(moves)]
    return steps[::-1]


@pytest.mark.parametrize(
    ("moves", "before"),
    [
        ([("a", "deploy")], None),
        ([("a", "deploy"), ("b", "deploy")], "a"),
        ([("a", None), ("b", None)], "a"),
        ([("a", "deploy"), ("b", "deploy"), ("a", "rollback")], None),
        ([("a", "deploy"), ("b", "deploy"), ("c", "deploy"), ("b", "rollback")], "a"),
        ([("a", "deploy"), ("b", "deploy"), ("c", "deploy"), ("b", "rollback"), ("a", "rollback")], None),
        ([("a", "deploy"), ("b", "deploy"), ("a", "deploy")], "b"),
        ([], None),
    ],
)
def test_a_rollback_goes_to_the_version_before_the_one_in_effect(
    moves: list[tuple[str, Kind | None]], before: str | None
) -> None:
    assert version_before(story(*moves), FLASK) == before


def test_the_last_deployment_is_the_newest_commit_that_changed_a_tag() -> None:
    same = {FLASK: "a", NODE: "x"}
    steps = [Step("3", None, same, same), Step("2", "deploy", {FLASK: "a", NODE: "w"}, same)]
    assert last_deployed(steps) == ("node",)
