"""The application's repository: what is checked out, and which commit came first."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.core.order import Relation
from pipeline.core.secret import Secret
from pipeline.edges.source_repository import SourceRepository, checkout, open_source
from pipeline.errors import BranchNotFound, GitDenied, PipelineError, RepositoryNotFound
from tests.git_world import QUIET, bare, clone, commit, git, head, served


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


class World:
    """A remote with a line of 100 commits, and a side branch off its fifth."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.remote = bare(folder / "app.git", {"app.py": b"0"})
        self.line = [head(self.remote)]
        for number in range(1, 100):
            if number == 5:
                git(self.remote, "branch", "side", "main")
            self.line.append(commit(self.remote, {"app.py": str(number).encode()}))
        self.side = commit(self.remote, {"hotfix": b"1"}, branch="side")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("source") / "root")


@pytest.fixture
def open_it() -> Iterator[Callable[..., SourceRepository]]:
    """open_source, closed at the end."""
    with ExitStack() as stack:

        def opened(where: str | Path, token: Secret | None = None) -> SourceRepository:
            source = open_source(str(where), token=token)
            assert source is not None
            stack.callback(source.close)
            return source

        yield opened


Opener = Callable[..., SourceRepository]


@pytest.fixture(params=["full clone", "old clone", "shallow clone", "actions checkout", "bare", "http"])
def source(request: pytest.FixtureRequest, world: World, tmp_path: Path, open_it: Opener) -> Iterator[SourceRepository]:
    """The same history, seen from everywhere that a job may stand."""
    with served(world.remote.parent) as url:
        remote = f"{url}/app.git"
        place = tmp_path / "clone"
        if request.param == "bare":
            place = world.remote
        elif request.param == "full clone":
            git(tmp_path, "clone", "--quiet", remote, "clone")
        elif request.param == "old clone":
            git(tmp_path, "clone", "--quiet", str(world.remote), "clone")
            git(place, "reset", "--quiet", "--hard", world.line[50])
            git(place, "remote", "remove", "origin")
            git(place, "reflog", "expire", "--expire=all", "--all")
            git(place, "gc", "--quiet", "--prune=now")
            git(place, "remote", "add", "origin", remote)
        elif request.param == "shallow clone":
            git(tmp_path, "clone", "--quiet", "--depth=1", remote, "clone")
        elif request.param == "actions checkout":
            git(tmp_path, "init", "--quiet", "clone")
            git(place, "remote", "add", "origin", remote)
            git(place, "fetch", "--quiet", "--depth=1", "origin", f"+{world.line[-1]}:refs/remotes/origin/main")
            git(place, "checkout", "--quiet", "--detach", world.line[-1])
        yield open_it(remote if request.param == "http" else place)


def test_the_order_of_commits_is_known(source: SourceRepository, world: World) -> None:
    old, new = world.line[3], world.line[-2]
    assert source.relation(old, new) is Relation.DESCENDANT
    assert source.relation(new, old) is Relation.ANCESTOR
    assert source.relation(new, new) is Relation.EQUAL
    assert source.relation(world.side, new) is Relation.DIVERGED
    assert source.relation(world.line[60], world.line[98]) is Relation.DESCENDANT


def test_what_is_on_the_default_branch_is_known(source: SourceRepository, world: World) -> None:
    assert source.on_default_branch(world.line[2]) is True
    assert source.on_default_branch(world.line[-1]) is True
    assert source.on_default_branch(world.side) is False


def test_a_commit_that_nobody_has_is_told_by_its_remote(source: SourceRepository, world: World) -> None:
    with pytest.raises(PipelineError, match="1" * 40):
        source.relation("1" * 40, world.line[-1])


def test_the_user_s_clone_is_not_touched(world: World, tmp_path: Path, open_it: Opener) -> None:
    with served(world.remote.parent) as url:
        git(tmp_path, "clone", "--quiet", "--depth=1", f"{url}/app.git", "clone")
        place = tmp_path / "clone"
        before = git(place, "for-each-ref"), (place / ".git/shallow").read_text(), git(place, "count-objects", "-v")
        assert open_it(place).relation(world.line[1], world.line[-1]) is Relation.DESCENDANT
        after = git(place, "for-each-ref"), (place / ".git/shallow").read_text(), git(place, "count-objects", "-v")
    assert before == after


