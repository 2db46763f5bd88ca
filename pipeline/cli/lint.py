"""`lint`: a GitOps repository held against the rules. Nothing is written anywhere."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.cli import actions, human
from pipeline.cli.flags import Run
from pipeline.core.progress import Progress
from pipeline.core.wording import visible
from pipeline.errors import NotFound

if TYPE_CHECKING:
    from pipeline.config import LintRules
    from pipeline.core.lint.report import Lint

_FORMATS = ("table", "json", "sarif", "github")
_MARK = {"error": human.RED, "warning": human.YELLOW}


def lint(run: Run) -> None:
    """Check a GitOps repository: images, secrets, Vault annotations, workloads, kustomizations, YAML."""
    form = run.choice("format", _FORMATS)
    run.report.json = run.report.json or form == "json"
    folder = Path(run.required("folder"))
    if not folder.is_dir():
        raise NotFound(f"{folder}: is not a folder", remedy="Name the folder of a GitOps repository.")
    rules = _rules(folder)
    with run.report.stage("lint"):
        result = _lint(folder, rules, run.progress)
    run.report.update(outcome="findings" if result.errors else "reported", lint=result)
    if form == "sarif":
        from pipeline.core.lint.report import sarif

        run.report.content = (json.dumps(sarif(result, __version__, _prefix(folder)), indent=2) + "\n").encode()
    elif form == "github":
        run.report.content = _workflow_commands(result, folder).encode(errors="replace")
    else:
        colour = run.report.coloured
        run.report.content = actions.harmless(_table(result, colour=colour)).encode(errors="replace")


def _rules(folder: Path) -> "LintRules":
    from pipeline.config import GitopsConfig, load

    file = folder / ".deploy" / "config.yaml"
    data = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
    return load(GitopsConfig, data, str(file)).lint


def _lint(folder: Path, rules: "LintRules", progress: Progress) -> "Lint":
    from pipeline.core.lint.report import lint_report
    from pipeline.edges import lint_world
    from pipeline.steps import lint as step

    root = folder.resolve()
    with lint_world.open_folder(root) as (files, left_out, outside):
        inputs = step.Inputs(files=files, registries=rules.registries, kv2_mounts=rules.kv2_mounts)
        linted = step.lint(inputs, outside, progress)
    skipped = (*left_out, *linted.skipped)
    return lint_report(str(folder), linted.findings, skipped, files=len(files), overlays=linted.overlays)


def _table(lint: "Lint", *, colour: bool) -> str:
    """The findings by file, then what was not checked, then one line that sums it up."""

    def paint(text: str, mark: str) -> str:
        return human.paint(text, mark) if colour else text

    lines: list[str] = []
    width = max((len(item.rule) for item in lint.findings), default=0)
    digits = max((len(str(item.line)) for item in lint.findings), default=0)
    file = None
    for item in lint.findings:
        if item.file != file:
            file = item.file
            lines.append(paint(_shown(file), human.BOLD))
        severity = paint(f"{item.severity:<7}", _MARK[item.severity])
        lines.append(f"  {item.line:>{digits}}  {severity}  {item.rule:<{width}}  {_shown(item.message)}")
    reasons: dict[str, list[str]] = {}
    for skipped in lint.skipped:
        what, _, why = skipped.partition(": ")
        reasons.setdefault(why, []).append(what)
    for why, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"{paint('not checked:', human.DIM)} {_shown(f'{names[0]}{more}: {why}')}")
    lines.append(paint(_summary(lint), human.RED if lint.errors else human.YELLOW if lint.warnings else human.GREEN))
    return "\n".join(lines) + "\n"


def _shown(text: str) -> str:
    """Foreign text on one line, without what a terminal would obey."""
    return visible(text).replace("\n", " ")


def _summary(lint: "Lint") -> str:
    looked_at = f"{_counted(lint.files, 'file')}, {_counted(lint.overlays, 'overlay')} rendered"
    if not lint.findings:
        return f"No findings: {looked_at}"
    files = len({item.file for item in lint.findings})
    found = f"{_counted(lint.errors, 'error')}, {_counted(lint.warnings, 'warning')}"
    return f"{found} in {_counted(files, 'file')}: {looked_at}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _prefix(folder: Path) -> str:
    """From where the command runs, as a rule the root of the work tree, to the linted folder."""
    inside = os.path.relpath(folder.resolve())
    return "" if inside == "." or inside.startswith("..") else f"{Path(inside).as_posix()}/"


def _workflow_commands(lint: "Lint", folder: Path) -> str:
    """One command a finding: they show at the line, in the change that is looked at."""
    prefix, commands = _prefix(folder), []
    for item in lint.findings:
        text, file = visible(f"{item.message}\n{item.page}"), visible(f"{prefix}{item.file}")
        commands.append(actions.annotation(item.rule, text, item.severity, file, item.line))
    return "".join(f"{line}\n" for line in (*commands, actions.harmless(_summary(lint))))
