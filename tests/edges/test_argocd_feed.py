"""What Argo CD reports, over networks that cut, hang and hold back."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from pipeline.core.argocd import Down, Event, Grown, Lost, Seen, Up
from pipeline.core.secret import Secret
from pipeline.edges import argocd_feed
from pipeline.edges.argocd import connect
from pipeline.errors import ApplicationNotFound, ArgoCDDenied, NotArgoCD
from tests.argocd_shapes import application, pod, tree
from tests.edges.scripted_server import Exchange, Scripted, scripted

STREAM = "/api/v1/stream/applications"
Kind = TypeVar("Kind", bound=Event)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argocd_feed, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(argocd_feed, "CHECK_SECONDS", 0.3)
    monkeypatch.setattr(argocd_feed, "BACKOFF_SECONDS", (0.02, 0.05))


class World:
    """A scripted Argo CD: its applications by name, and how its streams behave."""

    def __init__(self, server: Scripted) -> None:
        self.server = server
        self.apps: dict[str, Any] = {}
        self.changed = threading.Condition()
        self.streams = 0
        server.otherwise = self.route
        server.routes[STREAM] = self.stream

    def set(self, name: str = "demo", **state: Any) -> None:
        """A new state of an application, newer than the last."""
        with self.changed:
            version = int(self.apps[name]["metadata"]["resourceVersion"]) + 1 if name in self.apps else 1
            self.apps[name] = application(name=name, version=version, **state)
            self.changed.notify_all()

    def route(self, exchange: Exchange) -> None:
        name, _, rest = exchange.path.partition("?")[0].removeprefix("/api/v1/applications/").partition("/")
        if name not in self.apps:
            exchange.answer(403, {"code": 7, "message": "permission denied"})
        elif rest == "resource-tree":
            exchange.answer(200, tree(pod()))
        else:
            exchange.answer(200, self.apps[name])

    def stream(self, exchange: Exchange) -> None:
        self.streams += 1
        exchange.stream(self.events())

    def events(self, limit: float = 30) -> Iterator[Any]:
        """The present state, then each change, for so many seconds at most."""
        sent: dict[str, Any] = {}
        end = time.monotonic() + limit
        while (left := end - time.monotonic()) > 0 and not self.server.ended.is_set():
            with self.changed:
                news = {name: app for name, app in self.apps.items() if sent.get(name) is not app}
                if not news:
                    self.changed.wait(min(left, 0.05))
            for name, app in news.items():
                yield {"type": "MODIFIED" if name in sent else "ADDED", "application": app}
            sent.update(news)


@pytest.fixture
def world() -> Iterator[World]:
    with scripted() as server:
        made = World(server)
        made.set()
        yield made


@pytest.fixture
def watch(world: World) -> Iterator[Callable[..., argocd_feed.Feed]]:
    with ExitStack() as stack:
        yield lambda *names, **options: stack.enter_context(
            connect(world.server.url, Secret("t"), **options).watch(names or ("demo",))
        )


Watch = Callable[..., argocd_feed.Feed]


def until(feed: argocd_feed.Feed, kind: type[Kind], wanted: Callable[[Kind], bool] = lambda _: True) -> Kind:
    """The next event of that kind, others passed over; fails when it does not come."""
    for _ in range(200):
        event = feed.next(5)
        assert event is not None, f"no {kind.__name__} came"
        if isinstance(event, kind) and wanted(event):
            return event
    raise AssertionError(f"no {kind.__name__} among 200 events")


def health(wanted: str) -> Callable[[Seen], bool]:
    return lambda event: event.state.health == wanted


def test_the_present_state_comes_first_then_each_change(world: World, watch: Watch) -> None:
    feed = watch()
    assert until(feed, Seen).state.version == 1
    world.set(health="Progressing")
    assert until(feed, Seen, health("Progressing")).state.version == 2


def test_one_application_is_filtered_by_the_server_several_by_us(world: World, watch: Watch) -> None:
    world.set("other")
    world.set("stranger")
    until(watch("demo"), Seen)
    several = watch("demo", "other", project="p")
    assert {until(several, Seen).state.name for _ in range(2)} == {"demo", "other"}
    assert several.next(0.2) is None
    queries = [asked.query for asked in world.server.requests if asked.path.startswith(STREAM)]
    assert {"name": "demo"} in queries
    assert {"projects": "p", "project": "p"} in queries


def test_a_cut_stream_is_opened_again_and_nothing_is_lost(world: World, watch: Watch) -> None:
    world.server.routes[STREAM] = lambda exchange: exchange.stream(world.events(0.1))
    feed = watch()
    for at, state in enumerate(("Progressing", "Degraded", "Healthy", "Missing")):
        world.set(health=state)
        assert until(feed, Seen, health(state)).state.version == at + 2
        time.sleep(0.12)
    assert sum(asked.path.startswith(STREAM) for asked in world.server.requests) >= 3


@pytest.mark.parametrize(
    "stream",
    [
        lambda exchange: exchange.answer(501, {"error": {"http_code": 501, "message": "not to be had"}}),
        lambda exchange: exchange.answer(404, "<h1>nginx</h1>"),
        lambda exchange: exchange.answer(401, {"error": {"grpc_code": 16, "message": "x"}}),
        lambda exchange: exchange.hang(),
        lambda exchange: exchange.stream(iter([])),
    ],
    ids=["refused", "not found", "denied", "hangs", "ends at once"],
)
def test_without_a_stream_the_applications_are_polled(world: World, watch: Watch, stream: Any) -> None:
    world.server.routes[STREAM] = stream
    feed = watch()
    until(feed, Seen)
    world.set(health="Degraded")
    until(feed, Seen, health("Degraded"))


def test_a_stream_that_a_proxy_holds_back_is_noticed(world: World, watch: Watch) -> None:
    """The first event passes, and then nothing: a plain question shows the change."""

    def held_back(exchange: Exchange) -> None:
        def events() -> Iterator[Any]:
            yield next(world.events())
            exchange.server.ended.wait(30)

        exchange.stream(events())

    world.server.routes[STREAM] = held_back
    feed = watch()
    until(feed, Seen)
    for state in ("Progressing", "Degraded"):
        world.set(health=state)
        until(feed, Seen, health(state))


def test_an_unknown_application_is_lost_at_once_though_its_stream_hangs(world: World, watch: Watch) -> None:
    world.server.routes[STREAM] = lambda exchange: exchange.hang()
    lost = until(watch("nobody"), Lost)
    assert isinstance(lost.error, ArgoCDDenied)
    assert "does not exist" in str(lost.error)


def test_an_application_that_is_deleted_is_lost(world: World, watch: Watch) -> None:
    gone = [{"type": "ADDED", "application": application()}, {"type": "DELETED", "application": application()}]
    world.server.routes[STREAM] = lambda exchange: exchange.stream(iter(gone))
    lost = until(watch(), Lost)
    assert isinstance(lost.error, ApplicationNotFound)
    assert "deleted" in str(lost.error)


def test_a_refusal_of_what_was_allowed_before_must_be_heard_twice(world: World, watch: Watch) -> None:
    world.server.routes[STREAM] = lambda exchange: exchange.answer(501, {})
    feed = watch()
    until(feed, Seen)
    answers = iter([403])

    def once(exchange: Exchange) -> None:
        if next(answers, None):
            exchange.answer(403, {"code": 7, "message": "permission denied"})
        else:
            world.route(exchange)

    world.server.routes["/api/v1/applications/demo"] = once
    time.sleep(0.3)
    world.set(health="Degraded")
    until(feed, Seen, health("Degraded"))
    del world.apps["demo"]
    until(feed, Lost)


def test_an_older_state_never_follows_a_newer_one(world: World, watch: Watch) -> None:
    old = application(version=1, health="Progressing")
    events = [{"type": "ADDED", "application": application(version=7)}, {"type": "MODIFIED", "application": old}]
    world.apps["demo"] = old
    world.server.routes["/api/v1/applications/demo"] = lambda exchange: exchange.hang()
    world.server.routes[STREAM] = lambda exchange: exchange.stream(iter(events))
    feed = watch()
    assert until(feed, Seen).state.version == 7
    assert feed.next(0.3) is None


def test_a_restart_of_the_server_is_survived(watch: Watch, world: World) -> None:
    feed = watch()
    until(feed, Seen)
    world.server.routes[STREAM] = lambda exchange: exchange.answer(503, "restarting")
    world.server.otherwise = lambda exchange: exchange.answer(503, "restarting")
    world.server.ended.set()  # ends the stream that is open
    silent = until(feed, Down)
    assert "answers 503: restarting" in str(silent.error)
    world.server.ended.clear()
    world.server.otherwise = world.route
    world.server.routes[STREAM] = world.stream
    until(feed, Up)
    world.set(health="Degraded")
    until(feed, Seen, health("Degraded"))


@pytest.mark.parametrize("nonsense", [[1], {"metadata": {"name": ["a"]}}, {"status": 1}, "x"])
def test_nonsense_on_a_stream_is_polled_past(world: World, watch: Watch, nonsense: Any) -> None:
    world.server.routes[STREAM] = lambda exchange: exchange.stream(iter([{"type": "ADDED", "application": nonsense}]))
    world.server.routes[f"{STREAM}/demo/resource-tree"] = lambda exchange: exchange.stream(iter([{"nodes": nonsense}]))
    feed = watch()
    feed.follow("demo")
    until(feed, Grown)
    world.set(health="Degraded")
    until(feed, Seen, health("Degraded"))


def test_answers_that_make_no_sense_are_told_until_they_do(world: World, watch: Watch) -> None:
    world.server.routes[STREAM] = lambda exchange: exchange.answer(501, {})
    right, world.apps["demo"] = world.apps["demo"], {"metadata": {"name": ["demo"]}}
    feed = watch()
    told = until(feed, Down).error
    assert isinstance(told, NotArgoCD)
    assert "cannot be understood: 'name' is not what it should be" in str(told)
    world.apps["demo"] = right
    until(feed, Up)


def test_a_thread_that_fails_is_heard() -> None:
    class Broken:
        def get(self, _name: str, **_: Any) -> Any:
            raise RuntimeError("nobody foresaw this")

        tree = applications = trees = get

    server: Any = Broken()
    feed = argocd_feed.Feed(server, ("demo",))
    try:
        assert "nobody foresaw this" in str(until(feed, Down).error)
    finally:
        feed.close()


def test_a_refresh_is_answered_by_an_event(world: World, watch: Watch) -> None:
    feed = watch()
    until(feed, Seen)
    feed.refresh("demo")
    assert until(feed, Seen, lambda event: event.refreshed).state.version == 1
    assert any(asked.query.get("refresh") == "normal" for asked in world.server.requests)


def test_a_refresh_that_blocks_holds_nothing_up(world: World, watch: Watch) -> None:
    def blocking(exchange: Exchange) -> None:
        if "refresh" in exchange.path:
            exchange.hang()
        else:
            world.route(exchange)

    world.server.routes["/api/v1/applications/demo"] = blocking
    feed = watch()
    feed.refresh("demo")
    until(feed, Seen)
    world.set(health="Degraded")
    until(feed, Seen, health("Degraded"))
    start = time.monotonic()
    feed.close()
    assert time.monotonic() - start < 2


def trees(world: World, names: list[str]) -> dict[str, int]:
    """How many streams of each application's tree were opened."""
    opened: dict[str, int] = {}

    def stream(exchange: Exchange) -> None:
        name = exchange.path.split("/")[5]
        opened[name] = opened.get(name, 0) + 1

        def whole() -> Iterator[Any]:
            yield tree(pod(name=f"pod-of-{name}"))
            exchange.server.ended.wait(30)

        exchange.stream(whole())

    for name in names:
        world.set(name)
        world.server.routes[f"{STREAM}/{name}/resource-tree"] = stream
    return opened


