"""The Argo CD API of the sandbox: the order of events, the traps, and the contract."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.sandbox.cluster import Fault
from pipeline.sandbox.world import Settings, World, start
from tests.sandbox.argocd_client import SHAPES, Client, Json, reason
from tests.sandbox.gitops import MANIFESTS, Gitops

FAST = {"sync_seconds": 0.1, "pod_seconds": 0.1}
Make = Callable[..., World]


@pytest.fixture
def gitops(tmp_path: Path) -> Gitops:
    return Gitops(tmp_path)


@pytest.fixture
def make(gitops: Gitops) -> Iterator[Make]:
    """Starts worlds that serve the GitOps repository."""
    worlds: list[World] = []

    def made(**settings: Any) -> World:
        worlds.append(start(Settings(git_root=gitops.root, **{**FAST, **settings})))
        return worlds[-1]

    yield made
    for world in worlds:
        world.close()


def follow(world: World, **options: Any) -> Client:
    """Let the world follow the overlay as `demo`, and wait until that is healthy."""
    world.add_application("demo", f"{world.git_url}/deploy.git", "prod", **options)
    client = Client(world.argocd_url)
    client.until(healthy)
    return client


def healthy(app: Json) -> bool:
    return (app["status"]["sync"]["status"], app["status"]["health"]["status"]) == ("Synced", "Healthy")


def brief(event: Json) -> tuple[str, str, str, str]:
    """What the table of a deployment's events shows: revision, sync, health, phase of the operation."""
    status = event["application"]["status"]
    revision = status["sync"].get("revision", "")
    phase = status.get("operationState", {}).get("phase", "absent")
    return revision, status["sync"]["status"], status["health"]["status"], phase


def test_a_deployment_shows_the_events_of_a_real_argo_cd_in_their_order(make: Make, gitops: Gitops) -> None:
    client = follow(make())
    old = client.app()["status"]["sync"]["revision"]
    events = client.lines("/api/v1/stream/applications?name=demo")
    assert next(events)["type"] == "ADDED"
    new = gitops.deploy("v2")
    refreshed: list[Json] = []
    asking = threading.Thread(target=lambda: refreshed.append(client.refresh()))
    asking.start()
    seen = []
    for event in events:
        seen.append((*brief(event), event["application"]["metadata"].get("annotations", {})))
        if seen[-1][:3] == (new, "Synced", "Healthy"):
            break
    asking.join()
    asked = {"argocd.argoproj.io/refresh": "normal"}
    assert [state for state, _ in itertools.groupby(seen)] == [
        (old, "Synced", "Healthy", "Succeeded", asked),
        (old, "Synced", "Healthy", "absent", asked),
        (new, "OutOfSync", "Healthy", "absent", {}),
        (new, "OutOfSync", "Healthy", "Running", {}),
        (new, "OutOfSync", "Healthy", "Succeeded", {}),
        (new, "Synced", "Progressing", "Succeeded", {}),
        (new, "Synced", "Healthy", "Succeeded", {}),
    ]
    assert refreshed[0]["status"]["sync"] | {"comparedTo": None} == {
        "status": "OutOfSync",
        "comparedTo": None,
        "revision": new,
    }


def test_old_pods_stay_until_new_ones_are_ready(make: Make, gitops: Gitops) -> None:
    world = make(pod_seconds=0.3)
    client = follow(world)
    trees = client.lines("/api/v1/stream/applications/demo/resource-tree")
    next(trees)
    gitops.deploy("v2")
    client.refresh()
    for tree in trees:
        pods = [node for node in tree["nodes"] if node["kind"] == "Pod" and reason(node) != "Terminating"]
        ready = [pod["images"][0] for pod in pods if pod["health"]["status"] == "Healthy"]
        assert len(ready) >= 2
        if ready == ["example/web:v2"] * 2 and len(pods) == 2:
            break
    assert client.until(healthy)["status"]["summary"]["images"][-1] == "example/web:v2"


def test_a_commit_that_changes_nothing_here_moves_the_revision_without_a_sync(make: Make, gitops: Gitops) -> None:
    client = follow(make())
    before = client.app()["status"]
    gitops.write("README.md", "hello")
    revision = gitops.push()
    after = client.refresh()["status"]
    assert after["sync"]["revision"] == revision
    assert after["sync"]["status"] == "Synced"
    assert after["operationState"] == before["operationState"]
    assert after["history"] == before["history"]


