"""What only a real Argo CD can show: hooks, windows, child applications, accounts, and parts of it that die."""

import threading
import time

import pytest

from lab.stage import Cluster
from tests.e2e.conftest import Scene

pytestmark = pytest.mark.real

HOOK = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
  annotations: {argocd.argoproj.io/hook: PreSync, argocd.argoproj.io/hook-delete-policy: BeforeHookCreation}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: migrate, image: NAME}]}}
"""


@pytest.mark.lab
def test_a_presync_hook_that_fails(deployed: Scene) -> None:
    deployed.configure(base__hook=HOOK, base__kustomization="resources: [deployment.yaml, hook.yaml]\n")
    commit = deployed.change()
    deployed.stage.break_image(deployed.image(commit), "crash", ["migrating", "relation lessons does not exist"])
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (10, "failed"), done.stderr
    cause = deployed.only(done)["cause"]
    assert (cause["reason"], cause["resource"]) == ("SyncFailed", "Job/migrate")
    assert "BackoffLimitExceeded" in cause["message"] or "backoff limit" in cause["message"]
    assert cause["logs"][-1] == "relation lessons does not exist"
    assert "  | relation lessons does not exist" in done.stderr


def test_a_sync_window_that_denies(scene: Scene, cluster: Cluster) -> None:
    window = {
        "kind": "deny",
        "schedule": "* * * * *",
        "duration": "1h",
        "applications": [scene.name],
        "manualSync": False,
    }
    spec = {
        "sourceRepos": ["*"],
        "destinations": [{"server": "*", "namespace": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
        "syncWindows": [window],
    }
    metadata = {"name": scene.name, "namespace": "argocd"}
    cluster.api.apply(
        [{"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": metadata, "spec": spec}]
    )
    scene.stage.add_application(scene.name, scene.spec(project=scene.name))
    done = scene.run("deploy")
    assert (done.code, done.json["outcome"]) == (10, "failed"), done.stderr
    assert scene.only(done)["cause"]["reason"] == "SyncWindow"
    assert "blocked by sync window (deny * * * * * for 1h)" in done.stderr
    cluster.api.delete("argoproj.io/v1alpha1", "AppProject", scene.name, "argocd")


@pytest.mark.lab
def test_an_app_of_apps_with_a_failing_child(scene: Scene, cluster: Cluster) -> None:
    child = f"{scene.name}-child"
    spec = scene.spec(destination={"server": "https://kubernetes.default.svc", "namespace": child})
    application = f"""\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {{name: {child}, namespace: argocd}}
spec:
  project: default
  source: {{repoURL: "{scene.gitops_url}", targetRevision: main, path: {spec["source"]["path"]}}}
  destination: {{server: "https://kubernetes.default.svc", namespace: {child}}}
  syncPolicy: {{automated: {{prune: true}}, syncOptions: [CreateNamespace=true]}}
