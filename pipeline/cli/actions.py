"""What GitHub Actions' runner reads: workflow commands on the log, and the files it names in the environment.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

import json
import os
import re
import sys
from collections.abc import Mapping

from pipeline.options import secret_variables


def annotation(title: str, text: str, level: str = "error", file: str | None = None, line: int = 1) -> str:
    """An `::error::`, `::warning::` or `::notice::` command, escaped as the runner decodes it.

    It shows on the log and on the run's page; with a file, also at that line of a pull request.
    """
    place = f"file={_escape(file, ':,')},line={line}," if file else ""
    return f"::{level} {place}title={_escape(title, ':,')}::{_escape(text)}"


def _escape(text: str, more: str = "") -> str:
    for mark in "%\r\n" + more:  # '%' first, or it would be escaped twice
        text = text.replace(mark, f"%{ord(mark):02X}")
    return text


def harmless(text: str) -> str:
    """Foreign text, such as an application's log, that the runner will not take for a workflow command.

    The runner obeys `::name::` at the start of a line, after any white space, and the older `##[name]` anywhere.
    """
    return re.sub(r"(?m)^([^\S\n]*)::", r"\1: :", text).replace("##[", "# #[")


def masks(environ: Mapping[str, str]) -> str:
    """Commands that have the runner hide our secrets in every log line, also those that no `secrets.` context gave."""
    values = (environ.get(variable, "") for variable in secret_variables())
    return "".join(f"::add-mask::{_escape(line)}\n" for value in values for line in value.splitlines() if line.strip())


def outputs(values: Mapping[str, object]) -> str:
    """Lines for `$GITHUB_OUTPUT`: text and numbers as they are, everything nested as JSON.

    Each value has a delimiter of its own, drawn at random, so that no value can end itself and forge another.
    """
    lines = []
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        delimiter = f"end_{os.urandom(16).hex()}"
        lines.append(f"{name}<<{delimiter}\n{text}\n{delimiter}\n")
    return "".join(lines)


if __name__ == "__main__":  # for the action alone: its standard output is the runner's, and goes into no file
    sys.stdout.write(masks(os.environ))
