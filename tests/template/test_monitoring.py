"""The GitOps template's monitoring stack: Prometheus, Grafana, Loki, and what feeds them.

Its manifests; the configurations are judged, by their own programs where there are any, in the files beside this one.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.template import monitoring
from tests.template.monitoring import HOME, TEMPLATE, Object, named, rendered

CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
REGISTRIES = ("docker.io/grafana/", "quay.io/prometheus/", "registry.k8s.io/")


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


@pytest.mark.parametrize("overlay", sorted(path.parent.name for path in TEMPLATE.glob("overlays/*/kustomization.yaml")))
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


# The change-over


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
