"""What every command shares: flags, their environment variables, help, completion."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.options import secret_variables
from pipeline.sandbox.cluster import FAULT_KINDS
from tests.cli.conftest import Done

BIN = Path(sys.executable).parent


def run(*arguments: str, environ: dict[str, str] | None = None) -> Done:
    """Run `python -m pipeline` where nothing is set up."""
    command = (sys.executable, "-m", "pipeline", *arguments)
    done = subprocess.run(command, env={**os.environ, **(environ or {})}, capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(("typed", "completed"), [("ro", "rollback"), ("deploy --allow-d", "--allow-diverged")])
@pytest.mark.parametrize("program", [f"{sys.executable} -m pipeline", "openeg-deploy"])
def test_the_script_for_bash_completes_however_it_was_asked_for(program: str, typed: str, completed: str) -> None:
    script = f"""
        source <({program} --show-completion)
        COMP_WORDS=(openeg-deploy {typed}) COMP_CWORD={len(typed.split())}
        $(complete -p openeg-deploy | sed 's/.*-F \\([^ ]*\\) .*/\\1/') openeg-deploy
        echo "${{COMPREPLY[@]}}"
    """
    environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True)
    assert completed in done.stdout.split(), done.stderr


def test_completion_is_installed_for_the_console_script(tmp_path: Path) -> None:
    script = f"{sys.executable} -m pipeline --install-completion; true"  # a shell replaces itself by a last command
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "complete -o default" in (tmp_path / ".bash_completions/openeg-deploy.sh").read_text()


def test_a_flag_switches_off_what_a_variable_switches_on(tmp_path: Path) -> None:
    file = tmp_path / "kustomization.yaml"
    file.write_text("images: []\n")
    edit = ("edit", str(file), "--image", f"openegflask={'a' * 40}")
    on = {"PIPELINE_CREATE": "1", "PIPELINE_JSON": "1"}
    assert run(*edit, environ=on).json["outcome"] == "planned"
    refused = run(*edit, "--no-create", environ=on)
    assert (refused.code, refused.json["error"]["class"]) == (4, "EntryNotFound")
    assert run(*edit, "--no-json", environ=on).stdout.startswith("images:\n")
    assert run(*edit, "--create", environ={"PIPELINE_CREATE": "0"}).code == 0


def test_every_switch_with_a_variable_has_two_flags() -> None:
    shown = run("bump", "--help").stdout
    for flags in ("--no-check-image / --check-image", "--allow-diverged / --no-allow-diverged", "--json / --no-json"):
        assert flags in shown
    assert "--push" not in shown.replace("--no-push", "")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("edit", ["edit [OPTIONS] FILE...\n", "  FILE...  ", "--image NAME=TAG  "]),
        ("bump", ["bump [OPTIONS]\n", "--image NAME=TAG  "]),
        ("deploy", ["--image NAME[=TAG]  "]),
        ("build", ["--image NAME  "]),
        ("rollback", ["--image NAME  "]),
    ],
)
def test_help_says_what_a_command_takes(command: str, shown: list[str]) -> None:
    text = run(command, "--help").stdout
    assert [words for words in shown if words not in text] == []


def test_a_missing_file_is_named_as_help_names_it() -> None:
    done = run("edit", "--json")
    assert (done.code, "FILE..." in done.json["error"]["message"]) == (2, True), done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_modules_are_loaded_is_told_as_later_ones_are(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "typer.py").write_text(
        f"import os, sys\nos.kill(os.getpid(), {int(number)})\n"
        f"sys.path.remove({str(tmp_path)!r})\ndel sys.modules['typer']\nimport typer\n"
    )
    done = run("wait", "--json", environ={"PYTHONPATH": str(tmp_path)})
    assert (done.code, done.json["outcome"]) == (code, "failed"), done.stderr


def test_help_tells_defaults_variables_and_what_may_be_repeated() -> None:
    shown = " ".join(run("deploy", "--help").stdout.split())
    assert "[env var: PIPELINE_REGISTRY; default: registry.oud.kr]" in shown
    assert "[repeatable; env var: PIPELINE_ARGOCD_HEADER, one a line]" in shown
    assert "[env var: PIPELINE_TIMEOUT; default: 600]" in shown


def test_help_names_every_command_in_full_and_every_secret() -> None:
    shown = " ".join(run("--help").stdout.split())
    assert "..." not in shown.partition("Commands:")[2]
    assert [name for name in secret_variables() if name not in shown] == []


def test_help_of_the_sandbox_names_every_fault() -> None:
    shown = run("sandbox", "up", "--help").stdout
    assert [kind for kind in FAULT_KINDS if kind not in shown] == []
