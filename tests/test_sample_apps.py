"""The sample services, run as they run in a container: settings from files that `sh` loads, an end by SIGTERM."""

import hashlib
import hmac
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from pipeline.resources import folder
from tests import needs

APPS = folder("sample-apps")
STARTS = {"flask": "python app.py", "node": "node server.js", "webhook": "python app.py"}
SERVICES = {"flask": "flask-app", "node": "nodejs-server", "webhook": "webhook"}
SECRET = "it's a $ecret"
NAMES = ("MONGODB_URI", "MONGODB_USER", "REDIS_URL", "REDIS_PASSWORD")


@contextmanager
def running(name: str, tmp_path: Path, **environ: str) -> Iterator[tuple[HTTPConnection, subprocess.Popen[bytes]]]:
    """The service on a free port, with MongoDB's settings from a file and nothing of Redis."""
    program, _ = STARTS[name].split()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if shutil.which(program, path=path) is None:
        needs.missing(f"{program} is not installed")
    (tmp_path / "mongodb").write_text("export MONGODB_URI='mongodb://a:it'\\''s $x@b'\nexport MONGODB_USER='a b'\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["/bin/sh", "-c", f". {tmp_path}/mongodb && exec {STARTS[name]}"],
        cwd=APPS / name,
        env={"PATH": path, "PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1", **environ},
        stdout=(tmp_path / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connect(connection)
        yield connection, process
    finally:
        process.kill()
        process.wait()


@retry(retry=retry_if_exception_type(ConnectionRefusedError), stop=stop_after_delay(20), wait=wait_fixed(0.05))
def connect(connection: HTTPConnection) -> None:
    connection.connect()


def ask(
    connection: HTTPConnection, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[HTTPResponse, str]:
    connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
    response = connection.getresponse()
    return response, response.read().decode()


def samples(connection: HTTPConnection) -> dict[tuple[str, str, str, str], float]:
    """What /metrics counts: by service, method, path and status."""
    response, text = ask(connection, "/metrics")
    assert response.getheader("Content-Type", "").startswith("text/plain")
    labels = ("service", "method", "path", "status")
    return {
        tuple(sample.labels[label] for label in labels): sample.value  # type: ignore[misc]
        for family in parse(text)
        for sample in family.samples
        if sample.name == "http_requests_total"
    }


@pytest.mark.parametrize("name", STARTS)
def test_health_says_what_is_configured_and_never_its_value(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path) as (connection, _):
        response, text = ask(connection, "/health")
        assert response.status == 200
        for setting in NAMES:
            assert re.search(rf'"{setting}": ?{"true" if "MONGODB" in setting else "false"}', text), text
        answers = text + "".join(ask(connection, path)[1] for path in ("/", "/metrics", "/no"))
    assert "mongodb://" not in answers + (tmp_path / "log").read_text()


@pytest.mark.parametrize("name", STARTS)
def test_metrics_count_by_route_and_strangers_make_no_series(name: str, tmp_path: Path) -> None:
    service = SERVICES[name]
    with running(name, tmp_path) as (connection, _):
        for path in ("/health", "/health?x=1", "/secret/1", "/secret/2"):
            ask(connection, path)
        ask(connection, "/health", method="DELETE")
        assert samples(connection) == {
            (service, "GET", "/health", "200"): 2,
            (service, "other", "other", "404"): 2,
            (service, "other", "other", "405"): 1,
        }
        families = {family.name: family for family in parse(ask(connection, "/metrics")[1])}
    histogram = families["http_request_duration_seconds"]
    assert histogram.type == "histogram"
    buckets = [s.value for s in histogram.samples if s.name.endswith("_bucket") and s.labels["path"] == "/health"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 2  # +Inf: all of them


@pytest.mark.parametrize("name", STARTS)
def test_sigterm_ends_it_within_seconds(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path) as (connection, process):
        assert ask(connection, "/health")[0].status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0, (tmp_path / "log").read_text()


def signed(body: bytes, secret: str = SECRET) -> Mapping[str, str]:
    return {"X_Hub_Signature_256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def test_the_webhook_takes_what_is_signed_and_nothing_else(tmp_path: Path) -> None:
    body = b'{"action": "opened"}'
    with running("webhook", tmp_path, WEBHOOK_SECRET=SECRET) as (connection, _):

        def post(sent: bytes, headers: Mapping[str, str]) -> int:
            return ask(connection, "/webhook", "POST", sent, **headers)[0].status

        assert post(body, signed(body)) == 204
        assert post(body + b" ", signed(body)) == 401
        assert post(body, signed(body, "guessed")) == 401
        assert post(body, {}) == 401
        assert post(body, {"X_Hub_Signature_256": "sha256=é"}) == 401
        large = b"x" * (64 * 1024 + 1)
        assert post(large, signed(large)) == 413
    assert SECRET not in (tmp_path / "log").read_text()


def test_without_a_secret_the_webhook_takes_nothing(tmp_path: Path) -> None:
    with running("webhook", tmp_path) as (connection, _):
        response, text = ask(connection, "/webhook", "POST", b"{}", **signed(b"{}", ""))
    assert (response.status, "WEBHOOK_SECRET is not set" in text) == (503, True)


@pytest.mark.parametrize("name", ["flask", "webhook"])
def test_the_lock_has_what_is_asked_for_and_every_package_has_hashes(name: str) -> None:
    lock = (APPS / name / "requirements.txt").read_text()
    for line in (APPS / name / "requirements.in").read_text().split():
        assert f"{line} \\\n" in lock
    packages = re.findall(r"^\S+==\S+", lock, re.MULTILINE)
    assert len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)) == len(packages) > 8


def test_every_image_runs_as_nobody_in_particular_on_a_full_version() -> None:
    for name, start in STARTS.items():
        text = (APPS / name / "Dockerfile").read_text()
        assert re.search(r"^FROM docker\.io/library/\w+:\d+\.\d+\.\d+-[\w-]+$", text, re.MULTILINE)
        assert "\nUSER 10001\n" in text
        assert tomllib.loads("command = " + text.rpartition("\nCMD ")[2])["command"] == start.split()
