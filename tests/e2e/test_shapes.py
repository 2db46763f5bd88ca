"""The sandbox is held to the real Argo CD: fields, states in their order, status codes.

What the real one showed is kept in tests/fixtures/argocd; `E2E_RECORD=1 scripts/test tests/e2e/test_shapes.py` writes
it anew from the cluster that the environment names.
"""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from lab.stage import Cluster
from tests.e2e.argocd_view import look
from tests.e2e.conftest import DEPLOYMENT, Scene

RECORDED = Path(__file__).parents[1] / "fixtures" / "argocd"
Json = dict[str, Any]

FREE = ("labels", "annotations", "matchLabels", "managedFields", "finalizers")
"""Keys below which everybody chooses what stands there."""


def deployed_well(scene: Scene) -> None:
    scene.change()
    assert scene.run("deploy").code == 0


def cannot_pull(scene: Scene) -> None:
    scene.stage.break_image(scene.image(scene.change()), "pull")
    assert scene.run("deploy").code == 11


def crashes(scene: Scene) -> None:
    scene.stage.break_image(scene.image(scene.change()), "crash")
    assert scene.run("deploy").code == 11


def is_refused(scene: Scene) -> None:
    scene.configure(base__deployment=DEPLOYMENT.replace("containers: [{name: web, image: NAME}]", "containers: []"))
    scene.change()
    waiting = scene.start("deploy")
    scene.until(
        lambda app: bool(app["status"].get("operationState", {}).get("retryCount"))
    )  # it is looked at meanwhile
    waiting.kill()
    scene.ended(waiting)


def is_not_rendered(scene: Scene) -> None:
    scene.configure(base__kustomization="resources: [deployment.yaml, nowhere.yaml]\n")
    scene.change()
    assert scene.run("deploy").code == 10


def is_degraded(scene: Scene) -> None:
    scene.configure(
        base__deployment=DEPLOYMENT.replace("  replicas: 2\n", "  replicas: 2\n  progressDeadlineSeconds: 2\n")
    )
    scene.stage.break_image(scene.image(scene.change()), "never-ready")
    waiting = scene.start("deploy")
    scene.until(lambda app: app["status"]["health"]["status"] == "Degraded")
    waiting.terminate()
    scene.ended(waiting)


SCENARIOS: dict[str, Callable[[Scene], None]] = {
    "deployed": deployed_well,
    "pull": cannot_pull,
    "crash": crashes,
    "refused": is_refused,
    "unrenderable": is_not_rendered,
    "degraded": is_degraded,
}


