"""The bot's comments on a pull request: the one that stays and is updated in place, and the answer to a command.

All that others wrote is escaped. A hidden marker in the first line, and its author, say which comment is which.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.core import bot_command
from pipeline.core.deployment import Deployment
from pipeline.core.markdown import LINE, code, escape, fence, folded, quote, table
from pipeline.core.summary import markdown
from pipeline.core.wording import ending, one_line, short, web_url
from pipeline.errors import CommandNotUnderstood

MARKER = "<!-- openeg-deploy"
"""How each of our comments begins."""
STICKY = f"{MARKER}: where this pull request runs -->"
LIMIT = 65_000
"""Bytes of a comment. GitHub refuses more than 65,536 characters: "body is too long"."""

_COMMITS = 30
_ENVIRONMENTS = 20
_IMAGES = 20
_SUBJECT = 80
_NAME = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of a pull request."""

    oid: str
    subject: str
    parents: tuple[str, ...]
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An image that an environment has, and which of the pull request's commits are in it."""

    name: str
    tag: str | None
    contains: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """An application as Argo CD shows it now: an emoji, and a few words."""

    mark: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What one environment runs of this application."""

    environment: str
    images: tuple[Running, ...] = ()
    live: tuple[Live, ...] = ()
    trouble: str = ""
    """Why it is not known what is there."""

    def runs(self, commit: str) -> tuple[str, ...]:
        """The images that contain a commit."""
        return tuple(image.name for image in self.images if commit in image.contains)

    def only(self, names: Collection[str]) -> "Standing":
        """The same of some images alone."""
        return replace(self, images=tuple(image for image in self.images if image.name in names))


def contained(commits: Sequence[Commit], commit: str) -> frozenset[str]:
    """The pull request's commits that are in one of them, itself included; none for any other commit."""
    parents = {item.oid: item.parents for item in commits}
    found: set[str] = set()
    todo = [commit]
    while todo:
        oid = todo.pop()
        if oid in parents and oid not in found:
            found.add(oid)
            todo += parents[oid]
    return frozenset(found)


def sticky(
    commits: Sequence[Commit],
    standings: Sequence[Standing],
    built: str | None,
    deployment: Deployment | None = None,
    *,
    final: bool = True,
) -> str:
    """The comment that stays. `commits` are oldest first; `built` is the newest whose image is there.

    `deployment` is one to tell of, which `final` says is over.
    """
    shown = standings[:_ENVIRONMENTS]
    top = f"{STICKY}\n{_commits(commits, shown)}{_environments(shown)}"
    bottom = _commands(commits, shown, built)
    room = LIMIT - len((top + bottom).encode())
    told = f"\n{markdown(deployment, limit=room, final=final)}" if deployment else ""
    return f"{top}{told}{bottom}"


def answer_marker(comment: int) -> str:
    """The marker of the answer to a comment."""
    return f"{MARKER}: answer to {comment} -->"


def answer(comment: int, command: bot_command.Command | None, deployment: Deployment) -> str:
    """The answer to a command: how it ended, why, and how commands are written where it was not understood.

    `command` is None where it was not understood.
    """
    error = deployment.error
    if command and command.name == "help" and error is None:
        return f"{answer_marker(comment)}\n{_usage()}"
    emoji, phrase = ending(deployment)
    run = web_url(deployment.run)
    told = code(str(command)) if command else "The command"
    text = f"{answer_marker(comment)}\n{emoji} {told} {phrase}{f' · [run]({run})' if run else ''}\n\n"
    for image in deployment.images[:_IMAGES]:
        text += f"- {code(image.name)} {code(short(image.previous))} → {code(short(image.tag))}\n"
    if error:
        text += f"\n{quote(error.message)}\n>\n{quote(error.remedy, '**What to do:** ')}\n"
        if error.class_ == CommandNotUnderstood.__name__:
            text += f"\n{_usage()}"
    return text


def _usage() -> str:
    rows = [(code(bot_command.usage(name)), item.meaning) for name, item in bot_command.COMMANDS.items()]
    return f"One command a comment, at the start of a line:\n{table(('command', 'what it does'), rows)}"


def _commits(commits: Sequence[Commit], standings: Sequence[Standing]) -> str:
    """A row for each commit, newest first, and a column for each environment."""
    rows = []
    for commit in reversed(commits[-_COMMITS:]):
        url = web_url(commit.url)
        oid = code(commit.oid[:7])
        title = code(one_line(commit.subject, _SUBJECT)) or "(no message)"
        rows.append((f"{f'[{oid}]({url})' if url else oid} {title}", *(_cell(item, commit.oid) for item in standings)))
    older = len(commits) - _COMMITS
    note = f"\n{older} older commits are left out.\n" if older > 0 else ""
    heads = [code(one_line(item.environment, _NAME)) for item in standings]
    return f"### Where this pull request runs\n{table(('commit', *heads), rows)}{note}"


def _cell(standing: Standing, commit: str) -> str:
    """Whether a commit runs there: with the names of the images where not all of them contain it."""
    if standing.trouble:
        return "?"
    names = standing.runs(commit)
    if len(names) == len(standing.images):
        return "✅" if names else ""
    return f"✅ {', '.join(code(one_line(name, _NAME)) for name in names[:_IMAGES])}" if names else ""


def _environments(standings: Sequence[Standing]) -> str:
    rows = [
        (
            code(one_line(item.environment, _NAME)),
            escape(one_line(item.trouble, 200))
            or ", ".join(
                f"{code(one_line(image.name, _NAME))} {code(short(image.tag))}" for image in item.images[:_IMAGES]
            ),
            "<br>".join(f"{live.mark} {escape(one_line(live.words, 200))}" for live in item.live[:5]),
        )
        for item in standings
    ]
    return table(("environment", "version", "now"), rows)


def _commands(commits: Sequence[Commit], standings: Sequence[Standing], built: str | None) -> str:
    """The commands that make sense now, each in a block of its own, since that has a button to copy it."""
    commands = tuple(_sensible(standings, built))
    missing = [commit.oid for commit in commits if commit.oid == built] == []
    said = "No image of these commits is built yet.\n" if missing else ""
    blocks = "\n\n".join(fence([command]) for command in commands)
    content = f"{said}{blocks}\n\nWrite one of them in a comment; `/help` explains them."
    return f"\n{folded('Commands', content, opened=False)}\n"


def _sensible(standings: Sequence[Standing], built: str | None) -> Iterator[str]:
    for item in standings:
        name = one_line(item.environment, LINE)
        if built and len(item.runs(built)) < max(1, len(item.images)):
            yield str(bot_command.Command(name="deploy", environment=name, commit=built))
        if any(image.contains for image in item.images):
            yield str(bot_command.Command(name="rollback", environment=name))
