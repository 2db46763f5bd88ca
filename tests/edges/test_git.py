"""How git is run: where it goes, what it may know, and what its errors mean."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.secret import Secret
from pipeline.edges.git import Address, Git, GitError, Scratch, explain, parse_address
from pipeline.errors import (
    BranchIsProtected,
    BranchNotFound,
    CommitRefused,
    GitDenied,
    GitUnusable,
    NoSpaceLeft,
    PipelineError,
    RepositoryNotFound,
    Unreachable,
    UsageError,
)
from tests.git_world import QUIET

TOKEN = Secret("t0ken")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("text", "token", "url", "credentials"),
    [
        ("https://git.example.org/a.git", None, "https://git.example.org/a.git", None),
        ("https://git.example.org/a.git", TOKEN, "https://git.example.org/a.git", "x-access-token:t0ken"),
        ("https://ada@git.example.org/a.git", TOKEN, "https://git.example.org/a.git", "ada:t0ken"),
        ("https://ada:pw@git.example.org:8443/a", None, "https://git.example.org:8443/a", "ada:pw"),
        ("https://ada:p%40w@git.example.org/a", TOKEN, "https://git.example.org/a", "ada:p@w"),
        ("ssh://git@git.example.org/a", TOKEN, "ssh://git@git.example.org/a", None),
        ("ssh://git:pw@git.example.org/a", None, "ssh://git@git.example.org/a", None),
        ("git@git.example.org:a/b.git", TOKEN, "git@git.example.org:a/b.git", None),
        ("../gitops", TOKEN, "../gitops", None),
        ("/srv/a:b", TOKEN, "/srv/a:b", None),
    ],
)
def test_credentials_leave_the_url(text: str, token: Secret | None, url: str, credentials: str | None) -> None:
    address = parse_address(text, token)
    assert address.url == url
    assert (address.credentials.reveal() if address.credentials else None) == credentials
    assert "t0ken" not in repr(address)
    assert "pw" not in repr(address)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("../gitops", Path("../gitops")),
        ("/srv/a:b", Path("/srv/a:b")),
        ("file:///srv/a%20b", Path("/srv/a b")),
        ("https://git.example.org/a", None),
        ("git@git.example.org:a", None),
        ("ssh://git.example.org/a", None),
    ],
)
def test_what_is_on_this_machine_has_a_path(text: str, path: Path | None) -> None:
    assert parse_address(text, None).path == path


def test_an_address_that_is_no_url_is_told_without_its_password() -> None:
    with pytest.raises(UsageError) as caught:
        parse_address("http://ada:pw@[::1/x", None)
    assert "pw" not in str(caught.value)


def test_a_folder_of_somebody_else_is_told_with_what_git_says_to_do() -> None:
    stderr = (
        "fatal: detected dubious ownership in repository at '/srv/a'\nTo add an exception for this directory, call:\n\n"
        "\tgit config --global --add safe.directory /srv/a\n"
    )
    error = explain(GitError("rev-parse", 128, "", stderr), "/srv/a")
    assert type(error) is GitDenied
    assert error.remedy == "Trust the folder: git config --global --add safe.directory /srv/a"


def test_a_user_name_alone_is_for_the_machine_s_own_credential_helpers() -> None:
    address = parse_address("https://ada@git.example.org/a", None)
    assert address == Address("https://git.example.org/a", user="ada")
    assert address.settings() == [("credential.https://git.example.org/a.username", "ada")]


def test_git_learns_the_token_from_its_environment_alone(tmp_path: Path) -> None:
    git = Git(tmp_path, parse_address("https://git.example.org/a", TOKEN))
    assert "Authorization: Basic " in git.line(
        "config", "--get-urlmatch", "http.extraHeader", "https://git.example.org/a"
    )
    assert "Authorization" not in (
        git.try_line("config", "--get-urlmatch", "http.extraHeader", "https://evil.example") or ""
    )


def test_settings_of_the_environment_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("COUNT", "1"), ("KEY_0", "user.name"), ("VALUE_0", "Grace")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    git = Git(tmp_path, parse_address("https://git.example.org/a", TOKEN))
    assert git.line("config", "user.name") == "Grace"
    assert git.line("config", "--get-all", "credential.helper") == ""


def test_a_hook_s_repository_is_not_taken_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    Git(tmp_path).run("init", "--quiet", ".")
    assert (tmp_path / ".git").is_dir()


def test_git_never_asks_on_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="terminal prompts disabled"):
        Git(tmp_path).run("credential", "fill", stdin=b"protocol=https\nhost=git.example.org\n\n")


def test_a_missing_git_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitUnusable, match="not on PATH"):
        Git(tmp_path).run("version")


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.edges.git._LONGEST_COMMAND_SECONDS", 0.2)
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(Unreachable, match="took over"):
        Git(tmp_path).run("fetch")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_scratch_repository_goes_even_when_nobody_closes_it() -> None:
    code = "import sys; from pipeline.edges.git import Scratch, Address; print(Scratch(Address('x')).folder)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "openeg-deploy-" in done.stdout
    assert not Path(done.stdout.strip()).exists()
    scratch = Scratch(Address("x"))
    scratch.close()
    assert not scratch.folder.exists()


@pytest.mark.parametrize(
    ("stderr", "meaning"),
    [
        ("fatal: repository 'https://h/a.git/' not found", RepositoryNotFound),
        ("ERROR: Repository not found.\nfatal: Could not read from remote repository.", RepositoryNotFound),
        ("fatal: '/srv/none' does not appear to be a git repository", RepositoryNotFound),
        ("fatal: Authentication failed for 'https://h/not found/'", GitDenied),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", GitDenied),
        (
            "remote: Permission to o/r.git denied.\nfatal: unable to access 'x': The requested URL returned error: 403",
            GitDenied,
        ),
        ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", GitDenied),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", GitDenied),
        ("fatal: unable to access 'http://ssl.h/': Could not resolve host: ssl.h", Unreachable),
        ("fatal: unable to access 'http://h/': Failed to connect to h port 80: Connection refused", Unreachable),
        ("fatal: unable to access 'http://h/': The requested URL returned error: 502", Unreachable),
        ("fatal: the remote end hung up unexpectedly", Unreachable),
        ("fatal: couldn't find remote ref refs/heads/none", BranchNotFound),
        ("fatal: cannot create directory at 'x': No space left on device", NoSpaceLeft),
        ('error: Load key "/k": invalid format\nfatal: failed to sign the commit object', GitUnusable),
        ("fatal: something new", CommitRefused),
        ("remote: fatal: repository not found, says the hook\nfatal: something new", CommitRefused),
    ],
)
def test_git_s_words_are_understood(stderr: str, meaning: type[PipelineError]) -> None:
    error = explain(GitError("fetch", 128, "", stderr), "https://h/a.git")
    assert type(error) is meaning
    assert str(error).startswith("https://h/a.git: ")


@pytest.mark.parametrize(
    ("verdict", "stderr", "meaning"),
    [
        ("[remote rejected] (pre-receive hook declined)", "remote: Permission denied, not found", BranchIsProtected),
        ("[remote rejected] (protected branch hook declined)", "remote: error: GH006", BranchIsProtected),
        ("[remote rejected] (push declined due to repository rule violations)", "", BranchIsProtected),
        ("[remote rejected] (failed to update ref)", "", CommitRefused),
        ("[remote rejected] (unpacker error)", "remote: fatal: write error: No space left on device", NoSpaceLeft),
        ("[remote rejected] (unpacker error)", "remote: error: insufficient permission for adding", GitDenied),
        ("[remote failure] (remote failed to report status)", "", Unreachable),
    ],
)
def test_a_rejection_is_understood_by_its_verdict(verdict: str, stderr: str, meaning: type[PipelineError]) -> None:
    stdout = f"To https://h/a.git\n!\trefs/x:refs/heads/main\t{verdict}\nDone\n"
    assert type(explain(GitError("push", 1, stdout, stderr), "h")) is meaning
