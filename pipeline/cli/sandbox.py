"""`sandbox up`: the embedded world, kept running for commands by hand."""

import contextlib
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipeline.cli.flags import Run, command
from pipeline.errors import Signalled, UsageError

if TYPE_CHECKING:
    from pipeline.sandbox.world import World


def up(run: Run) -> None:
    """Serve a registry, git, an Argo CD API and a Slack API on this machine until interrupted."""
    from pipeline.edges.git import parse_address
    from pipeline.sandbox import story, world
    from pipeline.sandbox.cluster import FAULT_KINDS, Fault

    faults = {}
    for argument in run.texts("fault"):
        tag, equals, kind = argument.rpartition("=")
        if not tag or not equals or kind not in FAULT_KINDS:
            kinds = ", ".join(sorted(FAULT_KINDS))
            raise UsageError(f"--fault {argument!r} is not TAG=KIND", remedy=f"KIND is one of {kinds}.")
        faults[tag] = Fault(kind)
    git_root = run.text("git-root")
    if git_root and not Path(git_root).is_dir():
        raise UsageError(f"--git-root {git_root}: no such folder")
    url = run.text("gitops")
    if url and (folder := parse_address(url, None).path) and not folder.is_dir():
        raise UsageError(f"--gitops {url}: no such folder")
    port = run.number("port") or 0.0
    if not (port.is_integer() and port < 2**16):
        raise UsageError(f"--port {port:g} is no port", remedy="Choose one from 1 to 65535, or 0 for any free one.")
    settings = world.Settings(
        port=int(port),
        git_root=Path(git_root) if git_root else None,
        poll_seconds=run.number("poll") or 0.0,
        sync_seconds=run.number("sync-seconds") or 0.0,
        faults=faults,
    )
    with tempfile.TemporaryDirectory(prefix="openeg-sandbox-") as scratch, world.start(settings) as sandbox:
        names = run.texts("app", ("openeg-system",))
        if url is None:
            url = story.served(sandbox, "openeg-gitops")
            gitops = story.Repository(Path(scratch, "openeg-gitops"), url)
            story.gitops_files(gitops.path, sandbox.registry_host)
            gitops.commit("The OpenEG system, nothing deployed yet")
        overlays = run.texts("overlay", ("overlays/production",))
        for name, overlay in zip(names, overlays * len(names), strict=False):
            sandbox.add_application(name, repo_url=url, path=overlay, branch=run.text("branch") or "main")
        run.report.update(urls={"sandbox": sandbox.url, "argocd": sandbox.argocd_url, "gitops": url})
        run.report.announce(_introduction(sandbox, url, names))
        with contextlib.suppress(Signalled):  # Ctrl-C is how it is meant to end
            while not threading.Event().wait(1.0):  # a signal in the moment before a wait is heard after it
                pass


def _introduction(sandbox: "World", gitops_url: str, applications: tuple[str, ...]) -> str:
    from pipeline.sandbox.story import PAST_PROXIES
    from pipeline.sandbox.world import GITHUB_TOKEN, SLACK_TOKEN

    return f"""# The sandbox serves on {sandbox.url} until you press Ctrl-C. In another shell:
export ARGOCD_SERVER={sandbox.argocd_url}
export ARGOCD_AUTH_TOKEN={sandbox.token.reveal()}
export PIPELINE_GITOPS={gitops_url}
export PIPELINE_APP='{" ".join(applications)}'
export PIPELINE_REGISTRY={sandbox.registry_host}
export SLACK_API_URL={sandbox.slack_url}api/ SLACK_BOT_TOKEN={SLACK_TOKEN.reveal()}
export {" ".join(f"{name}={value}" for name, value in PAST_PROXIES.items())}

# What is there:                  curl {sandbox.url}/sandbox/
# The messages that Slack got:    {sandbox.slack_url}
# GitHub's API for these repositories, token {GITHUB_TOKEN.reveal()}: {sandbox.github_url}
# Break an image's pods:          curl -X PUT {sandbox.url}/sandbox/faults/TAG --json '{{"kind": "crash"}}'
# Mend them:                      curl -X DELETE {sandbox.url}/sandbox/faults/TAG
"""


sandbox_app = typer.Typer(help="An embedded world to try commands in.", rich_markup_mode=None)
command(sandbox_app, "port", "poll", "sync-seconds", "fault", "git-root", "gitops", "branch", "app", "overlay")(up)
