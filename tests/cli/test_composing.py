"""Commands beside each other: what one hands on, the next takes for what it is; and nothing is done too early."""

import json
import os
import signal
import subprocess
import sys
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.sandbox.cluster import Fault
from pipeline.sandbox.world import SLACK_TOKEN
from tests.cli.conftest import Scene

A = "a" * 40


def registry_tags(scene: Scene, name: str) -> bool:
    """Whether the registry has the image of the checked-out commit."""
    commit = scene.app.git("rev-parse", "HEAD")
    done = scene.run("build", "--service", name, "--dry-run", "--json")
    return "digest" in next(image for image in done.json["images"] if image["tag"] == commit)


def test_a_superseded_bump_leaves_nothing_to_wait_for(scene: Scene) -> None:
    older = scene.app.git("rev-parse", "HEAD")
    scene.run("build")
    scene.change()
    assert scene.run("deploy").code == 0
    bumped = scene.run("bump", "--image", f"openegflask={older}", "--json")
    assert (bumped.code, bumped.json["outcome"]) == (0, "superseded"), bumped.stderr
    waited = scene.run("wait", "--from", "-", "--json", stdin=bumped.stdout)
    assert (waited.code, waited.json["outcome"]) == (0, "superseded"), waited.stderr
    both = ("--image", f"openegflask={older}", "--image", f"openegnode={scene.change()}")
    mixed = scene.run("bump", *both, "--no-check-image", "--json")
    assert mixed.json["outcome"] == "published"
    waited = scene.run("wait", "--from", "-", "--json", stdin=mixed.stdout)
    assert waited.json["error"]["class"] == "RolloutFailed", "nobody pushed the node image"
    assert "openegnode" in waited.json["error"]["message"]
    assert "ImageNotUsed" not in waited.stdout, "the image that was left out is not waited for"


def test_a_plan_is_nothing_to_wait_for(scene: Scene) -> None:
    planned = scene.run("bump", "--image", f"openegflask={A}", "--no-check-image", "--dry-run", "--json")
    waited = scene.run("wait", "--from", "-", "--json", stdin=planned.stdout)
    assert (waited.code, waited.json["error"]["class"]) == (2, "UsageError"), waited.stderr


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--mode", "pr"), 2),
        (("--order", "newest"), 2),
        (("--deadline", "-1"), 2),
        (("--author", "nobody"), 2),
        (("--app", "nosuch"), 4),
        (("--registry", "http://x:1"), 2),
        (("--platform", "bogus"), 2),
    ],
)
def test_what_cannot_be_published_is_not_built(scene: Scene, flags: tuple[str, ...], code: int) -> None:
    done = scene.run("deploy", "--service", "flask", *flags, "--json")
    assert done.code == code, done.stderr
    assert not registry_tags(scene, "flask")
    assert len(scene.log()) == 1


def test_an_image_without_an_entry_is_not_built(scene: Scene) -> None:
    done = scene.run("deploy", "--image", "brandnew", "--context", "flask", "--json")
    assert (done.code, done.json["error"]["class"]) == (4, "EntryNotFound")
    assert "openegflask" in done.json["error"]["message"]


def test_an_argo_cd_that_does_not_answer_yet_keeps_nobody_from_publishing(scene: Scene) -> None:
    done = scene.run("deploy", "--json", "--timeout", "1", environ={"ARGOCD_SERVER": "http://127.0.0.1:1"})
    assert (done.code, done.json["error"]["class"]) == (7, "Unreachable"), done.stderr
    assert len(scene.log()) == 2


@pytest.mark.parametrize("tag", ["latest", A[:7], A.upper()])
def test_a_tag_that_moves_is_told_before_the_registry_is_asked(scene: Scene, tag: str) -> None:
    for command in ("bump", "deploy"):
        done = scene.run(command, "--image", f"openegflask={tag}", "--json")
        assert (done.code, done.json["error"]["class"]) == (3, "TagIsMutable"), done.stderr


def test_a_build_that_failed_is_told_as_what_it_is_by_bump(scene: Scene) -> None:
    built = scene.run("build", "--service", "nosuch", "--json")
    bumped = scene.run("bump", "--from", "-", "--json", stdin=built.stdout)
    assert (bumped.code, bumped.json["error"]["class"]) == (2, "UsageError")
    assert "the earlier result is 'failed'" in bumped.json["error"]["message"]


