"""Building the lab's programs: what a user without Go or with a full cache meets, and which versions are chosen."""

import os
import subprocess
import sys
from pathlib import Path

from lab import services
from lab.build import _go_mod
from lab.components import COMPONENTS, Component


def command(home: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "XDG_CACHE_HOME": str(home), "PATH": path or os.environ["PATH"]}
    return subprocess.run(
        (sys.executable, "-m", "lab", *words), cwd=services.ROOT, env=environ, capture_output=True, text=True
    )


def test_clean_drops_go_s_caches_and_keeps_the_programs(tmp_path: Path) -> None:
    home = tmp_path / "openeg-lab"
    module = home / "go/mod/example.test/module@v1"
    module.mkdir(parents=True)
    (module / "main.go").write_text("package main\n")
    program = home / "built/kwok@v0/kwok"
    program.parent.mkdir(parents=True)
    program.write_text("built")
    module.chmod(0o555)  # as Go leaves it
    done = command(tmp_path, "clean")
    assert (done.returncode, "GiB freed" in done.stdout) == (0, True), done.stderr
    assert not (home / "go").exists()
    assert program.read_text() == "built"


def test_without_go_the_remedy_says_so(tmp_path: Path) -> None:
    done = command(tmp_path, "build", "kustomize", path=str(tmp_path))
    assert done.returncode == 2
    assert "Go is not installed" in done.stderr
    assert "go.dev" in done.stderr


def test_an_unknown_component_names_those_there_are(tmp_path: Path) -> None:
    done = command(tmp_path, "build", "kubectl-magic")
    assert (done.returncode, "kube-apiserver" in done.stderr) == (4, True)


def test_without_a_lab_the_remedy_says_so(tmp_path: Path) -> None:
    for words in (["status"], ["env"], ["down"], ["logs", "etcd"], ["break", "x:1", "pull"]):
        done = command(tmp_path, *words)
        assert (done.returncode, "scripts/lab up" in done.stderr) == (4, True), done.stderr


def test_the_wrapper_chooses_the_versions_that_the_authors_chose() -> None:
    component = Component(
        name="x",
        module="example.test/x",
        version="v1.2.3",
        package="cmd/x",
        published={"example.test/local*": "v0.9.0"},
    )
    theirs = {
        "Go": "1.24",
        "Require": [
            {"Path": "example.test/a", "Version": "v1.0.0"},
            {"Path": "example.test/local", "Version": "v0.0.0"},
            {"Path": "example.test/local-in-name", "Version": "v1.1.0"},
        ],
        "Replace": [
            {"Old": {"Path": "example.test/local"}, "New": {"Path": "./staging/local"}},
            {
                "Old": {"Path": "example.test/b", "Version": "v1"},
                "New": {"Path": "example.test/c", "Version": "v2.0.0"},
            },
        ],
        "Exclude": [{"Path": "example.test/d", "Version": "v3.0.0"}],
    }
    assert _go_mod(component, theirs).splitlines() == [
        "module lab",
        "go 1.24",
        "require example.test/x v1.2.3",
        "require example.test/a v1.0.0",
        "require example.test/local v0.9.0",
        "require example.test/local-in-name v1.1.0",
        "replace example.test/b v1 => example.test/c v2.0.0",
        "replace example.test/local => example.test/local v0.9.0",
        "exclude example.test/d v3.0.0",
    ]


def test_every_program_is_cached_by_its_version() -> None:
    assert len({component.key for component in COMPONENTS.values()}) == len(COMPONENTS)
    assert all(component.key.endswith(component.version) for component in COMPONENTS.values())