def test_a_swallowed_commit_never_appears(make: Make, gitops: Gitops) -> None:
    client = follow(make())
    swallowed, landed = gitops.deploy("v2"), gitops.deploy("v3")
    client.refresh()
    app = client.until(lambda app: healthy(app) and app["status"]["sync"]["revision"] == landed)
    assert swallowed not in json.dumps(app)


def test_a_commit_that_comes_during_a_sync_is_synced_after_it(make: Make, gitops: Gitops) -> None:
    client = follow(make(sync_seconds=0.5))
    first = gitops.deploy("v2")
    client.refresh()
    second = gitops.deploy("v3")
    client.refresh()
    app = client.until(lambda app: healthy(app) and app["status"]["sync"]["revision"] == second)
    assert [entry["revision"] for entry in app["status"]["history"][-2:]] == [first, second]


def test_git_is_polled_without_being_asked(make: Make, gitops: Gitops) -> None:
    client = follow(make(poll_seconds=0.2))
    revision = gitops.deploy("v2")
    client.until(lambda app: app["status"]["sync"].get("revision") == revision)


def test_the_stream_of_an_unknown_application_hangs_without_a_byte(make: Make) -> None:
    world = make(cut_streams_seconds=0.5)
    follow(world)
    assert list(Client(world.argocd_url).lines("/api/v1/stream/applications?name=nobody")) == []


def test_the_stream_stays_open_after_a_deletion(make: Make, gitops: Gitops) -> None:
    world = make()
    client = follow(world)
    events = client.lines("/api/v1/stream/applications")
    assert next(events)["type"] == "ADDED"
    assert client.call("DELETE", "/api/v1/applications/demo") == (200, {})
    assert next(event for event in events if event["type"] != "MODIFIED")["type"] == "DELETED"
    world.add_application("another", str(gitops.bare), "prod")
    assert next(events)["application"]["metadata"]["name"] == "another"


def test_nothing_of_an_application_comes_back_that_is_deleted_during_its_sync(make: Make, gitops: Gitops) -> None:
    world = make(sync_seconds=0.5, cut_streams_seconds=1.5)
    client = Client(world.argocd_url)
    events = client.lines("/api/v1/stream/applications")
    world.add_application("demo", str(gitops.bare), "prod")
    assert next(events)["type"] == "ADDED"
    client.until(lambda app: "operation" in app)
    client.call("DELETE", "/api/v1/applications/demo")
    kinds = [event["type"] for event in events]
    assert (kinds[-1], kinds.count("DELETED")) == ("DELETED", 1)
    world.add_application("demo", str(gitops.bare), "prod", automated=False)
    assert client.refresh()["status"]["health"]["status"] == "Missing"
    assert client.pods() == []


def test_a_sync_may_follow_another_at_once(make: Make, gitops: Gitops) -> None:
    world = make()
    world.add_application("demo", str(gitops.bare), "prod", automated=False)
    client = Client(world.argocd_url)
    for _ in range(3):
        client.call("POST", "/api/v1/applications/demo/sync", {})
        client.until(lambda app: app["status"].get("operationState", {}).get("phase") == "Succeeded")
    client.until(healthy)
    assert len(client.app()["status"]["history"]) == 3


