"""The template's workflows: the rules that make them safe, and their scripts, run as the runner runs them."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import __version__
from pipeline.resources import folder
from pipeline.sandbox import story
from tests import needs
from tests.action.runner import Runner
from tests.cli.conftest import Scene, scene
from tests.git_world import QUIET, git

__all__ = ["scene"]

TEMPLATE = folder("gitops-repo-template")
WORKFLOWS = sorted((TEMPLATE / ".github/workflows").iterdir())
OURS = f"openeg/deploy@v{__version__}"
IDENTIFIED = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def workflow(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(path))


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in workflow(path)["jobs"].values():
        yield from job["steps"]


def named(file: str, name: str) -> dict[str, Any]:
    """The one step of that name."""
    (found,) = (step for step in steps(TEMPLATE / ".github/workflows" / file) if step.get("name") == name)
    return found


def ours(path: Path) -> dict[str, Any]:
    """The one step that runs the pipeline."""
    (found,) = (step for step in steps(path) if step.get("uses", "").startswith("openeg/"))
    return found


def run(script: str, cwd: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a step's script as the runner does for `shell: bash`, in a folder of its own."""
    file = cwd.parent / "step.sh"
    file.write_text(script)
    command = ("bash", "--noprofile", "--norc", "-eo", "pipefail", str(file))
    return subprocess.run(command, cwd=cwd, env=dict(environ), capture_output=True, text=True, timeout=240)


# The rules


@IDENTIFIED
def test_an_action_is_pinned_by_its_whole_hash_and_leaves_no_token_behind(path: Path) -> None:
    for used in re.findall(r"uses: (.*)", path.read_text()):
        assert used == OURS or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used)
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@IDENTIFIED
def test_no_expression_stands_in_a_script_where_its_value_would_be_code(path: Path) -> None:
    assert not [step["run"] for step in steps(path) if "${{" in step.get("run", "")]


@IDENTIFIED
def test_a_workflow_may_read_and_nothing_else(path: Path) -> None:
    content = workflow(path)
    assert content["permissions"] == {"contents": "read"}
    assert not [job for job in content["jobs"].values() if "permissions" in job]


@IDENTIFIED
def test_a_workflow_ends_and_is_not_run_twice_at_once(path: Path) -> None:
    content = workflow(path)
    assert content["concurrency"]["group"].count("${{") == 1
    assert all(0 < job["timeout-minutes"] <= 15 for job in content["jobs"].values())
    if any("run" in step for step in steps(path)):
        assert content["defaults"]["run"]["shell"] == "bash"  # with pipefail, which the default shell has not


def test_a_pull_request_sees_no_secret() -> None:
    path = TEMPLATE / ".github/workflows/validate.yml"
    assert list(workflow(path)["on"]) == ["pull_request"]
    assert "secrets." not in path.read_text()


@IDENTIFIED
def test_the_action_is_that_of_this_version_and_nothing_is_installed_beside_it(path: Path) -> None:
    assert ours(path)["uses"] == OURS
    assert "pip install" not in path.read_text()


# validate.yml


STAND_INS = ("vault", "base/monitoring")
"""Large folders that small ones stand in for: rendering them many times teaches nothing more."""


class PullRequest:
    """A repository made from the template, with a change on top, and a runner's environment."""

    def __init__(self, folder: Path, kustomize: Path) -> None:
        self.work = folder / "work"
        shutil.copytree(TEMPLATE, self.work)
        for name in STAND_INS:
            shutil.rmtree(self.work / name, ignore_errors=True)
            (self.work / name).mkdir()
            (self.work / name / "kustomization.yaml").write_text("configMapGenerator: [{name: small}]\n")
        for command in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "The template")):
            git(self.work, *command)
        self.summary = folder / "summary.md"
        (folder / "tmp").mkdir()
        self.environ = {
            **QUIET,
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "PATH": f"{kustomize.parent}:{os.environ['PATH']}",
            "GITHUB_STEP_SUMMARY": str(self.summary),
        }

    def replace(self, path: str, old: str, new: str) -> None:
        file = self.work / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def render(self) -> subprocess.CompletedProcess[str]:
        """Commit the change and run the step."""
        git(self.work, "add", "-A")
        git(self.work, "commit", "-qm", "A change")
        return run(named("validate.yml", "Render before and after")["run"], self.work, self.environ)


