"""Commands made from the table of options: their Typer parameters, and typed access to what was given.

A command is `@command(app, "image", "gitops", …) def bump(run: Run) -> None`. The names are the table's; a new
option enters the table and the commands that take it, nothing else.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from pipeline.cli.report import Report
from pipeline.core.progress import Progress
from pipeline.core.secret import Secret
from pipeline.errors import UsageError
from pipeline.options import OPTIONS, Option, secret


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one command: what was given, and where to tell."""

    report: Report
    progress: Progress
    environ: Mapping[str, str]
    values: Mapping[str, Any]
    """By option name; None for what neither flag nor environment variable gives."""

    def text(self, name: str, *fallbacks: str | None) -> str | None:
        """Flag or variable, else the first fallback (a file's value) that is there, else the table's default."""
        given = (self.values.get(name), *fallbacks, OPTIONS[name].default)
        return next((str(value) for value in given if value is not None and value != ""), None)

    def required(self, name: str, *fallbacks: str | None) -> str:
        """As `text`; raises UsageError where there is none."""
        value = self.text(name, *fallbacks)
        if value is None:
            variable = OPTIONS[name].variable
            raise UsageError(
                f"--{name} is missing", remedy=f"Pass --{name}" + (f" or set {variable}." if variable else ".")
            )
        return value

    def choice(self, name: str, choices: Iterable[str], *fallbacks: str | None) -> str | None:
        """As `text`; raises UsageError for a value outside `choices`."""
        value = self.text(name, *fallbacks)
        if value is not None and value not in choices:
            raise UsageError(f"--{name} {value}: expected one of {', '.join(choices)}")
        return value

    def texts(self, name: str, fallback: Iterable[str] = ()) -> tuple[str, ...]:
        """All values of a repeatable option."""
        option = OPTIONS[name]
        given = [value for value in self.values.get(name) or () if value]
        if option.spaced and not given and option.variable:
            given = [line.strip() for line in self.environ.get(option.variable, "").splitlines() if line.strip()]
        return tuple(given or fallback)

    def number(self, name: str, fallback: float | None = None) -> float | None:
        """Seconds, or a port; raises UsageError for a negative one."""
        given = next((v for v in (self.values.get(name), fallback, OPTIONS[name].default) if v is not None), None)
        if given is not None and not 0 <= float(given) < math.inf:
            raise UsageError(f"--{name} {given:g}: must be a number, not negative and not without end")
        return None if given is None else float(given)

    def switch(self, name: str) -> bool:
        """Whether a switch is on."""
        return bool(self.values.get(name))

    def given_switch(self, name: str) -> bool | None:
        """Whether a switch was turned on or off; None where nothing was said."""
        value = self.values.get(name)
        return None if value is None else bool(value)

    def secret(self, *names: str) -> Secret | None:
        """The first of the named secrets that the environment has."""
        return secret(self.environ, *names)


_Argument = typer.core.TyperArgument
"""The positional one. Typer would add braces and its Python type to the metavar that the table gives it."""


class _Command(typer.core.TyperCommand):
    """Help that groups options by the table's groups, without loading rich: help must answer at once."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", *(item.metavar or "" for item in self.get_params(ctx) if isinstance(item, _Argument))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {option.group: [] for option in OPTIONS.values()}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, _Argument):
                record = (parameter.metavar or "", parameter.help or "")
            if record:
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def command(app: typer.Typer, *names: str) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Register a function as the command of its name, with the named options; --json is always there."""
    options = [OPTIONS[name] for name in (*names, "json")]

    def register(function: Callable[[Run], None]) -> Callable[[Run], None]:
        def call(ctx: typer.Context, **values: Any) -> None:
            report, progress, environ = ctx.obj
            report.command = ctx.command_path.removeprefix(f"{ctx.find_root().info_name} ")
            function(Run(report, progress, environ, {option.name: values[_parameter(option)] for option in options}))

        name = function.__name__.strip("_").replace("_", "-")
        parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
        parameters += [
            inspect.Parameter(
                _parameter(option),
                inspect.Parameter.KEYWORD_ONLY,
                annotation=_annotation(option, name),
                **({} if option.argument and option.repeatable else {"default": None}),
            )
            for option in options
        ]
        vars(call)["__signature__"] = inspect.Signature(parameters)
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        # The list of commands would cut `help` short, but not `short_help`.
        app.command(name, cls=_Command, help=function.__doc__, short_help=function.__doc__)(call)
        return function

    return register


def _parameter(option: Option) -> str:
    """A Python name that is no keyword (`from`) and does not hide Typer's own (`ctx`)."""
    return f"{option.name.replace('-', '_')}_"


def _annotation(option: Option, command: str) -> Any:
    if option.argument:
        given: Any = list[str] if option.repeatable else str | None
        return Annotated[
            given,
            typer.Argument(metavar=option.metavar, help=option.help, rich_help_panel=option.group, show_default=False),
        ]
    kind: Any = str
    if option.repeatable:
        kind = list[str]
    elif isinstance(option.default, bool | float):
        kind = type(option.default)
    elif option.number:
        kind = float
    return Annotated[
        kind | None,
        typer.Option(
            "/".join(option.flags),
            envvar=None if option.spaced else option.variable,  # Typer would split it into words
            help=f"{option.instead.get(command, option.help)}  {_facts(option)}".rstrip(),
            metavar=option.metavars.get(command, option.metavar),
            rich_help_panel=option.group,
            show_envvar=False,
            show_default=False,
        ),
    ]


def _facts(option: Option) -> str:
    """What the table knows beside the help, as `[repeatable; env var: PIPELINE_APP; default: …]`."""
    shown = f"{option.default:g}" if isinstance(option.default, float) else option.default
    facts = (
        "repeatable" if option.repeatable else "",
        f"env var: {option.variable}{', one a line' if option.spaced else ''}" if option.variable else "",
        f"default: {shown}" if shown not in (None, False) else "",
    )
    told = "; ".join(filter(None, facts))
    return f"[{told}]" if told else ""