def test_a_sync_that_is_tried_again_and_again_can_be_ended(make: Make, gitops: Gitops) -> None:
    client = follow(make(faults={"v2": Fault("sync")}, sync_seconds=2.0))
    operation = "/api/v1/applications/demo/operation"
    gitops.deploy("v2")
    client.call("GET", "/api/v1/applications/demo?refresh=normal")
    client.until(lambda app: app["status"].get("operationState", {}).get("retryCount") == 1)
    assert client.call("DELETE", operation) == (200, {})
    ended = client.until(lambda app: app["status"].get("operationState", {}).get("phase") == "Failed")
    assert ended["status"]["operationState"]["message"] == "Operation terminated"
    assert client.call("DELETE", operation)[0] == 400
    healed = gitops.deploy("v3")
    client.call("GET", "/api/v1/applications/demo?refresh=normal")
    client.until(lambda app: healthy(app) and app["status"]["sync"]["revision"] == healed)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "message"),
    [
        ("GET", "/api/v1/applications/nobody", None, 403, 7, "permission denied"),
        ("GET", "/api/v1/applications/nobody?project=default", None, 404, 5, "not found"),
        ("GET", "/api/v1/applications/demo?project=other", None, 403, 7, "permission denied"),
        ("GET", "/api/v1/applications/demo/resource-tree?project=other", None, 403, 7, "permission denied"),
        ("POST", "/api/v1/applications/demo/sync", {"revision": "0" * 40}, 400, 9, "auto-sync currently set to main"),
        ("POST", "/api/v1/session", {"username": "admin", "password": "x"}, 401, 16, "Invalid username or password"),
        ("DELETE", "/api/v1/applications/demo", None, 403, 7, "applications, delete, default/demo, sub: "),
    ],
)
def test_a_refusal_has_argo_cds_code(
    make: Make, method: str, path: str, body: object, status: int, code: int, message: str
) -> None:
    client = follow(make(denied=frozenset({"applications, delete"})))
    found, answer = client.call(method, path, body)
    assert (found, answer["code"]) == (status, code)
    assert message in answer["message"]
    assert answer["error"] == answer["message"]


@pytest.mark.parametrize(("token", "message"), [(None, "no session information"), ("wrong", "invalid session")])
def test_a_wrong_token_is_401_and_has_another_shape_on_streams(make: Make, token: str | None, message: str) -> None:
    client = Client(make().argocd_url, token)
    status, answer = client.call("GET", "/api/v1/applications")
    assert (status, answer["code"]) == (401, 16)
    status, answer = client.call("GET", "/api/v1/stream/applications")
    assert status == 401
    assert message in answer["error"]["message"]
    assert answer["error"] | {"message": ""} == {
        "grpc_code": 16,
        "http_code": 401,
        "message": "",
        "http_status": "Unauthorized",
    }


def test_a_body_that_is_not_called_json_is_415_in_plain_text(make: Make) -> None:
    client = follow(make())
    status, text = client.call("POST", "/api/v1/applications/demo/sync", {}, content_type="text/plain")
    assert (status, text) == (415, "Invalid content type")


@pytest.mark.parametrize(
    ("url", "path", "branch", "message"),
    [
        ("{git}/deploy.git", "none", "main", "none: app path does not exist"),
        ("{git}/deploy.git", "prod", "no-such", "unable to resolve 'no-such' to a commit SHA"),
        ("{git}/absent.git", "prod", "main", "failed to list refs: repository not found"),
        ("http://127.0.0.1:9/absent.git", "prod", "main", "failed to list refs: repository not found"),
        ("{git}/deploy.git", "broken", "main", "`kustomize build <path to cached source>/broken` failed exit status 1"),
    ],
)
def test_what_cannot_be_rendered_is_unknown_but_healthy(
    make: Make, gitops: Gitops, url: str, path: str, branch: str, message: str
) -> None:
    world = make()
    gitops.write("broken/kustomization.yaml", "resources: [../nowhere]\n")
    gitops.push()
    world.add_application("demo", url.format(git=world.git_url), path, branch=branch)
    status = Client(world.argocd_url).until(lambda app: app["status"].get("conditions"))["status"]
    assert (status["sync"]["status"], status["health"]["status"]) == ("Unknown", "Healthy")
    assert "revision" not in status["sync"]
    assert "operationState" not in status
    assert [condition["type"] for condition in status["conditions"]] == ["ComparisonError"]
    assert message in status["conditions"][0]["message"]


def test_a_tag_that_yaml_reads_as_a_number_fails_the_comparison_and_mending_it_helps(
    make: Make, gitops: Gitops
) -> None:
    client = follow(make())
    text = (gitops.work / "prod/kustomization.yaml").read_text()
    gitops.write("prod/kustomization.yaml", text.replace('"v1"', "0123"))
    gitops.push()
    status = client.refresh()["status"]
    assert (status["sync"]["status"], status["health"]["status"]) == ("Unknown", "Healthy")
    assert "cannot unmarshal number into Go struct field Image.images.newTag" in status["conditions"][0]["message"]
    gitops.deploy("v2")
    assert "conditions" not in client.refresh()["status"]


