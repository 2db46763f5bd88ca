"""No token reaches output, command lines of child processes, the repositories, or files, whatever command runs."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.options import secret_variables
from tests.cli.conftest import Scene

MARK = f"mark-{uuid.uuid4().hex}"


def tokens(scene: Scene) -> dict[str, str]:
    """Every secret variable, each with a marked value; Argo CD's must be the one that the sandbox takes."""
    values = {variable: f"{MARK}-{variable.lower().replace('_', '-')}" for variable in secret_variables()}
    values["SLACK_WEBHOOK_URL"] = f"{scene.sandbox.slack_url}services/{MARK}"
    values["ARGOCD_AUTH_TOKEN"] = scene.sandbox.token.reveal()
    return values


class Watch:
    """Looks again and again at what children are started with and what lies in the temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.found: set[str] = set()
        self.looks = 0
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            self.looks += 1
            files = [Path(folder, name) for folder, _, names in os.walk(self._folder) for name in names]
            for file in (*Path("/proc").glob("[0-9]*/cmdline"), *files):
                with contextlib.suppress(OSError):  # ended or removed meanwhile
                    if MARK.encode() in file.read_bytes():
                        self.found.add(str(file))
            time.sleep(0.005)


def commands(scene: Scene, bad: str) -> Iterator[tuple[str, ...]]:
    yield ("build",)
    yield ("bump", "--image", f"openegflask={scene.app.git('rev-parse', 'HEAD')}")
    yield ("deploy",)
    yield ("deploy", "--json")
    yield ("wait", "--revision", bad, "--timeout", "1")
    yield ("notify",)
    yield ("rollback", "--dry-run")
    yield ("rollback", "--image", "nothing")
    yield ("edit", str(scene.gitops.path / "overlays/production/kustomization.yaml"), "--image", f"openegflask={bad}")
    yield ("deploy", "--argocd-server", "http://127.0.0.1:1", "--timeout", "1")
    yield ("bump", "--image", f"openegflask={bad}")
    yield ("bump", "--gitops", "http://127.0.0.1:1/x.git", "--image", f"openegflask={bad}", "--no-check-image")
    yield ("deploy", "--no-such-flag")
    yield ("check",)


@pytest.mark.parametrize("index", range(14))
def test_no_command_lets_a_token_out(scene: Scene, tmp_path: Path, index: int) -> None:
    bad = "b" * 40
    arguments = list(commands(scene, bad))[index]
    places = {name: tmp_path / name for name in ("tmp", "output", "summary")}
    places["tmp"].mkdir()
    watch = Watch(places["tmp"])
    with watch.watching():
        environ = {
            **tokens(scene),
            "TMPDIR": str(places["tmp"]),
            "GITHUB_OUTPUT": str(places["output"]),
            "GITHUB_STEP_SUMMARY": str(places["summary"]),
        }
        done = scene.run(*arguments, environ=environ)
    assert watch.looks > 3
    assert not watch.found
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    texts = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    texts |= {str(file): file.read_bytes() for file in (*written, *scene.sandbox.git_root.rglob("*")) if file.is_file()}
    assert [where for where, text in texts.items() if MARK.encode() in text] == []


def test_credentials_in_a_url_are_used_but_never_shown(scene: Scene) -> None:
    url = scene.gitops_url.replace("http://", f"http://user:{MARK}@")
    commit = scene.app.git("rev-parse", "HEAD")
    done = scene.run("bump", "--gitops", url, "--image", f"openegflask={commit}", "--no-check-image", "--json")
    assert done.code == 0, done.stderr
    assert done.json["gitops"]["repository"] == scene.gitops_url
    assert MARK not in done.stdout + done.stderr
