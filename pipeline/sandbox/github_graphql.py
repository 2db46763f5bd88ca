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

from pipeline.core import git_tree
from pipeline.core.git_tree import Entry
from pipeline.sandbox.github_git import BareRepository

if TYPE_CHECKING:
    from graphql import GraphQLSchema

Json = dict[str, Any]

LONGEST_TEXT = 512 * 1024
"""Bytes of a blob's `text`; a longer one is cut off there."""
_KINDS = {git_tree.TREE: "tree", b"160000": "commit"}
_LOOKS_BINARY_WITHIN = 8000  # as git judges


class ProblemError(Exception):
    """An error with GitHub's `type`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Api:
    """What one token may see and do."""

    def __init__(
        self,
        find: Callable[[str, str], BareRepository | None],
        permission: str | None,
        protected: frozenset[str] = frozenset(),
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        """`permission` is the token's for contents: `write`, `read` or none. Branches of `protected` take no commit.

        Queries find a repository by its old name in `renamed` too; mutations do not.
        """
        self._find = find
        self._permission = permission
        self._protected = protected
        self._renamed = renamed or {}

    def execute(self, query: str, variables: Mapping[str, Any] | None) -> Json:
        """The answer to a query or mutation."""
        import graphql

        root = {"repository": self._repository, "createCommitOnBranch": self._create_commit}
        result = graphql.graphql_sync(_schema(), query, root, variable_values=dict(variables or {}))
        answer: Json = {} if result.data is None and result.errors else {"data": result.data}
        if result.errors:
            answer["errors"] = [_error(error) for error in result.errors]
        return answer

    def _repository(self, _: Any, owner: str, name: str, followRenames: bool = True) -> Json:  # noqa: N803
        name = self._renamed.get(name, name) if followRenames else name
        repository = self._open(owner, name)
        writes = self._permission == "write"
        return {
            "nameWithOwner": f"{owner}/{name}",
            "viewerPermission": "WRITE" if writes else "READ",
            "defaultBranchRef": lambda _: self._ref(repository, repository.default_branch() or ""),
            "ref": lambda _, **asked: self._ref(repository, asked["qualifiedName"].removeprefix("refs/heads/")),
            "object": functools.partial(self._object, repository),
        }

    def _open(self, owner: str, name: str) -> BareRepository:
        repository = self._find(owner, name)
        if repository is None:
            raise ProblemError("NOT_FOUND", f"Could not resolve to a Repository with the name '{owner}/{name}'.")
        return repository

    def _require(self, *levels: str) -> None:
        if self._permission not in levels:
            raise ProblemError("FORBIDDEN", "Resource not accessible by personal access token")

    def _ref(self, repository: BareRepository, branch: str) -> Json | None:
        self._require("read", "write")
        head = repository.head(branch)
        return {"name": branch, "prefix": "refs/heads/", "target": _commit(repository, head)} if head else None

    def _object(
        self, repository: BareRepository, _: Any, expression: str | None = None, oid: str | None = None
    ) -> Json | None:
        self._require("read", "write")
        found = repository.resolve(oid or expression or "")
        return _git_object(repository, *found) if found else None

    def _create_commit(self, _: Any, input: Mapping[str, Any]) -> Json:  # noqa: A002
        owner, _, name = str(input["branch"].get("repositoryNameWithOwner", "")).partition("/")
        repository = self._open(owner, name)
        self._require("write")
        branch = str(input["branch"].get("branchName", "")).removeprefix("refs/heads/")
        head = repository.head(branch)
        if head is None:
            raise ProblemError("NOT_FOUND", f"No ref found with the name '{branch}'.")
        if head != input["expectedHeadOid"]:
            raise _stale(head)
        if branch in self._protected:
            raise ProblemError("BRANCH_PROTECTION_RULE_VIOLATION", "Changes must be made through a pull request.")
        changes = input.get("fileChanges", {})
        message = "\n\n".join(filter(None, (input["message"]["headline"], input["message"].get("body"))))
        added = {file["path"]: _decoded(file["contents"]) for file in changes.get("additions", ())}
        deleted = [file["path"] for file in changes.get("deletions", ())]
        commit = repository.append(branch, head, added, deleted, message)
        if commit is None:  # somebody pushed by git meanwhile
            raise _stale(head)
        ref = {"name": branch, "prefix": "refs/heads/", "target": _commit(repository, commit)}
        return {
            "clientMutationId": input.get("clientMutationId"),
            "commit": _commit(repository, commit),
            "ref": ref,
        }


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


def _git_object(repository: BareRepository, kind: str, oid: str) -> Json:
    made = {"commit": _commit, "tree": _tree, "blob": _blob}
    return made[kind](repository, oid)


def _commit(repository: BareRepository, revision: str) -> Json:
    commit = repository.commit(revision)

    def file(_: Any, path: str) -> Json | None:
        entry = repository.entry(commit.tree, path)
        return _tree_entry(repository, path.rpartition("/")[2], entry) if entry else None

    return {
        "__typename": "Commit",
        "oid": commit.oid,
        "message": commit.message,
        "tree": lambda _: _tree(repository, commit.tree),
        "file": file,
        "parents": lambda _, first=100: {"nodes": [_commit(repository, oid) for oid in commit.parents[:first]]},
        "history": lambda _, first=100: {
            "nodes": [_commit(repository, oid) for oid in repository.history(commit.oid, first)]
        },
    }


def _tree(repository: BareRepository, oid: str) -> Json:
    entries = git_tree.parse(repository.read(oid))
    return {
        "__typename": "Tree",
        "oid": oid,
        "entries": [_tree_entry(repository, name, entry) for name, entry in entries.items()],
    }


def _tree_entry(repository: BareRepository, name: str, entry: Entry) -> Json:
    kind = _KINDS.get(entry.mode, "blob")
    return {
        "name": name,
        "mode": int(entry.mode, 8),
        "oid": entry.oid,
        "type": kind,
        "object": lambda _: None if kind == "commit" else _git_object(repository, kind, entry.oid),
    }


def _blob(repository: BareRepository, oid: str) -> Json:
    data = repository.read(oid)
    binary = b"\0" in data[:_LOOKS_BINARY_WITHIN]
    text = data[:LONGEST_TEXT]
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        decoded = text.decode("latin-1")
    return {
        "__typename": "Blob",
        "oid": oid,
        "byteSize": len(data),
        "isBinary": binary,
        "isTruncated": len(data) > LONGEST_TEXT,
        "text": None if binary else decoded,
    }
