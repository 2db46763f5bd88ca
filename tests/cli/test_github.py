"""`bump` through GitHub's API: the sandbox's, held against GitHub's contracts in every exchange."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from pipeline.sandbox.world import GITHUB_TOKEN
from tests import git_world, github_contract
from tests.cli.conftest import Scene

OVERLAY = "overlays/production/kustomization.yaml"
NEW = "c" * 40
FLAGS = ("--image", f"openegflask={NEW}", "--no-check-image")


@pytest.fixture
def github(scene: Scene) -> Iterator[Scene]:
    """The scene, with its repositories on GitHub."""
    scene.environ.update(GITHUB_API_URL=scene.sandbox.github_url, GITOPS_TOKEN=GITHUB_TOKEN.reveal())
    yield scene
    for exchange in scene.sandbox.github.exchanges:
        github_contract.check(exchange)


def bare(scene: Scene) -> Path:
    return scene.sandbox.git_root / "openeg-gitops.git"


def asked(scene: Scene) -> list[str]:
    """What was asked of the API: `read`, `commit` or the path of the REST API."""
    return [
        ("commit" if exchange.sent["query"].startswith("mutation") else "read")
        if exchange.path == "/api/graphql"
        else re.sub("[0-9a-f]{40}", "SHA", exchange.path)
        for exchange in scene.sandbox.github.exchanges
    ]


def test_the_same_commit_is_made_as_over_git(github: Scene) -> None:
    ci = {"GITHUB_RUN_ID": "4711", "GITHUB_ACTOR": "ada"}
    begin = git_world.head(bare(github))
    done = github.run("bump", *FLAGS, "--json", environ=ci)
    assert (done.code, done.json["outcome"], done.json["gitops"]["attempts"]) == (0, "published", 1), done.stderr
    assert "Published through GitHub's API: overlays/production/kustomization.yaml on main" in done.stderr
    by_api = git_world.head(bare(github))
    assert done.json["gitops"]["revision"] == by_api
    git_world.git(bare(github), "update-ref", "refs/heads/main", begin)
    by_git = github.run("bump", *FLAGS, "--json", environ={**ci, "GITHUB_API_URL": ""})
    assert "Published over git:" in by_git.stderr
    for what in ("%T%n%P", "%B"):
        one, other = (git_world.git(bare(github), "log", "-1", f"--format={what}", c) for c in (by_api, "main"))
        assert one == other
    assert git_world.git(bare(github), "log", "-1", "--format=%cn", by_api) == "GitHub"
    assert by_git.json["gitops"]["changed"] == done.json["gitops"]["changed"]


def test_two_round_trips_with_local_history_and_three_without(github: Scene) -> None:
    old = github.app.git("rev-parse", "HEAD")
    new, newest = github.change(), github.change()
    flags = ("--no-check-image", "--json", "--image")
    assert github.run("bump", *flags, f"openegflask={old}").code == 0
    github.sandbox.github.exchanges.clear()
    assert github.run("bump", *flags, f"openegflask={new}").json["outcome"] == "published"
    assert asked(github) == ["read", "commit"]
    github.sandbox.github.exchanges.clear()
    source = ("--source", f"{github.sandbox.git_url}/openeg.git")
    there = ("--gitops", github.gitops_url)
    token = {"GITHUB_TOKEN": GITHUB_TOKEN.reveal()}
    done = github.run("bump", *flags, f"openegflask={newest}", *source, *there, environ=token)
    assert done.json["outcome"] == "published", done.stderr
    compared = "/api/v3/repos/git/openeg/compare/SHA...SHA?page=2&per_page=1"
    assert asked(github) == ["read", compared, "commit"]
    older = github.run("bump", *flags, f"openegflask={new}", *source, *there, environ=token)
    assert older.json["outcome"] == "superseded"
    again = github.run("bump", *flags, f"openegflask={newest}", *source, *there, environ=token)
    assert (again.json["outcome"], again.json["gitops"]["revision"]) == ("unchanged", git_world.head(bare(github)))


def test_a_side_branch_is_found_out_by_the_compare_api(github: Scene) -> None:
    base = github.app.git("rev-parse", "HEAD")
    main = github.change()
    git_world.git(github.sandbox.git_root / "openeg.git", "branch", "side", base)
    side = git_world.commit(github.sandbox.git_root / "openeg.git", {"more": b"x"}, branch="side")
    where = ("--source", f"{github.sandbox.git_url}/openeg.git", "--gitops", github.gitops_url)
    flags = (*where, "--no-check-image", "--json", "--image")
    token = {"GITHUB_TOKEN": GITHUB_TOKEN.reveal()}
    assert github.run("bump", *flags, f"openegflask={side}", environ=token).code == 0
    done = github.run("bump", *flags, f"openegflask={main}", environ=token)
    assert done.json["outcome"] == "published", "it is on the default branch"
    done = github.run("bump", *flags, f"openegflask={side}", environ=token)
    assert done.json["error"]["class"] == "Diverged"


@pytest.mark.parametrize("kind", ["executable", "link", "folder link", "lfs", "branch", "author", "token"])
def test_git_takes_over_what_the_api_cannot_do_and_it_is_said(github: Scene, kind: str) -> None:
    file = github.gitops.path / OVERLAY
    flags: tuple[str, ...] = ()
    environ = {}
    match kind:
        case "executable":
            file.chmod(0o755)
            why = f"{OVERLAY} is executable"
        case "link":
            file.rename(file.with_name("real.yaml"))
            file.symlink_to("real.yaml")
            why = f"{OVERLAY} is a symbolic link"
        case "folder link":
            file.parent.rename(github.gitops.path / "overlays/live")
            file.parent.symlink_to("live")
            why = "overlays/production is a symbolic link"
        case "lfs":
            file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
            why = f"{OVERLAY} is kept in Git LFS"
        case "branch":
            flags, why = ("--branch", "nothing"), "there is no branch nothing"
        case "author":
            flags, why = ("--author", "Ada <ada@example.com>"), "it does not let us choose author and committer"
        case _:
            environ, why = {"GITOPS_TOKEN": ""}, "neither GITOPS_TOKEN, GITHUB_TOKEN nor GITHUB_APP_ID is set"
    github.gitops.git("add", "--all")
    github.gitops.git("commit", "--quiet", "--allow-empty", "--message", kind)
    github.gitops.git("push", "--quiet", "origin", "HEAD:main")
    done = github.run("bump", *FLAGS, *flags, "--json", environ=environ)
    assert f"Using git instead of GitHub's API: {why}\n" in done.stderr
    assert "commit" not in asked(github)
    if kind == "branch":
        assert (done.code, done.json["error"]["class"]) == (4, "BranchNotFound")
        assert "it has main" in done.json["error"]["message"]
    elif kind == "lfs":
        assert (done.code, done.json["error"]["class"]) == (2, "KustomizationUnusable")
    else:
        assert done.json["outcome"] == "published", done.stderr
        assert "Published over git:" in done.stderr
        real = {"link": "overlays/production/real.yaml", "folder link": "overlays/live/kustomization.yaml"}
        assert NEW.encode() in git_world.content(bare(github), real.get(kind, OVERLAY))
    if kind == "executable":
        assert git_world.git(bare(github), "ls-tree", "main", OVERLAY).startswith("100755")


def test_a_submodule_is_left_to_git(github: Scene) -> None:
    github.gitops.git("rm", "-r", "--quiet", "overlays/production")
    github.gitops.git("update-index", "--add", "--cacheinfo", f"160000,{NEW},overlays/production")
    github.gitops.git("commit", "--quiet", "--message", "Have the overlay elsewhere")
    github.gitops.git("push", "--quiet", "origin", "HEAD:main")
    done = github.run("bump", *FLAGS, "--json")
    assert "Using git instead of GitHub's API: overlays/production is a submodule\n" in done.stderr
    over_git = github.run("bump", *FLAGS, "--json", environ={"GITHUB_API_URL": ""})
    assert (done.code, done.json["error"]) == (over_git.code, over_git.json["error"])
    assert (done.code, done.json["error"]["class"]) == (4, "OverlayNotFound")
    assert asked(github) == ["read"]


@pytest.mark.parametrize("kind", ["long", "latin-1", "byte order mark", "crlf"])
def test_bytes_that_the_text_does_not_carry_stay_as_they_are(github: Scene, kind: str) -> None:
    text = github.overlay()
    before = {
        "long": text.encode() + b"# filler\n" * 70_000,
        "latin-1": f"# größe\n{text}".encode("latin-1"),
        "byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
    }[kind]
    git_world.commit(bare(github), {OVERLAY: before})
    done = github.run("bump", *FLAGS, "--json")
    raw = [path for path in asked(github) if "/git/blobs/" in path]
    if kind == "latin-1":  # fetched whole, and refused for what it is, as over git
        assert (raw[:1], done.json["error"]["class"]) == (
            ["/api/v3/repos/git/openeg-gitops/git/blobs/SHA"],
            "KustomizationUnusable",
        )
        return
    assert done.json["outcome"] == "published", done.stderr
    assert bool(raw) == (kind == "long")
    after = git_world.content(bare(github), OVERLAY)
    added = next(line for line in after.splitlines(keepends=True) if NEW.encode() in line)
    assert after.replace(added, b"") == before


def test_thirty_at_once_lose_nothing_and_double_nothing(
    github: Scene, record_property: Callable[[str, object], None]
) -> None:
    names = [f"app{number}" for number in range(30)]
    git_world.commit(bare(github), {OVERLAY: git_world.kustomization(**dict.fromkeys(names, git_world.tag("old")))})
    before = git_world.head(bare(github))
    began = time.monotonic()

    def bump(name: str) -> int:
        flags = ("--image", f"{name}={git_world.tag(name)}", "--no-check-image", "--deadline", "110", "--json")
        done = github.run("bump", *flags)
        assert done.json["outcome"] == "published", done.stderr
        return int(done.json["gitops"]["attempts"])

    with ThreadPoolExecutor(30) as pool:
        attempts = list(pool.map(bump, names))
    seconds = time.monotonic() - began
    assert git_world.content(bare(github), OVERLAY) == git_world.kustomization(
        **{name: git_world.tag(name) for name in names}
    )
    headlines = git_world.git(bare(github), "log", "--format=%s", f"{before}..main").splitlines()
    assert sorted(headlines) == sorted(f"deploy(production): {name} {git_world.tag(name)[:7]}" for name in names)
    writes = asked(github).count("commit")
    figure = f"30 bumps at once through GitHub's API: {sum(attempts)} attempts, {writes} writes, {seconds:.0f} s"
    record_property("figure", figure)


@pytest.mark.parametrize("outages", [("before",), ("after",), ("before", "before"), ("before", "after")])
def test_a_lost_answer_is_looked_into(github: Scene, outages: tuple[Literal["before", "after"], ...]) -> None:
    github.sandbox.github.outages += outages
    done = github.run("bump", *FLAGS, "--json")
    assert (done.code, done.json["gitops"]["revision"]) == (0, git_world.head(bare(github))), done.stderr
    assert github.log() == ["deploy(production): openegflask ccccccc", "Nothing deployed yet"]


def test_an_outage_that_lasts_is_told(github: Scene) -> None:
    github.sandbox.github.outages += ["before"] * 10
    done = github.run("bump", *FLAGS, "--json")
    assert (done.code, done.json["error"]["class"]) == (7, "Unreachable")
    assert "answered with HTTP 502" in done.json["error"]["message"]
    assert len(github.log()) == 1


def test_errors_say_what_is_missing(github: Scene) -> None:
    def error(*flags: str, **environ: str) -> tuple[int, str, str, str]:
        done = github.run("bump", *FLAGS, *flags, "--json", environ=environ)
        told = done.json["error"]
        return done.code, told["class"], told["message"], told["remedy"]

    service = github.sandbox.github
    code, kind, message, remedy = error(GITOPS_TOKEN="ghp_wrong")
    assert (code, kind) == (5, "GitDenied")
    assert "Bad credentials" in message
    assert "has not expired" in remedy
    code, kind, message, _ = error("--gitops", f"{github.sandbox.git_url}/nothing.git")
    assert (code, kind) == (4, "RepositoryNotFound")
    assert "git/nothing" in message
    service.protected.add("main")
    code, kind, message, _ = error()
    assert (code, kind) == (3, "BranchIsProtected")
    assert "through a pull request" in message
    service.permissions["contents"] = "read"
    code, kind, message, remedy = error()
    assert (code, kind) == (5, "GitDenied")
    assert "the token lacks the permission `contents: write`" in message
    assert "contents: write" in remedy
    del service.permissions["contents"]
    code, kind, message, _ = error()
    assert (code, kind) == (5, "GitDenied")
    assert "`contents: read`" in message
    assert len(github.log()) == 1


def test_a_token_that_single_sign_on_does_not_know_is_told_where_to_be_authorized(github: Scene) -> None:
    address = "https://github.com/orgs/openeg/sso?authorization_request=AZSCKtL4U8yX1H3sCQIVnVgmjmon5fWxks"
    github.sandbox.github.sign_on = address
    done = github.run("bump", *FLAGS, "--json")
    assert (done.code, done.json["error"]["class"]) == (5, "GitDenied")
    assert "SAML" in done.json["error"]["message"]
    assert address in done.json["error"]["remedy"]
    where = ("--source", f"{github.sandbox.git_url}/openeg.git", "--gitops", github.gitops_url)
    compared = github.run("bump", *FLAGS, *where, "--json", environ={"GITHUB_TOKEN": GITHUB_TOKEN.reveal()})
    assert address in compared.json["error"]["remedy"]


def test_a_renamed_repository_is_found_and_its_new_name_told(github: Scene) -> None:
    old = github.app.git("rev-parse", "HEAD")
    new = github.change()
    for name in ("openeg-gitops", "openeg"):
        (github.sandbox.git_root / f"{name}.git").rename(github.sandbox.git_root / f"{name}-2.git")
        github.sandbox.github.renamed[name] = f"{name}-2"
    flags = ("--source", f"{github.sandbox.git_url}/openeg.git", "--gitops", github.gitops_url, "--no-check-image")
    token = {"GITHUB_TOKEN": GITHUB_TOKEN.reveal()}
    for tag in (old, new):
        done = github.run("bump", *flags, "--image", f"openegflask={tag}", "--json", environ=token)
        assert done.json["outcome"] == "published", done.stderr
        assert "git/openeg-gitops is called git/openeg-gitops-2 now: change the address" in done.stderr
    head = git_world.head(github.sandbox.git_root / "openeg-gitops-2.git")
    assert done.json["gitops"]["revision"] == head
    statuses = [exchange.status for exchange in github.sandbox.github.exchanges if "/compare/" in exchange.path]
    assert statuses == [301, 200]


def test_rate_limits_are_waited_for_within_the_deadline_and_no_longer(github: Scene) -> None:
    limits = github.sandbox.github.limits
    limits.writes_a_minute, limits.minute_seconds = 1, 12
    assert github.run("bump", *FLAGS).code == 0
    later = ("--image", f"openegnode={NEW}", "--no-check-image", "--json")
    hurried = github.run("bump", *later, "--deadline", "0.5")
    assert (hurried.code, hurried.json["error"]["class"]) == (7, "RateLimited")
    assert "secondary rate limit" in hurried.json["error"]["message"]
    patient = github.run("bump", *later)
    assert patient.json["outcome"] == "published"
    assert "GitHub's rate limit is reached: waiting" in patient.stderr
    limits.requests_an_hour = 0
    done = github.run("bump", *later)
    assert (done.code, done.json["error"]["class"]) == (7, "RateLimited")
    assert "API rate limit exceeded" in done.json["error"]["message"]


HOSTILE = [
    "x$(touch hacked)`touch hacked`;touch hacked",
    'x"}) { viewer { login } } #',
    "::set-output name=a::b",
    "x%0A::error::forged",
    "[x](mailto:a@example.org)<img src=x>",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(github: Scene, name: str) -> None:
    folder = github.gitops.path / name
    folder.mkdir()
    (folder / "kustomization.yaml").write_bytes(git_world.kustomization(a="old"))
    (github.gitops.path / ".deploy/config.yaml").unlink()
    github.gitops.commit(name)
    flags = ("--image", f"a={NEW}", "--overlay", name, "--env", name, "--no-check-image", "--json")
    actor = {"GITHUB_ACTOR": f"{name}\nDeploy-Kind: rollback", "GITHUB_RUN_ID": "1", "GITHUB_ACTIONS": "true"}
    done = github.run("bump", *flags, environ=actor)
    assert done.json["outcome"] == "published", done.stderr
    assert NEW.encode() in git_world.content(bare(github), f"{name}/kustomization.yaml")
    body = git_world.git(bare(github), "log", "-1", "--format=%B", "main")
    assert f"Deploy-Actor: {name} Deploy-Kind: rollback\n" in body
    commands = [line.partition(" ")[0] for line in done.stderr.splitlines() if line.startswith("::")]
    assert commands == ["::notice"], "our own, of the line that was changed"
    missing = github.run("bump", *flags, "--branch", name, environ=actor)
    assert (missing.code, missing.json["error"]["class"]) == (4, "BranchNotFound")
    assert not list(Path(github.app.path).rglob("hacked*"))


def test_a_deployment_and_its_rollback_go_through_the_api(github: Scene) -> None:
    assert github.run("deploy").code == 0
    github.change()
    done = github.run("deploy", "--service", "flask", "--json")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    back = github.run("rollback", "--image", "openegflask", "--json")
    assert (back.code, back.json["outcome"]) == (0, "deployed"), back.stderr
    sent = [item.sent for item in github.sandbox.github.exchanges if "createCommitOnBranch" in str(item.sent)]
    written = [item["variables"]["input"]["branch"]["branchName"] for item in sent]
    # The first record begins its branch, which git does.
    assert written == ["main", "main", "deploy-records", "main", "deploy-records"]
    committers = git_world.git(bare(github), "log", "-3", "--format=%cn", "main").splitlines()
    assert committers == ["GitHub"] * 3
    assert "Deploy-Kind: rollback" in git_world.git(bare(github), "log", "-1", "--format=%B", "main")


def test_without_pygithub_git_is_used_and_it_is_said(github: Scene, tmp_path: Path) -> None:
    package = tmp_path / "without/github"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'github'\", name='github')\n")
    done = github.run("bump", *FLAGS, "--json", environ={"PYTHONPATH": str(package.parent)})
    assert done.json["outcome"] == "published", done.stderr
    assert "the Python package 'github' is missing (extra: github)" in done.stderr
    assert "Published over git" in done.stderr
