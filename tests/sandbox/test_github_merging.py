"""How pull requests in the sandbox's GitHub are merged, read from git; GitHub's contracts say how it is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline.sandbox.github_records import PullRequest
from tests import git_world
from tests.sandbox.github_client import Client, Json, running

BRANCH = "deploy/production/flask"
BOT = "sandbox <sandbox@users.noreply.github.com>"
CREDIT = "Co-authored-by: Bob <bob@example.org>"
LISTED = "* deploy(production): flask\n\nDeploy-Id: 1\n\n* second"
LOOK = """query($number: Int!) { repository(owner: "git", name: "gitops") { pullRequest(number: $number) {
  id state merged isDraft mergeable mergeStateStatus reviewDecision headRefOid isInMergeQueue isMergeQueueEnabled
  mergeCommit { oid } autoMergeRequest { mergeMethod enabledBy { login } } mergeQueueEntry { position state }
  commits(last: 10) { totalCount nodes { commit { oid author { name email user { login } } } } } } } }"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running(tmp_path) as client:
        git_world.git(client.repository, "branch", BRANCH, "main")
        add(client, "a", "deploy(production): flask\n\nDeploy-Id: 1")
        client.rest("POST", "/pulls", {"title": "Deploy flask", "head": BRANCH, "base": "main", "body": "Deploy-Id: 1"})
        yield client


def add(client: Client, path: str, message: str, branch: str = BRANCH) -> str:
    return git_world.commit(client.repository, {path: path.encode()}, branch=branch, message=message)


def look(client: Client, number: int = 1) -> Json:
    """What GraphQL says once GitHub knows whether the branches merge."""
    for _ in range(2):
        shown: Json = client.graphql(LOOK, number=number)["data"]["repository"]["pullRequest"]
    return shown


def mutate(client: Client, name: str, **fields: object) -> Json:
    """A mutation on the pull request: its errors, or nothing."""
    kind = f"{name[0].upper()}{name[1:]}Input"
    answer = client.graphql(
        f"mutation($input: {kind}!) {{ {name}(input: $input) {{ clientMutationId }} }}",
        input={"pullRequestId": look(client)["id"], **fields},
    )
    return answer.get("errors", [{}])[0]  # type: ignore[no-any-return]


def pull(client: Client, number: int = 1) -> PullRequest:
    """Behind the API, as somebody else sees it."""
    hosted = client.github.find("git", "gitops")
    assert hosted is not None
    return hosted.state.pulls[number]


def log(client: Client, form: str, *revisions: str) -> str:
    return git_world.git(client.repository, "log", "--reverse", f"--format={form}", *revisions)


def test_whether_it_merges_is_told_when_it_is_known(client: Client) -> None:
    add(client, "b", "more")
    told = [client.rest("GET", "/pulls/1") for _ in range(2)]
    assert [(one["mergeable"], one["mergeable_state"]) for one in told] == [(None, "unknown"), (True, "clean")]
    trial = told[1]["merge_commit_sha"]  # of an open one it says nothing about a merge
    assert (told[0]["merge_commit_sha"], log(client, "%P", "-1", trial)) == (
        *(None, f"{git_world.head(client.repository)} {told[1]['head']['sha']}"),
    )
    shown = look(client)
    assert (shown["mergeable"], shown["mergeStateStatus"], shown["state"]) == ("MERGEABLE", "CLEAN", "OPEN")
    assert shown["commits"]["totalCount"] == 2
    assert shown["commits"]["nodes"][0]["commit"]["author"] == {"name": "Bob", "email": "bob@example.org", "user": None}
    add(client, "x", "one side")
    git_world.commit(client.repository, {"x": b"other"})
    assert (look(client)["mergeable"], look(client)["mergeStateStatus"]) == ("CONFLICTING", "DIRTY")
    client.rest("PUT", "/pulls/1/merge", {}, 405)


@pytest.mark.parametrize(
    ("settings", "count", "message"),
    [
        ({}, 1, f"deploy(production): flask (#1)\n\nDeploy-Id: 1\n\n{CREDIT}"),
        ({}, 2, f"Deploy flask (#1)\n\n{LISTED}\n\n---------\n\n{CREDIT}"),
        (
            {"squash_merge_commit_title": "PR_TITLE", "squash_merge_commit_message": "PR_BODY"},
            1,
            f"Deploy flask (#1)\n\nDeploy-Id: 1\n\n{CREDIT}",
        ),
        ({"squash_merge_commit_message": "BLANK"}, 2, f"Deploy flask (#1)\n\n{CREDIT}"),
    ],
)
def test_a_squash_makes_one_new_commit(client: Client, settings: Json, count: int, message: str) -> None:
    client.github.rules.settings.update(settings)
    main = git_world.head(client.repository)
    if count == 2:
        add(client, "b", "second")
    made = client.rest("PUT", "/pulls/1/merge", {"merge_method": "squash"})["sha"]
    assert git_world.head(client.repository) == made
    assert log(client, "%P %an <%ae>%n%B", "-1", "main") == f"{main} {BOT}\n{message}"
    assert git_world.content(client.repository, "a") == b"a"