def paths(value: object, at: str = "") -> Iterator[str]:
    """Every key's way from the top; items of a list share one, but a resource's kind tells its fields apart."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{at}.{key}"
            if key not in FREE:
                yield from paths(item, f"{at}.{key}")
    elif isinstance(value, list):
        for item in value:
            kind = item.get("kind", "") if isinstance(item, dict) else ""
            yield from paths(item, f"{at}[{kind}]")


def gist(shape: Json) -> Json:
    """What a waiter decides by."""
    status, nodes = shape["application"]["status"], shape["tree"].get("nodes") or []
    pods = {
        (info["value"], node["health"]["status"])
        for node in nodes
        if node["kind"] == "Pod" and any(shape["tag"] in image for image in node.get("images") or ())
        for info in node.get("info") or ()
        if info["name"] == "Status Reason"
    }
    results = (status.get("operationState") or {}).get("syncResult", {}).get("resources") or ()
    return {
        "sync": status["sync"]["status"],
        "health": status["health"]["status"],
        "phase": status.get("operationState", {}).get("phase"),
        "conditions": sorted({item["type"] for item in status.get("conditions") or ()}),
        "pods": sorted(pods),
        "results": sorted({(item["kind"], item["status"]) for item in results}),
    }


@pytest.mark.lab
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_sandbox_shows_what_argo_cd_showed(deployed: Scene, name: str) -> None:
    SCENARIOS[name](deployed)
    tag = deployed.app.git("rev-parse", "HEAD")
    file = RECORDED / f"{name}.json"
    shape = {
        "tag": tag,
        "application": look(deployed.stage, deployed.name),
        "tree": look(deployed.stage, deployed.name, "/resource-tree"),
    }
    if isinstance(deployed.stage, Cluster) and os.environ.get("E2E_RECORD"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(shape, indent=1, sort_keys=True) + "\n")
    real = json.loads(file.read_text())
    assert gist(shape) == gist(real)
    if not isinstance(deployed.stage, Cluster):
        for part in ("application", "tree"):
            invented = set(paths(shape[part])) - set(paths(real[part]))
            assert not invented, f"the real {part} has no {sorted(invented)}"


def brief(event: Json, old: str) -> list[str]:
    """One line of the table in the explanation of a deployment: revision, sync, health, phase."""
    status = event["application"]["status"]
    phase = (status.get("operationState") or {}).get("phase", "absent")
    revision = "old" if status["sync"].get("revision") == old else "new"
    return [revision, status["sync"]["status"], status["health"]["status"], phase]


def test_the_states_of_a_deployment_come_in_argo_cds_order(deployed: Scene) -> None:
    old = look(deployed.stage, deployed.name)["status"]["sync"]["revision"]
    seen: list[list[str]] = []
    began = threading.Event()

    def watch() -> None:
        url = f"{deployed.stage.argocd}/api/v1/stream/applications?name={deployed.name}"
        headers = {"Authorization": f"Bearer {deployed.stage.token}"}
        with urllib3.PoolManager(retries=False) as pool:
            response = pool.request("GET", url, headers=headers, preload_content=False, timeout=60.0)
            rest = b""
            while data := response.read1(1 << 16):
                began.set()
                *lines, rest = (rest + data).split(b"\n")
                for line in filter(None, lines):
                    seen.append(brief(json.loads(line)["result"], old))
                    if seen[-1] == ["new", "Synced", "Healthy", "Succeeded"]:
                        return

    watcher = threading.Thread(target=watch)
    watcher.start()
    began.wait(10)
    deployed.change()
    assert deployed.run("deploy").code == 0
    watcher.join(30)
    order = [state for state, _ in itertools.groupby(seen)]
    file = RECORDED / "order.json"
    if isinstance(deployed.stage, Cluster) and os.environ.get("E2E_RECORD"):
        file.write_text(json.dumps(order, indent=1) + "\n")
    recorded = json.loads(file.read_text())
    if isinstance(deployed.stage, Cluster):  # which may pass through a state so fast that no event tells of it
        assert (order[0], order[-1]) == (recorded[0], recorded[-1])
    else:
        assert order == recorded


QUESTIONS = [
    ("GET", "/api/v1/applications/NAME-nobody", None, "json", (403, 7)),
    ("GET", "/api/v1/applications/NAME-nobody?project=default", None, "json", (404, 5)),
    ("POST", "/api/v1/applications/NAME/sync", {"revision": "0" * 40}, "json", (400, 9)),
    ("POST", "/api/v1/applications/NAME/sync", {}, "text", (415, None)),
    ("DELETE", "/api/v1/applications/NAME/operation", None, "json", (400, 3)),
    ("DELETE", "/api/v1/applications/NAME/operation", None, "text", (415, None)),
    ("GET", "/api/v1/applications/NAME?refresh=bogus", None, "json", (200, None)),
]


@pytest.mark.parametrize(("method", "path", "body", "kind", "expected"), QUESTIONS)
def test_questions_get_argo_cds_status(
    deployed: Scene, method: str, path: str, body: object, kind: str, expected: tuple[int, int | None]
) -> None:
    headers = {"Authorization": f"Bearer {deployed.stage.token}"}
    headers["Content-Type"] = "application/json" if kind == "json" else "text/plain"
    data = json.dumps(body).encode() if body is not None else None
    url = f"{deployed.stage.argocd}{path.replace('NAME', deployed.name)}"
    time.sleep(0.5)  # the deployment's last sync has ended
    with urllib3.PoolManager(retries=False) as pool:
        answer = pool.request(method, url, body=data, headers=headers)
    code = answer.json().get("code") if expected[1] else None
    assert (answer.status, code) == expected, answer.data


def test_a_wrong_token_gets_argo_cds_status(deployed: Scene) -> None:
    with urllib3.PoolManager(retries=False) as pool:
        url = f"{deployed.stage.argocd}/api/v1/applications/{deployed.name}"
        answer = pool.request("GET", url, headers={"Authorization": "Bearer nonsense"})
    assert (answer.status, answer.json()["code"]) == (401, 16)
