"""`--from`: results of earlier jobs are read strictly, and those of a matrix become one."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cli.earlier import load
from pipeline.core.deployment import Deployment, Failure, Gitops, Image, Notices, SlackMessage, to_json
from pipeline.errors import UsageError
from tests.deployments import DEPLOYED, IMAGE, NEW, OLD, failed, rolled_back


def file(folder: Path, *results: Deployment | dict[str, Any]) -> list[str]:
    paths = []
    for number, result in enumerate(results):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(result if isinstance(result, dict) else to_json(result)))
        paths.append(str(path))
    return paths


@pytest.mark.parametrize(
    "deployment",
    [DEPLOYED, failed(), rolled_back(), Deployment(command="build", outcome="built"),
     replace(DEPLOYED, notices=Notices(slack=SlackMessage(channel="C1", ts="1.2", details="1.3")))],
)  # fmt: skip
def test_what_a_command_prints_is_read_back_whole(tmp_path: Path, deployment: Deployment) -> None:
    assert load(file(tmp_path, deployment)) == deployment


def test_standard_input_is_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO(json.dumps(to_json(DEPLOYED)).encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=data))
    assert load(["-"]) == DEPLOYED


def test_keys_of_later_versions_are_passed_over(tmp_path: Path) -> None:
    assert load(file(tmp_path, {**to_json(DEPLOYED), "status": {"new": 1}})) == DEPLOYED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ("[]", "0.json: "),
        ("{}", "0.json: command: "),
        ('{"command": "build", "outcome": "brilliant"}', "0.json: outcome: "),
        ('{"command": "build", "outcome": "built", "images": [{"name": 3}]}', "0.json: images.0.name: "),
        ('{"command": "build", "outcome": "built", "error": {"message": "x", "remedy": "y"}}', "0.json: error.class: "),
        ('{"schema": "v9", "command": "build", "outcome": "built"}', "schema: expected openeg-deploy/v1"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_result_is_named_with_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "0.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load([str(path)])
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"--from {tmp_path / name}: "):
        load([str(tmp_path / name)])


def built(name: str, seconds: float, **changes: Any) -> Deployment:
    image = Image(name=name, repository=f"registry.example/{name}", tag=NEW, digest="sha256:1")
    return Deployment(command="build", outcome="built", images=(image,), seconds={"build": seconds}, **changes)


def test_a_matrix_of_builds_becomes_one_result(tmp_path: Path) -> None:
    merged = load(
        file(
            tmp_path,
            built("flask", 9.0, started="2025-01-02T03:04:06Z"),
            built("node", 5.0, started="2025-01-02T03:04:05Z"),
        )
    )
    assert [image.name for image in merged.images] == ["flask", "node"]
    assert merged.seconds == {"build": 9.0}
    assert merged.started == "2025-01-02T03:04:05Z"
    assert merged.outcome == "built"


def test_later_jobs_add_to_what_earlier_ones_know(tmp_path: Path) -> None:
    bumped = Deployment(
        command="bump",
        outcome="published",
        deployment_id="1",
        images=(replace(IMAGE, source=None),),
        gitops=Gitops(repository="g", branch="main", revision=OLD),
    )
    merged = load(file(tmp_path, built("openegflask", 9.0), bumped))
    assert merged.command == "bump"
    assert merged.gitops == bumped.gitops
    assert (merged.images[0].digest, merged.images[0].previous) == ("sha256:1", OLD)


def test_one_failed_leg_fails_the_whole(tmp_path: Path) -> None:
    broken = replace(built("node", 1.0), outcome="failed", error=Failure(class_="BuildFailed", message="m", remedy="r"))
    for order in ((broken, built("flask", 1.0)), (built("flask", 1.0), broken)):
        merged = load(file(tmp_path, *order))
        assert (merged.outcome, merged.error) == ("failed", broken.error)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (replace(DEPLOYED, environment="a"), replace(DEPLOYED, environment="b"), "environment is 'a' in one"),
        (replace(DEPLOYED, deployment_id="1"), replace(DEPLOYED, deployment_id="2"), "deployment_id is '1'"),
        (DEPLOYED, replace(DEPLOYED, images=(replace(IMAGE, tag=OLD),)), f"openegflask has the tag {NEW} in one"),
    ],
)  # fmt: skip
def test_results_of_different_deployments_are_refused(
    tmp_path: Path, one: Deployment, other: Deployment, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load(file(tmp_path, one, other))
