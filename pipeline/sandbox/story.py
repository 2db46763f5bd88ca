"""The two repositories that the demo works on: an application's and a GitOps one, made from what ships with us."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from pipeline.resources import folder

REGISTRY = "registry.oud.kr"
PAST_PROXIES = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
"""Environment for whoever talks to the sandbox: git and Slack's client would ask a proxy for this machine too."""
_CLEAN = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", **PAST_PROXIES}


class GitHost(Protocol):
    """Where bare repositories lie, and where they are served."""

    git_root: Path
    git_url: str


def served(host: GitHost, name: str) -> str:
    """The URL of a new empty repository."""
    folder = host.git_root / f"{name}.git"
    subprocess.run(("git", "init", "--quiet", "--bare", "--initial-branch=main", str(folder)), check=True)
    return f"{host.git_url}/{name}.git"


class Repository:
    """A work tree with an origin, driven by real git."""

    def __init__(self, path: Path, origin: str) -> None:
        """`origin` is the URL to push to. The user's own git configuration plays no part."""
        self.path = path
        self._environ = {**os.environ, **_CLEAN}
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "A Developer")
        self.git("config", "user.email", "developer@example.com")
        self.git("remote", "add", "origin", origin)

    def git(self, *arguments: str) -> str:
        """Run git here and return what it printed; raises CalledProcessError."""
        done = subprocess.run(
            ("git", *arguments), cwd=self.path, env=self._environ, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commit everything, push it, and return the commit's hash."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")


def gitops_files(target: Path, registry: str) -> None:
    """The GitOps template, for `registry`, with nothing deployed yet.

    A story has the system alone: no controller that unseals, and no Argo CD project beside `default`.
    """
    shutil.copytree(folder("gitops-repo-template"), target, dirs_exist_ok=True)
    overlay, config = target / "overlays/production/kustomization.yaml", target / ".deploy/config.yaml"
    lines = overlay.read_text().splitlines(keepends=True)
    kept = "".join(line for line in lines if "newTag:" not in line and ".sealed.yaml" not in line)
    overlay.write_text(kept.replace(REGISTRY, registry))
    config.write_text(config.read_text().replace("project: openeg", "project: default"))


def application_files(target: Path, registry: str, gitops_url: str) -> None:
    """The sample applications with a deploy.yaml that names `registry` and the GitOps repository.

    Their Dockerfiles end after the first stage, the sources alone: that needs neither a network nor time.
    """
    shutil.copytree(folder("sample-apps"), target, dirs_exist_ok=True)
    for dockerfile in target.glob("*/Dockerfile"):
        sources, _, _ = dockerfile.read_text().partition("\nFROM docker.io/")
        dockerfile.write_text(sources)
    config = target / "deploy.yaml"
    text = config.read_text().replace(f"registry: {REGISTRY}", f"registry: {registry}")
    config.write_text(text.replace("https://github.com/openeg/openeg-gitops.git", gitops_url))
