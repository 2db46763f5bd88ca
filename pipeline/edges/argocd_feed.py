"""What an Argo CD reports of some applications, as one queue of events, whatever the network does."""

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pipeline.core.argocd import MISSHAPEN, Down, Event, Grown, Lost, Seen, State, Tree, Up, parse_state, parse_tree
from pipeline.errors import ApplicationNotFound, ArgoCDDenied, NotArgoCD, PipelineError, Unreachable

TREE_STREAMS = 10
"""Trees followed over a stream; more are polled. Each stream costs the server a connection and a watch."""
REFRESHES = 16
"""Refreshes that wait for their answer at once."""
CONNECTIONS = TREE_STREAMS + REFRESHES + 4
POLL_SECONDS = 2.0
"""Between two looks while the stream is not to be had, and at trees that have no stream."""
CHECK_SECONDS = 5.0
"""Between two looks beside a stream that runs: a proxy may hold its bytes back, and Argo CD may lose an event between
the list and the watch that it makes a stream of."""
BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)


class Stream(Protocol):
    """The objects of a held connection."""

    def __iter__(self) -> Any:
        """Each object as it comes."""

    def shut(self) -> None:
        """End it from another thread."""


class Server(Protocol):
    """What the feed asks of Argo CD."""

    def get(self, application: str, *, refresh: bool = False) -> State:
        """One application; with `refresh`, only after Argo CD has looked at git."""

    def tree(self, application: str) -> Tree:
        """Its resource tree."""

    def applications(self, names: Sequence[str]) -> Stream:
        """The events of these applications, maybe of others too."""

    def trees(self, application: str) -> Stream:
        """The resource tree of one application at each change."""


