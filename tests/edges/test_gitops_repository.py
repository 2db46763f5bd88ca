"""Publishing to real repositories: over smart HTTP, over ssh, and in a bare repository beside us."""

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.core.commit_message import parse
from pipeline.core.kustomization import read_entries
from pipeline.core.secret import Secret
from pipeline.edges.git_objects import DEFAULT_IDENTITY
from pipeline.edges.gitops_repository import Repository, open_repository
from pipeline.errors import (
    BranchIsProtected,
    BranchNotFound,
    CommitRefused,
    GitDenied,
    GitUnusable,
    OverlayNotFound,
    PathOutsideRepository,
    RepositoryNotFound,
    Unreachable,
    UsageError,
)
from tests import needs
from tests.git_world import (
    FILE,
    OVERLAY,
    QUIET,
    bare,
    bump,
    commit,
    content,
    git,
    head,
    hook,
    image,
    kustomization,
    served,
    tag,
)

TOKEN = Secret("t0ken-that-must-not-leak")
Open = Callable[..., Repository]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The machine's own git settings play no part, and nothing temporary stays."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    yield
    assert list(temporary.iterdir()) == []


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """The bare GitOps repository."""
    (tmp_path / "root").mkdir()
    files = {
        FILE: kustomization(flask=tag("old"), node=tag("old")),
        "README.md": b"read me\n",
        "base/kustomization.yaml": b"",
    }
    return bare(tmp_path / "root/gitops.git", files)


