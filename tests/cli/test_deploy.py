"""The main job through the command line: build, edit, publish, wait, tell, and back again."""

import threading
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.sandbox.cluster import Fault
from pipeline.sandbox.world import SLACK_TOKEN
from tests.cli.conftest import Done, Scene
from tests.edges.scripted_server import scripted


def slack(scene: Scene) -> dict[str, str]:
    return {"SLACK_API_URL": f"{scene.sandbox.slack_url}api/", "SLACK_BOT_TOKEN": SLACK_TOKEN.reveal()}


def test_a_commit_of_three_services_becomes_one_commit_and_a_healthy_rollout(scene: Scene) -> None:
    commit = scene.app.git("rev-parse", "HEAD")
    done = scene.run("deploy", "--json")
    assert done.code == 0, done.stderr
    result = done.json
    assert result["outcome"] == "deployed"
    assert [image["name"] for image in result["images"]] == ["openegflask", "openegnode", "openegwebhook"]
    assert {image["tag"] for image in result["images"]} == {commit}
    assert result["rollout"]["applications"][0]["outcome"] == "deployed"
    assert scene.overlay().count(commit) == 3
    assert len(scene.log()) == 2
    assert scene.gitops.git("rev-parse", "FETCH_HEAD") == result["gitops"]["revision"]


def test_the_same_run_again_changes_nothing_and_returns_at_once(scene: Scene) -> None:
    scene.run("deploy")
    done = scene.run("deploy", "--json")
    assert done.code == 0
    assert done.json["outcome"] == "unchanged"
    assert done.json["rollout"]["applications"][0]["outcome"] == "deployed"
    assert "changed" not in done.json["gitops"]
    assert len(scene.log()) == 2


def test_flags_alone_deploy_a_single_image_without_any_file(scene: Scene) -> None:
    scene.run("deploy")
    Path(scene.app.path, "deploy.yaml").unlink()
    commit = scene.app.commit("No file")
    flags = ("--image", "openegflask", "--context", "flask", "--registry", scene.sandbox.registry_host)
    done = scene.run("deploy", *flags, "--gitops", scene.gitops_url, "--app", "openeg-system", "--json")
    assert done.code == 0, done.stderr
    assert done.json["images"][0]["tag"] == commit


def test_a_crash_is_explained_with_its_log_lines_and_rolled_back(scene: Scene) -> None:
    good = scene.app.git("rev-parse", "HEAD")
    scene.run("deploy")
    bad = scene.change()
    scene.sandbox.set_fault(bad, Fault("crash", ("starting", "KeyError: 'MONGODB_URI'")))
    done = scene.run("deploy", "--service", "flask", "--on-failure", "rollback", "--json")
    assert done.code == 11
    result = done.json
    assert result["outcome"] == "failed"
    cause = result["rollout"]["applications"][0]["cause"]
    assert cause["reason"] == "CrashLoopBackOff"
    assert "KeyError: 'MONGODB_URI'" in cause["logs"]
    assert result["rollback"]["outcome"] == "deployed"
    assert "KeyError" in done.stderr
    assert "The former version runs again" in result["error"]["remedy"]
    assert bad not in scene.overlay()
    assert scene.overlay().count(good) == 3
    assert "Deploy-Kind: rollback" in scene.gitops.git("log", "-1", "--format=%B", "FETCH_HEAD")


def test_an_older_commit_that_arrives_later_is_superseded(scene: Scene, tmp_path: Path) -> None:
    scene.run("deploy")
    older = scene.change()
    tree = tmp_path / "older"
    scene.app.git("worktree", "add", "--quiet", "--detach", str(tree), older)
    newer = scene.change()
    assert scene.run("deploy", "--service", "flask").code == 0
    late = scene.run("deploy", "--service", "flask", "--json", cwd=tree)
    assert late.code == 0
    assert late.json["outcome"] == "superseded"
    assert newer in scene.overlay()
    told = scene.run("deploy", "--service", "flask", cwd=tree)
    assert f"openegflask {newer[:7]} stays, newer than {older[:7]}" in told.stdout


