"""What Prometheus asks, whom, and when it raises an alarm: judged by promtool of the very version that is deployed."""

import json
import re
import shutil
import ssl
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.template import monitoring
from tests.template.monitoring import HOME, TEMPLATE, named, rendered

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture
def as_in_the_pod(tmp_path: Path) -> Path:
    """The folder that the pod sees, with a service account to check against."""
    account = tmp_path / "serviceaccount"
    account.mkdir()
    (account / "token").write_text("token")
    (account / "ca.crt").write_text("certificate")
    config = named(rendered(), "ConfigMap", "prometheus")["data"]["prometheus.yaml"]
    assert SERVICE_ACCOUNT in config
    (tmp_path / "prometheus.yaml").write_text(config.replace(SERVICE_ACCOUNT, str(account)))
    (tmp_path / "rules").mkdir()
    for name, text in named(rendered(), "ConfigMap", "prometheus-rules")["data"].items():
        (tmp_path / "rules" / name).write_text(text)
    return tmp_path


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([monitoring.program("promtool"), *map(str, words)], capture_output=True, text=True)


def test_promtool_accepts_the_configuration_and_its_rules(as_in_the_pod: Path) -> None:
    done = promtool("check", "config", "--lint=all", "--lint-fatal", as_in_the_pod / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(list((HOME / 'prometheus/rules').iterdir()))} rule files found" in done.stdout
    broken = as_in_the_pod / "rules" / "nodes.yaml"
    broken.write_text(broken.read_text().replace("min by (", "min by ((", 1))
    assert promtool("check", "config", as_in_the_pod / "prometheus.yaml").returncode != 0


@pytest.mark.parametrize("path", sorted((HOME / "prometheus/tests").iterdir()), ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_what_to_do_and_is_seen_to_fire() -> None:
    tests = "".join(path.read_text() for path in (HOME / "prometheus/tests").iterdir())
    for name, alert in monitoring.alerts().items():
        assert alert["labels"]["severity"] in {"critical", "warning", "none"}
        assert alert["annotations"].keys() == {"summary", "description", "runbook"}, name
        assert re.search(rf"\b{name}\b", tests), f"no test of {name}"


def test_what_was_asked_for_is_scraped_and_watched() -> None:
    jobs = {job["job_name"] for job in scrape_configs()}
    assert {
        "apps",
        "kubelet",
        "cadvisor",
        "kube-state-metrics",
        "node-exporter",
        "argocd",
        "vault",
        "certificates",
    } <= jobs
    named_in_rules = set(re.findall(r'job="([^"]+)"', json.dumps(monitoring.rules()).replace("\\", "")))
    assert named_in_rules <= jobs
    assert {"PodCrashLooping", "SyncFailed", "VaultSealed", "CertificateExpires"} <= monitoring.alerts().keys()


def test_every_query_of_dashboards_and_alerts_parses(tmp_path: Path) -> None:
    found = monitoring.queries("prometheus")
    assert len(found) > 40
    names = {f"q{number}": where for number, where in enumerate(found)}
    checked = [
        {"record": name, "expr": monitoring.filled_in(found[where]), "labels": {"stands": where}}
        for name, where in names.items()
    ]
    path = tmp_path / "queries.yaml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": checked}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(found)} rules found" in done.stdout


def scrape_configs() -> list[Any]:
    return list(monitoring.load(HOME / "prometheus/prometheus.yaml")["scrape_configs"])


def expressions() -> list[str]:
    return [rule["expr"] for rule in monitoring.rules()] + list(monitoring.queries("prometheus").values())


def read() -> set[str]:
    """Every metric that a rule or a dashboard reads."""
    return {name for expression in expressions() for name in monitoring.metrics(expression)}


def test_metrics_are_told_from_the_rest_of_an_expression() -> None:
    assert monitoring.metrics('sum by (le, app) (rate(a_total{b="c"}[5m])) / on (node) d:e > 5 or vector(1)') == {
        "a_total",
        "d:e",
    }


