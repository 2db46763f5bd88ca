"""A value that must never be shown."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """Holds a token. `str`, `repr` and formatting give `***`; only `reveal()` gives the value."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """The value itself, for the one line that hands it to the other side."""
        return self._value

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._value)
