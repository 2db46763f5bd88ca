"""Questions with defaults: asked on a terminal, answered by a flag, or by the default where nobody is there to ask."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipeline.cli.flags import Run
from pipeline.errors import UsageError

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Questions:
    """Answers for one run; whether anybody is there to ask is found once."""

    run: Run

    @property
    def asks(self) -> bool:
        """Whether a person sits at both ends. What a program writes into a pipe is no answer to a question."""
        return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))

    def ask(self, option: str, question: str, default: str, read: Callable[[str], Answer]) -> Answer:
        """What flag, person or default says, as `read` understands it; a person is asked again until it does.

        Raises UsageError, for a flag that `read` refuses, or when the person ends the input.
        """
        given = self.run.values.get(option)
        given = " ".join(given) if isinstance(given, list | tuple) else given
        if given or not self.asks:
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
