"""`edit`: the pure edit on files."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Scene

NEW = "c" * 40
TEXT = "# ours\nresources: [deployment.yaml]\nimages:\n  - name: openegflask\n    newTag: 'old' # pinned\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "deployment.yaml").write_text("spec: {containers: [{image: openegflask}]}\n")
    path = tmp_path / "kustomization.yaml"
    path.write_text(TEXT)
    return path


def test_it_prints_the_edited_file_and_leaves_the_original(scene: Scene, file: Path) -> None:
    done = scene.run("edit", str(file), "--image", f"openegflask={NEW}")
    assert (done.code, done.stdout) == (0, TEXT.replace("old", NEW))
    assert file.read_text() == TEXT


def test_in_place_writes_the_file_and_keeps_its_mode(scene: Scene, file: Path) -> None:
    file.chmod(0o640)
    done = scene.run("edit", str(file), "--image", f"openegflask={NEW}", "--in-place", "--json")
    assert done.json["outcome"] == "edited"
    assert done.json["gitops"]["changed"] == [
        {"file": str(file), "line": 5, "name": "openegflask", "old": "old", "new": NEW}
    ]
    assert file.read_text() == TEXT.replace("old", NEW)
    assert file.stat().st_mode & 0o777 == 0o640
    assert [item.name for item in sorted(file.parent.glob("*kustomization*"))] == ["kustomization.yaml"]


def test_a_dry_run_prints_a_diff(scene: Scene, file: Path) -> None:
    done = scene.run("edit", str(file), "--image", f"openegflask={NEW}", "--in-place", "--dry-run")
    assert done.stdout.startswith(f"--- a{file}\n+++ b{file}\n"), "as git shows an absolute path"
    assert f"+    newTag: '{NEW}' # pinned" in done.stdout
    assert file.read_text() == TEXT
    subprocess.run(["git", "apply"], cwd="/", input=done.stdout, text=True, check=True)
    assert file.read_text() == TEXT.replace("old", NEW)


def test_several_files_are_edited_together(scene: Scene, file: Path) -> None:
    other = file.parent / "other.yaml"
    other.write_text(TEXT.replace("openegflask", "openegnode"))
    images = ("--image", f"openegflask={NEW}", "--image", f"openegnode={NEW}")
    assert scene.run("edit", str(file), str(other), *images).code == 2
    assert scene.run("edit", str(file), str(other), *images, "--in-place").code == 0
    assert NEW in file.read_text()
    assert NEW in other.read_text()


def test_an_entry_that_matches_no_manifest_is_warned_about(scene: Scene, file: Path) -> None:
    (file.parent / "deployment.yaml").write_text("spec: {containers: [{image: registry.oud.kr/openegflask}]}\n")
    done = scene.run("edit", str(file), "--image", f"openegflask={NEW}")
    assert done.code == 0
    assert "no manifest has the image openegflask" in done.stderr
    assert "registry.oud.kr/openegflask" in done.stderr


def test_a_folder_that_cannot_be_written_leaves_the_file_whole(scene: Scene, file: Path) -> None:
    done = scene.run("edit", "/proc/self/status", "--image", f"openegflask={NEW}", "--in-place", "--json")
    assert done.code in {2, 4, 5}
    assert done.json["error"]["message"]
    assert file.read_text() == TEXT
