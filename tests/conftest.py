"""What tests of several parts share: the programs that a test needs, and a real registry."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests import needs

# Thousands of programs are started here, and each would compile the whole package anew where no bytecode is kept, as in
# Python's container images.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell's background jobs ignore Ctrl-C, and so would every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@cache
def _missing(marker: str) -> str | None:
    """Why tests with `marker` cannot run on this machine, None when they can."""
    if marker == "docker":
        found = shutil.which("docker") and subprocess.run(["docker", "version"], capture_output=True).returncode == 0
        return None if found else "no Docker engine answers"
    if marker == "registry":
        return None if shutil.which("docker-registry") else "docker-registry is not installed"
    return None if os.geteuid() == 0 else "not root"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have one process run the tests of a kind, one after another; groups come before all other tests.

    Tests share one engine, which shares its layers: what one of them cleans away, another may be building on. And of
    those that want the cluster for themselves the second would only wait for the first.
    """
    for item in items:
        for marker in ("docker", "alone"):
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.xdist_group(marker))


def pytest_xdist_auto_num_workers() -> int:
    """Half as many processes again as there are processors: half of the tests' time is waiting for rollouts."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured, also where they ran in processes of their own."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(str(value))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("docker", "registry", "root"):
        if item.get_closest_marker(marker) and (why := _missing(marker)):
            needs.missing(why)


@pytest.fixture(scope="session", autouse=True)
def cluster_variables() -> Iterator[Mapping[str, str]]:
    """What the environment says of a real cluster: for tests that ask for it, and hidden from all others."""
    with pytest.MonkeyPatch.context() as patch:
        ours = ("KUBECONFIG", "ARGOCD_", "PIPELINE_", "E2E_GIT_", "OPENEG_LAB")
        found = {name: value for name, value in os.environ.items() if name.startswith(ours)}
        for name in found:
            patch.delenv(name)
        yield found


StartRegistry = Callable[..., str]


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[StartRegistry]:
    """Starts Debian's docker-registry on a free port; returns its `127.0.0.1:PORT`. Give it an htpasswd file or not."""
    with ExitStack() as running:
        yield lambda htpasswd=None: running.enter_context(_registry(tmp_path / f"registry-{bool(htpasswd)}", htpasswd))


@contextmanager
def _registry(folder: Path, htpasswd: Path | None) -> Iterator[str]:
    folder.mkdir(exist_ok=True)
    auth = f"auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}" if htpasswd else ""
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}\n"
        f'http: {{addr: "127.0.0.1:0", secret: test}}\n{auth}\n'
    )
    command = ["docker-registry", "serve", str(config)]
    with subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=(folder / "log").open("wb")) as process:
        try:
            while not (found := re.search(r"listening on (127[\d.]+:\d+)", (folder / "log").read_text())):
                assert process.poll() is None, (folder / "log").read_text()
            yield found[1]
        finally:
            process.terminate()
