"""The message of a deployment's commit: a headline for people, trailers for programs.

deploy(production): openegflask 3f2a9c1

Deploy-Id: 4711-production
Deploy-Kind: deploy
Deploy-Environment: production
Deploy-Run: https://github.com/openeg/flask/actions/runs/4711
Deploy-Actor: ada
Deploy-Image: openegflask registry.oud.kr/openegflask:3f2a…@sha256:… https://github.com/openeg/flask@3f2a…
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast, get_args

from pipeline.core.deployment import Image, Kind
from pipeline.core.image import is_commit, split_reference

_LONGEST_HEADLINE = 72
_TRAILER = re.compile(r"(Deploy-[A-Za-z]+): (.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailers:
    """What a deployment's commit records. Of each image: name, repository, tag, digest and source."""

    deployment_id: str
    kind: Kind
    environment: str
    images: tuple[Image, ...]
    actor: str | None = None
    run: str | None = None


def compose(trailers: Trailers) -> str:
    """The commit message for one image or more. Line ends in values become spaces: none can forge a trailer."""
    return f"{_headline(trailers.environment, trailers.images)}\n\n{write(trailers)}\n"


def write(trailers: Trailers) -> str:
    """The trailers alone, one a line."""
    lines = [
        ("Deploy-Id", trailers.deployment_id),
        ("Deploy-Kind", trailers.kind),
        ("Deploy-Environment", trailers.environment),
        ("Deploy-Run", trailers.run),
        ("Deploy-Actor", trailers.actor),
        *(("Deploy-Image", _image(image)) for image in trailers.images),
    ]
    return "\n".join(f"{name}: {_one_line(value)}" for name, value in lines if value)


def parse(message: str) -> Trailers | None:
    """Read the trailers back; None for a commit that is no deployment.

    They are the last paragraph that has a Deploy-Id: merging servers append paragraphs of their own.
    """
    for paragraph in reversed(re.split(r"\n[ \t]*\n", message.replace("\r\n", "\n"))):
        matches = (_TRAILER.fullmatch(line.strip()) for line in paragraph.splitlines())
        found = [(match[1], match[2]) for match in matches if match]
        values = dict(found)
        if "Deploy-Id" in values:
            kind = values.get("Deploy-Kind", "deploy")
            return Trailers(
                deployment_id=values["Deploy-Id"],
                kind=cast("Kind", kind if kind in get_args(Kind) else "deploy"),
                environment=values.get("Deploy-Environment", ""),
                images=tuple(image for name, value in found if name == "Deploy-Image" for image in _read_image(value)),
                actor=values.get("Deploy-Actor"),
                run=values.get("Deploy-Run"),
            )
    return None


def _image(image: Image) -> str:
    pinned = f"{image.reference}@{image.digest}" if image.digest else image.reference
    parts = (image.name, pinned, image.source or "")
    return " ".join("%20".join(_one_line(part).split(" ")) for part in parts).strip()


def _read_image(value: str) -> Iterator[Image]:
    name, _, rest = value.partition(" ")
    reference, _, source = rest.partition(" ")
    repository, tag, digest = split_reference(reference)
    if name and repository and tag:
        yield Image(name=name, repository=repository, tag=tag, digest=digest, source=source or None)


def _headline(environment: str, images: Sequence[Image]) -> str:
    """`deploy(ENV): NAME SHORT`; with several images the fullest form that fits into 72 characters."""
    scope = f"deploy({_one_line(environment)}): "
    shorts = {image.name: image.tag[:7] if is_commit(image.tag) else image.tag for image in images}
    others = f" and {len(shorts) - 1} more" if len(shorts) > 1 else ""
    first, short = next(iter(shorts.items()))
    if len(set(shorts.values())) == 1:
        forms = [f"{', '.join(shorts)} {short}", f"{first}{others} {short}"]
    else:
        forms = [", ".join(f"{name} {tag}" for name, tag in shorts.items()), f"{first} {short}{others}"]
    lines = [scope + _one_line(form) for form in forms]
    line = lines[0] if len(lines[0]) <= _LONGEST_HEADLINE else lines[1]
    return line if len(line) <= _LONGEST_HEADLINE else f"{line[: _LONGEST_HEADLINE - 1]}…"


def _one_line(value: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in value).split())