class Feed:
    """Threads that put events into a queue.

    One holds the applications' stream. One asks for each application by itself: at first to learn whether it exists
    (the stream of an unknown one hangs), then now and then to see whether the stream tells all, and often while there
    is no stream. A few wait for refreshes, and each followed tree has its own.
    """

    def __init__(self, server: Server, applications: Sequence[str]) -> None:
        self._server = server
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._names = dict.fromkeys(applications)
        self._latest: dict[str, State] = {}
        self._trees: dict[str, bool] = {}
        """The applications whose tree is followed, and whether over a stream."""
        self._streams: dict[str, Stream] = {}
        """What is open now, by application; the applications' own stream has no name."""
        self._refreshes: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._poll_now = threading.Event()
        self._streaming = False
        self._answering = True
        self._refused: set[str] = set()
        self._refreshers = min(REFRESHES, len(self._names))
        self._main = [self._run(self._hold_applications), self._run(self._poll)]
        for _ in range(self._refreshers):
            self._run(self._refresh)

    def next(self, seconds: float) -> Event | None:
        """The next event, or None when there was none for so long."""
        try:
            return self._queue.get(timeout=min(seconds, threading.TIMEOUT_MAX))
        except queue.Empty:
            return None

    def refresh(self, application: str) -> None:
        """Let Argo CD look at git now; returns at once, the answer comes as an event."""
        self._refreshes.put(application)

    def follow(self, application: str) -> None:
        """Report the resource tree too."""
        with self._lock:
            if application in self._trees or application not in self._names:
                return
            streamed = sum(self._trees.values()) < TREE_STREAMS
            self._trees[application] = streamed
        if streamed:
            self._run(self._hold_tree, application)
        else:
            self._poll_now.set()

    def drop(self, application: str) -> None:
        """Report nothing more of this application."""
        with self._lock:
            self._names.pop(application, None)
            self._trees.pop(application, None)
            stream = self._streams.pop(application, None)
        if stream:
            stream.shut()

    def close(self) -> None:
        """End all connections. What Argo CD has not answered yet is left to its own end."""
        self._closed.set()
        self._poll_now.set()
        for _ in range(self._refreshers):
            self._refreshes.put(None)
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.shut()
        for thread in self._main:
            thread.join(timeout=0.1)

    def _run(self, work: Callable[..., None], *arguments: str) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001 -- a thread that ends unheard would leave the wait to guess
                self._answering = False
                self._queue.put(Down(NotArgoCD(f"Argo CD's answers cannot be understood: {error!r}")))

        thread = threading.Thread(target=guarded, daemon=True, name=f"argocd{work.__name__}")
        thread.start()
        return thread

    # streams

    def _hold_applications(self) -> None:
        failures = 0
        while not self._closed.is_set():
            told = self._read("", lambda: self._server.applications(tuple(self._names)), self._take)
            self._streaming = False
            self._poll_now.set()
            failures = 0 if told else failures + 1
            self._closed.wait(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])

    def _hold_tree(self, application: str) -> None:
        failures = 0
        while application in self._trees and not self._closed.is_set():
            if failures == len(BACKOFF_SECONDS):
                with self._lock:
                    self._trees[application] = False
                self._poll_now.set()
                return
            told = self._read(
                application,
                lambda: self._server.trees(application),
                lambda tree: self._queue.put(Grown(application, parse_tree(tree))),
            )
            failures = 0 if told else failures + 1
            self._closed.wait(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])

    def _read(self, key: str, connect: Callable[[], Stream], take: Callable[[Mapping[str, Any]], None]) -> bool:
        """Hand on what one stream tells until it ends or breaks; whether it told anything."""
        told = False
        with contextlib.suppress(PipelineError, *MISSHAPEN):
            stream = connect()
            with self._lock:
                self._streams[key] = stream
            if self._closed.is_set() or (key and key not in self._trees):
                stream.shut()
            for item in stream:
                take(item)
                told = True
        with self._lock:
            self._streams.pop(key, None)
        return told

    def _take(self, event: Mapping[str, Any]) -> None:
        self._streaming = True
        state = parse_state(event.get("application") or {})
        if state.name not in self._names:
            return
        if event.get("type") == "DELETED":
            self._lose(state.name, ApplicationNotFound(f"{state.name}: the application was deleted meanwhile"))
        else:
            self._see(state)

    # plain questions

    def _poll(self) -> None:
        while not self._closed.is_set():
            self._poll_now.clear()
            for name in tuple(self._names):
                if self._closed.is_set() or not self._ask(name):
                    break
            polled = [name for name, streamed in tuple(self._trees.items()) if not streamed]
            for name in polled:
                with contextlib.suppress(PipelineError):
                    self._queue.put(Grown(name, self._server.tree(name)))
            often = not self._streaming or polled or self._refused
            self._poll_now.wait(max(POLL_SECONDS if often else CHECK_SECONDS, len(self._names) * 0.05))

    def _ask(self, name: str) -> bool:
        """Ask for one application; False when Argo CD does not answer."""
        try:
            state = self._server.get(name)
        except (ApplicationNotFound, ArgoCDDenied) as error:
            # A server that just restarted may refuse what it allowed before: such a refusal must be heard twice.
            if name in self._latest and name not in self._refused:
                self._refused.add(name)
            else:
                self._lose(name, error)
        except Unreachable as error:
            if self._answering:
                self._answering = False
                self._queue.put(Down(error))
            return False
        else:
            self._refused.discard(name)
            known = name in self._latest
            if self._see(state) and known:
                self._streaming = False  # the stream lags behind: poll until it tells something again
        if not self._answering:
            self._answering = True
            self._queue.put(Up())
        return True

    def _refresh(self) -> None:
        while name := self._refreshes.get():
            if self._closed.is_set():
                return
            with contextlib.suppress(PipelineError):
                self._see(self._server.get(name, refresh=True), refreshed=True)

    def _see(self, state: State, *, refreshed: bool = False) -> bool:
        """Report a state, unless it is known or older than what is known; whether it was news."""
        with self._lock:
            if state.name not in self._names:
                return False
            last = self._latest.get(state.name)
            news = last is None or last.uid != state.uid or state.version > last.version
            if news:
                self._latest[state.name] = state
            if news or refreshed:
                self._queue.put(Seen(self._latest[state.name], refreshed))
        return news

    def _lose(self, name: str, error: ApplicationNotFound | ArgoCDDenied) -> None:
        self._queue.put(Lost(name, error))
        self.drop(name)
