"""`history`: git tells what was deployed, the records how it ended."""

from pathlib import Path

from pipeline.sandbox.cluster import Fault
from tests import git_world
from tests.cli.conftest import Scene
from tests.cli.test_records import bare, run_of

OVERLAY = "overlays/production/kustomization.yaml"


def by_hand(scene: Scene, tag: str) -> str:
    """A person sets flask's tag and pushes."""
    scene.gitops.git("pull", "--quiet", "--rebase", "origin", "main")
    file = str(Path(scene.gitops.path, OVERLAY))
    assert scene.run("edit", file, "--image", f"openegflask={tag}", "--in-place").code == 0
    return scene.gitops.commit("Go back by hand")


def test_each_deployment_with_its_end_from_a_fresh_clone(scene: Scene) -> None:
    first = scene.run("deploy", "--json", environ=run_of(1)).json
    crashing = scene.change()
    scene.sandbox.set_fault(crashing, Fault("crash"))
    failed = scene.run("deploy", "--service", "flask", "--on-failure", "rollback", "--json", environ=run_of(2)).json
    old = first["images"][0]["tag"]
    by_hand(scene, crashing)
    fresh = scene.gitops.path.parent / "fresh"
    git_world.git(fresh.parent, "clone", "--quiet", scene.gitops_url, str(fresh))
    done = scene.run("history", "--json", "--gitops", str(fresh), "--env", "production")
    assert done.code == 0, done.stderr
    hand, undone, broken, begun = done.json["history"]
    assert begun["images"][0] == {
        **{key: first["images"][0][key] for key in ("name", "repository", "tag", "digest", "service", "source")},
        **({"previous": first["images"][0]["previous"]} if "previous" in first["images"][0] else {}),
    }
    assert (begun["outcome"], begun["kind"], begun["actor"]) == ("deployed", "deploy", "ada")
    assert (begun["revision"], begun["deployment_id"]) == (first["gitops"]["revision"], "1-production")
    assert 0 < begun["seconds"] <= first["seconds"]["total"]
    assert (broken["outcome"], broken["cause"]) == ("failed", failed["error"]["message"])
    assert (undone["outcome"], undone["kind"]) == ("deployed", "rollback")
    assert [(image["name"], image["previous"], image["tag"]) for image in undone["images"]] == [
        ("openegflask", crashing, old)
    ]
    assert undone["revision"] == failed["rollback"]["gitops"]["revision"]
    author = scene.gitops.git("log", "-1", "--format=%an")
    assert (hand["actor"], hand["images"][0]["tag"]) == (author, crashing)
    assert not {"kind", "outcome", "deployment_id"} & hand.keys()
    shown = scene.run("history", "--gitops", str(fresh), "--limit", "4").stdout.splitlines()
    assert [line.split()[3] for line in shown] == ["by", "rollback", "deploy", "deploy"]
    assert "not recorded" in shown[0]
    assert f"openegflask {old[:7]} → {crashing[:7]}: openeg-system: " in shown[2]


def test_it_is_narrowed_by_image_service_time_and_number(scene: Scene) -> None:
    scene.run("deploy")
    scene.change("node/server.js")
    scene.run("deploy", "--service", "node")
    newest = scene.change()
    scene.run("deploy", "--service", "flask")

    def told(*flags: str) -> list[list[str]]:
        done = scene.run("history", "--json", "--env", "production", *flags)
        assert done.code == 0, done.stderr
        return [[image["name"] for image in past["images"]] for past in done.json.get("history", ())]

    everywhere = scene.run("history", "--json").json["history"]
    assert {past["environment"] for past in everywhere} == {"production", "staging", "dev"}
    assert len([past for past in everywhere if past["environment"] == "production"]) == len(told()) == 3
    assert told("--image", "openegnode") == [["openegnode"], ["openegnode"]]
    assert told("--service", "flask") == [["openegflask"], ["openegflask"]]
    assert told("--limit", "1") == [["openegflask"]]
    assert told("--until", "1h") == []
    assert len(told("--since", "1h")) == 3
    assert told("--since", "2099-01-01") == []
    assert scene.run("history", "--until", "1h").stdout == "No deployment\n"
    assert newest[:7] in scene.run("history", "--limit", "1").stdout


def test_records_that_cannot_be_had_are_said_and_git_is_told_all_the_same(scene: Scene) -> None:
    scene.run("deploy", environ=run_of(1))
    tree = git_world.git(bare(scene), "rev-parse", "deploy-records^{tree}")
    Path(bare(scene), "objects", tree[:2], tree[2:]).unlink()
    done = scene.run("history", "--env", "production", "--json")
    assert done.code == 0, done.stderr
    assert "warning: How deployments ended is not told" in done.stderr
    assert [past.get("outcome") for past in done.json["history"]] == [None]


def test_what_makes_no_sense_is_refused(scene: Scene) -> None:
    for flags, code, message in (
        (("--since", "yesterday"), 2, "--since 'yesterday' is no moment"),
        (("--until", "99999999w"), 2, "is no moment"),
        (("--limit", "0"), 2, "--limit 0 lists nothing"),
        (("--image", "openegflask=abc"), 2, "history takes names alone"),
        (("--service", "grafana"), 4, "deploy.yaml has no service 'grafana'"),
        (("--env", "moon"), 4, "moon"),
    ):
        done = scene.run("history", "--json", *flags)
        assert (done.code, message in done.json["error"]["message"]) == (code, True), done.stdout