def test_a_rebase_makes_every_commit_anew(client: Client) -> None:
    add(client, "b", "second\n\nDeploy-Id: 2")
    main = git_world.commit(client.repository, {"other": b"1"})
    made = client.rest("PUT", "/pulls/1/merge", {"merge_method": "rebase"})["sha"]
    assert git_world.head(client.repository) == made
    assert log(client, "%an %cn %s", f"{main}..main") == "Bob sandbox deploy(production): flask\nBob sandbox second"
    assert git_world.git(client.repository, "diff", "--name-only", main, "main") == "a\nb"
    assert look(client)["mergeCommit"]["oid"] == made
    assert not set(log(client, "%H", f"{main}..main").split()) & set(log(client, "%H", f"main..{BRANCH}").split())


def test_who_merges_may_choose_the_text_and_not_what_the_repository_forbids(client: Client) -> None:
    client.github.rules.settings.update(allow_squash_merge=False, delete_branch_on_merge=True)
    assert client.rest("GET", "")["allow_squash_merge"] is False
    client.rest("PUT", "/pulls/1/merge", {"merge_method": "squash"}, 405)
    client.rest("PUT", "/pulls/1/merge", {"commit_title": "Mine", "commit_message": "Yes"})
    assert log(client, "%B", "-1", "main") == "Mine\n\nYes"
    assert git_world.git(client.repository, "branch", "--list", BRANCH) == ""


def test_lists_of_graphql_name_how_much_they_want(client: Client) -> None:
    add(client, "b", "second")
    query = """query($size: Int) { repository(owner: "git", name: "gitops") { pullRequest(number: 1) {
      commits(first: $size) { totalCount nodes { commit { messageHeadline } } } } } }"""
    (one,) = client.graphql(query, size=1)["data"]["repository"]["pullRequest"]["commits"]["nodes"]
    assert one["commit"]["messageHeadline"] == "deploy(production): flask"
    for size, kind in ((None, "MISSING_PAGINATION_BOUNDARIES"), (101, "EXCESSIVE_PAGINATION")):
        assert client.graphql(query, size=size)["errors"][0]["type"] == kind
    pulls = (
        '{ repository(owner: "git", name: "gitops") { pullRequests(states: [OPEN], first: 9) { nodes { number } } } }'
    )
    assert client.graphql(pulls)["data"]["repository"]["pullRequests"]["nodes"] == [{"number": 1}]


def test_a_draft_waits(client: Client) -> None:
    assert mutate(client, "convertPullRequestToDraft") == {}
    assert (look(client)["isDraft"], client.rest("GET", "/pulls/1")["mergeable_state"]) == (True, "draft")
    client.rest("PUT", "/pulls/1/merge", {}, 405)
    assert mutate(client, "markPullRequestReadyForReview") == {}
    client.rest("PUT", "/pulls/1/merge", {})
    assert mutate(client, "markPullRequestReadyForReview")["type"] == "UNPROCESSABLE"


def test_a_protected_branch_asks_for_what_its_rules_say(client: Client) -> None:
    rules = client.github.rules
    rules.protected.add("main")
    rules.approvals, rules.checks = 1, "pending"
    head = git_world.head(client.repository, BRANCH)
    client.rest("PATCH", "/git/refs/heads/main", {"sha": head}, 422)
    assert (look(client)["mergeStateStatus"], look(client)["reviewDecision"]) == ("BLOCKED", "REVIEW_REQUIRED")
    assert "approving review" in client.rest("PUT", "/pulls/1/merge", {}, 405)["message"]
    pull(client).approvals.add("octocat")
    assert look(client)["reviewDecision"] == "APPROVED"
    assert "status check" in client.rest("PUT", "/pulls/1/merge", {}, 405)["message"]
    rules.checks = "success"
    made = client.rest("PUT", "/pulls/1/merge", {})["sha"]
    assert git_world.head(client.repository) == made


