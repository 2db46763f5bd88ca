"""Workflows are right and safe: ours, the template's, those that `init` writes, and those in the docs."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.application_files import workflow
from pipeline.options import secret_variables
from pipeline.resources import folder
from tests import needs
from tests.action.examples import EXAMPLES, ROOT
from tests.action.runner import ACTION, Runner, read

OURS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A repository with the action and all workflows there are."""
    workflows = tmp_path / ".github/workflows"
    workflows.mkdir(parents=True)
    shutil.copy(ROOT / ".github/zizmor.yml", tmp_path / ".github")
    shutil.copy(ACTION, tmp_path)
    for path in (*OURS, *(folder("gitops-repo-template") / ".github/workflows").iterdir()):
        shutil.copy(path, workflows)
    for name, text in EXAMPLES.items():
        (workflows / f"example-{name}.yml").write_text(text)
    (workflows / "init.yml").write_text(workflow("1.2.3"))
    subprocess.run(("git", "init", "--quiet", str(tmp_path)), check=True)
    return tmp_path


def test_zizmor_finds_nothing(everything: Path) -> None:
    program = Path(sys.executable).with_name("zizmor")
    if not program.exists():
        needs.missing("zizmor is not installed")
    done = subprocess.run((program, "--offline", everything), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("completed") == len(list(everything.glob(".github/workflows/*"))) + 1


def test_actionlint_finds_nothing_also_in_what_is_given_to_the_action(everything: Path) -> None:
    for path in everything.glob(".github/workflows/*"):  # what is ours by name is looked into when it is local
        text = re.sub(r"openeg/deploy@v[\d.]+", "./", path.read_text())
        path.write_text(re.sub(r"openeg/deploy/(\.github/workflows/[\w-]+\.yml)@v1", r"./\1", text))
    command = (needs.program("actionlint"), "-shellcheck=", "-pyflakes=")
    done = subprocess.run(command, cwd=everything, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    example = everything / ".github/workflows/example-one-service.yml"
    example.write_text(example.read_text().replace("overlay:", "overlai:"))
    done = subprocess.run(command, cwd=everything, capture_output=True, text=True)
    assert 'input "overlai" is not defined' in done.stdout


def test_no_audit_is_switched_off_and_no_line_is_passed_over(everything: Path) -> None:
    rules = read(ROOT / ".github/zizmor.yml")["rules"]
    assert not [rule for rule in rules.values() if rule.get("disable")]
    assert rules["self-repository"] == {"ignore": ["selftest.yml"]}
    assert rules["dangerous-triggers"] == {"ignore": ["example-the-pr-bot.yml"]}
    assert [path for path in everything.glob(".github/workflows/*") if "zizmor: ignore" in path.read_text()] == []


def scripts(node: Any) -> Iterator[str]:
    """Every `run:` below `node`."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from [value] if key == "run" and isinstance(value, str) else scripts(value)
    if isinstance(node, list):
        for item in node:
            yield from scripts(item)


def test_no_expression_stands_in_a_script_where_its_value_would_be_code(everything: Path) -> None:
    for path in (everything / "action.yml", *everything.glob(".github/workflows/*")):
        assert not [script for script in scripts(read(path)) if "${{" in script], path


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_an_action_of_others_is_pinned_by_its_whole_hash(path: Path) -> None:
    for used in re.findall(r"uses: (.*)", path.read_text()):
        assert used in {"./", "openeg/deploy@v1"} or re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_workflow_may_do_nothing_but_what_a_job_says(path: Path) -> None:
    content = read(path)
    assert content["permissions"] == {}
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 120
        assert job["permissions"]


def test_every_secret_is_an_input_and_every_input_travels_by_the_environment() -> None:
    action = read(ACTION)
    _, run = action["runs"]["steps"]
    assert set(secret_variables()) <= set(run["env"])
    given = {value for value in run["env"].values() if "inputs." in value}
    for name in action["inputs"]:
        assert [value for value in given if re.search(rf"inputs\.{name}\b(?!-)", value)], name
    assert len(given) == len(action["inputs"])


@pytest.mark.parametrize(("tag", "code", "notes"), [("v1.2.0", 0, "\n- New\n\n"), ("v1.20.0", 1, "")])
def test_a_release_s_notes_are_its_part_of_the_changelog(tmp_path: Path, tag: str, code: int, notes: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 1.2.0\n\n- New\n\n## 1.1.0\n\n- Old\n")
    (tmp_path / "dist").mkdir()
    job = read(ROOT / ".github/workflows/release.yml")["jobs"]["build"]
    (script,) = (step["run"] for step in job["steps"] if step.get("name") == "Notes from the changelog")
    command = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": os.environ["PATH"], "GITHUB_REF_NAME": tag})
    assert (done.returncode, (tmp_path / "dist/notes.md").read_text()) == (code, notes)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.mark.parametrize("command", ["deploy", "build", "bump", "wait", "notify", "rollback"])
def test_empty_inputs_count_as_not_given(runner: Runner, command: str) -> None:
    done, same = (runner.run({"COMMAND": command}, empty=empty) for empty in (True, False))
    assert (done.returncode, done.stdout, done.stderr) == (same.returncode, same.stdout, same.stderr)
    assert done.stderr.startswith("::error title="), done.stderr


HOSTILE = "x; touch executed; $(touch executed) `touch executed` * && touch executed | \"'\\"


@pytest.mark.parametrize("text", [HOSTILE, f"{HOSTILE}\n::set-output name=outcome::forged\n##[error]forged"])
@pytest.mark.parametrize("name", ["COMMAND", "PIPELINE_SERVICE", "PIPELINE_IMAGE", "PIPELINE_FROM", "GITOPS_TOKEN"])
def test_an_input_is_text_whatever_it_holds(runner: Runner, name: str, text: str) -> None:
    (runner.folder / "deploy.yaml").write_text("version: 1\nservices: {flask: {image: openegflask}}\n")
    done = runner.run({name: text})
    assert done.returncode in {2, 4}, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (runner.folder / "executed").exists()
    assert not re.search(r"(?m)^\s*::(?!error title=|add-mask::)|^##\[", done.stdout + done.stderr)
    written = re.findall(r"(?m)^(\w+)<<end_[0-9a-f]{32}$", runner.output.read_text())
    assert written.count("outcome") == 1


def test_secrets_are_masked_line_by_line_before_anything_else_is_said(runner: Runner) -> None:
    done = runner.run({"GITOPS_TOKEN": "first\nsec%ond\n", "SLACK_BOT_TOKEN": "third"})
    assert done.stdout.splitlines() == ["::add-mask::first", "::add-mask::sec%25ond", "::add-mask::third"]
    assert "third" not in done.stderr


def test_check_ends_with_one_where_something_is_missing_and_its_list_is_an_output(runner: Runner) -> None:
    done = runner.run({"COMMAND": "check"})
    assert done.returncode == 1, done.stderr
    assert re.search(r"(?m)^problem  GitOps repository  ", done.stdout)
    assert re.search(r"(?m)^check<<end_[0-9a-f]{32}$", runner.output.read_text())
    assert "outcome<<" in runner.output.read_text()
