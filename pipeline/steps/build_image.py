"""First step: the image of the checked-out commit is in the registry, built now or found there."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Protocol

from pipeline.core.deployment import Image
from pipeline.core.image import require_commit
from pipeline.core.progress import Progress
from pipeline.core.source import Checkout
from pipeline.errors import PushFailed, TagIsTaken, TreeIsDirty, UsageError

REVISION_LABEL = "org.opencontainers.image.revision"
SOURCE_LABEL = "org.opencontainers.image.source"
CREATED_LABEL = "org.opencontainers.image.created"

_SHOWN_FILES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an engine is asked to build and to push."""

    repository: str
    tag: str
    context: Path
    dockerfile: Path
    platforms: tuple[str, ...]
    """Such as `linux/arm64`; none means the engine's own."""
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a registry has under a tag."""

    digest: str
    """Of the manifest, or of the index where there is one."""
    revision: str | None
    """The label org.opencontainers.image.revision."""


class Engine(Protocol):
    """Something that builds images."""

    def build_and_push(self, recipe: Recipe, progress: Progress) -> str:
        """Build, push, and return the digest that the registry was given."""


class Registry(Protocol):
    """Something that stores images."""

    def look_up(self, repository: str, tag: str) -> Found | None:
        """What is there under `tag`, None when nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Which image to build from what."""

    name: str
    """`images[].name` of the kustomization."""
    repository: str
    context: Path
    dockerfile: Path | None
    """`Dockerfile` of the context when None."""
    platforms: tuple[str, ...]
    checkout: Checkout
    service: str | None


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """The image, and whether it was pushed now: False when the registry already had it."""

    image: Image
    pushed: bool


def build_image(engine: Engine, registry: Registry, inputs: Inputs, progress: Progress) -> BuiltImage:
    """Have the image of the checked-out commit in the registry, under its full commit hash.

    Raises what `find_image` raises, and BuildFailed, PushFailed, RegistryDenied or Unreachable.
    """
    if present := find_image(registry, inputs):
        progress.say(f"{present.image.reference} is in the registry already: nothing to build")
        return present
    recipe = _recipe(inputs)
    reference = f"{recipe.repository}:{recipe.tag}"
    progress.say(f"Building {reference}")
    digest = engine.build_and_push(recipe, progress)
    stored = registry.look_up(recipe.repository, recipe.tag)
    if stored is None:
        raise PushFailed(f"{reference}: pushed as {digest}, but the registry does not have it")
    if stored != Found(digest, recipe.tag):
        raise PushFailed(
            f"{reference}: pushed as {digest}, but the registry has {stored.digest}, built from {_origin(stored)}",
            remedy="Somebody else pushes the same tag: make the tags of the repository immutable in the registry.",
        )
    progress.say(f"Pushed {reference}@{digest}")
    return BuiltImage(_image(inputs, digest), pushed=True)


def find_image(registry: Registry, inputs: Inputs) -> BuiltImage | None:
    """The image when the registry already has it, None when it must be built. Changes nothing.

    Raises TreeIsDirty, TagIsTaken when another commit's image has the tag, and UsageError when
    context or Dockerfile are missing or lie outside of the checkout.
    """
    checkout = inputs.checkout
    require_commit(checkout.commit, inputs.name)
    if checkout.dirty:
        shown = ", ".join(checkout.dirty[:_SHOWN_FILES])
        more = len(checkout.dirty) - _SHOWN_FILES
        raise TreeIsDirty(
            f"{checkout.path}: differs from commit {checkout.commit[:12]}: {shown}" + (f" and {more} more" * (more > 0))
        )
    _require_inside(checkout, inputs.context, "build context", inputs.context.is_dir())
    _require_inside(checkout, _dockerfile(inputs), "Dockerfile", _dockerfile(inputs).is_file())
    found = registry.look_up(inputs.repository, checkout.commit)
    if found is None:
        return None
    if found.revision != checkout.commit:
        raise TagIsTaken(f"{inputs.repository}:{checkout.commit} is in the registry, built from {_origin(found)}")
    return BuiltImage(_image(inputs, found.digest), pushed=False)


def planned(inputs: Inputs) -> Image:
    """The image that a build would give; its digest is known only afterwards."""
    return _image(inputs, None)


def _require_inside(checkout: Checkout, path: Path, what: str, there: bool) -> None:
    if not there:
        raise UsageError(f"{path}: no such {what}", remedy="Check --context and --dockerfile, or deploy.yaml.")
    if not path.resolve().is_relative_to(checkout.path.resolve()):
        raise UsageError(
            f"{path}: the {what} lies outside of {checkout.path}: its commit would not tell what is in the image",
            remedy="Build from files of the repository.",
        )


def _dockerfile(inputs: Inputs) -> Path:
    return inputs.context / (inputs.dockerfile or "Dockerfile")


def _recipe(inputs: Inputs) -> Recipe:
    checkout = inputs.checkout
    return Recipe(
        repository=inputs.repository,
        tag=checkout.commit,
        context=inputs.context,
        dockerfile=_dockerfile(inputs),
        platforms=inputs.platforms,
        labels={
            REVISION_LABEL: checkout.commit,
            SOURCE_LABEL: checkout.url,
            # The commit's time, not the clock's: the same commit gives the same labels, so that caches hold.
            CREATED_LABEL: checkout.committed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    )


def _image(inputs: Inputs, digest: str | None) -> Image:
    checkout = inputs.checkout
    return Image(
        name=inputs.name,
        repository=inputs.repository,
        tag=checkout.commit,
        digest=digest,
        service=inputs.service,
        source=f"{checkout.url}@{checkout.commit}",
    )


def _origin(found: Found) -> str:
    return f"commit {found.revision}" if found.revision else "an unknown commit (it has no revision label)"