def test_an_unpushed_commit_is_compared_with_one_that_is_not_fetched(
    world: World, tmp_path: Path, open_it: Opener
) -> None:
    with served(world.remote.parent) as url:
        place = tmp_path / "clone"
        git(tmp_path, "clone", "--quiet", f"{url}/app.git", "clone")
        git(place, "commit", "--quiet", "--allow-empty", "-m", "mine")
        git(world.remote, "branch", "theirs", "main")
        theirs = commit(world.remote, {"theirs": b"1"}, branch="theirs")
        source = open_it(place)
        assert source.relation(theirs, head_of(place)) is Relation.DIVERGED
        assert source.relation(world.line[-1], head_of(place)) is Relation.DESCENDANT
        git(world.remote, "branch", "-D", "theirs")


def head_of(place: Path) -> str:
    return git(place, "rev-parse", "HEAD")


def test_a_private_remote_needs_the_token(world: World, tmp_path: Path, open_it: Opener) -> None:
    token = Secret("s3cret")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{world.remote}", "clone")
    with served(world.remote.parent, token=token) as url:
        git(tmp_path / "clone", "remote", "set-url", "origin", f"{url}/app.git")
        assert open_it(tmp_path / "clone", token).relation(world.line[0], world.line[1]) is Relation.DESCENDANT
        with pytest.raises(GitDenied):
            open_it(tmp_path / "clone").relation(world.line[0], world.line[1])


def test_credentials_that_the_checkout_left_in_the_clone_are_used(
    world: World, tmp_path: Path, open_it: Opener
) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{world.remote}", "clone")
    with served(world.remote.parent, token=Secret("s3cret")) as url:
        place = tmp_path / "clone"
        git(place, "remote", "set-url", "origin", f"{url}/app.git")
        git(place, "config", f"http.{url}/.extraheader", "Authorization: Basic eDpzM2NyZXQ=")  # x:s3cret
        assert open_it(place).relation(world.line[0], world.line[1]) is Relation.DESCENDANT


def test_a_clone_without_a_remote_knows_its_own_history_only(world: World, tmp_path: Path, open_it: Opener) -> None:
    place = clone(world.remote, tmp_path / "clone")
    git(place, "remote", "remove", "origin")
    source = open_it(place)
    assert source.relation(world.line[0], world.line[1]) is Relation.DESCENDANT
    assert source.relation(world.line[0], "1" * 40) is Relation.UNKNOWN
    assert source.on_default_branch(world.line[0]) is None


def test_a_folder_that_is_no_repository_is_no_source(tmp_path: Path) -> None:
    assert open_source(str(tmp_path)) is None
    assert open_source(str(tmp_path / "none")) is None


def test_a_checkout_is_described(world: World, tmp_path: Path) -> None:
    place = clone(world.remote, tmp_path / "clone")
    git(place, "remote", "set-url", "origin", "https://ada:hush@git.example.org/app.git")
    (place / "sub").mkdir()
    found = checkout(place / "sub")
    assert (found.path, found.commit, found.dirty) == (place, world.line[-1], ())
    assert found.url == "https://git.example.org/app.git"
    assert found.committed == datetime.fromisoformat("2023-11-14T22:13:20+00:00")


def test_every_difference_makes_a_checkout_dirty(world: World, tmp_path: Path) -> None:
    place = clone(world.remote, tmp_path / "clone")
    (place / ".gitignore").write_text("ignored\n")
    (place / "ignored").touch()
    (place / "app.py").write_text("changed\n")
    (place / "new dir").mkdir()
    (place / "new dir/naïve").touch()
    git(place, "mv", "app.py", "moved.py")
    assert set(checkout(place).dirty) == {".gitignore", "app.py", "moved.py", "new dir/naïve"}


def test_a_checkout_without_remote_is_named_by_its_path(world: World, tmp_path: Path) -> None:
    place = clone(world.remote, tmp_path / "clone")
    git(place, "remote", "remove", "origin")
    assert checkout(place).url == str(place)


def test_where_nothing_is_checked_out_that_is_said(world: World, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", world.remote):
        with pytest.raises(RepositoryNotFound):
            checkout(path)
    git(tmp_path, "init", "--quiet", "fresh")
    with pytest.raises(BranchNotFound, match="no commit yet"):
        checkout(tmp_path / "fresh")
