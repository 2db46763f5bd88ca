"""Moments that people give: `2026-11-24`, `2026-11-24T16:20Z`, or an age such as `7d`."""

import re
from datetime import UTC, datetime, timedelta

from pipeline.errors import UsageError

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str, flag: str, now: datetime) -> datetime:
    """The moment that `text` names, with its zone (UTC where it names none). Raises UsageError, which names `flag`.

    >>> parse_moment("2d", "--since", datetime(2026, 11, 24, tzinfo=UTC)).isoformat()
    '2026-11-22T00:00:00+00:00'
    """
    age = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip(), re.ASCII)
    try:
        if age:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise UsageError(
            f"{flag} {text!r} is no moment", remedy="Write 2026-11-24, 2026-11-24T16:20Z, or an age: 30m, 12h, 7d, 2w."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def rfc3339(moment: datetime) -> str:
    """`2026-11-24T16:20:00Z`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
