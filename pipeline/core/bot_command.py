"""The one command in a comment on a pull request, such as `/deploy staging 3f2a…`, read as data.

A line counts as a command where it begins with `/` and a word, and where readers see it as such: not inside a quote, a
code block or an HTML comment.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.image import is_commit
from pipeline.core.wording import one_line
from pipeline.errors import CommandNotUnderstood


@dataclass(frozen=True, slots=True)
class Usage:
    """How a command is written, and what it does."""

    arguments: tuple[str, ...]
    meaning: str


COMMANDS = {
    "deploy": Usage(("ENV", "SHA"), "deploy the image that was built from this commit of the pull request"),
    "rollback": Usage(("ENV",), "undo the last deployment of this application"),
    "help": Usage((), "list these commands"),
}
"""Every command there is: `/help` is made from this table, and what is not in it is answered with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command, its arguments checked as far as they can be without asking anybody."""

    name: str
    environment: str = ""
    commit: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (f"/{self.name}", self.environment, self.commit)))


def usage(name: str) -> str:
    """A command as it is written: `/deploy ENV SHA`."""
    return " ".join((f"/{name}", *COMMANDS[name].arguments))


def parse(body: str) -> Command | None:
    """The command in a comment; None where there is none.

    Raises CommandNotUnderstood for several, for an unknown one, and for arguments that cannot be right.
    """
    lines = tuple(_command_lines(body))
    if not lines:
        return None
    if len(lines) > 1:
        raise CommandNotUnderstood(f"the comment holds {len(lines)} commands; it may hold one")
    name, *words = lines[0].removeprefix("/").split()
    name = name.lower()  # phones write a capital
    if name not in COMMANDS:
        raise CommandNotUnderstood(f"there is no command {one_line('/' + name, 60)!r}")
    given = dict(zip(COMMANDS[name].arguments, words, strict=False))
    if len(words) != len(COMMANDS[name].arguments):
        raise CommandNotUnderstood(f"{one_line(lines[0], 200)!r} is not {usage(name)}")
    environment, commit = given.get("ENV", ""), given.get("SHA", "")
    if environment and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", environment):
        raise CommandNotUnderstood(f"{one_line(environment, 60)!r} is not the name of an environment")
    if commit and not is_commit(commit):
        raise CommandNotUnderstood(
            f"{one_line(commit, 60)!r} is not a full commit hash: give all 40 hexadecimal digits, in lower case"
        )
    return Command(name=name, environment=environment, commit=commit)


def _command_lines(body: str) -> Iterator[str]:
    """The lines that are commands. Only what GitHub shows as the start of a line is one."""
    fence = ""
    quoted = hidden = False
    for line in re.split(r"\r\n|\r|\n", body):
        mark = re.match(r" {0,3}(`{3,}|~{3,})(.*)", line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif hidden:
            hidden = "-->" not in line
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence, quoted = mark[1], False
        else:
            # A line right below a quote belongs to it, as Markdown has it.
            quoted = line.lstrip(" ").startswith(">") or (quoted and bool(line.strip()))
            _, opened, rest = line.rpartition("<!--")
            hidden = bool(opened) and "-->" not in rest
            if not quoted and re.match(r"/[^\W\d_][^\s/]*(\s|$)", line):
                yield line