def test_a_rollback_goes_only_to_what_stood_there(scene: Scene) -> None:
    text = scene.overlay().replace("name: openegflask\n", "name: openegflask\n    newTag: v1\n", 1)
    Path(scene.gitops.path, "overlays/production/kustomization.yaml").write_text(text)
    scene.gitops.commit("By hand")
    scene.run("deploy")
    back = ("rollback", "--image", "openegflask", "--no-check-image", "--dry-run", "--json", "--to")
    refused = scene.run(*back, "latest")
    assert (refused.code, refused.json["error"]["class"]) == (3, "TagIsMutable"), refused.stderr
    assert scene.run(*back, "v1").code == 0
    assert scene.run(*back, "previous").json["images"][0]["tag"] == "v1"
    unknown = scene.run("rollback", "--image", "nosuch", "--json")
    assert (unknown.code, unknown.json["error"]["class"]) == (4, "EntryNotFound")


def test_the_gitops_token_goes_to_the_gitops_repository_alone(scene: Scene) -> None:
    heard: list[Message] = []

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers)
            self.send_error(401)

        def log_message(self, *_words: object) -> None: ...

    scene.run("deploy", "--service", "flask")
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as host:
        threading.Thread(target=host.serve_forever).start()
        scene.app.git("remote", "set-url", "origin", f"http://127.0.0.1:{host.server_port}/app.git")
        scene.run("bump", "--image", f"openegflask={A}", "--no-check-image", environ={"GITOPS_TOKEN": "for-gitops"})
        host.shutdown()
    assert heard, "the application's repository was asked for the order"
    assert not any(message["Authorization"] for message in heard)


def test_an_interrupted_deployment_is_told_as_what_it_is(scene: Scene) -> None:
    scene.run("deploy")
    scene.sandbox.set_fault(scene.change(), Fault("never-ready"))
    slack = {"SLACK_API_URL": f"{scene.sandbox.slack_url}api/", "SLACK_BOT_TOKEN": SLACK_TOKEN.reveal()}
    command = (sys.executable, "-m", "pipeline", "deploy", "--service", "flask", "--json")
    with subprocess.Popen(
        command, cwd=scene.app.path, env=scene.environ | slack, stdout=-1, stderr=-1, text=True
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if "0/" in line:
                break
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, json.loads(out)["error"]["class"]) == (130, "Interrupted")
    texts = [message.text for message in scene.sandbox.slack.messages]
    assert not any("under way" in text for text in texts), texts
    assert any("failed" in text for text in texts)


def test_a_notice_without_a_result_tells_nothing(scene: Scene) -> None:
    slack = {"SLACK_API_URL": f"{scene.sandbox.slack_url}api/", "SLACK_BOT_TOKEN": "xoxb-wrong"}
    done = scene.run("notify", "--json", environ=slack)
    assert (done.code, done.json["error"]["class"]) == (2, "UsageError")
    built = scene.run("build", "--service", "flask", "--json")
    told = scene.run("notify", "--from", "-", stdin=built.stdout, environ=slack)
    assert told.code == 0
    assert "invalid_auth" in told.stderr
    assert "is set" not in told.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("bump", "--help")])
def test_help_that_cannot_be_printed_is_no_traceback(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run((sys.executable, "-m", "pipeline", *arguments), stdout=full, stderr=-1, text=True)
    assert (done.returncode, "Traceback" in done.stderr, "Exception" in done.stderr) == (7, False, False), done.stderr


def test_a_configuration_without_end_is_no_traceback(scene: Scene) -> None:
    Path(scene.app.path, "deploy.yaml").write_text(f"x: {'[' * 5000}\n")
    done = scene.run("build", "--json")
    assert (done.code, done.json["error"]["class"]) == (2, "ConfigInvalid")


@pytest.mark.parametrize("address", ["foo://127.0.0.1/x.git", "ext::sh -c x", "ssh://-oProxyCommand=x/y"])
def test_an_address_that_git_does_not_know_is_a_usage_error(scene: Scene, address: str) -> None:
    done = scene.run("bump", "--image", f"openegflask={A}", "--no-check-image", "--gitops", address, "--json")
    assert (done.code, done.json["error"]["class"]) == (2, "UsageError"), done.stderr


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("Permission denied (publickey).", "GitDenied"),
        ("Host key verification failed.", "GitDenied"),
        ("ssh: Could not resolve hostname git.example: Name or service not known", "Unreachable"),
    ],
)
def test_what_ssh_says_is_passed_on(scene: Scene, tmp_path: Path, said: str, error: str) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 255\n")
    ssh.chmod(0o755)
    bump = ("bump", "--image", f"openegflask={A}", "--no-check-image", "--gitops", "git@git.example:team/gitops.git")
    done = scene.run(*bump, "--json", environ={"GIT_SSH_COMMAND": str(ssh)})
    assert done.json["error"]["class"] == error
    assert said in done.json["error"]["message"]
    assert "TOKEN" not in done.json["error"]["remedy"]


