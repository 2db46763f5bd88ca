"""What a lab's API server holds once it is up: fake nodes, a storage class, Argo CD with its settings and accounts."""

import base64
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
from ruamel.yaml import YAML

from lab import faults
from lab.api import Api, Object
from lab.build import kept, program
from lab.components import COMPONENTS
from lab.state import Lab
from pipeline.core.progress import Progress
from pipeline.errors import Unreachable

ACCOUNTS = {
    "ci": (
        "applications, get, */*",
        "applications, sync, */*",
        "applications, action/apps/Deployment/restart, */*",
        "logs, get, */*",
        "projects, get, *",
    ),
    "stranger": (),
}
"""Argo CD's accounts, and what each may do: `ci` all that a deployment needs, `stranger` nothing."""

_NAMESPACE = "argocd"
_PART = {"app.kubernetes.io/part-of": "argocd"}


def route(lab: Lab, progress: Progress) -> None:
    """Let this machine answer for the addresses of fake pods and Services: a connection is refused at once, or taken by
    a process that listens there, where it would else wait for ever."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        progress.say("Not root: the addresses of fake pods and Services lead nowhere, and webhooks at them may hang")
        return
    for network in (lab.pods, lab.services):
        subprocess.run(("ip", "route", "replace", "local", network, "dev", "lo"), check=True)


def unroute(lab: Lab) -> None:
    """Take back what `route` did."""
    if os.geteuid() == 0 and shutil.which("ip"):
        for network in (lab.pods, lab.services):
            subprocess.run(("ip", "route", "del", "local", network, "dev", "lo"), capture_output=True, check=False)


def furnish(lab: Lab) -> None:
    """Everything that must be there before kwok and Argo CD start."""
    api = Api(lab.kubeconfig)
    definitions = [_read(kept(COMPONENTS["kwok"], name)) for name in COMPONENTS["kwok"].kept]
    definitions += [_read(kept(COMPONENTS["argocd"], name)) for name in COMPONENTS["argocd"].kept]
    api.apply(definitions)
    _until(lambda: all(_established(api, item) for item in definitions), "the custom resource definitions")
    api.apply([*faults.healthy(), *_nodes(), _storage()])
    api.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}])
    api.apply(_settings())
    if api.get("v1", "Secret", "argocd-secret", _NAMESPACE) is None:
        api.apply([_secret(lab)])


def await_nodes(lab: Lab) -> None:
    """Return when pods can be scheduled and namespaces have their service account."""
    api = Api(lab.kubeconfig)

    def ready(node: Object) -> bool:
        conditions = node.get("status", {}).get("conditions") or ()
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    _until(lambda: all(map(ready, api.list("v1", "Node"))), "the nodes")


def give_tokens(lab: Lab) -> None:
    """An API token of each account in a file of the lab; those that are there stay."""
    missing = [name for name in ACCOUNTS if not (lab.folder / f"{name}.token").exists()]
    if not missing:
        return
    url = lab.url("argocd-server")
    with urllib3.PoolManager(retries=False) as pool:

        def post(path: str, body: object, token: str | None = None) -> str:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = pool.request("POST", f"{url}/api/v1/{path}", json=body, headers=headers)
            if answer.status != 200:
                raise Unreachable(f"Argo CD at {url} answers {answer.status}: {answer.data[:200]!r}")
            return str(answer.json()["token"])

        session = post("session", {"username": "admin", "password": lab.password})
        for name in missing:
            token = post(f"account/{name}/token", {"expiresIn": 0}, session)
            file = lab.folder / f"{name}.token"
            file.touch(mode=0o600)
            file.write_text(token)


def stand_in(api: Api, namespace: str, name: str, port: int) -> str:
    """A Service whose requests a process of this machine answers, once it listens at the address that comes back.

    The API server's proxy goes only to addresses of pods: a fake pod lends its own, and this machine answers for it
    (see `route`).
    """
    labels = {"app.kubernetes.io/name": name}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    container = {"name": "stand-in", "image": "registry.example/stand-in"}
    api.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"selector": labels, "ports": [{"port": port}]},
            },
        ]
    )
    address = ""

    def addressed() -> bool:
        nonlocal address
        pod = api.get("v1", "Pod", name, namespace) or {}
        address = pod.get("status", {}).get("podIP") or ""
        endpoints = api.get("v1", "Endpoints", name, namespace) or {}
        return bool(address and endpoints.get("subsets"))

    _until(addressed, f"the Service {namespace}/{name}")
    return address


def _read(file: Path) -> Object:
    document: Object = YAML(typ="safe").load(file)
    return document


def _established(api: Api, definition: Object) -> bool:
    found: Any = api.get(definition["apiVersion"], definition["kind"], definition["metadata"]["name"])
    conditions = found.get("status", {}).get("conditions") or () if found else ()
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


def _until(done: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise Unreachable(f"{what} did not become ready", remedy="Read the logs: `scripts/lab logs NAME`.")
        time.sleep(0.05)


def _nodes() -> Iterator[Object]:
    """A worker, and a control plane that takes no ordinary pods."""
    worker = {"kubernetes.io/hostname": "worker", "kubernetes.io/os": "linux"}
    yield {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker", "labels": worker}}
    plane = worker | {"kubernetes.io/hostname": "control-plane", "node-role.kubernetes.io/control-plane": ""}
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    metadata = {"name": "control-plane", "labels": plane}
    yield {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [taint]}}


def _storage() -> Object:
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": default},
        "provisioner": "kubernetes.io/host-path",
    }


def _settings() -> Iterator[Object]:
    """Argo CD's ConfigMaps, at their defaults but for the accounts."""
    rights = [f"p, role:{name}, {right}, allow" for name, rights in ACCOUNTS.items() for right in rights]
    roles = [f"g, {name}, role:{name}" for name in ACCOUNTS]
    data = {
        "argocd-cm": {f"accounts.{name}": "apiKey" for name in ACCOUNTS},
        "argocd-rbac-cm": {"policy.csv": "\n".join((*rights, *roles))},
        "argocd-cmd-params-cm": {},
        "argocd-tls-certs-cm": {},
        "argocd-ssh-known-hosts-cm": {},
        "argocd-gpg-keys-cm": {},
        "argocd-notifications-cm": {},
    }
    for name, values in data.items():
        metadata = {"name": name, "namespace": _NAMESPACE, "labels": _PART}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": values}
    metadata = {"name": "argocd-notifications-secret", "namespace": _NAMESPACE, "labels": _PART}
    yield {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


def _secret(lab: Lab) -> Object:
    command = (str(program(COMPONENTS["argocd"])), "account", "bcrypt", "--password", lab.password)
    hashed = subprocess.run(command, capture_output=True, check=True).stdout.strip()
    values = {
        "admin.password": hashed,
        "admin.passwordMtime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode(),
        "server.secretkey": secrets.token_urlsafe(32).encode(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "argocd-secret", "namespace": _NAMESPACE, "labels": _PART},
        "data": {key: base64.b64encode(value).decode() for key, value in values.items()},
    }
