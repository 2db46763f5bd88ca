"""A value that must never be shown."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """Holds a token, or what gets the one of now. `str`, `repr` and formatting give `***`; only `reveal()` tells it."""

    _value: str | Callable[[], str] = field(repr=False)

    def reveal(self) -> str:
        """The value itself, for the one line that hands it to the other side."""
        return self._value if isinstance(self._value, str) else self._value()

    @property
    def renewed(self) -> bool:
        """Whether the value runs out and is renewed, so that it must be asked for at each use."""
        return not isinstance(self._value, str)

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._value)
