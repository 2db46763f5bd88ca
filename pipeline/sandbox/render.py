"""From a commit to manifests: read files out of git's object store and do the part of kustomize that overlays need.

What this small renderer does not know (JSON patches, components, generators …) is left to the real `kustomize` or
`kubectl` where there is one on the PATH; elsewhere it is left out, and a note says so.
"""

import contextlib
import copy
import io
import os
import posixpath
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.image import split_reference

KUSTOMIZATION_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
KNOWN_KEYS = {"apiVersion", "kind", "metadata", "resources", "bases", "patches", "namespace", "images", "replicas"}
CLUSTER_KINDS = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "PersistentVolume",
    "PriorityClass",
    "StorageClass",
}
GIT_SECONDS = 30.0

Manifest = dict[str, Any]


class CannotRender(Exception):
    """The commit cannot be turned into manifests; the text is what Argo CD would say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What one source of an application asks for at one commit."""

    revision: str
    manifests: tuple[Manifest, ...]
    kind: str
    """`Kustomize` or `Directory`, as Argo CD's `sourceType`."""
    notes: tuple[str, ...] = ()


class Repositories:
    """Reads git repositories: local ones where they are, remote ones through a bare mirror in `folder`."""

    def __init__(self, folder: Path, served: Mapping[str, Path]) -> None:
        """`served` maps the URL prefixes of the sandbox's own git server to their folders, which saves a round trip."""
        self._folder = folder
        self._served = served
        self._mirrors = threading.Lock()
        self._cache: dict[tuple[Path, str, str], Rendered] = {}

    def render(self, url: str, revision: str, path: str) -> Rendered:
        """Render `path` at the commit that `revision` (branch, tag or hash) stands for now.

        An empty path renders nothing: such a source only tells its revision. Raises CannotRender.
        """
        repository, commit = self._resolve(url, revision)
        if not path:
            return Rendered(revision=commit, manifests=(), kind="Directory")
        place = (repository, commit, path)
        if place not in self._cache:
            with _Tree(repository, commit) as tree:
                self._cache[place] = _render(tree, posixpath.normpath(path))
        return self._cache[place]

    def resolve(self, url: str, revision: str) -> str:
        """The commit that `revision` stands for now. Raises CannotRender."""
        return self._resolve(url, revision)[1]

    def _resolve(self, url: str, revision: str) -> tuple[Path, str]:
        local = self._local(url)
        if local is not None:
            if not local.exists() or _git(local, "rev-parse", "--git-dir").returncode:
                raise CannotRender("failed to list refs: repository not found: ")
            names = [f"refs/heads/{revision}", f"refs/tags/{revision}", revision]
        else:
            local, names = self._mirror(url, revision), ["FETCH_HEAD"]
        for name in names:
            found = _git(local, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
            if found.returncode == 0:
                return local, found.stdout.decode().strip()
        raise CannotRender(f"unable to resolve '{revision}' to a commit SHA")

    def _local(self, url: str) -> Path | None:
        for prefix, folder in self._served.items():
            if url.startswith(prefix + "/"):
                path = folder / url.removeprefix(prefix + "/")
                return path if path.exists() or path.suffix == ".git" else path.with_name(path.name + ".git")
        if url.startswith("file://"):
            return Path(url.removeprefix("file://"))
        return None if re.match(r"[a-z+]+://|[^/]+:", url) else Path(url)

    def _mirror(self, url: str, revision: str) -> Path:
        mirror = self._folder / re.sub(r"\W+", "-", url)
        with self._mirrors:
            if not mirror.exists():
                mirror.mkdir(parents=True)
                _git(mirror, "init", "--quiet", "--bare")
        fetched = _git(mirror, "fetch", "--quiet", "--depth=1", "--no-tags", "--end-of-options", url, revision)
        if fetched.returncode:
            if _git(mirror, "ls-remote", "--quiet", "--end-of-options", url).returncode:
                raise CannotRender("failed to list refs: repository not found: ")
            raise CannotRender(f"unable to resolve '{revision}' to a commit SHA")
        return mirror


def _git(repository: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Run git undisturbed by a repository that the sandbox was started in, and never let it ask for a password."""
    command = ["git", "-C", str(repository), "-c", "safe.directory=*", *arguments]
    try:
        return subprocess.run(
            command, env=_environment(), capture_output=True, stdin=subprocess.DEVNULL, timeout=GIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CannotRender(f"failed to list refs: git did not answer within {GIT_SECONDS:.0f} s") from error


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}


class _Tree(contextlib.AbstractContextManager["_Tree"]):
    """The files of one commit, read by one `git cat-file --batch`."""

    def __init__(self, repository: Path, commit: str) -> None:
        self.repository = repository
        self.commit = commit
        self._batch = subprocess.Popen(
            ["git", "-C", str(repository), "-c", "safe.directory=*", "cat-file", "--batch"],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __exit__(self, *_: object) -> None:
        self._batch.communicate()

    def read(self, path: str) -> bytes | None:
        """The file's bytes; None where there is no file (a folder is none)."""
        kind, data = self._object(path)
        return data if kind == "blob" else None

    def is_folder(self, path: str) -> bool:
        return self._object(path)[0] == "tree"

    def names(self, path: str) -> list[str]:
        """The names of the files in a folder."""
        listed = _git(self.repository, "ls-tree", "-z", "--name-only", f"{self.commit}:{'' if path == '.' else path}")
        return listed.stdout.decode(errors="replace").split("\0")[:-1]

    def _object(self, path: str) -> tuple[str, bytes]:
        if "\n" in path or path.startswith(".."):
            return "missing", b""
        if self._batch.stdin is None or self._batch.stdout is None:
            raise CannotRender("git cat-file has ended")
        self._batch.stdin.write(f"{self.commit}:{'' if path == '.' else path}\n".encode())
        self._batch.stdin.flush()
        head = self._batch.stdout.readline().split()
        if len(head) != 3 or not head[2].isdigit():
            return "missing", b""
        data = self._batch.stdout.read(int(head[2]))
        self._batch.stdout.read(1)
        return head[1].decode(), data


def _render(tree: _Tree, path: str) -> Rendered:
    if not tree.is_folder(path):
        raise CannotRender(f"{path}: app path does not exist")
    if _kustomization(tree, path) is None:
        names = [name for name in tree.names(path) if name.endswith((".yaml", ".yml", ".json"))]
        manifests = [item for name in names for item in _documents(tree, posixpath.join(path, name))]
        return Rendered(revision=tree.commit, manifests=tuple(manifests), kind="Directory")
    notes: list[str] = []
    try:
        manifests = _build(tree, path, notes, ())
        if notes and (command := _real_kustomize()):
            manifests, notes = _build_outside(tree, path, command), []
    except (CannotRender, TypeError, AttributeError, KeyError) as error:
        raise CannotRender(
            f"`kustomize build <path to cached source>/{path}` failed exit status 1: Error: {error}"
        ) from error
    return Rendered(revision=tree.commit, manifests=tuple(manifests), kind="Kustomize", notes=tuple(notes))


def _kustomization(tree: _Tree, folder: str) -> tuple[str, bytes] | None:
    for name in KUSTOMIZATION_NAMES:
        path = posixpath.normpath(posixpath.join(folder, name))
        data = tree.read(path)
        if data is not None:
            return path, data
    return None


def _build(tree: _Tree, folder: str, notes: list[str], above: tuple[str, ...]) -> list[Manifest]:
    """One kustomization with all that it includes. `above` are the folders that include this one."""
    found = _kustomization(tree, folder)
    if found is None:
        raise CannotRender(
            f"unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in {folder}"
        )
    if folder in above:
        raise CannotRender(f"cycle detected: {folder} includes itself")
    path, data = found
    kustomization = next(_parse(data, path), None) or {}
    unknown = sorted(set(kustomization) - KNOWN_KEYS)
    if unknown:
        notes.append(f"{path}: left out {', '.join(unknown)}")
    manifests: list[Manifest] = []
    for resource in [*(kustomization.get("resources") or ()), *(kustomization.get("bases") or ())]:
        inner = posixpath.normpath(posixpath.join(folder, resource))
        if "://" in resource or resource.startswith("git@"):
            notes.append(f"{path}: left out the remote resource {resource}")
        elif tree.is_folder(inner):
            manifests += _build(tree, inner, notes, (*above, folder))
        else:
            manifests += _documents(tree, inner)
    for entry in kustomization.get("patches") or ():
        for patch in _patches(tree, folder, entry):
            if patch is None:
                notes.append(f"{path}: left out a JSON patch")
            elif not _apply_patch(manifests, patch, entry.get("target") or {}):
                missed = f"{patch.get('kind')}/{patch.get('metadata', {}).get('name')}"
                if not notes:  # else it may be one of what was left out
                    raise CannotRender(f"no matches for Id {missed}; failed to find unique target for patch")
                notes.append(f"{path}: left out the patch of {missed}")
    _transform(manifests, kustomization)
    return manifests


def _patches(tree: _Tree, folder: str, entry: Mapping[str, Any]) -> Iterator[Manifest | None]:
    """The strategic merge patches of one entry of `patches:`; None for a JSON patch."""
    data, where = str(entry.get("patch", "")).encode(), folder
    if entry.get("path"):
        where = posixpath.normpath(posixpath.join(folder, entry["path"]))
        found = tree.read(where)
        if found is None:
            raise CannotRender(f"failed to get the patch file from path({entry['path']}): no such file or directory")
        data = found
    if re.match(rb"\s*(#[^\n]*\s+)*[-[](?!--)", data):
        yield None
    else:
        yield from _parse(data, where)


def _apply_patch(manifests: list[Manifest], patch: Manifest, target: Mapping[str, str]) -> bool:
    """Merge a patch into what its target names, or into what has its own kind and name; whether there was any."""
    wanted = target or {"kind": patch.get("kind", ""), "name": patch.get("metadata", {}).get("name", "")}
    body = {key: value for key, value in patch.items() if key not in ("apiVersion", "kind", "metadata")}
    if metadata := {key: value for key, value in patch.get("metadata", {}).items() if key != "name"}:
        body["metadata"] = metadata
    hit = bool(target)
    for manifest in manifests:
        names = (
            (wanted.get("kind") or ".*", manifest["kind"]),
            (wanted.get("name") or ".*", manifest["metadata"]["name"]),
        )
        if all(re.fullmatch(pattern, name) for pattern, name in names):
            _merge(manifest, body)
            hit = True
    return hit


def _merge(into: Manifest, patch: Manifest) -> None:
    """A strategic merge: mappings are merged, lists of named things by name, null removes, anything else replaces."""
    for key, value in patch.items():
        present = into.get(key)
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(present, dict):
            _merge(present, value)
        elif isinstance(value, list) and isinstance(present, list) and all(_named(item) for item in (*value, *present)):
            places = {item["name"]: item for item in present}
            for item in value:
                if item["name"] in places:
                    _merge(places[item["name"]], item)
                else:
                    present.append(copy.deepcopy(item))
        else:
            into[key] = copy.deepcopy(value)


def _named(item: object) -> bool:
    return isinstance(item, dict) and "name" in item


def _transform(manifests: list[Manifest], kustomization: Manifest) -> None:
    namespace = kustomization.get("namespace")
    for manifest in manifests:
        if namespace and manifest["kind"] not in CLUSTER_KINDS:
            manifest["metadata"]["namespace"] = namespace
    for entry in kustomization.get("images") or ():
        _set_image(manifests, entry)
    for entry in kustomization.get("replicas") or ():
        for manifest in manifests:
            if manifest["metadata"]["name"] == entry["name"] and "replicas" in (manifest.get("spec") or {}):
                manifest["spec"]["replicas"] = entry["count"]


def _set_image(manifests: list[Manifest], entry: Mapping[str, Any]) -> None:
    """kustomize's image transformer for one entry of `images:`, on every container of every manifest."""
    for key in ("name", "newName", "newTag", "digest"):
        value = entry.get(key)
        if value is not None and not isinstance(value, str):
            kind = "bool" if isinstance(value, bool) else "number"
            raise CannotRender(
                f"invalid Kustomization: json: cannot unmarshal {kind} into Go struct field Image.images.{key} "
                "of type string"
            )

    def change(container: Manifest) -> None:
        image = container.get("image")
        name, tag, digest = split_reference(image if isinstance(image, str) else "")
        if not name or name != entry.get("name"):
            return
        if entry.get("newTag") or entry.get("digest"):
            tag, digest = entry.get("newTag"), entry.get("digest")
        name = entry.get("newName") or name
        container["image"] = name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")

    for manifest in manifests:
        _each_container(manifest, change)


def _each_container(value: object, change: Callable[[Manifest], None]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("containers", "initContainers") and isinstance(item, list):
                for container in item:
                    if isinstance(container, dict):
                        change(container)
            else:
                _each_container(item, change)
    elif isinstance(value, list):
        for item in value:
            _each_container(item, change)


def _documents(tree: _Tree, path: str) -> list[Manifest]:
    data = tree.read(path)
    if data is None:
        raise CannotRender(
            f"accumulating resources: accumulation err='accumulating resources from '{path}': "
            f"lstat <path to cached source>/{path}: no such file or directory'"
        )
    manifests = [copy.deepcopy(dict(document)) for document in _parse(data, path) if document]
    for manifest in manifests:
        metadata = manifest.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        for key, value in (("apiVersion", manifest.get("apiVersion")), ("kind", manifest.get("kind")), ("name", name)):
            if not isinstance(value, str) or not value:
                raise CannotRender(f"accumulating resources from '{path}': missing {key} in object")
    return manifests


def _parse(data: bytes, path: str) -> Iterator[Manifest]:
    try:
        for document in YAML(typ="safe").load_all(io.BytesIO(data)):
            if document is not None and not isinstance(document, dict):
                raise CannotRender(f"{path}: expected a mapping, got {type(document).__name__}")
            yield document or {}
    except (YAMLError, UnicodeDecodeError, ValueError) as error:
        raise CannotRender(f"yaml: {path}: {' '.join(str(error).split())}") from error


def _real_kustomize() -> list[str] | None:
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


def _build_outside(tree: _Tree, path: str, command: list[str]) -> list[Manifest]:
    with tempfile.TemporaryDirectory(prefix="openeg-sandbox-") as folder:
        archive = _git(tree.repository, "archive", "--format=tar", tree.commit)
        if archive.returncode:  # the repository has been moved away meanwhile
            raise CannotRender(f"git archive: {archive.stderr.decode(errors='replace').strip()}")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        built = subprocess.run(
            [*command, str(Path(folder, path))], capture_output=True, timeout=GIT_SECONDS, check=False
        )
        if built.returncode:
            text = built.stderr.decode(errors="replace").strip().removeprefix("error: ").removeprefix("Error: ")
            raise CannotRender(text.replace(folder, "<path to cached source>"))
        return [dict(document) for document in _parse(built.stdout, path) if document]