def test_what_the_api_server_refuses_is_a_failed_sync_after_five_retries(make: Make, gitops: Gitops) -> None:
    client = follow(make(faults={"v2": Fault("sync")}))
    phases = (brief(event)[3] for event in client.lines("/api/v1/stream/applications?name=demo"))
    revision = gitops.deploy("v2")
    client.refresh()
    assert next(phase for phase in phases if phase not in ("absent", "Succeeded", "Running")) == "Failed"
    status = client.until(lambda app: "conditions" in app["status"])["status"]
    assert (status["sync"]["status"], status["sync"]["revision"]) == ("OutOfSync", revision)
    assert status["health"]["status"] == "Healthy"
    state = status["operationState"]
    assert state["retryCount"] == 5
    assert state["message"].endswith("(retried 5 times).")
    assert {
        result["name"]: result["status"] for result in state["syncResult"]["resources"] if result["kind"] != "Service"
    } == {"web": "SyncFailed"}
    assert status["conditions"][0]["type"] == "SyncError"
    gitops.deploy("v3")
    client.refresh()
    assert "conditions" not in client.until(healthy)["status"]


def test_the_tree_tells_a_broken_pod_long_before_the_application_is_degraded(make: Make, gitops: Gitops) -> None:
    client = follow(make(faults={"v2": Fault("pull")}, progress_deadline_seconds=1.5))
    gitops.deploy("v2")
    client.refresh()
    pod = client.until_pod(lambda pod: reason(pod) == "ImagePullBackOff")
    assert pod["health"] == {"status": "Degraded", "message": 'Back-off pulling image "example/web:v2"'}
    assert client.app()["status"]["health"]["status"] == "Progressing"
    assert sorted(pod["images"][0] for pod in client.pods()) == ["example/web:v1"] * 2 + ["example/web:v2"]
    status = client.until(lambda app: app["status"]["health"]["status"] == "Degraded")["status"]
    assert "message" not in status["health"]
    messages = [resource["health"].get("message") for resource in status["resources"]]
    assert 'Deployment "web" exceeded its progress deadline' in messages


def test_a_broken_pods_events_and_last_lines_can_be_read(make: Make, gitops: Gitops) -> None:
    client = follow(make(faults={"v2": Fault("crash", ("one", "two", "three"))}))
    gitops.deploy("v2")
    client.refresh()
    pod = client.until_pod(lambda pod: reason(pod) == "CrashLoopBackOff")
    name, namespace = pod["name"], pod["namespace"]
    where = f"resourceName={name}&resourceNamespace={namespace}&resourceUID={pod['uid']}"
    events = client.get(f"/api/v1/applications/demo/events?{where}")["items"]
    assert "Back-off restarting failed container web" in events[-1]["message"]
    assert client.get("/api/v1/applications/demo/events?resourceName=none") == {"metadata": {}, "items": []}
    for previous in ("", "&previous=true"):
        path = f"/api/v1/applications/demo/logs?podName={name}&namespace={namespace}&container=web&tailLines=2"
        lines = list(client.lines(path + previous))
        assert [line["content"] for line in lines] == ["two", "three", ""]
        assert [line["last"] for line in lines] == [False, False, True]
    assert next(client.lines(f"/api/v1/applications/demo/pods/{name}/logs"))["content"] == "one"


def test_the_manifest_of_a_broken_pod_names_the_container_and_how_it_ended(make: Make, gitops: Gitops) -> None:
    client = follow(make(faults={"v2": Fault("oom")}))
    gitops.deploy("v2")
    client.refresh()
    pod = client.until_pod(lambda pod: reason(pod) == "CrashLoopBackOff")
    where = f"resourceName={pod['name']}&namespace={pod['namespace']}&version=v1&group=&kind=Pod"
    manifest = json.loads(client.get(f"/api/v1/applications/demo/resource?{where}")["manifest"])
    (status,) = manifest["status"]["containerStatuses"]
    assert (status["name"], status["ready"], status["state"]["waiting"]["reason"]) == ("web", False, "CrashLoopBackOff")
    assert status["lastState"]["terminated"]["exitCode"] == 137
    status, answer = client.call("GET", "/api/v1/applications/demo/resource?kind=Pod&resourceName=none&group=")
    assert (status, answer["code"]) == (400, 3)
    assert answer["message"] == "Pod  none not found as part of application demo"


