"""Git's objects as GitHub's GraphQL shows them."""

from collections.abc import Sequence
from typing import Any

from pipeline.core import git_tree
from pipeline.core.git_tree import Entry
from pipeline.sandbox import github_shapes
from pipeline.sandbox.github_git import BareRepository
from pipeline.sandbox.github_rest import ProblemError

Json = dict[str, Any]

LONGEST_TEXT = 512 * 1024
"""Bytes of a blob's `text`; a longer one is cut off there."""
_LARGEST_PAGE = 100
_KINDS = {git_tree.TREE: "tree", b"160000": "commit"}
_LOOKS_BINARY_WITHIN = 8000  # as git judges


def connection(name: str, items: Sequence[Json], first: int | None, last: int | None = None) -> Json:
    """A part of a list, which must be named: https://docs.github.com/graphql/overview/rate-limits-and-query-limits"""
    size = first if last is None else last
    if size is None:
        message = f"You must provide a `first` or `last` value to properly paginate the `{name}` connection."
        raise ProblemError("MISSING_PAGINATION_BOUNDARIES", message)
    if not 0 <= size <= _LARGEST_PAGE:
        message = f"Requesting {size} records on the `{name}` connection exceeds the limit of {_LARGEST_PAGE} records."
        raise ProblemError("EXCESSIVE_PAGINATION", message)
    return {"totalCount": len(items), "nodes": items[:size] if last is None else items[max(0, len(items) - size) :]}


def git_object(repository: BareRepository, kind: str, oid: str) -> Json:
    """An object of that kind."""
    made = {"commit": commit, "tree": _tree, "blob": _blob}
    return made[kind](repository, oid)


def commit(repository: BareRepository, revision: str) -> Json:
    """A commit."""
    shown = repository.commit(revision)

    def file(_: Any, path: str) -> Json | None:
        entry = repository.entry(shown.tree, path)
        return _tree_entry(repository, path.rpartition("/")[2], entry) if entry else None

    return {
        "__typename": "Commit",
        "oid": shown.oid,
        "message": shown.message,
        "messageHeadline": shown.message.partition("\n")[0],
        "author": _person(shown.author),
        "committer": _person(shown.committer),
        "tree": lambda _: _tree(repository, shown.tree),
        "file": file,
        "parents": lambda _, first=None: connection(
            "parents", [commit(repository, oid) for oid in shown.parents], first
        ),
        "history": lambda _, first=None: connection(
            "history", [commit(repository, oid) for oid in repository.history(shown.oid, first or 0)], first
        ),
    }


def person(login: str) -> Json:
    """Somebody with an account."""
    return {"__typename": "User", "login": login}


def _person(who: tuple[str, str, str]) -> Json:
    name, email, date = who
    login = github_shapes.login(email)
    return {"name": name, "email": email, "date": date, "user": person(login) if login else None}


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
        "object": lambda _: None if kind == "commit" else git_object(repository, kind, entry.oid),
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
