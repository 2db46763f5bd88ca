"""The edit means to kustomize what it should: shown by `kustomize build` and on real files."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.deployment import ChangedLine
from pipeline.core.image_items import images_field
from pipeline.core.kustomization import Entry, ImageEdit, read_entries, set_images
from pipeline.core.yaml_tree import parse
from pipeline.errors import KustomizationUnusable

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "corpus"
REQUIRED = bool(os.environ.get("REQUIRE_ALL"))
DIGEST = "sha256:" + "f" * 64


@cache
def kustomize() -> str | None:
    built = Path.home() / ".cache" / "openeg-lab" / "bin" / "kustomize"
    return os.environ.get("OPENEG_KUSTOMIZE") or shutil.which("kustomize") or (str(built) if built.exists() else None)


needs_kustomize = pytest.mark.skipif(kustomize() is None and not REQUIRED, reason="kustomize is not installed")
needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason=f"the corpus of real files is not at {CORPUS}")


def build(folder: Path, cases: Mapping[str, tuple[bytes, list[str]]]) -> dict[str, list[str]]:
    """What kustomize makes of each case: its kustomization, and the images of one Deployment.

    Starting kustomize is what takes the time: the cases of one call are built by one process.
    """
    for case, (kustomization, images) in cases.items():
        (folder / case).mkdir(parents=True)
        (folder / case / "kustomization.yaml").write_bytes(kustomization)
        containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": case},
            "spec": {"template": {"spec": {"containers": containers}}},
        }
        (folder / case / "deployment.json").write_text(json.dumps(deployment))
    (folder / "kustomization.yaml").write_text(json.dumps({"resources": list(cases)}))
    program = kustomize()
    assert program, "REQUIRE_ALL is set, and kustomize is not installed"
    done = subprocess.run([program, "build", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = [document for document in YAML(typ="safe", pure=True).load_all(done.stdout) if document]
    return {
        document["metadata"]["name"]: [
            container["image"] for container in document["spec"]["template"]["spec"]["containers"]
        ]
        for document in built
    }


TAG = "3fa8c1e5b7d94c0a8e6f1b2d3c4a5968778695a4"
MADE = {
    "plain": "images:\n- name: app\n  newTag: x\n",
    "byte-order-mark": "\ufeffimages:\n- name: app\n  newTag: x\n",
    "crlf": "images:\r\n- name: app\r\n  newTag: x\r\n",
    "mixed-line-ends": "images:\r\n- name: app\n  newTag: x\r\n",
    "tabs": "images:\t\n- name:\tapp\t# c\n  newTag:\tx\t\n",
    "flow": "images: [{name: b, newTag: z}, {name: app, newTag: x}]\n",
    "flow-only-name": "images: [{name: app}]\n",
    "only-name": "images:\n- name: app\n",
    "null": "images:\n- name: app\n  newTag:\n- name: b\n",
    "null-with-comment": "images:\n- name: app\n  newTag: ~ # none\n",
    "empty": "images:\n- name: app\n  newTag: ''\n",
    "number": "images:\n- name: app\n  newTag: 1.10\n",
    "duplicate-names": "images:\n- name: app\n  newTag: x\n- name: app\n  newTag: z\n",
    "duplicate-names-no-tag": "images:\n- name: app\n- name: app\n",
    "duplicate-names-tag-first": "images:\n- name: app\n  newTag: x\n- name: app\n  newName: b\n",
    "duplicate-names-out-of-reach": "images:\n- name: app\n  newName: b\n  newTag: x\n- name: app\n  newTag: z\n",
    "duplicate-keys": "images:\n- name: app\n  newTag: x\n  newTag: z\n",
    "duplicate-images": "images:\n- name: app\n  newTag: x\nimages:\n- name: app\n  newTag: z\n",
    "other-case": "Images:\n- NAME: app\n  newtag: x\n",
    "two-documents": "images:\n- name: app\n  newTag: x\n---\nimages:\n- name: app\n  newTag: z\n",
    "anchors-of-others": "images:\n- name: b\n  newTag: &t z\n- name: app\n  newTag: x\n- name: c\n  newTag: *t\n",
    "anchored": "images:\n- &a\n  name: app\n  newTag: &t x\n",
    "explicit-type": "images:\n- name: app\n  newTag: !!str 12\n",
    "folded": "images:\n- name: app\n  newTag: >-\n    x\n",
    "literal": "images:\n- name: app\n  newTag: |\n    x\n",
    "escapes": 'images:\n- name: "\\x61pp"\n  newTag: "\\x61"\n',
    "next-line": "images:\n- name: app\n  newTag:\n    x\n",
    "question-marks": "images:\n- ? name\n  : app\n  ? newTag\n  : x\n",
    "digest": "images:\n- name: app\n  newTag: x\n  digest: sha256:1\n",
    "digest-alone": "images:\n- name: app\n  digest: sha256:1\n",
    "digest-empty": "images:\n- name: app\n  newTag: x\n  digest: ''\n",
    "missing": "images:\n  - name: b\n    newTag: x\n",
    "missing-in-flow": "images: [{name: b, newTag: x}]\n",
    "missing-in-empty": "images: []\n",
    "missing-in-null": "images:\n",
    "no-images": "namePrefix: ''\n",
    "conflict-in-comment": "# <<<<<<< a\nimages:\n- name: app\n  newTag: x\n# >>>>>>> b\n",
}
AWKWARD = (
    "553640e6",
    "7284872",
    "1234567890" * 4,
    "12e45678" * 5,
    "0x1f",
    "0o17",
    "0123",
    "1_000",
    "1.10",
    "yes",
    "null",
    "y",
)


@needs_kustomize
def test_kustomize_takes_the_tag_from_where_it_was_written(tmp_path: Path) -> None:
    cases = {}
    for case, text in MADE.items():
        edited = set_images(text.encode(), [ImageEdit("app", TAG, DIGEST)], file=case, create=True)
        line_end = b"\r\n" if b"\r" in edited.data else b"\n"
        resources = line_end + b"resources: [deployment.json]" + line_end
        first, mark, rest = edited.data.partition(b"---\n")
        cases[case] = (first.rstrip() + resources + mark + rest, ["app:before"])
    images = build(tmp_path, cases)
    assert {case: image[0].partition(":")[2].partition("@")[0] for case, image in images.items()} == dict.fromkeys(
        MADE, TAG
    )
    assert [case for case, image in images.items() if "@" in image[0]] == ["digest", "digest-alone"]


@needs_kustomize
def test_kustomize_takes_awkward_tags_for_texts(tmp_path: Path) -> None:
    frames = ("images:\n- name: app\n  newTag: x\n", "images: [{name: app, newTag: x}]\n", "images:\n- name: app\n")
    cases = {}
    for number, tag in enumerate(AWKWARD):
        for kind, text in enumerate(frames):
            edited = set_images(text.encode(), [ImageEdit("app", tag)], file="k")
            cases[f"tag-{number}-{kind}"] = (edited.data + b"resources: [deployment.json]\n", ["app"])
    expected = {f"tag-{number}-{kind}": [f"app:{tag}"] for number, tag in enumerate(AWKWARD) for kind in range(3)}
    assert build(tmp_path, cases) == expected


# Real files


@dataclass(frozen=True)
class Real:
    """A real file, edited: every tag in it that kustomize reads is another one now."""

    id: str
    old: bytes
    new: bytes
    changed: tuple[ChangedLine, ...]
    edits: tuple[ImageEdit, ...]


HANDED_ON = {"0948": "quay.io/konflux-ci/tekton-results-watcher"}
"""Entries whose `newName` hands the image on to another entry, which sets the tag."""


def tag_for(file: str, name: str) -> str:
    return hashlib.sha1(f"{file} {name}".encode()).hexdigest()


def wanted(file: str, entries: tuple[Entry, ...]) -> tuple[ImageEdit, ...]:
    names = dict.fromkeys(entry.name for entry in entries if entry.tag and entry.name != HANDED_ON.get(file))
    return tuple(ImageEdit(name, tag_for(file, name), DIGEST) for name in names)


@cache
def real_files() -> tuple[Real, ...]:
    """Every file of the corpus that has a tag, also those that only kustomize takes for YAML."""
    found = []
    for path in sorted((CORPUS / "files").iterdir()):
        data = path.read_bytes()
        try:
            edits = wanted(path.stem, read_entries(data, path.stem))
        except KustomizationUnusable:
            continue
        if edits:
            edited = set_images(data, edits, file=path.stem)
            found.append(Real(path.stem, data, edited.data, edited.changed, edits))
    return tuple(found)


@needs_corpus
def test_every_real_file_with_a_tag_can_be_edited() -> None:
    index = [json.loads(line) for line in (CORPUS / "index.jsonl").read_text().splitlines()]
    with_tags = {row["id"] for row in index if row["cls"] == "images" and row["ntags"]}
    only_null = {row["id"] for row in index if "tag-plain-null" in row["features"] or "tag-empty" in row["features"]}
    assert with_tags - {real.id for real in real_files()} <= only_null
    assert len(real_files()) > 450


@needs_corpus
def test_in_real_files_only_the_bytes_of_tags_and_digests_change() -> None:
    for real in real_files():
        old, new = real.old.splitlines(keepends=True), real.new.splitlines(keepends=True)
        restored = list(new)
        for change in real.changed:
            assert change.old is not None
            line = restored[change.line - 1]
            assert line.count(change.new.encode()) == 1, f"{real.id}:{change.line}"
            for written in (f'"{change.new}"', change.new):
                replaced = line.replace(written.encode(), change.old.encode())
                if replaced == old[change.line - 1]:
                    break
            restored[change.line - 1] = replaced
        assert restored == old, real.id
        assert {change.line for change in real.changed} == {
            number for number, pair in enumerate(zip(old, new, strict=True), 1) if pair[0] != pair[1]
        }


@needs_corpus
def test_real_files_parse_the_same_but_for_tags_and_digests() -> None:
    compared = 0
    for real in real_files():
        try:
            old = load(real.old)
        except YAMLError:
            continue  # tabs, which kustomize takes and this parser does not
        expected = {edit.name: edit.tag for edit in real.edits}
        for item in old["images"]:
            if item.get("name") in expected:
                item[next(key for key in item if key.lower() == "newtag")] = expected[item["name"]]
                item.update({"digest": DIGEST} if item.get("digest") else {})
        assert load(real.new) == old, real.id
        compared += 1
    assert compared > 440


def load(data: bytes) -> dict[str, Any]:
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True
    first: dict[str, Any] = next(iter(yaml.load_all(data.decode("utf-8-sig"))))
    return first


@needs_corpus
@needs_kustomize
def test_kustomize_puts_the_tags_of_real_files_in_its_output(tmp_path: Path) -> None:
    files = {f"f{real.id}": real for real in real_files()}
    names = list(files)
    halves = [names[0::2], names[1::2]]
    with ThreadPoolExecutor(2) as pool:
        built = pool.map(
            lambda number: build(tmp_path / str(number), {name: reduced(files[name]) for name in halves[number]}),
            range(2),
        )
        images = {name: found for half in built for name, found in half.items()}
    assert images.keys() == files.keys()
    for name, real in files.items():
        for edit, image in zip(real.edits, images[name], strict=True):
            if "$" not in edit.name:  # kustomize takes names for regular expressions, and this one matches nothing
                assert image.removesuffix(f"@{DIGEST}").endswith(f":{edit.tag}"), f"{name}: {edit.name} became {image}"


def reduced(real: Real) -> tuple[bytes, list[str]]:
    """The file's `images:` alone, beside a Deployment that uses every name that was edited."""
    tree = parse(real.id, real.new.decode("utf-8-sig"))
    key, value = images_field(tree) or pytest.fail(f"{real.id} has no images")
    images = tree.text[tree.start(key) : tree.end(value)].rstrip()
    return f"resources: [deployment.json]\n{images}\n".encode(), [edit.name for edit in real.edits]