@pytest.fixture
def pull_request(tmp_path: Path) -> PullRequest:
    cached = Path("~/.cache/openeg-lab/bin/kustomize").expanduser()
    found = shutil.which("kustomize") or (str(cached) if cached.exists() else None)
    if found is None:
        needs.missing("kustomize is not installed")
    return PullRequest(tmp_path, Path(found))


def test_a_pull_request_shows_what_it_changes_in_the_cluster_and_only_that(pull_request: PullRequest) -> None:
    pull_request.replace("overlays/dev/kustomization.yaml", "19717d45e19b8de5ae7a31217f396506724d57c0", "a" * 40)
    done = pull_request.render()
    assert done.returncode == 0, done.stderr
    assert "::error" not in done.stdout
    summary = pull_request.summary.read_text()
    assert "overlays/dev.yaml | 6 +++---" in summary
    assert "1 file changed" in summary
    assert "-        image: registry.oud.kr/openegflask:19717d45e19b8de5ae7a31217f396506724d57c0\n" in summary
    assert f"+        image: registry.oud.kr/openegflask:{'a' * 40}\n" in summary
    assert summary.count("<details>") == summary.count("</details>") == 1


def test_every_overlay_and_every_application_is_rendered(pull_request: PullRequest) -> None:
    overlays = ("production", "staging", "dev")
    pull_request.replace("base/config/openeg.env", "PUBLIC_URL=", "NEW_SETTING=1\nPUBLIC_URL=")
    pull_request.replace("argocd/config/argocd-cm.yaml", "accounts.ci: apiKey", "accounts.ci: login")
    pull_request.replace("argocd/applications/openeg-dev.yaml", "limit: 5", "limit: 6")
    for stand_in in STAND_INS:
        pull_request.replace(f"{stand_in}/kustomization.yaml", "small", "other")
    pull_request.replace("sealed-secrets/kustomization.yaml", "namespace: kube-system", "namespace: sealed")
    done = pull_request.render()
    assert done.returncode == 0, done.stderr
    changed = set(re.findall(r"^ \{base => head\}/(\S+)\.yaml ", pull_request.summary.read_text(), re.MULTILINE))
    applications = {"argocd/config", "argocd/applications", "sealed-secrets", *STAND_INS}
    assert changed == {*applications, *(f"overlays/{name}" for name in overlays)}


def test_a_new_environment_is_shown_whole(pull_request: PullRequest) -> None:
    shutil.copytree(pull_request.work / "overlays/dev", pull_request.work / "overlays/demo")
    pull_request.replace("overlays/demo/kustomization.yaml", "openeg-dev", "openeg-demo")
    done = pull_request.render()
    assert done.returncode == 0, done.stderr
    assert "+  namespace: openeg-demo\n" in pull_request.summary.read_text()


def test_a_change_that_reaches_no_cluster_says_so(pull_request: PullRequest) -> None:
    pull_request.replace("overlays/dev/kustomization.yaml", "kind: Kustomization\n", "kind: Kustomization # dev\n")
    assert pull_request.render().returncode == 0
    assert "Nothing: what Argo CD applies stays as it is." in pull_request.summary.read_text()


def test_what_does_not_render_fails_by_name_and_the_rest_is_shown(pull_request: PullRequest) -> None:
    pull_request.replace("overlays/staging/kustomization.yaml", "../../base\n", "../../none\n")
    pull_request.replace("overlays/dev/kustomization.yaml", "19717d45e19b8de5ae7a31217f396506724d57c0", "a" * 40)
    done = pull_request.render()
    assert done.returncode == 1
    assert "::error title=Does not render::overlays/staging\n" in done.stdout
    assert "none" in done.stderr
    summary = pull_request.summary.read_text()
    assert "**`overlays/staging` does not render**" in summary
    assert f"openegflask:{'a' * 40}" in summary


