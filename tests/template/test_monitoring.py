"""The GitOps template's monitoring stack: Prometheus, Grafana, Loki, and what feeds them.

Each configuration is judged by its own program where there is one; the template's README says which was.
"""

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests import needs
from tests.template import monitoring
from tests.template.monitoring import HOME, TEMPLATE, Object, named, rendered

CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
REGISTRIES = ("docker.io/grafana/", "quay.io/prometheus/", "registry.k8s.io/")
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(params=["promtail", "alloy"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> list[Object]:
    """With the log collector that it begins with, and with its successor."""
    return list(rendered()) if request.param == "promtail" else monitoring.with_alloy(tmp_path)


# Where it lives


def test_everything_lives_in_the_namespace_monitoring(stack: list[Object]) -> None:
    for item in stack:
        expected = None if item["kind"] in CLUSTER_WIDE else "monitoring"
        assert item["metadata"].get("namespace") == expected, item["metadata"]["name"]
        for subject in item.get("subjects", ()):
            assert subject["namespace"] == "monitoring"


@pytest.mark.parametrize("overlay", sorted(path.name for path in (TEMPLATE / "overlays").iterdir()))
def test_no_overlay_can_move_it(overlay: str) -> None:
    ours = {(item["kind"], item["metadata"]["name"]) for item in rendered()}
    theirs = {(item["kind"], item["metadata"]["name"]) for item in monitoring.build(TEMPLATE / "overlays" / overlay)}
    assert not ours & theirs


def test_the_services_have_the_names_that_others_call_them_by() -> None:
    ports = {
        item["metadata"]["name"]: item["spec"]["ports"][0]["port"] for item in rendered() if item["kind"] == "Service"
    }
    assert ports == {
        "prometheus": 9090,
        "grafana": 3000,
        "loki": 3100,
        "kube-state-metrics": 8080,
        "blackbox-exporter": 9115,
    }


def test_no_file_is_forgotten() -> None:
    """A rule or dashboard that no kustomization lists would lie there and do nothing."""
    for name, folder in {"prometheus-rules": "prometheus/rules", "grafana-dashboards": "grafana/dashboards"}.items():
        assert set(named(rendered(), "ConfigMap", name)["data"]) == {path.name for path in (HOME / folder).iterdir()}
    assert {path.name for path in (HOME / "prometheus/tests").iterdir()} == {
        path.name for path in (HOME / "prometheus/rules").iterdir()
    }


@pytest.mark.parametrize(
    ("file", "kind", "name"),
    [
        ("prometheus/prometheus.yaml", "Deployment", "prometheus"),
        ("prometheus/rules/nodes.yaml", "Deployment", "prometheus"),
        ("loki/loki.yaml", "StatefulSet", "loki"),
        ("promtail/promtail.yaml", "DaemonSet", "promtail"),
        ("grafana/provisioning/datasources.yaml", "Deployment", "grafana"),
        ("grafana/dashboards/nodes.json", "Deployment", "grafana"),
    ],
)
def test_a_changed_configuration_rolls_the_pods(file: str, kind: str, name: str, tmp_path: Path) -> None:
    shutil.copytree(HOME, tmp_path / "monitoring")
    with (tmp_path / "monitoring" / file).open("a") as changed:
        changed.write("\n")
    before, after = named(rendered(), kind, name), named(monitoring.build(tmp_path / "monitoring"), kind, name)
    assert before["spec"]["template"] != after["spec"]["template"]


def test_every_object_fits_into_the_annotation_that_applies_write(stack: list[Object]) -> None:
    for item in stack:
        assert len(json.dumps(item)) < 256 * 1024, item["metadata"]["name"]


# How it runs


def test_images_are_pinned_and_from_known_registries(stack: list[Object]) -> None:
    for item in monitoring.workloads(stack):
        for container in item["spec"]["template"]["spec"]["containers"]:
            assert container["image"].startswith(REGISTRIES)
            assert re.fullmatch(r"[^:@]+:v?\d+\.\d+\.\d+", container["image"])


def test_containers_have_no_more_rights_than_they_need(stack: list[Object]) -> None:
    for item in monitoring.workloads(stack):
        name, pod = item["metadata"]["name"], item["spec"]["template"]["spec"]
        root = pod["securityContext"]["runAsUser"] == 0
        assert root is (name in {"promtail", "alloy"})
        assert pod["securityContext"]["runAsNonRoot"] is not root
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostPID", "hostIPC"} & set(pod)
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert {"livenessProbe", "readinessProbe"} <= container.keys()


def test_what_is_unusual_has_a_written_reason() -> None:
    """Root, the host's files and the host's network: in the manifest, in a comment."""
    reasons = {
        "runAsUser: 0": r"lint: allow\(container-root\)",
        "hostPath:": "Why (a )?host mounts?:",
        "hostNetwork:": "Why the host's network:",
    }
    asked = 0
    for path in (*HOME.rglob("*.yaml"), *(TEMPLATE / "components/alloy").rglob("*.yaml")):
        text = path.read_text()
        for words, reason in reasons.items():
            if words in text:
                asked += 1
                assert re.search(f"# {reason} ", text), f"{path.name}: {words}"
    assert asked == 6


def test_there_is_no_secret_and_grafana_s_password_comes_from_one() -> None:
    assert "Secret" not in {item["kind"] for item in rendered()}
    pod = named(rendered(), "Deployment", "grafana")["spec"]["template"]["spec"]
    environment = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    (mount,) = (item for item in pod["containers"][0]["volumeMounts"] if item["name"] == "admin")
    (volume,) = (item for item in pod["volumes"] if item["name"] == "admin")
    assert environment["GF_SECURITY_ADMIN_USER__FILE"] == f"{mount['mountPath']}/user"
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"{mount['mountPath']}/password"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in environment
    assert volume["secret"] == {"secretName": "grafana-admin"}  # not optional


def test_roles_read_and_never_see_secrets(stack: list[Object]) -> None:
    roles = [item for item in stack if item["kind"] == "ClusterRole"]
    assert len(roles) == 3
    for role in roles:
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"}
            assert not set(rule.get("resources", ())) & {"*", "secrets", "configmaps", "nodes/proxy"}
    bound = {item["subjects"][0]["name"] for item in stack if item["kind"] == "ClusterRoleBinding"}
    for item in monitoring.workloads(stack):
        pod = item["spec"]["template"]["spec"]
        assert pod.get("automountServiceAccountToken", True) is (pod["serviceAccountName"] in bound)


def test_kube_state_metrics_may_see_exactly_what_it_lists() -> None:
    args = named(rendered(), "Deployment", "kube-state-metrics")["spec"]["template"]["spec"]["containers"][0]["args"]
    (listed,) = (arg.removeprefix("--resources=").split(",") for arg in args if arg.startswith("--resources="))
    role = named(rendered(), "ClusterRole", "openeg-kube-state-metrics")
    assert sorted(listed) == sorted(resource for rule in role["rules"] for resource in rule["resources"])


def test_network_policies_let_in_who_must_come_in_and_nobody_else(stack: list[Object]) -> None:
    pods = {item["metadata"]["name"]: item["spec"]["template"] for item in monitoring.workloads(stack)}
    policies = [item["spec"] for item in stack if item["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress"]} in policies
    collector = "alloy" if "alloy" in pods else "promtail"
    guarded = pods.keys() - {"node-exporter"}  # on the host's network, which no policy reaches
    reached = {(one, other) for one in pods for other in guarded if _lets_in(policies, pods[one], pods[other])}
    assert reached == {
        ("grafana", "prometheus"),
        ("grafana", "loki"),
        (collector, "loki"),
        *(("prometheus", other) for other in ("grafana", "loki", "kube-state-metrics", "blackbox-exporter", collector)),
    }


def _lets_in(policies: list[Any], client: Object, server: Object) -> bool:
    peers = [
        peer["podSelector"]
        for policy in policies
        if _selects(policy["podSelector"], server)
        for rule in policy.get("ingress", ())
        for peer in rule["from"]
    ]
    return any(_selects(peer, client) for peer in peers)


def _selects(selector: Mapping[str, Any], pod: Object) -> bool:
    labels = pod["metadata"]["labels"]
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(item["key"]) in item["values"] for item in selector.get("matchExpressions", ())
    )


def test_the_scrape_annotations_name_ports_that_there_are(stack: list[Object]) -> None:
    asked = 0
    for item in monitoring.workloads(stack):
        annotations = item["spec"]["template"]["metadata"].get("annotations", {})
        if annotations.get("prometheus.io/scrape") == "true":
            asked += 1
            container = item["spec"]["template"]["spec"]["containers"][0]
            ports = {str(port["containerPort"]) for port in container["ports"]}
            assert annotations["prometheus.io/port"] in ports
    assert asked == 3


# Prometheus


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
            pytest.skip(f"sample-apps/{app} exports no metrics")
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
    http, tls = _free_ports(2)
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
        _running(f"{address}/-/healthy", tmp_path, *command),
    ):
        asked = urllib.parse.urlencode({"module": job["params"]["module"][0], "target": f"127.0.0.1:{tls}"})
        answer = urllib.request.urlopen(f"{address}{job['metrics_path']}?{asked}", timeout=10).read().decode()
        process.kill()
    values = dict(line.rsplit(" ", 1) for line in answer.splitlines() if not line.startswith("#"))
    assert float(values["probe_success"]) == 1, (tmp_path / "log").read_text()
    ends = told.stdout.strip().removeprefix("notAfter=")
    assert float(values["probe_ssl_earliest_cert_expiry"]) == ssl.cert_time_to_seconds(ends)


