"""`sandbox up`: what it prints is all that a user needs to try commands by hand."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import OURS, Done, Scene


@contextmanager
def up(tmp_path: Path, *flags: str) -> Iterator[dict[str, str]]:
    """The exported variables of a running sandbox, among the machine's own; it ends well on Ctrl-C."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    clean |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    clean |= {"http_proxy": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": ""}
    (tmp_path / "tmp").mkdir()
    command = (sys.executable, "-m", "pipeline", "sandbox", "up", *flags)
    with subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout
        printed = "".join(iter(process.stdout.readline, "\n"))
        pairs = re.findall(r"(\w+)=('[^']*'|\S+)", printed)
        try:
            yield clean | {name: value.strip("'") for name, value in pairs}
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)
    assert process.returncode == 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_its_addresses_come_as_json_too(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "pipeline", "sandbox", "up", "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout
        told = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        assert (told["command"], told["outcome"]) == ("sandbox up", "reported")
        with urllib.request.urlopen(f"{told['urls']['sandbox']}/sandbox/") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "", "the object was the only one"
    assert process.returncode == 0


@pytest.mark.parametrize("seconds", [0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6])
def test_a_signal_while_it_starts_ends_it(tmp_path: Path, seconds: float) -> None:
    command = (sys.executable, "-m", "pipeline", "sandbox", "up")
    with subprocess.Popen(command, stdout=-1, stderr=-1, cwd=tmp_path) as process:
        time.sleep(seconds)
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode in {0, 143, -signal.SIGTERM}


def run(environ: dict[str, str], cwd: Path, *arguments: str) -> Done:
    done = subprocess.run(
        (sys.executable, "-m", "pipeline", *arguments), cwd=cwd, env=environ, capture_output=True, text=True
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """The application repository of the tutorial."""
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY hello.txt /\n")
    (folder / "hello.txt").write_text("hello\n")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "Hello"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_the_tutorial_works_as_it_is_written(tmp_path: Path, hello: Path) -> None:
    with up(tmp_path, "--sync-seconds", "0.1") as environ:
        for name in ("openegwebhook", "openegnode"):
            built = run(environ, hello, "build", "--image", name, "--engine", "sources", "--json")
            assert built.code == 0, built.stderr
            published = run(environ, hello, "bump", "--image", f"{name}={built.json['images'][0]['tag']}")
            assert published.code == 0, published.stderr
        done = run(environ, hello, "deploy", "--image", "openegflask", "--engine", "sources", "--json")
        assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
        assert done.json["notices"]["slack"]["channel"]


def test_an_application_whose_other_images_are_missing_says_what_it_waits_for(tmp_path: Path, hello: Path) -> None:
    with up(tmp_path, "--sync-seconds", "0.1") as environ:
        flags = ("--engine", "sources", "--timeout", "5", "--json")
        time.sleep(1)  # Argo CD tells the age of a sync in whole seconds, and these pods are of an earlier one
        done = run(environ, hello, "deploy", "--image", "openegflask", *flags)
        assert (done.code, done.json["outcome"]) == (12, "timed_out"), done.stderr
        assert "Deployment/" in done.json["error"]["message"] or "replicas" in done.json["error"]["message"]


def test_faults_are_chosen_at_the_start_and_shown(tmp_path: Path) -> None:
    with up(tmp_path, "--fault", f"{'a' * 40}=crash", "--poll", "1") as environ:
        with urllib.request.urlopen(environ["ARGOCD_SERVER"] + "/sandbox/") as answer:
            overview = json.load(answer)
        assert overview["faults"]["a" * 40]["kind"] == "crash"
        assert "openeg-system" in overview["applications"]


def test_an_unknown_fault_names_the_kinds(scene: Scene) -> None:
    done = scene.run("sandbox", "up", "--fault", "x=explode")
    assert done.code == 2
    assert "vault-init" in done.stderr
