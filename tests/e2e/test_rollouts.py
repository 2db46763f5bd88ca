"""What becomes of a deployment, on the sandbox and on a real Argo CD: outcome, exit code and cause."""

from tests.e2e.conftest import DEPLOYMENT, Scene


def test_a_first_deployment(scene: Scene) -> None:
    scene.stack.add_application(scene.name, scene.spec())
    commit = scene.app.git("rev-parse", "HEAD")
    done = scene.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
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


def test_healthy_before_the_sync_is_no_proof(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.stack.break_image(deployed.image(commit), "slow")
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert deployed.image(commit) in deployed.running()
    assert f"2 pods run {deployed.name}:{commit[:7]}" in deployed.only(done)["proof"]
    assert "Progressing" in done.stderr, "the wait saw the rollout, and not the Healthy before it alone"


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


def test_a_newer_image_supersedes_ours_while_we_wait(deployed: Scene) -> None:
    older = deployed.change()
    deployed.stack.break_image(deployed.image(older), "never-ready")
    waiting = deployed.start("deploy")
    deployed.until(lambda _: deployed.image(older) in deployed.running())
    newer = deployed.change()
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    ended = deployed.ended(waiting)
    assert (ended.code, ended.json["outcome"]) == (0, "superseded"), ended.stderr
    assert "runs another image" in deployed.only(ended)["proof"]
    assert newer in done.json["images"][0]["tag"]


def test_an_image_that_cannot_be_pulled(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.stack.break_image(deployed.image(commit), "pull")
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (11, "failed"), done.stderr
    cause = deployed.only(done)["cause"]
    assert (cause["reason"], "Pod/web-" in cause["resource"]) == ("ImagePullBackOff", True)
    assert f'Back-off pulling image "{deployed.image(commit)}"' in cause["message"]
    assert any("Failed" in event for event in cause["events"])
    assert "ImagePullBackOff in Pod/web-" in done.stderr


def test_a_crash_loop_is_told_with_its_last_log_lines(deployed: Scene) -> None:
    commit = deployed.change()
    deployed.stack.break_image(deployed.image(commit), "crash", ["connecting", "KeyError: 'MONGODB_URI'"])
    done = deployed.run("deploy")
    assert (done.code, done.json["outcome"]) == (11, "failed"), done.stderr
    cause = deployed.only(done)["cause"]
    assert (cause["reason"], cause["container"]) == ("CrashLoopBackOff", "web")
    assert cause["logs"] == ["connecting", "KeyError: 'MONGODB_URI'"]
    assert "exit code 1" in cause["message"]
    assert any("BackOff" in event for event in cause["events"])
    assert "  | KeyError: 'MONGODB_URI'" in done.stderr
