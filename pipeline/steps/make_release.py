"""make_release: tag the commit that runs, and publish a release with notes of what came since the one before."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from pipeline.core import release_notes
from pipeline.core.deployment import Release
from pipeline.core.progress import Progress
from pipeline.core.release_notes import Commit
from pipeline.core.semver import Version, following
from pipeline.errors import CommitRefused, PipelineError, VersionIsTaken

_ANCESTORS_TRIED = 20
_PULL_REQUESTS_ASKED = 30
"""How many commits that do not say it themselves may cost a request for their pull request."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag, and the commit that it stands at in the end."""

    name: str
    commit: str


@dataclass(frozen=True, slots=True)
class Published:
    """A release that is there."""

    id: int
    url: str
    draft: bool


class Host(Protocol):
    """The application's repository on GitHub. Each method may raise a PipelineError."""

    @property
    def name(self) -> str:
        """`OWNER/NAME`."""

    @property
    def page(self) -> str:
        """The repository's page on the web."""

    def tags(self) -> Sequence[Tag]:
        """All tags."""

    def commits(self, base: str | None, head: str) -> tuple[Sequence[Commit], int] | None:
        """The commits of `head` that `base` has not, and how many more there are; None when it is no ancestor."""

    def pull_request(self, commit: str) -> int | None:
        """The pull request that brought a commit."""

    def release(self, tag: str) -> Published | None:
        """The release of a tag, drafts included."""

    def create_release(self, tag: str, notes: str, *, draft: bool, prerelease: bool) -> Published:
        """Make a release of a tag that is there."""

    def publish(self, release: Published) -> Published:
        """Make a draft public."""


class Tagger(Protocol):
    """What puts a tag on the repository."""

    def __call__(self, name: str, commit: str, message: str) -> None:
        """Raises CommitRefused, or VersionIsTaken, when there is such a tag already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What to release. Without a `version` it follows from the commits."""

    commit: str
    version: str | None = None
    draft: bool = False
    prerelease: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """What there is now, or with a dry run would be."""

    outcome: Literal["published", "unchanged", "planned"]
    release: Release


def make_release(host: Host, tagger: Tagger, inputs: Inputs, progress: Progress) -> Made:
    """Make tag and release, as far as they are not there. The same again makes nothing new.

    Raises VersionIsTaken when the version's tag stands at another commit.
    """
    tags = {tag.name: tag for tag in host.tags() if Version.parse(tag.name)}
    before, commits, more = _since(host, tags.values(), inputs.commit)
    listed = release_notes.changes(_with_pull_requests(host, commits))
    there = _there(tags.values(), inputs)
    if there:
        name = there.name
    elif inputs.version:
        name = inputs.version if inputs.version.startswith("v") else f"{_prefix(before)}{inputs.version}"
    else:
        last = Version.parse(before.name) if before else None
        name = f"{_prefix(before)}{following(last, (change.weight for change in listed))}"
    same = [tag for tag in tags.values() if Version.parse(tag.name) == Version.parse(name)]
    if same and same[0].commit != inputs.commit:
        raise VersionIsTaken(f"{host.name}: {same[0].name} stands at {same[0].commit[:12]}, not {inputs.commit[:12]}")
    notes = release_notes.notes(listed, host.page, before.name if before else None, name, more=more)
    release = Release(
        repository=host.name,
        version=str(Version.parse(name)),
        tag=name,
        commit=inputs.commit,
        previous=before.name if before else None,
        notes=notes,
        draft=inputs.draft,
        prerelease=inputs.prerelease or bool((found := Version.parse(name)) and found.pre),
    )
    if inputs.dry_run:
        return Made("planned", release)
    if not same:
        _tag(host, tagger, name, inputs.commit)
        progress.say(f"Tagged {inputs.commit[:7]} as {name}")
    return _publish(host, release, tagged=not same)


def _publish(host: Host, release: Release, *, tagged: bool) -> Made:
    found = host.release(release.tag)
    made = found
    if made is None:
        made = host.create_release(release.tag, release.notes or "", draft=release.draft, prerelease=release.prerelease)
    elif made.draft and not release.draft:
        made = host.publish(made)
    release = replace(release, url=made.url, draft=made.draft)
    return Made("unchanged" if made == found and not tagged else "published", release)


def _tag(host: Host, tagger: Tagger, name: str, commit: str) -> None:
    """Another job may be first: then its tag is ours, if it stands at the same commit."""
    try:
        tagger(name, commit, f"Release {name}")
    except CommitRefused:
        there = next((tag for tag in host.tags() if tag.name == name), None)
        if there is None:
            raise
        if there.commit != commit:
            raise VersionIsTaken(f"{host.name}: {name} stands at {there.commit[:12]}, not {commit[:12]}") from None


def _newest_first(tags: Iterable[Tag]) -> list[Tag]:
    ranked = [(version.rank, tag) for tag in tags if (version := Version.parse(tag.name))]
    return [tag for _, tag in sorted(ranked, key=lambda pair: pair[0], reverse=True)]


def _there(tags: Iterable[Tag], inputs: Inputs) -> Tag | None:
    """The tag that this commit has already: of the version asked for, else the newest that is no candidate."""
    wanted = Version.parse(inputs.version) if inputs.version else None
    for tag in _newest_first(tag for tag in tags if tag.commit == inputs.commit):
        version = Version.parse(tag.name)
        if version and (version == wanted if wanted else not version.pre):
            return tag
    return None


def _since(host: Host, tags: Iterable[Tag], commit: str) -> tuple[Tag | None, Sequence[Commit], int]:
    """The release before, the commits since then, and how many more there are.

    It is the highest version, not a candidate, of a commit that this one descends from.
    """
    full = [tag for tag in tags if (version := Version.parse(tag.name)) and not version.pre and tag.commit != commit]
    for tag in _newest_first(full)[:_ANCESTORS_TRIED]:
        if (found := host.commits(tag.commit, commit)) is not None:
            return tag, *found
    return None, *(host.commits(None, commit) or ((), 0))


def _prefix(before: Tag | None) -> str:
    return "" if before and not before.name.startswith("v") else "v"


def _with_pull_requests(host: Host, commits: Sequence[Commit]) -> Sequence[Commit]:
    """Ask for what a rebase leaves no trace of. A token that may not read pull requests costs the links alone."""
    silent = [change.commit for change in release_notes.changes(commits) if change.commit.pull_request is None]
    found = {}
    for commit in silent[:_PULL_REQUESTS_ASKED]:
        try:
            found[commit.oid] = host.pull_request(commit.oid)
        except PipelineError:
            break
    return [replace(commit, pull_request=found.get(commit.oid)) for commit in commits]
