"""`release`: tags in real repositories, releases on the sandbox's GitHub, every exchange held to GitHub's contracts."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.sandbox.world import GITHUB_TOKEN
from tests import git_world, github_contract
from tests.cli.conftest import Scene


@pytest.fixture
def github(scene: Scene) -> Iterator[Scene]:
    """The scene on GitHub."""
    token = GITHUB_TOKEN.reveal()
    scene.environ.update(GITHUB_API_URL=scene.sandbox.github_url, GITHUB_TOKEN=token, GITOPS_TOKEN=token)
    yield scene
    for exchange in scene.sandbox.github.exchanges:
        github_contract.check(exchange)


@pytest.fixture
def deployed(github: Scene) -> Scene:
    """All services run the same commit."""
    assert github.run("deploy").code == 0
    github.sandbox.github.exchanges.clear()
    return github


def bare(scene: Scene) -> Path:
    return scene.sandbox.git_root / "openeg.git"


def released(scene: Scene, name: str = "") -> list[dict[str, Any]]:
    """The releases that GitHub has, oldest first."""
    hosted = scene.sandbox.github.find("git", "openeg")
    assert hosted
    return [release for release in hosted.state.releases.values() if name in {"", release["tag_name"]}]


def tag_of(scene: Scene, name: str) -> str:
    """The commit of a tag; that it is annotated is seen by its kind."""
    assert git_world.git(bare(scene), "cat-file", "-t", f"refs/tags/{name}") == "tag"
    return git_world.git(bare(scene), "rev-parse", f"{name}^{{commit}}")


def commit(scene: Scene, *messages: str) -> str:
    for message in messages:
        last = scene.change(message=message)
    return last


def direct(scene: Scene, *flags: str, at: str | None = None) -> dict[str, Any]:
    """Release the newest commit, whatever runs."""
    at = at or scene.app.git("rev-parse", "HEAD")
    done = scene.run("release", "--commit", at, "--allow-not-running", "--json", *flags)
    assert done.code == 0, done.stderr
    return done.json


def test_what_runs_is_tagged_and_released_and_the_same_again_makes_nothing_new(deployed: Scene) -> None:
    head = deployed.app.git("rev-parse", "HEAD")
    dry = deployed.run("release", "--dry-run")
    assert dry.code == 0, dry.stderr
    assert dry.stdout.startswith(f"Would release v0.1.0 of git/openeg at {head[:7]}\n\n## Other\n\n- Serve lessons")
    assert released(deployed) == []
    done = deployed.run("release", "--json")
    assert (done.code, done.json["outcome"]) == (0, "published"), done.stderr
    assert done.json["release"]["tag"] == "v0.1.0"
    assert done.json["release"]["commit"] == tag_of(deployed, "v0.1.0") == head
    (one,) = released(deployed)
    assert (one["tag_name"], one["name"], one["draft"], one["prerelease"]) == ("v0.1.0", "v0.1.0", False, False)
    assert one["body"] == done.json["release"]["notes"]
    assert done.json["urls"]["release"] == one["html_url"]
    again = deployed.run("release", "--json")
    assert (again.code, again.json["outcome"]) == (0, "unchanged"), again.stderr
    assert again.json["release"]["tag"] == "v0.1.0"
    assert released(deployed) == [one]
    assert "Released already: v0.1.0" in deployed.run("release").stdout


@pytest.mark.parametrize(
    ("last", "messages", "version"),
    [
        ("v1.2.3", ("fix: one", "perf(db): two", "docs: three"), "v1.2.4"),
        ("v1.2.3", ("fix: one", "feat(api): two"), "v1.3.0"),
        ("v1.2.3", ("feat: one", "fix!: two"), "v2.0.0"),
        ("v1.2.3", ("fix: one\n\nBREAKING CHANGE: the port is another",), "v2.0.0"),
        ("v0.4.1", ("feat!: one",), "v0.5.0"),
        ("v0.4.1", ("no convention at all",), "v0.4.2"),
        ("1.9.9", ("fix: one",), "1.9.10"),
    ],
)
def test_the_version_follows_from_the_commits(
    github: Scene, last: str, messages: tuple[str, ...], version: str
) -> None:
    git_world.git(bare(github), "tag", last, "main")
    for other in ("nightly", "v9.0", "v8.0.0-rc.1"):
        git_world.git(bare(github), "tag", other, "main")
    commit(github, *messages)
    made = direct(github, "--dry-run")
    assert (made["outcome"], made["release"]["tag"], made["release"]["previous"]) == ("planned", version, last)


def test_a_tag_of_another_line_of_history_is_not_the_release_before(github: Scene) -> None:
    git_world.git(bare(github), "tag", "v1.0.0", "main")
    base = github.app.git("rev-parse", "HEAD")
    git_world.git(bare(github), "branch", "side", base)
    side = git_world.commit(bare(github), {"more": b"x"}, branch="side", message="feat: side")
    git_world.git(bare(github), "tag", "v2.0.0", side)
    commit(github, "fix: here")
    assert direct(github, "--dry-run")["release"]["tag"] == "v1.0.1"


def test_notes_are_grouped_with_pull_requests_and_authors(github: Scene) -> None:
    git_world.git(bare(github), "tag", "v1.0.0", "main")
    first = github.app.git("rev-parse", "HEAD")
    commit(github, "feat(api): serve words (#12)", "fix: count from one", "refactor!: drop v1")
    git_world.git(github.app.path, "checkout", "--quiet", "-b", "topic", first)
    Path(github.app.path, "README").write_text("hello\n")
    git_world.git(github.app.path, "add", "README")
    author = ("-c", "user.name=Ada", "-c", "user.email=7+ada@users.noreply.github.com")
    git_world.git(github.app.path, "commit", "--quiet", "--message", "docs: say hello")
    git_world.git(github.app.path, "checkout", "--quiet", "main")
    merge = ("merge", "--quiet", "--no-ff", "--message", "Merge pull request #13 from git/topic\n\nSay hello", "topic")
    git_world.git(github.app.path, *author, *merge)
    git_world.git(github.app.path, "push", "--quiet", "origin", "main")
    made = direct(github)
    notes = made["release"]["notes"]
    page = f"{github.sandbox.git_url}/openeg"
    groups = [line for line in notes.splitlines() if line.startswith("## ")]
    assert groups == ["## Breaking", "## Features", "## Fixes", "## Other"]
    assert f"- **api:** serve words ([#12]({page}/pull/12)), " in notes
    assert f"- say hello ([#13]({page}/pull/13)), Ada (" in notes
    assert "Merge pull request" not in notes
    assert notes.endswith(f"[All changes]({page}/compare/v1.0.0...v2.0.0)\n")


def test_the_pull_request_of_what_was_rebased_is_asked_for(github: Scene) -> None:
    git_world.git(bare(github), "tag", "v1.0.0", "main")
    git_world.git(bare(github), "branch", "topic", "main")
    git_world.commit(bare(github), {"more": b"x"}, branch="topic", message="feat: rebased")

    def ask(method: str, path: str, **body: str) -> Any:
        headers = {"Authorization": f"Bearer {GITHUB_TOKEN.reveal()}", "Content-Type": "application/json"}
        url = f"{github.sandbox.github_url}/repos/git/openeg{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    number = ask("POST", "/pulls", title="Rebased", head="topic", base="main")["number"]
    ask("PUT", f"/pulls/{number}/merge", merge_method="rebase")
    head = git_world.head(bare(github))
    page = f"{github.sandbox.git_url}/openeg"
    assert (
        f"- rebased ([#{number}]({page}/pull/{number})), " in direct(github, "--dry-run", at=head)["release"]["notes"]
    )
    del github.sandbox.github.permissions["pull_requests"]
    notes = direct(github, at=head)["release"]["notes"]
    assert "- rebased, " in notes, "a token that may not read pull requests costs the link alone"


def test_a_commit_that_does_not_run_is_refused_unless_told(deployed: Scene) -> None:
    runs = deployed.app.git("rev-parse", "HEAD")
    new = commit(deployed, "feat: more")
    done = deployed.run("release", "--commit", new, "--json")
    assert (done.code, done.json["error"]["class"]) == (3, "NotRunning")
    assert f"{runs[:7]} runs, not {new[:7]}" in done.json["error"]["message"]
    assert deployed.run("release", "--commit", runs, "--dry-run").code == 0
    assert direct(deployed)["release"]["commit"] == new == tag_of(deployed, "v0.1.0")


def test_what_is_not_healthy_or_not_there_is_refused(github: Scene) -> None:
    nothing = github.run("release", "--json")
    assert (nothing.code, nothing.json["error"]["class"]) == (3, "NotRunning"), nothing.stderr
    assert "has no version of flask, node, webhook yet" in nothing.json["error"]["message"]
    head = github.app.git("rev-parse", "HEAD")
    images = [word for name in ("openegflask", "openegnode", "openegwebhook") for word in ("--image", f"{name}={head}")]
    assert github.run("bump", *images, "--no-check-image").code == 0
    broken = github.run("release", "--json")
    assert (broken.code, broken.json["error"]["class"]) == (3, "NotRunning"), broken.stderr
    assert "not proved to run" in broken.json["error"]["message"]
    assert "ImagePull" in broken.json["error"]["message"]
    assert released(github) == []


def test_services_at_different_commits_are_listed_until_one_is_named(deployed: Scene) -> None:
    old = deployed.app.git("rev-parse", "HEAD")
    new = commit(deployed, "feat: more")
    assert deployed.run("deploy", "--service", "flask").code == 0
    done = deployed.run("release", "--json")
    assert (done.code, done.json["error"]["class"]) == (3, "NotRunning")
    told = f"not one commit runs: flask {new[:7]}, node {old[:7]}, webhook {old[:7]}"
    assert done.json["error"]["message"] == told
    one = deployed.run("release", "--service", "flask", "--json")
    assert one.json["release"]["commit"] == new, one.stderr
    assert deployed.run("release", "--service", "nothing").code == 4


def test_a_deployments_result_is_proof_enough(github: Scene, tmp_path: Path) -> None:
    done = github.run("deploy", "--json")
    assert done.code == 0, done.stderr
    file = tmp_path / "deployed.json"
    file.write_text(done.stdout)
    quiet = {"ARGOCD_SERVER": "", "ARGOCD_AUTH_TOKEN": ""}
    made = github.run("release", "--from", str(file), "--json", environ=quiet)
    assert (made.code, made.json["outcome"]) == (0, "published"), made.stderr
    file.write_text(json.dumps({**done.json, "outcome": "failed"}))
    failed = github.run("release", "--from", str(file), "--json", environ=quiet)
    assert (failed.code, failed.json["error"]["class"]) == (3, "NotRunning")


def test_a_version_that_stands_elsewhere_is_refused(github: Scene) -> None:
    old = direct(github, "--version", "1.0.0")["release"]["commit"]
    new = commit(github, "fix: more")
    done = github.run("release", "--commit", new, "--allow-not-running", "--version", "v1.0.0", "--json")
    assert (done.code, done.json["error"]["class"]) == (3, "VersionIsTaken")
    assert tag_of(github, "v1.0.0") == old
    assert len(released(github)) == 1


def test_a_draft_is_found_again_and_published(github: Scene) -> None:
    draft = direct(github, "--draft")
    assert (draft["outcome"], draft["release"]["draft"]) == ("published", True)
    assert direct(github, "--draft")["outcome"] == "unchanged"
    public = direct(github)
    assert (public["outcome"], public["release"]["draft"]) == ("published", False)
    (one,) = released(github)
    assert one["published_at"]
    assert direct(github)["outcome"] == "unchanged"


def test_a_candidate_is_a_prerelease_and_the_release_after_it_tells_all(github: Scene) -> None:
    direct(github, "--version", "1.0.0")
    commit(github, "feat: words")
    assert direct(github, "--version", "1.1.0-rc.1")["release"]["prerelease"] is True
    made = direct(github)
    assert (made["release"]["tag"], made["release"]["previous"]) == ("v1.1.0", "v1.0.0")
    assert "words" in made["release"]["notes"]
    assert released(github, "v1.1.0-rc.1")[0]["prerelease"]
    assert not released(github, "v1.1.0")[0]["prerelease"]


@pytest.mark.parametrize("configured", [True, False])
def test_a_tag_is_signed_with_gits_key(github: Scene, tmp_path: Path, configured: bool) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ada@example.org {key.with_suffix('.pub').read_text()}")
    settings = {"gpg.format": "ssh", "user.signingKey": str(key), "user.email": "ada@example.org", "user.name": "Ada"}
    for name, value in settings.items():
        github.app.git("config", name, value)
    if configured:
        github.app.git("config", "tag.gpgSign", "true")
    made = direct(github, *(() if configured else ("--sign",)))
    assert tag_of(github, made["release"]["tag"]) == made["release"]["commit"]
    verify = ("-c", f"gpg.ssh.allowedSignersFile={allowed}", "-c", "gpg.format=ssh", "verify-tag", "v0.1.0")
    git_world.git(bare(github), *verify)
    assert direct(github, "--sign")["outcome"] == "unchanged"


def test_a_key_that_does_not_sign_leaves_nothing_behind(github: Scene, tmp_path: Path) -> None:
    github.app.git("config", "gpg.format", "ssh")
    github.app.git("config", "user.signingKey", str(tmp_path / "nothing"))
    head = github.app.git("rev-parse", "HEAD")
    done = github.run("release", "--commit", head, "--allow-not-running", "--sign", "--json")
    assert done.json["error"]["class"] == "GitUnusable", done.stderr
    assert github.app.git("tag") == git_world.git(bare(github), "tag") == ""
    assert released(github) == []


HOSTILE = (
    "feat: @everyone <img src=x onerror=alert(1)> `code` [x](https://evil.example) #1",
    "fix: ::set-output name=a::b",
    "::error::forged",
    "fix($(touch hacked)): ##[error]x",
    "| a | b |\x1b[2J\x07",
)


def test_hostile_commits_are_text(github: Scene) -> None:
    git_world.git(bare(github), "tag", "v1.0.0", "main")
    commit(github, *HOSTILE)
    actions = {"GITHUB_ACTIONS": "true"}
    head = github.app.git("rev-parse", "HEAD")
    done = github.run("release", "--commit", head, "--allow-not-running", "--dry-run", environ=actions)
    assert done.code == 0, done.stderr
    notes = done.stdout
    assert not [line for line in notes.splitlines() if line.lstrip().startswith("::")]
    for mark in ("@everyone", "<img", "`code`", "[x](", "##[", "https://evil", "\x1b", "\x07"):
        assert mark not in notes, mark
    assert not list(Path(github.app.path).rglob("hacked*"))


def test_a_body_over_githubs_limit_says_what_is_missing(github: Scene) -> None:
    git_world.git(bare(github), "tag", "v1.0.0", "main")
    message = b"fix: " + b"x" * 190
    one = b"commit refs/heads/main\ncommitter Bob <b@example.org> 1700000000 +0000\ndata 195\n%s\n" % message
    parent = b"from %s\n" % git_world.head(bare(github)).encode()
    git_world.git(bare(github), "fast-import", "--quiet", stdin=one + parent + one * 700)
    made = direct(github, at=git_world.head(bare(github)))
    notes = made["release"]["notes"]
    assert len(notes) <= 125_000
    assert "more commits\n" in notes


def test_what_is_missing_is_said(github: Scene) -> None:
    def error(*flags: str, **environ: str) -> tuple[int, str, str]:
        done = github.run("release", *flags, "--json", environ=environ)
        return done.code, done.json["error"]["class"], f"{done.json['error']['message']} {done.json['error']['remedy']}"

    head = github.app.git("rev-parse", "HEAD")
    there = ("--commit", head, "--allow-not-running")
    assert error(*there, GITHUB_TOKEN="")[:2] == (2, "UsageError")
    assert error(*there, GITHUB_API_URL="")[:2] == (2, "UsageError")
    assert error(*there, "--version", "one")[:2] == (2, "UsageError")
    assert error("--commit", "abc")[:2] == (2, "UsageError")
    assert error("--allow-not-running")[:2] == (2, "UsageError")
    github.sandbox.github.permissions["contents"] = "read"
    code, kind, told = error(*there)
    assert (code, kind) == (5, "GitDenied")
    assert "the permission `contents: write`" in told
