"""Each folder by itself: what kustomize makes of it, and what the programs that read it say of it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from lab.build import kept
from lab.components import COMPONENTS
from tests import needs
from tests.template.system import TEMPLATE, WHOLE_SECONDS, Object, System, built, documents, tool

KUSTOMIZATIONS = sorted(str(file.parent.relative_to(TEMPLATE)) for file in TEMPLATE.rglob("kustomization.yaml"))
COMPONENT_KIND = "kind: Component"


@pytest.fixture(autouse=True)
def _programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path(tool("kustomize")).exists():
        needs.missing("kustomize is not built: `scripts/lab build kustomize`")
    # Some of Argo CD's commands want a cluster's address though they ask none.
    nowhere = tmp_path / "kubeconfig"
    cluster = {"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "none", "context": {"cluster": "none", "user": "none"}}
    content = {"clusters": [cluster], "contexts": [context], "users": [{"name": "none", "user": {}}]}
    nowhere.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **content, "current-context": "none"}))
    monkeypatch.setenv("KUBECONFIG", str(nowhere))


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_kustomize_builds_it_without_a_word(folder: str, tmp_path: Path) -> None:
    objects = _objects(folder, tmp_path)
    assert objects
    if _is_component(folder):
        assert objects != built(TEMPLATE / _base_of(folder)), "it changes nothing"


def _is_component(folder: str) -> bool:
    return COMPONENT_KIND in (TEMPLATE / folder / "kustomization.yaml").read_text()


def _base_of(component: str) -> str:
    return "base/monitoring" if component == "components/alloy" else "overlays/staging"


def _objects(folder: str, scratch: Path) -> list[Object]:
    """What kustomize makes of a folder; a component is built where it is used: over what it changes."""
    if not _is_component(folder):
        return built(TEMPLATE / folder)
    place = scratch / folder
    place.mkdir(parents=True)
    to = Path(*[".."] * (len(place.parts) - 1), *TEMPLATE.parts[1:])
    (place / "kustomization.yaml").write_text(f"resources: [{to}/{_base_of(folder)}]\ncomponents: [{to}/{folder}]\n")
    return built(place)


def test_each_object_has_one_owner() -> None:
    owners: dict[tuple[str, str, str], str] = {}
    for file in (TEMPLATE / "argocd/applications").glob("*.yaml"):
        for application in documents(file.read_text()):
            if application["kind"] != "Application":
                continue
            spec = application["spec"]
            for item in built(TEMPLATE / spec["source"]["path"]):
                namespace = item["metadata"].get("namespace", spec["destination"]["namespace"])
                place = (item["kind"], namespace, item["metadata"]["name"])
                assert place not in owners, f"{place} belongs to {owners[place]} and {application['metadata']['name']}"
                owners[place] = application["metadata"]["name"]
    assert owners[("Deployment", "openeg-system", "flask-app")] == "openeg-system"
    moved = {
        namespace for (kind, namespace, _), owner in owners.items() if owner == "monitoring" if kind != "Namespace"
    }
    assert moved == {"monitoring"}


def test_node_ports_are_production_s_alone() -> None:
    for name, expected in (("production", 2), ("staging", 0), ("dev", 0)):
        services = [item for item in built(TEMPLATE / "overlays" / name) if item["kind"] == "Service"]
        assert sum(item["spec"].get("type") == "NodePort" for item in services) == expected, name


def test_our_kind_of_sealed_secrets_is_theirs() -> None:
    """Whatever the controller's own definition allows, ours allows too, but for the field that is deprecated."""
    theirs_file = kept(COMPONENTS["kubeseal"], "sealedsecret.crd.yaml")
    if not theirs_file.exists():
        needs.missing("kubeseal is not built: `scripts/lab build kubeseal`")
    theirs = dict(_typed(documents(theirs_file.read_text())[0]))
    ours = dict(_typed(documents((TEMPLATE / "sealed-secrets/crd.yaml").read_text())[0]))
    free = ("spec.template.metadata.",)  # ours takes any metadata
    missing = {path: kind for path, kind in theirs.items() if ours.get(path) != kind and not path.startswith(free)}
    assert missing == {"spec.data": "string", "apiVersion": "string", "kind": "string", "metadata": "object"}


def _typed(definition: Object) -> Iterator[tuple[str, str]]:
    def walk(schema: Object, path: str) -> Iterator[tuple[str, str]]:
        for name, inner in (schema.get("properties") or {}).items():
            yield f"{path}{name}", inner["type"]
            yield from walk(inner.get("items", inner), f"{path}{name}.")

    (version,) = definition["spec"]["versions"]
    yield from walk(version["schema"]["openAPIV3Schema"], "")


