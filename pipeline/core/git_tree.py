"""git's tree objects: find a path, symbolic links included, and put new contents at paths.

Nothing is read but the trees on the way, so that a repository need not be there whole.
Format: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects, with entries sorted as if folders ended in `/`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.errors import PathOutsideRepository

TREE, FILE, LINK = b"40000", b"100644", b"120000"
_LINKS_FOLLOWED = 40  # as many as Linux follows
_OID_BYTES = 20

ReadObject = Callable[[str], bytes]
"""The content of an object, by oid."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a tree; `mode` as git writes it (`100755`), `oid` in hexadecimal."""

    mode: bytes
    oid: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to: a file, or a folder's tree. `path` has no symbolic links left."""

    path: str
    oid: str
    is_folder: bool


def parse(tree: bytes) -> dict[str, Entry]:
    """The entries of a tree object, by name; names that are not UTF-8 keep their bytes as surrogates."""
    return dict(_entries(tree))


def _entries(tree: bytes) -> Iterator[tuple[str, Entry]]:
    start = 0
    while start < len(tree):
        end = tree.index(b"\0", start)
        mode, _, name = tree[start:end].partition(b" ")
        start = end + 1 + _OID_BYTES
        yield os.fsdecode(name), Entry(mode, tree[end + 1 : start].hex())


def dump(entries: Mapping[str, Entry]) -> bytes:
    """The tree object of `entries`: the inverse of `parse`."""
    named = [(os.fsencode(name), entry) for name, entry in entries.items()]
    named.sort(key=lambda pair: pair[0] + (b"/" if pair[1].mode == TREE else b""))
    return b"".join(b"%b %b\0%b" % (entry.mode, name, bytes.fromhex(entry.oid)) for name, entry in named)


def find(root: str, path: str, read: ReadObject) -> Found | None:
    """Follow `path` from the tree `root`; None when it leads nowhere (or into a submodule).

    Raises PathOutsideRepository when it is absolute, or `..` or a symbolic link leads out of the repository.
    """
    if path.startswith("/"):
        raise PathOutsideRepository(f"{path!r} is not relative to the repository's root")
    trees, names, links = [root], [""], 0
    todo = path.split("/")
    while todo:
        name = todo.pop(0)
        if name == "..":
            del trees[-1], names[-1]
            if not trees:
                raise PathOutsideRepository(f"{path!r} leads out of the repository")
        if name in {"", ".", ".."}:
            continue
        entry = parse(read(trees[-1])).get(name)
        if entry is None:
            return None
        if entry.mode == TREE:
            trees.append(entry.oid)
            names.append(name)
        elif entry.mode == LINK:
            target, links = os.fsdecode(read(entry.oid)), links + 1
            if target.startswith("/") or links > _LINKS_FOLLOWED:
                raise PathOutsideRepository(
                    f"{path!r}: the symbolic link {name!r} -> {target!r} leads out of the repository or in circles"
                )
            todo = target.split("/") + todo
        else:
            is_file = not todo and entry.mode.startswith(b"100")
            return Found("/".join([*names[1:], name]), entry.oid, False) if is_file else None
    return Found("/".join(names[1:]), trees[-1], True)


def rewrite(root: str | None, blobs: Mapping[str, str], read: ReadObject, write: Callable[[bytes], str]) -> str:
    """A tree like `root` (None: an empty one) with `blobs`, by path, put in. Returns its oid.

    A file that is there keeps its mode; folders that are missing are made. `write` stores a tree and returns its oid.
    """
    entries = parse(read(root)) if root else {}
    below: dict[str, dict[str, str]] = {}
    for path, blob in blobs.items():
        name, _, rest = path.partition("/")
        if rest:
            below.setdefault(name, {})[rest] = blob
        else:
            entries[name] = Entry(entries[name].mode if name in entries else FILE, blob)
    for name, inner in below.items():
        tree = entries[name].oid if name in entries and entries[name].mode == TREE else None
        entries[name] = Entry(TREE, rewrite(tree, inner, read, write))
    return write(dump(entries))
