"""Kubernetes objects, as they are applied and as a file declares them, and the pods in them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.lint.finding import Finding, Place
from pipeline.core.lint.values import Document, Map, items, mapping, maps, text

_POD_PATHS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): ("spec",),
    ("", "ReplicationController"): ("spec", "template", "spec"),
    ("apps", "Deployment"): ("spec", "template", "spec"),
    ("apps", "StatefulSet"): ("spec", "template", "spec"),
    ("apps", "DaemonSet"): ("spec", "template", "spec"),
    ("apps", "ReplicaSet"): ("spec", "template", "spec"),
    ("batch", "Job"): ("spec", "template", "spec"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template", "spec"),
    ("argoproj.io", "Rollout"): ("spec", "template", "spec"),
    ("apps.openshift.io", "DeploymentConfig"): ("spec", "template", "spec"),
}
_LOOKED_AT = re.compile(
    rf"^kind: (?:{'|'.join(kind for _, kind in _POD_PATHS)}|SealedSecret|ConfigMap|\w*List)$", re.MULTILINE
)
_ENDING = {"Job", "CronJob", "Pod"}


@dataclass(frozen=True, slots=True)
class Resource:
    """One object. `value` is what would be applied; `declared` is the same in its file, where it was found there."""

    value: Map
    file: str
    """Where it is declared; the overlay's kustomization where that is not known."""
    line: int
    declared: Map | None = None

    @property
    def kind(self) -> str:
        """Its kind; empty for what is none."""
        return text(self.value, "kind")

    @property
    def group(self) -> str:
        """Its API group; empty for the core group."""
        group, slash, _ = text(self.value, "apiVersion").partition("/")
        return group if slash else ""

    @property
    def name(self) -> str:
        """Its name, or the beginning that the cluster makes one of."""
        return text(self.value, "metadata", "name") or text(self.value, "metadata", "generateName")

    @property
    def title(self) -> str:
        """`Kind/name`, for messages."""
        return f"{self.kind}/{self.name}"

    def finding(self, rule: str, message: str, *path: str) -> Finding:
        """A finding on the object, at the line of the last of the keys that its file has."""
        line, at = self.line, self.declared
        for key in path:
            if at is None or key not in at:
                break
            line, inner = at.line_of(key), at[key]
            at = inner if isinstance(inner, Map) else None
        return Finding(self.file, line, rule, f"{self.title}: {message}", ((self.file, self.line),))


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod, with the places that speak of it."""

    resource: Resource
    pod: Map
    value: Map
    declared: Map
    """The same in its file; empty where it was not found there."""
    initial: bool
    line: int
    allowed_at: tuple[Place, ...]

    @property
    def lasting(self) -> bool:
        """Whether it is meant to run until it is replaced."""
        return not self.initial and self.resource.kind not in _ENDING

    def finding(self, rule: str, message: str) -> Finding:
        """A finding on the container."""
        said = f"{self.resource.title}, container {text(self.value, 'name') or '?'}: {message}"
        return Finding(self.resource.file, self.line, rule, said, self.allowed_at)


def is_object(value: object) -> bool:
    """Whether a document is a Kubernetes object; a patch is one too."""
    return isinstance(value, Map) and bool(text(value, "apiVersion") and text(value, "kind"))


def looked_at(rendered: str) -> str:
    """The documents of kustomize's output that rules look at: most of the rest is large definitions of resources."""
    return "\n---\n".join(item for item in rendered.split("\n---\n") if _LOOKED_AT.search(item))


def flattened(documents: Iterable[Document]) -> Iterator[tuple[str, Map]]:
    """File and value of every object, also of those in a List."""
    for document in documents:
        if is_object(document.value):
            listed = maps(document.value, "items") if text(document.value, "kind").endswith("List") else []
            for value in (item for item in listed or [document.value] if is_object(item)):
                yield document.file, value


def pod_path(resource: Resource) -> tuple[str, ...] | None:
    """Where the object has its pod's spec; None for what starts no pods."""
    return _POD_PATHS.get((resource.group, resource.kind))


def containers(resource: Resource) -> Iterator[Container]:
    """The containers of the object's pods, those of `initContainers` too. Without an image it is a part of a patch."""
    path = pod_path(resource)
    if path is None or _is_part(resource):
        return
    pod, declared = mapping(resource.value, *path), mapping(resource.declared, *path)
    pod_places = [(resource.file, line) for line in _lines_of_pod(resource, path)]
    for key in ("initContainers", "containers"):
        known = {text(item, "name"): (line, item) for line, item in _with_lines(declared, key)}
        for value in maps(pod, key):
            if not text(value, "image"):
                continue
            line, source = known.get(text(value, "name"), (0, Map()))
            own = {line, *source.lines.values(), *mapping(source, "securityContext").lines.values()} - {0}
            places = [(resource.file, item) for item in sorted(own)] + pod_places
            image_line = source.line_of("image") if line else 0
            yield Container(
                resource, pod, value, source, key != "containers", image_line or line or resource.line, tuple(places)
            )


def _is_part(resource: Resource) -> bool:
    """Whether the file has only a part of the object, such as a patch that nothing refers to any more."""
    return resource.group == "apps" and not mapping(resource.value, "spec", "selector")


def _lines_of_pod(resource: Resource, path: Sequence[str]) -> Iterator[int]:
    yield resource.line
    if resource.declared is None:
        return
    above = mapping(resource.declared, *path[:-1])
    yield above.line_of(path[-1])
    pod = mapping(above, path[-1])
    if "securityContext" in pod:
        yield pod.line_of("securityContext")
        yield from mapping(pod, "securityContext").lines.values()


def _with_lines(pod: Map, key: str) -> Iterator[tuple[int, Map]]:
    listed = items(pod, key)
    for index, item in enumerate(listed):
        if isinstance(item, Map):
            yield listed.lines[index] if hasattr(listed, "lines") else item.line, item


def declared(rendered: Iterable[Map], sources: Iterable[tuple[str, Map]], fallback: Place) -> Iterator[Resource]:
    """Each rendered object with the file and line that declare it, found by kind and name.

    A kustomization can put text before and after a name: the longest name that is part of it is taken.
    """
    by_kind: dict[str, dict[str, tuple[str, Map]]] = {}
    for file, value in sources:
        name = text(value, "metadata", "name")
        if name:
            by_kind.setdefault(text(value, "kind"), {}).setdefault(name, (file, value))
    for value in rendered:
        named = by_kind.get(text(value, "kind"), {})
        name = text(value, "metadata", "name")
        found = named.get(name)
        if found is None:
            parts = [item for item in named if item in name]
            found = named[max(parts, key=len)] if parts else None
        if found is None:
            yield Resource(value, *fallback)
        else:
            yield Resource(value, found[0], found[1].line, found[1])
