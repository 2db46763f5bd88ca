"""Workflows run by act, as plain processes on this machine: the self-test, and every example of the how-to guides."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pipeline.sandbox import story
from pipeline.sandbox.github_apps import App
from pipeline.sandbox.github_records import PullRequest
from pipeline.sandbox.world import GITHUB_TOKEN
from tests import git_world, needs
from tests.action.examples import EXAMPLES, ROOT
from tests.cli.conftest import Scene, scene
from tests.cli.test_comment import PERSON, Review, review

__all__ = ["review", "scene"]

FAILING = {"Deploy it", "A tag that can move", "Text that would be code elsewhere"}
OTHERS = ("openegnode", "openegwebhook")


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner's tool cache, which stays from job to job."""
    return tmp_path_factory.mktemp("tools")


def act(
    repository: Path,
    workflow: str,
    folder: Path,
    tools: Path,
    *more: str,
    event: str = "push",
    environ: Mapping[str, str] = os.environ,
) -> str:
    """Run a workflow for an event of `repository`; its log."""
    environ = {
        **environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # uv is there
        "HOME": str(folder / "home"),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(Path("~/.cache/uv").expanduser()),
    }
    (folder / "home").mkdir(exist_ok=True)
    command = (
        *(needs.program("act"), event, "--workflows", f".github/workflows/{workflow}"),
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


def test_the_example_of_a_release_tags_what_it_has_deployed(scene: Scene, tmp_path: Path, tools: Path) -> None:
    token = GITHUB_TOKEN.reveal()
    github = ("--env", f"GITHUB_API_URL={scene.sandbox.github_url}", "--secret", f"GITHUB_TOKEN={token}")
    deployed = {"production": {"openegflask", *OTHERS}}
    name = "release-after-each-deployment"
    deploy_by(name, scene, tmp_path, tools, deployed, *SOURCES, *github, gitops_token=token)
    commit = scene.app.git("rev-parse", "HEAD")
    tagged = git_world.git(scene.sandbox.git_root / "openeg.git", "rev-parse", "v0.1.0^{commit}")
    assert tagged == commit
    hosted = scene.sandbox.github.find("git", "openeg")
    assert hosted
    assert [release["tag_name"] for release in hosted.state.releases.values()] == ["v0.1.0"]
    shown = [(kept.shown["sha"], kept.statuses[-1]["state"]) for kept in hosted.state.deployments.values()]
    assert shown == [(commit, "success")]


def ours(tmp_path: Path) -> Path:
    """A copy of the action, without what no action has."""
    ignored = shutil.ignore_patterns(".git", ".venv", "tests", "lab", "__pycache__", ".*_cache", ".hypothesis")
    return shutil.copytree(ROOT, tmp_path / "action", ignore=ignored)


CHECKOUT = """\
runs:
  using: composite
  steps:
    - shell: bash
      env:
        REF: ${{ inputs.ref }}
      run: git clone --quiet --branch "$REF" "$ORIGIN" .
inputs:
  ref: {}
"""
"""Stands in for GitHub's own, which act passes over only where no `ref` is given."""


def act_on_github(review: Review, name: str, tmp_path: Path, tools: Path, *more: str, event: str) -> str:
    """Run an example in the application's repository on the sandbox's GitHub; the log."""
    scene = review.scene
    workflows = scene.app.path / ".github/workflows"
    workflows.mkdir(parents=True)
    (workflows / "example.yml").write_text(EXAMPLES[name])
    with (scene.app.path / ".git/info/exclude").open("a") as exclude:
        exclude.write(".github\n")
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout/action.yml").write_text(CHECKOUT)
    (checkout,) = set(re.findall(r"actions/checkout@\w+", (ROOT / ".github/workflows/pr-bot.yml").read_text()))
    token = GITHUB_TOKEN.reveal()
    log = act(
        scene.app.path,
        "example.yml",
        tmp_path,
        tools,
        *("--local-repository", f"openeg/deploy@v1={ours(tmp_path)}"),
        *("--local-repository", f"{checkout}={tmp_path / 'checkout'}"),
        *("--var", f"ARGOCD_SERVER={scene.environ['ARGOCD_SERVER']}"),
        *("--secret", f"ARGOCD_AUTH_TOKEN={scene.environ['ARGOCD_AUTH_TOKEN']}"),
        *("--secret", f"GITOPS_TOKEN={token}", "--secret", f"GITHUB_TOKEN={token}"),
        *("--env", "GITHUB_REPOSITORY=git/openeg", "--env", f"GITHUB_API_URL={scene.sandbox.github_url}"),
        *("--env", f"ORIGIN={scene.sandbox.git_url}/openeg.git", "--env", "PIPELINE_TIMEOUT=60", *SOURCES, *more),
        event=event,
        environ=scene.environ,
    )
    assert token not in log
    return log


def test_a_comment_on_a_pull_request_deploys_it(review: Review, tmp_path: Path, tools: Path) -> None:
    environ = review.event(f"Try it:\r\n/deploy staging {review.commit}", repository={"default_branch": "main"})
    said = max(review.state.comments)
    more = ("--eventpath", environ["GITHUB_EVENT_PATH"], "--actor", PERSON)
    log = act_on_github(review, "the-pr-bot", tmp_path, tools, *more, event="issue_comment")
    assert [item.content for item in review.state.comments[said].reactions] == ["eyes", "rocket"], log
    assert (review.runs("staging"), review.runs("production")) == ({review.commit}, {review.base})
    assert "Deployment of openegflask, openegnode, openegwebhook to staging succeeded" in review.sticky


def test_a_pull_request_is_told_where_it_runs_when_it_is_opened(review: Review, tmp_path: Path, tools: Path) -> None:
    pull = {"number": 1, "base": {"sha": "main"}, "head": {"repo": {"full_name": "git/openeg"}}}
    environ = review.environ("pull_request", {"action": "opened", "number": 1, "pull_request": pull})
    more = ("--eventpath", environ["GITHUB_EVENT_PATH"])
    act_on_github(review, "the-pr-bot", tmp_path, tools, *more, event="pull_request")
    assert f"/deploy staging {review.commit}" in review.sticky


def test_the_pull_request_that_brought_a_commit_is_told_of_its_deployment(
    review: Review, tmp_path: Path, tools: Path
) -> None:
    act_on_github(review, "after-a-deployment", tmp_path, tools, event="push")
    assert review.runs("production") == {review.commit}
    assert "Deployment of flask, node, webhook to production succeeded" in review.sticky


def deploy_by(
    name: str,
    scene: Scene,
    tmp_path: Path,
    tools: Path,
    deployed: Mapping[str, set[str]],
    *more: str,
    gitops_token: str = "a-token",
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
    action = ours(tmp_path)
    log = act(
        scene.app.path,
        "deploy.yml",
        tmp_path,
        tools,
        *("--local-repository", f"openeg/deploy@v1={action}", "--eventpath", str(event)),
        *("--var", f"ARGOCD_SERVER={scene.environ['ARGOCD_SERVER']}"),
        *(
            "--secret",
            f"ARGOCD_AUTH_TOKEN={scene.environ['ARGOCD_AUTH_TOKEN']}",
            "--secret",
            f"GITOPS_TOKEN={gitops_token}",
        ),
        *("--env", "PIPELINE_TIMEOUT=60", *more),
        *("--env", "PIPELINE_CONTEXT=flask"),  # where the application that is there has its Dockerfile
        environ=scene.environ,
    )
    scene.gitops.git("fetch", "--quiet", "origin", "main")
    for environment, images in deployed.items():
        text = scene.gitops.git("show", f"FETCH_HEAD:overlays/{environment}/kustomization.yaml")
        assert set(re.findall(rf"- name: (\S+)\n.*\n +newTag: {commit}", text)) == images
    assert scene.environ["ARGOCD_AUTH_TOKEN"] not in log
    assert gitops_token not in log
    return log


def test_the_example_of_a_pull_request_goes_on_when_it_is_approved(scene: Scene, tmp_path: Path, tools: Path) -> None:
    github = scene.sandbox.github
    github.rules.protected.add("main")
    github.rules.approvals = 1
    github.rules.settings["allow_auto_merge"] = True
    github.rules.teams.add("operators")
    pulls: dict[int, PullRequest] = {}
    ended = threading.Event()

    def review_it() -> None:
        while not ended.wait(0.2):
            hosted = github.find("git", "openeg-gitops")
            pulls.update(hosted.state.pulls if hosted else {})
            said = [str(item.sent) for item in github.exchanges]
            left_to_github = next(
                (at for at, text in enumerate(said) if "enablePullRequestAutoMerge" in text), len(said)
            )
            looks = [item for item in github.exchanges[left_to_github:] if item.path.endswith("/pulls/1")]
            if len(looks) > 1:  # the first job's last, and the second job's first
                pulls[1].approvals.add("octocat")

    token = GITHUB_TOKEN.reveal()
    reviewing = threading.Thread(target=review_it)
    reviewing.start()
    try:
        api, deployed = (
            ("--env", f"GITHUB_API_URL={scene.sandbox.github_url}"),
            {"production": {"openegflask", *OTHERS}},
        )
        name = "in-a-workflow-with-approval"
        log = deploy_by(name, scene, tmp_path, tools, deployed, *SOURCES, *api, gitops_token=token)
    finally:
        ended.set()
        reviewing.join()
    (pull,) = pulls.values()
    assert (pull.merged, pull.teams, pull.labels) == (True, ["operators"], ["deployment"])
    assert "Waiting for the merge of pull request #1" in log
    assert scene.gitops.git("log", "-1", "--format=%H", "FETCH_HEAD") == pull.merge_commit


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
