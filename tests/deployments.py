"""Deployments that tests of notices, summaries and reports tell about."""

from dataclasses import replace

from pipeline.core.deployment import (
    Application,
    Cause,
    ChangedLine,
    Deployment,
    Failure,
    Gitops,
    Image,
    Rollback,
    Rollout,
)

OLD = "3f2a9c1" + "0" * 33
NEW = "8b1c2d3" + "f" * 33
REVISION = "1a2b3c4" + "5" * 33

IMAGE = Image(
    name="openegflask",
    repository="registry.example/openegflask",
    tag=NEW,
    previous=OLD,
    source=f"https://git.example/openeg/app.git@{NEW}",
)

DEPLOYED = Deployment(
    command="deploy",
    outcome="deployed",
    deployment_id="4711-production",
    environment="production",
    kind="deploy",
    actor="kim",
    images=(IMAGE,),
    gitops=Gitops(
        repository="https://git.example/openeg/gitops",
        branch="main",
        revision=REVISION,
        changed=(
            ChangedLine(file="overlays/production/kustomization.yaml", line=12, name="openegflask", old=OLD, new=NEW),
        ),
        attempts=2,
    ),
    rollout=Rollout(
        applications=(
            Application(
                name="openeg",
                outcome="deployed",
                revision=REVISION,
                health="Healthy",
                proof="2 of 2 pods run the image",
            ),
        )
    ),
    urls={
        "commit": f"https://git.example/openeg/gitops/commit/{REVISION}",
        "argocd/openeg": "https://argocd.example/applications/openeg",
    },
    seconds={"build": 12.0, "publish": 2.0, "wait": 14.0, "total": 28.4},
    started="2025-01-02T03:04:05Z",
)

CAUSE = Cause(
    reason="CrashLoopBackOff",
    message="back-off 10s restarting failed container",
    resource="Pod/flask-7d9c",
    container="flask",
    logs=("Traceback (most recent call last):", "ValueError: no DATABASE_URL"),
    events=("Warning BackOff: Back-off restarting failed container",),
)


def failed(cause: Cause = CAUSE) -> Deployment:
    """The same deployment, whose pods do not run."""
    application = Application(name="openeg", outcome="failed", revision=REVISION, health="Degraded", cause=cause)
    return replace(
        DEPLOYED,
        outcome="failed",
        rollout=Rollout(applications=(application,)),
        error=Failure(class_="RolloutFailed", message="openeg: CrashLoopBackOff", remedy="Run `rollback`."),
    )


def rolled_back() -> Deployment:
    """As `failed`, and the former version runs again."""
    return replace(failed(), rollback=Rollback(outcome="deployed", images=(replace(IMAGE, tag=OLD, previous=NEW),)))


# What people, branches, applications and servers may write, and must stay text wherever it is shown.
HOSTILE = (
    "<!channel> @here <https://evil.example|click>",
    "</details><script>alert(1)</script>",
    "```\n## injected\n```",
    "| a | b |",
    "[click](https://evil.example) ![x](https://evil.example/x.png)",
    "&lt;!channel&gt;",
    "\x1b]0;title\x07\x1b[2J",
    "::set-output name=x::y",
    "##[error]x",
    "a\ud800b",
    "line\u2028separator \u202egnp.exe",
    "*bold* _it_ `code` ~x~",
    "x" * 20_000,
    "&<>" * 5_000,
    "",
)
