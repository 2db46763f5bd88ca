"""One application with its two repositories, on the sandbox and on a real cluster."""

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab.stage import VARIABLES, Cluster
from pipeline.sandbox import world
from pipeline.sandbox.stage import Embedded, Stage, follows
from pipeline.sandbox.story import Repository, served
from tests import needs
from tests.cli.conftest import OURS, Done
from tests.e2e.argocd_view import look

OVERLAY = "overlays/production"

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: NAME}]
"""
KUSTOMIZATION = """\
resources: [../../base]
images:
  - name: NAME
    newName: REGISTRY/NAME
"""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An application repository, a GitOps repository that deploys it, and Argo CD's application of it."""

    stage: Stage
    name: str
    """Of the application, its namespace, its image and both repositories."""
    app: Repository
    gitops: Repository
    gitops_url: str
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Done:
        """Run `python -m pipeline` as a CI job would, in the application repository, with --json."""
        return self.ended(self.start(*arguments, cwd=cwd, environ=environ))

    def start(
        self, *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """As `run`, and go on meanwhile; `ended` waits for it."""
        return subprocess.Popen(
            (sys.executable, "-m", "pipeline", *arguments, "--json"),
            cwd=cwd or self.app.path,
            env={**self.environ, **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self, process: subprocess.Popen[str]) -> Done:
        """What a process has come to."""
        with process:
            out, err = process.communicate(timeout=180)
        assert "\nTraceback" not in f"\n{err}", err
        return Done(process.returncode, out, err)

    def change(self) -> str:
        """Commit and push a change of the application; the commit."""
        with Path(self.app.path, "app.txt").open("a") as file:
            file.write("more\n")
        return self.app.commit("Change")

    def image(self, commit: str) -> str:
        """The image of a commit."""
        return f"{self.stage.registry}/{self.name}:{commit}"

    def configure(self, message: str = "by hand", **files: str) -> str:
        """Write files of the GitOps repository (`base__deployment` is base/deployment.yaml), push; the commit."""
        self.gitops.git("pull", "--quiet", "--rebase", "origin", "main")
        for name, content in files.items():
            file = self.gitops.path / f"{name.replace('__', '/').replace('_', '-')}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content.replace("NAME", self.name).replace("REGISTRY", self.stage.registry))
        return self.gitops.commit(message)

    def until(self, seen: Callable[[dict[str, Any]], bool], path: str = "", seconds: float = 60) -> dict[str, Any]:
        """Argo CD's view of the application once it is as asked."""
        end = time.monotonic() + seconds
        while not seen(view := look(self.stage, self.name, path)):
            assert time.monotonic() < end, json.dumps(view)[-3000:]
            time.sleep(0.1)
        return view

    def pods(self) -> list[dict[str, Any]]:
        """The pods as the resource tree has them."""
        nodes = look(self.stage, self.name, "/resource-tree").get("nodes") or ()
        return [node for node in nodes if node["kind"] == "Pod"]

    def running(self) -> set[str]:
        """The images of the pods that live."""
        return {image for pod in self.pods() for image in pod.get("images") or ()}

    def spec(self, **changes: Any) -> dict[str, Any]:
        """The specification of the application; None takes a key away."""
        whole = {**follows(self.gitops_url, OVERLAY, self.name), **changes}
        return {key: value for key, value in whole.items() if value is not None}

    def only(self, done: Done) -> dict[str, Any]:
        """How the one application ended."""
        (application,) = done.json["rollout"]["applications"]
        assert isinstance(application, dict)
        return application


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both worlds in turn; the sandbox not for tests marked `real`."""
    if "stage" in metafunc.fixturenames:
        alone = metafunc.definition.get_closest_marker("real")
        metafunc.parametrize("stage", ["cluster"] if alone else ["sandbox", "cluster"], indirect=True)


@pytest.fixture
def stage(request: pytest.FixtureRequest, cluster_variables: Mapping[str, str]) -> Iterator[Stage]:
    """The world that the test plays in."""
    marked = request.node.get_closest_marker
    if request.param == "sandbox":
        with world.start(world.Settings(pod_seconds=0.4, sync_seconds=0.2)) as sandbox:
            yield Embedded(sandbox)
        return
    if missing := [name for name in VARIABLES if name not in cluster_variables]:
        needs.missing(f'no cluster is named: {", ".join(missing)}; `eval "$(scripts/lab env)"` names the lab')
    cluster = Cluster(cluster_variables)
    if marked("lab") and not cluster.is_lab:
        needs.missing("this cluster is not the lab, which can be broken")
    with (Path(cluster_variables["E2E_GIT_ROOT"]) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if marked("alone") else fcntl.LOCK_SH)
        try:
            yield cluster
        finally:
            if marked("alone"):
                cluster.revive()


@pytest.fixture
def cluster(stage: Stage) -> Cluster:
    """The real cluster, for tests that it alone can have."""
    assert isinstance(stage, Cluster), "mark the test as `real`"
    return stage


@pytest.fixture
def scene(stage: Stage, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Nothing is deployed yet, and Argo CD has no application."""
    word = re.sub(r"[^a-z]+", "-", request.node.originalname.removeprefix("test_"))[:24].strip("-")
    name = f"{word}-{uuid.uuid4().hex[:6]}"
    gitops_url, app_url = served(stage, f"{name}-gitops"), served(stage, name)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
    scene = Scene(
        stage=stage,
        name=name,
        app=Repository(tmp_path / "app", app_url),
        gitops=Repository(tmp_path / "gitops", gitops_url),
        gitops_url=gitops_url,
        environ={
            **inherited,
            "HOME": str(tmp_path),
            "ARGOCD_SERVER": stage.argocd,
            "ARGOCD_AUTH_TOKEN": stage.token,
            "PIPELINE_ENGINE": os.environ.get("E2E_ENGINE", "sources"),
            "PIPELINE_TIMEOUT": "90",
        },
    )
    (scene.app.path / "app.txt").write_text("hello\n")
    base = os.environ.get("E2E_BASE", "scratch")  # pods of a cluster that really runs them need one that runs
    (scene.app.path / "Dockerfile").write_text(
        f"FROM {base}\nCOPY app.txt /\nCMD ['sleep', '100000']\n".replace("'", '"')
    )
    service = f"services: {{web: {{image: {name}, context: .}}}}"
    deploy = f"version: 1\nregistry: {stage.registry}\ngitops: {{url: {gitops_url!r}}}\n{service}\n"
    (scene.app.path / "deploy.yaml").write_text(deploy)
    scene.app.commit("Begin")
    environments = "environments: {production: {argocd: {applications: [NAME]}}}\n"
    (scene.gitops.path / "base").mkdir()
    (scene.gitops.path / "README.md").write_text("GitOps\n")
    scene.gitops.commit("Begin")
    scene.configure(
        **{".deploy__config": environments},
        base__deployment=DEPLOYMENT,
        base__kustomization="resources: [deployment.yaml]\n",
        overlays__production__kustomization=KUSTOMIZATION,
    )
    yield scene
    with contextlib.suppress(AssertionError):
        stage.remove_application(name)


@pytest.fixture
def deployed(scene: Scene) -> Scene:
    """The first commit is deployed and healthy."""
    scene.stage.add_application(scene.name, scene.spec())
    done = scene.run("deploy")
    assert done.code == 0, done.stderr
    return scene
