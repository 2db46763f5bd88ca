"""A client of GitHub in the sandbox, without any knowledge of what it asks for."""

import base64
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.secret import Secret
from pipeline.sandbox.github import GitHub
from pipeline.sandbox.server import Server
from tests import git_world, github_contract

Json = dict[str, Any]
TOKEN = "ghs_test"

READ = """query($branch: String!, $path: String!) {
  repository(owner: "git", name: "gitops") { nameWithOwner viewerPermission
    ref(qualifiedName: $branch) { name target { ... on Commit { oid message file(path: $path) {
      mode type object { __typename ... on Blob { oid text isBinary isTruncated byteSize } ... on Tree {
        entries { name mode } } } } } } } } }"""
COMMIT = (
    "mutation($input: CreateCommitOnBranchInput!) { createCommitOnBranch(input: $input) { commit { oid message } } }"
)


class Client:
    """What the sandbox keeps of what was said is in `github.exchanges`."""

    def __init__(self, url: str, github: GitHub, repository: Path) -> None:
        self.url, self.github, self.repository = url, github, repository

    def call(
        self, method: str, path: str, body: object = None, token: str | None = TOKEN, **more: str
    ) -> tuple[int, Any, Any]:
        """Status, answer and headers; `more` are headers of the request, with `_` for `-`."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method))
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None, answer.headers

    def rest(self, method: str, path: str, body: object = None, status: int | None = None) -> Any:
        """The answer below the repository's address; without a `status`, one of success."""
        given, answer, _ = self.call(method, f"/api/v3/repos/git/gitops{path}", body)
        assert given == status or (status is None and given < 300), (given, answer)
        return answer

    def graphql(self, query: str, **variables: object) -> Json:
        status, answer, _ = self.call("POST", "/api/graphql", {"query": query, "variables": variables})
        assert status == 200, answer
        return answer  # type: ignore[no-any-return]

    def file(self, path: str, branch: str = "main") -> Any:
        return self.graphql(READ, branch=branch, path=path)["data"]["repository"]["ref"]["target"]["file"]

    def commit(self, head: str, files: dict[str, bytes], *, branch: str = "main", deleted: Sequence[str] = ()) -> Json:
        additions = [{"path": path, "contents": base64.b64encode(data).decode()} for path, data in files.items()]
        return self.graphql(
            COMMIT,
            input={
                "branch": {"repositoryNameWithOwner": "git/gitops", "branchName": branch},
                "expectedHeadOid": head,
                "message": {"headline": "deploy", "body": "Deploy-Id: 1"},
                "fileChanges": {"additions": additions, "deletions": [{"path": path} for path in deleted]},
            },
        )


@contextlib.contextmanager
def running(tmp_path: Path) -> Iterator[Client]:
    """A GitHub with the repository `gitops`; in the end every exchange is held against the contracts."""
    repository = git_world.bare(tmp_path / "gitops.git", {git_world.FILE: git_world.kustomization(flask="old")})
    github = GitHub(tmp_path, Secret(TOKEN))
    server = Server(github)
    try:
        yield Client(f"http://127.0.0.1:{server.port}", github, repository)
    finally:
        server.close()
        github.close()
    for exchange in github.exchanges:
        github_contract.check(exchange)
