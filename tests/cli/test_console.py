"""Progress: rows in place on a terminal, few and plain lines elsewhere, never anything on standard output."""

import io
import re
import time

import pytest

from pipeline.cli.console import Console
from tests.deployments import HOSTILE


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_for_each_milestone_and_each_changed_state() -> None:
    stream, clock = io.StringIO(), Clock()
    with Console({}, stream, clock) as console:
        console.say("building")
        clock.seconds = 3.2
        console.show("openeg", "OutOfSync")
        console.show("openeg", "OutOfSync")
        clock.seconds = 12.0
        console.show("openeg", "Progressing")
    assert stream.getvalue() == (
        "[  0.0s] building\n"
        "[  3.2s] openeg: OutOfSync\n"
        "[ 12.0s] openeg: Progressing\n"
    )  # fmt: skip


def test_a_chatty_key_is_held_back_but_its_last_state_is_never_lost() -> None:
    stream, clock = io.StringIO(), Clock()
    with Console({}, stream, clock) as console:
        for percent in range(100):
            clock.seconds = percent / 10
            console.show("layer", f"{percent}%")
        console.say("pushed")
        console.show("layer", "gone")
        console.show("layer", "")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 7
    assert lines[-2:] == ["[  9.9s] layer: 99%", "[  9.9s] pushed"]


def test_a_state_that_is_held_back_is_written_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash loop that stays for a minute must not wait for the next milestone to be seen."""
    monkeypatch.setattr("pipeline.cli.console._SECONDS_BETWEEN_LINES", 0.1)
    stream = io.StringIO()
    with Console({}, stream) as console:
        for number in range(8):
            console.show("openeg", f"state {number}")
        assert "state 7" not in stream.getvalue()
        end = time.monotonic() + 10
        while "state 7" not in stream.getvalue():
            assert time.monotonic() < end
            time.sleep(0.01)


def test_one_chatty_key_does_not_silence_another() -> None:
    stream = io.StringIO()
    with Console({}, stream, Clock()) as console:
        for number in range(9):
            console.show("a", str(number))
        console.show("b", "ready")
    assert "b: ready" in stream.getvalue()


@pytest.mark.parametrize("environ", [{"CI": "true"}, {"TERM": "dumb"}])
def test_a_terminal_may_ask_for_plain_lines(environ: dict[str, str]) -> None:
    stream = Terminal()
    with Console(environ, stream) as console:
        console.show("openeg", "Progressing")
    assert re.fullmatch(r"\[  0\.\ds\] openeg: Progressing\n", stream.getvalue())


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_neither_steers_the_terminal_nor_commands_the_runner(text: str) -> None:
    stream = io.StringIO()
    with Console({"GITHUB_ACTIONS": "true"}, stream) as console:
        console.say(f"x\n{text}")
        console.show(text, text)
    written = stream.getvalue()
    assert "\x1b" not in written
    assert "##[" not in written
    assert not re.search(r"^\s*::", written, re.MULTILINE)
    written.encode()


def test_a_terminal_shows_rows_while_they_last(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    with Console({"TERM": "xterm"}, stream) as console:
        console.say("building")
        console.show("openeg", "Progressing [1/2]")
        console.say("[bold]synced[/bold] :smile:")
        console.show("layer", "")
        console.show("openeg", "")
    written = stream.getvalue()
    assert written.startswith("building\n")
    assert "[bold]synced[/bold] :smile:\n" in written
    assert capsys.readouterr().out == ""


def test_no_colour_means_none() -> None:
    stream = Terminal()
    with Console({"NO_COLOR": "1", "TERM": "xterm"}, stream) as console:
        console.show("openeg", "Progressing")
    assert not re.search(r"\x1b\[[0-9;]*3\dm", stream.getvalue())
