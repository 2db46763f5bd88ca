"""Bad input ends in a message that says what, where and what to do next, and in the exit code of the contract."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from pipeline import __version__
from pipeline.resources import folder
from tests.cli.conftest import Scene

SCHEMA = json.loads((folder("schemas") / "result.schema.json").read_text())
A, B = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("arguments", "code", "error", "words"),
    [
        (["bump"], 2, "UsageError", "no image to bump"),
        (["bump", "--image", "openegflask"], 2, "UsageError", "NAME=TAG"),
        (["bump", "--image", "openegflask=latest", "--no-check-image"], 3, "TagIsMutable", "latest"),
        (["bump", "--image", f"openegflask={A[:7]}", "--no-check-image"], 3, "TagIsMutable", A[:7]),
        (["bump", "--image", f"openegflsk={A}", "--no-check-image"], 4, "EntryNotFound", "openegflask"),
        (["bump", "--image", f"x={A}", "--image", f"x={B}", "--no-check-image"], 2, "UsageError", "twice"),
        (
            ["bump", "--image", f"openegflask={A}", "--overlay", "overlays/prod", "--no-check-image"],
            4,
            "OverlayNotFound",
            "production",
        ),
        (["bump", "--image", f"openegflask={A}", "--branch", "nope", "--no-check-image"], 4, "BranchNotFound", "main"),
        (
            ["bump", "--image", f"openegflask={A}", "--gitops", "/nowhere", "--no-check-image"],
            4,
            "RepositoryNotFound",
            "/nowhere",
        ),
        (
            ["bump", "--image", f"openegflask={A}", "--gitops", "http://127.0.0.1:1/x.git", "--no-check-image"],
            7,
            "Unreachable",
            "127.0.0.1",
        ),
        (["bump", "--image", f"openegflask={A}", "--env", "nowhere", "--no-check-image"], 4, "NotFound", "production"),
        (["bump", "--image", f"openegflask={A}", "--order", "newest", "--no-check-image"], 2, "UsageError", "ancestry"),
        (["bump", "--image", f"openegflask={A}", "--no-push"], 2, "UsageError", "work tree"),
        (["deploy", "--service", "flsk"], 4, "NotFound", "flask"),
        (["deploy", "--on-failure", "panic"], 2, "UsageError", "rollback"),
        (
            ["wait", "--revision", A, "--app", "nothing", "--argocd-project", "default"],
            4,
            "ApplicationNotFound",
            "nothing",
        ),
        (["wait", "--revision", A, "--timeout", "-1"], 2, "UsageError", "--timeout"),
        (["wait", "--revision", A, "--timeout", "inf"], 2, "UsageError", "--timeout"),
        (["wait", "--revision", "abc"], 2, "UsageError", "full commit hash"),
        (["wait", "--argocd-header", "nonsense", "--revision", A], 2, "UsageError", "NAME: VALUE"),
        (["rollback", "--image", "openegflask"], 4, "NotFound", "no earlier version"),
        (["rollback", "--image", f"openegflask={A}"], 2, "UsageError", "--to"),
        (["notify", "--from", "/nowhere.json"], 2, "UsageError", "/nowhere.json"),
        (["edit", "/nowhere.yaml", "--image", f"x={A}"], 4, "NotFound", "/nowhere.yaml"),
        (["nonsense"], 2, "UsageError", "nonsense"),
        (["sandbox", "up", "--port", "99999"], 2, "UsageError", "--port 99999"),
        (["deploy", "--image", f"openegflask={A}", "--service", "flask"], 2, "UsageError", "--service"),
    ],
)
def test_bad_input(scene: Scene, arguments: list[str], code: int, error: str, words: str) -> None:
    done = scene.run(*arguments, "--json")
    result = done.json
    assert (done.code, result["error"]["class"]) == (code, error), done.stderr
    assert words in result["error"]["message"] + result["error"]["remedy"]
    assert result["error"]["message"] in done.stderr.replace("\n", "\n")
    jsonschema.validate(result, SCHEMA)
    assert len(scene.log()) == 1, "nothing was published"


def test_an_unknown_application_without_its_project_may_be_a_forbidden_one(scene: Scene, tmp_path: Path) -> None:
    done = scene.run("wait", "--revision", A, "--app", "nothing", "--json", cwd=tmp_path)
    assert (done.code, done.json["error"]["class"]) == (5, "ArgoCDDenied")
    assert "does not exist, or this account may not see it" in done.json["error"]["message"]


def test_a_damaged_deploy_yaml_names_file_line_and_the_nearest_key(scene: Scene) -> None:
    Path(scene.app.path, "deploy.yaml").write_text("version: 1\nservces: {}\n")
    done = scene.run("deploy", "--json")
    assert done.code == 2
    assert "deploy.yaml:2: unknown key 'servces'; did you mean 'services'?" in done.json["error"]["message"]


def test_a_dirty_work_tree_is_refused(scene: Scene) -> None:
    Path(scene.app.path, "flask/app.py").write_text("changed")
    done = scene.run("deploy", "--json")
    assert (done.code, done.json["outcome"]) == (3, "refused")
    assert "flask/app.py" in done.json["error"]["message"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_wait_at_once_and_still_prints_the_result(
    scene: Scene, number: signal.Signals, code: int
) -> None:
    scratch = scene.app.path.parent / "tmp"
    scratch.mkdir()
    command = (sys.executable, "-m", "pipeline", "wait", "--json", "--revision", A, "--app", "openeg-system")
    environ = {**scene.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        command,
        cwd=scene.app.path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(2)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == code, err
    assert json.loads(out)["outcome"] == "failed"
    assert list(scratch.iterdir()) == []


def test_help_groups_options_and_completion_works(scene: Scene) -> None:
    assert "Argo CD and rollout:" in scene.run("deploy", "--help").stdout
    completed = subprocess.run(
        [str(Path(sys.executable).with_name("openeg-deploy"))],
        env={
            **scene.environ,
            "_OPENEG_DEPLOY_COMPLETE": "complete_bash",
            "COMP_WORDS": "openeg-deploy ro",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
    )
    assert completed.stdout.split() == ["rollback"], completed.stderr


@pytest.mark.parametrize(
    ("package", "arguments", "code"),
    [
        ("werkzeug", ["demo"], 2),
        ("werkzeug", ["sandbox", "up"], 2),
        ("slack_sdk", ["deploy"], 0),
    ],
)
def test_a_missing_extra_is_named_and_keeps_no_deployment_from_going_on(
    scene: Scene, tmp_path: Path, package: str, arguments: list[str], code: int
) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('gone', name={package!r})\n")
    environ = {"PYTHONPATH": str(tmp_path), "SLACK_BOT_TOKEN": "xoxb-1"}
    done = scene.run(*arguments, environ=environ)
    assert done.code == code, done.stderr
    assert package in done.stderr


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full", ">/dev/full", ">/dev/full 2>/dev/full"])
@pytest.mark.parametrize("flag", ["", "--json"])
def test_a_deployment_does_not_depend_on_being_watched(scene: Scene, streams: str, flag: str) -> None:
    bump = ("-m", "pipeline", "bump", "--image", f"openegflask={A}", "--no-check-image")
    done = subprocess.run(
        ("bash", "-c", f'"$@" {flag} {streams}', "bash", sys.executable, *bump),
        cwd=scene.app.path,
        env=scene.environ,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(scene.log()) == 2
    assert done.returncode == (7 if ">/dev/full" in streams.split() else 0), done.stderr
    if flag and ">" not in streams.replace("2>", ""):
        assert json.loads(done.stdout)["outcome"] == "published"


def test_an_edit_that_cannot_be_printed_is_no_traceback(scene: Scene) -> None:
    edit = (sys.executable, "-m", "pipeline", "edit", "k.yaml", "--image", f"openegflask={A}")
    Path(scene.app.path, "k.yaml").write_text(scene.overlay())
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(edit, cwd=scene.app.path, env=scene.environ, stdout=full, stderr=-1, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (7, False), done.stderr


def test_without_a_command_help_is_shown_and_the_version_on_demand(scene: Scene) -> None:
    bare = scene.run()
    assert (bare.code, bare.stderr) == (0, "")
    assert "Commands:" in bare.stdout
    assert scene.run("--version").stdout == f"openeg-deploy {__version__}\n"


@pytest.mark.parametrize("wish", ["yes", " true ", "ON"])
@pytest.mark.parametrize("arguments", [(), ("sandbox",), ("wait", "--no-such-flag")])
def test_json_is_given_however_it_is_asked_for(scene: Scene, wish: str, arguments: tuple[str, ...]) -> None:
    done = scene.run(*arguments, environ={"PIPELINE_JSON": wish})
    assert (done.code, done.json["error"]["class"]) == (2, "UsageError")
