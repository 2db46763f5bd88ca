"""Image references: what a container runtime pulls, taken apart and checked.

Grammar: https://github.com/distribution/reference (the reference grammar of docker and OCI).
"""

import re
from dataclasses import dataclass

from pipeline.errors import TagIsMutable, UsageError

DEFAULT_REGISTRY = "registry.oud.kr"
DOCKER_HUB = "docker.io"

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REPOSITORY = re.compile(rf"(?:{_HOST}/)?{_PATH_PART}(?:/{_PATH_PART})*")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `--image NAME=TAG[@DIGEST]` asks for; NAME is `images[].name` of the kustomization."""

    name: str
    tag: str
    digest: str | None = None


def is_commit(tag: str) -> bool:
    """Whether `tag` is a full commit hash: 40 lower-case hexadecimal digits."""
    return _COMMIT.fullmatch(tag) is not None


def require_commit(tag: str, name: str) -> None:
    """Raise TagIsMutable unless `tag` is a full commit hash."""
    if not is_commit(tag):
        raise TagIsMutable(f"{name}: the tag {tag!r} is not a full commit hash")


def parse_wanted(argument: str) -> Wanted:
    """Read `NAME=TAG` or `NAME=TAG@sha256:DIGEST`; raises UsageError that quotes the argument."""
    name, equals, rest = argument.partition("=")
    tag, at, digest = rest.partition("@")
    if not (name and equals and tag) or (at and not digest):
        raise UsageError(
            f"--image {argument!r} is not NAME=TAG", remedy="Write it as --image openegflask=<40-hex commit>."
        )
    require_repository(name)
    require_tag(tag, name)
    if digest and not is_digest(digest):
        raise UsageError(
            f"--image {argument!r}: {digest!r} is not a digest",
            remedy="A digest is sha256: and 64 hex digits.",
        )
    return Wanted(name, tag, digest or None)


def is_registry(host: str) -> bool:
    """Whether `host` is HOST[:PORT], maybe with a path below which the images are."""
    return re.fullmatch(rf"{_HOST}(?:/{_PATH_PART})*", host) is not None


def is_repository(name: str) -> bool:
    """Whether `name` is a legal image name (no tag, no digest)."""
    return _REPOSITORY.fullmatch(name) is not None and len(name) <= 255


def require_repository(repository: str) -> None:
    """Raise UsageError unless `is_repository`."""
    if not is_repository(repository):
        raise UsageError(
            f"{repository!r} is not an image name",
            remedy="An image name has lower-case path parts: registry.oud.kr/openegflask.",
        )


def require_tag(tag: str, name: str) -> None:
    """Raise UsageError unless `tag` is a legal image tag."""
    if not _TAG.fullmatch(tag):
        raise UsageError(
            f"{name}: {tag!r} is not an image tag",
            remedy="A tag has at most 128 letters, digits, '_', '.', '-'.",
        )


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def split_reference(reference: str) -> tuple[str, str | None, str | None]:
    """Split `repository[:tag][@digest]` into its three parts; nothing is normalised."""
    rest, _, digest = reference.partition("@")
    head, slash, last = rest.rpartition("/")
    last, _, tag = last.partition(":")
    return head + slash + last, tag or None, digest or None


def split_registry(repository: str) -> tuple[str, str]:
    """Split a repository into registry host and path, as docker does.

    >>> split_registry("registry.oud.kr/openegflask")
    ('registry.oud.kr', 'openegflask')
    >>> split_registry("redis")
    ('docker.io', 'library/redis')
    """
    first, slash, rest = repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return DOCKER_HUB, repository if slash else f"library/{repository}"


def in_registry(name: str, registry: str) -> str:
    """The repository that an image name stands for: `name` itself when it names a registry, else inside `registry`."""
    first, slash, _ = name.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return name if has_host else f"{registry}/{name}"
