"""What one command did, collected while it runs and told at its end: to people, to programs, to GitHub Actions."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from pipeline.cli import actions, human
from pipeline.core.deployment import ChangedLine, Deployment, Failure, Gitops, to_json
from pipeline.core.links import line_page
from pipeline.core.moment import rfc3339
from pipeline.core.summary import LIMIT, markdown
from pipeline.core.wording import short, visible, web_url
from pipeline.errors import PipelineError, Unreachable

_PROGRAM = "openeg-deploy"
_FINDINGS = 1
_ENTERED = {field.name for field in fields(Deployment)} - {"command", "error", "seconds"}


class Report:
    """The record of one command. Steps return values; the command line enters them here with `update`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        json: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`environ` says whether GitHub Actions listens, and where its files are."""
        self.command: str | None = None
        """None until a command has begun."""
        self.json = json
        self.diff = ""
        """The change as a unified diff."""
        self.content: bytes | None = None
        """What goes to standard output as it is, where no JSON is asked for."""
        self.untold: set[str] = set()
        """Who refused to be told of this deployment, and is asked no more."""
        self._announced = False
        self._followed: Gitops | None = None
        """What an earlier command has published, and told of."""
        self._environ = environ
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._clock = clock
        self._now = now
        self._began = clock()
        self._fields: dict[str, Any] = {"outcome": "reported", "started": rfc3339(now())}
        self._seconds: dict[str, float] = {}
        self._failures: list[Failure] = []
        self._code = 0

    @property
    def deployment(self) -> Deployment:
        """The record as it stands."""
        seconds = {**self._seconds, "total": self._clock() - self._began}
        return Deployment(
            command=self.command or _PROGRAM,
            error=self._failures[0] if self._failures else None,
            seconds={name: round(value, 3) for name, value in seconds.items()},
            **self._fields,
        )

    def update(self, **values: Any) -> None:
        """Enter fields of `Deployment`; later values replace earlier ones."""
        unknown = values.keys() - _ENTERED
        if unknown:
            raise TypeError(f"not fields to enter: {', '.join(sorted(unknown))}")
        self._fields |= values

    def follow(self, earlier: Deployment) -> None:
        """Go on from an earlier command's result: all it knows stays true, but its outcome and error were its own."""
        known = {name: getattr(earlier, name) for name in _ENTERED - {"outcome", "schema", "finished"}}
        self._fields |= {name: value for name, value in known.items() if value not in (None, ())}
        self._followed = earlier.gitops
        self._seconds = dict(earlier.seconds or {})
        self._began -= self._seconds.pop("total", 0.0)

    def edited(self, changed: tuple[ChangedLine, ...], *, planned: bool) -> None:
        """Enter a change of local files."""
        self.update(
            outcome="unchanged" if not changed else "planned" if planned else "edited",
            gitops=Gitops(repository=".", changed=changed) if changed else None,
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the seconds of a stage; a stage that is entered again adds up."""
        began = self._clock()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + self._clock() - began

    def fail(self, error: PipelineError) -> None:
        """Enter an error. The first decides outcome and exit code, so that a later rollback cannot hide it."""
        self._fail(Failure(class_=type(error).__name__, message=str(error), remedy=error.remedy), error.exit_code)
        if len(self._failures) == 1:
            self.update(outcome=error.outcome)

    def advise(self, remedy: str) -> None:
        """Replace what the first error advises, when more has been done about it."""
        self._failures[0] = replace(self._failures[0], remedy=remedy)

    def interrupted(self, code: int) -> None:
        """Enter that a signal ended the command; `code` is 130 or 143."""
        self._fail(
            Failure(
                class_="Interrupted" if code == 130 else "Terminated",
                message="stopped by a signal before it was done",
                remedy="Run the command again: what was done already is found and kept.",
            ),
            code,
        )
        self.update(outcome="failed")

    def _fail(self, failure: Failure, code: int) -> None:
        self._failures.append(failure)
        self._code = self._code or code

    def finish(self) -> int:
        """Write the result everywhere it belongs, and return the exit code."""
        self.stamp()
        deployment = self.deployment
        document = to_json(deployment)
        self._append("GITHUB_OUTPUT", lambda _room: actions.outputs({**document, "json": document}))
        if self._failures or _has_content(deployment):
            self._append("GITHUB_STEP_SUMMARY", lambda room: markdown(deployment, self.diff, limit=room))
        if not self._announced:
            self._print(deployment)
        if self._in_actions:
            self._note(deployment)
        for failure in self._failures:
            self._complain(failure)
        return self._code or (_FINDINGS if deployment.outcome == "findings" else 0)

    def stamp(self) -> None:
        """Enter that this is the end, as far as one knows."""
        self.update(finished=rfc3339(self._now()))

    def announce(self, text: str) -> None:
        """Tell the result now, before a command that ends with a signal alone; `text` is for people."""
        self.content = text.encode()
        self._print(self.deployment)
        self._announced = True

    def _print(self, deployment: Deployment) -> None:
        try:
            if self.json:
                # The runner obeys `##[…]` even inside a line; in JSON the escape means the same.
                self._stdout.write(json.dumps(to_json(deployment), indent=2).replace("##[", "#\\u0023[") + "\n")
            elif self.content is not None:
                self._stdout.buffer.write(self.content)
            elif _has_content(deployment):
                self._stdout.write(self._for_people(deployment))
            self._stdout.flush()
        except OSError as error:
            self.unheard(error)

    def unheard(self, error: OSError) -> None:
        """Enter that standard output takes nothing, and write no more to it."""
        # The interpreter flushes once more at its end, and must not fail then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # else the reader, such as `head`, has what it wanted
            self.fail(Unreachable(f"standard output: {error.strerror}", remedy="Free space, or write elsewhere."))

    def _for_people(self, deployment: Deployment) -> str:
        colour = self._coloured(self._stdout)
        if deployment.outcome == "planned" and self.diff:
            # Off a terminal the very bytes, so that `git apply` can read them.
            text = human.coloured_diff(self.diff) if colour else self.diff
        else:
            text = human.result(deployment, colour=colour)
        encoding = self._stdout.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        return actions.harmless(text) if self._in_actions else text

    def _note(self, deployment: Deployment) -> None:
        """Have each line that this very command changed in the GitOps repository on the run's page, with a link."""
        undone = deployment.rollback.gitops if deployment.rollback else None
        for gitops in (deployment.gitops, undone):
            if gitops is None or gitops == self._followed or deployment.outcome == "planned":
                continue
            revision = gitops.revision or (gitops.pull_request.head if gitops.pull_request else None)
            for line in gitops.changed if revision else ():
                place = f"{line.file}:{line.line}"
                page = web_url(line_page(gitops.repository, revision, line.file, line.line))
                text = f"{line.name} {short(line.old)} → {short(line.new)}{f' {page}' if page else ''}"
                print(actions.annotation(visible(place), visible(text), "notice"), file=self._stderr, flush=True)

    def _complain(self, failure: Failure) -> None:
        message, remedy = visible(failure.message), visible(failure.remedy)
        if self._in_actions:
            text = actions.annotation(f"{self.command or _PROGRAM}: {failure.class_}", f"{message}\n{remedy}")
        else:
            error = human.paint("error:", human.RED) if self._coloured(self._stderr) else "error:"
            text = f"{error} {message}\n{remedy}"
        print(text, file=self._stderr, flush=True)

    def _append(self, variable: str, render: Callable[[int], str]) -> None:
        """Append to one of the runner's files; where that fails, the deployment is no worse for it."""
        if not self._environ.get(variable):
            return
        file = Path(self._environ[variable])
        try:
            room = LIMIT - (file.stat().st_size if file.exists() else 0)
            with file.open("a", encoding="utf-8", errors="backslashreplace", newline="") as stream:
                stream.write(render(room))
        except OSError as error:
            print(f"{variable}: {file}: {error.strerror}", file=self._stderr)

    @property
    def _in_actions(self) -> bool:
        return self._environ.get("GITHUB_ACTIONS") == "true"

    @property
    def coloured(self) -> bool:
        """Whether text for standard output may have colours."""
        return self._coloured(self._stdout)

    def _coloured(self, stream: TextIO) -> bool:
        return stream.isatty() and not self._environ.get("NO_COLOR") and self._environ.get("TERM") != "dumb"


def _has_content(deployment: Deployment) -> bool:
    """Whether there is more to tell than an error, which has its own place."""
    return bool(deployment.images or deployment.gitops or deployment.rollout)
