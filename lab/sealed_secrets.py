"""The real sealed-secrets controller on a lab whose cluster has its kind and its account (`sealed-secrets/` of the
GitOps template has both). No part of `up`: what needs it starts it."""

import os
from pathlib import Path

import urllib3

from lab import processes
from lab.api import Api
from lab.build import program
from lab.components import COMPONENTS
from lab.processes import Service, answers
from lab.state import LOOPBACK, Lab
from pipeline.core.progress import Silent
from pipeline.errors import UsageError

NAME = "sealed-secrets-controller"
_NAMESPACE = "kube-system"
_MOUNT = Path("/var/run/secrets")
# The controller reads its account where a pod has it, and nowhere else: it gets that folder in a mount namespace of
# its own.
_AS_IN_A_POD = f'mount --bind "$1" {_MOUNT} && shift && exec "$@"'


def start(lab: Lab) -> None:
    """Return when it serves. Raises UsageError for anyone but root, Unreachable."""
    if os.geteuid() != 0:
        raise UsageError(f"{NAME} needs a mount namespace", remedy="Run as root.")
    account = lab.folder / NAME / "kubernetes.io" / "serviceaccount"
    account.mkdir(parents=True, exist_ok=True)
    (account / "namespace").write_text(_NAMESPACE)
    (account / "ca.crt").write_bytes((lab.folder / "ca.crt").read_bytes())
    (account / "token").write_text(Api(lab.kubeconfig).token(_NAMESPACE, NAME))
    _MOUNT.mkdir(parents=True, exist_ok=True)
    flags = (
        f"--listen-addr={LOOPBACK}:{lab.ports[NAME]}",
        f"--listen-metrics-addr={LOOPBACK}:{lab.ports[f'{NAME}-metrics']}",
    )
    inside = (str(lab.folder / NAME), str(program(COMPONENTS[NAME])), *flags)
    service = Service(
        name=NAME,
        command=("unshare", "--mount", "--propagation", "private", "sh", "-c", _AS_IN_A_POD, "sh", *inside),
        environment={
            "KUBERNETES_SERVICE_HOST": LOOPBACK,
            "KUBERNETES_SERVICE_PORT": str(lab.ports["kube-apiserver"]),
            "POD_NAMESPACE": _NAMESPACE,
        },
        ready=answers(f"{lab.url(NAME)}/healthz"),
    )
    processes.up(lab, [service], Silent())


def certificate(lab: Lab) -> bytes:
    """What secrets are sealed with, PEM: `kubeseal --cert`."""
    with urllib3.PoolManager(retries=False) as pool:
        return bytes(pool.request("GET", f"{lab.url(NAME)}/v1/cert.pem").data)
