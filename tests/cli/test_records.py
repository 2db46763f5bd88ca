"""What a wait leaves on the branch `deploy-records`."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.sandbox.cluster import Fault
from pipeline.sandbox.world import GITHUB_TOKEN
from tests import git_world, github_contract
from tests.cli.conftest import Scene

SERVICES = ("openegflask", "openegnode", "openegwebhook")
FIRST = "production/1-production.json"


def bare(scene: Scene) -> Path:
    return scene.sandbox.git_root / "openeg-gitops.git"


def records(scene: Scene) -> dict[str, Any]:
    """Every record, by path."""
    listed = git_world.git(bare(scene), "ls-tree", "-r", "--name-only", "deploy-records").splitlines()
    return {path: json.loads(git_world.git(bare(scene), "show", f"deploy-records:{path}")) for path in listed}


def headlines(scene: Scene) -> list[str]:
    return git_world.git(bare(scene), "log", "--format=%s", "deploy-records").splitlines()


def run_of(number: int) -> dict[str, str]:
    return {"GITHUB_RUN_ID": str(number), "GITHUB_ACTOR": "ada"}


def test_each_deployment_is_recorded_as_it_was_printed(scene: Scene) -> None:
    first = scene.run("deploy", "--json", environ=run_of(1))
    assert first.json["outcome"] == "deployed", first.stderr
    scene.sandbox.set_fault(scene.change(), Fault("crash"))
    second = scene.run("deploy", "--service", "flask", "--on-failure", "rollback", "--json", environ=run_of(2))
    assert (second.code, second.json["rollback"]["outcome"]) == (11, "deployed")
    third = scene.run("rollback", "--service", "node", "--to", first.json["images"][0]["tag"], "--json")
    assert third.json["outcome"] == "unchanged", third.stderr
    unlike = {"finished", "seconds"}  # these two go on until the result is printed
    kept = records(scene)
    assert kept.keys() == {FIRST, "production/2-production.json"}, "what changed nothing is no deployment"
    for record, printed in zip(kept.values(), (first.json, second.json), strict=True):
        assert {key: record[key] for key in record.keys() - unlike} == {
            key: printed[key] for key in printed.keys() - unlike
        }
        assert record["seconds"]["wait"] == printed["seconds"]["wait"]
        assert record["finished"] <= printed["finished"]
    assert headlines(scene) == ["record(production): failed 2-production", "record(production): deployed 1-production"]
    assert [line.partition("(")[0] for line in scene.log()] == ["deploy", "deploy", "deploy", "Nothing deployed yet"]


def test_a_rerun_tells_how_the_deployment_stands_now(scene: Scene) -> None:
    scene.run("deploy", "--json", environ=run_of(1))
    commit = scene.change()
    scene.sandbox.set_fault(commit, Fault("never-ready"))
    slow = scene.run("deploy", "--service", "flask", "--timeout", "1", "--json", environ=run_of(2))
    assert slow.code == 12, slow.stderr
    scene.sandbox.set_fault(commit, None)
    again = scene.run("deploy", "--service", "flask", "--json", environ=run_of(2))
    assert again.json["outcome"] == "unchanged", again.stderr
    record = records(scene)["production/2-production.json"]
    assert (record["outcome"], record.get("error")) == ("deployed", None)
    assert record["gitops"] == slow.json["gitops"], "what it changed is still told"
    assert record["images"][0]["previous"] != commit


def test_a_wait_in_another_job_records_what_was_handed_on(scene: Scene) -> None:
    scene.run("build")
    images = [f"--image={name}={scene.app.git('rev-parse', 'HEAD')}" for name in SERVICES]
    bumped = scene.run("bump", *images, "--json", environ=run_of(1))
    assert bumped.json["outcome"] == "published", bumped.stderr
    waited = scene.run("wait", "--from", "-", "--app", "openeg-system", "--json", stdin=bumped.stdout)
    assert waited.json["outcome"] == "deployed", waited.stderr
    assert records(scene)[FIRST]["gitops"]["changed"] == bumped.json["gitops"]["changed"]
    looked = scene.run("wait", "--app", "openeg-system", "--revision", bumped.json["gitops"]["revision"])
    assert (looked.code, len(records(scene))) == (0, 1), "who only looks has deployed nothing"


def test_many_at_once_lose_no_record(scene: Scene) -> None:
    done = scene.run("deploy", "--json", environ=run_of(1)).json

    def again(number: int) -> int:
        earlier = json.dumps({**done, "deployment_id": f"{number}-production"})
        return scene.run("wait", "--from", "-", "--app", "openeg-system", stdin=earlier).code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(again, range(2, 14))) == {0}
    assert records(scene).keys() == {f"production/{number}-production.json" for number in range(1, 14)}
    assert len(headlines(scene)) == 13


def test_github_keeps_them_too(scene: Scene) -> None:
    scene.environ.update(GITHUB_API_URL=scene.sandbox.github_url, GITOPS_TOKEN=GITHUB_TOKEN.reveal())
    for number in (1, 2):
        done = scene.run("deploy", "--json", environ=run_of(number))
        assert done.code == 0, done.stderr
        scene.change()
    assert records(scene).keys() == {FIRST, "production/2-production.json"}
    assert git_world.git(bare(scene), "log", "-1", "--format=%cn", "deploy-records") == "GitHub"
    for exchange in scene.sandbox.github.exchanges:
        github_contract.check(exchange)


def test_a_branch_that_takes_none_does_not_fail_the_deployment(scene: Scene) -> None:
    hook = bare(scene) / "hooks/update"
    hook.write_text('#!/bin/sh\n[ "$1" != refs/heads/deploy-records ]\n')
    hook.chmod(0o755)
    done = scene.run("deploy", "--json", environ=run_of(1))
    assert (done.code, done.json["outcome"]) == (0, "deployed")
    assert "warning: The outcome was not recorded: " in done.stderr


def test_what_was_not_waited_for_is_not_recorded(scene: Scene) -> None:
    assert scene.run("deploy", "--dry-run", environ=run_of(1)).code == 0
    scene.run("build")
    image = f"openegflask={scene.app.git('rev-parse', 'HEAD')}"
    assert scene.run("bump", "--image", image, environ=run_of(2)).code == 0
    assert "deploy-records" not in git_world.git(bare(scene), "for-each-ref")


def test_a_damaged_record_is_replaced(scene: Scene) -> None:
    scene.run("deploy", environ=run_of(1))
    tree = scene.gitops.path.parent / "records"
    git_world.git(bare(scene), "worktree", "add", str(tree), "deploy-records")
    Path(tree, FIRST).write_text("{")
    git_world.git(tree, "commit", "-qam", "Damage")
    git_world.git(tree, "checkout", "-q", "--detach")
    scene.change()
    done = scene.run("deploy", "--json", environ=run_of(1))
    assert "not recorded" not in done.stderr, done.stderr
    assert records(scene)[FIRST]["gitops"] == done.json["gitops"]
