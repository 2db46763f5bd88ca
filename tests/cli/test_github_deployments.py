"""What the page of the application's repository on GitHub shows of deployments, held against GitHub's contracts."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.sandbox.cluster import Fault
from pipeline.sandbox.world import GITHUB_TOKEN
from tests import github_contract
from tests.cli.conftest import Done, Scene

RUN = {"GITHUB_RUN_ID": "4711", "GITHUB_REPOSITORY": "git/openeg", "GITHUB_ACTOR": "ada"}


@pytest.fixture
def github(scene: Scene) -> Iterator[Scene]:
    """The scene with both repositories on GitHub, in a run of Actions."""
    token = GITHUB_TOKEN.reveal()
    scene.environ.update(GITHUB_API_URL=scene.sandbox.github_url, GITHUB_TOKEN=token, GITOPS_TOKEN=token, **RUN)
    yield scene
    for exchange in scene.sandbox.github.exchanges:
        github_contract.check(exchange)


def shown(scene: Scene) -> list[dict[str, Any]]:
    """The deployments that GitHub has, oldest first, each with its states."""
    made: dict[int, dict[str, Any]] = {}
    for exchange in scene.sandbox.github.exchanges:
        if exchange.method != "POST" or exchange.status != 201:
            continue
        if exchange.path.endswith("/deployments"):
            made[exchange.answer["id"]] = {**exchange.answer, "told": []}
        elif exchange.path.endswith("/statuses"):
            made[int(exchange.path.split("/")[-2])]["told"].append(exchange.answer)
    return list(made.values())


def states(scene: Scene) -> list[list[str]]:
    return [[status["state"] for status in deployment["told"]] for deployment in shown(scene)]


def configure(scene: Scene, more: str) -> None:
    file = scene.gitops.path / ".deploy/config.yaml"
    file.write_text(file.read_text().replace("  production:\n", f"  production:\n    {more}\n"))
    scene.gitops.git("pull", "--quiet", "--rebase", "--autostash", "origin", "main")
    scene.gitops.commit("Configure")


def test_a_deployment_is_shown_from_its_beginning_to_its_end(github: Scene) -> None:
    configure(github, "url: https://lessons.openeg.example")
    done = github.run("deploy", "--json")
    assert done.code == 0, done.stderr
    commit = github.app.git("rev-parse", "HEAD")
    (one,) = shown(github)
    assert [status["state"] for status in one["told"]] == ["queued", "in_progress", "success"]
    assert (one["sha"], one["environment"], one["task"]) == (commit, "production", "deploy")
    assert (one["production_environment"], one["transient_environment"]) == (True, False)
    assert one["payload"]["deployment_id"] == "4711-production"
    assert one["payload"]["images"] == ["openegflask", "openegnode", "openegwebhook"]
    ended = one["told"][-1]
    assert ended["description"] == "Deployment of flask, node, webhook to production succeeded"
    assert ended["environment_url"] == "https://lessons.openeg.example"
    assert ended["log_url"] == "https://github.com/git/openeg/actions/runs/4711"
    assert done.json["urls"]["environment"] == "https://lessons.openeg.example"
    assert done.json["notices"]["github"] == [
        {"repository": "git/openeg", "commit": commit, "id": one["id"], "state": "success"}
    ]
    (sent,) = [e.sent for e in github.sandbox.github.exchanges if e.path.endswith("/deployments") and e.sent]
    assert (sent["auto_merge"], sent["required_contexts"]) == (False, [])


def test_a_rerun_continues_the_same_deployment(github: Scene) -> None:
    assert github.run("deploy").code == 0
    again = github.run("deploy", "--json")
    assert again.json["outcome"] == "unchanged"
    assert states(github) == [["queued", "in_progress", "success", "queued", "in_progress", "success"]]


def test_the_next_one_takes_the_place_of_all_that_it_replaces_and_of_nothing_else(github: Scene) -> None:
    assert github.run("deploy").code == 0
    github.change("flask/app.py")
    assert github.run("deploy", "--service", "flask", environ={"GITHUB_RUN_ID": "2"}).code == 0
    assert states(github) == [["queued", "in_progress", "success"]] * 2, "node and webhook run the first commit still"
    github.change("node/server.js")
    rest = ("--service", "node", "--service", "webhook")
    assert github.run("deploy", *rest, environ={"GITHUB_RUN_ID": "3"}).code == 0
    first, second, third = shown(github)
    assert [status["state"] for status in first["told"]][-1] == "inactive"
    assert first["told"][-1]["description"] == f"Replaced by {third['sha'][:7]}"
    assert [d["told"][-1]["state"] for d in (second, third)] == ["success", "success"]


def test_a_failure_says_why_and_the_rollback_is_a_deployment_of_the_commit_restored(github: Scene) -> None:
    assert github.run("deploy").code == 0
    old, new = github.app.git("rev-parse", "HEAD"), github.change()
    github.sandbox.set_fault(new, Fault("crash", ("KeyError: 'MONGODB_URI'",)))
    flags = ("--on-failure", "rollback", "--json")
    failed = github.run("deploy", *flags, environ={"GITHUB_RUN_ID": "2"})
    assert failed.code == 11, failed.stderr
    first, broken, restored = shown(github)
    assert [s["state"] for s in broken["told"]] == ["queued", "in_progress", "failure"]
    assert broken["told"][-1]["description"].startswith("CrashLoopBackOff: ")
    assert (restored["sha"], restored["task"]) == (old, "rollback")
    assert [s["state"] for s in restored["told"]] == ["success"]
    assert (
        restored["told"][-1]["description"]
        == "Rollback of openegflask, openegnode, openegwebhook to production succeeded"
    )
    assert first["told"][-1]["state"] == "inactive"
    told = failed.json["notices"]["github"]
    assert {(item["commit"], item["state"]) for item in told} == {(new, "failure"), (old, "success")}


def test_the_command_rollback_shows_what_runs_again(github: Scene) -> None:
    assert github.run("deploy").code == 0
    old = github.app.git("rev-parse", "HEAD")
    github.change()
    assert github.run("deploy", environ={"GITHUB_RUN_ID": "2"}).code == 0
    back = github.run("rollback", "--json", environ={"GITHUB_RUN_ID": "3"})
    assert back.code == 0, back.stderr
    assert [(d["task"], d["told"][-1]["state"]) for d in shown(github)] == [
        ("deploy", "inactive"),
        ("deploy", "inactive"),
        ("rollback", "success"),
    ]
    assert shown(github)[-1]["sha"] == old


def test_what_a_newer_commit_has_overtaken_is_inactive(github: Scene) -> None:
    older = github.app.git("rev-parse", "HEAD")
    github.change()
    assert github.run("deploy").code == 0
    github.app.git("checkout", "--quiet", older)
    late = github.run("deploy", "--json", environ={"GITHUB_RUN_ID": "2"})
    assert late.json["outcome"] == "superseded", late.stderr
    assert states(github) == [["queued", "in_progress", "success"], ["queued", "inactive"]]
    assert shown(github)[1]["told"][-1]["description"].endswith("was superseded by a newer change")


def test_an_interrupt_is_an_error(github: Scene) -> None:
    commit = github.app.git("rev-parse", "HEAD")
    github.sandbox.set_fault(commit, Fault("slow"))
    command = (sys.executable, "-m", "pipeline", "deploy", "--json")
    with subprocess.Popen(command, cwd=github.app.path, env=github.environ, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while states(github) != [["queued", "in_progress"]] and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert states(github) == [["queued", "in_progress", "error"]]
    assert json.loads(out)["notices"]["github"][0]["state"] == "error"


def test_later_jobs_continue_the_deployment(github: Scene, tmp_path: Path) -> None:
    def kept(done: Done, name: str) -> str:
        assert done.code == 0, done.stderr
        file = tmp_path / name
        file.write_text(done.stdout)
        return str(file)

    built = kept(github.run("build", "--json"), "built.json")
    published = kept(github.run("bump", "--from", built, "--json"), "published.json")
    kept(github.run("notify", "--from", published, "--json"), "told.json")
    waited = kept(github.run("wait", "--from", published, "--json"), "waited.json")
    kept(github.run("notify", "--from", waited, "--json"), "end.json")
    assert states(github) == [["in_progress", "in_progress", "success"]], "what was told is not told again"
    (one,) = shown(github)
    assert json.loads(Path(waited).read_text())["notices"]["github"][0]["id"] == one["id"]


def test_a_token_that_may_not_gives_one_warning_and_fails_nothing(github: Scene) -> None:
    github.sandbox.github.permissions["deployments"] = "read"
    done = github.run("deploy", "--json")
    assert (done.code, done.json["outcome"]) == (0, "deployed")
    warnings = [line for line in done.stderr.splitlines() if "GitHub was not told" in line]
    assert len(warnings) == 1
    assert "the permission `deployments: write`" in warnings[0]
    assert "notices" not in done.json
    del github.sandbox.github.permissions["deployments"]
    assert github.run("deploy").stderr.count("GitHub was not told") == 1


def test_without_a_token_or_a_repository_on_github_nothing_is_asked(github: Scene) -> None:
    for environ in ({"GITHUB_TOKEN": ""}, {"GITHUB_API_URL": "", "GITOPS_TOKEN": ""}):
        done = github.run("deploy", environ=environ)
        assert done.code == 0, done.stderr
        assert "not told" not in done.stderr
    assert not [e for e in github.sandbox.github.exchanges if "/deployments" in e.path]


def test_a_dry_run_shows_nothing_to_github(github: Scene) -> None:
    assert github.run("deploy", "--dry-run").code == 0
    assert shown(github) == []


def test_a_wrong_page_of_an_environment_is_refused(github: Scene) -> None:
    configure(github, "url: javascript:alert(1)")
    done = github.run("deploy", "--json")
    assert (done.code, done.json["error"]["class"]) == (2, "ConfigInvalid")
    assert "environments.production.url: expected an http(s) URL" in done.json["error"]["message"]


def test_hostile_causes_and_names_keep_to_githubs_limits(github: Scene) -> None:
    name = "x" * 150 + "$(touch hacked)\n::error::forged"
    done = github.run("deploy", environ={"GITHUB_ACTOR": name})
    assert done.code == 0, done.stderr
    assert all(len(status["description"]) <= 140 for one in shown(github) for status in one["told"])
    assert not list(Path(github.app.path).rglob("hacked*"))
