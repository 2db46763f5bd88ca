"""A real cluster as a stage: the lab, or any other whose address the environment gives."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import faults, processes, services, state
from lab.api import Api
from pipeline.core.progress import Silent
from pipeline.errors import UsageError

VARIABLES = ("KUBECONFIG", "ARGOCD_SERVER", "ARGOCD_AUTH_TOKEN", "E2E_GIT_ROOT", "E2E_GIT_URL", "PIPELINE_REGISTRY")
"""What names a cluster. `OPENEG_LAB` says besides that it is a lab of ours, and which."""

_ARGOCD = "argoproj.io/v1alpha1"
_GONE_SECONDS = 60.0


def variables(lab: state.Lab) -> dict[str, str]:
    """The environment that names a lab."""
    values = (
        str(lab.kubeconfig),
        lab.url("argocd-server"),
        lab.token("ci"),
        str(lab.git_root),
        lab.url("git"),
        lab.url("registry").removeprefix("http://"),
    )
    return {**dict(zip(VARIABLES, values, strict=True)), "OPENEG_LAB": lab.name}


class Cluster:
    """A real API server and a real Argo CD."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """`environ` has the VARIABLES."""
        kubeconfig, self.argocd, self.token, root, self.git_url, self.registry = (environ[name] for name in VARIABLES)
        self.git_root = Path(root)
        self.api = Api(Path(kubeconfig))
        self._lab = state.find(environ["OPENEG_LAB"]) if environ.get("OPENEG_LAB") else None

    def add_application(self, name: str, spec: Mapping[str, Any]) -> None:
        """See `pipeline.sandbox.stage.Stage`."""
        metadata = {"name": name, "namespace": "argocd"}
        self.api.apply([{"apiVersion": _ARGOCD, "kind": "Application", "metadata": metadata, "spec": spec}])

    def remove_application(self, name: str) -> None:
        """See `Stage`. What it made goes in its own time; `await_gone` waits for it."""
        self.api.delete(_ARGOCD, "Application", name, "argocd")
        self.api.delete("v1", "Namespace", name)

    def await_gone(self, namespace: str) -> None:
        """Return when a namespace that is being deleted is gone."""
        end = time.monotonic() + _GONE_SECONDS
        while self.api.get("v1", "Namespace", namespace) and time.monotonic() < end:
            time.sleep(0.1)

    def break_image(self, image: str, kind: str, log: Sequence[str] = ()) -> None:
        """See `Stage`."""
        faults.break_image(self.api, image, kind, log=log)

    def mend_image(self, image: str) -> None:
        """See `Stage`."""
        faults.mend_image(self.api, image)

    @contextlib.contextmanager
    def pause_controller(self) -> Iterator[None]:
        """See `Stage`."""
        number = self._pid("argocd-application-controller")
        os.kill(number, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(number, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """End one of the lab's processes without a word."""
        os.kill(self._pid(name), signal.SIGKILL)
        while processes.pid(self.lab, name):
            time.sleep(0.02)

    def revive(self) -> None:
        """Start what was killed."""
        processes.up(self.lab, services.everything(self.lab), Silent())

    @property
    def is_lab(self) -> bool:
        """Whether its processes and pods are ours to break."""
        return self._lab is not None

    @property
    def lab(self) -> state.Lab:
        """The lab. Raises UsageError for another cluster."""
        if self._lab is None:
            raise UsageError("this cluster is not the lab", remedy='Run `eval "$(scripts/lab env)"`.')
        return self._lab

    def _pid(self, name: str) -> int:
        number = processes.pid(self.lab, name)
        if number is None:
            raise UsageError(f"{name} does not run", remedy="Run `scripts/lab up`.")
        return number
