"""`bump` on every kind of GitOps repository: a URL, a bare repository, a work tree."""

import pytest

from tests.cli.conftest import Scene

OVERLAY = "overlays/production/kustomization.yaml"
NEW = "c" * 40
FLAGS = ("--image", f"openegflask={NEW}", "--no-check-image")


@pytest.mark.parametrize("kind", ["url", "bare", "work tree", "current directory"])
def test_the_same_commit_is_made_whatever_the_repository_is(scene: Scene, kind: str) -> None:
    scene.gitops.git("fetch", "--quiet", "origin", "main")
    scene.gitops.git("branch", "--quiet", "--set-upstream-to=origin/main", "main")
    target = {
        "url": ("--gitops", scene.gitops_url),
        "bare": ("--gitops", str(scene.sandbox.git_root / "openeg-gitops.git")),
        "work tree": ("--gitops", str(scene.gitops.path)),
        "current directory": (),
    }[kind]
    done = scene.run("bump", *FLAGS, *target, "--json", cwd=scene.gitops.path)
    assert (done.code, done.json["outcome"]) == (0, "published"), done.stderr
    assert scene.overlay().count(NEW) == 1
    body = scene.gitops.git("log", "-1", "--format=%B", "FETCH_HEAD")
    assert body.startswith("deploy(production): openegflask ccccccc\n\n")
    assert f"Deploy-Id: {done.json['deployment_id']}\nDeploy-Kind: deploy\nDeploy-Environment: production\n" in body
    assert f"Deploy-Image: openegflask {scene.sandbox.registry_host}/openegflask:{NEW}" in body
    again = scene.run("bump", *FLAGS, *target, "--json", cwd=scene.gitops.path)
    assert (again.code, again.json["outcome"]) == (0, "unchanged")
    assert again.json["gitops"]["revision"] == done.json["gitops"]["revision"]


def test_a_file_with_uncommitted_changes_is_not_touched(scene: Scene) -> None:
    file = scene.gitops.path / OVERLAY
    mine = file.read_text() + "# mine\n"
    file.write_text(mine)
    done = scene.run("bump", *FLAGS, "--json", cwd=scene.gitops.path)
    assert (done.code, done.json["error"]["class"]) == (3, "LocalChanges")
    assert file.read_text() == mine
    assert len(scene.log()) == 1


def test_no_push_commits_and_no_commit_edits(scene: Scene) -> None:
    edited = scene.run("bump", *FLAGS, "--no-commit", "--json", cwd=scene.gitops.path)
    assert edited.json["outcome"] == "edited", edited.stderr
    assert NEW in (scene.gitops.path / OVERLAY).read_text()
    assert scene.gitops.git("log", "--format=%s") == "Nothing deployed yet"
    scene.gitops.git("checkout", "--quiet", OVERLAY)
    committed = scene.run("bump", *FLAGS, "--no-push", "--json", cwd=scene.gitops.path)
    assert committed.json["outcome"] == "edited", committed.stderr
    assert scene.gitops.git("log", "-1", "--format=%s") == "deploy(production): openegflask ccccccc"
    assert len(scene.log()) == 1


def test_author_and_committer_are_the_users_choice(scene: Scene) -> None:
    people = ("--author", "Ada <ada@example.com>", "--committer", "CI <ci@example.com>")
    assert scene.run("bump", *FLAGS, *people).code == 0
    scene.overlay()
    assert scene.gitops.git("log", "-1", "--format=%an <%ae>, %cn <%ce>", "FETCH_HEAD") == (
        "Ada <ada@example.com>, CI <ci@example.com>"
    )


def test_many_images_over_many_files_are_one_commit(scene: Scene) -> None:
    eu = scene.gitops.path / "overlays/eu"
    eu.mkdir()
    (eu / "kustomization.yaml").write_text("resources: [../../base]\nimages:\n  - name: openegflask\n    newTag: old\n")
    scene.gitops.commit("A second overlay")
    flags = ("--overlay", "overlays/production", "--overlay", "overlays/eu", "--image", f"openegnode={NEW}")
    done = scene.run("bump", "--image", f"openegflask={NEW}", "--no-check-image", *flags, "--json")
    assert done.code == 2, "the entries of one name say two different repositories"
    text = (eu / "kustomization.yaml").read_text()
    host = scene.sandbox.registry_host
    (eu / "kustomization.yaml").write_text(text.replace("newTag", f"newName: {host}/openegflask\n    newTag"))
    scene.gitops.commit("Say the registry")
    done = scene.run("bump", "--image", f"openegflask={NEW}", "--no-check-image", *flags, "--json")
    assert done.code == 0, done.stderr
    assert {(line["file"], line["name"]) for line in done.json["gitops"]["changed"]} == {
        (OVERLAY, "openegflask"),
        (OVERLAY, "openegnode"),
        ("overlays/eu/kustomization.yaml", "openegflask"),
    }
    assert len(scene.log()) == 4


def test_create_adds_an_entry_that_is_missing(scene: Scene) -> None:
    image = ("--image", f"openegdocs={NEW}", "--no-check-image", "--registry", scene.sandbox.registry_host)
    assert scene.run("bump", *image).code == 4
    done = scene.run("bump", *image, "--create", "--json")
    assert done.code == 0, done.stderr
    entry = f"  - name: openegdocs\n    newName: {scene.sandbox.registry_host}/openegdocs\n    newTag: {NEW}\n"
    assert entry in scene.overlay()
    assert "no manifest has the image openegdocs" in done.stderr


def test_environments_and_their_files_come_from_the_gitops_repository(scene: Scene) -> None:
    folder = scene.gitops.path / "clusters/staging"
    folder.mkdir(parents=True)
    (folder / "kustomization.yaml").write_text("images: [{name: openegflask, newTag: 'old'}]\n")
    config = scene.gitops.path / ".deploy/config.yaml"
    config.write_text("environments:\n  production: {}\n  staging: {overlay: clusters/staging, order: arrival}\n")
    scene.gitops.commit("Staging")
    done = scene.run("bump", *FLAGS, "--env", "staging", "--dry-run")
    assert f"+images: [{{name: openegflask, newTag: '{NEW}'}}]" in done.stdout, done.stderr
    config.write_text("environments:\n  staging: {overly: clusters/staging}\n")
    scene.gitops.commit("A typing error")
    wrong = scene.run("bump", *FLAGS, "--env", "staging", "--json")
    assert wrong.code == 2
    assert (
        ".deploy/config.yaml:2: unknown key 'environments.staging.overly'; did you mean 'overlay'?"
        in (wrong.json["error"]["message"])
    )


def test_a_file_beats_a_default_the_environment_a_file_and_a_flag_the_environment(scene: Scene) -> None:
    def branch(*flags: str, **environ: str) -> str:
        return str(scene.run("bump", *FLAGS, "--dry-run", "--json", *flags, environ=environ).json["error"]["message"])

    deploy = scene.app.path / "deploy.yaml"
    deploy.write_text(deploy.read_text().replace("branch: main", "branch: of-file"))
    assert "'of-file'" in branch()
    assert "'of-variable'" in branch(PIPELINE_BRANCH="of-variable")
    assert "'of-flag'" in branch("--branch", "of-flag", PIPELINE_BRANCH="of-variable")
