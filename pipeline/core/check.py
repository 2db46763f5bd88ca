"""What `check` found of a set-up, and whether an Argo CD application follows what is published."""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.core.argocd import Source

Verdict = Literal["ok", "problem", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedItem:
    """One thing that a deployment needs."""

    name: str
    state: Verdict
    """`unknown`: it cannot be told without changing something, or it was not looked at."""
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one run of `check` found, in the order in which a deployment needs it."""

    problems: int
    unknown: int
    items: tuple[CheckedItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of one thing."""

    state: Verdict
    message: str
    remedy: str | None = None


def ok(message: str) -> Finding:
    """All is well."""
    return Finding("ok", message)


def problem(message: str, remedy: str) -> Finding:
    """A deployment would fail, or miss what it is set up for."""
    return Finding("problem", message, remedy)


def unknown(message: str, remedy: str | None = None) -> Finding:
    """It cannot be told."""
    return Finding("unknown", message, remedy)


def follows(sources: Iterable[Source], repository: str, overlays: Iterable[str], branch: str | None) -> Finding:
    """Whether one of an application's sources is one of `overlays` of `repository`; `branch` is None for its default.

    >>> follows((Source("git@github.com:o/r", "a", "main"),), "https://github.com/o/r.git", ("a",), "main").state
    'ok'
    """
    sources, wanted = tuple(sources), {posixpath.normpath(overlay) for overlay in overlays}
    told = ", ".join(f"{source.path or '.'} of {source.repository} at {source.revision}" for source in sources)
    here = [source for source in sources if same_repository(source.repository, repository)]
    if not here:
        return problem(
            f"it follows {told or 'nothing'}, not {repository}",
            "Correct spec.source.repoURL of the Application, or --gitops.",
        )
    there = [source for source in here if posixpath.normpath(source.path or ".") in wanted]
    if not there:
        return problem(
            f"it follows {told}, not the path {', '.join(sorted(wanted))}",
            "Correct spec.source.path of the Application, or --overlay.",
        )
    followed = {source.revision.removeprefix("refs/heads/") for source in there}
    if branch in followed or (branch is None and "HEAD" in followed):
        return ok(f"it follows {told}")
    if "HEAD" in followed or branch is None:
        return unknown(f"it follows {told}; whether that is {branch or 'the default branch'} cannot be told")
    return problem(
        f"it follows {told}, not the branch {branch}",
        "Correct spec.source.targetRevision of the Application, or --branch.",
    )


def same_repository(one: str, other: str) -> bool:
    """Whether two addresses lead to one repository, over whichever protocol.

    >>> same_repository("git@github.com:openeg/gitops", "https://user@github.com/openeg/gitops.git/")
    True
    """
    return _plain(one) == _plain(other)


def _plain(address: str) -> str:
    scp = re.fullmatch(r"(?:[^@/]+@)?([^:/]+):(?!//)(.+)", address)
    rest = f"{scp[1]}/{scp[2]}" if scp else address.partition("://")[2] or address
    host, _, path = rest.partition("/")
    server = re.sub(r":(22|80|443)$", "", host.rpartition("@")[2])
    return f"{server}/{path}".lower().rstrip("/").removesuffix(".git")
