"""`wait` by itself, with nothing but flags."""

from pathlib import Path

import pytest

from tests.cli.conftest import Scene


@pytest.mark.parametrize(
    ("overlay", "proof"),
    [
        ("overlays/production", "2 pods run openegflask:"),
        ("overlays/none", "no pod of registry.oud.kr/openegflask is expected here"),
    ],
)
def test_an_image_is_looked_for_where_the_kustomization_says(
    scene: Scene, tmp_path: Path, overlay: str, proof: str
) -> None:
    commit = scene.app.git("rev-parse", "HEAD")
    revision = scene.run("deploy", "--json").json["gitops"]["revision"]
    flags = ("--app", "openeg-system", "--gitops", scene.gitops_url, "--overlay", overlay, "--revision", revision)
    done = scene.run("wait", "--image", f"openegflask={commit}", *flags, "--json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert proof in done.json["rollout"]["applications"][0]["proof"]
    assert ("taken to be in registry.oud.kr" in done.stderr) == (overlay == "overlays/none")


@pytest.mark.parametrize("lacking", [("checkout", "--quiet", "--detach"), ("remote", "remove", "origin")])
def test_a_work_tree_need_only_be_readable(scene: Scene, lacking: tuple[str, ...]) -> None:
    revision = scene.run("deploy", "--json").json["gitops"]["revision"]
    scene.gitops.git(*lacking)
    tree = ("--gitops", str(scene.gitops.path), "--branch", "main", "--app", "openeg-system")
    done = scene.run("wait", *tree, "--revision", revision, "--json")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    undone = scene.run("rollback", *tree, "--image", "openegflask", "--json")
    assert (undone.code, undone.json["error"]["class"]) == (2, "UsageError")
    assert scene.gitops.git("rev-parse", "HEAD") != revision


def test_a_tag_that_does_not_run_is_not_taken_for_deployed(scene: Scene, tmp_path: Path) -> None:
    revision = scene.run("deploy", "--json").json["gitops"]["revision"]
    flags = ("--app", "openeg-system", "--gitops", scene.gitops_url, "--revision", revision, "--grace", "0.5")
    done = scene.run("wait", "--image", f"openegflask={'a' * 40}", *flags, "--json", cwd=tmp_path)
    assert done.code == 11
    assert done.json["rollout"]["applications"][0]["cause"]["reason"] == "ImageNotUsed"


def test_images_without_an_entry_are_those_of_the_named_registry(scene: Scene) -> None:
    wait = ("wait", "--image", f"openegnew={'a' * 40}", "--app", "openeg-system", "--json")
    done = scene.run(*wait, "--registry", "registry.example", environ={"ARGOCD_AUTH_TOKEN": ""})
    assert done.json["images"][0]["repository"] == "registry.example/openegnew", done.stderr