def test_a_kubelets_complaint_comes_as_a_log_line(make: Make, gitops: Gitops) -> None:
    client = follow(make(faults={"v2": Fault("pull")}))
    gitops.deploy("v2")
    client.refresh()
    pod = client.until_pod(lambda pod: reason(pod) == "ImagePullBackOff")
    first, *_ = client.lines(f"/api/v1/applications/demo/logs?podName={pod['name']}")
    assert first["content"].endswith("is waiting to start: ImagePullBackOff")
    assert first["podName"] == ""


def test_logs_can_be_forbidden_while_all_else_is_allowed(make: Make) -> None:
    client = follow(make(denied=frozenset({"logs, get"})))
    status, answer = client.call("GET", f"/api/v1/applications/demo/logs?podName={client.pods()[0]['name']}")
    assert status == 403
    assert answer["error"]["message"].startswith("permission denied: logs, get, default/demo, sub: ")


def test_an_application_without_automated_sync_waits_for_one(make: Make, gitops: Gitops) -> None:
    world = make()
    world.add_application("demo", str(gitops.bare), "prod", automated=False)
    client = Client(world.argocd_url)
    assert client.refresh()["status"]["health"]["status"] == "Missing"
    status, app = client.call("POST", "/api/v1/applications/demo/sync", {})
    assert status == 200
    assert "operationState" not in app["status"]
    status, answer = client.call("POST", "/api/v1/applications/demo/sync", {})
    assert (status, answer["code"], answer["message"]) == (400, 9, "another operation is already in progress")
    client.until(healthy)
    old = gitops.git("rev-parse", "HEAD")
    gitops.deploy("v2")
    assert client.refresh()["status"]["sync"]["status"] == "OutOfSync"
    client.call("POST", "/api/v1/applications/demo/sync", {"revision": old})
    app = client.until(lambda app: app["status"].get("operationState", {}).get("phase") == "Succeeded")
    assert app["status"]["operationState"]["syncResult"]["revision"] == old
    assert app["status"]["operationState"]["operation"]["initiatedBy"] == {"username": "admin"}


def test_a_sync_of_what_cannot_be_rendered_ends_in_an_error(make: Make) -> None:
    world = make()
    world.add_application("demo", f"{world.git_url}/deploy.git", "none", automated=False)
    client = Client(world.argocd_url)
    client.call("POST", "/api/v1/applications/demo/sync", {})
    state = client.until(lambda app: app["status"].get("operationState"))["status"]["operationState"]
    assert (state["phase"], state["syncResult"]["revision"]) == ("Error", "")
    assert state["message"].startswith("ComparisonError: Failed to load target state")


def test_a_sync_window_blocks_every_sync(make: Make, gitops: Gitops) -> None:
    world = make()
    world.add_application("demo", str(gitops.bare), "prod", blocked=True)
    client = Client(world.argocd_url)
    status, answer = client.call("POST", "/api/v1/applications/demo/sync", {})
    assert (status, answer["message"]) == (403, "cannot sync: blocked by sync window")
    assert client.refresh()["status"]["sync"]["status"] == "OutOfSync"
    window = {"kind": "deny", "schedule": "* * * * *", "duration": "1h", "manualSync": False}
    windows = client.get("/api/v1/applications/demo/syncwindows")
    assert windows == {"activeWindows": [window], "assignedWindows": [window], "canSync": False}
    world.add_application("open", str(gitops.bare), "prod")
    assert client.get("/api/v1/applications/open/syncwindows") == {"canSync": True}


def test_several_sources_have_revisions_and_no_revision(make: Make, gitops: Gitops) -> None:
    gitops.write("more/config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n")
    revision = gitops.push()
    world = make()
    url = f"{world.git_url}/deploy.git"
    sources = [{"repoURL": url, "path": path, "targetRevision": "main"} for path in ("prod", "more")]
    world.add_application("demo", sources=sources)
    status = Client(world.argocd_url).until(healthy)["status"]
    assert "revision" not in status["sync"]
    assert status["sync"]["revisions"] == [revision, revision]
    assert status["operationState"]["syncResult"]["revision"] == ""
    assert status["operationState"]["syncResult"]["revisions"] == [revision, revision]
    assert status["sourceTypes"] == ["Kustomize", "Directory"]