@pytest.mark.root
def test_a_full_disk_is_told_as_such_by_edit(scene: Scene, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk), check=True)
    try:
        (disk / "k.yaml").write_text(scene.overlay())
        with pytest.raises(OSError, match="No space"):
            (disk / "filler").write_bytes(b"x" * 10_000)
        done = scene.run("edit", str(disk / "k.yaml"), "--in-place", "--image", f"openegflask={A}", "--json")
        assert (done.code, done.json["error"]["class"]) == (8, "NoSpaceLeft"), done.stderr
        assert (disk / "k.yaml").read_text() == scene.overlay()
    finally:
        subprocess.run(("umount", disk), check=True)


@pytest.mark.parametrize(
    "environ",
    [
        {"PIPELINE_ARGOCD_PROXY": "http://usr:hunter2@127.0.0.1:99999"},
        {"PIPELINE_ARGOCD_PROXY": "http://usr:hunter2/x@127.0.0.1:9"},
        {"PIPELINE_ARGOCD_PROXY": "http://[usr:hunter2@127.0.0.1"},
        {"https_proxy": "http://usr:hunter2@127.0.0.1:99999", "ARGOCD_SERVER": "argocd.invalid"},
        {"ARGOCD_SERVER": "https://usr:hunter2@127.0.0.1:99999"},
        {"ARGOCD_SERVER": "https://[usr:hunter2@127.0.0.1"},
        {"PIPELINE_ARGOCD_HEADER": "Authorization Bearer hunter2"},
    ],
)
def test_a_wrong_address_or_header_does_not_repeat_its_secret(scene: Scene, environ: dict[str, str]) -> None:
    done = scene.run("wait", "--revision", A, "--app", "x", "--timeout", "3", "--json", environ=environ)
    assert "hunter2" not in done.stdout + done.stderr
    assert done.code in {2, 5, 7}, done.stderr


@pytest.mark.parametrize(
    "address",
    [
        "https://git.invalid:99999/x",
        "https://git.invalid/x?token=hunter2",
        "https://git.invalid/x#hunter2",
        "https://git.invalid/hunter2@x",
        "https://usr:hunter2/@git.invalid/x",
        "https://usr:hunter2?@git.invalid/x",
        "https://usr:hunter2#@git.invalid/x",
        "https://usr:hunter2\u2100@git.invalid/x",
        "https://usr:hunter2",
        "ssh://usr:hunter2/@git.invalid/x",
    ],
)
def test_an_address_that_may_hold_a_secret_in_the_wrong_place_is_not_repeated(scene: Scene, address: str) -> None:
    bump = ("bump", "--image", f"openegflask={A}", "--no-check-image", "--json")
    done = scene.run(*bump, environ={"PIPELINE_GITOPS": address})
    assert (done.code, done.json["error"]["class"]) == (2, "UsageError"), done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "%40" in done.json["error"]["remedy"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("services: {a: {image: 2024-13-45}}", "quote it"),
        ("version: 1\nregistry: http://x", "deploy.yaml:2: registry: expected HOST or HOST:PORT"),
        ("services:\n  a:\n    image: Flask:v1", "deploy.yaml:3: services.a.image: expected an image name: lower case"),
        ("version: 1\ngitops: {url: 'a\0'}", "deploy.yaml:2: not YAML: it may not hold the character #x00"),
    ],
)
def test_a_value_that_cannot_be_read_is_a_configuration_error(scene: Scene, text: str, words: str) -> None:
    Path(scene.app.path, "deploy.yaml").write_text(f"{text}\n")
    done = scene.run("build", "--json")
    assert (done.code, done.json["error"]["class"]) == (2, "ConfigInvalid"), done.stderr
    assert words in done.json["error"]["message"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("argocd: {server: 'ftp://argo.example'}", "argocd.server: expected HOST:PORT or an http(s) URL"),
        ("argocd: {server: 'argo.example:99999'}", "argocd.server: expected HOST:PORT or an http(s) URL"),
        ("argocd: {server: 'https://usr:hunter2@argo.example'}", "found '…@argo.example'"),
        ("overlay: /overlays/production", "overlay: expected a folder, relative to the repository's root"),
        ("overlay: overlays/../../production", "overlay: expected a folder, relative to the repository's root"),
        ("timeout: '5'", "timeout: expected a number, without quotes, found '5'"),
        ("timeout: true", "timeout: expected a number, without quotes, found True"),
        ("timeout: 0", "timeout: expected greater than 0, found 0"),
    ],
)
def test_a_wrong_value_of_an_environment_is_told_with_its_place(scene: Scene, text: str, words: str) -> None:
    folder = Path(scene.gitops.path, ".deploy")
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(f"environments:\n  production:\n    {text}\n")
    scene.gitops.commit("Configure")
    done = scene.run("deploy", "--service", "flask", "--json")
    assert (done.code, done.json["error"]["class"]) == (2, "ConfigInvalid"), done.stderr
    assert "config.yaml:3: environments.production." in done.json["error"]["message"]
    assert words in done.json["error"]["message"]
    assert "hunter2" not in done.stdout + done.stderr
