"""The whole sandbox: one port, its controls, honest images, and an end that leaves nothing behind."""

import contextlib
import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pipeline.edges.registry import IMAGE_MANIFEST, OciRegistry
from pipeline.edges.registry_login import Logins
from pipeline.errors import UsageError
from pipeline.sandbox.world import Settings, World, start
from tests.sandbox.argocd_client import Client, reason
from tests.sandbox.gitops import ENVIRONMENT, Gitops


@pytest.fixture
def gitops(tmp_path: Path) -> Gitops:
    return Gitops(tmp_path)


def quick(gitops: Gitops) -> World:
    return start(Settings(git_root=gitops.root, sync_seconds=0.1, pod_seconds=0.1))


def test_closing_ends_streams_and_leaves_no_thread_and_no_file(gitops: Gitops) -> None:
    before = set(threading.enumerate())
    world = quick(gitops)
    world.add_application("demo", str(gitops.bare), "prod")
    client = Client(world.argocd_url)
    client.until(lambda app: app["status"]["health"]["status"] == "Healthy")
    streams = [
        client.lines("/api/v1/stream/applications"),
        client.lines("/api/v1/stream/applications/demo/resource-tree"),
    ]
    for stream in streams:
        next(stream)
    hanging = threading.Thread(
        target=lambda: suppressed(lambda: list(client.lines("/api/v1/stream/applications?name=nobody")))
    )
    hanging.start()
    idle = socket.create_connection(("127.0.0.1", int(world.registry_host.partition(":")[2])))
    temporary = world._temporary
    world.close()
    for stream in streams:
        suppressed(partial(list, stream))
    hanging.join()
    idle.close()
    assert set(threading.enumerate()) == before
    assert not temporary.exists()


def test_closing_frees_who_waits_for_a_paused_controller(gitops: Gitops) -> None:
    world = quick(gitops)
    world.add_application("demo", str(gitops.bare), "prod")
    world.pause_controller()
    client = Client(world.argocd_url)
    asking = threading.Thread(target=lambda: suppressed(client.refresh))
    asking.start()
    client.until(lambda app: "annotations" in app["metadata"])
    world.close()
    asking.join(10)
    assert not asking.is_alive()


def suppressed(ask: Callable[[], object]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask()


def test_a_port_that_is_taken_is_named() -> None:
    with start() as world:
        port = int(world.registry_host.partition(":")[2])
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1: Address already in use"):
            start(Settings(port=port))


def test_every_part_is_served_on_the_one_port(gitops: Gitops) -> None:
    with quick(gitops) as world:
        root = Client(world.url)
        assert root.call("GET", "/v2/") == (200, {})
        assert root.get("/api/version")
        remote = f"{world.git_url}/deploy.git"
        heads = subprocess.run(["git", "ls-remote", remote], env=ENVIRONMENT, check=True, capture_output=True).stdout
        assert gitops.git("rev-parse", "HEAD") in heads.decode()
        assert Client(f"{world.slack_url}api/", "xoxb-sandbox").call("POST", "auth.test")[1]["ok"]
        assert root.call("GET", "/nothing")[0] == 404


def test_an_image_of_its_own_registry_must_really_be_there(gitops: Gitops) -> None:
    with quick(gitops) as world:
        client = Client(world.argocd_url)
        gitops.deploy("v1", repository=f"{world.registry_host}/example/web")
        world.add_application("demo", str(gitops.bare), "prod")
        pod = client.until_pod(lambda pod: reason(pod) == "ImagePullBackOff")
        assert pod["images"] == [f"{world.registry_host}/example/web:v1"]
        push(world, "example/web", "v1")
        client.until(lambda app: app["status"]["health"]["status"] == "Healthy")


def push(world: World, name: str, tag: str) -> None:
    """Push an image of no layers."""
    registry = OciRegistry(Logins({}))
    repository = f"{world.registry_host}/{name}"
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2}
    config["digest"] = registry.push_blob(repository, b"{}")
    manifest = {"schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": config, "layers": []}
    registry.push_manifest(repository, tag, json.dumps(manifest).encode(), IMAGE_MANIFEST)


def test_faults_and_the_controller_are_steered_over_http(gitops: Gitops) -> None:
    with quick(gitops) as world:
        world.add_application("demo", str(gitops.bare), "prod")
        control, client = Client(world.url), Client(world.argocd_url)
        status, overview = control.call("PUT", "/sandbox/faults/web:v2", {"kind": "crash", "logs": ["boom"]})
        assert (status, overview["faults"]) == (200, {"web:v2": {"kind": "crash", "logs": ["boom"]}})
        gitops.deploy("v2")
        client.refresh()
        client.until_pod(lambda pod: reason(pod) == "CrashLoopBackOff")
        assert control.call("DELETE", "/sandbox/faults/web:v2")[1]["faults"] == {}
        client.until(lambda app: app["status"]["health"]["status"] == "Healthy")
        assert control.get("/sandbox/")["applications"]["demo"]["sync"] == "Synced"
        assert control.call("PUT", "/sandbox/controller", {"paused": True})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("PUT", "/sandbox/faults/v2", {"kind": "nonsense"}, 400, "kinds are pull, crash, oom"),
        ("PUT", "/sandbox/faults/v2", ["crash"], 400, "kinds are"),
        ("PUT", "/sandbox/faults/v2", {"kind": "crash", "logs": "boom"}, 400, "must be a list of lines"),
        ("PUT", "/sandbox/controller", {"paused": "yes"}, 400, "the body must be"),
        ("POST", "/sandbox/faults/v2", {}, 404, "no such address"),
        ("GET", "/sandbox/nothing", None, 404, "no such address"),
    ],
)
def test_a_senseless_order_is_explained(method: str, path: str, body: object, status: int, message: str) -> None:
    with start() as world:
        found, answer = Client(world.url).call(method, path, body)
        assert found == status
        assert message in answer["error"]
