"""How soon a rollout is known to be over: our `wait`, Argo CD's own polling, and `argocd app wait`, on the lab.

Called by `scripts/bench rollout`. All waits of one deployment start at the same moment, after the push.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import urllib3

from lab import build, state
from lab.components import COMPONENTS
from lab.stage import Cluster, variables
from pipeline.errors import UsageError
from pipeline.sandbox.stage import follows
from pipeline.sandbox.story import Repository, served

DEPLOYMENTS = 10
POLLED = 2
CUT_OFF_SECONDS = 60.0
_LONGEST_POLL_SECONDS = 600.0
"""Argo CD looks every two to three minutes, and its repo-server remembers a branch for three more."""

_MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web}]}
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """When a command ended, on the clock of `time.monotonic`, and how."""

    at: float
    code: int | None
    """None: it was cut off."""


class _Scene:
    """One application on the lab, and its GitOps repository."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.name = f"bench-{uuid.uuid4().hex[:6]}"
        self._gitops = Repository(folder, served(cluster, self.name))
        (folder / "base").mkdir()
        (folder / "base/kustomization.yaml").write_text("resources: [web.yaml]\n")
        (folder / "base/web.yaml").write_text(_MANIFEST)
        self.push("0" * 40)
        cluster.add_application(self.name, follows(f"{cluster.git_url}/{self.name}.git", "overlay", self.name))

    def push(self, tag: str) -> tuple[str, float]:
        """Deploy a tag by hand; the commit, and when the push had ended."""
        overlay = self._gitops.path / "overlay"
        overlay.mkdir(exist_ok=True)
        image = f"{{name: web, newName: registry.example/web, newTag: '{tag}'}}"
        (overlay / "kustomization.yaml").write_text(f"resources: [../base]\nimages: [{image}]\n")
        return self._gitops.commit(tag), time.monotonic()

    def proof(self, revision: str, tag: str) -> "_Proof":
        """Watch for the moment at which Argo CD shows that the commit runs."""
        return _Proof(self.cluster, self.name, revision, tag)

    def ours(self, revision: str, tag: str) -> "_Command":
        """`wait`, which asks for a refresh itself."""
        image = f"registry.example/web={tag}"
        flags = ("--app", self.name, "--revision", revision, "--image", image, "--timeout", "120")
        return _Command(self.cluster, (sys.executable, "-m", "pipeline", "wait", *flags), self._gitops.path)

    def theirs(self) -> "_Command":
        """`argocd app wait`, after a refresh: without one it would end at once, on the commit before."""
        program = str(build.program(COMPONENTS["argocd"]))
        server = f"--server {self.cluster.argocd.removeprefix('http://')} --plaintext"
        refresh = f"'{program}' app get {self.name} --refresh {server}"
        wait = f"'{program}' app wait {self.name} --sync --health --operation {server}"
        return _Command(self.cluster, ("sh", "-c", f"{refresh} >/dev/null && exec {wait}"), self._gitops.path)


class _Command(threading.Thread):
    """A command that runs beside others."""

    def __init__(self, cluster: Cluster, command: tuple[str, ...], folder: Path) -> None:
        super().__init__(daemon=True)
        environ = {"ARGOCD_SERVER": cluster.argocd, "ARGOCD_AUTH_TOKEN": cluster.token, "ARGOCD_BINARY_NAME": "argocd"}
        self._process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._ended = 0.0
        self.start()

    def run(self) -> None:
        self._process.wait()
        self._ended = time.monotonic()

    def result(self, seconds: float) -> Ended:
        """How it ended; it is cut off after so long."""
        self.join(seconds)
        if self.is_alive():
            self._process.kill()
            self.join()
            return Ended(self._ended, None)
        return Ended(self._ended, self._process.returncode)


