"""What the action installs: locked by hash, only what the command needs, and once."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.cli.app import app
from pipeline.resources import folder

ROOT = folder("requirements").parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BIN = Path(sys.executable).parent
LOCKS = sorted((ROOT / "requirements").iterdir())
SETS = [file for file in LOCKS if file.stem != "release"]


def locked(file: Path) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    for entry in re.sub(r"(?m)^#.*\n", "", file.read_text()).replace("\\\n", "").splitlines():
        requirement, *hashes = entry.split("--hash=")
        yield Requirement(requirement), [value.strip() for value in hashes]


def bounds(name: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for, of the core set and an extra."""
    extras: Mapping[str, list[str]] = PROJECT["optional-dependencies"]
    names = [extra for extra in extras if extra != "all"] if name == "all" else [name] if name != "core" else []
    for text in (*PROJECT["dependencies"], *(text for extra in names for text in extras[extra])):
        yield Requirement(text)


def test_there_is_a_lock_for_the_core_set_and_each_extra() -> None:
    assert {file.stem for file in SETS} == {"core", *PROJECT["optional-dependencies"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        extras = runpy.run_path(str(ROOT / "scripts/setup"), run_name="setup")["EXTRAS"]
    assert {name for names in extras.values() for name in names} == {file.stem for file in SETS} - {"core"}
    groups = typer.main.get_command(app)
    assert set(extras) <= set(getattr(groups, "commands", ()))


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: file.stem)
def test_a_lock_has_one_version_of_each_package_by_hash_and_from_nowhere_in_particular(file: Path) -> None:
    for requirement, hashes in locked(file):
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in hashes)
    assert "//" not in file.read_text()


@pytest.mark.parametrize("file", SETS, ids=lambda file: file.stem)
def test_a_lock_satisfies_what_pyproject_asks_for(file: Path) -> None:
    found = {canonicalize_name(requirement.name): requirement for requirement, _ in locked(file)}
    for wanted in bounds(file.stem):
        (pin,) = found[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(pin.version), f"{wanted} in {file.name}: run scripts/lock"


def test_the_sets_have_the_same_versions() -> None:
    whole = {requirement.name: requirement.specifier for requirement, _ in locked(ROOT / "requirements/all.txt")}
    for file in SETS:
        for requirement, _ in locked(file):
            assert requirement.specifier == whole[requirement.name], f"{requirement} in {file.name}"


def set_up(command: str, cache: Path, **environ: str) -> tuple[dict[str, str], str]:
    """Run the set-up as the action does; its outputs, and what it says."""
    done = subprocess.run(
        (sys.executable, "scripts/setup", command),
        cwd=ROOT,
        env={**os.environ, "RUNNER_TOOL_CACHE": str(cache), **environ},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines()), done.stderr


def test_the_second_time_nothing_is_installed_and_each_command_gets_its_extras_alone(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = f"{BIN}:{os.environ['PATH']}"  # uv is there
    first, cold = set_up("edit --dry-run", tmp_path, PATH=path)
    second, warm = set_up("init", tmp_path, PATH="/usr/bin:/bin")  # neither an installer nor a network is asked
    assert first == second
    packages = Path(first["path"].split(os.pathsep)[1])
    assert packages.parent == tmp_path / "openeg-deploy"
    assert (packages / "git").is_dir()
    assert not (packages / "docker").exists()
    assert [path.name for path in packages.parent.iterdir()] == [packages.name]
    environ = {"PYTHONPATH": first["path"], "PATH": "/usr/bin:/bin"}
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/__init__.py").write_text("raise SystemExit('a folder of the checkout was run')")
    done = subprocess.run(
        (first["python"], "-P", "-m", "pipeline", "--version"), cwd=tmp_path, env=environ, capture_output=True
    )
    assert (done.returncode, done.stdout[:13]) == (0, b"openeg-deploy"), done.stderr
    record_property("figure", f"the action's set-up: {cold.split()[-2]} s cold with uv, {warm.split()[-2]} s warm")


def test_without_uv_pip_installs_the_same(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    outputs, cold = set_up("deploy", tmp_path, PATH="/usr/bin:/bin")
    packages = Path(outputs["path"].split(os.pathsep)[1])
    assert {name for name in ("docker", "slack_sdk", "werkzeug") if (packages / name).exists()} == {
        "docker",
        "slack_sdk",
    }
    record_property("figure", f"the action's set-up: {cold.split()[-2]} s cold with pip")


def test_a_package_that_is_not_the_one_that_was_locked_is_not_installed(tmp_path: Path) -> None:
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    lock = tmp_path / "requirements/core.txt"
    lock.write_text(re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", lock.read_text()))
    environ = {**os.environ, "RUNNER_TOOL_CACHE": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = (sys.executable, tmp_path / "scripts/setup", "edit")
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stdout) == (1, "")
    assert "hash" in done.stderr.lower()
    assert not list((tmp_path / "openeg-deploy").iterdir())


def test_where_the_tool_cache_may_not_be_written_the_users_is(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file where the folder would be")
    path = f"{BIN}:{os.environ['PATH']}"
    outputs, _ = set_up("bump", taken, PATH=path, XDG_CACHE_HOME=str(tmp_path / "home"))
    assert f"{tmp_path}/home/openeg-deploy/" in outputs["path"]


def test_with_neither_uv_nor_pip_the_reason_is_said(tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    python = bare / "python3.12"
    python.write_text(f'#!/bin/sh\ncase "$*" in *pip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import environment, runpy\n"
    script += f"environment.interpreter = lambda: {str(python)!r}; sys.argv = ['setup', 'bump']\n"
    script += f"runpy.run_path({str(ROOT / 'scripts/setup')!r}, run_name='__main__')"
    environ = {"PATH": str(bare), "RUNNER_TOOL_CACHE": str(tmp_path)}
    done = subprocess.run((sys.executable, "-c", script), env=environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert "The runner needs uv, or a Python with pip" in done.stderr
    assert not list((tmp_path / "openeg-deploy").iterdir())