@pytest.mark.parametrize(
    ("action", "resource", "thing", "expected"),
    [
        ("get", "applications", "openeg/openeg-system", "Yes"),
        ("sync", "applications", "openeg/openeg-system", "Yes"),
        ("action/apps/Deployment/restart", "applications", "openeg/openeg-system", "Yes"),
        ("get", "logs", "openeg/openeg-system", "Yes"),
        ("delete", "applications", "openeg/openeg-system", "No"),
        ("override", "applications", "openeg/openeg-system", "No"),
        ("update", "applications", "openeg/openeg-system", "No"),
        ("get", "applications", "openeg-platform/vault", "No"),
        ("sync", "applications", "default/openeg", "No"),
        ("create", "exec", "openeg/openeg-system", "No"),
        ("get", "clusters", "https://kubernetes.default.svc", "No"),
    ],
)
def test_the_pipeline_s_account_may(action: str, resource: str, thing: str, expected: str, tmp_path: Path) -> None:
    rights = documents((TEMPLATE / "argocd/config/argocd-rbac-cm.yaml").read_text())[0]["data"]["policy.openeg.csv"]
    policy = tmp_path / "policy.csv"
    policy.write_text(rights)
    done = _argocd("settings", "rbac", "can", "ci", action, resource, thing, "--policy-file", str(policy))
    assert done.stdout.strip() == expected, done.stderr


def test_argo_cd_accepts_its_settings() -> None:
    done = _argocd("settings", "validate", "--argocd-cm-path", str(TEMPLATE / "argocd/config/argocd-cm.yaml"))
    assert done.returncode == 0, done.stderr
    assert "✅ accounts" in done.stdout
    assert "❌" not in done.stdout


_CHILD = {"sync": {"status": "Synced"}, "health": {"status": "Healthy"}, "operationState": {"phase": "Succeeded"}}
_LOST = {"type": "ComparisonError", "message": "no such folder"}


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({}, "Healthy", ""),
        ({"sync": None}, "Progressing", "not compared"),
        ({"sync": {"status": "OutOfSync"}}, "Progressing", "being synced"),
        ({"operationState": {"phase": "Running"}}, "Progressing", "being synced"),
        ({"operationState": {"phase": "Failed", "message": "denied"}}, "Degraded", "denied"),
        ({"sync": {"status": "Unknown"}, "conditions": [_LOST]}, "Degraded", "no such folder"),
        ({"health": {"status": "Degraded"}}, "Degraded", ""),
        ({"health": {"status": "Missing"}}, "Missing", ""),
    ],
)
def test_a_child_is_healthy_when_it_works(change: Object, status: str, message: str, tmp_path: Path) -> None:
    application = documents((TEMPLATE / "argocd/applications/openeg-system.yaml").read_text())[0]
    application["status"] = {key: value for key, value in {**_CHILD, **change}.items() if value is not None}
    file = tmp_path / "child.yaml"
    file.write_text(json.dumps(application))
    settings = ("--argocd-cm-path", str(TEMPLATE / "argocd/config/argocd-cm.yaml"))
    done = _argocd("settings", "resource-overrides", "health", str(file), *settings)
    assert f"STATUS: {status}\n" in done.stdout, done.stdout + done.stderr
    assert message in done.stdout


def _argocd(*words: str) -> "subprocess.CompletedProcess[str]":
    if not Path(tool("argocd")).exists():
        needs.missing("Argo CD is not built: `scripts/lab build argocd`")
    return subprocess.run((tool("argocd"), "admin", *words), capture_output=True, text=True)


