"""A world for the command line: the sandbox, a GitOps repository and an application repository, real git throughout."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.sandbox import story, world
from pipeline.sandbox.story import Repository
from pipeline.sandbox.world import World

OURS = ("PIPELINE_", "ARGOCD_", "SLACK_", "GITHUB_", "GITOPS_", "REGISTRY_", "GIT_")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.stdout)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True)
class Scene:
    """The sandbox with its two repositories, and the environment that a CI job would have."""

    sandbox: World
    app: Repository
    gitops: Repository
    gitops_url: str
    environ: dict[str, str] = field(default_factory=dict)

    def run(
        self, *arguments: str, cwd: Path | None = None, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> Done:
        """Run `python -m pipeline` as a user would, in the application repository."""
        done = subprocess.run(
            (sys.executable, "-m", "pipeline", *arguments),
            cwd=cwd or self.app.path,
            env={**self.environ, **(environ or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "\nTraceback" not in f"\n{done.stderr}", done.stderr  # a container's log line is indented
        return Done(done.returncode, done.stdout, done.stderr)

    def overlay(self) -> str:
        """The overlay's kustomization as the GitOps branch has it now."""
        self.gitops.git("fetch", "--quiet", "origin", "main")
        return self.gitops.git("show", "FETCH_HEAD:overlays/production/kustomization.yaml")

    def log(self) -> list[str]:
        """The GitOps branch's headlines, newest first."""
        self.gitops.git("fetch", "--quiet", "origin", "main")
        return self.gitops.git("log", "--format=%s", "FETCH_HEAD").splitlines()

    def change(self, file: str = "flask/app.py", message: str = "Change") -> str:
        """Commit a change of the application and push it; the commit's hash."""
        with Path(self.app.path, file).open("a") as source:
            source.write("# more\n" if file.endswith(".py") else "// more\n")
        return self.app.commit(message)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Nothing is deployed yet; three services can be."""
    with world.start(world.Settings(pod_seconds=0.2, sync_seconds=0.1)) as sandbox:
        gitops_url, app_url = (story.served(sandbox, name) for name in ("openeg-gitops", "openeg"))
        gitops = Repository(tmp_path / "openeg-gitops", gitops_url)
        story.gitops_files(gitops.path, sandbox.registry_host)
        gitops.commit("Nothing deployed yet")
        app = Repository(tmp_path / "openeg", app_url)
        story.application_files(app.path, sandbox.registry_host, gitops_url)
        app.commit("Serve lessons")
        sandbox.add_application("openeg-system", repo_url=gitops_url, path="overlays/production")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        environ = {
            **inherited,
            **story.PAST_PROXIES,
            "HOME": str(tmp_path / "home"),
            "ARGOCD_SERVER": sandbox.argocd_url,
            "ARGOCD_AUTH_TOKEN": sandbox.token.reveal(),
            "PIPELINE_ENGINE": "sources",
            "PIPELINE_TIMEOUT": "30",
        }
        (tmp_path / "home").mkdir()
        yield Scene(sandbox, app, gitops, gitops_url, environ)
