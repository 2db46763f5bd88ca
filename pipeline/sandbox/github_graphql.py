"""GitHub's GraphQL API over bare repositories: `github.graphql` says what is there, graphql-core executes.

What the schema does not say is from GitHub's documentation and from answers that clients have published: errors carry
a `type`, an unknown path is null, text in another encoding is decoded, and long text is cut off.
"""

import base64
import binascii
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.edges.git import GitError
from pipeline.sandbox.github_git import ZERO, BareRepository
from pipeline.sandbox.github_graphql_pulls import PullRequests
from pipeline.sandbox.github_objects import Json, commit, git_object
from pipeline.sandbox.github_records import USER
from pipeline.sandbox.github_refs import is_protected, refusal
from pipeline.sandbox.github_rest import Hosted, ProblemError, named_by, node_id

if TYPE_CHECKING:
    from graphql import GraphQLSchema


class Api:
    """What one token may see and do."""

    def __init__(
        self,
        find: Callable[[str, str], Hosted | None],
        permissions: Mapping[str, str],
        host_url: str,
        renamed: Mapping[str, str],
    ) -> None:
        """`permissions` are the token's: `write` or `read`, by permission.

        Queries find a repository by its old name in `renamed` too; mutations do not.
        """
        self._find = find
        self._permissions = permissions
        self._pulls = PullRequests(self._named, self._require, host_url)
        self._renamed = renamed

    def execute(self, query: str, variables: Mapping[str, Any] | None) -> Json:
        """The answer to a query or mutation."""
        import graphql

        root = {
            "repository": self._repository,
            "viewer": {"login": USER},
            "createCommitOnBranch": self._create_commit,
            "updateRefs": self._update_refs,
            **self._pulls.mutations(),
        }
        result = graphql.graphql_sync(_schema(), query, root, variable_values=dict(variables or {}))
        answer: Json = {} if result.data is None and result.errors else {"data": result.data}
        if result.errors:
            answer["errors"] = [_error(error) for error in result.errors]
        return answer

    def _repository(self, _: Any, owner: str, name: str, followRenames: bool = True) -> Json:  # noqa: N803
        hosted = self._open(owner, self._renamed.get(name, name) if followRenames else name)
        repository = hosted.repository
        return {
            "id": node_id("Repository", hosted.slug),
            "nameWithOwner": hosted.slug,
            "viewerPermission": "WRITE" if self._permissions.get("contents") == "write" else "READ",
            "defaultBranchRef": lambda _: self._ref(repository, repository.default_branch() or ""),
            "ref": lambda _, **asked: self._ref(repository, asked["qualifiedName"].removeprefix("refs/heads/")),
            "object": functools.partial(self._object, hosted),
            **self._pulls.fields(hosted),
        }

    def _open(self, owner: str, name: str) -> Hosted:
        hosted = self._find(owner, name)
        if hosted is None:
            raise ProblemError("NOT_FOUND", f"Could not resolve to a Repository with the name '{owner}/{name}'.")
        return hosted

    def _named(self, kind: str, given: str) -> tuple[Hosted, str]:
        """What a node's id names: its repository, and the rest of its name."""
        owner, name, *rest = named_by(kind, given).split("/", 2)
        return self._open(owner, name), "".join(rest)

    def _require(self, permission: str, *levels: str) -> None:
        if self._permissions.get(permission) not in levels:
            raise ProblemError("FORBIDDEN", "Resource not accessible by personal access token")

    def _ref(self, repository: BareRepository, branch: str) -> Json | None:
        self._require("contents", "read", "write")
        head = repository.head(branch)
        return {"name": branch, "prefix": "refs/heads/", "target": commit(repository, head)} if head else None

    def _object(self, hosted: Hosted, _: Any, expression: str | None = None, oid: str | None = None) -> Json | None:
        self._require("contents", "read", "write")
        found = hosted.repository.resolve(oid or expression or "")
        if found is None:
            return None
        pulls = self._pulls.of_commit(hosted, found[1]) if found[0] == "commit" else {}
        return {**git_object(hosted.repository, *found), **pulls}

    def _create_commit(self, _: Any, input: Mapping[str, Any]) -> Json:  # noqa: A002
        owner, _, name = str(input["branch"].get("repositoryNameWithOwner", "")).partition("/")
        hosted = self._open(owner, name)
        repository = hosted.repository
        self._require("contents", "write")
        branch = str(input["branch"].get("branchName", "")).removeprefix("refs/heads/")
        head = repository.head(branch)
        if head is None:
            raise ProblemError("NOT_FOUND", f"No ref found with the name '{branch}'.")
        if head != input["expectedHeadOid"]:
            raise _stale(head)
        _require_open(hosted, f"refs/heads/{branch}")
        changes = input.get("fileChanges", {})
        message = "\n\n".join(filter(None, (input["message"]["headline"], input["message"].get("body"))))
        added = {file["path"]: _decoded(file["contents"]) for file in changes.get("additions", ())}
        deleted = [file["path"] for file in changes.get("deletions", ())]
        made = repository.append(branch, head, added, deleted, message)
        if made is None:  # somebody pushed by git meanwhile
            raise _stale(head)
        ref = {"name": branch, "prefix": "refs/heads/", "target": commit(repository, made)}
        return {
            "clientMutationId": input.get("clientMutationId"),
            "commit": commit(repository, made),
            "ref": ref,
        }

    def _update_refs(self, _: Any, input: Mapping[str, Any]) -> Json:  # noqa: A002
        """All or none; https://docs.github.com/graphql/reference/repos does not say how a refusal is worded."""
        hosted, _rest = self._named("Repository", input["repositoryId"])
        self._require("contents", "write")
        updates = [(str(item["name"]), item["afterOid"], item.get("beforeOid")) for item in input["refUpdates"]]
        for (name, new, before), item in zip(updates, input["refUpdates"], strict=True):
            old = hosted.repository.ref(name) or ZERO if name.startswith("refs/") else ZERO
            if before not in {None, old}:
                raise ProblemError("STALE_DATA", f"{name} is at {old}, and not at {before}")
            if problem := refusal(hosted, name, new, old, force=item["force"]):
                raise ProblemError("UNPROCESSABLE", f"{name}: {problem}")
            _require_open(hosted, name)
        try:
            moved = hosted.repository.move(updates)
        except GitError as error:
            raise ProblemError("UNPROCESSABLE", "Reference update failed") from error
        if not moved:
            raise ProblemError("STALE_DATA", "A ref has moved meanwhile")
        return {"clientMutationId": input.get("clientMutationId")}


def _require_open(hosted: Hosted, ref: str) -> None:
    if is_protected(hosted, ref):
        raise ProblemError("BRANCH_PROTECTION_RULE_VIOLATION", "Changes must be made through a pull request.")


@functools.cache
def _schema() -> "GraphQLSchema":
    import graphql

    return graphql.build_schema(Path(__file__).with_name("github.graphql").read_text())


def _error(error: Any) -> Json:
    formatted: Json = dict(error.formatted)
    if isinstance(error.original_error, ProblemError):
        return {"type": error.original_error.kind, **formatted}
    return formatted


def _stale(head: str) -> ProblemError:
    return ProblemError("STALE_DATA", f'Expected branch to point to "{head}" but it did not.  Pull and try again.')


def _decoded(contents: str) -> bytes:
    try:
        return base64.b64decode(contents, validate=True)
    except binascii.Error as error:
        raise ProblemError("UNPROCESSABLE", f"A file's contents are not Base64: {error}") from error
