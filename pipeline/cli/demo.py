"""`demo`: the main job on the sandbox, as a person would want to watch it.

Every step is the command that a user would type, run as a process of its own.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.flags import Run
from pipeline.errors import Bug, RolloutFailed

if TYPE_CHECKING:
    from pipeline.sandbox.stage import Stage
    from pipeline.sandbox.story import Repository

_APPLICATION = "openeg-system"
_CRASH = (
    "Traceback (most recent call last):",
    '  File "/app/app.py", line 9, in <module>',
    "    from openeg.reports import monthly",
    "ModuleNotFoundError: No module named 'openeg.reports'",
)


def demo(_run: Run) -> None:
    """Watch the main job on the embedded sandbox: a healthy deployment, a crash undone, a race decided."""
    from pipeline.sandbox import world
    from pipeline.sandbox.stage import Embedded

    with world.start(world.Settings(pod_seconds=0.4)) as sandbox:
        play(
            Embedded(sandbox),
            "embedded  the registry, Argo CD's API and the cluster behind it: one process on 127.0.0.1",
        )


def play(stage: "Stage", setting: str) -> None:
    """Play the story on any stage; `setting` says what is real of it and what is not."""
    from pipeline.sandbox import story
    from pipeline.sandbox.stage import follows

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="openeg-demo-") as scratch:
        engine = _engine()
        _introduce(engine, setting)
        run = uuid.uuid4().hex[:6]  # a stage may have seen the story before
        gitops_url, app_url = (story.served(stage, f"{name}-{run}") for name in ("openeg-gitops", "openeg"))
        gitops = story.Repository(Path(scratch, "openeg-gitops"), gitops_url)
        story.gitops_files(gitops.path, stage.registry)
        gitops.commit("The OpenEG system, nothing deployed yet")
        app = story.Repository(Path(scratch, "openeg"), app_url)
        story.application_files(app.path, stage.registry, gitops_url)
        stage.add_application(_APPLICATION, follows(gitops_url, "overlays/production", _APPLICATION))
        environ = _environment(stage, engine)

        _chapter(1, "A commit becomes a healthy deployment")
        app.commit("Serve lessons")
        _must(0, _deploy(app, environ))

        _chapter(2, "The next commit crashes: cause and log lines, and back to the version that worked")
        broken = _change(app, "flask/app.py", "Add monthly reports")
        stage.break_image(f"{stage.registry}/openegflask:{broken}", "crash", _CRASH)
        _must(RolloutFailed.exit_code, _deploy(app, environ, "--service", "flask", "--on-failure", "rollback"))

        _chapter(3, "Two deployments race: the newer commit wins, whichever comes first")
        _race(app, stage, environ, Path(scratch))

        _chapter(4, "What git says of it")
        gitops.git("pull", "--quiet", "--ff-only", "origin", "main")
        print(gitops.git("log", "--first-parent", "--format=%h  %s", "main"))
        stage.remove_application(_APPLICATION)
    print(f"\nAll of it took {time.monotonic() - started:.0f} s.")


def _engine() -> str:
    """`docker` where a Docker engine answers, else `sources`."""
    try:
        from pipeline.edges.docker_engine import answers
    except ModuleNotFoundError:
        return "sources"
    return "docker" if answers() else "sources"


def _introduce(engine: str, setting: str) -> None:
    built = (
        "a Docker engine answers: images are really built and pushed, of each Dockerfile the first stage: the sources"
        if engine == "docker"
        else "no Docker engine answers: small OCI images of the sources are pushed in their place"
    )
    git = subprocess.run(("git", "--version"), check=True, capture_output=True, text=True).stdout.strip()
    print("OpenEG Deploy: the main job\n")
    print(f"real      {git}, over smart HTTP; every commit below is one")
    print(f"{'real' if engine == 'docker' else 'embedded':<9} {built}")
    print(setting)


def _environment(stage: "Stage", engine: str) -> dict[str, str]:
    """What a CI job would be given."""
    from pipeline.sandbox.story import PAST_PROXIES

    ours = ("PIPELINE_", "ARGOCD_", "SLACK_", "GITHUB_", "GITOPS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **inherited,
        "ARGOCD_SERVER": stage.argocd,
        "ARGOCD_AUTH_TOKEN": stage.token,
        "PIPELINE_ENGINE": engine,
        "PIPELINE_TIMEOUT": "60",
        **PAST_PROXIES,
    }


def _chapter(number: int, title: str) -> None:
    print(f"\n{number}. {title}", flush=True)


def _change(app: "Repository", file: str, message: str) -> str:
    with Path(app.path, file).open("a") as source:
        source.write(f"# {message}\n" if file.endswith(".py") else f"// {message}\n")
    return app.commit(message)


def _deploy(app: "Repository", environ: Mapping[str, str], *flags: str) -> int:
    """Run `deploy` as a user would; its output goes where ours does."""
    print(f"$ python -m pipeline deploy {' '.join(flags)}".rstrip(), flush=True)
    command = (sys.executable, "-m", "pipeline", "deploy", *flags)
    done = subprocess.run(command, cwd=app.path, env=dict(environ), stderr=subprocess.STDOUT, check=False)
    return done.returncode


def _race(app: "Repository", stage: "Stage", environ: Mapping[str, str], scratch: Path) -> None:
    """Deploy two commits at the same moment, each from a work tree of its own, and print who says what."""
    commits = {name: _change(app, "node/server.js", f"Answer faster, {name}") for name in ("older", "newer")}
    # If the older one comes first, its pods are not ready before the newer one arrives, however long that takes.
    stage.break_image(f"{stage.registry}/openegnode:{commits['older']}", "never-ready")
    runs: list[threading.Thread] = []
    codes: dict[str, int] = {}

    def run(name: str, tree: Path) -> None:
        command = (sys.executable, "-m", "pipeline", "deploy", "--service", "node")
        with subprocess.Popen(
            command, cwd=tree, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                print(f"{name} {commits[name][:7]} | {line}", end="", flush=True)
        codes[name] = process.returncode

    for name, commit in commits.items():
        tree = scratch / name
        app.git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        runs.append(threading.Thread(target=run, args=(name, tree)))
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    for code in codes.values():
        _must(0, code)


def _must(expected: int, code: int) -> None:
    if code != expected:
        raise Bug(f"the demo's command ended with {code}, expected {expected}", remedy="Read its output above.")
