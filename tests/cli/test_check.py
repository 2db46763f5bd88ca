"""`check` against the sandbox: each fault is really made, and nothing is changed anywhere."""

import hashlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.sandbox.world import GITHUB_TOKEN, SLACK_TOKEN
from tests import git_world, github_contract
from tests.cli.conftest import Done, Scene

OVERLAY = "overlays/production/kustomization.yaml"


@pytest.fixture
def setup(scene: Scene) -> Iterator[Scene]:
    """The scene on GitHub, with every token that a deployment needs."""
    sandbox = scene.sandbox
    scene.environ.update(
        GITHUB_API_URL=sandbox.github_url,
        GITOPS_TOKEN=GITHUB_TOKEN.reveal(),
        GITHUB_TOKEN=GITHUB_TOKEN.reveal(),
        SLACK_BOT_TOKEN=SLACK_TOKEN.reveal(),
        SLACK_API_URL=f"{sandbox.slack_url}api/",
    )
    sandbox.github.private = True
    sandbox.github.scopes = "repo, workflow"
    yield scene
    for exchange in sandbox.github.exchanges:
        github_contract.check(exchange)


def problems(done: Done) -> dict[str, str]:
    """What has a problem, with its message and remedy."""
    found = {
        item["name"]: f"{item['message']} | {item['remedy']}"
        for item in done.json["check"]["items"]
        if item["state"] == "problem"
    }
    assert done.json["check"]["problems"] == len(found)
    assert (done.code, done.json["outcome"]) == ((1, "findings") if found else (0, "reported")), done.stderr
    return found


def states(done: Done) -> dict[str, str]:
    return {item["name"]: item["state"] for item in done.json["check"]["items"]}


def everything(scene: Scene) -> dict[str, str]:
    """The content of every file that a command could change: repositories, registry, work trees."""
    roots = (scene.sandbox.git_root, scene.app.path, scene.gitops.path)
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for root in roots
        for file in sorted(root.rglob("*"))
        if file.is_file() and "__pycache__" not in str(file)
    }


@pytest.mark.parametrize("how", ["api", "git", "work tree"])
def test_a_healthy_set_up_lacks_nothing_and_is_only_read(setup: Scene, how: str) -> None:
    environ = {"GITHUB_API_URL": ""} if how == "git" else {}
    where = ("--gitops", str(setup.gitops.path)) if how == "work tree" else ()
    before = everything(setup)
    done = setup.run("check", *where, "--json", environ=environ)
    assert problems(done) == {}
    assert {name for name, state in states(done).items() if state != "ok"} == {
        f"registry of openeg{service}" for service in ("flask", "node", "webhook")
    }, "the sandbox's registry asks for no login, so that a push cannot be foreseen"
    assert everything(setup) == before
    assert setup.sandbox.slack.messages == []
    assert not [item for item in setup.sandbox.github.exchanges if "mutation" in str(item.sent)]


def test_people_get_a_line_for_each_thing_with_its_remedy_below(setup: Scene) -> None:
    done = setup.run("check", environ={"GITOPS_TOKEN": "ghp_wrong"})
    assert done.code == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("problem  GitOps repository") and "Bad credentials" in line for line in lines), lines
    assert any(line.strip().startswith("→ Set GITOPS_TOKEN") for line in lines)
    assert any("right to push" in line and "not looked at: it needs GitOps repository" in line for line in lines)
    assert lines[-1].startswith("1 problem")
    assert "\x1b" not in done.stdout
    healthy = setup.run("check")
    assert healthy.stdout.splitlines()[-1] == "Nothing is missing; 3 cannot be told"


def test_a_terminal_gets_colours(setup: Scene) -> None:
    ours, theirs = pty.openpty()
    environ = {**setup.environ, "TERM": "xterm"}
    command = (sys.executable, "-m", "pipeline", "check")
    with subprocess.Popen(
        command, cwd=setup.app.path, env=environ, stdout=theirs, stderr=subprocess.DEVNULL
    ) as running:
        os.close(theirs)
        told = b""
        try:
            while piece := os.read(ours, 4096):
                told += piece
        except OSError:  # the other end is closed
            pass
        running.wait(60)
    os.close(ours)
    assert b"\x1b[32mok" in told


def test_a_token_that_may_only_read_is_found_out(setup: Scene) -> None:
    setup.sandbox.github.permissions["contents"] = "read"
    for environ in ({}, {"GITHUB_API_URL": ""}):
        found = problems(setup.run("check", "--json", environ=environ))
        assert list(found) == ["right to push"]
        assert "contents: write" in found["right to push"]
    assert len(git_world.git(setup.sandbox.git_root / "openeg-gitops.git", "log", "--format=%s").splitlines()) == 1