def test_two_deployments_race_and_the_newer_commit_stands(scene: Scene, tmp_path: Path) -> None:
    scene.run("deploy")
    trees = {}
    for name in ("older", "newer"):
        commit = scene.change(message=name)
        trees[name] = tmp_path / name
        scene.app.git("worktree", "add", "--quiet", "--detach", str(trees[name]), commit)
        if name == "older":  # whoever comes first, the newer one arrives before these pods are ready
            scene.sandbox.set_fault(commit, Fault("slow"))
    done: dict[str, Done] = {}
    threads = [
        threading.Thread(
            target=lambda name=name, tree=tree: done.update(
                {name: scene.run("deploy", "--service", "flask", "--json", cwd=tree)}
            )
        )
        for name, tree in trees.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: item.code for name, item in done.items()} == {"older": 0, "newer": 0}
    assert done["newer"].json["outcome"] == "deployed"
    assert done["older"].json["outcome"] == "superseded"
    assert scene.app.git("rev-parse", "HEAD") in scene.overlay()


def test_the_steps_run_alone_and_hand_their_results_on(scene: Scene, tmp_path: Path) -> None:
    built = scene.run("build", "--json")
    assert (built.code, built.json["outcome"]) == (0, "built"), built.stderr
    (tmp_path / "built.json").write_text(built.stdout)
    published = scene.run("bump", "--from", str(tmp_path / "built.json"), "--json")
    assert (published.code, published.json["outcome"]) == (0, "published"), published.stderr
    waited = scene.run("wait", "--from", "-", "--json", stdin=published.stdout)
    assert (waited.code, waited.json["outcome"]) == (0, "deployed"), waited.stderr
    assert waited.json["deployment_id"] == published.json["deployment_id"]
    told = scene.run(
        "notify",
        "--from",
        "-",
        "--json",
        stdin=waited.stdout,
        environ=slack(scene),
    )
    assert told.code == 0, told.stderr
    assert told.json["notices"]["slack"]["ts"]
    assert set(built.json["seconds"]) <= set(told.json["seconds"])


def test_a_matrix_fans_in_to_one_commit(scene: Scene, tmp_path: Path) -> None:
    for service in ("flask", "node"):
        (tmp_path / f"{service}.json").write_text(scene.run("build", "--service", service, "--json").stdout)
    done = scene.run("bump", "--from", str(tmp_path / "flask.json"), "--from", str(tmp_path / "node.json"), "--json")
    assert done.code == 0, done.stderr
    assert [line["name"] for line in done.json["gitops"]["changed"]] == ["openegflask", "openegnode"]
    assert len(scene.log()) == 2


def test_one_slack_message_is_updated_in_place_by_a_whole_deployment(scene: Scene) -> None:
    done = scene.run("deploy", "--json", environ=slack(scene))
    assert done.code == 0, done.stderr
    posted = [item for item in scene.sandbox.slack.messages if not item.thread_ts]
    assert len(posted) == 1
    assert "openegflask" in posted[0].text + str(posted[0].blocks)


def test_github_gets_outputs_and_a_summary(scene: Scene, tmp_path: Path) -> None:
    output, summary = tmp_path / "output", tmp_path / "summary"
    done = scene.run("deploy", environ={"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)})
    assert done.code == 0
    assert "outcome" in output.read_text()
    assert "deployed" in output.read_text()
    assert "openegflask" in summary.read_text()
    assert "```diff" in summary.read_text()


@pytest.mark.parametrize("command", ["deploy", "bump", "build", "rollback"])
def test_a_dry_run_changes_nothing_anywhere(scene: Scene, command: str) -> None:
    scene.run("deploy")
    commit = scene.change()
    before = (scene.log(), scene.overlay())
    image = ("--image", f"openegflask={commit}", "--no-check-image") if command == "bump" else ()
    service = () if command == "bump" else ("--service", "flask")
    done = scene.run(command, *image, *service, "--dry-run")
    if command == "rollback":  # the first deployment has nothing before it
        assert done.code == 4
    else:
        assert done.code == 0, done.stderr
    if command in {"deploy", "bump"}:
        assert f"+    newTag: {commit}" in done.stdout
    assert (scene.log(), scene.overlay()) == before
    assert scene.run("bump", "--image", f"openegflask={commit}").code == 4, "the registry must not have the image"


def test_a_missing_image_stops_the_bump_before_git_is_touched(scene: Scene) -> None:
    done = scene.run("bump", "--image", f"openegflask={'a' * 40}", "--json")
    assert done.code == 4
    assert done.json["error"]["class"] == "ImageNotFound"
    assert len(scene.log()) == 1


@pytest.mark.parametrize("command", [("deploy",), ("rollback", "--image", "openegflask", "--to", "PRESENT")])
def test_a_dry_run_of_what_is_there_already_neither_waits_nor_tells(scene: Scene, command: tuple[str, ...]) -> None:
    scene.run("deploy")
    present = scene.app.git("rev-parse", "HEAD")
    done = scene.run(
        *(word.replace("PRESENT", present) for word in command), "--dry-run", "--json", environ=slack(scene)
    )
    assert (done.code, done.json["outcome"]) == (0, "unchanged"), done.stderr
    assert "rollout" not in done.json
    assert scene.sandbox.slack.messages == []


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        ((), {"ARGOCD_SERVER": ""}),
        ((), {"ARGOCD_AUTH_TOKEN": ""}),
        (("--timeout", "-5"), {}),
        (("--argocd-header", "nonsense"), {}),
        (("--argocd-header", "X-A: $NOT_SET_ANYWHERE"), {}),
        (("--argocd-header", "Ö: ü"), {}),
        (("--argocd-server", "http://[::1"), {}),
        (("--argocd-proxy", "nonsense"), {}),
        (("--argocd-ca", "nowhere.pem"), {}),
        (("--argocd-ca", "deploy.yaml"), {}),
        (("--argocd-client-cert", "deploy.yaml"), {}),
        (("--argocd-client-key", "deploy.yaml"), {}),
        (("--argocd-server", "https://127.0.0.1:1"), {"SSL_CERT_FILE": "deploy.yaml"}),
    ],
)
@pytest.mark.parametrize("command", ["deploy", "rollback"])
def test_a_wrong_setting_of_the_wait_is_found_before_anything_is_published(
    scene: Scene, command: str, flags: tuple[str, ...], environ: dict[str, str]
) -> None:
    to = ("--image", "openegflask", "--to", "d" * 40, "--no-check-image") if command == "rollback" else ()
    done = scene.run(command, *to, *flags, "--json", environ=environ)
    assert (done.code, done.json["error"]["class"]) == (2, "UsageError"), done.stderr
    assert len(scene.log()) == 1