def test_what_git_no_longer_has_is_pruned(make: Make, gitops: Gitops) -> None:
    client = follow(make())
    gitops.write("base/web.yaml", MANIFESTS.partition("---")[0])
    gitops.push()
    client.refresh()
    app = client.until(lambda app: healthy(app) and len(app["status"]["history"]) == 2)
    assert [resource["kind"] for resource in app["status"]["resources"]] == ["Deployment"]
    results = {item["kind"]: item["status"] for item in app["status"]["operationState"]["syncResult"]["resources"]}
    assert results == {"Deployment": "Synced", "Service": "Pruned"}


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("Deployment", "spec: 5", "containers: Required value"),
        ("Deployment", "spec: {template: {spec: {containers: [a, b]}}}", "name and image are required"),
        (
            "Deployment",
            "spec: {template: {metadata: null, spec: {containers: [{name: a, image: 5}]}}}",
            "name and image",
        ),
        ("Deployment", "spec: {progressDeadlineSeconds: soon}", "progressDeadlineSeconds: Invalid value"),
        ("CronJob", "spec: {jobTemplate: [1]}", None),
        ("Widget", "spec: [1, 2]", None),
        ("Widget", "spec: {template: text}", None),
    ],
)
def test_a_senseless_manifest_fails_its_sync_and_nothing_else(
    make: Make, gitops: Gitops, kind: str, body: str, message: str | None
) -> None:
    client = follow(make())
    gitops.write("base/web.yaml", f"{MANIFESTS}---\napiVersion: a/v1\nkind: {kind}\nmetadata: {{name: odd}}\n{body}\n")
    gitops.push()
    client.refresh()
    app = client.until(lambda app: app["status"].get("operationState", {}).get("phase") in ("Succeeded", "Failed"))
    results = app["status"]["operationState"]["syncResult"]["resources"]
    odd = next(result for result in results if result["name"] == "odd")
    assert odd["status"] == ("SyncFailed" if message else "Synced")
    assert (message or "") in odd["message"]
    gitops.deploy("v2")
    client.refresh()
    client.until_pod(lambda pod: pod["images"] == ["example/web:v2"])


def test_a_restart_replaces_the_pods_and_leaves_the_application_in_sync(make: Make) -> None:
    client = follow(make())
    before = {pod["name"] for pod in client.pods()}
    where = "namespace=demo&resourceName=web&version=v1&group=apps&kind=Deployment"
    assert client.call("POST", f"/api/v1/applications/demo/resource/actions?{where}", "restart") == (200, {})
    client.until_pod(lambda pod: pod["name"] not in before and pod["health"]["status"] == "Healthy")
    assert client.app()["status"]["sync"]["status"] == "Synced"
    status, _ = client.call(
        "POST", "/api/v1/applications/demo/resource/actions?kind=Deployment&resourceName=x", "restart"
    )
    assert status == 400


def test_while_the_controller_is_paused_a_refresh_blocks_and_a_plain_read_answers(make: Make, gitops: Gitops) -> None:
    world = make()
    client = follow(world)
    world.pause_controller()
    revision = gitops.deploy("v2")
    answers: list[Json] = []
    asking = threading.Thread(target=lambda: answers.append(client.refresh()))
    asking.start()
    client.until(lambda app: "annotations" in app["metadata"])
    asking.join(0.5)
    assert answers == []
    world.pause_controller(False)
    asking.join()
    assert answers[0]["status"]["sync"]["revision"] == revision
    client.until(healthy)


def test_a_webhook_is_answered_200_whether_or_not_it_matches(make: Make, gitops: Gitops) -> None:
    world = make()
    client = follow(world)
    revision = gitops.deploy("v2")
    for url in ("https://example.com/other", "https://127.0.0.1/git/deploy"):
        assert client.call("POST", "/api/webhook", {"repository": {"html_url": url}})[0] == 200
    client.until(lambda app: app["status"]["sync"]["revision"] == revision)