@pytest.mark.parametrize(
    ("permissions", "scopes", "state", "said"),
    [
        ({"pull_requests": "write"}, None, "unknown", "whether it may open one shows the first alone"),
        ({"pull_requests": "write"}, "repo, workflow", "ok", "GITOPS_TOKEN may open them"),
        ({"pull_requests": "write"}, "read:org", "problem", "Give the classic token the scope `repo`"),
        ({}, None, "problem", "`pull_requests: write`"),
    ],
)
def test_the_right_to_open_pull_requests_is_looked_at_where_they_are_wanted(
    setup: Scene, permissions: dict[str, str], scopes: str | None, state: str, said: str
) -> None:
    setup.sandbox.github.permissions.pop("pull_requests", None)
    setup.sandbox.github.permissions.update(permissions)
    setup.sandbox.github.scopes = scopes
    done = setup.run("check", "--mode", "pr", "--json")
    (item,) = (item for item in done.json["check"]["items"] if item["name"] == "pull requests")
    assert item["state"] == state, item
    assert said in f"{item['message']} {item.get('remedy', '')}"
    assert "pull requests" not in states(setup.run("check", "--json"))


def test_pull_requests_without_a_repository_on_github_are_told(setup: Scene) -> None:
    found = problems(setup.run("check", "--mode", "pr", "--json", environ={"GITHUB_API_URL": ""}))
    assert "pull requests need GitHub's API" in found["mode"]


@pytest.mark.parametrize(
    ("permission", "scopes", "state", "said"),
    [
        ("write", "repo", "ok", "GITHUB_TOKEN may show what runs where"),
        ("write", None, "unknown", "shows the first deployment alone"),
        (None, None, "ok", "may not show what runs where (`deployments: write`), and need not"),
    ],
)
def test_what_the_application_s_token_may_show_is_told(
    setup: Scene, permission: str | None, scopes: str | None, state: str, said: str
) -> None:
    setup.sandbox.github.permissions.pop("deployments", None)
    if permission:
        setup.sandbox.github.permissions["deployments"] = permission
    setup.sandbox.github.scopes = scopes
    done = setup.run("check", "--json")
    (item,) = (item for item in done.json["check"]["items"] if item["name"] == "GitHub deployments")
    assert (item["state"], said in item["message"]) == (state, True), item
    assert done.code == 0


def test_what_fails_first_hides_nothing_that_does_not_depend_on_it(setup: Scene) -> None:
    flags = ("--gitops", "http://127.0.0.1:1/git/gitops.git", "--app", "openeg-system", "--json")
    done = setup.run("check", *flags)
    assert list(problems(done)) == ["GitOps repository"]
    found = states(done)
    assert (found["overlay"], found["right to push"], found["image openegflask"]) == ("unknown",) * 3
    assert (found["Argo CD"], found["application openeg-system"], found["Slack"]) == ("ok",) * 3


def test_a_deploy_yaml_that_cannot_be_read_is_told_with_all_else(setup: Scene) -> None:
    (setup.app.path / "deploy.yaml").write_text("version: 1\nservises: {}\n")
    done = setup.run("check", "--json")
    assert list(problems(done)) == ["deploy.yaml"]
    assert states(done)["Slack"] == "ok"
    flags = ("--gitops", setup.gitops_url, "--image", "openegflask", "--registry", setup.sandbox.registry_host)
    assert states(setup.run("check", *flags, "--json"))["image openegflask"] == "ok"


def test_a_repository_that_is_not_there_is_told(setup: Scene) -> None:
    found = problems(setup.run("check", "--gitops", f"{setup.sandbox.git_url}/nothing.git", "--json"))
    assert "git/nothing" in found["GitOps repository"]


def test_a_branch_that_is_not_there_is_told(setup: Scene) -> None:
    found = problems(setup.run("check", "--branch", "nothing", "--json"))
    assert list(found) == ["GitOps repository"]
    assert "it has main" in found["GitOps repository"]


def test_a_missing_overlay_is_told(setup: Scene) -> None:
    found = problems(setup.run("check", "--overlay", "overlays/nothing", "--json"))
    assert list(found) == ["overlay"]
    assert "overlays/nothing" in found["overlay"]


def test_a_missing_images_entry_is_told_with_those_that_are_there(setup: Scene) -> None:
    found = problems(setup.run("check", "--image", "openegnothing", "--json"))
    assert list(found) == ["image openegnothing"]
    assert "openegflask" in found["image openegnothing"]
    assert "--create" in found["image openegnothing"]


def test_an_entry_for_another_repository_is_told(setup: Scene) -> None:
    text = git_world.content(setup.sandbox.git_root / "openeg-gitops.git", OVERLAY)
    changed = text.replace(f"{setup.sandbox.registry_host}/openegflask".encode(), b"registry.example.com/openegflask")
    git_world.commit(setup.sandbox.git_root / "openeg-gitops.git", {OVERLAY: changed})
    found = problems(setup.run("check", "--json"))
    assert list(found) == ["image openegflask"]
    assert "registry.example.com/openegflask" in found["image openegflask"]