"""
    scene.configure(apps__child=application, apps__kustomization="resources: [child.yaml]\n")
    parent = {"repoURL": scene.gitops_url, "targetRevision": "main", "path": "apps"}
    scene.stage.add_application(scene.name, scene.spec(source=parent))
    commit = scene.app.git("rev-parse", "HEAD")
    scene.stage.break_image(scene.image(commit), "pull")
    both = ("--app", scene.name, "--app", child)
    # The child is there only once its parent is synced.
    parent_only = scene.run("deploy", "--app", scene.name)
    assert parent_only.code == 0, parent_only.stderr
    done = scene.run("deploy", *both)
    assert (done.code, done.json["outcome"]) == (11, "failed"), done.stderr
    ends = {app["name"]: app for app in done.json["rollout"]["applications"]}
    assert ends[scene.name]["outcome"] == "deployed", "its own resource is there; the child's health is not its own"
    assert ends[child]["cause"]["reason"] == "ImagePullBackOff"
    assert f"{child}: ImagePullBackOff" in done.stderr
    cluster.remove_application(scene.name)  # or it would bring its child back
    cluster.remove_application(child)


@pytest.mark.lab
def test_a_token_without_rights(deployed: Scene, cluster: Cluster) -> None:
    deployed.change()
    stranger = {"ARGOCD_AUTH_TOKEN": cluster.lab.token("stranger")}
    done = deployed.run("deploy", environ=stranger)
    assert (done.code, done.json["error"]["class"]) == (5, "ArgoCDDenied"), done.stderr
    assert "permission denied" in done.stderr
    done = deployed.run("deploy", "--argocd-project", "default", environ=stranger)
    assert (done.code, done.json["error"]["class"]) == (5, "ArgoCDDenied"), done.stderr
    done = deployed.run("deploy", environ={"ARGOCD_AUTH_TOKEN": "nonsense"})
    assert (done.code, done.json["error"]["class"]) == (5, "ArgoCDDenied"), done.stderr
    assert "does not accept the token" in done.stderr


@pytest.mark.lab
@pytest.mark.alone
def test_the_api_server_of_argo_cd_dies_in_the_middle_of_a_wait(deployed: Scene, cluster: Cluster) -> None:
    commit = deployed.change()
    deployed.stage.break_image(deployed.image(commit), "slow")
    waiting = deployed.start("deploy")
    deployed.until(lambda _: deployed.image(commit) in deployed.running())
    cluster.kill("argocd-server")
    time.sleep(3)
    cluster.revive()
    done = deployed.ended(waiting)
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert "Argo CD gives no usable answer" in done.stderr
    assert "Argo CD answers again" in done.stderr


@pytest.mark.lab
@pytest.mark.alone
def test_argo_cd_cannot_reach_its_repo_server(deployed: Scene, cluster: Cluster) -> None:
    deployed.change()
    cluster.kill("argocd-repo-server")
    done = deployed.run("deploy", "--timeout", "75")
    assert done.code in {10, 12}, done.stderr
    cause = deployed.only(done)["cause"]
    assert cause["reason"] in {"Unavailable", "TimedOut"}
    assert "connection refused" in cause["message"] or "did not answer the refresh" in cause["message"]


@pytest.mark.lab
@pytest.mark.alone
def test_the_git_server_is_down_while_we_publish(deployed: Scene, cluster: Cluster) -> None:
    before = deployed.gitops.git("ls-remote", "origin", "main")
    commit = deployed.change()
    deployed.run("build")
    bump = ("bump", "--image", f"{deployed.name}={commit}")
    cluster.kill("git")
    done = deployed.run(*bump)
    assert (done.code, done.json["error"]["class"]) == (7, "Unreachable"), done.stderr
    assert deployed.stage.git_url.removeprefix("http://") in done.json["error"]["message"]
    later = threading.Timer(1.0, cluster.revive)
    later.start()
    done = deployed.run(*bump)
    later.join()
    assert (done.code, done.json["outcome"]) == (0, "published"), "a short outage is waited out: " + done.stderr
    assert deployed.gitops.git("ls-remote", "origin", "main") != before


@pytest.mark.lab
def test_check_is_told_by_argo_cd_itself_what_an_account_may_do(deployed: Scene, cluster: Cluster) -> None:
    done = deployed.run("check")
    items = {item["name"]: item for item in done.json["check"]["items"]}
    assert (done.code, done.json["outcome"]) == (0, "reported"), done.stdout
    told = {items[f"{what} of {deployed.name}"]["state"] for what in ("source", "manifests", "syncs", "logs")}
    assert (items["Argo CD"]["state"], told) == ("ok", {"ok"})
    done = deployed.run("check", environ={"ARGOCD_AUTH_TOKEN": cluster.lab.token("stranger")})
    items = {item["name"]: item for item in done.json["check"]["items"]}
    assert (done.code, items["Argo CD"]["state"]) == (1, "ok")
    assert items[f"application {deployed.name}"]["state"] == "problem"
    done = deployed.run("check", environ={"ARGOCD_AUTH_TOKEN": "wrong"})
    items = {item["name"]: item for item in done.json["check"]["items"]}
    assert items["Argo CD"]["state"] == "problem", items["Argo CD"]
