"""The sandbox's clock: one thread that does what is due, and the one lock that guards the sandbox's state."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class Timeline:
    """Runs actions at their time, one after the other, holding `lock`.

    Whoever reads or changes the sandbox's state from another thread takes the same lock.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._wake = threading.Condition(self.lock)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="sandbox-timeline")
        self._thread.start()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do `action` in `seconds` from now; actions due at the same time keep their order."""
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))
            self._wake.notify()

    def close(self) -> None:
        """Forget what is still due and end the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._wake:
            while not self._closed:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is None or wait > 0:
                    self._wake.wait(wait)
                else:
                    heapq.heappop(self._due)[2]()
