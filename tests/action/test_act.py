"""Workflows run by act, as plain processes on this machine: the self-test, and every example of the how-to guides."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pipeline.sandbox import story
from pipeline.sandbox.github_apps import App
from tests import needs
from tests.action.examples import EXAMPLES, ROOT
from tests.cli.conftest import Scene, scene

__all__ = ["scene"]

FAILING = {"Deploy it", "A tag that can move", "Text that would be code elsewhere"}
OTHERS = ("openegnode", "openegwebhook")


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner's tool cache, which stays from job to job."""
    return tmp_path_factory.mktemp("tools")


def act(
    repository: Path, workflow: str, folder: Path, tools: Path, *more: str, environ: Mapping[str, str] = os.environ
) -> str:
    """Run a workflow as if `repository` had been pushed; its log."""
    environ = {
        **environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # uv is there
        "HOME": str(folder / "home"),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(Path("~/.cache/uv").expanduser()),
    }
    (folder / "home").mkdir(exist_ok=True)
    command = (
        *(needs.program("act"), "push", "--workflows", f".github/workflows/{workflow}"),
        *("--platform", "ubuntu-24.04=-self-hosted", "--no-cache-server", "--action-cache-path", str(folder / "act")),
        *("--concurrent-jobs", "1"),  # act gives jobs of one name one folder
        *("--env", f"RUNNER_TOOL_CACHE={tools}", *more),
    )
    done = subprocess.run(command, cwd=repository, env=environ, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return done.stdout


def test_the_self_test_passes_with_its_successes_and_its_failures(tmp_path: Path, tools: Path) -> None:
    log = act(ROOT, "selftest.yml", tmp_path, tools, "--matrix", "os:ubuntu-24.04")
    text = (ROOT / ".github/workflows/selftest.yml").read_text()
    for name in re.findall(r"(?m)^      - name: (.*)", text):
        ended = "❌  Failure" if name in FAILING else "✅  Success"
        shown = re.escape(name).replace(
            "sandbox", r"(sandbox|\*\*\*)"
        )  # a token of the sandbox has its name, and is masked
        assert re.search(f"{ended} - Main {shown} ", log), name
    assert re.search(r"::error title=deploy%3A RolloutFailed::openeg-system: CrashLoopBackOff.*no such table", log)
    assert "::notice title=overlays/production/kustomization.yaml%3A14::openegflask none → " in log
    assert "::set-output:: outcome=forged" not in log


def populate(scene: Scene, environments: Iterable[str]) -> None:
    """Have the system run at the first commit, there being a second one to deploy."""
    host = scene.sandbox.registry_host
    for name in ("staging", "dev"):
        file = scene.gitops.path / f"overlays/{name}/kustomization.yaml"
        lines = file.read_text().replace(story.REGISTRY, host).splitlines(keepends=True)
        file.write_text("".join(line for line in lines if "newTag:" not in line and ".sealed.yaml" not in line))
    scene.gitops.commit("Three environments of this registry")
    for name in ("staging", "dev"):
        scene.sandbox.add_application(f"openeg-{name}", repo_url=scene.gitops_url, path=f"overlays/{name}")
    for name in environments:
        done = scene.run("deploy", "--env", name)
        assert done.code == 0, done.stderr
    scene.change()


SOURCES = ("--env", "PIPELINE_ENGINE=sources")


@pytest.mark.docker
def test_one_step_builds_a_real_image_and_deploys_it(scene: Scene, tmp_path: Path, tools: Path) -> None:
    engine = ("--env", "PIPELINE_ENGINE=docker")
    deploy_by("one-service", scene, tmp_path, tools, {"production": {"openegflask"}}, *engine)
    image = f"{scene.sandbox.registry_host}/openegflask:{scene.app.git('rev-parse', 'HEAD')}"
    assert subprocess.run(("docker", "image", "rm", image), capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("name", "deployed"),
    [
        ("one-service", {"production": {"openegflask"}}),
        ("three-services-and-only-what-changed", {"production": {"openegflask"}}),
        (
            "several-environments-one-after-the-other",
            {name: {"openegflask", *OTHERS} for name in ("dev", "staging", "production")},
        ),
        ("steps-in-jobs-of-their-own", {"production": {"openegflask"}}),
    ],
)
def test_an_example_deploys_what_it_says(
    scene: Scene, tmp_path: Path, tools: Path, name: str, deployed: Mapping[str, set[str]]
) -> None:
    # act keeps the outputs of one job of a matrix, whichever ends first, so only one is run of the last example. GitHub
    # keeps all: the self-test fans two results in.
    one = ("--matrix", "service:flask") if name == "steps-in-jobs-of-their-own" else ()
    deploy_by(name, scene, tmp_path, tools, deployed, *SOURCES, *one)


def deploy_by(
    name: str, scene: Scene, tmp_path: Path, tools: Path, deployed: Mapping[str, set[str]], *more: str
) -> str:
    """Push a commit to an application that has an example's workflow; just what is named is deployed then. The log."""
    populate(scene, deployed)
    before, commit = scene.app.git("rev-parse", "HEAD~", "HEAD").split()
    workflows = scene.app.path / ".github/workflows"
    workflows.mkdir(parents=True)
    text = EXAMPLES[name].replace("https://github.com/openeg/openeg-gitops.git", scene.gitops_url)
    api = f"github-api-url: {scene.sandbox.github_url}\n          github-app-id:"
    (workflows / "deploy.yml").write_text(text.replace("github-app-id:", api).replace("workflow_dispatch", "push"))
    with (scene.app.path / ".git/info/exclude").open("a") as exclude:
        exclude.write(".github\n")
    event = tmp_path / "event.json"
    event.write_text(f'{{"before": "{before}"}}')
    action = tmp_path / "action"
    ours = shutil.ignore_patterns(".git", ".venv", "tests", "lab", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, action, ignore=ours)
    log = act(
        scene.app.path,
        "deploy.yml",
        tmp_path,
        tools,
        *("--local-repository", f"openeg/deploy@v1={action}", "--eventpath", str(event)),
        *("--var", f"ARGOCD_SERVER={scene.environ['ARGOCD_SERVER']}"),
        *("--secret", f"ARGOCD_AUTH_TOKEN={scene.environ['ARGOCD_AUTH_TOKEN']}", "--secret", "GITOPS_TOKEN=a-token"),
        *("--env", "PIPELINE_TIMEOUT=60", *more),
        *("--env", "PIPELINE_CONTEXT=flask"),  # where the application that is there has its Dockerfile
        environ=scene.environ,
    )
    scene.gitops.git("fetch", "--quiet", "origin", "main")
    for environment, images in deployed.items():
        text = scene.gitops.git("show", f"FETCH_HEAD:overlays/{environment}/kustomization.yaml")
        assert set(re.findall(rf"- name: (\S+)\n.*\n +newTag: {commit}", text)) == images
    assert scene.environ["ARGOCD_AUTH_TOKEN"] not in log
    assert "a-token" not in log
    return log


def test_the_example_of_the_github_app_deploys_as_the_app(scene: Scene, tmp_path: Path, tools: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode().strip()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    apps = scene.sandbox.github.apps
    permissions, repositories = {"contents": "write"}, {"openeg-gitops", "openeg"}
    apps.registered.append(App(id=4711, public_key=public, permissions=permissions, repositories=repositories))
    secret = ("--var", "DEPLOY_APP_ID=4711", "--secret", "DEPLOY_APP_PRIVATE_KEY=" + pem.replace("\n", "\\n"))
    deploy_by("deploy-as-the-app", scene, tmp_path, tools, {"production": {"openegflask", *OTHERS}}, *SOURCES, *secret)
    assert apps.tokens, "it was the App that deployed"
    last = scene.gitops.git("log", "-1", "--format=%cn", "FETCH_HEAD")
    assert last == "GitHub", "through the API"


def test_the_example_of_check_finds_nothing_missing(scene: Scene, tmp_path: Path, tools: Path) -> None:
    log = deploy_by("check-in-a-workflow", scene, tmp_path, tools, {}, *SOURCES)
    assert "Nothing is missing" in log
