"""What becomes of a deployment, on the sandbox and on a real Argo CD: outcome, exit code and cause."""

import time

import pytest

from lab.stage import Cluster
from pipeline.edges.docker_engine import answers
from tests.e2e.conftest import DEPLOYMENT, Scene
from tests.e2e.proxy import cutting_proxy


def test_a_first_deployment(scene: Scene) -> None:
    scene.stage.add_application(scene.name, scene.spec())
    commit = scene.app.git("rev-parse", "HEAD")
    done = scene.run("deploy", "--engine", "docker" if answers() else "sources")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert done.json["images"][0]["digest"].startswith("sha256:")
    assert scene.only(done)["proof"].startswith(f"2 pods run {scene.name}:{commit[:7]}")
    assert scene.running() == {scene.image(commit)}


def test_a_second_deployment(deployed: Scene) -> None:
    commit = deployed.change()
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert deployed.only(done)["revision"] == done.json["gitops"]["revision"]
    assert f"2 pods run {deployed.name}:{commit[:7]}" in deployed.only(done)["proof"]


def test_what_runs_already_returns_at_once(deployed: Scene) -> None:
    done = deployed.run("deploy", "--timeout", "5")
    assert (done.code, done.json["outcome"]) == (0, "unchanged"), done.stderr
    revision = done.json["gitops"]["revision"]
    assert revision == deployed.gitops.git("ls-remote", "origin", "main").split()[0]
    assert deployed.only(done)["proof"].startswith("2 pods run")


