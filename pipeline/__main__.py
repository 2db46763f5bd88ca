"""Entry point, and the one place where an error becomes a message and an exit code."""

import contextlib
import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import NoReturn

from pipeline.errors import Bug, ExtraMissing, PipelineError, Signalled, UsageError
from pipeline.options import OPTIONS

_STOPS = (signal.SIGINT, signal.SIGTERM)

# What Typer takes for a switch's variable that is on.
_YES = {"1", "true", "t", "yes", "y", "on"}


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command and return its exit code. Results go to standard output, all else to standard error."""
    import typer

    from pipeline.cli.app import app
    from pipeline.cli.console import Console
    from pipeline.cli.report import Report

    # Typer exports the leaves of its error tree only; the root is what every usage error is.
    click_error: type[Exception] = typer.BadParameter.mro()[2]
    report = Report(environ, json=_wants_json(arguments, environ))
    with Console(environ) as console:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            code = app(
                list(arguments) or ([] if report.json else ["--help"]),
                obj=(report, console, environ),
                standalone_mode=False,
                prog_name=_name(arguments),
            )
            if report.command is None:  # --help, or a completion script: printed already
                sys.stdout.flush()
                return int(code or 0)
        except PipelineError as error:
            report.fail(error)
        except click_error as error:
            context = getattr(error, "ctx", None)
            remedy = f"Run `{context.command_path} --help`." if context else UsageError.remedy
            message = error.format_message() if hasattr(error, "format_message") else str(error)
            report.fail(UsageError(message, remedy=remedy))
        except ModuleNotFoundError as error:
            report.fail(ExtraMissing(f"this command needs the Python package {error.name!r}"))
        except Signalled as interrupt:
            report.interrupted(128 + interrupt.args[0])
        except Exception as error:  # noqa: BLE001 -- what nobody foresaw is a bug of ours, and shown as one
            if isinstance(error, OSError) and report.command is None:  # all that was done is to print help
                report.unheard(error)
            else:
                traceback.print_exc()
                report.fail(Bug(f"{type(error).__name__}: {error}"))
    return report.finish()


def _wants_json(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """What Typer will say of --json; it must be known even where parsing fails."""
    flags = [argument for argument in arguments if argument in OPTIONS["json"].flags]
    return flags[-1] == "--json" if flags else environ.get("PIPELINE_JSON", "").strip().lower() in _YES


def _name(arguments: Sequence[str]) -> str:
    """How the program was called; a shell can complete the console script alone."""
    completion = {"--install-completion", "--show-completion"} & set(arguments)
    return "openeg-deploy" if completion or sys.argv[0].endswith("openeg-deploy") else "python -m pipeline"


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    raise Signalled(number)


class _Heedless(io.TextIOWrapper):
    """Standard error, straight to the file: one that is full or gone keeps no deployment from its end."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def _open_streams() -> None:
    """Have both streams even where the caller has closed them."""
    for descriptor in (1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 -- for good
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    raw = io.FileIO(2, "w", closefd=False)
    sys.stderr = _Heedless(raw, encoding=encoding, errors="backslashreplace", write_through=True)


def entry() -> None:
    """The console script."""
    # A signal waits until there is a report to enter it in: what `main` imports takes a moment.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    _open_streams()
    for number in _STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and a shell's background jobs ask for
            signal.signal(number, _raise)
    code = main(sys.argv[1:], os.environ)
    gc.freeze()  # else the interpreter looks through all that is left once more, for some 0.07 s
    sys.exit(code)


if __name__ == "__main__":
    entry()