def test_the_same_tag_is_unchanged_under_a_strict_order_too(scene: Scene, tmp_path: Path) -> None:
    scene.run("deploy")
    image = f"openegflask={scene.app.git('rev-parse', 'HEAD')}"
    done = scene.run(
        "bump", "--gitops", scene.gitops_url, "--image", image, "--order", "strict", "--json", cwd=tmp_path
    )
    assert (done.code, done.json["outcome"]) == (0, "unchanged"), done.stderr
    assert "warning" not in done.stderr


def test_an_earlier_result_is_not_believed_without_its_image(scene: Scene) -> None:
    planned = scene.run("build", "--dry-run", "--json")
    assert scene.run("bump", "--from", "-", stdin=planned.stdout).code == 2
    built = scene.run("build", "--service", "flask", "--json")
    forged = built.stdout.replace(scene.app.git("rev-parse", "HEAD"), "7" * 40)
    assert scene.run("bump", "--from", "-", stdin=forged).code == 4
    assert scene.run("bump", "--from", "-", "--image", f"openegnode={'7' * 40}", stdin=built.stdout).code == 2
    assert len(scene.log()) == 1


def test_a_neighbour_that_keeps_the_application_from_health_is_named(scene: Scene) -> None:
    scene.run("deploy")
    absent = "d" * 40
    scene.sandbox.set_fault(absent, Fault("pull"))
    neighbour = ("--image", f"openegnode={absent}", "--no-check-image", "--allow-diverged")
    assert scene.run("deploy", *neighbour).code == 11
    time.sleep(1)  # Argo CD tells the age of a sync in whole seconds
    scene.change()
    done = scene.run("deploy", "--service", "flask", "--json", "--timeout", "8")
    assert (done.code, done.json["outcome"]) == (12, "timed_out"), done.stderr
    cause = done.json["rollout"]["applications"][0]["cause"]
    assert cause["resource"].startswith("Pod/node")
    assert "ImagePullBackOff" in cause["message"]


