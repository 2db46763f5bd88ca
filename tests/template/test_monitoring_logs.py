"""Loki and the log collector, judged by their own programs where these are installed."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.template import monitoring
from tests.template.monitoring import HOME, named, rendered


def test_loki_accepts_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "loki.yaml"
    path.write_text(named(rendered(), "ConfigMap", "loki")["data"]["loki.yaml"].replace("/loki", str(tmp_path)))
    command = [monitoring.installed("loki"), f"-config.file={path}", "-verify-config"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path.write_text(path.read_text().replace("retention_period", "retention_perod"))
    assert subprocess.run(command, capture_output=True, text=True).returncode != 0


def test_loki_deletes_what_is_old() -> None:
    config = monitoring.load(HOME / "loki/loki.yaml")
    assert config["compactor"]["retention_enabled"]
    assert config["compactor"]["delete_request_store"] == config["schema_config"]["configs"][0]["object_store"]
    hours = int(config["limits_config"]["retention_period"].removesuffix("h"))
    assert hours % 24 == 0, "whole index periods"


@pytest.fixture
def loki(tmp_path: Path) -> Iterator[str]:
    """Loki with the template's configuration, on free ports of this machine; its address."""
    http, grpc = monitoring.free_ports(2)
    config = named(rendered(), "ConfigMap", "loki")["data"]["loki.yaml"].replace("/loki", str(tmp_path / "data"))
    config = config.replace("3100", f"{http}\n  http_listen_address: 127.0.0.1")
    config = config.replace("9095", f"{grpc}\n  grpc_listen_address: 127.0.0.1")
    (tmp_path / "loki.yaml").write_text(config)
    address = f"http://127.0.0.1:{http}"
    with monitoring.running(
        f"{address}/ready", tmp_path, monitoring.installed("loki"), f"-config.file={tmp_path / 'loki.yaml'}"
    ):
        yield address


def test_loki_answers_the_dashboards_queries(loki: str) -> None:
    now = time.time_ns()
    labels = {"namespace": "x", "app": "x", "pod": "x-1", "container": "x", "node": "x"}
    body = json.dumps({"streams": [{"stream": labels, "values": [[str(now), "x: an error"]]}]}).encode()
    push = urllib.request.Request(f"{loki}/loki/api/v1/push", data=body, headers={"Content-Type": "application/json"})
    assert urllib.request.urlopen(push, timeout=10).status == 204
    found = monitoring.queries("loki")
    assert len(found) == 3
    for where, expression in found.items():
        asked = {"query": monitoring.filled_in(expression), "start": str(now - 10**9), "end": str(now + 60 * 10**9)}
        url = f"{loki}/loki/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        try:
            answer = json.load(urllib.request.urlopen(url, timeout=10))
        except urllib.error.HTTPError as refused:
            pytest.fail(f"{where}: {refused.read().decode()}")
        assert answer["data"]["result"], where


def test_promtail_accepts_its_configuration() -> None:
    command = [monitoring.installed("promtail"), f"-config.file={HOME / 'promtail/promtail.yaml'}", "-check-syntax"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_promtail_has_of_prometheus_is_accepted_by_promtool(tmp_path: Path) -> None:
    """How it finds pods and names their labels is written, and read, as in a scrape configuration."""
    (job,) = monitoring.load(HOME / "promtail/promtail.yaml")["scrape_configs"]
    assert job.pop("pipeline_stages") == [{"cri": {}}]
    (tmp_path / "prometheus.yaml").write_text(json.dumps({"scrape_configs": [job]}))
    command = [monitoring.program("promtool"), "check", "config", str(tmp_path / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
