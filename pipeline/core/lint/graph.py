"""How the kustomizations of a repository refer to each other: which are roots, and what each root is made of."""

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pipeline.core.kustomization import KUSTOMIZATION_NAMES
from pipeline.core.lint.values import Map, Seq, items, maps, text, walk

_KEYS_OF_KUSTOMIZE = {"resources", "bases", "components", "images", "patches", "patchesStrategicMerge", "namespace"}

_HOST = re.compile(r"(?:[a-z+]+::?)?(?:[a-z+]+://)?(?:[\w.-]+@)?([\w-]+(?:\.[\w-]+)+)(?=[:/])")


@dataclass(frozen=True)
class Kustomization:
    """One kustomization file."""

    file: str
    value: Map

    @property
    def folder(self) -> str:
        """Its folder; empty for the repository's root."""
        return posixpath.dirname(self.file)

    @property
    def is_component(self) -> bool:
        """Whether it can only be part of another one."""
        return text(self.value, "kind") == "Component"

    @cached_property
    def followed(self) -> tuple[str, ...]:
        """What it is made of, as written: `resources`, `bases` and `components`."""
        return tuple(
            item
            for key in ("resources", "bases", "components")
            for item in items(self.value, key)
            if isinstance(item, str)
        )

    @property
    def patches(self) -> Iterator[str]:
        """The files of its patches, as written, under the old keys too."""
        for key in ("patches", "patchesJson6902", "patchesStrategicMerge"):
            for item in items(self.value, key):
                yield item if isinstance(item, str) else text(item, "path")

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts of those of `followed` that are elsewhere."""
        return frozenset(found[1] for item in self.followed if (found := _HOST.match(item[:500])))


@dataclass(frozen=True)
class Graph:
    """All kustomizations by folder, and all files."""

    kustomizations: Mapping[str, Kustomization]
    files: Collection[str]

    @cached_property
    def roots(self) -> tuple[Kustomization, ...]:
        """Those that no other one refers to, and that are no component; in order of their folder."""
        inner = {folder for item in self.kustomizations.values() for folder in self._parts(item)}
        return tuple(
            item
            for folder, item in sorted(self.kustomizations.items())
            if folder not in inner and not item.is_component
        )

    @cached_property
    def referenced(self) -> frozenset[str]:
        """Every file that some kustomization names: a resource, a patch, a values file, a generator's input."""
        return frozenset(
            path
            for item in self.kustomizations.values()
            for value in walk(item.value)
            if isinstance(value, str) and len(value) < 1000 and "\n" not in value
            for path in (_join(item.folder, value), _join(item.folder, value.partition("=")[2]))
            if path in self.files
        )

    def closure(self, root: Kustomization) -> tuple[Kustomization, ...]:
        """The root and all that it is made of, each once, the root first."""
        found, waiting = {root.folder: root}, [root]
        while waiting:
            for folder in self._parts(waiting.pop()):
                if folder not in found:
                    found[folder] = self.kustomizations[folder]
                    waiting.append(found[folder])
        return tuple(found.values())

    def sources(self, root: Kustomization) -> Iterator[str]:
        """The manifest files that the root is made of."""
        for item in self.closure(root):
            for entry in item.followed:
                path = _join(item.folder, entry)
                if path in self.files:
                    yield path

    def parsed(self, kustomizations: Iterable[Kustomization]) -> frozenset[str]:
        """The files that kustomize reads as YAML for them: manifests, patches, kustomizations that they refer to."""
        paths = {_join(item.folder, entry) for item in kustomizations for entry in (*item.followed, *item.patches)}
        inner = {posixpath.join(path, name) for path in paths for name in KUSTOMIZATION_NAMES}
        return frozenset(path for path in paths | inner if path in self.files)

    def _parts(self, item: Kustomization) -> Iterator[str]:
        for entry in item.followed:
            folder = _join(item.folder, entry)
            if folder in self.kustomizations and folder != item.folder:
                yield folder


def is_kustomization(file: str) -> bool:
    """Whether kustomize would take the file for a kustomization, by its name."""
    return posixpath.basename(file) in KUSTOMIZATION_NAMES


def looks_like_one(value: object) -> bool:
    """Whether the content is kustomize's, and not that of another tool's `kustomization.yaml`, such as Flux's."""
    if not isinstance(value, Map):
        return False
    version = text(value, "apiVersion")
    return version.startswith("kustomize.config.k8s.io/") or (not version and bool(value.keys() & _KEYS_OF_KUSTOMIZE))


def generated_files(item: Kustomization, key: str, *inputs: str) -> Iterator[tuple[int, str]]:
    """Line and path of each file that a generator of the kustomization reads by one of the inputs."""
    for generator in maps(item.value, key):
        for name in inputs:
            value = generator.get(name)
            for entry in value if isinstance(value, Seq) else [value]:
                if isinstance(entry, str):
                    path = entry.partition("=")[2] if name == "files" else ""
                    yield generator.line_of(name), _join(item.folder, path or entry)


def _join(folder: str, path: str) -> str:
    joined = posixpath.normpath(posixpath.join(folder, path))
    return "" if joined == "." else joined
