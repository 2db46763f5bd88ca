"""A deployment as a pull request: its branch, title and body.

The trailers of the commit stand in the body too, in a comment that nobody sees: a squash or a merge may lose the
commit's message, and a squash that takes the body for its message brings them along, to be read as ever.
Everything that others wrote (commit messages, names, files) is text there: no markup, no mention, no reference.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.core import commit_message
from pipeline.core.commit_message import Trailers
from pipeline.core.deployment import Image
from pipeline.core.markdown import code, fence, folded, inert, table
from pipeline.core.wording import one_line, short, source_url, visible, web_url

PREFIX = "deploy/"
LIMIT = 65_536
"""Characters of a body. https://github.com/orgs/community/discussions/27190"""

_LONGEST_SERVICES = 100
_HASH = 8
_LINE = 200
_ROWS = 50
_TRAILERS = LIMIT // 3
_COMMITS = LIMIT // 3
_OPENED = 50
_KINDS = {"deploy": "Deploys", "rollback": "Rolls back", "promote": "Promotes", "revert": "Reverts"}
_SUPERSEDED = "<!-- openeg-deploy: superseded -->"
_FOOT = (
    "\n---\n\nEach deployment of the same services writes this branch anew, as long as nobody else commits to it.\n\n"
    "<!-- openeg-deploy\n{}\n-->\n"
)


@dataclass(frozen=True, slots=True)
class SourceCommit:
    """A commit of the application, as far as it is known."""

    oid: str
    headline: str
    author: str
    url: str | None = None
    pull_request: str | None = None
    """The page of the pull request that brought it."""


@dataclass(frozen=True, slots=True)
class Since:
    """What came between two versions, oldest first; `more` commits are not listed."""

    old: str
    new: str
    commits: tuple[SourceCommit, ...]
    more: int = 0


def merged_by(headline: str, repository_page: str | None) -> str | None:
    """The page of the pull request that a commit's headline names, as GitHub writes it when it merges.

    >>> merged_by("Serve lessons (#12)", "https://github.com/openeg/openeg")
    'https://github.com/openeg/openeg/pull/12'
    """
    found = re.search(r"^Merge pull request #(\d+) from |\(#(\d+)\)$", headline)
    return f"{repository_page}/pull/{found[1] or found[2]}" if found and repository_page else None


def branch_name(environment: str, images: Sequence[Image]) -> str:
    """`deploy/ENVIRONMENT/SERVICES`: one for each environment and set of services, whatever their order.

    >>> branch_name("production", [Image(name="openegflask", service="flask", repository="r", tag="t")])
    'deploy/production/flask'
    """
    services = sorted({image.service or image.name for image in images})
    # `+` joins, as no part holds one: a+b and a-b are two sets.
    joined = "+".join(map(_ref_part, services))
    if len(joined) > _LONGEST_SERVICES:
        joined = f"{_ref_part(services[0])[:40].rstrip('.')}+{len(services) - 1}-more-{_hash(*services)}"
    return f"{PREFIX}{_ref_part(environment)}/{joined}"


def _ref_part(name: str) -> str:
    """`name` as git allows it between slashes; one that had to be changed bears a hash, so that no two are the same."""
    kept = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", name))[:60].strip(".-")
    kept = kept.removesuffix(".lock")
    return kept if kept == name else f"{kept or 'x'}-{_hash(name)}"


def _hash(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]


def title(message: str) -> str:
    """The commit's headline."""
    return visible(message.partition("\n")[0])