@pytest.fixture(params=["http", "http without filters", "http like GitHub", "ssh", "bare"])
def address(request: pytest.FixtureRequest, world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The repository's address, by every transport."""
    if request.param == "bare":
        yield str(world)
    elif request.param == "ssh":
        # ssh itself is not what is tested: a stand-in runs the command that git asks the far side for.
        script = world.parent / "ssh"
        script.write_text('#!/bin/sh\nfor command; do :; done\nexec sh -c "$command"\n')
        script.chmod(0o755)
        monkeypatch.setenv("GIT_SSH_COMMAND", str(script))
        git(world, "config", "uploadpack.allowFilter", "true")
        yield f"ssh://git@example.org{world}"
    else:
        if request.param == "http like GitHub":
            git(world, "config", "uploadpackfilter.allow", "false")
            git(world, "config", "uploadpackfilter.blob:none.allow", "true")
            git(world, "config", "uploadpackfilter.tree.allow", "true")
            git(world, "config", "uploadpackfilter.tree.maxDepth", "0")
        with served(world.parent, partial="without" not in request.param) as url:
            yield f"{url}/{world.name}"


@pytest.fixture(params=["http", "bare"])
def near(request: pytest.FixtureRequest, world: Path) -> Iterator[str]:
    """The repository's address, by the two transports that differ most."""
    if request.param == "bare":
        yield str(world)
    else:
        with served(world.parent) as root:
            yield f"{root}/{world.name}"


@pytest.fixture
def url(world: Path) -> Iterator[str]:
    """The repository's address over HTTP."""
    with served(world.parent) as root:
        yield f"{root}/{world.name}"


@pytest.fixture
def opened() -> Iterator[Open]:
    """open_repository, closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_it(*arguments: str, **options: object) -> Repository:
            repository = open_repository(*arguments, **options)  # type: ignore[arg-type]
            stack.callback(repository.close)
            return repository

        yield open_it


def test_a_tag_is_changed_and_nothing_else(address: str, world: Path, opened: Open) -> None:
    before, old = content(world), head(world)
    change = bump(opened(address), image("flask", "new"), actor="ada")
    assert (change.outcome, change.gitops.revision, change.gitops.branch) == ("published", head(world), "main")
    assert git(world, "diff", "--numstat", old, "main") == f"1\t1\t{FILE}"
    assert content(world) == before.replace(tag("old").encode(), tag("new").encode(), 1)
    assert git(world, "rev-parse", "main^") == old
    trailers = parse(git(world, "log", "-1", "--format=%B", "main"))
    assert trailers is not None
    assert (trailers.actor, trailers.images[0].tag) == ("ada", tag("new"))
    git(world, "fsck", "--strict")


def test_several_commits_from_one_opening(address: str, world: Path, opened: Open) -> None:
    repository = opened(address)
    for word in ("one", "two", "three"):
        commit(world, {f"{word}.txt": b"theirs\n"})
        assert bump(repository, image("flask", word)).gitops.revision == head(world)
    assert len(git(world, "rev-list", "main").splitlines()) == 7
    git(world, "fsck", "--strict")


def test_a_dry_run_changes_nothing_and_its_diff_applies(near: str, world: Path, opened: Open, tmp_path: Path) -> None:
    refs = git(world, "for-each-ref")
    objects = git(world, "count-objects", "-v")
    change = bump(opened(near), image("flask", "new"), dry_run=True)
    assert change.outcome == "planned"
    assert (git(world, "for-each-ref"), git(world, "count-objects", "-v")) == (refs, objects)
    git(tmp_path, "clone", "--quiet", str(world), "copy")
    git(tmp_path / "copy", "apply", "-", stdin=change.diff.encode())
    assert tag("new") in (tmp_path / "copy" / FILE).read_text()


def test_nothing_to_do_is_unchanged(near: str, world: Path, opened: Open) -> None:
    change = bump(opened(near), image("flask", "old"))
    assert (change.outcome, change.gitops.revision) == ("unchanged", head(world))


def test_a_lost_race_is_won_the_second_time(address: str, world: Path, opened: Open) -> None:
    repository = opened(address)
    first = repository.read([OVERLAY, FILE])
    theirs = commit(world, {FILE: kustomization(flask=tag("old"), node=tag("theirs"))})
    assert repository.publish(first, {FILE: b"ours"}, "ours") is None
    change = bump(repository, image("flask", "new"))
    assert git(world, "rev-parse", "main^") == theirs
    assert {entry.name: entry.tag for entry in read_entries(content(world), FILE)} == {
        "flask": tag("new"),
        "node": tag("theirs"),
    }
    assert change.gitops.attempts == 1


@pytest.mark.parametrize("rewritten", ["to an older commit", "to another history"])
def test_a_branch_that_was_rewritten_meanwhile_is_a_lost_race(
    near: str, world: Path, opened: Open, rewritten: str
) -> None:
    older = head(world)
    commit(world, {FILE: kustomization(flask=tag("newer"))})
    repository = opened(near)
    first = repository.read([FILE])
    if rewritten == "to an older commit":
        git(world, "update-ref", "refs/heads/main", older)
    else:
        git(world, "update-ref", "-d", "refs/heads/main")
        commit(world, {FILE: kustomization(flask=tag("other"))})
    now = head(world)
    assert repository.publish(first, {FILE: b"ours"}, "ours") is None
    assert head(world) == now


def test_a_commit_that_landed_though_git_was_told_otherwise_is_found(address: str, world: Path, opened: Open) -> None:
    """A hook moves the branch on, with our commit below, and makes the push look like a failure."""
    repository = opened(address)
    hook(
        world,
        "update",
        "git update-ref $1 $3 && c=$(git commit-tree -p $3 -m theirs $3^{tree}) && git update-ref $1 $c; exit 1",
    )
    change = bump(repository, image("flask", "new"))
    assert change.outcome == "published"
    assert change.gitops.revision == git(world, "rev-parse", "main^")
    assert len(git(world, "rev-list", "main").splitlines()) == 3


def test_many_writers_at_once_lose_nothing(world: Path, url: str, opened: Open) -> None:
    names = [f"service-{number}" for number in range(12)]
    commit(world, {FILE: kustomization(**dict.fromkeys(names, tag("old")))})
    outcomes: list[str] = []

    def write(name: str) -> None:
        outcomes.append(bump(opened(url), image(name, name)).outcome)

    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["published"] * len(names)
    assert {entry.name: entry.tag for entry in read_entries(content(world), FILE)} == {
        name: tag(name) for name in names
    }
    assert len(git(world, "rev-list", "--first-parent", "main").splitlines()) == 2 + len(names)


def test_modes_and_strange_names_stay(near: str, world: Path, opened: Open, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(world), "work")
    work = tmp_path / "work"
    (work / FILE).chmod(0o755)
    (work / OVERLAY / "link").symlink_to("kustomization.yaml")
    Path(os.fsdecode(bytes(work / OVERLAY) + b"/caf\xe9")).write_bytes(b"latin")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "-m", "odd")
    git(work, "push", "--quiet")
    before = git(world, "ls-tree", "-r", "-z", "main")
    bump(opened(near))
    after = git(world, "ls-tree", "-r", "-z", "main")
    changed = set(before.split("\0")) ^ set(after.split("\0"))
    assert [line.split()[0] for line in changed] == ["100755", "100755"]
    git(world, "fsck", "--strict")


def test_a_symbolic_link_inside_is_followed(near: str, world: Path, opened: Open, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(world), "work")
    (tmp_path / "work/overlays/canary").symlink_to("production")
    git(tmp_path / "work", "add", ".")
    git(tmp_path / "work", "commit", "--quiet", "-m", "link")
    git(tmp_path / "work", "push", "--quiet")
    change = bump(opened(near), overlays=("overlays/canary", OVERLAY))
    assert change.gitops.changed[0].file == FILE
    assert git(world, "diff", "--name-only", "main^", "main") == FILE


@pytest.mark.parametrize("target", ["../../outside", "/etc", "loop"])
def test_a_symbolic_link_that_leaves_is_refused(
    near: str, world: Path, opened: Open, tmp_path: Path, target: str
) -> None:
    git(tmp_path, "clone", "--quiet", str(world), "work")
    (tmp_path / "work/overlays/loop").symlink_to(target)
    git(tmp_path / "work", "add", ".")
    git(tmp_path / "work", "commit", "--quiet", "-m", "link")
    git(tmp_path / "work", "push", "--quiet")
    with pytest.raises(PathOutsideRepository):
        bump(opened(near), overlays=("overlays/loop",))


@pytest.mark.parametrize("overlay", ["../x", "/etc", "overlays/../../x"])
def test_a_path_outside_is_refused(near: str, opened: Open, overlay: str) -> None:
    with pytest.raises(PathOutsideRepository):
        bump(opened(near), overlays=(overlay,))


def test_missing_overlays_are_told_with_what_is_there(near: str, world: Path, opened: Open) -> None:
    commit(world, {"docs/notes.txt": b""})
    with pytest.raises(OverlayNotFound, match="no overlays/prod on main; overlays has production"):
        bump(opened(near), overlays=("overlays/prod",))
    with pytest.raises(OverlayNotFound, match=r"docs .* holds no kustomization file; it has notes.txt"):
        bump(opened(near), overlays=("docs",))


def test_new_files_are_made_with_their_folders(address: str, world: Path, opened: Open) -> None:
    repository = opened(address)
    now = repository.read([])
    assert repository.publish(now, {"production/4711.json": b"{}", "base/x/y": b"1"}, "record") == head(world)
    assert content(world, "production/4711.json") == b"{}"
    assert content(world, "base/x/y") == b"1"
    git(world, "fsck", "--strict")


def test_an_image_that_no_manifest_names_is_warned_about(address: str, world: Path, opened: Open) -> None:
    web = b"kind: Pod\nspec:\n  containers:\n    - image: registry.oud.kr/flask\n"
    overlay = b"resources: [../../base]\nimages: [{name: flask}]\n"
    commit(world, {FILE: overlay, "base/kustomization.yaml": b"resources: [web.yaml]\n", "base/web.yaml": web})
    assert "no manifest has the image flask" in bump(opened(address)).warnings[0]


def test_a_large_file_is_read_whole(address: str, world: Path, opened: Open) -> None:
    large = os.urandom(3 << 20)
    commit(world, {"large": large})
    assert opened(address).read(["large"]).files == {"large": large}


def test_a_branch_other_than_the_default(near: str, world: Path, opened: Open) -> None:
    main = head(world)
    git(world, "branch", "live/eu", "main")
    change = bump(opened(near, "live/eu"))
    assert (change.gitops.branch, change.gitops.revision) == ("live/eu", head(world, "live/eu"))
    assert head(world) == main


def test_a_missing_branch_is_told_with_those_that_are_there(near: str, opened: Open) -> None:
    with pytest.raises(BranchNotFound, match="no branch 'none'; it has main"):
        opened(near, "none").read([])


@pytest.mark.parametrize("branch", ["a:b", "a..b", "a b", "x\ny", "*", "/x", "-", "--upload-pack=touch x"])
def test_a_branch_name_that_git_forbids_is_not_found(near: str, opened: Open, branch: str) -> None:
    with pytest.raises(BranchNotFound):
        opened(near, branch).read([])


def test_a_repository_with_other_object_names_is_told(tmp_path: Path, opened: Open) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "--object-format=sha256", "other/gitops.git")
    with served(tmp_path / "other") as url:
        for address in (str(tmp_path / "other/gitops.git"), f"{url}/gitops.git"):
            with pytest.raises((GitUnusable, BranchNotFound)):
                opened(address, "main").read([])


@pytest.mark.parametrize("branch", [None, "main"])
def test_an_empty_repository_is_told(tmp_path: Path, opened: Open, branch: str | None) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    bare(root / "gitops.git")
    with served(root) as url:
        for address in (f"{url}/gitops.git", str(root / "gitops.git")):
            with pytest.raises(BranchNotFound, match="the repository is empty"):
                opened(address, branch).read([])


def test_a_missing_repository_is_told(url: str, tmp_path: Path, opened: Open) -> None:
    for address in (f"{url}-none", str(tmp_path / "none"), str(tmp_path), "/", str(Path(__file__).parents[2] / ".git")):
        with pytest.raises(RepositoryNotFound):
            opened(address).read([])


def test_a_server_that_is_not_there_is_unreachable(opened: Open) -> None:
    with pytest.raises(Unreachable, match=re.escape("http://127.0.0.1:1/x")):
        opened("http://127.0.0.1:1/x").read([])


@pytest.mark.parametrize("name", ["pre-receive", "update"])
def test_a_protected_branch_is_told_with_the_server_s_words(
    near: str, world: Path, opened: Open, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.edges.git_push.PAUSES", (0, 0))
    hook(world, name, "echo no deployments on Friday; exit 1")
    old = head(world)
    with pytest.raises(BranchIsProtected, match="no deployments on Friday"):
        bump(opened(near))
    assert head(world) == old


def test_a_branch_that_is_locked_for_a_moment_is_tried_again(near: str, world: Path, opened: Open) -> None:
    lock = world / "refs/heads/main.lock"
    lock.touch()
    timer = threading.Timer(0.4, lock.unlink)
    timer.start()
    assert bump(opened(near)).outcome == "published"
    timer.join()


def test_a_branch_that_stays_locked_is_told(
    near: str, world: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.edges.git_push.PAUSES", (0, 0))
    (world / "refs/heads/main.lock").touch()
    with pytest.raises(CommitRefused):
        bump(opened(near))


def test_only_a_work_tree_can_do_without_a_push(near: str, opened: Open) -> None:
    for options in ({"push": False}, {"commit": False}):
        with pytest.raises(UsageError, match="local work tree"):
            opened(near, **options)


# Credentials


def test_a_token_opens_and_leaves_no_trace(
    world: Path, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "processes"
    _spy(tmp_path, log, monkeypatch)
    with served(world.parent, token=TOKEN) as root:
        for address, token in (
            (f"{root}/gitops.git", TOKEN),
            (f"http://ada:{TOKEN.reveal()}@{root.removeprefix('http://')}/gitops.git", None),
        ):
            repository = opened(address, token=token)
            word = "one" if token else "two"
            assert bump(repository, image("flask", word)).outcome == "published"
            assert repository.name == f"{root}/gitops.git"
            assert TOKEN.reveal() not in log.read_text()
            folders = list((tmp_path / "tmp").iterdir())
            assert folders
            assert not any(
                TOKEN.reveal().encode() in file.read_bytes() for f in folders for file in f.rglob("*") if file.is_file()
            )
            repository.close()


def _spy(folder: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a git before the real one that writes its arguments down."""
    real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
    spy = folder / "bin/git"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {log}\nexec {real} "$@"\n')
    spy.chmod(spy.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize("token", [None, Secret("wrong-and-secret")])
def test_without_the_right_token_access_is_denied(world: Path, opened: Open, token: Secret | None) -> None:
    with served(world.parent, token=TOKEN) as root:
        with pytest.raises(GitDenied) as caught:
            opened(f"{root}/gitops.git", token=token).read([])
        assert "wrong-and-secret" not in str(caught.value)


def test_a_wrong_token_is_not_replaced_by_the_machine_s_own_credentials(
    world: Path, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text(f'[credential]\n\thelper = "!f() {{ echo username=a; echo password={TOKEN.reveal()}; }}; f"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    with served(world.parent, token=TOKEN) as root:
        with pytest.raises(GitDenied):
            opened(f"{root}/gitops.git", token=Secret("wrong")).read([])
        assert bump(opened(f"{root}/gitops.git")).outcome == "published"


def test_a_token_that_may_only_read_is_denied(world: Path, opened: Open) -> None:
    """As GitHub answers: 403 for the push."""
    from pipeline.sandbox.git_http import git_http
    from pipeline.sandbox.server import Server

    inner = git_http(world.parent)

    def read_only(environ: dict[str, object], start_response: Callable[..., object]) -> object:
        if "git-receive-pack" in f"{environ['PATH_INFO']}{environ['QUERY_STRING']}":
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"Write access to repository not granted."]
        return inner(environ, start_response)  # type: ignore[arg-type]

    server = Server(read_only)  # type: ignore[arg-type]
    try:
        with pytest.raises(GitDenied, match="403"):
            bump(opened(f"http://127.0.0.1:{server.port}/gitops.git"))
    finally:
        server.close()


# Who commits


def committed_by(world: Path) -> tuple[str, str]:
    author, committer = git(world, "log", "-1", "--format=%an <%ae>%n%cn <%ce>", "main").splitlines()
    return author, committer


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET:
        if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER")):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("author", "committer", "expected"),
    [
        (None, None, (DEFAULT_IDENTITY, DEFAULT_IDENTITY)),
        ("Eve <e@x>", None, ("Eve <e@x>", "Eve <e@x>")),
        ("Eve <e@x>", "Bot <b@x>", ("Eve <e@x>", "Bot <b@x>")),
        (None, "Bot <b@x>", (DEFAULT_IDENTITY, "Bot <b@x>")),
    ],
)
def test_author_and_committer_may_be_given(
    world: Path, opened: Open, author: str | None, committer: str | None, expected: tuple[str, str]
) -> None:
    bump(opened(str(world), author=author, committer=committer))
    assert committed_by(world) == expected


def test_git_s_own_settings_say_who_commits(
    world: Path, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bump(opened(str(world)), image("flask", "one"))
    assert committed_by(world) == ("Ada <ada@example.org>", "Ada <ada@example.org>")
    for name in QUIET:
        if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER")):
            monkeypatch.delenv(name)
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Grace\n\temail = g@x\n[author]\n\tname = Alan\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    bump(opened(str(world)), image("flask", "two"))
    assert committed_by(world) == ("Alan <g@x>", "Grace <g@x>")


@pytest.mark.parametrize("person", ["Eve", "<e@x>", "Eve <>", "Eve <e@x> more", "Eve\n <e@x>"])
def test_a_person_has_a_name_and_an_address(world: Path, opened: Open, person: str) -> None:
    with pytest.raises(UsageError, match="is not 'NAME <MAIL>'"):
        bump(opened(str(world), author=person))


def test_a_commit_is_signed_when_git_is_set_so(
    world: Path, url: str, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (tmp_path / "allowed").write_text(f"ada@example.org {key.with_suffix('.pub').read_text()}")
    settings = f"[commit]\n\tgpgsign\n[gpg]\n\tformat = ssh\n[user]\n\tsigningkey = {key}\n"
    (tmp_path / "gitconfig").write_text(settings)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    bump(opened(url))
    git(world, "-c", f"gpg.ssh.allowedSignersFile={tmp_path}/allowed", "verify-commit", "main")

    key.unlink()
    old = head(world)
    with pytest.raises(GitUnusable):
        bump(opened(url), image("flask", "newer"))
    assert head(world) == old


def test_a_commit_is_signed_with_gpg_when_git_is_set_so(
    world: Path, url: str, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("gpg"):
        needs.missing("gpg is not installed")
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp") as home:  # its socket's path must be short
        monkeypatch.setenv("GNUPGHOME", home)
        key = ("--batch", "--passphrase", "", "--quick-gen-key", "Ada <ada@example.org>", "ed25519")
        subprocess.run(["gpg", "--quiet", *key], check=True, capture_output=True)
        settings = "[commit]\n\tgpgsign\n[user]\n\tsigningkey = ada@example.org\n"
        (tmp_path / "gitconfig").write_text(settings)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        try:
            bump(opened(url))
            verified = subprocess.run(["git", "-C", world, "verify-commit", "main"], capture_output=True, text=True)
            assert "Good signature" in verified.stderr
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], check=False)


# History


def test_history_tells_what_each_commit_made_of_the_file(address: str, world: Path, opened: Open) -> None:
    repository = opened(address)
    for word in ("one", "two"):
        bump(repository, image("flask", word))
        commit(world, {"README.md": word.encode()})
    steps = list(repository.history([FILE], 10))
    tags = [
        tuple(
            read_entries(data, FILE)[0].tag if data else None for data in (step.before.get(FILE), step.after.get(FILE))
        )
        for step in steps
    ]
    assert tags == [(tag("one"), tag("two")), (tag("old"), tag("one")), (None, tag("old"))]
    assert parse(steps[0].message) is not None
    assert parse(steps[2].message) is None
    assert steps[0].revision == git(world, "rev-parse", "main^")
    assert [step.revision for step in repository.history([FILE], 2)] == [step.revision for step in steps[:2]]
    assert list(repository.history(["nowhere"], 5)) == []


def test_history_is_deepened_as_far_as_it_is_asked_for(
    url: str, world: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.edges.gitops_repository._DEPTHS", (3, 6, 2**31 - 1))
    for number in range(9):
        commit(world, {FILE: kustomization(flask=tag(str(number)))})
    revisions = [step.revision for step in opened(url).history([FILE], 100)]
    assert revisions == git(world, "rev-list", "main", "--", FILE).splitlines()
    assert len(revisions) == 10


def test_descent_is_told_between_any_two_commits(near: str, world: Path, opened: Open) -> None:
    first = head(world)
    second = commit(world, {"x": b"1"})
    git(world, "branch", "side", first)
    side = commit(world, {"y": b"1"}, branch="side")
    repository = opened(near)
    assert repository.descends(second, first) is True
    assert repository.descends(second, second) is True
    assert repository.descends(first, second) is False
    assert repository.descends(side, second) is False
    assert repository.descends("1" * 40, second) is None


# How lean it is


def test_a_bump_takes_seven_requests(world: Path, opened: Open) -> None:
    """Refs, commit and first trees, folder and file; then the push: no object is fetched on its own."""
    from pipeline.sandbox.git_http import git_http
    from pipeline.sandbox.server import Server

    requests: list[str] = []
    inner = git_http(world.parent)

    def counting(environ: dict[str, object], start_response: Callable[..., object]) -> object:
        requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        return inner(environ, start_response)  # type: ignore[arg-type]

    server = Server(counting)  # type: ignore[arg-type]
    try:
        bump(opened(f"http://127.0.0.1:{server.port}/gitops.git", "main"))
    finally:
        server.close()
    assert len(requests) == 7


def test_an_interrupt_leaves_nothing(world: Path, url: str, tmp_path: Path) -> None:
    """Ctrl-C while the server's hook dawdles: the command ends, no folder stays, and git goes with it."""
    hook(world, "pre-receive", "sleep 2")
    code = (
        "import signal, sys, tempfile\n"
        f"tempfile.tempdir = {str(tmp_path / 'tmp')!r}\n"
        "from pipeline.edges.gitops_repository import open_repository\n"
        "from tests.git_world import bump\n"
        "print('ready', flush=True)\n"
        "bump(open_repository(sys.argv[1]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        while not list((tmp_path / "tmp").iterdir()):
            pass
        threading.Event().wait(1)
        process.send_signal(2)
        _, stderr = process.communicate()
    assert b"KeyboardInterrupt" in stderr
    assert list((tmp_path / "tmp").iterdir()) == []
