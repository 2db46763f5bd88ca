"""Waiting on the sandbox's Argo CD, which follows real commits: the whole step, with real HTTP, streams and history."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.deployment import Application, Image, Rollout
from pipeline.core.progress import Silent
from pipeline.core.secret import Secret
from pipeline.edges.argocd import connect
from pipeline.edges.gitops_repository import open_repository
from pipeline.errors import ArgoCDDenied
from pipeline.sandbox.cluster import Fault, FaultKind
from pipeline.sandbox.world import Settings, World, start
from pipeline.steps.wait_rollout import Inputs, error_of, wait_rollout
from tests.sandbox.gitops import Gitops

Make = Callable[..., World]
TAG, NEXT = "1" * 40, "2" * 40
FAST = {"sync_seconds": 0.1, "pod_seconds": 0.1}


@pytest.fixture
def gitops(tmp_path: Path) -> Gitops:
    return Gitops(tmp_path)


@pytest.fixture
def make(gitops: Gitops) -> Iterator[Make]:
    """Starts a world in which `demo` follows the overlay `prod`, and is Healthy on `v1`."""
    with contextlib.ExitStack() as stack:

        def made(*, automated: bool = True, **settings: Any) -> World:
            world = stack.enter_context(start(Settings(git_root=gitops.root, **{**FAST, **settings})))
            world.add_application("demo", f"{world.git_url}/deploy.git", "prod", automated=automated)
            if automated:
                end = time.monotonic() + 10
                while world.overview()["applications"]["demo"]["health"] != "Healthy":
                    assert time.monotonic() < end
                    time.sleep(0.05)
            return world

        yield made


def wait(
    world: World, revision: str | None, tag: str | None = TAG, *, project: str | None = None, **inputs: Any
) -> Rollout:
    images = (Image(name="web", repository="example/web", tag=tag),) if tag else ()
    given = {"applications": ("demo",), "images": images, "timeout_seconds": 20.0, **inputs}
    token = given.pop("token", world.token)
    with contextlib.closing(open_repository(f"{world.git_url}/deploy.git")) as history:
        client = connect(world.argocd_url, token, project=project)
        return wait_rollout(client, history, Inputs(revision=revision, **given), Silent(), time.monotonic)


def only(rollout: Rollout) -> Application:
    (one,) = rollout.applications
    return one


@pytest.mark.parametrize("settings", [{}, {"streams": False}, {"cut_streams_seconds": 0.3}, {"argocd_path": "/argo"}])
def test_a_deployment_is_proved_whatever_the_front_does_to_streams(make: Make, gitops: Gitops, settings: Any) -> None:
    world = make(**settings)
    revision = gitops.deploy(TAG)
    one = only(wait(world, revision))
    assert one.proof == f"2 pods run web:{TAG[:7]}; Synced at {revision[:7]} and Healthy"
    again = only(wait(world, revision))
    assert (again.outcome, again.revision) == ("deployed", revision)


@pytest.mark.parametrize(
    ("kind", "reason", "log"),
    [
        ("crash", "CrashLoopBackOff", "last words"),
        ("oom", "CrashLoopBackOff", "last words"),
        ("pull", "ImagePullBackOff", None),
    ],
)
def test_a_broken_pod_is_explained(make: Make, gitops: Gitops, kind: FaultKind, reason: str, log: str | None) -> None:
    world = make(faults={TAG: Fault(kind, ("last words",))})
    rollout = wait(world, gitops.deploy(TAG))
    cause = only(rollout).cause
    assert cause is not None
    assert (only(rollout).outcome, cause.reason) == ("failed", reason)
    assert (cause.logs[-1] if cause.logs else None) == log
    assert cause.events


def test_a_crash_that_recovers_is_deployed(make: Make, gitops: Gitops) -> None:
    world = make(faults={TAG: Fault("recover", ())})
    assert only(wait(world, gitops.deploy(TAG))).outcome == "deployed"


def test_a_good_commit_after_a_broken_one_is_not_blamed_for_its_pods(make: Make, gitops: Gitops) -> None:
    world = make(faults={TAG: Fault("pull", ())})
    assert only(wait(world, gitops.deploy(TAG))).outcome == "failed"
    assert only(wait(world, gitops.deploy(NEXT), NEXT)).outcome == "deployed"


def test_a_manifest_that_the_server_refuses_fails_the_sync(make: Make, gitops: Gitops) -> None:
    world = make(faults={TAG: Fault("sync", ())})
    one = only(wait(world, gitops.deploy(TAG)))
    assert one.cause is not None
    assert (one.outcome, one.cause.resource) == ("sync_failed", "Deployment/web")


def test_a_kustomization_that_cannot_be_rendered_fails_the_sync(make: Make, gitops: Gitops) -> None:
    world = make()
    revision = gitops.deploy(TAG, extra="resources: [../nowhere]\n")
    one = only(wait(world, revision))
    assert one.cause is not None
    assert (one.outcome, one.cause.reason) == ("sync_failed", "ComparisonError")


def test_a_later_commit_with_the_same_image_proves_ours(make: Make, gitops: Gitops) -> None:
    world = make()
    ours = gitops.deploy(TAG)
    later = gitops.deploy(TAG, extra="# a later word\n")
    one = only(wait(world, ours))
    assert (one.outcome, one.revision) == ("deployed", later)


def test_a_later_commit_with_another_image_supersedes_ours(make: Make, gitops: Gitops) -> None:
    world = make()
    ours = gitops.deploy(TAG)
    gitops.deploy(NEXT)
    assert only(wait(world, ours)).outcome == "superseded"


def test_a_branch_rewritten_without_our_commit_fails(make: Make, gitops: Gitops) -> None:
    world = make()
    ours = gitops.deploy(TAG)
    gitops.git("reset", "-q", "--hard", "HEAD^")
    gitops.deploy(NEXT)
    one = only(wait(world, ours))
    assert one.cause is not None
    assert (one.outcome, one.cause.reason) == ("failed", "BranchRewritten")


def test_a_configuration_change_needs_no_image(make: Make, gitops: Gitops) -> None:
    world = make()
    assert (
        only(wait(world, gitops.deploy("v1", extra="replicas: [{name: web, count: 3}]\n"), None)).outcome == "deployed"
    )


def test_zero_replicas_are_proved_without_pods(make: Make, gitops: Gitops) -> None:
    world = make()
    one = only(wait(world, gitops.deploy(TAG, extra="replicas: [{name: web, count: 0}]\n")))
    assert one.outcome == "deployed"
    assert "no pod of example/web is expected here" in (one.proof or "")


def test_without_automated_sync_the_wait_ends_unless_it_may_sync(make: Make, gitops: Gitops) -> None:
    world = make(automated=False)
    revision = gitops.deploy(TAG)
    assert only(wait(world, revision)).outcome == "suspended"
    assert only(wait(world, revision, sync=True)).outcome == "deployed"


def test_a_stopped_controller_runs_out_the_time(make: Make, gitops: Gitops) -> None:
    world = make()
    world.pause_controller()
    one = only(wait(world, gitops.deploy(TAG), timeout_seconds=1))
    world.pause_controller(False)
    assert one.cause is not None
    assert (one.outcome, "controller" in one.cause.message) == ("timed_out", True)


def test_who_may_not_and_what_is_not_are_told_apart_where_the_project_is_named(make: Make) -> None:
    world = make()
    assert only(wait(world, TAG, applications=("nobody",))).outcome == "denied"
    assert only(wait(world, TAG, applications=("nobody",), project="default")).outcome == "not_found"
    denied = wait(world, TAG, token=Secret("wrong"))
    assert only(denied).outcome == "denied"
    assert isinstance(error_of(denied), ArgoCDDenied)
