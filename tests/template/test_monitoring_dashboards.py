"""Grafana's dashboards and data sources, held against its published types and against the stack."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.template import monitoring
from tests.template.monitoring import HOME, rendered


def test_dashboards_are_what_grafana_s_published_types_say() -> None:
    """Read into Grafana's own types and written again; a key that is lost is none of theirs."""
    register_default_plugins()
    for name, dashboard in monitoring.dashboards().items():
        again = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
        assert list(_lost(dashboard, again)) == [], name


# Prometheus's annotations carry these beside the query (Grafana's types leave such extras to each data source), and a
# text box has no more than them.
_EXTRAS = re.compile(r"annotations\.list\.\d+\.(step|titleFormat|textFormat|tagKeys)")


def _lost(given: Any, again: Any, path: str = "") -> Iterator[str]:
    if isinstance(given, dict) and isinstance(again, dict):
        for key, value in given.items():
            below = f"{path}.{key}".lstrip(".")
            if key in again:
                yield from _lost(value, again[key], below)
            elif not _EXTRAS.fullmatch(below) and value is not None:
                yield below
    elif isinstance(given, list) and isinstance(again, list) and len(given) == len(again):
        for number, (one, other) in enumerate(zip(given, again, strict=True)):
            yield from _lost(one, other, f"{path}.{number}")
    elif given != again:
        yield f"{path}: {given!r} became {again!r}"


def test_dashboards_are_told_apart_and_name_data_sources_that_there_are() -> None:
    found = monitoring.dashboards()
    titles = {"System overview", "Services", "Nodes", "Deployments", "Logs"}
    assert {dashboard["title"] for dashboard in found.values()} == titles
    assert len({dashboard["uid"] for dashboard in found.values()}) == len(titles)
    sources = {source["uid"]: source["type"] for source in _datasources()}
    named_there = {(item["uid"], item["type"]) for dashboard in found.values() for item in _references(dashboard)}
    assert named_there == {("prometheus", "prometheus"), ("loki", "loki")}
    assert named_there == set(sources.items())


def _datasources() -> list[Any]:
    return list(monitoring.load(HOME / "grafana/provisioning/datasources.yaml")["datasources"])


def _references(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "datasource" in value:
            yield value["datasource"]
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _references(item)


def test_data_sources_are_services_of_the_stack() -> None:
    services = {item["metadata"]["name"]: item["spec"] for item in rendered() if item["kind"] == "Service"}
    for source in _datasources():
        url = urllib.parse.urlsplit(source["url"])
        assert url.port == services[str(url.hostname)]["ports"][0]["port"]


def test_panels_have_places_and_queries_of_their_own() -> None:
    for name, dashboard in monitoring.dashboards().items():
        every = list(monitoring.panels(dashboard))
        assert len({panel["id"] for panel in every}) == len(every), name
        taken: set[tuple[int, int]] = set()
        for panel in every:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{name}: {panel['title']} lies on another"
            taken |= cells
            assert panel["type"] == "row" or panel["targets"]


def test_variables_that_queries_name_are_defined() -> None:
    for name, dashboard in monitoring.dashboards().items():
        defined = {variable["name"] for variable in dashboard["templating"]["list"]}
        named_there = set(re.findall(r"\$([a-z]\w+)", json.dumps(dashboard)))
        assert named_there - {"__rate_interval", "__auto", "__all"} <= defined, name
        assert defined <= named_there, name


def test_deployments_are_marked_with_their_commits() -> None:
    (marks, failures) = monitoring.dashboards()["deployments.json"]["annotations"]["list"]
    assert marks["expr"].startswith("namespace_container_commit:arrived:count{")
    assert re.search(r'href="https://github.com/openeg/\{\{container\}\}/commit/\{\{commit\}\}"', marks["textFormat"])
    assert "SyncFailed" in failures["expr"]