def test_metrics_are_those_that_somebody_exports() -> None:
    """Of each exporter its prefix; a name of no exporter's is a misspelling, or needs a scrape configuration."""
    recorded = {rule["record"] for rule in monitoring.rules() if "record" in rule} | {"ALERTS", "up"}
    known = re.compile(
        r"kube_\w+|container_\w+|kubelet_\w+|node_\w+|argocd_\w+|vault_core_unsealed|probe_\w+|loki_\w+|prometheus_\w+"
        r"|sealed_secrets_controller_\w+|apiserver_client_certificate_expiration_seconds_bucket|http_\w+"
    )
    assert {name for name in read() - recorded if not known.fullmatch(name)} == set()


def test_metrics_of_our_own_services_are_those_that_they_export() -> None:
    """As the sample applications' sources name them."""
    used = {re.sub(r"_(bucket|count|sum)$", "", name) for name in read() if name.startswith("http_")}
    assert used == {"http_requests_total", "http_request_duration_seconds"}
    for app in ("flask", "node", "webhook"):
        sources = "".join(
            path.read_text()
            for path in (TEMPLATE.parent / "sample-apps" / app).rglob("*")
            if path.suffix in {".py", ".js"}
        )
        if "/metrics" not in sources:
            needs.missing(f"sample-apps/{app} exports no metrics")
        for name in used:
            assert name in sources or name.removesuffix("_total") in sources, f"{app}: {name}"


def test_metrics_are_kept_by_the_jobs_that_drop_others() -> None:
    jobs = {job["job_name"]: job for job in scrape_configs()}
    for job, prefix in {"cadvisor": "container_", "apiserver": "apiserver_"}.items():
        (keep,) = jobs[job]["metric_relabel_configs"]
        used = {name for name in read() if name.startswith(prefix)}
        assert used
        assert {name for name in used if not re.fullmatch(keep["regex"], name)} == set()


def test_kube_state_metrics_lists_what_the_queries_read() -> None:
    args = " ".join(
        named(rendered(), "Deployment", "kube-state-metrics")["spec"]["template"]["spec"]["containers"][0]["args"]
    )
    for name in read():
        if kind := re.match(r"kube_([a-z]+)_", name):
            assert f"{kind[1]}s" in args, name


# The blackbox exporter


def test_the_blackbox_exporter_tells_when_a_certificate_ends(tmp_path: Path) -> None:
    exporter = shutil.which("prometheus-blackbox-exporter")
    if exporter is None:
        needs.missing("prometheus-blackbox-exporter is not installed")
    http, tls = monitoring.free_ports(2)
    config = tmp_path / "blackbox.yaml"
    config.write_text(named(rendered(), "ConfigMap", "blackbox-exporter")["data"]["blackbox.yaml"])
    (job,) = (item for item in scrape_configs() if item["job_name"] == "certificates")
    new = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "20", "-subj", "/CN=x")
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(["openssl", "req", *new, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    told = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-enddate"], capture_output=True, text=True)
    server = ("openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{tls}", "-cert", certificate, "-key", key)
    address = f"http://127.0.0.1:{http}"
    command = (exporter, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{http}")
    with (
        subprocess.Popen(server, stdin=subprocess.PIPE) as process,
        monitoring.running(f"{address}/-/healthy", tmp_path, *command),
    ):
        asked = urllib.parse.urlencode({"module": job["params"]["module"][0], "target": f"127.0.0.1:{tls}"})
        answer = urllib.request.urlopen(f"{address}{job['metrics_path']}?{asked}", timeout=10).read().decode()
        process.kill()
    values = dict(line.rsplit(" ", 1) for line in answer.splitlines() if not line.startswith("#"))
    assert float(values["probe_success"]) == 1, (tmp_path / "log").read_text()
    ends = told.stdout.strip().removeprefix("notAfter=")
    assert float(values["probe_ssl_earliest_cert_expiry"]) == ssl.cert_time_to_seconds(ends)
