"""Questions with defaults: asked on a terminal, answered by a flag, or by the default where nobody is there to ask."""

import sys
from collections.abc import Callable
from typing import TypeVar

from pipeline.cli.flags import Run
from pipeline.errors import UsageError

Answer = TypeVar("Answer")


def ask(run: Run, option: str, question: str, default: str, read: Callable[[str], Answer]) -> Answer:
    """What flag, person or default says, as `read` understands it; a person is asked again until it does.

    Raises UsageError, for a flag that `read` refuses, or when the person ends the input.
    """
    given = run.values.get(option)
    given = " ".join(given) if isinstance(given, list | tuple) else given
    if given or not _somebody_is_there():
        return read(given or default)
    while True:
        print(f"{question} [{default}]: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise UsageError("the input ended before all questions were answered", remedy="Nothing was written.")
        try:
            return read(line.strip() or default)
        except UsageError as error:
            print(f"{error}\n{error.remedy}", file=sys.stderr)


def _somebody_is_there() -> bool:
    """Whether a person reads and types: what a program writes into a pipe is no answer to a question."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
