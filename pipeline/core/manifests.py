"""Which images the manifests of a kustomization name: an `images:` entry that matches none changes nothing."""

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.image import split_reference
from pipeline.core.kustomization import KUSTOMIZATION_NAMES

Read = Callable[[str], bytes | None]
"""Gives the content of a file of the repository; None when it is not there, or cannot be seen."""

_COMMENT_LINE = re.compile(r"^[ \t]*#.*", re.MULTILINE)
_IMAGE = re.compile(r"""\bimage["']?\s*:\s*(?:[&!]\S+\s+)*["']?([^\s"',}\]#][^\s"',}\]]*)""")
_UNKNOWN = re.compile(r"[*{}$]")  # an alias, or a template
_JSON_PATCH = re.compile(rb"""/image["'\s]""")  # a patch operation whose value is an image, but not beside `image:`
_PARSED_AT_MOST = 64 * 1024  # a warning is not worth seconds

_FOLLOWED = ("resources", "bases", "components")
_PATCHES = ("patches", "patchesStrategicMerge", "patchesJson6902")
_HARMLESS = {
    *("apiVersion", "kind", "metadata", "namespace", "namePrefix", "nameSuffix", "images", "replicas"),
    *("labels", "commonLabels", "commonAnnotations", "buildMetadata", "sortOptions", "openapi", "crds"),
    *("configMapGenerator", "secretGenerator", "generatorOptions"),
}


def container_images(data: bytes) -> tuple[str, ...]:
    """Every image that a manifest file names, in order, also where it is a template or a broken document.

    The text is searched for `image:`, so that no document is too odd; what is found besides the images of containers
    can only make a warning be left out.
    """
    return tuple(dict.fromkeys(_IMAGE.findall(_COMMENT_LINE.sub("", data.decode(errors="replace")))))


def unmatched(kustomization: str, names: Sequence[str], read: Read) -> tuple[str, ...]:
    """A warning for each of `names` that matches no image in the manifests of the kustomization file.

    Its resources, bases and components are followed through `read`. Where part of them cannot be seen (a remote
    resource, a chart, a generator plugin), nothing is known and nothing is said.
    """
    seen = _Seen([], [], set())
    try:
        _look(kustomization, read, seen)
    except _OutOfSight:
        return ()
    return tuple(_warning(kustomization, name, seen.images) for name in names if not _matches(name, seen))


class _OutOfSight(Exception):
    """Part of what kustomize would build is not in the repository's files, or is made by a plugin."""


@dataclass(frozen=True, slots=True)
class _Seen:
    images: list[str]
    renamed: list[tuple[object, object]]
    """`name` and `newName` of every entry that was met: what one renames, a later one can match."""
    files: set[str]


def _matches(name: str, seen: _Seen) -> bool:
    """Whether kustomize would find the image: the name, then a tag and a digest that may both be missing.

    https://github.com/kubernetes-sigs/kustomize/blob/master/api/internal/image/image.go
    """
    pattern = re.compile(re.escape(name) + r"(:[a-zA-Z0-9_.{}-]*)?(@sha256:[a-zA-Z0-9_.{}-]*)?")
    renamed = (str(new) for old, new in seen.renamed if old != name)
    return any(pattern.fullmatch(image) for image in (*seen.images, *renamed))


def _warning(kustomization: str, name: str, images: Sequence[str]) -> str:
    short = split_reference(name)[0].rpartition("/")[2]
    near = [image for image in images if split_reference(image)[0].rpartition("/")[2] == short]
    hint = f"; they name {', '.join(dict.fromkeys(near))}" if near else ""
    return f"{kustomization}: no manifest has the image {name}, so its tag changes nothing in the cluster{hint}"


def _look(kustomization: str, read: Read, seen: _Seen) -> None:
    """Note the images of everything that a kustomization file refers to."""
    if kustomization in seen.files:
        return
    seen.files.add(kustomization)
    data = _required(kustomization, read)
    content = _content(data)
    if not content.keys() <= {*_FOLLOWED, *_PATCHES, *_HARMLESS}:
        raise _OutOfSight
    _note(data, seen)
    for entry in _items(content, ("images",)):
        if isinstance(entry, dict) and entry.get("newName"):
            seen.renamed.append((entry.get("name"), entry["newName"]))
    folder = posixpath.dirname(kustomization)
    for item in _items(content, _PATCHES):
        path = item.get("path") if isinstance(item, dict) else item
        if isinstance(path, str) and "\n" not in path:
            _note(_required(posixpath.normpath(posixpath.join(folder, path)), read), seen)
    for item in _items(content, _FOLLOWED):
        path = posixpath.normpath(posixpath.join(folder, str(item)))
        manifest = read(path)
        if manifest is not None:
            _note(manifest, seen)
        else:
            nested = (posixpath.join(path, name).removeprefix("./") for name in KUSTOMIZATION_NAMES)
            _look(next((file for file in nested if read(file) is not None), path), read, seen)


def _required(path: str, read: Read) -> bytes:
    data = read(path)
    if data is None:
        raise _OutOfSight
    return data


def _note(data: bytes, seen: _Seen) -> None:
    if _JSON_PATCH.search(data):
        raise _OutOfSight
    images = container_images(data)
    if any(_UNKNOWN.search(image) for image in images):
        raise _OutOfSight
    seen.images.extend(images)


def _content(data: bytes) -> dict[str, object]:
    if len(data) > _PARSED_AT_MOST:
        raise _OutOfSight
    try:
        content = YAML(typ="safe", pure=True).load(data.decode())
    except (YAMLError, ValueError, TypeError, RecursionError):  # TypeError: a mapping for a key
        raise _OutOfSight from None
    if not isinstance(content, dict):
        raise _OutOfSight
    return content


def _items(content: dict[str, object], keys: Sequence[str]) -> list[object]:
    return [item for key in keys if isinstance(items := content.get(key), list) for item in items]
