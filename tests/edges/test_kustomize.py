"""kustomize and kubectl as they are, and programs that misbehave in their place."""

import shutil
import time
from pathlib import Path

import pytest

from pipeline.edges import kustomize
from tests import needs

BUILT = Path.home() / ".cache" / "openeg-lab" / "bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kustomization.yaml").write_text("namePrefix: x-\nresources: [m.yaml]\n")
    (tmp_path / "a" / "m.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n")
    return tmp_path


def fake(folder: Path, name: str, script: str) -> str:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("name", ["kustomize", "kubectl"])
def test_a_folder_becomes_its_manifests(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which(name) or shutil.which(name, path=str(BUILT))
    if program is None:
        needs.missing(f"{name} is not installed")
    (folder / "bin").mkdir()
    (folder / "bin" / name).symlink_to(program)
    monkeypatch.setenv("PATH", str(folder / "bin"))
    command = kustomize.program()
    assert command is not None
    assert command[0] == name
    assert "name: x-m" in kustomize.build(command, folder, "a").text
    problem = kustomize.build(command, folder, "nowhere").problem
    assert problem
    assert str(folder) + "/" not in problem


def test_nothing_renders_where_neither_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kustomize.program() is None


def test_one_that_hangs_is_ended(folder: Path) -> None:
    began = time.monotonic()
    done = kustomize.build((fake(folder, "hangs", "exec sleep 60"),), folder, "a", seconds=0.5)
    assert time.monotonic() - began < 10
    assert done.problem == "it was not done after 0.5 s"


def test_what_becomes_too_large_is_not_read(folder: Path) -> None:
    done = kustomize.build((fake(folder, "large", "head -c 70000000 /dev/zero"),), folder, "a")
    assert done.problem == "it becomes more than 64 MB"


def test_nobody_is_asked_and_no_other_program_fetches(folder: Path) -> None:
    done = kustomize.build((fake(folder, "env", "env"),), folder, "a")
    assert {"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=https:http:ssh:git"} <= set(done.text.splitlines())


def test_aliases_that_repeat_each_other_take_no_more_than_their_share(folder: Path) -> None:
    program = shutil.which("kustomize") or shutil.which("kustomize", path=str(BUILT))
    if program is None:
        needs.missing("kustomize is not installed")
    bomb = "".join(f"n{number + 1}: &n{number + 1} [*n{number}, *n{number}]\n" for number in range(60))
    (folder / "a" / "m.yaml").write_text(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\nn0: &n0 [x]\n{bomb}")
    assert kustomize.build((program, "build"), folder, "a").problem == "it takes more than 1.5 GB of memory"
