"""Look at everything that a deployment needs, to the end: one thing that is wrong hides no other."""

from collections.abc import Callable
from typing import TypeVar

from pipeline.core.check import Check, CheckedItem, Finding, problem, unknown
from pipeline.core.progress import Progress
from pipeline.errors import PipelineError

T = TypeVar("T")


class Checklist:
    """What was looked at so far."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._items: list[CheckedItem] = []

    def look(
        self, name: str, ask: Callable[[], T], tell: Callable[[T], Finding], *, needs: tuple[str, ...] = ()
    ) -> T | None:
        """Enter what `tell` makes of the answer, which is returned; None where there is none.

        An error that `ask` raises is a problem with its own remedy. Where one of `needs` has a problem or was not
        looked at, nothing is asked.
        """
        lacking = next((need for need in needs if not self._is_known(need)), None)
        answer: T | None = None
        if lacking:
            finding = unknown(f"not looked at: it needs {lacking}")
        else:
            self._progress.say(f"Looking at {name}")
            try:
                answer = ask()
                finding = tell(answer)
            except PipelineError as error:
                finding = problem(str(error), error.remedy)
            except ModuleNotFoundError as error:
                finding = problem(
                    f"the Python package {error.name!r} is missing",
                    "Install the package with all extras: pip install 'openeg-deploy[all]'.",
                )
        self._items.append(CheckedItem(name=name, state=finding.state, message=finding.message, remedy=finding.remedy))
        return answer

    def result(self) -> Check:
        """All of it."""
        states = [item.state for item in self._items]
        return Check(problems=states.count("problem"), unknown=states.count("unknown"), items=tuple(self._items))

    def _is_known(self, name: str) -> bool:
        return any(item.name == name and item.state == "ok" for item in self._items)
