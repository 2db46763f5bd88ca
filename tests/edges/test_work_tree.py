"""The GitOps repository as a local work tree: what is the user's stays the user's."""

import threading
from pathlib import Path

import pytest

from pipeline.core.kustomization import read_entries
from pipeline.edges.gitops_repository import Repository, open_repository
from pipeline.errors import (
    BranchIsProtected,
    BranchNotFound,
    LocalBranchDiverged,
    LocalChanges,
    OverlayNotFound,
    PathOutsideRepository,
    Unreachable,
    UsageError,
)
from tests.git_world import (
    FILE,
    OVERLAY,
    QUIET,
    bare,
    bump,
    clone,
    commit,
    content,
    git,
    head,
    hook,
    image,
    kustomization,
    tag,
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """The remote."""
    files = {FILE: kustomization(flask=tag("old"), node=tag("old")), "README.md": b"read me\n"}
    return bare(tmp_path / "gitops.git", files)


@pytest.fixture
def tree(world: Path, tmp_path: Path) -> Path:
    """The work tree, clean and up to date."""
    return clone(world, tmp_path / "tree")


def opened(tree: Path, branch: str | None = None, *, push: bool = True, commit: bool = True) -> Repository:
    return open_repository(str(tree), branch, push=push, commit=commit)


def state(tree: Path) -> str:
    """All that a user sees of a work tree and its repository."""
    return "\n".join(
        [
            git(tree, "for-each-ref"),
            git(tree, "status", "--porcelain=v2", "--branch"),
            git(tree, "diff"),
            git(tree, "diff", "--cached"),
        ]
    )


def tags(data: bytes) -> dict[str, str | None]:
    return {entry.name: entry.tag for entry in read_entries(data, FILE)}


@pytest.mark.parametrize("below", [".", OVERLAY])
def test_a_change_is_edited_committed_and_pushed(world: Path, tree: Path, below: str) -> None:
    change = bump(opened(tree / below), image("flask", "new"))
    assert (change.outcome, change.gitops.branch, change.gitops.repository) == ("published", "main", str(world))
    assert change.gitops.revision == head(world) == head(tree) == git(tree, "rev-parse", "origin/main")
    assert (tree / FILE).read_bytes() == content(world) == kustomization(flask=tag("new"), node=tag("old"))
    assert git(tree, "status", "--porcelain") == ""
    assert "openeg-deploy" in git(tree, "reflog", "-1")


def test_a_commit_may_stay_local(world: Path, tree: Path) -> None:
    old = head(world)
    change = bump(opened(tree, push=False), image("flask", "new"))
    assert (change.outcome, change.gitops.revision) == ("edited", head(tree))
    assert tags((tree / FILE).read_bytes())["flask"] == tag("new")
    assert git(tree, "status", "--porcelain") == ""
    assert head(world) == old


def test_the_files_alone_may_be_edited(tree: Path) -> None:
    (tree / FILE).chmod(0o755)
    git(tree, "commit", "--quiet", "-am", "mode")
    old = head(tree)
    change = bump(opened(tree, commit=False), image("flask", "new"))
    assert (change.outcome, change.gitops.revision) == ("edited", old)
    assert tags((tree / FILE).read_bytes())["flask"] == tag("new")
    assert (head(tree), git(tree, "status", "--porcelain")) == (old, f"M {FILE}")
    assert (tree / FILE).stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in (tree / OVERLAY).iterdir()) == ["kustomization.yaml"]


def test_what_the_user_changed_and_staged_elsewhere_stays_and_is_not_published(world: Path, tree: Path) -> None:
    (tree / "README.md").write_text("staged\n")
    (tree / "new.txt").write_text("staged too\n")
    git(tree, "add", ".")
    (tree / "README.md").write_text("and changed again\n")
    (tree / "untracked").touch()
    before = git(tree, "status", "--porcelain")
    bump(opened(tree))
    assert git(tree, "status", "--porcelain") == before
    assert git(tree, "diff", "--cached", "--", "README.md").endswith("+staged")
    assert (tree / "README.md").read_text() == "and changed again\n"
    assert git(world, "diff", "--name-only", "main^", "main") == FILE


