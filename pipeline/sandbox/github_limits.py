"""GitHub's rate limits: requests an hour (primary), and requests that make content (secondary).

The figures are those of GitHub's documentation:
https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

_HOUR = 3600


@dataclass(slots=True)
class Limits:
    """How much one token may ask. Tests may lower what they want to reach."""

    requests_an_hour: int = 5000
    writes_a_minute: int = 80
    writes_an_hour: int = 500
    minute_seconds: float = 60
    """How long a minute lasts here."""


@dataclass(slots=True)
class Meter:
    """What one token has asked. Moments are seconds since 1970, as in GitHub's headers."""

    limits: Limits
    resource: str
    """`core` for REST, `graphql`."""
    writes: list[float]
    """When content was made: one list for all that the token does."""
    _reset: float = 0
    _used: int = 0

    def primary(self) -> bool:
        """Count a request; whether it is within the limit."""
        now = time.time()
        if now >= self._reset:
            self._reset, self._used = now + _HOUR, 0
        allowed = self._used < self.limits.requests_an_hour
        self._used += allowed
        return allowed

    def forget(self) -> None:
        """Take back one request: what has not changed costs nothing.

        https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
        """
        self._used -= 1

    def retry_after(self) -> float | None:
        """Count a request that makes content; None when it may pass, else the seconds until the next may."""
        now = time.time()
        self.writes[:] = [moment for moment in self.writes if moment > now - _HOUR]
        minute = self.limits.minute_seconds
        for most, seconds in ((self.limits.writes_a_minute, minute), (self.limits.writes_an_hour, _HOUR)):
            recent = [moment for moment in self.writes if moment > now - seconds]
            if len(recent) >= most:
                return recent[-most] + seconds - now
        self.writes.append(now)
        return None

    @property
    def headers(self) -> Mapping[str, str]:
        """What every answer tells."""
        return {
            "X-RateLimit-Limit": str(self.limits.requests_an_hour),
            "X-RateLimit-Remaining": str(self.limits.requests_an_hour - self._used),
            "X-RateLimit-Used": str(self._used),
            "X-RateLimit-Reset": str(int(self._reset) + 1),
            "X-RateLimit-Resource": self.resource,
        }