def test_an_image_that_no_manifest_names_is_warned_of_after_the_wait(scene: Scene) -> None:
    scene.run("deploy")
    revision = scene.gitops.git("ls-remote", "origin", "main").split()[0]
    flags = ("--revision", revision, "--app", "openeg-system")
    done = scene.run("wait", *flags, "--image", f"openegflsk={'e' * 40}", "--json")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert "warning: no manifest of openeg-system names" in done.stderr
    assert "'openegflsk'" in done.stderr
    assert "warning" not in scene.run("wait", *flags).stderr


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, "<h1>Log in</h1>", {}),
        (404, "<h1>nginx</h1>", {}),
        (302, "", {"Location": "https://sso.example/?a"}),
        (200, {"metadata": {"name": ["a"]}}, {}),
        (200, {"metadata": {"name": "x"}, "status": {"sync": {"revision": ["a"]}}}, {}),
        (200, {"metadata": {"name": "x"}, "status": {"resources": [1]}}, {}),
        (200, '{"metadata": ' + "[" * 100_000, {"Content_Type": "application/json"}),
    ],
)
def test_what_answers_in_argocds_place_is_no_outage(
    scene: Scene, status: int, body: object, headers: dict[str, str]
) -> None:
    with scripted() as front:
        front.otherwise = lambda exchange: exchange.answer(status, body, **headers)
        there = {"ARGOCD_SERVER": front.url}
        deployed = scene.run("deploy", "--json", environ=there)
        waited = scene.run("wait", "--revision", "a" * 40, "--app", "x", "--timeout", "2", "--json", environ=there)
    assert (deployed.code, deployed.json["error"]["class"]) == (7, "NotArgoCD"), deployed.stderr
    assert len(scene.log()) == 1, "nothing was published"
    assert "images" not in deployed.json, "nothing was built"
    assert "no usable answer for 2 s: Argo CD at http" in waited.json["error"]["message"]
    for done in (deployed, waited):
        assert (done.code, "--argocd-root-path" in done.json["error"]["remedy"]) == (7, True)


def test_headers_for_a_front_come_from_the_environment_one_a_line(scene: Scene) -> None:
    heard: list[Message] = []

    class Front(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers)
            self.send_error(401)

        def log_message(self, *_words: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as front:
        threading.Thread(target=front.serve_forever).start()
        address = f"http://127.0.0.1:{front.server_port}"
        headers = "X-Front: one two\nX-Pass: $PASSWORD\n"
        environ = {"PIPELINE_ARGOCD_HEADER": headers, "PASSWORD": "let me in", "ARGOCD_SERVER": address}
        done = scene.run("wait", "--revision", "a" * 40, "--app", "openeg-system", environ=environ)
        front.shutdown()
    assert done.code == 5, done.stderr
    assert {(message["X-Front"], message["X-Pass"]) for message in heard} == {("one two", "let me in")}


def only_its_paths(scene: Scene, **paths: str) -> None:
    """Have services say what concerns them, and deploy all of them."""
    file = scene.app.path / "deploy.yaml"
    text = file.read_text()
    for service, path in paths.items():
        text = text.replace(f"context: {service}\n", f"context: {service}\n    paths: [{path}]\n")
    file.write_text(text)
    scene.app.commit("Say what concerns whom")
    assert scene.run("deploy").code == 0


def test_a_service_none_of_whose_paths_changed_is_left_as_it_is(scene: Scene) -> None:
    only_its_paths(scene, flask="flask, '*.md'", node="'node/**/*.js'")
    first = scene.app.git("rev-parse", "HEAD")
    scene.change("flask/app.py")
    done = scene.run("deploy", "--json")
    assert done.json["outcome"] == "deployed", done.stderr
    assert {image["name"] for image in done.json["images"]} == {"openegflask", "openegwebhook"}
    assert f"node is unchanged: node/**/*.js as in {first[:7]}, which runs" in done.stderr
    scene.change("node/server.js")
    done = scene.run("deploy", "--json", "--dry-run")
    assert {image["name"] for image in done.json["images"]} == {"openegnode", "openegwebhook"}
    done = scene.run("deploy", "--json", "--dry-run", "--service", "flask")
    assert {image["name"] for image in done.json["images"]} == {"openegflask"}, "it was asked for by name"


def test_a_commit_that_concerns_no_service_changes_nothing(scene: Scene) -> None:
    only_its_paths(scene, flask="flask", node="node", webhook="webhook")
    headlines, head = scene.log(), scene.gitops.git("rev-parse", "FETCH_HEAD")
    (scene.app.path / "notes.txt").write_text("Nothing of a service\n")
    scene.app.commit("Write notes")
    done = scene.run("deploy", "--json")
    assert (done.code, done.json["outcome"], done.json["gitops"]["revision"]) == (0, "unchanged", head), done.stderr
    assert scene.log() == headlines


def test_a_path_that_leads_nowhere_passes_no_service_over(scene: Scene) -> None:
    only_its_paths(scene, flask="flsk")
    scene.change("flask/app.py")
    done = scene.run("deploy", "--json", "--dry-run")
    assert "openegflask" in {image["name"] for image in done.json["images"]}
