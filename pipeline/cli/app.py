"""All commands, each with the options it takes. The names are those of `pipeline.options`."""

from typing import Annotated

import typer

from pipeline import __version__
from pipeline.cli import deploy, release, rollback
from pipeline.cli.check import check
from pipeline.cli.comment import comment
from pipeline.cli.demo import demo
from pipeline.cli.edit import edit
from pipeline.cli.flags import command
from pipeline.cli.history import history
from pipeline.cli.init import init
from pipeline.cli.lint import lint
from pipeline.cli.sandbox import sandbox_app
from pipeline.options import secret_variables

BUILD = ("image", "service", "source", "context", "dockerfile", "platform", "registry", "engine")
READ = ("gitops", "branch", "env", "overlay", "github-api-url")
WHERE = (*READ, "author", "committer", "deadline", "dry-run")
PROPOSE = ("mode", "reviewer", "label", "draft", "merge", "wait-merge")
ORDER = ("create", *PROPOSE, "order", "allow-diverged", "no-check-image")
ARGOCD = ("argocd-server", "argocd-project", "argocd-header", "argocd-root-path", "argocd-ca")
FRONT = ("argocd-client-cert", "argocd-client-key", "argocd-proxy")
ROLLOUT = ("app", "timeout", "grace", "sync", *ARGOCD, *FRONT)
NEW = ("force", "dry-run")
SLACK = ("slack-channel", "slack-api-url")

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=f"Secrets have no flag; they come from the environment: {', '.join(secret_variables())}.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"openeg-deploy {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """From a commit to a healthy rollout: build, edit, publish, wait, tell."""


command(app, *BUILD, *WHERE, *ORDER, *ROLLOUT, "on-failure", *SLACK)(deploy.deploy)
command(app, *BUILD, "dry-run")(deploy.build)
command(app, "from", "image", "source", "registry", *WHERE, *ORDER, "timeout", "no-push", "no-commit")(deploy.bump)
command(
    app,
    "from",
    "revision",
    "image",
    "source",
    "registry",
    "gitops",
    "branch",
    "env",
    "overlay",
    "github-api-url",
    *ROLLOUT,
)(deploy.wait)
command(app, "from", "source", "github-api-url", *SLACK, "dry-run")(deploy.notify)
command(app, "image", "service", "to", "source", "registry", "no-check-image", *WHERE, *PROPOSE, *ROLLOUT, *SLACK)(
    rollback.rollback
)
command(
    app,
    *("from", "commit", "allow-not-running", "version", "sign", "draft", "prerelease", "dry-run"),
    *("service", "source", "registry", "app", "deadline"),
    *READ,
    *ARGOCD,
    *FRONT,
)(release.release)
command(
    app,
    *("from", "pr", "source", "registry", "gitops", "branch", "github-api-url", "author", "committer", "deadline"),
    *("dry-run", *ORDER[1:4], "timeout", "grace", "sync", *ARGOCD, *FRONT, "on-failure", *SLACK),
)(comment)
command(app, "files", "image", "create", "in-place", "dry-run")(edit)
command(app, "dir", "into-app", "organisation", "gitops", "registry", "domain", "service", "environment", *NEW)(init)
command(app, "image", "service", "since", "until", "limit", "source", *READ)(history)
command(
    app,
    "image",
    "service",
    "source",
    "registry",
    *READ,
    "create",
    "mode",
    "app",
    "sync",
    *ARGOCD,
    *FRONT,
    "slack-api-url",
)(check)
command(app, "folder", "format")(lint)
command(app)(demo)
app.add_typer(sandbox_app, name="sandbox")
