"""Many writers on one branch: none is lost, order is by ancestry, and Argo CD ends on the newest of each."""

import json
import time
from collections.abc import Callable, Mapping

import pytest

from tests.e2e.argocd_view import look
from tests.e2e.conftest import Scene

SERVICES = tuple(f"service-{number:02}" for number in range(21))
TROUBLED = SERVICES[0]

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: main, image: {name}}}]}}
"""


@pytest.fixture
def many(scene: Scene) -> Scene:
    """Twenty-one services in one overlay, each on the first commit."""
    first = scene.app.git("rev-parse", "HEAD")
    entries = "".join(
        f"  - {{name: {name}, newName: registry.example/{name}, newTag: {first!r}}}\n" for name in SERVICES
    )
    scene.configure(
        base__deployment="---\n".join(DEPLOYMENT.format(name=name) for name in SERVICES),
        overlays__production__kustomization=f"resources: [../../base]\nimages:\n{entries}",
    )
    scene.stage.add_application(scene.name, scene.spec())
    done = scene.run("wait", "--revision", scene.gitops.git("rev-parse", "HEAD"))
    assert done.code == 0, done.stderr
    return scene


@pytest.mark.lab
def test_twenty_services_and_three_versions_of_one_at_once(
    many: Scene, record_property: Callable[[str, object], None]
) -> None:
    commits = [many.change() for _ in range(4)]
    wanted = dict.fromkeys(SERVICES[1:], commits[-1])
    bumps: list[tuple[str, str]] = [*wanted.items(), *((TROUBLED, commit) for commit in commits[:3])]
    began = time.monotonic()
    running = [(pair, many.start("bump", "--image", "=".join(pair), "--no-check-image")) for pair in bumps]
    ended = [(pair, many.ended(process)) for pair, process in running]
    seconds = time.monotonic() - began

    outcomes = {pair: done.json["outcome"] for pair, done in ended}
    assert {done.code for _, done in ended} == {0}, [done.stderr for _, done in ended if done.code]
    assert {outcomes[pair] for pair in wanted.items()} == {"published"}
    assert outcomes[TROUBLED, commits[2]] == "published", "the newest of one service always lands"
    assert set(outcomes.values()) <= {"published", "superseded"}

    many.gitops.git("fetch", "--quiet", "origin", "main")
    log = many.gitops.git("log", "--first-parent", "--format=%s", "FETCH_HEAD").splitlines()
    landed = [pair for pair, outcome in outcomes.items() if outcome == "published"]
    assert sum(line.startswith("deploy(") for line in log) == len(landed), "each that landed is one commit"
    order = [line for line in log if TROUBLED in line][::-1]
    assert order == [line for commit in commits for line in order if commit[:7] in line], "older ones came first"

    newest: Mapping[str, str] = {**wanted, TROUBLED: commits[2]}
    revision = many.gitops.git("rev-parse", "FETCH_HEAD")
    images = [word for name, tag in newest.items() for word in ("--image", f"{name}={tag}")]
    done = many.run("wait", "--revision", revision, *images)
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert many.running() >= {f"registry.example/{name}:{tag}" for name, tag in newest.items()}
    assert look(many.stage, many.name)["status"]["health"]["status"] == "Healthy"

    attempts = sorted(done.json["gitops"]["attempts"] for _, done in ended)
    times = sorted(json.loads(done.stdout)["seconds"]["total"] for _, done in ended)
    record_property(
        "figure",
        f"{many.stage.argocd}: {len(bumps)} bumps at once in {seconds:.1f} s, {len(landed)} landed; attempts "
        f"{attempts[len(attempts) // 2]} median, {attempts[-1]} at most; seconds {times[len(times) // 2]:.1f} "
        f"median, {times[-1]:.1f} at most",
    )
