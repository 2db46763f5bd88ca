"""Progress for people, on standard error: a live display on a terminal, plain lines with elapsed time elsewhere."""

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self, TextIO

from pipeline.cli.actions import harmless
from pipeline.core.wording import visible

if TYPE_CHECKING:
    from rich.progress import Progress as Rows
    from rich.progress import TaskID

# A key's first states reach a log at once, later ones only every few seconds: layers change ten times a second.
_BURST = 4
_SECONDS_BETWEEN_LINES = 5.0


class Console:
    """`core.progress.Progress` of one command, as a context manager; the live display is gone when it closes."""

    def __init__(
        self, environ: Mapping[str, str], stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`CI` and `TERM=dumb` ask for plain lines, `NO_COLOR` for no colour. `stream` is standard error."""
        stream = stream or sys.stderr
        live = stream.isatty() and not environ.get("CI") and environ.get("TERM") != "dumb"
        self._display: _Live | _Lines = (
            _Live(stream, colour=not environ.get("NO_COLOR")) if live else _Lines(stream, clock)
        )

    def say(self, text: str) -> None:
        """See `core.progress.Progress`."""
        self._display.say(visible(text))

    def show(self, key: str, state: str) -> None:
        """See `core.progress.Progress`."""
        self._display.show(visible(key), visible(state))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._display.close()


class _Live:
    """Milestones scroll by; below them one row for each key, with a spinner, is redrawn in place."""

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        self._stream = stream
        self._colour = colour
        self._rows: Rows | None = None
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        if self._rows is None:
            print(text, file=self._stream, flush=True)
        else:
            self._rows.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def show(self, key: str, state: str) -> None:
        with self._lock:
            self._rows = self._rows or self._start()
            if not state:
                if key in self._tasks:
                    self._rows.remove_task(self._tasks.pop(key))
            elif key in self._tasks:
                self._rows.update(self._tasks[key], state=state)
            else:
                self._tasks[key] = self._rows.add_task(key, total=None, state=state)

    def close(self) -> None:
        if self._rows:
            self._rows.stop()

    def _start(self) -> "Rows":
        # Rich takes 0.1 s to import, and most commands are done before there is anything to watch.
        from rich.console import Console as RichConsole
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        rows = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", style="bold", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=RichConsole(file=self._stream, no_color=not self._colour),
            transient=True,
            redirect_stdout=False,  # results are not progress
        )
        rows.start()
        return rows


class _Lines:
    """One line per milestone and per changed state, after the seconds since the start."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._written: dict[str, str] = {}
        self._held: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        with self._lock:
            self._flush()
            self._line(text)

    def show(self, key: str, state: str) -> None:
        with self._lock:
            self._held.pop(key, None)
            if not state or self._written.get(key) == state:
                return
            now = self._clock()
            due = max(self._due.get(key, -math.inf), now - (_BURST - 1) * _SECONDS_BETWEEN_LINES)
            if due > now:
                self._held[key] = state  # written with the next milestone or in its time, unless a newer one comes
                self._wake_in(due - now)
                return
            self._due[key] = due + _SECONDS_BETWEEN_LINES
            self._state(key, state)

    def close(self) -> None:
        with self._lock:
            self._flush()
            if self._timer:
                self._timer.cancel()

    def _wake_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(seconds, self._write_due)
            self._timer.daemon = True
            self._timer.start()

    def _write_due(self) -> None:
        """Write the states whose time has come: one that stays for long must not wait for a milestone."""
        with self._lock:
            self._timer = None
            now = self._clock()
            for key in [key for key in self._held if self._due[key] <= now]:
                self._due[key] += _SECONDS_BETWEEN_LINES
                self._state(key, self._held.pop(key))
            if self._held:
                self._wake_in(max(0.1, min(self._due[key] for key in self._held) - now))

    def _flush(self) -> None:
        for key, state in self._held.items():
            self._state(key, state)
        self._held.clear()

    def _state(self, key: str, state: str) -> None:
        self._written[key] = state
        self._line(f"{key}: {state}")

    def _line(self, text: str) -> None:
        prefix = f"[{self._clock() - self._began:5.1f}s] "
        # No line of a foreign text begins a line of the log, where a runner would look for its commands.
        text = harmless(text).replace("\n", f"\n{'| ':>{len(prefix)}}")
        print(f"{prefix}{text}", file=self._stream, flush=True)
