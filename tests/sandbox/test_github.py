"""GitHub in the sandbox: real git behind it, GitHub's own contracts before it."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import graphql
import pytest

from pipeline.sandbox import github_graphql
from tests import git_world, github_contract
from tests.sandbox.github_client import COMMIT, READ, Client, Json, running

SCHEMA = Path(github_graphql.__file__).with_name("github.graphql")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running(tmp_path) as client:
        yield client


def test_its_schema_is_a_part_of_githubs() -> None:
    whole, ours = github_contract.schema(), graphql.build_schema(SCHEMA.read_text())
    for name, kind in ours.type_map.items():
        if name.startswith("__"):
            continue
        theirs = whole.type_map[name]
        assert type(kind) is type(theirs), name
        if isinstance(kind, graphql.GraphQLEnumType):
            assert isinstance(theirs, graphql.GraphQLEnumType)
            assert kind.values.keys() == theirs.values.keys()
        for field_name, field in getattr(kind, "fields", {}).items():
            original = getattr(theirs, "fields", {})[field_name]
            assert str(field.type) == str(original.type), f"{name}.{field_name}"
            for argument, given in getattr(field, "args", {}).items():
                assert str(given.type) == str(original.args[argument].type), f"{name}.{field_name}({argument})"
                assert given.default_value == original.args[argument].default_value
            for argument, given in getattr(original, "args", {}).items():
                assert argument in field.args or not graphql.is_required_argument(given), f"{name}.{field_name}"
        if isinstance(kind, graphql.GraphQLInputObjectType):
            assert isinstance(theirs, graphql.GraphQLInputObjectType)
            needed = {field for field, given in theirs.fields.items() if graphql.is_required_input_field(given)}
            assert needed <= kind.fields.keys()


def test_files_and_folders_are_read_as_they_are_in_git(client: Client) -> None:
    file = client.file(git_world.FILE)
    assert (file["mode"], file["type"]) == (0o100644, "blob")
    assert file["object"]["text"].encode() == git_world.content(client.repository)
    assert file["object"]["oid"] == git_world.git(client.repository, "rev-parse", f"main:{git_world.FILE}")
    assert client.file("overlays")["object"]["entries"] == [{"name": "production", "mode": 0o040000}]
    assert client.file("overlays/nothing") is None
    assert client.graphql(READ, branch="nothing", path="a")["data"]["repository"]["ref"] is None


def test_text_is_decoded_cut_off_or_left_out_and_the_blob_api_has_the_bytes(client: Client) -> None:
    long = b"# long\n" * 100_000
    files: dict[str, bytes | None] = {"latin": "größe".encode("latin-1"), "long": long, "binary": b"\0\1"}
    git_world.commit(client.repository, files)
    assert client.file("latin")["object"]["text"] == "größe"
    assert client.file("long")["object"]["isTruncated"] is True
    assert (client.file("binary")["object"]["isBinary"], client.file("binary")["object"]["text"]) == (True, None)
    for name, data in files.items():
        oid = git_world.git(client.repository, "rev-parse", f"main:{name}")
        _, blob, _ = client.call("GET", f"/api/v3/repos/git/gitops/git/blobs/{oid}")
        assert base64.b64decode(blob["content"]) == data
    assert client.call("GET", f"/api/v3/repos/git/gitops/git/blobs/{'0' * 40}")[0] == 404


def test_a_commit_made_over_graphql_is_there_in_git(client: Client) -> None:
    before = git_world.head(client.repository)
    git_world.commit(client.repository, {"gone": b"x"})
    head = git_world.head(client.repository)
    made = client.commit(head, {"run.sh": b"new\n", "a b/c": b"\xff"}, deleted=("gone",))["data"]
    oid = made["createCommitOnBranch"]["commit"]["oid"]
    assert git_world.head(client.repository) == oid
    assert git_world.content(client.repository, "a b/c") == b"\xff"
    assert "gone" not in git_world.git(client.repository, "ls-tree", "--name-only", "main")
    assert git_world.git(client.repository, "log", "-1", "--format=%P %cn <%ce>%n%B", "main") == (
        f"{head} GitHub <noreply@github.com>\ndeploy\n\nDeploy-Id: 1"
    )
    stale = client.commit(before, {"run.sh": b"old\n"})
    assert stale["data"] == {"createCommitOnBranch": None}
    assert stale["errors"][0]["type"] == "STALE_DATA"
    assert git_world.head(client.repository) == oid


def test_what_may_not_be_done_is_refused(client: Client) -> None:
    head = git_world.head(client.repository)
    assert client.commit(head, {}, branch="nothing")["errors"][0]["type"] == "NOT_FOUND"
    client.github.protected.add("main")
    assert client.commit(head, {"a": b""})["errors"][0]["type"] == "BRANCH_PROTECTION_RULE_VIOLATION"
    client.github.permissions["contents"] = "read"
    assert client.commit(head, {"a": b""})["errors"][0]["type"] == "FORBIDDEN"
    del client.github.permissions["contents"]
    status, _, headers = client.call("GET", f"/api/v3/repos/git/gitops/compare/{head}...{head}")
    assert (status, headers["X-Accepted-GitHub-Permissions"]) == (403, "contents=read")
    assert client.call("GET", "/api/v3/repos/git/other/compare/a...b")[0] == 404
    for token, message in ((None, "Requires authentication"), ("wrong", "Bad credentials")):
        status, answer, _ = client.call("POST", "/api/graphql", {"query": "{__typename}"}, token)
        assert (status, answer["message"]) == (401, message)
    assert git_world.head(client.repository) == head


def test_commits_are_compared(client: Client) -> None:
    first = git_world.head(client.repository)
    second, third = (git_world.commit(client.repository, {"a": data}) for data in (b"1", b"2"))
    git_world.git(client.repository, "branch", "side", second)
    side = git_world.commit(client.repository, {"b": b"1"}, branch="side")

    def compare(base: str, head: str, query: str = "") -> Json:
        answer: Json = client.call("GET", f"/api/v3/repos/git/gitops/compare/{base}...{head}{query}")[1]
        return answer

    assert compare(first, third)["status"] == "ahead"
    assert [commit["sha"] for commit in compare(first, third, "?per_page=1&page=2")["commits"]] == [third]
    assert compare(third, first)["status"] == "behind"
    assert compare(third, third)["status"] == "identical"
    assert (compare(third, side)["status"], compare(third, side)["merge_base_commit"]["sha"]) == ("diverged", second)
    assert client.call("GET", f"/api/v3/repos/git/gitops/compare/{first}...{'0' * 40}")[0] == 404


def test_both_rate_limits_are_enforced(client: Client) -> None:
    limits = client.github.limits
    limits.writes_a_minute, limits.minute_seconds = 2, 1
    head = git_world.head(client.repository)
    body = {"query": COMMIT, "variables": {"input": {}}}
    for number in range(2):
        head = client.commit(head, {"a": b"%d" % number})["data"]["createCommitOnBranch"]["commit"]["oid"]
    body["variables"] = client.github.exchanges[-1].sent["variables"]
    status, answer, headers = client.call("POST", "/api/graphql", body)
    assert (status, headers["Retry-After"]) == (403, "1")
    assert "secondary rate limit" in answer["message"]
    time.sleep(1.1)
    assert client.commit(head, {"a": b"x"})["data"]["createCommitOnBranch"]
    limits.requests_an_hour = 5
    client.file("a")
    answer = client.graphql(READ, branch="main", path="a")
    assert answer["errors"][0]["type"] == "RATE_LIMITED"
    left = client.call("POST", "/api/graphql", {"query": READ, "variables": {"branch": "main", "path": "a"}})[2]
    assert left["X-RateLimit-Remaining"] == "0"
    assert float(left["X-RateLimit-Reset"]) > time.time()