@pytest.mark.parametrize("how", ["changed", "staged", "deleted", "staged and put back"])
@pytest.mark.parametrize(("push", "commits"), [(True, True), (False, True), (True, False)])
def test_a_file_with_uncommitted_changes_is_refused(
    world: Path, tree: Path, how: str, push: bool, commits: bool
) -> None:
    file = tree / FILE
    old = file.read_bytes()
    if how == "deleted":
        file.unlink()
    else:
        file.write_bytes(old + b"# mine\n")
    if how.startswith("staged"):
        git(tree, "add", ".")
    if how == "staged and put back":
        file.write_bytes(old)
    before = state(tree)
    with pytest.raises(LocalChanges, match=FILE):
        bump(opened(tree, push=push, commit=commits))
    assert state(tree) == before
    assert "deploy" not in git(world, "log", "--format=%s", "main")


@pytest.mark.parametrize(("push", "commits"), [(True, True), (False, True), (True, False)])
def test_a_dry_run_changes_nothing_anywhere(world: Path, tree: Path, push: bool, commits: bool) -> None:
    commit(world, {"theirs": b"1"})
    before = state(tree), git(world, "for-each-ref"), (tree / FILE).stat().st_mtime_ns
    assert bump(opened(tree, push=push, commit=commits), dry_run=True).outcome == "planned"
    assert (state(tree), git(world, "for-each-ref"), (tree / FILE).stat().st_mtime_ns) == before


def test_a_branch_that_is_behind_is_brought_up_to_date(world: Path, tree: Path) -> None:
    commit(world, {FILE: kustomization(flask=tag("old"), node=tag("theirs")), "theirs": b"1\n"})
    (tree / "untracked").touch()
    change = bump(opened(tree), image("flask", "new"))
    assert change.gitops.revision == head(world) == head(tree)
    assert tags((tree / FILE).read_bytes()) == {"flask": tag("new"), "node": tag("theirs")}
    assert (tree / "theirs").exists()
    assert git(tree, "status", "--porcelain") == "?? untracked"


def test_a_branch_that_is_behind_and_cannot_follow_is_refused_before_the_push(world: Path, tree: Path) -> None:
    now = commit(world, {"README.md": b"theirs\n"})
    (tree / "README.md").write_text("mine\n")
    before = state(tree)
    with pytest.raises(LocalChanges, match=r"README\.md"):
        bump(opened(tree))
    assert (state(tree), head(world)) == (before, now)


def test_earlier_local_commits_are_pushed_too_and_that_is_said(world: Path, tree: Path) -> None:
    bump(opened(tree, push=False), image("flask", "one"))
    change = bump(opened(tree), image("flask", "two"))
    assert "1 earlier local commit(s) of main go with it" in change.warnings
    assert head(world) == head(tree)
    assert len(git(world, "rev-list", "main").splitlines()) == 3


def test_branches_that_went_different_ways_are_refused(world: Path, tree: Path) -> None:
    bump(opened(tree, push=False), image("flask", "one"))
    commit(world, {"theirs": b"1"})
    before = state(tree)
    with pytest.raises(LocalBranchDiverged):
        bump(opened(tree), image("flask", "two"))
    assert state(tree) == before


def test_a_race_that_is_lost_in_the_push_is_run_again(world: Path, tree: Path, tmp_path: Path) -> None:
    """The pre-push hook of the work tree lets somebody else be faster, once."""
    other = clone(world, tmp_path / "other")
    (other / FILE).write_bytes(kustomization(flask=tag("old"), node=tag("theirs")))
    git(other, "commit", "--quiet", "-am", "theirs")
    hook(
        tree / ".git",
        "pre-push",
        f"[ -e {tmp_path}/done ] && exit; touch {tmp_path}/done; unset GIT_DIR GIT_WORK_TREE; git -C {other} push -q",
    )
    change = bump(opened(tree), image("flask", "new"))
    assert (change.outcome, change.gitops.attempts) == ("published", 2)
    assert head(world) == head(tree)
    assert tags((tree / FILE).read_bytes()) == {"flask": tag("new"), "node": tag("theirs")}
    assert git(tree, "status", "--porcelain") == ""


