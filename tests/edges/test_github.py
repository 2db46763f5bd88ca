"""Which repositories are on GitHub, and what is done about a branch that moves or goes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.secret import Secret
from pipeline.edges.github import Access, Slug, slug
from pipeline.edges.github_repository import GitHubRepository
from pipeline.edges.gitops_repository import open_repository
from pipeline.errors import RepositoryNotFound, UsageError
from pipeline.sandbox import world
from pipeline.sandbox.world import GITHUB_TOKEN, World
from tests import git_world, github_contract

GITHUB = "https://api.github.com"


@pytest.mark.parametrize(
    ("url", "api_url", "expected"),
    [
        ("https://github.com/openeg/gitops.git", None, Slug(GITHUB, "openeg", "gitops")),
        ("https://github.com/openeg/git.ops/", GITHUB, Slug(GITHUB, "openeg", "git.ops")),
        ("https://github.com/a/b", "https://ghe.example/api/v3", Slug(GITHUB, "a", "b")),
        ("https://ghe.example/a/b.git", "https://ghe.example/api/v3/", Slug("https://ghe.example/api/v3", "a", "b")),
        ("https://acme.ghe.com/a/b.git", "https://api.acme.ghe.com", Slug("https://api.acme.ghe.com", "a", "b")),
        ("https://gitlab.com/a/b.git", None, None),
        ("https://ghe.example/a/b.git", None, None),
        ("http://github.com/a/b.git", None, None),
        ("http://ghe.example/a/b.git", "https://ghe.example/api/v3", None),
        ("https://github.com/a/b/c.git", None, None),
        ("https://github.com/a/%2e%2e", None, None),
        ("git@github.com:a/b.git", None, None),
        ("https://github.com.example.org/a/b", None, None),
    ],
)
def test_a_token_goes_to_githubs_own_host_alone(url: str, api_url: str | None, expected: Slug | None) -> None:
    assert slug(url, api_url) == expected


@pytest.mark.parametrize(
    ("url", "on_github"),
    [
        ("git@github.com:a/b.git", True),
        ("ssh://git@github.com/a/b.git", True),
        ("ssh://git@ssh.github.com:443/a/b.git", False),
        ("git@gitlab.com:a/b.git", False),
        ("git@github.com:a/b/c.git", False),
    ],
)
def test_over_ssh_it_is_git_and_on_github_that_is_said(url: str, on_github: bool) -> None:
    said: list[str] = []
    opened = open_repository(url, token=Secret("a-token"), access=Access(None, say=said.append))
    assert not isinstance(opened, GitHubRepository)
    opened.close()
    why = "Using git instead of GitHub's API: it has an SSH address, and a token is for https"
    assert said == ([why] if on_github else [])


@pytest.mark.parametrize("api_url", ["ghe.example/api/v3", "https://[ghe", "https:///api/v3", "ftp://ghe.example"])
def test_an_address_of_the_api_that_is_none_is_told(api_url: str) -> None:
    with pytest.raises(UsageError, match="--github-api-url"):
        slug("https://ghe.example/a/b", api_url)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[World]:
    git_world.bare(tmp_path / "gitops.git", {git_world.FILE: git_world.kustomization(flask=git_world.tag("old"))})
    with world.start(world.Settings(git_root=tmp_path)) as running:
        yield running
        for exchange in running.github.exchanges:
            github_contract.check(exchange)


@pytest.fixture
def repository(sandbox: World) -> Iterator[GitHubRepository]:
    access = Access(sandbox.github_url)
    opened = open_repository(f"{sandbox.git_url}/gitops.git", token=Secret(GITHUB_TOKEN.reveal()), access=access)
    assert isinstance(opened, GitHubRepository)
    yield opened
    opened.close()


def test_a_head_that_has_moved_takes_no_commit(sandbox: World, repository: GitHubRepository) -> None:
    bare = sandbox.git_root / "gitops.git"
    head = repository.read([git_world.FILE])
    theirs = git_world.commit(bare, {"other": b"x"})
    assert repository.publish(head, {git_world.FILE: b"ours"}, "ours\n") is None
    assert git_world.head(bare) == theirs
    writes = len(sandbox.github.exchanges)
    stale = repository.read([git_world.FILE])
    git_world.commit(bare, {"other": b"y"})
    assert repository.publish(stale, {git_world.FILE: b"ours"}, "ours\n") is None
    sent = [exchange.sent["query"] for exchange in sandbox.github.exchanges[writes:]]
    assert not [query for query in sent if query.startswith("mutation")], "after a lost race, it listened first"
    fresh = repository.read([git_world.FILE])
    ours = repository.publish(fresh, {git_world.FILE: b"ours", "new/file": b"\0\xff"}, "ours\n")
    assert (git_world.head(bare), git_world.content(bare, "new/file")) == (ours, b"\0\xff")
    assert ours
    assert repository.descends(ours, theirs) is True
    assert repository.descends(theirs, ours) is False
    assert repository.descends(ours, "0" * 40) is None


def test_paths_lead_where_they_lead_in_git(sandbox: World, repository: GitHubRepository) -> None:
    head = repository.read(
        [".", "overlays//production/", f"./{git_world.FILE}", "nothing/at/all", f"{git_world.FILE}/x"]
    )
    assert head.revision == git_world.head(sandbox.git_root / "gitops.git")
    assert head.folders == {".": ("overlays",), "overlays//production/": ("kustomization.yaml",)}
    assert head.paths == {f"./{git_world.FILE}": git_world.FILE}
    assert repository.peek(head, git_world.FILE) == head.files[git_world.FILE]
    assert repository.peek(head, "nothing") is None
    assert repository.branch == "main"


def test_a_branch_that_is_deleted_meanwhile_is_told(sandbox: World, repository: GitHubRepository) -> None:
    bare = sandbox.git_root / "gitops.git"
    head = repository.read([git_world.FILE])
    git_world.git(bare, "update-ref", "-d", "refs/heads/main")
    with pytest.raises(RepositoryNotFound, match="No ref found with the name 'main'"):
        repository.publish(head, {git_world.FILE: b"ours"}, "ours\n")
