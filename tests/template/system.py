"""The GitOps template in a lab of its own, brought up as its README says: init, seal, push, apply the root."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lab import sealed_secrets
from lab.api import Api
from lab.build import program
from lab.components import COMPONENTS
from lab.state import Lab

TEMPLATE = Path(__file__).resolve().parents[2] / "gitops-repo-template"
ARGOCD = "argoproj.io/v1alpha1"
WHOLE_SECONDS = 120.0
"""How long the tree may take from the root's first sight to Synced and Healthy everywhere."""

Object = dict[str, Any]


def tool(name: str) -> str:
    """A program of the lab."""
    return str(program(COMPONENTS[name]))


def documents(text: str) -> list[Object]:
    """What is in a YAML text."""
    return [document for document in YAML(typ="safe").load_all(text) if document]


def built(folder: Path) -> list[Object]:
    """What kustomize makes of a folder; it must do so without a word."""
    done = subprocess.run((tool("kustomize"), "build", str(folder)), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"{folder}: {done.stderr}"
    return documents(done.stdout)


@dataclass(frozen=True, kw_only=True)
class System:
    """A work tree of the repository that the lab's Argo CD follows."""

    lab: Lab
    api: Api
    folder: Path

    @property
    def url(self) -> str:
        """Where the repository is served."""
        return f"{self.lab.url('git')}/openeg-gitops.git"

    def git(self, *arguments: str) -> str:
        """Run git in the work tree."""
        who = ("-c", "user.name=A Person", "-c", "user.email=person@example.com")
        return subprocess.run(
            ("git", *who, *arguments), cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def push(self, message: str) -> str:
        """Commit all and push; lets Argo CD look at once. The commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", self.url, "HEAD:main")
        self.refresh()
        return self.git("rev-parse", "HEAD")

    def refresh(self) -> None:
        """Let Argo CD compare every Application now."""
        now = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
        for name in self.states():
            self.api.merge(ARGOCD, "Application", name, now, "argocd")

    def pull(self) -> None:
        """Have what others have pushed."""
        self.git("pull", "--quiet", self.url, "main")

    def applications(self) -> dict[str, Object]:
        """All Applications by name."""
        return {item["metadata"]["name"]: dict(item) for item in self.api.list(ARGOCD, "Application", "argocd")}

    def states(self) -> dict[str, str]:
        """`Synced, Healthy` or what else is so, by Application."""
        return {name: _state(item) for name, item in self.applications().items()}

    def trouble(self) -> str:
        """Everything that is not as it should be, for a failed test's message."""
        return json.dumps(
            {
                name: {
                    "state": _state(item),
                    "conditions": item.get("status", {}).get("conditions"),
                    "operation": (item.get("status", {}).get("operationState") or {}).get("message"),
                    "resources": [
                        entry
                        for entry in item.get("status", {}).get("resources") or ()
                        if entry.get("status") != "Synced"
                        or (entry.get("health") or {}).get("status", "Healthy") != "Healthy"
                    ],
                }
                for name, item in self.applications().items()
                if _state(item) != WELL
            },
            indent=1,
        )

    def well(self, seconds: float) -> float:
        """Wait until all Applications of the template are Synced and Healthy; how long that took."""
        names = {path.stem for path in (TEMPLATE / "argocd/applications").glob("*.yaml")}
        names = names - {"kustomization", "projects"} | {"openeg"}
        return self.until(lambda: self.states() == dict.fromkeys(names, WELL), seconds)

    def until(self, done: Callable[[], bool], seconds: float = 60) -> float:
        """Wait for something; how long that took."""
        began = time.monotonic()
        while not done():
            assert time.monotonic() < began + seconds, self.trouble()
            time.sleep(0.2)
        return time.monotonic() - began


WELL = "Synced, Healthy"


def _state(application: Object) -> str:
    status = application.get("status") or {}
    return f"{status.get('sync', {}).get('status')}, {status.get('health', {}).get('status')}"


def plain(name: str, key: str) -> str:
    """What a test seals in place of a secret."""
    if key == ".dockerconfigjson":
        auth = base64.b64encode(b"robot:only a test").decode()
        return json.dumps({"auths": {"registry.oud.kr": {"auth": auth}}})
    return f"the {key} of {name}"


def sealed_files(folder: Path) -> Iterator[tuple[Path, Object]]:
    """Every sealed secret of a repository."""
    for file in sorted(folder.rglob("*.sealed.yaml")):
        yield file, documents(file.read_text())[0]


def seal_anew(folder: Path, certificate: Path) -> None:
    """Seal every placeholder for another controller, as the README says: through kubeseal."""
    for file, sealed in sealed_files(folder):
        template = sealed["spec"]["template"]
        name = template["metadata"]["name"]
        values = {key: plain(name, key) for key in sealed["spec"]["encryptedData"]}
        secret = {"apiVersion": "v1", "kind": "Secret", **template, "stringData": values}
        command = (tool("kubeseal"), "--cert", str(certificate), "-o", "yaml")
        done = subprocess.run(command, input=json.dumps(secret), capture_output=True, text=True, check=True)
        file.write_text(done.stdout)


def bring_up(lab: Lab, folder: Path) -> System:
    """Everything up to the root, which is the caller's to apply."""
    system = System(lab=lab, api=Api(lab.kubeconfig), folder=folder)
    made = (sys.executable, "-m", "pipeline", "init", str(folder), "--gitops", system.url)
    subprocess.run(made, check=True, capture_output=True)
    controller = built(folder / "sealed-secrets")
    system.api.apply([item for item in controller if item["kind"] == "CustomResourceDefinition"])
    system.api.apply([item for item in controller if item["kind"] != "CustomResourceDefinition"])
    sealed_secrets.start(lab)
    certificate = folder.with_name("cert.pem")
    certificate.write_bytes(sealed_secrets.certificate(lab))
    seal_anew(folder, certificate)
    bare = lab.git_root / "openeg-gitops.git"
    subprocess.run(("git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)), check=True)
    system.git("add", "--all")
    system.git("commit", "--quiet", "--message", "Seal our secrets")
    system.git("push", "--quiet", system.url, "main")
    settings = (item for item in built(folder / "argocd/config") if item["metadata"]["name"] == "argocd-cm")
    system.api.apply(settings, manager="openeg")
    return system
