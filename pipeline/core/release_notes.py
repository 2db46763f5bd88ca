"""Release notes from commits: grouped by what conventional commits say, with pull requests and authors.

https://www.conventionalcommits.org/en/v1.0.0/ Everything that others wrote is text: no markup, mention or reference.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.core.markdown import inert
from pipeline.core.semver import Weight

Group = Literal["Breaking", "Features", "Fixes", "Other"]

LIMIT = 125_000
"""Characters of a release's body: https://github.com/cli/cli/issues/2543"""
_GROUPS: tuple[Group, ...] = ("Breaking", "Features", "Fixes", "Other")
_HEADER = re.compile(r"(?P<type>[A-Za-z]+)(?:\((?P<scope>[^()\n]+)\))?(?P<breaks>!)?: +(?P<subject>\S.*)")
_BREAKING = re.compile(r"^BREAKING[ -]CHANGE: +(\S.*)", re.MULTILINE)
_FEATURES, _FIXES = {"feat"}, {"fix", "perf"}
_SQUASHED = re.compile(r"\s*\(#([1-9]\d*)\)$", re.ASCII)
_MERGED = re.compile(r"Merge pull request #([1-9]\d*) from ", re.ASCII)
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII)
_SUBJECT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit of the application."""

    oid: str
    message: str
    parents: tuple[str, ...]
    author: str
    """The name that the commit bears."""
    login: str | None = None
    """The author's account on GitHub."""
    pull_request: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one commit changes, in its own words."""

    group: Group
    scope: str | None
    subject: str
    commit: Commit

    @property
    def weight(self) -> Weight:
        """What it asks of the next version."""
        return "major" if self.group == "Breaking" else "minor" if self.group == "Features" else "patch"


def changes(commits: Sequence[Commit]) -> tuple[Change, ...]:
    """What the commits change; merges, which change nothing themselves, tell whose pull request the others are.

    `commits` may come in any order.
    """
    numbers = _merged(commits)
    return tuple(
        _change(replace(commit, pull_request=commit.pull_request or numbers.get(commit.oid)))
        for commit in commits
        if len(commit.parents) < 2
    )


def _change(commit: Commit) -> Change:
    first = commit.message.partition("\n")[0].strip()
    squashed = _SQUASHED.search(first)
    if squashed:
        first = first[: squashed.start()]
        commit = replace(commit, pull_request=int(squashed[1]))
    header = _HEADER.fullmatch(first)
    kind = header["type"].lower() if header else ""
    known: Group = "Features" if kind in _FEATURES else "Fixes" if kind in _FIXES else "Other"
    breaking = _BREAKING.search(commit.message.partition("\n")[2])
    return Change(
        group="Breaking" if breaking or (header and header["breaks"]) else known,
        scope=header["scope"] if header else None,
        subject=header["subject"] if header else first or "(no message)",
        commit=commit,
    )


def _merged(commits: Sequence[Commit]) -> Mapping[str, int]:
    """The pull request of each commit that a merge brought: what its second parent has and its first has not."""
    known = {commit.oid: commit for commit in commits}
    numbers: dict[str, int] = {}
    for commit in commits:
        merged = _MERGED.match(commit.message)
        if merged and len(commit.parents) == 2:
            before = _reachable(known, commit.parents[0])
            for oid in _reachable(known, commit.parents[1]) - before:
                numbers.setdefault(oid, int(merged[1]))
    return numbers


def _reachable(known: Mapping[str, Commit], oid: str) -> set[str]:
    found: set[str] = set()
    todo = [oid]
    while todo:
        if (one := todo.pop()) in known and one not in found:
            found.add(one)
            todo += known[one].parents
    return found


def notes(listed: Sequence[Change], page: str, base: str | None, tag: str, *, more: int = 0) -> str:
    """The notes as Markdown, in at most `LIMIT` characters. `page` is the repository's on the web.

    `base` is the release before; `more` commits are not listed.
    """
    foot = f"\n[All changes]({page}/compare/{base}...{tag})\n" if base else ""
    room = LIMIT - len(foot) - 100
    shown, text = 0, ""
    for line, counts in _lines(listed, page):
        if len(text) + len(line) > room:
            break
        text, shown = text + line, shown + counts
    more += len(listed) - shown
    rest = f"\n… and {more} more {'commit' if more == 1 else 'commits'}\n" if more else ""
    return (text.lstrip("\n") or ("" if rest else "No changes.\n")) + rest + foot


def _lines(listed: Sequence[Change], page: str) -> Iterator[tuple[str, int]]:
    """Each line, and how many changes it tells of."""
    for group in _GROUPS:
        found = [change for change in listed if change.group == group]
        if found:
            yield f"\n## {group}\n\n", 0
        yield from ((_line(change, page), 1) for change in found)


def _line(change: Change, page: str) -> str:
    commit = change.commit
    scope = f"**{inert(change.scope, _SUBJECT)}:** " if change.scope else ""
    number = commit.pull_request
    pull_request = f" ([#{number}]({page}/pull/{number}))" if number else ""
    # An account that GitHub names may be mentioned; a name that anybody can write into a commit may not.
    author = f"@{commit.login}" if commit.login and _LOGIN.fullmatch(commit.login) else inert(commit.author, _SUBJECT)
    subject = inert(change.subject, _SUBJECT)
    return f"- {scope}{subject}{pull_request}, {author} ([{commit.oid[:7]}]({page}/commit/{commit.oid}))\n"
