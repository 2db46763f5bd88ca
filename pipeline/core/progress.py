"""How a step tells a person what is going on, without knowing whether a terminal or a log listens."""

from typing import Protocol


class Progress(Protocol):
    """Handed into every step. Progress is for people: it goes to standard error, results do not."""

    def say(self, text: str) -> None:
        """A milestone: one plain line, written once."""

    def show(self, key: str, state: str) -> None:
        """The present state of something that changes, such as an application or a layer being pushed.

        A terminal redraws `key` in place; a log gets a line only when `state` differs from the last one.
        An empty `state` takes the key away: it is over, and a milestone has told how.
        """


class Silent:
    """Progress that nobody watches."""

    def say(self, text: str) -> None:
        """Drop it."""

    def show(self, key: str, state: str) -> None:
        """Drop it."""
