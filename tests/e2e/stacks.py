"""Where end-to-end tests run: the sandbox, and a real cluster with a real Argo CD, both behind one interface.

A cluster is taken from the environment (see docs/how-to/test-against-your-cluster.md); where that is our lab, its pods
can be broken and its processes killed too.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import urllib3

from lab import faults, processes, services, state
from lab.api import Api
from pipeline.core.progress import Silent
from pipeline.sandbox.cluster import Fault, FaultKind
from pipeline.sandbox.world import World

Json = Mapping[str, Any]

VARIABLES = ("KUBECONFIG", "ARGOCD_SERVER", "ARGOCD_AUTH_TOKEN", "E2E_GIT_ROOT", "E2E_GIT_URL", "PIPELINE_REGISTRY")
"""What names a cluster. `OPENEG_LAB` says besides that it is a lab of ours, and which."""


class Stack(Protocol):
    """A cluster with Argo CD, git over smart HTTP and a registry."""

    git_root: Path
    """Bare repositories made here are served at `git_url`."""
    git_url: str
    registry: str
    argocd: str
    token: str

    def add_application(self, name: str, spec: Json) -> None:
        """Let Argo CD have an application."""

    def remove_application(self, name: str) -> None:
        """Forget an application and what it made."""

    def break_image(self, image: str, kind: str, log: Sequence[str] = ()) -> None:
        """Let new pods of one image fail."""

    def mend_image(self, image: str) -> None:
        """Let pods of that image be healthy."""

    def pause_controller(self) -> contextlib.AbstractContextManager[None]:
        """Argo CD's controller does nothing for a while."""


class Sandbox:
    """The embedded world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.git_root, self.git_url = world.git_root, world.git_url
        self.registry, self.argocd, self.token = world.registry_host, world.argocd_url, world.token.reveal()

    def add_application(self, name: str, spec: Json) -> None:
        source = spec.get("source") or {}
        self._world.add_application(
            name,
            source.get("repoURL", ""),
            source.get("path", ""),
            branch=source.get("targetRevision", "main"),
            sources=spec.get("sources", ()),
            namespace=spec["destination"]["namespace"],
            automated="automated" in spec["syncPolicy"],
        )

    def remove_application(self, name: str) -> None:
        """Everything goes with the world."""

    def break_image(self, image: str, kind: str, log: Sequence[str] = ()) -> None:
        self._world.set_fault(image.rpartition(":")[2], Fault(cast("FaultKind", kind), tuple(log)))

    def mend_image(self, image: str) -> None:
        self._world.set_fault(image.rpartition(":")[2], None)

    @contextlib.contextmanager
    def pause_controller(self) -> Iterator[None]:
        self._world.pause_controller()
        try:
            yield
        finally:
            self._world.pause_controller(False)


class Cluster:
    """A real API server and a real Argo CD."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        kubeconfig, self.argocd, self.token, root, self.git_url, self.registry = (environ[name] for name in VARIABLES)
        self.git_root = Path(root)
        self.api = Api(Path(kubeconfig))
        self.lab = state.find(environ["OPENEG_LAB"]) if environ.get("OPENEG_LAB") else None

    def add_application(self, name: str, spec: Json) -> None:
        metadata = {"name": name, "namespace": "argocd"}
        self.api.apply([{"apiVersion": _ARGOCD, "kind": "Application", "metadata": metadata, "spec": spec}])

    def remove_application(self, name: str) -> None:
        self.api.delete(_ARGOCD, "Application", name, "argocd")
        self.api.delete("v1", "Namespace", name)

    def break_image(self, image: str, kind: str, log: Sequence[str] = ()) -> None:
        faults.break_image(self.api, image, kind, log=log)

    def mend_image(self, image: str) -> None:
        faults.mend_image(self.api, image)

    @contextlib.contextmanager
    def pause_controller(self) -> Iterator[None]:
        number = processes.pid(self._ours, "argocd-application-controller")
        assert number
        os.kill(number, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(number, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """End one of the lab's processes without a word."""
        number = processes.pid(self._ours, name)
        assert number, f"{name} does not run"
        os.kill(number, signal.SIGKILL)
        while processes.pid(self._ours, name):
            time.sleep(0.02)

    def revive(self) -> None:
        """Start what was killed."""
        processes.up(self._ours, services.everything(self._ours), Silent())

    @property
    def stranger(self) -> str:
        """The token of an account that may do nothing."""
        return self._ours.token("stranger")

    @property
    def _ours(self) -> state.Lab:
        assert self.lab, "this needs the lab"
        return self.lab


_ARGOCD = "argoproj.io/v1alpha1"


def look(stack: Stack, name: str, path: str = "") -> dict[str, Any]:
    """One application as Argo CD shows it; `path` is below it, such as `/resource-tree`."""
    url = f"{stack.argocd}/api/v1/applications/{name}{path}"
    with urllib3.PoolManager(retries=False) as pool:
        answer = pool.request("GET", url, headers={"Authorization": f"Bearer {stack.token}"})
        assert answer.status == 200, answer.data
        value = answer.json()
    assert isinstance(value, dict)
    return value


def bare_repository(stack: Stack, name: str) -> str:
    """The URL of a new empty repository."""
    folder = stack.git_root / f"{name}.git"
    subprocess.run(("git", "init", "--quiet", "--bare", "--initial-branch=main", str(folder)), check=True)
    return f"{stack.git_url}/{name}.git"