def test_a_huge_difference_is_cut_at_what_a_summary_takes(pull_request: PullRequest) -> None:
    many = "".join(f"SETTING_{number}={'한' * 40}\n" for number in range(2800))
    pull_request.replace("base/config/openeg.env", "PUBLIC_URL=", f"{many}PUBLIC_URL=")
    done = pull_request.render()
    assert done.returncode == 0, done.stderr
    summary = pull_request.summary.read_text()  # whole characters alone
    assert 900_000 < pull_request.summary.stat().st_size < 1024 * 1024
    assert "\nThe diff is cut: it has " in summary
    assert summary.count("~~~~~~~~") == 4


def test_the_lint_step_finds_nothing_wrong_with_the_template(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    shutil.copytree(TEMPLATE, tmp_path, dirs_exist_ok=True)
    given = ours(TEMPLATE / ".github/workflows/validate.yml")["with"]
    done = runner.run(runner.variables(given))
    assert done.returncode == 0, done.stdout + done.stderr


# rollout.yml


def is_waited_for(message: str) -> bool:
    """What the job's condition says of a head commit's message."""
    condition = workflow(TEMPLATE / ".github/workflows/rollout.yml")["jobs"]["wait"]["if"]
    form = r"\$\{\{ !contains\(toJSON\(github\.event\.head_commit\.message\), '([^']+)'\) \}\}"
    found = re.fullmatch(form, condition)
    assert found, condition
    return found[1] not in json.dumps(message)


def wait_step(scene: Scene, tmp_path: Path, revision: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run the step that waits, as the job for production after a push of `revision`; and its summary."""
    summary = tmp_path / "summary.md"
    server, _, repository = scene.gitops_url.removesuffix(".git").rpartition("/")
    values = {
        "matrix.environment": "production",
        "vars.ARGOCD_SERVER": scene.environ["ARGOCD_SERVER"],
        "secrets.ARGOCD_AUTH_TOKEN": scene.environ["ARGOCD_AUTH_TOKEN"],
        "github.token": "a-token",
        "github.server_url": server,
        "github.repository": repository,
        "github.ref_name": "main",
        "github.sha": revision,
    }
    given = {
        name: re.sub(r"\$\{\{ (\S+) \}\}", lambda found: values[found[1]], text)
        for name, text in ours(TEMPLATE / ".github/workflows/rollout.yml")["with"].items()
    }
    (tmp_path / "empty").mkdir()
    runner = Runner(tmp_path / "empty")
    done = runner.run({**story.PAST_PROXIES, **runner.variables(given), "GITHUB_STEP_SUMMARY": str(summary)})
    return done, summary.read_text()


def test_it_waits_for_what_people_push_and_not_for_what_a_pipeline_run_pushed(scene: Scene, tmp_path: Path) -> None:
    assert scene.run("deploy").code == 0
    scene.gitops.git("pull", "--quiet", "origin", "main")
    assert not is_waited_for(scene.gitops.git("log", "-1", "--format=%B"))
    patch = scene.gitops.path / "overlays/production/patches/production-config.yaml"
    patch.write_text(patch.read_text().replace("LOG_LEVEL: info", "LOG_LEVEL: debug"))
    revision = scene.gitops.commit("Log more\n\nFor a day, not a Deploy-Id: of ours.")
    assert is_waited_for(scene.gitops.git("log", "-1", "--format=%B"))
    done, summary = wait_step(scene, tmp_path, revision)
    assert done.returncode == 0, done.stderr
    assert f"openeg-system Healthy at {revision[:12]}" in done.stdout
    assert "openeg-system" in summary
    assert revision[:7] in summary
    assert "SLACK_" not in (TEMPLATE / ".github/workflows/rollout.yml").read_text()  # Argo CD tells of it


def test_a_change_that_breaks_the_rollout_fails_with_its_cause(scene: Scene, tmp_path: Path) -> None:
    overlay = scene.gitops.path / "overlays/production/kustomization.yaml"
    overlay.write_text(overlay.read_text().replace("kind: Kustomization", "kind: [Kustomization"))
    revision = scene.gitops.commit("Break it")
    done, summary = wait_step(scene, tmp_path, revision)
    assert done.returncode == 10, done.stdout + done.stderr
    assert "::error" in done.stdout + done.stderr
    assert "openeg-system" in summary
