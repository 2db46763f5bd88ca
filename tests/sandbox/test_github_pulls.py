"""Pull requests in the sandbox's GitHub: git is the truth, GitHub's contracts say how it is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import git_world
from tests.sandbox.github_client import Client, Json, running

BRANCH = "deploy/production/flask"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running(tmp_path) as client:
        git_world.git(client.repository, "branch", BRANCH, "main")
        git_world.commit(
            client.repository, {"a": b"1\n"}, branch=BRANCH, message="deploy(production): flask\n\nDeploy-Id: 1"
        )
        yield client


def opened(client: Client, head: str = BRANCH, **fields: object) -> Json:
    body = {"title": "Deploy flask", "head": head, "base": "main", "body": "what and why", **fields}
    made: Json = client.rest("POST", "/pulls", body, 201)
    return made


def update_refs(client: Client, *updates: Json) -> Json:
    query = "mutation($input: UpdateRefsInput!) { updateRefs(input: $input) { clientMutationId } }"
    found = client.graphql('{ repository(owner: "git", name: "gitops") { id } }')["data"]["repository"]["id"]
    return client.graphql(query, input={"repositoryId": found, "refUpdates": updates})


def test_a_pull_request_tells_where_its_branch_is(client: Client) -> None:
    made = opened(client)
    assert (made["number"], made["state"], made["head"]["ref"], made["base"]["ref"]) == (1, "open", BRANCH, "main")
    pushed = git_world.commit(client.repository, {"b": b"2\n3\n"}, branch=BRANCH)
    shown = client.rest("GET", "/pulls/1")
    assert shown["head"]["sha"] == pushed
    assert (shown["commits"], shown["changed_files"], shown["additions"]) == (2, 2, 3)
    assert [commit["sha"] for commit in client.rest("GET", "/pulls/1/commits")] == (
        git_world.git(client.repository, "rev-list", "--reverse", f"main..{BRANCH}").split()
    )
    assert [(file["filename"], file["patch"]) for file in client.rest("GET", "/pulls/1/files")] == [
        ("a", "@@ -0,0 +1 @@\n+1"),
        ("b", "@@ -0,0 +1,2 @@\n+2\n+3"),
    ]
    changed = client.rest("PATCH", "/pulls/1", {"title": "New", "body": "other"})
    assert (changed["title"], changed["body"], changed["head"]["sha"]) == ("New", "other", pushed)
    for query in (f"?head=git:{BRANCH}", "?base=main", "?state=all&per_page=1&page=1"):
        assert [pull["number"] for pull in client.rest("GET", f"/pulls{query}")] == [1]
    for query in ("?head=git:other", "?base=other", "?state=closed", "?per_page=1&page=2"):
        assert client.rest("GET", f"/pulls{query}") == []


def test_refs_are_made_moved_and_deleted(client: Client) -> None:
    main, head = git_world.head(client.repository), git_world.head(client.repository, BRANCH)
    assert client.rest("GET", f"/git/ref/heads/{BRANCH}")["object"]["sha"] == head
    assert client.rest("POST", "/git/refs", {"ref": "refs/heads/scratch", "sha": main}, 201)["ref"]
    client.rest("POST", "/git/refs", {"ref": "refs/heads/scratch", "sha": main}, 422)
    client.rest("PATCH", "/git/refs/heads/scratch", {"sha": head})
    assert git_world.head(client.repository, "scratch") == head
    client.rest("PATCH", "/git/refs/heads/scratch", {"sha": main}, 422)  # it would lose a commit
    client.rest("PATCH", "/git/refs/heads/scratch", {"sha": main, "force": True})
    client.rest("PATCH", "/git/refs/heads/nothing", {"sha": head}, 422)
    tree = git_world.git(client.repository, "rev-parse", "main^{tree}")
    for name, oid in (("x", tree), ("x", "0" * 39 + "1"), ("x", "main"), ("a..b", main), ("deploy", main)):
        client.rest("POST", "/git/refs", {"ref": f"refs/heads/{name}", "sha": oid}, 422)
    client.rest("POST", "/git/refs", {"ref": "--all", "sha": main}, 422)
    found = client.rest("GET", "/git/matching-refs/heads/deploy/")
    assert [ref["ref"] for ref in found] == [f"refs/heads/{BRANCH}"]
    client.rest("DELETE", "/git/refs/heads/scratch", status=204)
    client.rest("GET", "/git/ref/heads/scratch", status=404)
    assert "scratch" not in git_world.git(client.repository, "branch", "--list")


def test_update_refs_moves_all_or_none_and_only_from_where_they_are_thought_to_be(client: Client) -> None:
    main, head = git_world.head(client.repository), git_world.head(client.repository, BRANCH)
    new = git_world.commit(client.repository, {"c": b""}, branch="scratch")
    git_world.git(client.repository, "branch", "--force", "scratch", head)
    scratch, branch = ({"name": f"refs/heads/{name}"} for name in ("scratch", BRANCH))
    gone = scratch | {"beforeOid": head, "afterOid": "0" * 40}
    stale = update_refs(client, gone, branch | {"beforeOid": main, "afterOid": new, "force": True})
    assert (stale["data"]["updateRefs"], stale["errors"][0]["type"]) == (None, "STALE_DATA")
    assert git_world.head(client.repository, "scratch") == head
    backward = update_refs(client, branch | {"beforeOid": head, "afterOid": main})
    assert backward["errors"][0]["type"] == "UNPROCESSABLE"
    for name, after in (("--all", main), ("refs/heads/deploy", main), ("refs/heads/x", "main"), ("refs/heads/x", "-h")):
        wrong = update_refs(client, {"name": name, "afterOid": after}, gone)
        assert wrong["errors"][0]["type"] == "UNPROCESSABLE"
    there = update_refs(client, branch | {"beforeOid": "0" * 40, "afterOid": head})
    assert there["errors"][0]["type"] == "STALE_DATA"
    assert "errors" not in update_refs(client, gone, branch | {"beforeOid": head, "afterOid": new, "force": True})
    assert git_world.git(client.repository, "for-each-ref", "--format=%(refname) %(objectname)").split("\n") == [
        f"refs/heads/{BRANCH} {new}",
        f"refs/heads/main {main}",
    ]


def test_a_pull_request_ends_with_its_commits(client: Client) -> None:
    opened(client)
    git_world.git(client.repository, "branch", "--force", BRANCH, "main")  # as a reset to the base
    shown = client.rest("GET", "/pulls/1")
    assert (shown["state"], shown["merged"], shown["closed_at"] is None) == ("closed", False, False)
    git_world.commit(client.repository, {"d": b""}, branch=BRANCH)
    assert opened(client)["number"] == 2
    git_world.git(client.repository, "update-ref", "-d", f"refs/heads/{BRANCH}")
    assert client.rest("GET", "/pulls/2")["state"] == "closed"
    git_world.git(client.repository, "branch", "again", "main")
    pushed = git_world.commit(client.repository, {"e": b""}, branch="again")
    assert opened(client, "again")["number"] == 3
    git_world.git(client.repository, "branch", "--force", "main", pushed)  # merged by hand
    shown = client.rest("GET", "/pulls/3")
    assert (shown["merged"], shown["merge_commit_sha"]) == (True, pushed)


def test_a_direct_merge_moves_the_base(client: Client) -> None:
    main, head = git_world.head(client.repository), git_world.head(client.repository, BRANCH)
    opened(client)
    client.rest("PUT", "/pulls/1/merge", {"sha": main}, 409)
    merged = client.rest("PUT", "/pulls/1/merge", {"sha": head})
    assert git_world.head(client.repository) == merged["sha"]
    assert git_world.git(client.repository, "log", "-1", "--format=%P%n%B", "main") == (
        f"{main} {head}\nMerge pull request #1 from git/{BRANCH}\n\nDeploy flask"
    )
    shown = client.rest("GET", "/pulls/1")
    assert (shown["state"], shown["merged"], shown["merge_commit_sha"]) == ("closed", True, merged["sha"])
    client.rest("PUT", "/pulls/1/merge", {}, 405)
    assert [pull["number"] for pull in client.rest("GET", f"/commits/{head}/pulls")] == [1]
    client.rest("PATCH", "/pulls/1", {"state": "open"}, 422)


def test_what_cannot_be_a_pull_request_is_refused(client: Client) -> None:
    def refused(**fields: object) -> Json:
        body = {"title": "x", "head": BRANCH, "base": "main", **fields}
        problem: Json = client.rest("POST", "/pulls", body, 422)["errors"][0]
        return problem

    for name in ("head", "base"):
        assert refused(**{name: "nothing"}) == {"resource": "PullRequest", "field": name, "code": "invalid"}
    assert refused(title=None)["code"] == "missing_field"
    assert refused(title="x" * 257)["field"] == "title"
    assert refused(body="x" * 65_537)["message"] == "body is too long (maximum is 65536 characters)"
    git_world.git(client.repository, "branch", "empty", "main")
    assert refused(head="empty")["message"] == "No commits between main and empty"
    opened(client, body="x" * 65_536)
    assert refused(head=f"git:{BRANCH}")["message"] == f"A pull request already exists for git:{BRANCH}."
    client.rest("PATCH", "/pulls/1", {"body": "x" * 65_537}, 422)
    client.rest("PATCH", "/pulls/1", {"base": "nothing"}, 422)
    client.rest("GET", "/pulls/9", status=404)


def test_a_pull_request_is_closed_and_opened_again_and_gets_another_base(client: Client) -> None:
    opened(client, draft=True)
    git_world.git(client.repository, "branch", "stable", "main")
    changed = client.rest("PATCH", "/pulls/1", {"state": "closed", "base": "stable"})
    assert (changed["state"], changed["base"]["ref"], changed["draft"]) == ("closed", "stable", True)
    assert [pull["number"] for pull in client.rest("GET", "/pulls?state=closed")] == [1]
    changed = client.rest("PATCH", "/pulls/1", {"state": "open"})
    assert (changed["state"], changed["closed_at"]) == ("open", None)


def test_reviewers_labels_and_comments_are_kept(client: Client) -> None:
    opened(client)
    asked = client.rest("POST", "/pulls/1/requested_reviewers", {"reviewers": ["octocat"]})
    assert [who["login"] for who in asked["requested_reviewers"]] == ["octocat"]
    client.rest("POST", "/pulls/1/requested_reviewers", {"team_reviewers": ["ops"]}, 422)
    client.github.rules.teams.add("ops")
    asked = client.rest("POST", "/pulls/1/requested_reviewers", {"reviewers": [], "team_reviewers": ["ops"]})
    assert ([who["login"] for who in asked["requested_reviewers"]], asked["requested_teams"][0]["slug"]) == (
        *(["octocat"], "ops"),
    )
    for nobody in ("nobody", "sandbox"):
        client.rest("POST", "/pulls/1/requested_reviewers", {"reviewers": [nobody]}, 422)
    client.rest("POST", "/issues/1/labels", {"labels": ["deploy"]})
    labels = client.rest("POST", "/issues/1/labels", {"labels": ["Deploy", "production"]})
    assert [label["name"] for label in labels] == ["deploy", "production"]
    assert client.rest("GET", "/issues/1/labels") == labels
    assert [label["name"] for label in client.rest("GET", "/pulls/1")["labels"]] == ["deploy", "production"]
    numbers = [client.rest("POST", "/issues/1/comments", {"body": f"say {word}"}, 201)["id"] for word in "abc"]
    page = client.rest("GET", "/issues/1/comments?per_page=2&page=2")
    assert [(comment["id"], comment["body"]) for comment in page] == [(numbers[2], "say c")]
    client.rest("PATCH", f"/issues/comments/{numbers[0]}", {"body": "<!-- ours --> ::set-output"})
    shown = client.rest("GET", f"/issues/comments/{numbers[0]}")
    assert (shown["body"], shown["user"]["login"]) == ("<!-- ours --> ::set-output", "sandbox")
    client.rest("DELETE", f"/issues/comments/{numbers[1]}", status=204)
    assert [comment["id"] for comment in client.rest("GET", "/issues/1/comments")] == [numbers[0], numbers[2]]
    assert client.rest("GET", "/pulls/1")["comments"] == 2
    for body in ("", " \n", "x" * 65_537):
        client.rest("POST", "/issues/1/comments", {"body": body}, 422)
    client.rest("POST", "/issues/9/comments", {"body": "x"}, 404)


def test_what_has_not_changed_costs_nothing(client: Client) -> None:
    opened(client)
    path = "/api/v3/repos/git/gitops/pulls/1"
    client.call("GET", path)
    _, _, headers = client.call("GET", path)
    left = headers["X-RateLimit-Remaining"]
    for _ in range(3):
        status, answer, again = client.call("GET", path, If_None_Match=headers["ETag"])
        assert (status, answer, again["X-RateLimit-Remaining"]) == (304, None, left)
    git_world.commit(client.repository, {"b": b""}, branch=BRANCH)
    status, answer, again = client.call("GET", path, If_None_Match=headers["ETag"])
    assert (status, int(again["X-RateLimit-Remaining"])) == (200, int(left) - 1)
    assert answer["head"]["sha"] == git_world.head(client.repository, BRANCH)


def test_permissions_are_asked_for_by_name(client: Client) -> None:
    opened(client)
    cases = (
        ("GET", "/pulls", None, {"pull_requests": "none"}, "pull_requests=read"),
        ("PATCH", "/pulls/1", {"title": "x"}, {"pull_requests": "read"}, "pull_requests=write"),
        (
            *("POST", "/issues/1/comments", {"body": "x"}, {"pull_requests": "read", "issues": "read"}),
            "issues=write; pull_requests=write",
        ),
        ("POST", "/git/refs", {"ref": "refs/heads/x", "sha": "0" * 40}, {"contents": "read"}, "contents=write"),
    )
    for method, path, body, permissions, accepted in cases:
        client.github.permissions.update({"contents": "write", "issues": "write", "pull_requests": "write"})
        client.github.permissions.update(permissions)
        status, answer, headers = client.call(method, f"/api/v3/repos/git/gitops{path}", body)
        assert (status, headers["X-Accepted-GitHub-Permissions"]) == (403, accepted)
        assert answer["message"] == "Resource not accessible by personal access token"
    client.github.permissions.update(contents="write", issues="none", pull_requests="write")
    client.rest("POST", "/issues/1/comments", {"body": "either will do"}, 201)


def test_what_makes_content_is_held_to_one_limit_over_rest_and_graphql(client: Client) -> None:
    opened(client)
    client.github.limits.writes_a_minute = 3
    client.rest("POST", "/issues/1/comments", {"body": "1"})
    update_refs(client, {"name": "refs/heads/x", "afterOid": git_world.head(client.repository)})
    status, answer, headers = client.call("PATCH", "/api/v3/repos/git/gitops/pulls/1", {"title": "x"})
    assert (status, int(headers["Retry-After"]) > 0) == (403, True)
    assert "secondary rate limit" in answer["message"]
    assert client.rest("GET", "/pulls/1")["title"] == "Deploy flask"


def test_a_comparison_shows_the_files(client: Client) -> None:
    git_world.commit(client.repository, {git_world.FILE: None, "moved": b"line\n" * 9, "a": b"\0"}, branch=BRANCH)
    compared = f"/compare/main...{git_world.head(client.repository, BRANCH)}"
    answer = client.rest("GET", compared)
    assert [(file["filename"], file["status"], "patch" in file) for file in answer["files"]] == [
        ("a", "added", False),
        ("moved", "added", True),
        (git_world.FILE, "removed", True),
    ]
    assert "files" not in client.rest("GET", f"{compared}?page=2")
