"""The lab itself: what it promises of its processes, its pods, its volumes and its addresses."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3

from lab import processes, services, state
from lab.cluster import stand_in
from lab.stage import Cluster
from tests.e2e.conftest import Scene

pytestmark = [pytest.mark.real, pytest.mark.lab]


def command(*words: str, name: str) -> subprocess.CompletedProcess[str]:
    """Run `scripts/lab` as a person would, in its own Python, on the lab of that name."""
    environ = os.environ | {"OPENEG_LAB": name}
    return subprocess.run(
        (sys.executable, "-m", "lab", *words), cwd=services.ROOT, env=environ, capture_output=True, text=True
    )


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """A server that says who it is; gives its port and the bodies that were posted to it."""
    heard: list[bytes] = []

    class Here(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"here I am")

        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_words: object) -> None: ...

    with ThreadingHTTPServer((host, port), Here) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port, heard
        server.shutdown()


def test_a_claim_is_bound(scene: Scene, cluster: Cluster) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": scene.name}}
    metadata = {"name": "data", "namespace": scene.name}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    cluster.api.apply([namespace, claim])
    deadline = time.monotonic() + 30
    while (found := cluster.api.get("v1", "PersistentVolumeClaim", "data", scene.name) or {})["status"] != {
        **found["status"],
        "phase": "Bound",
    }:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


@pytest.mark.root
def test_a_webhook_that_nobody_answers_keeps_no_pod_waiting(scene: Scene, cluster: Cluster) -> None:
    """Whether its Service has no endpoint at all, or a fake pod for one."""
    client = {"service": {"name": "injector", "namespace": scene.name, "path": "/mutate"}}
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    hook = {
        "name": "injector.openeg.test",
        "clientConfig": client,
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.name}},
        "failurePolicy": "Ignore",
        "timeoutSeconds": 30,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "injector", "namespace": scene.name},
        "spec": {"ports": [{"port": 443, "targetPort": 8080}], "selector": {"app": "web"}},
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": scene.name}}
    cluster.api.apply([namespace, service, {**kind, "metadata": {"name": scene.name}, "webhooks": [hook]}])
    try:
        scene.stage.add_application(scene.name, scene.spec())
        began = time.monotonic()
        for _ in range(2):  # the second time the pods of the first are the webhook's endpoints
            assert scene.run("deploy").code == 0
            scene.change()
        assert time.monotonic() - began < 30, "one time-out of the webhook would take as long"
    finally:
        cluster.api.delete(kind["apiVersion"], kind["kind"], scene.name)


@pytest.mark.root
def test_a_process_of_this_machine_is_reached_through_a_service(scene: Scene, cluster: Cluster) -> None:
    port = 18080
    address = stand_in(cluster.api, scene.name, "controller", port)
    with listening(address, port):
        url = f"{cluster.lab.url('kube-apiserver', 'https')}/api/v1/namespaces/{scene.name}"
        with urllib3.PoolManager(ca_certs=str(cluster.lab.folder / "ca.crt")) as pool:
            path = f"{url}/services/controller:{port}/proxy/"
            answer = pool.request("GET", path, headers={"Authorization": f"Bearer {cluster.lab.admin}"})
    assert (answer.status, answer.data) == (200, b"here I am")


def test_application_sets_and_notifications_work(scene: Scene, cluster: Cluster) -> None:
    with listening("127.0.0.1") as (port, heard):
        word = scene.name[-6:]  # the annotation's name has room for little
        settings = {
            f"service.webhook.{word}": f"url: http://127.0.0.1:{port}\n",
            f"template.{word}": f"webhook:\n  {word}:\n    method: POST\n    body: '{{{{.app.metadata.name}}}}'\n",
            f"trigger.{word}": f"- when: app.status.health.status == 'Healthy'\n  send: [{word}]\n",
        }
        cluster.api.merge("v1", "ConfigMap", "argocd-notifications-cm", {"data": settings}, "argocd")
        subscribe = {f"notifications.argoproj.io/subscribe.{word}.{word}": ""}
        template = {"metadata": {"name": "{{name}}", "annotations": subscribe}, "spec": scene.spec()}
        spec = {"generators": [{"list": {"elements": [{"name": scene.name}]}}], "template": template}
        metadata = {"name": scene.name, "namespace": "argocd"}
        kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet"}
        cluster.api.apply([{**kind, "metadata": metadata, "spec": spec}])
        deadline = time.monotonic() + 60
        while scene.name.encode() not in heard:
            assert time.monotonic() < deadline, heard
            time.sleep(0.2)
        cluster.api.delete(kind["apiVersion"], kind["kind"], scene.name, "argocd")


def test_an_image_is_broken_and_mended_by_hand(deployed: Scene, cluster: Cluster) -> None:
    commit = deployed.change()
    image = deployed.image(commit)
    assert command("break", image, "oom", name=cluster.lab.name).returncode == 0
    done = deployed.run("deploy")
    assert done.code == 11
    assert "OOMKilled" in deployed.only(done)["cause"]["message"]
    assert command("mend", image, name=cluster.lab.name).returncode == 0
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "unchanged"), done.stderr
    wrong = command("break", image, "nonsense", name=cluster.lab.name)
    assert (wrong.returncode, "vault-init" in wrong.stderr) == (2, True)


def test_a_fault_is_for_one_exact_image(deployed: Scene) -> None:
    """Neither a tag that begins the same way nor the same tag of another repository trips it."""
    commit = deployed.change()
    deployed.stage.break_image(f"{deployed.image(commit)}0", "pull")
    deployed.stage.break_image(deployed.image(commit).replace(deployed.name, "another"), "pull")
    deployed.stage.break_image(deployed.image(commit)[:-1], "pull")
    assert deployed.run("deploy").code == 0


@pytest.mark.alone
def test_what_was_killed_is_told_and_repaired(deployed: Scene, cluster: Cluster) -> None:
    lab = cluster.lab
    some = ("etcd", "kwok", "argocd-application-controller")
    for name in some:
        cluster.kill(name)
    told = command("status", name=cluster.lab.name)
    assert told.returncode == 1
    assert told.stdout.count("does not run") == len(some)
    before = {service.name: processes.pid(lab, service.name) for service in services.everything(lab)}
    assert command("up", name=cluster.lab.name).returncode == 0
    assert command("status", name=cluster.lab.name).returncode == 0
    after = {service.name: processes.pid(lab, service.name) for service in services.everything(lab)}
    assert {name: number for name, number in after.items() if before[name]} == {
        name: number for name, number in before.items() if number
    }, "what ran goes on"
    for service in services.everything(lab):
        cluster.kill(service.name)
    assert command("up", name=cluster.lab.name).returncode == 0
    deployed.change()
    assert deployed.run("deploy").code == 0
    assert "GenerateManifest" in command("logs", "argocd-repo-server", name=cluster.lab.name).stdout
    assert command("logs", "nonsense", name=cluster.lab.name).returncode == 4


def test_two_labs_run_side_by_side(cluster: Cluster) -> None:
    lab = cluster.lab
    other = f"{lab.name}-2"
    try:
        up = command("up", name=other)
        assert up.returncode == 0, up.stderr
        second = state.find(other)
        assert second
        assert not set(second.ports.values()) & set(lab.ports.values())
        variables = dict(
            line.removeprefix("export ").split("=", 1) for line in command("env", name=other).stdout.splitlines()
        )
        assert variables["ARGOCD_SERVER"] == second.url("argocd-server")
        # Its file names a process that it did not start: that one must live on.
        stranger = subprocess.Popen(("sleep", "60"))
        (second.folder / "run/registry.pid").write_text(f"{stranger.pid} 12345")
        assert command("down", name=other).returncode == 0
        assert stranger.poll() is None
        stranger.kill()
        stranger.wait()
        assert all(processes.pid(lab, service.name) for service in services.everything(lab)), "the first one runs on"
    finally:
        if left := state.find(other):
            command("down", name=other)
            left_over = subprocess.run(("pgrep", "-f", str(left.folder)), capture_output=True, text=True)
            for line in left_over.stdout.split():
                os.kill(int(line), signal.SIGKILL)
            state.remove(left)


def test_what_is_built_is_not_built_again(cluster: Cluster) -> None:
    done = command("build", name=cluster.lab.name)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_kubeconfig_is_for_nobody_else(cluster: Cluster) -> None:
    folder = cluster.lab.folder
    assert folder.stat().st_mode & 0o077 == 0
    assert json.loads((folder / "kubeconfig").read_text())["current-context"] == "lab"
