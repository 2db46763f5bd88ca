"""A command's end: one JSON object or a few lines, the runner's files, and the error with its remedy."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter

from pipeline.cli.report import Report
from pipeline.core.deployment import ChangedLine, Deployment, Rollback
from pipeline.errors import Diverged, PipelineError, RolloutFailed, SyncFailed, UsageError
from tests.core.test_notice import hostile
from tests.deployments import DEPLOYED, HOSTILE, failed, rolled_back

DIFF = "--- a/k.yaml\n+++ b/k.yaml\n@@ -1 +1 @@\n-  newTag: a\r\n+  newTag: b\r\n"


def entered(deployment: Deployment) -> dict[str, Any]:
    """What a command would enter in its report."""
    names = {field.name for field in fields(Deployment)} - {"command", "error", "seconds"}
    return {name: value for name in names if (value := getattr(deployment, name)) is not None}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Told:
    """One finished report and all that it wrote."""

    def __init__(
        self,
        deployment: Deployment | None = None,
        *errors: PipelineError,
        json: bool = False,
        diff: str = "",
        environ: dict[str, str] | None = None,
        streams: Callable[[], io.StringIO] = io.StringIO,
        act: Callable[[Report], object] = lambda _: None,
    ) -> None:
        ticks: Iterator[float] = iter(range(100))
        stdout, stderr = streams(), streams()
        report = Report(
            environ or {},
            json=json,
            stdout=stdout,
            stderr=stderr,
            clock=lambda: next(ticks),
            now=lambda: datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        )
        if deployment:
            report.command = deployment.command
            report.update(**entered(deployment))
        report.diff = diff
        act(report)
        for error in errors:
            report.fail(error)
        self.code = report.finish()
        self.stdout, self.stderr = stdout.getvalue(), stderr.getvalue()

    @property
    def object(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.stdout)
        return result


def test_people_get_a_few_aligned_lines() -> None:
    told = Told(DEPLOYED)
    assert told.code == 0
    assert told.stdout == (
        "Deployment of openegflask to production succeeded\n"
        "  image        openegflask 3f2a9c1 → 8b1c2d3, registry.example/openegflask\n"
        "  gitops       https://git.example/openeg/gitops main@1a2b3c455555 (attempt 2)\n"
        "  changed      overlays/production/kustomization.yaml:12, openegflask 3f2a9c1 → 8b1c2d3\n"
        "  application  openeg Healthy at 1a2b3c455555, 2 of 2 pods run the image\n"
    )
    assert told.stderr == ""


def test_colours_are_for_terminals_that_want_them() -> None:
    assert "\x1b[1;32mDeployment of openegflask" in Told(DEPLOYED, streams=Terminal).stdout
    assert "\x1b" not in Told(DEPLOYED, streams=Terminal, environ={"NO_COLOR": "1"}).stdout
    assert "\x1b" not in Told(DEPLOYED, streams=Terminal, environ={"TERM": "dumb"}).stdout


@pytest.mark.parametrize(
    ("deployment", "errors"),
    [
        (DEPLOYED, ()),
        (failed(), (RolloutFailed("openeg: CrashLoopBackOff"),)),
        (replace(DEPLOYED, outcome="unchanged", rollout=None), ()),
        (None, (UsageError("--image is missing"),)),
        *[(hostile(text), (Diverged(text or "x"),)) for text in HOSTILE],
    ],
)
def test_json_is_always_exactly_one_object_of_the_schema(
    deployment: Deployment | None, errors: tuple[PipelineError, ...]
) -> None:
    told = Told(deployment, *errors, json=True)
    jsonschema.validate(told.object, TypeAdapter(Deployment).json_schema())
    assert told.object["schema"] == "openeg-deploy/v1"
    assert ("error" in told.object) == bool(errors)
    assert TypeAdapter(Deployment).validate_json(told.stdout, strict=True).outcome == told.object["outcome"]


def test_what_has_nothing_to_say_is_left_out_of_the_json() -> None:
    told = Told(Deployment(command="bump", outcome="unchanged"), json=True)
    assert set(told.object) == {"schema", "command", "outcome", "started", "finished", "seconds"}


def test_an_error_is_told_with_its_remedy_and_decides_outcome_and_code() -> None:
    told = Told(DEPLOYED, Diverged("openegflask: 8b1c2d3 and 3f2a9c1 have diverged"), json=True)
    assert told.code == 3
    assert told.object["outcome"] == "refused"
    assert told.object["error"] == {
        "class": "Diverged",
        "message": "openegflask: 8b1c2d3 and 3f2a9c1 have diverged",
        "remedy": Diverged.remedy,
    }
    assert told.stderr == f"error: openegflask: 8b1c2d3 and 3f2a9c1 have diverged\n{Diverged.remedy}\n"


def test_the_first_error_decides_and_every_error_is_told() -> None:
    told = Told(DEPLOYED, RolloutFailed("the pods crash"), SyncFailed("the rollback too"), json=True)
    assert told.code == 11
    assert told.object["error"]["class"] == "RolloutFailed"
    assert re.findall("^error: .*", told.stderr, re.MULTILINE) == ["error: the pods crash", "error: the rollback too"]


@pytest.mark.parametrize(("code", "name"), [(130, "Interrupted"), (143, "Terminated")])
def test_a_signal_is_an_ending_like_any_other(code: int, name: str) -> None:
    told = Told(DEPLOYED, json=True, act=lambda report: report.interrupted(code))
    assert told.code == code
    assert (told.object["outcome"], told.object["error"]["class"]) == ("failed", name)


def test_findings_are_no_error_but_exit_one() -> None:
    assert Told(Deployment(command="lint", outcome="findings")).code == 1


@pytest.mark.parametrize("outcome", ["unchanged", "superseded", "deployed", "planned"])
def test_what_needs_no_action_exits_zero(outcome: Any) -> None:
    assert Told(replace(DEPLOYED, outcome=outcome)).code == 0


def test_a_usage_error_leaves_standard_output_empty() -> None:
    told = Told(None, UsageError("--image is missing"))
    assert (told.code, told.stdout) == (2, "")


def test_a_plan_is_the_diff_itself() -> None:
    plan = replace(DEPLOYED, outcome="planned", rollout=None)
    assert Told(plan, diff=DIFF).stdout == DIFF
    assert Told(plan, diff=DIFF, streams=Terminal).stdout.splitlines()[-1] == "\x1b[32m+  newTag: b\x1b[0m"


def test_a_command_s_own_content_stands_alone() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report = Report({}, stdout=stream)
    report.edited((ChangedLine(file="k.yaml", line=3, name="a", old="x", new="y"),), planned=False)
    report.content = "\ufeffimages: ä\r\n".encode()
    assert report.finish() == 0
    assert stream.buffer.getvalue() == report.content


@pytest.mark.parametrize(
    ("changed", "planned", "outcome"), [(True, True, "planned"), (True, False, "edited"), (False, True, "unchanged")]
)
def test_an_edit_is_planned_edited_or_unchanged(changed: bool, planned: bool, outcome: str) -> None:
    lines = (ChangedLine(file="k.yaml", line=3, name="a", old="x", new="y"),) if changed else ()
    told = Told(json=True, act=lambda report: report.edited(lines, planned=planned))
    assert told.object["outcome"] == outcome


def test_stages_are_measured_and_add_up() -> None:
    def run(report: Report) -> None:
        for name in ("build", "build", "wait"):
            with report.stage(name):
                pass

    assert Told(DEPLOYED, json=True, act=run).object["seconds"] == {"build": 2.0, "wait": 1.0, "total": 7.0}


def test_a_stage_that_fails_is_measured_too() -> None:
    def run(report: Report) -> None:
        with pytest.raises(SyncFailed), report.stage("wait"):
            raise SyncFailed("x")

    assert Told(DEPLOYED, json=True, act=run).object["seconds"]["wait"] == 1.0


def test_a_later_job_goes_on_where_an_earlier_one_ended() -> None:
    def wait(report: Report) -> None:
        report.command = "wait"
        report.follow(failed())
        with report.stage("publish"):
            pass

    told = Told(json=True, act=wait).object
    assert told["deployment_id"] == "4711-production"
    assert told["started"] == "2025-01-02T03:04:05Z"
    assert (told["command"], told["outcome"], "error" in told) == ("wait", "reported", False)
    assert told["seconds"] == {"build": 12.0, "publish": 3.0, "wait": 14.0, "total": 31.4}


def test_a_field_that_no_deployment_has_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="imagse"):
        Told(act=lambda report: report.update(imagse=()))


def outputs(text: str) -> dict[str, str]:
    """`$GITHUB_OUTPUT` as the runner reads it."""
    found, lines = {}, iter(text.split("\n"))
    for line in lines:
        if line:
            name, delimiter = line.split("<<")
            value = []
            while (part := next(lines)) != delimiter:
                value.append(part)
            found[name] = "\n".join(value)
    return found


def test_outputs_are_the_keys_of_the_json(tmp_path: Path) -> None:
    file = tmp_path / "output"
    file.write_text("before<<x\n1\nx\n")
    told = Told(DEPLOYED, json=True, environ={"GITHUB_OUTPUT": str(file)})
    found = outputs(file.read_text())
    assert found.pop("before") == "1"
    whole = found.pop("json")
    assert (json.loads(whole), "\n" in whole) == (told.object, False)
    assert set(found) == set(told.object)
    assert found["outcome"] == "deployed"
    assert json.loads(found["images"]) == told.object["images"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_output_can_forge_another(tmp_path: Path, text: str) -> None:
    file = tmp_path / "output"
    Told(hostile(text), environ={"GITHUB_OUTPUT": str(file)})
    forged = replace(DEPLOYED, actor="x\nend_0\noutcome<<end_1\nforged\nend_1\n")
    Told(forged, environ={"GITHUB_OUTPUT": str(file)})
    assert outputs(file.read_text())["outcome"] == "deployed"


def test_the_summary_is_appended_and_keeps_to_the_room_that_is_left(tmp_path: Path) -> None:
    file = tmp_path / "summary"
    environ = {"GITHUB_STEP_SUMMARY": str(file)}
    Told(DEPLOYED, environ=environ, diff=DIFF)
    assert file.read_text().startswith("## ✅ Deployment of openegflask to production succeeded")
    file.write_text("x" * (1024 * 1024 - 200))
    Told(DEPLOYED, environ=environ, diff=DIFF)
    assert 1024 * 1024 - 200 < file.stat().st_size <= 1024 * 1024


def test_a_runner_file_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    told = Told(
        DEPLOYED, environ={"GITHUB_OUTPUT": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "file")}
    )
    assert told.code == 0
    assert f"GITHUB_OUTPUT: {tmp_path}: Is a directory" in told.stderr
    assert "No such file or directory" in told.stderr


LINE = (
    "::notice title=overlays/production/kustomization.yaml%3A12::openegflask 3f2a9c1 → 8b1c2d3 "
    "https://github.com/openeg/gitops/blob/1a2b3c455555/overlays/production/kustomization.yaml#L12\n"
)


def on_github(deployment: Deployment) -> Deployment:
    assert deployment.gitops
    where = replace(deployment.gitops, repository="https://github.com/openeg/gitops.git", revision="1a2b3c455555")
    return replace(deployment, gitops=where)


def test_in_actions_a_changed_line_is_a_notice_with_its_page() -> None:
    assert Told(on_github(DEPLOYED), environ={"GITHUB_ACTIONS": "true"}).stderr == LINE
    assert Told(on_github(DEPLOYED)).stderr == ""
    planned = replace(on_github(DEPLOYED), outcome="planned", rollout=None)
    assert Told(planned, environ={"GITHUB_ACTIONS": "true"}).stderr == ""
    assert "gitops/commit/1a2b3c4" in Told(DEPLOYED, environ={"GITHUB_ACTIONS": "true"}).stderr


def test_a_changed_line_is_noticed_by_the_command_that_changed_it_alone() -> None:
    environ = {"GITHUB_ACTIONS": "true"}
    assert Told(environ=environ, act=lambda report: report.follow(on_github(DEPLOYED))).stderr == ""
    built = replace(on_github(DEPLOYED), gitops=None, outcome="built")

    def bump(report: Report) -> None:
        report.follow(built)
        report.update(gitops=on_github(DEPLOYED).gitops)

    assert Told(environ=environ, act=bump).stderr == LINE
    undone = replace(rolled_back(), rollback=Rollback(outcome="deployed", gitops=on_github(DEPLOYED).gitops))
    assert Told(undone, environ=environ).stderr.endswith(LINE)


def test_in_actions_an_error_is_an_annotation() -> None:
    told = Told(
        replace(DEPLOYED, gitops=None),
        RolloutFailed("100% of pods\nfail: all, now"),
        environ={"GITHUB_ACTIONS": "true"},
    )
    assert told.stderr == (
        "::error title=deploy%3A RolloutFailed::100%25 of pods%0Afail: all, now%0A"
        "Read the cause and the log lines; `rollback` brings the former version back.\n"
    )


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("json", [True, False])
def test_nothing_but_our_annotation_is_a_command_to_the_runner(text: str, json: bool) -> None:
    environ = {"GITHUB_ACTIONS": "true"}
    planned = replace(hostile(text), outcome="planned", rollout=None)
    for told in (
        Told(hostile(text), RolloutFailed(text), json=json, environ=environ),
        Told(planned, json=json, environ=environ, diff=f"--- a\n+++ b\n@@ -1 +1 @@\n {text}\n"),
    ):
        lines = [line for line in (told.stdout + told.stderr).splitlines() if re.match(r"\s*::", line) or "##[" in line]
        ours = ("::error title=deploy%3A RolloutFailed::", "::notice title=")
        assert all(line.startswith(ours) for line in lines)


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_cannot_steer_the_terminal(text: str) -> None:
    told = Told(hostile(text), RolloutFailed(text), streams=Terminal, environ={"NO_COLOR": "1"})
    assert "\x1b" not in told.stdout + told.stderr
    assert (told.stdout + told.stderr).encode()


def test_output_that_cannot_be_encoded_is_escaped(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        report = Report({}, stdout=stream, stderr=io.StringIO())
        report.command = "deploy"
        report.update(**entered(DEPLOYED))
        assert report.finish() == 0
    assert "3f2a9c1 \\u2192 8b1c2d3" in (tmp_path / "out").read_text()


@pytest.mark.parametrize(("shell", "code"), [("| true", 3), ("> /dev/full", 3), ("> /dev/full", 7)])
def test_a_standard_output_that_takes_nothing_is_no_traceback(shell: str, code: int) -> None:
    script = (
        "from pipeline.cli.report import Report; from pipeline.errors import Diverged; import sys, time;"
        f"report = Report({{}}, json=True); report.command = 'deploy'; {code} == 3 and report.fail(Diverged('x'));"
        "time.sleep(0.1); sys.exit(report.finish())"
    )
    command = f"set -o pipefail; '{sys.executable}' -c \"$SCRIPT\" {shell}"
    done = subprocess.run(["bash", "-c", command], env={**os.environ, "SCRIPT": script}, capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