@pytest.mark.lab
def test_healthy_before_the_sync_is_no_proof(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.stage.break_image(deployed.image(commit), "slow")
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    ours = [pod for pod in deployed.pods() if deployed.image(commit) in pod["images"]]
    assert [pod["health"]["status"] for pod in ours] == ["Healthy", "Healthy"], "at the moment of our exit"
    assert f"2 pods run {deployed.name}:{commit[:7]}" in deployed.only(done)["proof"]


def test_a_later_commit_that_swallows_ours_proves_it(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.run("build")
    bumped = deployed.run("bump", "--image", f"{deployed.name}={commit}")
    assert bumped.json["outcome"] == "published", bumped.stderr
    later = deployed.configure(base__deployment=DEPLOYMENT.replace("replicas: 2", "replicas: 3"))
    ours = ("--revision", bumped.json["gitops"]["revision"], "--image", f"{deployed.name}={commit}")
    done = deployed.run("wait", *ours)
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert deployed.only(done)["revision"] == later
    assert "3 pods run" in deployed.only(done)["proof"]


@pytest.mark.lab
def test_a_newer_image_supersedes_ours_while_we_wait(deployed: Scene) -> None:
    older = deployed.change()
    deployed.stage.break_image(deployed.image(older), "never-ready")
    waiting = deployed.start("deploy")
    deployed.until(lambda _: deployed.image(older) in deployed.running())
    newer = deployed.change()
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    ended = deployed.ended(waiting)
    assert (ended.code, ended.json["outcome"]) == (0, "superseded"), ended.stderr
    assert "runs another image" in deployed.only(ended)["proof"]
    assert newer in done.json["images"][0]["tag"]


@pytest.mark.lab
def test_an_image_that_cannot_be_pulled(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.stage.break_image(deployed.image(commit), "pull")
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (11, "failed"), done.stderr
    cause = deployed.only(done)["cause"]
    assert (cause["reason"], "Pod/web-" in cause["resource"]) == ("ImagePullBackOff", True)
    assert f'Back-off pulling image "{deployed.image(commit)}"' in cause["message"]
    assert any("Failed" in event for event in cause["events"])
    assert "ImagePullBackOff in Pod/web-" in done.stderr


@pytest.mark.lab
def test_a_crash_loop_is_told_with_its_last_log_lines(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.stage.break_image(deployed.image(commit), "crash", ["connecting", "KeyError: 'MONGODB_URI'"])
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (11, "failed"), done.stderr
    cause = deployed.only(done)["cause"]
    assert (cause["reason"], cause["container"]) == ("CrashLoopBackOff", "web")
    assert cause["logs"] == ["connecting", "KeyError: 'MONGODB_URI'"]
    assert "exit code 1" in cause["message"]
    assert any("BackOff" in event for event in cause["events"])
    assert "  | KeyError: 'MONGODB_URI'" in done.stderr


@pytest.mark.lab
def test_a_pod_that_an_earlier_rollout_left_broken_does_not_fail_ours(deployed: Scene) -> None:
    broken = deployed.change()
    deployed.stage.break_image(deployed.image(broken), "pull")
    assert deployed.run("deploy").code == 11
    good = deployed.change()
    # It stands beside ours for a while, since ours is slow: its pod is only taken away when ours is ready.
    deployed.stage.break_image(deployed.image(good), "slow")
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert f"2 pods run {deployed.name}:{good[:7]}" in deployed.only(done)["proof"]


@pytest.mark.lab
def test_a_crash_that_recovers_within_its_grace(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.stage.break_image(deployed.image(commit), "crash")
    waiting = deployed.start("deploy", "--grace", "60")
    deployed.until(lambda tree: "CrashLoopBackOff" in str(tree["nodes"]), "/resource-tree")
    time.sleep(6)  # longer than a crash loop is given by default
    deployed.stage.mend_image(deployed.image(commit))
    done = deployed.ended(waiting)
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert "CrashLoopBackOff" in done.stderr, "the wait has seen it, and did not give up"


@pytest.mark.lab
def test_a_vault_agent_that_never_ends_its_init(deployed: Scene) -> None:
    agent = "      initContainers: [{name: vault-agent-init, image: 'hashicorp/vault:1.20.0'}]\n"
    deployed.configure(base__deployment=DEPLOYMENT + agent)
    commit = deployed.change()
    deployed.stage.break_image(
        deployed.image(commit), "vault-init", ["[ERROR] error authenticating: permission denied"]
    )
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (11, "failed"), done.stderr
    cause = deployed.only(done)["cause"]
    assert (cause["reason"], cause["container"]) == ("Init:0/1", "vault-agent-init")
    assert cause["logs"][-1] == "[ERROR] error authenticating: permission denied"
    assert "vault-agent-init does not end" in done.stderr


def test_a_manifest_that_the_api_server_refuses(deployed: Scene) -> None:
    deployed.configure(base__deployment=DEPLOYMENT.replace("containers: [{name: web, image: NAME}]", "containers: []"))
    deployed.change()
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (10, "failed"), done.stderr
    cause = deployed.only(done)["cause"]
    assert (cause["reason"], cause["resource"]) == ("SyncFailed", "Deployment/web")
    assert "spec.template.spec.containers: Required value" in cause["message"]
    assert "spec.template.spec.containers: Required value" in done.stderr


def test_a_kustomization_that_cannot_be_rendered(deployed: Scene) -> None:
    deployed.configure(base__kustomization="resources: [deployment.yaml, nowhere.yaml]\n")
    deployed.change()
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (10, "failed"), done.stderr
    application = deployed.only(done)
    assert (application["cause"]["reason"], application["health"]) == ("ComparisonError", "Healthy")
    assert "nowhere.yaml" in application["cause"]["message"]
    assert "nowhere.yaml" in done.stderr


@pytest.mark.lab
def test_a_degraded_application_that_recovers_within_the_grace(deployed: Scene) -> None:
    deadline = DEPLOYMENT.replace("  replicas: 2\n", "  replicas: 2\n  progressDeadlineSeconds: 2\n")
    deployed.configure(base__deployment=deadline)
    commit = deployed.change()
    deployed.stage.break_image(deployed.image(commit), "never-ready")
    waiting = deployed.start("deploy")
    deployed.until(lambda app: app["status"]["health"]["status"] == "Degraded")
    time.sleep(6)
    deployed.stage.mend_image(deployed.image(commit))
    done = deployed.ended(waiting)
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert "Degraded" in done.stderr


def test_without_automated_sync_the_wait_asks_for_a_person_or_syncs_itself(scene: Scene) -> None:
    policy = {"syncOptions": ["CreateNamespace=true"]}
    scene.stage.add_application(scene.name, scene.spec(syncPolicy=policy))
    done = scene.run("deploy")
    assert (done.code, done.json["outcome"]) == (13, "suspended"), done.stderr
    assert scene.only(done)["cause"]["reason"] == "ManualSync"
    assert "automated sync is off" in done.stderr
    done = scene.run("deploy", "--sync")
    assert done.code == 0, done.stderr
    assert scene.only(done)["proof"].startswith("2 pods run")


@pytest.mark.lab
def test_an_application_of_two_sources(scene: Scene) -> None:
    other = {"repoURL": scene.gitops_url, "targetRevision": "main", "path": "settings"}
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n"
    scene.configure(settings__kustomization="resources: [config.yaml]\n", settings__config=config)
    scene.stage.add_application(scene.name, scene.spec(source=None, sources=[scene.spec()["source"], other]))
    done = scene.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert scene.only(done)["revision"] == done.json["gitops"]["revision"]
    assert scene.only(done)["proof"].startswith("2 pods run")
    broken = scene.change()
    scene.stage.break_image(scene.image(broken), "pull")
    assert scene.run("deploy").code == 11


def test_several_applications_at_once_each_with_its_end(scene: Scene) -> None:
    second = f"{scene.name}-2"
    elsewhere = {"server": "https://kubernetes.default.svc", "namespace": second}
    scene.stage.add_application(scene.name, scene.spec())
    scene.stage.add_application(second, scene.spec(destination=elsewhere))
    both = ("--app", scene.name, "--app", second)
    done = scene.run("deploy", *both)
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert [app["name"] for app in done.json["rollout"]["applications"]] == [scene.name, second]
    assert {app["outcome"] for app in done.json["rollout"]["applications"]} == {"deployed"}
    known = ("--revision", done.json["gitops"]["revision"], "--argocd-project", "default")
    done = scene.run("wait", *both, "--app", f"{scene.name}-3", *known)
    assert (done.code, done.json["error"]["class"]) == (4, "ApplicationNotFound"), done.stderr
    assert [app["outcome"] for app in done.json["rollout"]["applications"]] == ["deployed", "deployed", "not_found"]
    scene.stage.remove_application(second)


def test_zero_replicas_and_a_cron_job_are_proved_without_pods(deployed: Scene) -> None:
    pod = "{restartPolicy: Never, containers: [{name: web, image: NAME}]}"
    job = f"jobTemplate: {{spec: {{template: {{spec: {pod}}}}}}}"
    cron = f"apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: web}}\nspec: {{schedule: '0 0 1 1 *', {job}}}\n"
    deployed.configure(base__deployment=DEPLOYMENT.replace("replicas: 2", "replicas: 0"))
    deployed.change()
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert "is expected here (no replicas, or a CronJob)" in deployed.only(done)["proof"]
    deployed.configure(base__deployment=cron)
    deployed.change()
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert "is expected here (no replicas, or a CronJob)" in deployed.only(done)["proof"]


def test_a_change_of_configuration_without_an_image(deployed: Scene) -> None:
    revision = deployed.configure(base__deployment=DEPLOYMENT.replace("replicas: 2", "replicas: 1"))
    done = deployed.run("wait", "--revision", revision)
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert "no image was named, so pods were not compared" in deployed.only(done)["proof"]


@pytest.mark.lab
def test_a_branch_that_is_rewritten_under_the_wait(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.stage.break_image(deployed.image(commit), "never-ready")
    waiting = deployed.start("deploy")
    deployed.until(lambda _: deployed.image(commit) in deployed.running())
    (deployed.gitops.path / "README.md").write_text("another history\n")
    deployed.gitops.git("commit", "--quiet", "--all", "--message", "Another history")
    deployed.gitops.git("push", "--quiet", "--force", "origin", "HEAD:main")
    done = deployed.ended(waiting)
    assert (done.code, done.json["outcome"]) == (11, "failed"), done.stderr
    assert deployed.only(done)["cause"]["reason"] == "BranchRewritten"
    assert "rewritten without our commit" in done.stderr


def test_an_unknown_application(scene: Scene) -> None:
    done = scene.run("deploy")
    assert (done.code, done.json["error"]["class"]) == (5, "ArgoCDDenied"), done.stderr
    assert "it does not exist, or this account may not see it" in done.stderr
    done = scene.run("deploy", "--argocd-project", "default")
    assert (done.code, done.json["error"]["class"]) == (4, "ApplicationNotFound"), done.stderr


@pytest.mark.alone
@pytest.mark.lab
def test_a_stopped_controller_is_named_when_the_time_runs_out(deployed: Scene) -> None:
    deployed.change()
    with deployed.stage.pause_controller():
        done = deployed.run("deploy", "--timeout", "4")
    assert (done.code, done.json["outcome"]) == (12, "timed_out"), done.stderr
    assert "its application controller may be stopped or busy" in deployed.only(done)["cause"]["message"]


@pytest.mark.lab
def test_streams_that_a_proxy_cuts_every_other_second(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.stage.break_image(deployed.image(commit), "slow")
    with cutting_proxy(deployed.stage.argocd, seconds=2.0) as address:
        done = deployed.run("deploy", environ={"ARGOCD_SERVER": address})
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert f"2 pods run {deployed.name}:{commit[:7]}" in deployed.only(done)["proof"]


@pytest.mark.lab
def test_a_rollback_brings_the_former_version_back(deployed: Scene) -> None:
    first = deployed.app.git("rev-parse", "HEAD")
    deployed.change()
    assert deployed.run("deploy").code == 0
    done = deployed.run("rollback", "--image", deployed.name)
    assert (done.code, done.json["outcome"], done.json["kind"]) == (0, "deployed", "rollback"), done.stderr
    assert deployed.image(first) in deployed.running()
    bad = deployed.change()
    deployed.stage.break_image(deployed.image(bad), "crash")
    done = deployed.run("deploy", "--on-failure", "rollback")
    assert (done.code, done.json["outcome"], done.json["rollback"]["outcome"]) == (11, "failed", "deployed"), (
        done.stderr
    )
    assert deployed.only(done)["cause"]["reason"] == "CrashLoopBackOff"


def test_a_rollback_behind_a_sync_that_argo_cd_goes_on_trying(deployed: Scene) -> None:
    """A manifest that the API server refuses keeps Argo CD busy for minutes; the way back must not wait for them."""
    deployed.configure(base__deployment=DEPLOYMENT.replace("containers: [{name: web, image: NAME}]", "containers: []"))
    deployed.change()
    assert deployed.run("deploy").code == 10
    deployed.configure(base__deployment=DEPLOYMENT)
    done = deployed.run("rollback", "--image", deployed.name)
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    if isinstance(deployed.stage, Cluster):  # the sandbox's own retries are over within seconds
        assert "ended the sync of" in done.stderr
