"""`rollback`: a forward commit to the version before, then proof."""

import shutil

from pipeline.sandbox.cluster import Fault
from tests.cli.conftest import Scene


def deployed(scene: Scene, count: int) -> list[str]:
    """Deploy flask `count` times; the commits, oldest first."""
    scene.run("deploy")
    commits = [scene.app.git("rev-parse", "HEAD")]
    for _ in range(count - 1):
        commits.append(scene.change())
        assert scene.run("deploy", "--service", "flask").code == 0
    return commits


def test_it_goes_one_version_back_each_time_and_never_forward(scene: Scene) -> None:
    first, second, third = deployed(scene, 3)
    done = scene.run("rollback", "--service", "flask", "--json")
    assert (done.code, done.json["outcome"], done.json["kind"]) == (0, "deployed", "rollback"), done.stderr
    assert (done.json["images"][0]["previous"], done.json["images"][0]["tag"]) == (third, second)
    again = scene.run("rollback", "--image", "openegflask", "--json")
    assert again.json["images"][0]["tag"] == first, again.stderr
    assert len(scene.log()) == 6, "each is one more commit"
    last = scene.run("rollback", "--image", "openegflask", "--json")
    assert (last.code, last.json["error"]["class"]) == (4, "NotFound")


def test_to_a_tag_and_of_the_last_deployment_when_nothing_is_named(scene: Scene) -> None:
    first, second, third = deployed(scene, 3)
    assert scene.run("rollback", "--image", "openegflask", "--to", first).code == 0
    assert scene.overlay().count(first) == 3
    newest = scene.change()
    assert scene.run("deploy", "--service", "flask").code == 0
    undone = scene.run("rollback", "--json")
    assert [image["name"] for image in undone.json["images"]] == ["openegflask"]
    assert undone.json["images"][0]["tag"] == first
    assert not {second, third, newest} & set(scene.overlay().split())


def test_a_dry_run_shows_the_change_and_makes_none(scene: Scene) -> None:
    first, second = deployed(scene, 2)
    done = scene.run("rollback", "--service", "flask", "--dry-run")
    assert f"-    newTag: {second}\n+    newTag: {first}" in done.stdout
    assert len(scene.log()) == 3


def test_a_version_that_is_gone_from_the_registry_is_refused(scene: Scene) -> None:
    deployed(scene, 2)
    done = scene.run("rollback", "--image", "openegflask", "--to", "d" * 40, "--json")
    assert (done.code, done.json["error"]["class"]) == (4, "ImageNotFound")
    assert len(scene.log()) == 3


def test_an_older_commit_that_was_rolled_back_from_can_be_deployed_again(scene: Scene) -> None:
    deployed(scene, 2)
    scene.run("rollback", "--service", "flask")
    done = scene.run("deploy", "--service", "flask", "--json")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr


def two_overlays(scene: Scene) -> tuple[str, ...]:
    """Give the GitOps repository a second overlay; the flags that name both."""
    stage = scene.gitops.path / "overlays/second"
    shutil.copytree(scene.gitops.path / "overlays/production", stage)
    scene.gitops.commit("Add another overlay")
    return ("--overlay", "overlays/second", "--overlay", "overlays/production")


def test_the_last_deployment_is_the_newest_of_all_overlays(scene: Scene) -> None:
    both = two_overlays(scene)
    scene.run("deploy", *both)
    first = scene.app.git("rev-parse", "HEAD")
    second = scene.change()
    scene.run("deploy", "--service", "flask", *both)
    third = scene.change("node/server.js")
    assert scene.run("deploy", "--service", "node", "--overlay", "overlays/production").code == 0
    undone = scene.run("rollback", *both, "--json")
    assert (undone.code, [image["name"] for image in undone.json["images"]]) == (0, ["openegnode"]), undone.stderr
    assert (undone.json["images"][0]["previous"], undone.json["images"][0]["tag"]) == (third, first)
    undone = scene.run("rollback", "--service", "flask", *both, "--json")
    assert {line["file"] for line in undone.json["gitops"]["changed"]} == {
        f"overlays/{name}/kustomization.yaml" for name in ("second", "production")
    }
    assert scene.overlay().count(second) == 0


def test_versions_before_that_differ_are_not_mixed_up(scene: Scene) -> None:
    both = two_overlays(scene)
    scene.run("deploy", *both)
    scene.change()
    scene.run("deploy", "--service", "flask", "--overlay", "overlays/production")
    scene.change()
    assert scene.run("deploy", "--service", "flask", *both).code == 0
    before = scene.log()
    refused = scene.run("rollback", "--service", "flask", *both, "--json")
    assert (refused.code, refused.json["outcome"]) == (3, "refused")
    assert "overlays/second/kustomization.yaml" in refused.json["error"]["message"]
    assert "--overlay" in refused.json["error"]["remedy"]

    scene.sandbox.set_fault(scene.change(), Fault("crash"))
    failed = scene.run("deploy", "--service", "flask", *both, "--on-failure", "rollback", "--json")
    assert (failed.code, failed.json["error"]["class"], failed.json["rollback"]["outcome"]) == (
        11,
        "RolloutFailed",
        "deployed",
    ), "both had the same version before this deployment"
    assert len(scene.log()) == len(before) + 2
