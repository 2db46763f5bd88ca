"""Each fault that the sandbox can make, through `deploy`: how it ends, and what a person reads of it."""

from dataclasses import dataclass

import pytest

from pipeline.sandbox.cluster import FAULT_KINDS, Fault, FaultKind
from tests.cli.conftest import Scene


@dataclass(frozen=True, kw_only=True)
class End:
    """How a deployment should end."""

    code: int
    outcome: str
    reason: str = ""
    resource: str = ""
    container: str | None = None
    message: str = ""
    log: str | None = None
    """The last log line."""
    event: str = ""


ENDS: dict[FaultKind, End] = {
    "pull": End(
        code=11,
        outcome="failed",
        reason="ImagePullBackOff",
        resource="Pod/flask-app-",
        container="flask",
        message="Back-off pulling image",
        event="Failed to pull image",
    ),
    "crash": End(
        code=11,
        outcome="failed",
        reason="CrashLoopBackOff",
        resource="Pod/flask-app-",
        container="flask",
        message="exit code 1 (Error)",
        log="RuntimeError: DATABASE_URL is not set",
        event="Back-off restarting failed container flask",
    ),
    "oom": End(
        code=11,
        outcome="failed",
        reason="CrashLoopBackOff",
        resource="Pod/flask-app-",
        container="flask",
        message="exit code 137 (OOMKilled)",
        log="loading model into memory",
    ),
    "slow": End(code=0, outcome="deployed"),
    "recover": End(code=0, outcome="deployed"),
    "never-ready": End(
        code=12,
        outcome="timed_out",
        reason="TimedOut",
        resource="Pod/flask-app-",
        container="flask",
        log="starting",
        event="Readiness probe failed",
    ),
    "vault-init": End(
        code=11,
        outcome="failed",
        reason="Init:0/1",
        resource="Pod/flask-app-",
        container="vault-agent-init",
        message="vault-agent-init does not end",
        log="[ERROR] agent.auth.handler: error authenticating: permission denied",
        event="Started container vault-agent-init",
    ),
    "sync": End(
        code=10,
        outcome="sync_failed",
        reason="SyncFailed",
        resource="Deployment/flask-app",
        message="Forbidden: refused by policy",
    ),
    "suspended": End(
        code=13,
        outcome="suspended",
        reason="Suspended",
        resource="Deployment/flask-app",
        message="Deployment is paused",
    ),
}


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_ends_as_what_it_is(scene: Scene, kind: FaultKind) -> None:
    commit = scene.app.git("rev-parse", "HEAD")
    scene.sandbox.set_fault(f"openegflask:{commit}", Fault(kind))
    hurry = {"never-ready": ("--timeout", "4"), "suspended": ("--grace", "0.5")}.get(kind, ())
    done = scene.run("deploy", "--json", *hurry)
    end = ENDS[kind]
    application = done.json["rollout"]["applications"][0]
    assert (done.code, application["outcome"]) == (end.code, end.outcome), done.stderr
    cause = application.get("cause", {})
    assert cause.get("reason", "") == end.reason
    assert cause.get("resource", "").startswith(end.resource)
    assert cause.get("container") == end.container
    assert end.message in cause.get("message", "")
    assert cause.get("logs", [None])[-1] == end.log
    assert end.event in " ".join(cause.get("events", []))
    for told in (end.reason, end.message, end.log or "", end.event):
        assert told in done.stderr


def test_a_sync_window_ends_the_wait_with_its_own_words(scene: Scene) -> None:
    scene.sandbox.add_application("blocked", repo_url=scene.gitops_url, path="overlays/production", blocked=True)
    done = scene.run("deploy", "--app", "blocked", "--json")
    assert done.code == 10
    cause = done.json["rollout"]["applications"][0]["cause"]
    assert (cause["reason"], cause["message"]) == (
        "SyncWindow",
        "cannot sync: blocked by sync window (deny * * * * * for 1h)",
    )
    assert "syncWindows" in done.json["error"]["remedy"]