# Grafana


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


# Loki and the log collectors


def test_loki_accepts_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "loki.yaml"
    path.write_text(named(rendered(), "ConfigMap", "loki")["data"]["loki.yaml"].replace("/loki", str(tmp_path)))
    command = [monitoring.program("loki"), f"-config.file={path}", "-verify-config"]
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


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def _running(ready: str, folder: Path, *command: str) -> Iterator[None]:
    """A server, until the end of the block, from when `ready` is answered."""
    log = folder / "log"
    with subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + 90
            while not _answers(ready):
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.2)
            yield
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    except OSError:
        return False


@pytest.fixture
def loki(tmp_path: Path) -> Iterator[str]:
    """Loki with the template's configuration, on free ports of this machine; its address."""
    http, grpc = _free_ports(2)
    config = named(rendered(), "ConfigMap", "loki")["data"]["loki.yaml"].replace("/loki", str(tmp_path / "data"))
    config = config.replace("3100", f"{http}\n  http_listen_address: 127.0.0.1")
    config = config.replace("9095", f"{grpc}\n  grpc_listen_address: 127.0.0.1")
    (tmp_path / "loki.yaml").write_text(config)
    address = f"http://127.0.0.1:{http}"
    with _running(f"{address}/ready", tmp_path, monitoring.program("loki"), f"-config.file={tmp_path / 'loki.yaml'}"):
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
    command = [monitoring.program("promtail"), f"-config.file={HOME / 'promtail/promtail.yaml'}", "-check-syntax"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_alloy_takes_promtail_s_place_and_gives_the_same_labels(tmp_path: Path) -> None:
    objects = monitoring.with_alloy(tmp_path)

    def kinds(of: tuple[Object, ...] | list[Object], name: str) -> list[str]:
        return sorted(item["kind"] for item in of if name in item["metadata"]["name"])

    assert kinds(objects, "promtail") == []
    assert kinds(objects, "alloy") == kinds(rendered(), "promtail")
    assert len(objects) == len(rendered())
    (job,) = monitoring.load(HOME / "promtail/promtail.yaml")["scrape_configs"]
    expected = [
        (rule["source_labels"], rule["target_label"], rule.get("replacement")) for rule in job["relabel_configs"]
    ]
    config = (TEMPLATE / "components/alloy/config.alloy").read_text()
    given = []
    for rule in re.findall(r"rule \{(.+?)\n  \}", config, re.DOTALL):
        said = dict(re.findall(r"(\w+)\s+= (.+)", rule))
        replacement = said.get("replacement")
        given.append(
            (
                json.loads(said["source_labels"]),
                json.loads(said["target_label"]),
                replacement and json.loads(replacement),
            )
        )
    assert given == expected
    roles = [
        named(of, "ClusterRole", f"openeg-{name}")["rules"]
        for of, name in ((objects, "alloy"), (rendered(), "promtail"))
    ]
    assert roles[0] == roles[1]
