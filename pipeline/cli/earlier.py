"""`--from`: the results of earlier commands, from earlier jobs; those of a matrix fan in to one."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from functools import reduce
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.core.deployment import SCHEMA, Application, Deployment, Image, Notices, Rollout
from pipeline.errors import UsageError

_Item = TypeVar("_Item", Image, Application)
_Record = TypeVar("_Record", Image, Deployment)

_REMEDY = "Give --from the JSON that a command printed with --json."
_MUST_AGREE = ("deployment_id", "environment", "kind")


def load(paths: Sequence[str]) -> Deployment:
    """The result in `paths`; `-` is standard input, and what begins with `{` is the JSON itself.

    Of several, later ones add to earlier ones. Images and applications are brought together; stages that ran side by
    side count with the longest. Raises UsageError for what cannot be read or is no result, and for results of
    different deployments.
    """
    return reduce(_merge, [_read(path) for path in paths])


def _read(path: str) -> Deployment:
    name, data = path, path.encode(errors="replace")
    if path == "-":
        name, data = "standard input", sys.stdin.buffer.read()
    elif path.startswith("{"):
        name = "--from"
    else:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise UsageError(f"--from {path}: {error.strerror}", remedy=_REMEDY) from error
    try:
        result = TypeAdapter(Deployment).validate_json(data, strict=True)
    except ValidationError as error:
        problems = [_problem(item["loc"], item["msg"]) for item in error.errors(include_url=False, include_input=False)]
        raise UsageError("\n".join(f"{name}: {problem}" for problem in problems), remedy=_REMEDY) from error
    if result.schema != SCHEMA:
        raise UsageError(
            f"{name}: schema: expected {SCHEMA}, found {result.schema!r}",
            remedy="Let every job of a pipeline use the same version of this program.",
        )
    return result


def recorded(data: bytes) -> Deployment | None:
    """The deployment of a record; None for what is none, or of another version."""
    try:
        result = TypeAdapter(Deployment).validate_json(data, strict=True)
    except ValidationError:
        return None
    return result if result.schema == SCHEMA else None


def _problem(location: Iterable[int | str], message: str) -> str:
    key = ".".join(map(str, location))
    return f"{key}: {message}" if key else message


def _merge(before: Deployment, after: Deployment) -> Deployment:
    for name in _MUST_AGREE:
        one, other = getattr(before, name), getattr(after, name)
        if one and other and one != other:
            raise UsageError(
                f"--from: {name} is {one!r} in one result and {other!r} in another",
                remedy="Give --from only results of one deployment.",
            )
    applications = (before.rollout.applications if before.rollout else ()) + (
        after.rollout.applications if after.rollout else ()
    )
    failed = before if before.error and not after.error else after
    return replace(
        _later(before, after),
        outcome=failed.outcome,
        error=failed.error,
        images=_by_name(before.images + after.images, _same_image),
        rollout=Rollout(applications=_by_name(applications, lambda _, later: later)) if applications else None,
        notices=_notices(before.notices, after.notices),
        urls={**(before.urls or {}), **(after.urls or {})} or None,
        seconds=_longest(before.seconds or {}, after.seconds or {}) or None,
        started=min(filter(None, (before.started, after.started)), default=None),
    )


def _later(before: _Record, after: _Record) -> _Record:
    """`after`, with the fields of `before` where it has none."""
    missing = {item.name for item in fields(after) if getattr(after, item.name) in (None, ())}
    return replace(after, **{name: getattr(before, name) for name in missing})


def _notices(before: Notices | None, after: Notices | None) -> Notices | None:
    if before is None or after is None:
        return before or after
    github = {(item.repository, item.commit): item for item in (*before.github, *after.github)}
    return Notices(slack=after.slack or before.slack, github=tuple(github.values()))


def _same_image(before: Image, after: Image) -> Image:
    if before.tag != after.tag:
        raise UsageError(
            f"--from: {before.name} has the tag {before.tag} in one result and {after.tag} in another",
            remedy="Give --from only results of one deployment.",
        )
    return _later(before, after)


def _by_name(items: Iterable[_Item], both: Callable[[_Item, _Item], _Item]) -> tuple[_Item, ...]:
    found: dict[str, _Item] = {}
    for item in items:
        found[item.name] = both(found[item.name], item) if item.name in found else item
    return tuple(found.values())


def _longest(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}