def test_many_work_trees_lose_nothing(world: Path, tmp_path: Path) -> None:
    names = [f"service-{number}" for number in range(5)]
    commit(world, {FILE: kustomization(**dict.fromkeys(names, tag("old")))})
    for name in names:
        clone(world, tmp_path / name)
    threads = [threading.Thread(target=bump, args=(opened(tmp_path / name), image(name, name))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tags(content(world)) == {name: tag(name) for name in names}


def test_a_push_that_is_refused_leaves_the_work_tree_alone(
    world: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.edges.git_push.PAUSES", (0, 0))
    hook(world, "update", "echo closed; exit 1")
    before = state(tree)
    with pytest.raises(BranchIsProtected, match="closed"):
        bump(opened(tree))
    assert state(tree) == before


def test_a_remote_that_cannot_be_reached_leaves_the_work_tree_alone(tree: Path) -> None:
    git(tree, "remote", "set-url", "origin", "http://127.0.0.1:1/gitops.git")
    before = state(tree)
    with pytest.raises(Unreachable):
        opened(tree).read([FILE])
    assert state(tree) == before
    assert bump(opened(tree, push=False)).outcome == "edited"


@pytest.mark.parametrize("under_way", ["merge", "cherry-pick", "revert"])
def test_a_merge_under_way_is_refused(tree: Path, under_way: str) -> None:
    git(tree, "switch", "--quiet", "-c", "side")
    (tree / "README.md").write_text("side\n")
    git(tree, "commit", "--quiet", "-am", "side")
    git(tree, "switch", "--quiet", "main")
    if under_way == "merge":
        git(tree, "merge", "--no-commit", "--no-ff", "side")
    else:
        (tree / ".git" / f"{under_way.upper().replace('-', '_')}_HEAD").write_text(head(tree, "side") + "\n")
    before = state(tree)
    with pytest.raises(LocalChanges, match="under way"):
        bump(opened(tree))
    assert state(tree) == before


@pytest.mark.parametrize("push", [True, False])
def test_a_detached_head_is_no_branch_to_commit_to(tree: Path, push: bool) -> None:
    git(tree, "checkout", "--quiet", "--detach")
    with pytest.raises(UsageError, match="HEAD is detached"):
        opened(tree, push=push)
    assert bump(opened(tree, commit=False)).outcome == "edited"


def test_another_branch_than_the_checked_out_one_is_refused(tree: Path) -> None:
    with pytest.raises(UsageError, match="main is checked out, not live"):
        opened(tree, "live")


def test_a_branch_without_upstream_is_pushed_to_origin(world: Path, tree: Path) -> None:
    git(tree, "switch", "--quiet", "-c", "live")
    change = bump(opened(tree))
    assert (change.gitops.branch, change.gitops.revision) == ("live", head(world, "live"))


def test_an_upstream_of_another_name_is_followed(world: Path, tree: Path) -> None:
    git(world, "branch", "live", "main")
    git(tree, "fetch", "--quiet")
    git(tree, "switch", "--quiet", "-c", "mine", "--track", "origin/live")
    old = head(world)
    change = bump(opened(tree))
    assert (change.gitops.branch, change.gitops.revision) == ("live", head(world, "live"))
    assert head(world) == old


def test_without_a_remote_there_is_no_push(tree: Path) -> None:
    git(tree, "remote", "remove", "origin")
    with pytest.raises(UsageError, match="no remote to push to"):
        opened(tree)
    change = bump(opened(tree, push=False))
    assert (change.outcome, change.gitops.repository) == ("edited", str(tree))


def test_a_work_tree_without_commits_is_told(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "fresh")
    with pytest.raises(BranchNotFound, match="no commit yet"):
        opened(tmp_path / "fresh", push=False).read([])


def test_a_linked_work_tree_is_one_too(world: Path, tree: Path, tmp_path: Path) -> None:
    git(tree, "worktree", "add", "--quiet", "-b", "live", str(tmp_path / "linked"))
    bump(opened(tmp_path / "linked"))
    assert head(world, "live") == head(tree, "live")
    assert git(tmp_path / "linked", "status", "--porcelain") == ""


def test_a_symbolic_link_is_followed_and_stays(tree: Path) -> None:
    (tree / "overlays/canary").symlink_to("production")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "-m", "link")
    git(tree, "push", "--quiet")
    bump(opened(tree, commit=False), overlays=("overlays/canary",))
    assert (tree / "overlays/canary").is_symlink()
    assert tags((tree / FILE).read_bytes())["flask"] == tag("new")


@pytest.mark.parametrize("overlay", ["../outside", "/etc", ".git", "overlays/none"])
def test_only_what_is_committed_can_be_edited(tree: Path, overlay: str) -> None:
    with pytest.raises((PathOutsideRepository, OverlayNotFound)):
        bump(opened(tree, push=False), overlays=(overlay,))


def test_a_shallow_clone_is_good_enough(world: Path, tmp_path: Path) -> None:
    commit(world, {"x": b"1"})
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{world}", "shallow")
    commit(world, {"y": b"1"})
    assert bump(opened(tmp_path / "shallow")).gitops.revision == head(world)


def test_a_hook_may_run_us(world: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a hook of another repository git's variables name that one."""
    monkeypatch.setenv("GIT_DIR", "/nowhere/.git")
    monkeypatch.setenv("GIT_WORK_TREE", "/nowhere")
    assert bump(opened(tree)).gitops.revision == head(world)


def test_credentials_in_the_remote_s_url_are_never_shown(tree: Path) -> None:
    git(tree, "remote", "set-url", "origin", "http://ada:hush@127.0.0.1:1/gitops.git")
    repository = opened(tree)
    assert repository.name == "http://127.0.0.1:1/gitops.git"
    with pytest.raises(Unreachable) as caught:
        repository.read([FILE])
    assert "hush" not in str(caught.value)


def test_history_and_descent_are_told(world: Path, tree: Path) -> None:
    repository = opened(tree)
    first = head(world)
    bump(repository, image("flask", "new"))
    steps = list(repository.history([FILE], 10))
    assert [step.revision for step in steps] == [head(tree), first]
    theirs = commit(world, {"theirs": b"1"})
    assert repository.descends(theirs, head(tree)) is True
    assert repository.descends(first, head(tree)) is False
    repository.close()


def test_an_index_that_is_locked_is_told(world: Path, tree: Path) -> None:
    (tree / ".git/index.lock").touch()
    with pytest.raises(LocalChanges, match=r"index\.lock"):
        bump(opened(tree))
    assert "deploy" not in git(world, "log", "--format=%s", "main")


def test_what_an_earlier_run_did_not_push_is_pushed_by_the_next(world: Path, tree: Path) -> None:
    assert bump(open_repository(str(tree), push=False), image("flask", "new")).outcome == "edited"
    assert "deploy" not in git(world, "log", "--format=%s", "main")
    change = bump(opened(tree), image("flask", "new"))
    assert (change.outcome, change.gitops.revision) == ("published", head(world))
    assert "1 earlier local commit(s) of main go with it" in change.warnings
    assert bump(opened(tree), image("flask", "new")).outcome == "unchanged"


def test_a_dry_run_leaves_the_repository_as_it_is(world: Path, tree: Path) -> None:
    commit(world, {"theirs": b"1"})

    def everything() -> set[tuple[str, int]]:
        return {(str(path), path.stat().st_mtime_ns) for path in tree.rglob("*") if path.is_file()}

    before = everything()
    repository = open_repository(str(tree), dry_run=True)
    assert bump(repository, image("flask", "new"), dry_run=True).outcome == "planned"
    repository.close()
    assert everything() == before
    (tree / FILE).write_bytes((tree / FILE).read_bytes() + b"# mine\n")
    with pytest.raises(LocalChanges, match="uncommitted changes"):
        bump(open_repository(str(tree), dry_run=True), image("flask", "new"), dry_run=True)