def test_an_application_can_be_created_over_the_api(make: Make, gitops: Gitops) -> None:
    client = Client(make().argocd_url)
    source = {"repoURL": str(gitops.bare), "path": "prod", "targetRevision": "HEAD"}
    new = {"metadata": {"name": "demo"}, "spec": {"source": source, "syncPolicy": {"automated": {}}}}
    assert client.call("POST", "/api/v1/applications", new)[0] == 200
    client.until(healthy)
    assert client.call("POST", "/api/v1/applications", new)[0] == 400
    assert client.call("POST", "/api/v1/applications", {"metadata": {"name": "x"}})[0] == 400


def test_lists_are_filtered_and_the_rest_of_the_api_answers(make: Make) -> None:
    client = follow(make())
    for query, count in (("", 1), ("?name=demo", 1), ("?name=x", 0), ("?projects=default", 1), ("?projects=x", 0)):
        assert len(client.get(f"/api/v1/applications{query}")["items"]) == count
    assert client.get("/api/v1/session/userinfo")["loggedIn"]
    assert client.get("/api/v1/account/can-i/logs/get/default/web") == {"value": "yes"}
    anyone = Client(client.url, None)
    assert anyone.get("/api/version")["Version"].startswith("v3")
    assert anyone.get("/api/v1/settings")
    body = {"username": "admin", "password": "sandbox"}
    assert anyone.call("POST", "/api/v1/session", body) == (200, {"token": "sandbox"})


def test_streams_can_be_refused_and_cut(make: Make) -> None:
    status, answer = follow(make(streams=False)).call("GET", "/api/v1/stream/applications")
    assert (status, answer["error"]["grpc_code"]) == (501, 12)
    client = follow(make(cut_streams_seconds=0.3))
    assert [event["type"] for event in client.lines("/api/v1/stream/applications")] == ["ADDED"]
    assert len(list(client.lines("/api/v1/stream/applications/demo/resource-tree"))) == 1


def test_argo_cd_can_stand_below_a_root_path(make: Make) -> None:
    world = make(argocd_path="/argocd")
    follow(world)
    assert world.argocd_url.endswith("/argocd")
    assert Client(world.url).call("GET", "/api/version")[0] == 404


def paths(value: object, above: str = "") -> set[str]:
    """Where in a JSON value something stands; list items all stand at the same place."""
    if isinstance(value, dict):
        return {inner for key, item in value.items() for inner in {f"{above}.{key}", *paths(item, f"{above}.{key}")}}
    if isinstance(value, list):
        return {inner for item in value for inner in paths(item, above)}
    return set()


@pytest.mark.skipif(not SHAPES.exists(), reason="../shared/lab/argocd-shapes is not here")
@pytest.mark.parametrize("recorded", ["degraded-app", "degraded-tree", "badpath", "badpath-synced", "immut"])
def test_what_a_real_argo_cd_says_the_sandbox_says_too(make: Make, gitops: Gitops, recorded: str) -> None:
    world = make(faults={"v2": Fault("pull"), "v3": Fault("sync")}, progress_deadline_seconds=0.5)
    client = follow(world)
    gitops.deploy("v3" if recorded == "immut" else "v2")
    client.refresh()
    if recorded.startswith("degraded"):
        client.until(lambda app: app["status"]["health"]["status"] == "Degraded")
        ours = client.app() if recorded == "degraded-app" else client.get("/api/v1/applications/demo/resource-tree")
    elif recorded == "immut":
        ours = client.until(lambda app: "conditions" in app["status"])
    else:
        world.add_application("bad", str(gitops.bare), "none", automated=False)
        client.refresh("bad")
        ours = client.app("bad")
        if recorded == "badpath-synced":
            client.call("POST", "/api/v1/applications/bad/sync", {})
            ours = client.until(lambda app: "operationState" in app["status"], "bad")
    real = json.loads((SHAPES / f"{recorded}.json").read_text())
    unread = (
        *(".metadata.managedFields", ".metadata.annotations", ".spec", ".hosts"),
        *(".nodes.resourceVersion", ".nodes.networkingInfo.targetLabels"),
        *(".status.operationState.operation.sync.syncOptions", ".status.operationState.operation.retry.backoff"),
    )
    missing = {path for path in paths(real) - paths(ours) if not path.startswith(unread)}
    assert not missing