def test_kubeconform_knows_every_object(system: System, tmp_path: Path) -> None:
    system.well(WHOLE_SECONDS)
    schemas = tmp_path / "schemas"
    _write_schemas(system, schemas)
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    objects = [item for folder in KUSTOMIZATIONS for item in _objects(folder, tmp_path)]
    objects += documents((TEMPLATE / "argocd/root.yaml").read_text())
    for number, item in enumerate(objects):
        (manifests / f"{number}.json").write_text(json.dumps(item))
    place = f"{schemas}/{{{{.ResourceKind}}}}-{{{{.Group}}}}-{{{{.ResourceAPIVersion}}}}.json"
    command = (tool("kubeconform"), "-strict", "-summary", "-output", "json", "-schema-location", place, str(manifests))
    done = subprocess.run(command, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert done.returncode == 0, [item for item in report["resources"] if item["status"] != "statusValid"]
    assert report["summary"]["valid"] == len(objects) > 150
    wrong = {**next(item for item in objects if item["kind"] == "Deployment"), "spce": {}}
    (manifests / "wrong.json").write_text(json.dumps(wrong))
    assert subprocess.run(command, capture_output=True).returncode == 1


def _write_schemas(system: System, folder: Path) -> None:
    """JSON schemas, strict, of every kind that the lab's API server knows, custom ones with their own definitions."""
    folder.mkdir()
    with urllib3.PoolManager(ca_certs=str(system.lab.folder / "ca.crt")) as pool:
        headers = {"Authorization": f"Bearer {system.lab.admin}"}
        url = f"{system.lab.url('kube-apiserver', 'https')}/openapi/v2"
        definitions: dict[str, Any] = pool.request("GET", url, headers=headers).json()["definitions"]
    text_or_number = {"oneOf": [{"type": "string"}, {"type": "number"}]}
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = text_or_number
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = text_or_number
    _strict(definitions)
    (folder / "all.json").write_text(json.dumps({"definitions": definitions}))
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            # kubeconform takes the version for the group where there is none.
            group = kind["group"] or kind["version"]
            file = folder / f"{kind['kind'].lower()}-{group}-{kind['version']}.json"
            file.write_text(json.dumps({"$ref": f"all.json#/definitions/{name}"}))


def _strict(schema: object) -> None:
    if isinstance(schema, dict):
        known = "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields")
        if known and "additionalProperties" not in schema and isinstance(schema["properties"], dict):
            schema["additionalProperties"] = False
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _strict(inner)


@pytest.mark.parametrize("template", ["app-deployed", "app-sync-failed", "app-health-degraded"])
def test_argo_cd_renders_the_notification(template: str, system: System) -> None:
    system.well(WHOLE_SECONDS)
    lab = system.lab
    config = TEMPLATE / "argocd/config/argocd-notifications-cm.yaml"
    where = ("--kubeconfig", str(lab.kubeconfig), "--namespace", "argocd", "--config-map", str(config))
    server = ("--argocd-repo-server", lab.url("argocd-repo-server").removeprefix("http://"))
    plaintext = ("--argocd-repo-server-plaintext", "--secret", ":empty")
    done = _argocd("notifications", "template", "notify", template, "openeg-system", *where, *server, *plaintext)
    assert done.returncode == 0, done.stderr
    (attachment,) = json.loads(documents(done.stdout)[0]["slack"]["attachments"])
    assert attachment["title"] == "openeg-system"
    assert attachment["title_link"].startswith("https://argocd.openeg.example.com/applications/argocd/openeg-system")


@pytest.mark.parametrize(
    ("trigger", "change", "trailer", "expected"),
    [
        ("on-deployed", {}, False, True),
        ("on-deployed", {}, True, False),
        ("on-deployed", {"health": {"status": "Progressing"}}, False, False),
        ("on-sync-failed", {}, False, False),
        ("on-sync-failed", {"phase": "Failed"}, False, True),
        ("on-sync-failed", {"phase": "Error"}, False, True),
        ("on-sync-failed", {"phase": "Failed"}, True, False),
        ("on-health-degraded", {"health": {"status": "Degraded"}}, True, True),
        ("on-health-degraded", {}, False, False),
    ],
)
def test_a_trigger_fires(
    trigger: str, change: Object, trailer: bool, expected: bool, system: System, tmp_path: Path
) -> None:
    system.well(WHOLE_SECONDS)
    message = "deploy(production): x\n\nDeploy-Id: 7-production" if trailer else "By hand\n\nNo Deploy-Id: here"
    system.git("commit", "--quiet", "--allow-empty", "--message", message)
    system.git("push", "--quiet", system.url, "HEAD:main")
    commit = system.git("rev-parse", "HEAD")
    application = system.applications()["openeg-system"]
    status = application["status"]
    operation = {
        "phase": change.get("phase", "Succeeded"),
        "operation": {"sync": {"revision": commit}},
        "syncResult": {"revision": commit},
    }
    application["status"] = {**status, "operationState": operation, "health": change.get("health", status["health"])}
    file = tmp_path / "application.json"
    file.write_text(json.dumps(application))
    lab = system.lab
    config = TEMPLATE / "argocd/config/argocd-notifications-cm.yaml"
    where = ("--kubeconfig", str(lab.kubeconfig), "--namespace", "argocd", "--config-map", str(config))
    server = ("--argocd-repo-server", lab.url("argocd-repo-server").removeprefix("http://"))
    plaintext = ("--argocd-repo-server-plaintext", "--secret", ":empty")
    done = _argocd("notifications", "trigger", "run", trigger, str(file), *where, *server, *plaintext)
    assert done.returncode == 0, done.stderr
    assert ("true" in done.stdout) is expected, done.stdout
