"""What builders say of a failure, turned into errors: one place for the builders of both kinds."""

from collections import deque
from dataclasses import dataclass, field

from pipeline.errors import BuildFailed, PushFailed, RegistryDenied

_LAST_LINES = 20
_REFUSALS = ("401 Unauthorized", "403 Forbidden", "unauthorized", "denied", "no basic auth credentials")


@dataclass(slots=True)
class BuildStep:
    """An instruction under way, with the last lines that it wrote."""

    name: str
    output: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    def failed(self, error: str) -> BuildFailed:
        """The error that shows where the build ended, and on what."""
        return BuildFailed("\n  ".join((f"{self.name}: {error}", *self.output)))


def push_error(problem: str) -> RegistryDenied | PushFailed:
    """The error for a push that ended with `problem`: builders hand on the registry's words, not its codes."""
    return (RegistryDenied if any(word in problem for word in _REFUSALS) else PushFailed)(problem)