class _Proof(threading.Thread):
    """The moment at which Argo CD's streams first showed the revision Synced and Healthy, with our pods."""

    def __init__(self, cluster: Cluster, name: str, revision: str, tag: str) -> None:
        super().__init__(daemon=True)
        self._cluster, self._name, self._revision, self._tag = cluster, name, revision, tag
        self.at: float | None = None
        self.start()

    def run(self) -> None:
        with urllib3.PoolManager(retries=False) as pool:
            for event in self._events(pool):
                status: Mapping[str, Any] = event["application"]["status"]
                sync, health = status.get("sync") or {}, status.get("health") or {}
                settled = (sync.get("status"), health.get("status")) == ("Synced", "Healthy")
                if settled and sync.get("revision") == self._revision and self._runs(status):
                    self.at = time.monotonic()
                    return

    def _runs(self, status: Mapping[str, Any]) -> bool:
        return any(image.endswith(f":{self._tag}") for image in (status.get("summary") or {}).get("images") or ())

    def _events(self, pool: urllib3.PoolManager) -> Iterator[Mapping[str, Any]]:
        url = f"{self._cluster.argocd}/api/v1/stream/applications?name={self._name}"
        headers = {"Authorization": f"Bearer {self._cluster.token}"}
        response = pool.request("GET", url, headers=headers, preload_content=False, timeout=_LONGEST_POLL_SECONDS)
        rest = b""
        while data := response.read1(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            yield from (json.loads(line)["result"] for line in lines if line.strip())


def rollout() -> Iterator[tuple[str, str, str]]:
    """Rows of what, figure and aim. Raises UsageError without a lab."""
    lab = state.find(os.environ.get("OPENEG_LAB", "main"))
    if lab is None:
        raise UsageError("there is no lab", remedy="Run `scripts/lab up`.")
    cluster = Cluster(variables(lab))
    with tempfile.TemporaryDirectory() as scratch:
        scene = _Scene(cluster, Path(scratch, "gitops"))
        revision, _ = scene.push("1" * 40)
        scene.ours(revision, "1" * 40).result(120)
        yield from _healthy(scene)
        yield from _polled(scene)
        yield from _broken(scene)
        cluster.remove_application(scene.name)


def _healthy(scene: _Scene) -> Iterator[tuple[str, str, str]]:
    ours, theirs, lag, their_lag, early = [], [], [], [], 0
    for number in range(DEPLOYMENTS):
        tag = f"{number + 2:040x}"
        revision, pushed = scene.push(tag)
        proof = scene.proof(revision, tag)
        running = (scene.ours(revision, tag), scene.theirs())
        mine, other = (command.result(120) for command in running)
        proof.join(10)
        if mine.code or other.code or proof.at is None:
            raise UsageError(f"deployment {number + 1} did not end well: ours {mine.code}, theirs {other.code}")
        ours.append(mine.at - pushed)
        theirs.append(other.at - pushed)
        lag.append(mine.at - proof.at)
        their_lag.append(other.at - proof.at)
        early += other.at < proof.at - 0.05
    yield f"from the push to our exit, healthy ({DEPLOYMENTS} deployments)", f"{median(ours):.2f} s", ""
    yield (
        "  the same, `argocd app wait` after a refresh",
        f"{median(theirs):.2f} s",
        f"{median(theirs) / median(ours):.2f} times ours",
    )
    yield "our exit after Argo CD first showed the proof", f"{median(lag):.3f} s", "aim: none over `argocd app wait`"
    yield (
        "  the same, `argocd app wait`",
        f"{median(their_lag):.3f} s",
        f"{early} of {DEPLOYMENTS} ended before the proof",
    )


def _polled(scene: _Scene) -> Iterator[tuple[str, str, str]]:
    with_refresh, polled = [], []
    for number in range(POLLED):
        tag = f"{number + 100:040x}"
        revision, pushed = scene.push(tag)
        proof = scene.proof(revision, tag)
        proof.join(_LONGEST_POLL_SECONDS)
        if proof.at is None:
            raise UsageError(f"Argo CD did not look at git within {_LONGEST_POLL_SECONDS:.0f} s")
        polled.append(proof.at - pushed)
        tag = f"{number + 200:040x}"
        revision, pushed = scene.push(tag)
        with_refresh.append(scene.ours(revision, tag).result(120).at - pushed)
    times = median(polled) / median(with_refresh)
    yield (
        f"Argo CD's own polling until the proof ({POLLED} deployments)",
        f"{median(polled):.1f} s",
        f"{times:.0f} times ours; aim: 10",
    )


def _broken(scene: _Scene) -> Iterator[tuple[str, str, str]]:
    tag = f"{300:040x}"
    scene.cluster.break_image(f"registry.example/web:{tag}", "pull")
    revision, pushed = scene.push(tag)
    running = (scene.ours(revision, tag), scene.theirs())
    mine = running[0].result(120)
    other = running[1].result(max(0.0, CUT_OFF_SECONDS - (time.monotonic() - pushed)))
    scene.cluster.mend_image(f"registry.example/web:{tag}")
    yield (
        "an image that cannot be pulled: to our exit with the cause",
        f"{mine.at - pushed:.2f} s",
        f"exit code {mine.code}",
    )
    told = (
        f"cut off at {CUT_OFF_SECONDS:.0f} s"
        if other.code is None
        else f"{other.at - pushed:.1f} s, exit code {other.code}"
    )
    yield "  the same, `argocd app wait` (progress deadline 600 s)", told, ""