def test_trees_are_followed_over_ten_streams_and_the_rest_is_polled(world: World, watch: Watch) -> None:
    names = [f"app-{number}" for number in range(12)]
    opened = trees(world, names)
    feed = watch(*names)
    for name in names:
        feed.follow(name)
        feed.follow(name)
    missing = set(names)
    while missing:
        missing.discard(until(feed, Grown).application)
    assert (len(opened), max(opened.values())) == (10, 1)


def test_a_tree_whose_stream_is_not_to_be_had_is_polled(world: World, watch: Watch) -> None:
    world.server.routes[f"{STREAM}/demo/resource-tree"] = lambda exchange: exchange.answer(501, {})
    feed = watch()
    feed.follow("demo")
    for _ in range(2):
        assert [each.name for each in until(feed, Grown).tree.pods] == ["web-new"]


def test_what_is_dropped_is_not_reported_and_its_stream_is_shut(world: World, watch: Watch) -> None:
    trees(world, ["demo", "other"])
    feed = watch("demo", "other")
    feed.follow("demo")
    until(feed, Grown)
    feed.drop("demo")
    assert "demo" not in feed._streams
    world.set("demo", health="Degraded")
    world.set("other", health="Degraded")
    assert until(feed, Seen, health("Degraded")).state.name == "other"


def test_closing_ends_the_threads(world: World) -> None:
    before = set(threading.enumerate())
    with connect(world.server.url, Secret("t")).watch(["demo"]) as feed:
        until(feed, Seen)
        feed.follow("demo")
    deadline = time.monotonic() + 5
    while left := [each for each in set(threading.enumerate()) - before if each.name.startswith("argocd")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