def body(trailers: Trailers, images: Sequence[Image], diff: str, since: Sequence[Since]) -> str:
    """The body, below GitHub's limit: what is cut says how much is missing.

    `images` are those of the trailers, with the versions before; `diff` is unified; `since` tells what is new.
    """
    foot = _FOOT.format(_comment(trailers))
    head = "".join(_head(trailers, images))
    room = LIMIT - _size(head) - _size(foot) - len(_SUPERSEDED) - 2
    new = "".join(_section(item, min(room, _COMMITS) // len(since)) for item in since)
    return head + new + _diff(diff, room - _size(new)) + foot


def images_of(text: str, environment: str) -> tuple[Image, ...]:
    """The images that a body says its pull request deploys to `environment`; none for one that is not ours."""
    trailers = commit_message.parse(text)
    return trailers.images if trailers and trailers.environment == environment else ()


def goes_back(text: str) -> bool:
    """Whether a body says that its pull request takes images back to versions before."""
    trailers = commit_message.parse(text)
    return trailers is not None and trailers.kind in {"rollback", "revert"}


def is_superseded(text: str) -> bool:
    """Whether a body says that its pull request was closed for a newer one."""
    return text.rstrip().endswith(_SUPERSEDED)


def superseded(text: str) -> str:
    """The body of a pull request that is closed for a newer one: who waits for it reads it there."""
    return text if is_superseded(text) else f"{text.rstrip()}\n\n{_SUPERSEDED}"


def closing(number: int) -> str:
    """The comment on a pull request that a newer one has taken the place of."""
    return f"Superseded by #{number}, which deploys the same or a newer version of every image here."


def overtaken(branch: str) -> str:
    """The comment on a pull request whose images have reached the branch in another way."""
    return f"Superseded: {code(branch)} has the same or a newer version of every image here already."


def _comment(trailers: Trailers) -> str:
    """The trailers, unable to end the comment. Without images where they are too many: in part they would mislead."""
    text = commit_message.write(trailers).replace(">", "%3E")
    if _size(text) > _TRAILERS:
        text = commit_message.write(replace(trailers, images=())).replace(">", "%3E")
    return text


def _head(trailers: Trailers, images: Sequence[Image]) -> Iterator[str]:
    yield f"{_KINDS[trailers.kind]} to {_code(trailers.environment)}:\n"
    rows = []
    for image in images[:_ROWS]:
        page = source_url(image)
        tag = _code(short(image.tag))
        rows.append(
            (
                _code(image.name),
                _code(short(image.previous)),
                f"[{tag}]({page})" if page else tag,
                _code(f"{image.reference}{f'@{image.digest}' if image.digest else ''}"),
            )
        )
    yield table(("image", "before", "now", "what runs"), rows)
    if len(images) > _ROWS:
        yield f"\n… {len(images) - _ROWS} more images\n"
    run = web_url(trailers.run)
    facts = [f"by {inert(trailers.actor, _LINE)}" if trailers.actor else "", f"[Run]({run})" if run else ""]
    if any(facts):
        yield f"\n{' · '.join(filter(None, facts))}\n"


def _section(since: Since, room: int) -> str:
    """The commits, as many as fit, the newest first: those are what a reader knows."""
    start = f"\n### New since {_code(short(since.old))}\n\n"
    room -= _size(start) + 40
    lines: list[str] = []
    for commit in reversed(since.commits):
        line = _commit(commit)
        room -= _size(line)
        if room < 0:
            break
        lines.append(line)
    more = len(since.commits) - len(lines) + since.more
    rest = f"- … {more} more {'commit' if more == 1 else 'commits'}\n" if more else ""
    return start + "".join(lines) + rest if lines or rest else ""


def _commit(commit: SourceCommit) -> str:
    oid, page, proposed = _code(commit.oid[:7]), web_url(commit.url), web_url(commit.pull_request)
    number = re.search(r"/(\d+)$", proposed or "")
    link = f", [{'#' if number else ''}{number[1] if number else 'pull request'}]({proposed})" if proposed else ""
    told = f"{inert(commit.headline, _LINE)}, {inert(commit.author, _LINE)}"
    return f"- {f'[{oid}]({page})' if page else oid} {told}{link}\n"


def _diff(diff: str, room: int) -> str:
    lines = [line[:_LINE] + "…" if len(line) > _LINE else line for line in visible(diff).splitlines()]
    kept = list(lines)
    while True:
        more = len(lines) - len(kept)
        shown = [*kept, f"… {more} more lines"] if more else kept
        text = f"\n{folded('Change', fence(shown, 'diff'), opened=len(shown) <= _OPENED)}\n"
        if _size(text) <= room:
            return text
        if not kept:
            return ""
        kept = kept[: len(kept) * 3 // 4]


def _code(text: str) -> str:
    return code(one_line(text, _LINE))


def _size(text: str) -> int:
    """Characters as GitHub may count them: one beyond the basic plane as two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
