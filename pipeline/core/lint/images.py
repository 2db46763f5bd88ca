"""Images of containers: their tags, their registries, and `images:` entries that change nothing."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal, TypeAlias

from pipeline.core.image import split_reference, split_registry
from pipeline.core.lint.finding import Finding, Place
from pipeline.core.lint.graph import Kustomization
from pipeline.core.lint.values import Map, is_placeholder, items, maps, text

Say: TypeAlias = Callable[[str, str], Finding]
"""Rule and message to a finding where the image is named."""

_MOVING = re.compile(
    r"(?:latest|main|master|trunk|head|develop|development|dev|devel|stable|edge|nightly|canary|rolling|current|next"
    r"|test|testing|staging|qa|prod|production|release|lts|mainline|snapshot|unstable|beta|alpha|rc)(?:[-_.].*)?",
    re.IGNORECASE,
)
_FIXED = re.compile(
    r"\d+\.\d+\.\d+"  # a full version
    r"|\d{5,}"  # a date, a time, a number of a build
    r"|\d{4}[-.]\d{1,2}[-.]\d{1,2}"
    r"|(?:^|[^0-9a-z])(?=[a-f]*[0-9])[0-9a-f]{7,}(?:$|[^0-9a-z])",  # a commit
    re.IGNORECASE,
)
_PARTIAL = re.compile(r"v?\d+(?:\.\d+)?(?:[-_](?!\d).*)?", re.IGNORECASE)


def stability(tag: str) -> Literal["fixed", "partial", "moving"]:
    """Whether a tag stays on one image, as far as its form tells.

    >>> stability("7.4.2-alpine"), stability("7.4-alpine"), stability("alpine")
    ('fixed', 'partial', 'moving')
    """
    if _FIXED.search(tag):
        return "fixed"
    if _MOVING.fullmatch(tag) or not re.search(r"\d", tag):
        return "moving"
    return "partial" if _PARTIAL.fullmatch(tag) else "fixed"


def check_image(
    image: str, say: Say, registries: Sequence[str], entries: Sequence[tuple[Kustomization, Map]]
) -> Iterator[Finding]:
    """The findings on one image. `entries` are the `images:` entries that may have set it."""
    if is_placeholder(image):
        return
    repository, tag, digest = split_reference(image)
    place = _entry_of(repository, tag, digest, entries)
    if digest is None and tag is None:
        yield _at(place, say("image-tag-missing", f"the image {image} has neither tag nor digest"))
    elif digest is None and tag is not None:
        kind = stability(tag)
        if kind == "moving":
            yield _at(place, say("image-tag-mutable", f"the tag of {image} is one that moves"))
        elif kind == "partial":
            yield _at(place, say("image-tag-partial", f"the tag of {image} is no full version"))
    if registries and not any(_inside(repository, registry) for registry in registries):
        host = split_registry(repository)[0]
        yield _at(place, say("image-registry-unknown", f"{image} comes from {host}, which is not in lint.registries"))


def _inside(repository: str, registry: str) -> bool:
    whole, allowed = "/".join(split_registry(repository)), registry.rstrip("/")
    return whole == allowed or whole.startswith(f"{allowed}/")


def _at(place: Place | None, finding: Finding) -> Finding:
    """The finding, at the `images:` entry where one has set the image, else where it is."""
    if place is None:
        return finding
    return Finding(*place, finding.rule, finding.message, ((finding.file, finding.line), *finding.allowed_at))


def _entry_of(
    repository: str, tag: str | None, digest: str | None, entries: Sequence[tuple[Kustomization, Map]]
) -> Place | None:
    for kustomization, entry in entries:
        if repository == (text(entry, "newName") or text(entry, "name")):
            if digest is not None and text(entry, "digest") == digest:
                return kustomization.file, entry.line_of("digest")
            if tag is not None and text(entry, "newTag") == tag:
                return kustomization.file, entry.line_of("newTag")
            if text(entry, "newName"):
                return kustomization.file, entry.line_of("newName")
    return None


def entries_of(kustomizations: Collection[Kustomization]) -> list[tuple[Kustomization, Map]]:
    """Every `images:` entry of the kustomizations, the outer ones first."""
    return [(item, entry) for item in kustomizations for entry in maps(item.value, "images")]


def matches(entry: Map, others: Sequence[Map], rendered: str) -> bool:
    """Whether an entry has changed something in the rendered text, or another one has renamed what it made."""
    target = text(entry, "newName") or text(entry, "name")
    if not target or is_placeholder(target) or target == "*":
        return True
    if any(other is not entry and text(other, "name") == target for other in others):
        return True
    tag, digest = text(entry, "newTag"), text(entry, "digest")
    ending = f"(?::[^@\\s\"']+)?@{re.escape(digest)}" if digest else f":{re.escape(tag)}" if tag else ""
    return re.search(rf"(?<![\w./-]){re.escape(target)}{ending}(?![\w./-])", rendered) is not None


def unmatched(kustomization: Kustomization, entry: Map) -> Finding:
    """The finding on an entry that matches nothing in any overlay."""
    name = text(entry, "name")
    return Finding(
        kustomization.file,
        entry.line_of("name"),
        "images-entry-unmatched",
        f"no container has the image {name}, so this entry changes nothing",
    )


def all_entries(kustomization: Kustomization) -> Iterator[Map]:
    """The `images:` entries that have a name."""
    yield from (
        entry for entry in items(kustomization.value, "images") if isinstance(entry, Map) and text(entry, "name")
    )