def test_auto_merge_happens_when_nothing_blocks_any_more(client: Client) -> None:
    rules = client.github.rules
    method: Json = {"mergeMethod": "SQUASH"}
    assert "Auto merge is not allowed" in mutate(client, "enablePullRequestAutoMerge", **method)["message"]
    rules.settings["allow_auto_merge"] = True
    assert "Protected branch rules" in mutate(client, "enablePullRequestAutoMerge", **method)["message"]
    rules.protected.add("main")
    assert "clean status" in mutate(client, "enablePullRequestAutoMerge", **method)["message"]
    rules.approvals = 1
    stale: Json = method | {"expectedHeadOid": git_world.head(client.repository)}
    assert "modified" in mutate(client, "enablePullRequestAutoMerge", **stale)["message"]
    assert mutate(client, "enablePullRequestAutoMerge", **method) == {}
    assert look(client)["autoMergeRequest"] == {"mergeMethod": "SQUASH", "enabledBy": {"login": "sandbox"}}
    assert client.rest("GET", "/pulls/1")["auto_merge"]["merge_method"] == "squash"
    assert mutate(client, "disablePullRequestAutoMerge") == {}
    pull(client).approvals.add("octocat")
    assert look(client)["state"] == "OPEN"
    pull(client).approvals.clear()
    assert mutate(client, "enablePullRequestAutoMerge", **method) == {}
    pull(client).approvals.add("octocat")
    shown = look(client)
    assert (shown["state"], shown["mergeCommit"]["oid"]) == ("MERGED", git_world.head(client.repository))
    assert log(client, "%s", "-1", "main") == "deploy(production): flask (#1)"


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_merge_queue_goes_forward(client: Client, method: Literal["merge", "squash", "rebase"]) -> None:
    rules = client.github.rules
    assert "not enabled" in mutate(client, "enqueuePullRequest")["message"]
    rules.protected.add("main")
    rules.queues["main"] = method
    main = git_world.head(client.repository)
    assert "merge queue" in client.rest("PUT", "/pulls/1/merge", {}, 405)["message"]
    assert mutate(client, "enqueuePullRequest") == {}
    assert mutate(client, "enqueuePullRequest")["type"] == "UNPROCESSABLE"
    shown = look(client)
    assert (shown["isInMergeQueue"], shown["mergeQueueEntry"]) == (True, {"position": 1, "state": "QUEUED"})
    queue = client.graphql(
        '{ repository(owner: "git", name: "gitops") { mergeQueue(branch: "main") { configuration { mergeMethod } '
        "entries(first: 5) { totalCount nodes { pullRequest { number } } } } } }"
    )["data"]["repository"]["mergeQueue"]
    assert queue == {
        "configuration": {"mergeMethod": method.upper()},
        "entries": {"totalCount": 1, "nodes": [{"pullRequest": {"number": 1}}]},
    }
    assert git_world.head(client.repository) == main
    (made,) = client.github.run_queue("gitops")
    assert (git_world.head(client.repository), look(client)["mergeCommit"]["oid"]) == (made, made)
    assert (look(client)["state"], look(client)["isInMergeQueue"]) == ("MERGED", False)
    parents = {"merge": 2, "squash": 1, "rebase": 1}
    assert len(log(client, "%P", "-1", "main").split()) == parents[method]


def test_what_fails_in_the_queue_or_is_pushed_to_leaves_it(client: Client) -> None:
    rules = client.github.rules
    rules.protected.add("main")
    rules.queues["main"] = "squash"
    main = git_world.head(client.repository)
    assert mutate(client, "enqueuePullRequest") == {}
    rules.checks = "failure"
    assert client.github.run_queue("gitops") == []
    assert (look(client)["state"], look(client)["isInMergeQueue"]) == ("OPEN", False)
    rules.checks = "success"
    assert mutate(client, "enqueuePullRequest") == {}
    add(client, "b", "more")
    assert look(client)["isInMergeQueue"] is False
    assert git_world.head(client.repository) == main


def test_auto_merge_goes_through_the_queue_where_there_is_one(client: Client) -> None:
    rules = client.github.rules
    rules.protected.add("main")
    rules.queues["main"] = "squash"
    rules.settings["allow_auto_merge"] = True
    rules.checks = "pending"
    assert "blocked status" in mutate(client, "enqueuePullRequest")["message"]
    assert mutate(client, "enablePullRequestAutoMerge") == {}
    rules.checks = "success"
    assert (look(client)["isInMergeQueue"], look(client)["autoMergeRequest"]) == (True, None)
    assert client.github.run_queue("gitops") == [git_world.head(client.repository)]


def test_merging_needs_both_permissions(client: Client) -> None:
    permissions = client.github.permissions
    permissions["contents"] = "read"
    answers: list[Any] = [client.rest("PUT", "/pulls/1/merge", {}, 403), mutate(client, "enablePullRequestAutoMerge")]
    assert {answer["message"] for answer in answers} == {"Resource not accessible by personal access token"}
    permissions["contents"], permissions["pull_requests"] = "write", "read"
    assert mutate(client, "convertPullRequestToDraft")["type"] == "FORBIDDEN"
    assert look(client)["state"] == "OPEN"