def test_a_prebuilt_image_that_is_not_in_the_registry_is_told(setup: Scene) -> None:
    found = problems(setup.run("check", "--image", f"openegflask={'c' * 40}", "--json"))
    assert list(found) == ["image openegflask"]
    assert "is not in the registry" in found["image openegflask"]


def test_a_registry_that_does_not_answer_is_told(setup: Scene) -> None:
    found = problems(setup.run("check", "--service", "flask", "--registry", "127.0.0.1:1", "--json"))
    assert "Connection refused" in found["registry of openegflask"]


@pytest.mark.parametrize(
    ("application", "named"),
    [
        ({"path": "overlays/staging"}, "spec.source.path"),
        ({"branch": "other"}, "spec.source.targetRevision"),
        ({"repo_url": "https://github.com/openeg/other.git"}, "spec.source.repoURL"),
    ],
)
def test_an_application_that_follows_something_else_is_told(
    setup: Scene, application: dict[str, str], named: str
) -> None:
    given = {"repo_url": setup.gitops_url, "path": "overlays/production", **application}
    setup.sandbox.add_application("other", **given)  # type: ignore[arg-type]
    found = problems(setup.run("check", "--app", "other", "--json"))
    assert named in found["source of other"]


def test_an_application_without_automated_sync_is_told_unless_sync_is_wished(setup: Scene) -> None:
    setup.sandbox.add_application("byhand", repo_url=setup.gitops_url, path="overlays/production", automated=False)
    found = problems(setup.run("check", "--app", "byhand", "--json"))
    assert list(found) == ["syncs of byhand"]
    assert "automated" in found["syncs of byhand"]
    assert problems(setup.run("check", "--app", "byhand", "--sync", "--json")) == {}


def deny(scene: Scene, *rights: str) -> None:
    scene.sandbox.argocd.setup = replace(scene.sandbox.argocd.setup, denied=frozenset(rights))


def test_rights_that_the_argo_cd_account_lacks_are_told_with_the_policy_that_gives_them(setup: Scene) -> None:
    deny(setup, "logs, get", "applications, sync")
    found = problems(setup.run("check", "--json"))
    assert list(found) == ["logs of openeg-system"]
    assert "p, ROLE, logs, get, default/openeg-system, allow" in found["logs of openeg-system"]
    setup.sandbox.add_application("byhand", repo_url=setup.gitops_url, path="overlays/production", automated=False)
    found = problems(setup.run("check", "--app", "byhand", "--sync", "--json"))
    assert "p, ROLE, applications, sync, default/byhand, allow" in found["syncs of byhand"]
    deny(setup, "applications, get")
    found = problems(setup.run("check", "--json"))
    assert list(found) == ["application openeg-system"]


def test_an_unknown_application_is_told(setup: Scene) -> None:
    found = problems(setup.run("check", "--app", "nothing", "--json"))
    assert list(found) == ["application nothing"]


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"ARGOCD_AUTH_TOKEN": "wrong"}, "does not accept the token"),
        ({"ARGOCD_AUTH_TOKEN": ""}, "ARGOCD_AUTH_TOKEN is not set"),
        ({"ARGOCD_SERVER": "http://127.0.0.1:1"}, "Connection refused"),
    ],
)
def test_an_argo_cd_that_cannot_be_used_is_told(setup: Scene, environ: dict[str, str], named: str) -> None:
    done = setup.run("check", "--json", environ=environ)
    found = problems(done)
    assert list(found) == ["Argo CD"]
    assert named in found["Argo CD"]
    assert states(done)["right to push"] == "ok"


def test_a_wrong_slack_token_is_told_and_a_webhook_is_not_tried(setup: Scene) -> None:
    found = problems(setup.run("check", "--json", environ={"SLACK_BOT_TOKEN": "xoxb-wrong"}))
    assert list(found) == ["Slack"]
    assert "invalid_auth" in found["Slack"]
    done = setup.run("check", "--json", environ={"SLACK_BOT_TOKEN": "", "SLACK_WEBHOOK_URL": "http://127.0.0.1:1/x"})
    assert states(done)["Slack"] == "unknown"


def test_no_token_is_shown(setup: Scene, tmp_path: Path) -> None:
    environ = {
        "GITOPS_TOKEN": "ghp_1234567890",
        "ARGOCD_AUTH_TOKEN": "secret-1234567890",
        "SLACK_BOT_TOKEN": "xoxb-123456",
    }
    output = tmp_path / "output"
    done = setup.run("check", environ={**environ, "GITHUB_OUTPUT": str(output), "GITHUB_ACTIONS": "true"})
    assert done.code == 1
    told = done.stdout + done.stderr + output.read_text()
    assert not [value for value in environ.values() if value in told]
    assert "check<<" in output.read_text()
