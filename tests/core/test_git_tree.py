"""Paths and changes in git's tree objects."""

import hashlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.git_tree import FILE, LINK, TREE, Entry, Found, dump, find, parse, rewrite
from pipeline.errors import PathOutsideRepository

Node = Mapping[str, "Node | bytes | str"]
"""A folder: content of files as bytes, targets of symbolic links as text."""


class Store:
    """Objects by oid."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, kind: str, data: bytes) -> str:
        oid = hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()
        self.objects[oid] = data
        return oid

    def tree(self, data: bytes) -> str:
        return self.put("tree", data)

    def folder(self, node: Node) -> str:
        entries = {}
        for name, child in node.items():
            if isinstance(child, bytes):
                entries[name] = Entry(FILE, self.put("blob", child))
            elif isinstance(child, str):
                entries[name] = Entry(LINK, self.put("blob", child.encode()))
            else:
                entries[name] = Entry(TREE, self.folder(child))
        return self.tree(dump(entries))

    def read(self, oid: str) -> bytes:
        return self.objects[oid]


WORLD: Node = {
    "overlays": {
        "production": {"kustomization.yaml": b"prod"},
        "staging": "production",
        "up": {"kustomization.yaml": "../../shared/kustomization.yaml"},
        "out": "../../outside",
        "absolute": "/etc",
        "loop": "loop",
    },
    "shared": {"kustomization.yaml": b"shared"},
}


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("overlays/production/kustomization.yaml", "overlays/production/kustomization.yaml"),
        ("./overlays//production/kustomization.yaml", "overlays/production/kustomization.yaml"),
        ("overlays/staging/../production/kustomization.yaml", "overlays/production/kustomization.yaml"),
        ("overlays/staging/kustomization.yaml", "overlays/production/kustomization.yaml"),
        ("overlays/up/kustomization.yaml", "shared/kustomization.yaml"),
        ("overlays/staging", "overlays/production"),
        (".", ""),
        ("shared/", "shared"),
    ],
)
def test_a_path_is_followed_through_links(path: str, real: str) -> None:
    store = Store()
    found = find(store.folder(WORLD), path, store.read)
    assert isinstance(found, Found)
    assert found.path == real


@pytest.mark.parametrize(
    "path",
    ["nowhere", "overlays/nowhere/kustomization.yaml", "shared/kustomization.yaml/deeper", "overlays/production/x"],
)
def test_a_path_that_leads_nowhere(path: str) -> None:
    store = Store()
    assert find(store.folder(WORLD), path, store.read) is None


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../x",
        "/overlays/production",
        "overlays/../../x",
        "overlays/out/x",
        "overlays/absolute/x",
        "overlays/loop/x",
    ],
)
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    store = Store()
    with pytest.raises(PathOutsideRepository):
        find(store.folder(WORLD), path, store.read)


def test_only_the_way_to_the_file_is_read() -> None:
    store = Store()
    root = store.folder(WORLD)
    read = []

    def reading(oid: str) -> bytes:
        read.append(oid)
        return store.read(oid)

    find(root, "overlays/production/kustomization.yaml", reading)
    assert len(read) == 3


def test_a_file_that_is_rewritten_keeps_its_mode_and_its_neighbours() -> None:
    store = Store()
    old = {"run.sh": Entry(b"100755", "1" * 40), "sub": Entry(b"160000", "2" * 40), "\udcff": Entry(FILE, "3" * 40)}
    new = rewrite(store.tree(dump(old)), {"run.sh": "4" * 40}, store.read, store.tree)
    assert parse(store.read(new)) == old | {"run.sh": Entry(b"100755", "4" * 40)}


def test_new_files_make_their_folders_in_git_s_order() -> None:
    """git sorts the folder `a` as `a/`, after `a-b` and `a.b`."""
    store = Store()
    blobs = dict.fromkeys(("a/x", "a.b", "a-b", "a0", "new/deep/file"), store.put("blob", b""))
    root = rewrite(None, blobs, store.read, store.tree)
    assert list(parse(store.read(root))) == ["a-b", "a.b", "a", "a0", "new"]
    assert find(root, "new/deep/file", store.read) is not None


def test_the_empty_tree_is_git_s_own() -> None:
    assert Store().folder({}) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@given(
    st.dictionaries(st.text("abc./-", min_size=1).filter(lambda name: "/" not in name), st.sampled_from([FILE, TREE]))
)
def test_what_is_dumped_is_parsed_back(modes: dict[str, bytes]) -> None:
    entries = {name: Entry(mode, hashlib.sha1(name.encode()).hexdigest()) for name, mode in modes.items()}
    assert parse(dump(entries)) == entries
