"""The processes of a lab: started once, found again by what was written down, ended with all that they started."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from lab.state import LOOPBACK, Lab
from pipeline.core.progress import Progress
from pipeline.errors import Unreachable

_POLITE_SECONDS = 3.0
"""After SIGTERM; Argo CD's API server would hold on for 20 s while a stream is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process of a lab, and how to tell that it does its work."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)


def up(lab: Lab, services: Iterable[Service], progress: Progress, *, seconds: float = 90.0) -> None:
    """Start those that do not run, then wait until all are ready. Raises Unreachable with a log's last lines."""
    services = tuple(services)
    for service in services:
        if pid(lab, service.name) is None:
            progress.show(service.name, "starting")
            _start(lab, service)
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(len(services)) as pool:
        tuple(pool.map(lambda service: _await(lab, service, progress, deadline), services))


def down(lab: Lab, names: Iterable[str]) -> tuple[str, ...]:
    """End what runs of `names`, and only what this lab started; the names of those that ran."""
    running = {name: number for name in names if (number := pid(lab, name))}
    for number in running.values():
        _signal(number, signal.SIGTERM)
    deadline = time.monotonic() + _POLITE_SECONDS
    while time.monotonic() < deadline and any(pid(lab, name) for name in running):
        time.sleep(0.05)
    for number in (number for name, number in running.items() if pid(lab, name)):
        _signal(number, signal.SIGKILL)
    while any(pid(lab, name) for name in running):
        time.sleep(0.02)
    return tuple(running)


def pid(lab: Lab, name: str) -> int | None:
    """The process that this lab started under `name`; None when it has ended."""
    with contextlib.suppress(OSError, ValueError):
        number, started = map(int, _file(lab, name).read_text().split())
        if _started(number) == started:
            return number
    return None


def answers(url: str, *, token: str | None = None, ca: Path | None = None) -> Callable[[], bool]:
    """Whether a URL is answered well."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask() -> bool:
        try:
            with urllib3.PoolManager(ca_certs=ca and str(ca), retries=False, timeout=2.0) as pool:
                return pool.request("GET", url, headers=headers).status < 400
        except urllib3.exceptions.HTTPError:
            return False

    return ask


def listens(port: int) -> Callable[[], bool]:
    """Whether somebody takes connections at a port."""

    def ask() -> bool:
        try:
            socket.create_connection((LOOPBACK, port), timeout=2.0).close()
        except OSError:
            return False
        return True

    return ask


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log."""
    try:
        return log.read_text(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def _start(lab: Lab, service: Service) -> None:
    with (lab.logs / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(
            service.command,
            cwd=lab.folder,
            env={**os.environ, **service.environment, "TMPDIR": str(lab.folder / "tmp")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _file(lab, service.name).write_text(f"{process.pid} {_started(process.pid)}")


def _await(lab: Lab, service: Service, progress: Progress, deadline: float) -> None:
    while not service.ready():
        gone = pid(lab, service.name) is None
        if gone or time.monotonic() > deadline:
            log = lab.logs / f"{service.name}.log"
            what = "ended" if gone else "is not ready"
            raise Unreachable(
                "\n  ".join((f"{service.name} {what}", *tail(log, 10))), remedy=f"Read the whole of {log}."
            )
        time.sleep(0.05)
    progress.show(service.name, "")


def _file(lab: Lab, name: str) -> Path:
    return lab.folder / "run" / f"{name}.pid"


def _started(number: int) -> int | None:
    """When the process began, in clock ticks since the machine did: with it, a number that is used again is told."""
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        if state == "Z":  # ended, and its parent, maybe we ourselves, has not asked
            with contextlib.suppress(OSError):
                os.waitpid(number, os.WNOHANG)
            return None
        return int(fields[18])
    return None


def _signal(number: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(number, what)  # each leads a group of its own
