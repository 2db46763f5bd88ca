"""ONE table of options: flag, environment variable, help, default, and whether it is secret.

The command line (`pipeline.cli.flags`), the reference page and the action's inputs are made from it.
Precedence: flags beat environment variables, these beat configuration files, these beat the defaults here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.core.image import DEFAULT_REGISTRY
from pipeline.core.secret import Secret

DEFAULT_CHANNEL = "cicd"

APPLICATION = "Application and image"
GITOPS = "GitOps repository"
ROLLOUT = "Argo CD and rollout"
OUTPUT = "Output and notices"
SANDBOX = "Sandbox"
NEW = "New repository"
HISTORY = "History"
LINT = "Lint"
RELEASE = "Release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. `name` is the flag without dashes, unless `flag` is. A secret has no flag, only a variable."""

    name: str
    group: str
    flag: str = ""
    """The flag, where it is not the name because another command's option has the same one."""
    help: str
    default: str | float | bool | None = None
    number: bool = False
    """Whether the value is a number; a default that is one says so too."""
    environment: str | None = None
    metavar: str | None = None
    repeatable: bool = False
    spaced: bool = False
    """Whether values hold spaces: the environment variable of a repeatable option then has one value a line."""
    secret: bool = False
    argument: bool = False
    """Whether it is a positional argument, which may be left out; repeatable: one or more."""
    flag_only: bool = False
    """Whether an environment variable would make no sense, as for --help-like switches of one run."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """The help of commands for which `help` does not hold, by command."""
    metavars: Mapping[str, str] = field(default_factory=dict)
    """The same for `metavar`."""

    @property
    def variable(self) -> str | None:
        """The environment variable that stands in for the flag."""
        if self.flag_only:
            return None
        return self.environment or f"PIPELINE_{self.name.upper().replace('-', '_')}"

    @property
    def flags(self) -> tuple[str, ...]:
        """The flag; for a switch that a variable can turn on, also the one that turns it off again."""
        if not isinstance(self.default, bool) or self.flag_only:
            return (f"--{self.flag or self.name}",)
        bare = self.name.removeprefix("no-")
        both = (f"--{bare}", f"--no-{bare}")
        return both if bare == self.name else both[::-1]


def _table(*options: Option) -> Mapping[str, Option]:
    return {option.name: option for option in options}


OPTIONS = _table(
    # what is deployed
    Option(
        name="image",
        group=APPLICATION,
        metavar="NAME=TAG",
        repeatable=True,
        help="Image by its `images[].name`, with the full commit hash as tag, optionally @sha256:DIGEST.",
        instead={
            "deploy": "Image by its `images[].name`. NAME alone is built; NAME=TAG, with the full commit hash as tag "
            "and optionally @sha256:DIGEST, is there already.",
            "build": "Image to build, where there is no deploy.yaml.",
            "wait": "Image that must run, by its `images[].name`, with its tag; those of --from else.",
            "rollback": "Image to take back, by its `images[].name`.",
            "history": "Image to tell of, by its `images[].name`; all when none is named.",
        },
        metavars={"deploy": "NAME[=TAG]", "build": "NAME", "rollback": "NAME", "history": "NAME"},
    ),
    Option(
        name="service",
        group=APPLICATION,
        metavar="NAME",
        repeatable=True,
        help="Service of deploy.yaml; all of them when none is named.",
        instead={
            "rollback": "Service of deploy.yaml; what was deployed last when nothing is named.",
            "history": "Service of deploy.yaml to tell of; all when none is named.",
            "init": "Service, as NAME[=IMAGE][:PORT]. Default: those of the template; with --app a Dockerfile each.",
        },
    ),
    Option(
        name="source",
        group=APPLICATION,
        metavar="PATH|URL",
        default=".",
        help="The application's git repository: its deploy.yaml, and the order of commits.",
        instead={
            "comment": "The application's git repository, not as a pull request has it: its deploy.yaml, and the order "
            "of commits.",
            "build": "Work tree of the application: its deploy.yaml, and what is built.",
            "deploy": "The application's git repository: its deploy.yaml, what is built, and the order of commits.",
            "wait": "Folder of the application, for its deploy.yaml.",
        },
        metavars={"build": "PATH", "wait": "PATH"},
    ),
    Option(
        name="context",
        group=APPLICATION,
        metavar="DIR",
        default=".",
        help="Build context of --image NAME, relative to the application repository.",
    ),
    Option(
        name="dockerfile",
        group=APPLICATION,
        metavar="FILE",
        help="Dockerfile of --image NAME, relative to the context; `Dockerfile` when not given.",
    ),
    Option(
        name="platform",
        group=APPLICATION,
        metavar="OS/ARCH",
        repeatable=True,
        help="Platform to build for; several need buildx. Default: those of deploy.yaml, else the engine's own.",
    ),
    Option(
        name="registry",
        group=APPLICATION,
        metavar="HOST[:PORT]",
        default=DEFAULT_REGISTRY,
        help="Registry of images whose name carries none.",
        instead={"init": "Registry of the images; for an organisation of your own ghcr.io/NAME, when not given."},
    ),
    Option(
        name="pr",
        group=APPLICATION,
        metavar="NUMBER",
        number=True,
        help="Pull request to comment on. Default: that of the event, else the one that brought the commit.",
    ),
    Option(
        name="engine",
        group=APPLICATION,
        metavar="docker|sources",
        default="docker",
        help="What makes the image: the Docker engine, or, where none runs, a small image of the sources alone.",
    ),
    Option(
        name="registry-username",
        group=APPLICATION,
        secret=True,
        environment="REGISTRY_USERNAME",
        help="User of --registry.",
    ),
    Option(
        name="registry-password",
        group=APPLICATION,
        secret=True,
        environment="REGISTRY_PASSWORD",
        help="Password or token for --registry; otherwise Docker's own configuration is used.",
    ),
    Option(
        name="no-check-image",
        group=APPLICATION,
        default=False,
        help="Do not ask the registry whether the image is there.",
    ),
    # where it is written
    Option(
        name="gitops",
        group=GITOPS,
        metavar="URL|PATH",
        help="The GitOps repository: HTTP or SSH URL, bare repository, or work tree. "
        "Default: gitops.url of deploy.yaml, else the current directory.",
        instead={
            "wait": "The GitOps repository, which tells which commit descends from which. "
            "Default: gitops.url of deploy.yaml, else that of --from.",
            "up": "GitOps repository that Argo CD follows; a fresh one is served when none is given.",
            "init": "URL of the GitOps repository; https://github.com/NAME/NAME-gitops.git when not given.",
        },
    ),
    Option(
        name="branch",
        group=GITOPS,
        metavar="NAME",
        help="Branch of the GitOps repository; else its default.",
        instead={"up": "Branch that Argo CD follows; `main` when none is given."},
    ),
    Option(
        name="env",
        group=GITOPS,
        metavar="NAME",
        default="production",
        help="Environment of the GitOps repository.",
        instead={"history": "Environment to tell of; all of .deploy/config.yaml when none is named."},
    ),
    Option(
        name="overlay",
        group=GITOPS,
        metavar="PATH",
        repeatable=True,
        help="Folder with the kustomization to edit. Default: .deploy/config.yaml, else overlays/ENV.",
        instead={
            "wait": "Folder with the kustomization that names the images. Default as for `bump`.",
            "up": "Folder that the application is made from, one for each --app; overlays/production else.",
        },
    ),
    Option(name="create", group=GITOPS, default=False, help="Add an images entry that is missing."),
    Option(
        name="mode",
        group=GITOPS,
        metavar="commit|pr",
        help="Publish as a commit (default), or as a pull request on GitHub. Default: .deploy/config.yaml.",
    ),
    Option(
        name="reviewer",
        group=GITOPS,
        metavar="LOGIN|ORG/TEAM",
        repeatable=True,
        help="Who is asked to review the pull request.",
    ),
    Option(name="label", group=GITOPS, metavar="NAME", repeatable=True, spaced=True, help="Label of the pull request."),
    Option(name="draft", group=GITOPS, default=False, help="Open the pull request as a draft."),
    Option(
        name="merge",
        group=GITOPS,
        default=False,
        help="Merge the pull request as the repository rules: its merge queue, auto-merge, or at once.",
    ),
    Option(
        name="wait-merge",
        group=GITOPS,
        default=False,
        help="Wait until the pull request is merged, for --timeout seconds at most; then go on.",
    ),
    Option(
        name="order",
        group=GITOPS,
        metavar="ancestry|arrival|strict",
        help="Which commit may follow which: `ancestry` (default) refuses one of a side branch, `arrival` takes it, "
        "`strict` also refuses one that cannot be compared.",
    ),
    Option(
        name="allow-diverged",
        group=GITOPS,
        default=False,
        help="Deploy a commit that is neither before nor after the deployed one.",
    ),
    Option(
        name="deadline",
        group=GITOPS,
        metavar="SECONDS",
        default=120.0,
        help="How long to try to win the branch; so long GitHub's limits may hold us up.",
    ),
    Option(name="author", group=GITOPS, metavar="'NAME <MAIL>'", help="Author of the commit; git's own setting else."),
    Option(name="committer", group=GITOPS, metavar="'NAME <MAIL>'", help="Committer of the commit; the author else."),
    Option(name="no-push", group=GITOPS, default=False, flag_only=True, help="Work tree only: commit, do not push."),
    Option(name="no-commit", group=GITOPS, default=False, flag_only=True, help="Work tree only: edit, do not commit."),
    Option(
        name="gitops-token",
        group=GITOPS,
        secret=True,
        environment="GITOPS_TOKEN",
        help="Token that may write the GitOps repository; GITHUB_TOKEN stands in for it.",
    ),
    Option(
        name="github-token",
        group=GITOPS,
        secret=True,
        environment="GITHUB_TOKEN",
        help="Token for the application repository.",
    ),
    Option(
        name="github-app-id",
        group=GITOPS,
        secret=True,
        environment="GITHUB_APP_ID",
        help="GitHub App that stands in where neither GITOPS_TOKEN nor GITHUB_TOKEN is set: its id.",
    ),
    Option(
        name="github-app-private-key",
        group=GITOPS,
        secret=True,
        environment="GITHUB_APP_PRIVATE_KEY",
        help="Private key of the GitHub App: the content of its .pem file.",
    ),
    Option(
        name="github-api-url",
        group=GITOPS,
        metavar="URL",
        environment="GITHUB_API_URL",
        help="GitHub's REST API, for a GitHub Enterprise Server. Default: github.com's.",
    ),
    # what becomes of it
    Option(
        name="app",
        group=ROLLOUT,
        metavar="NAME",
        repeatable=True,
        help="Argo CD application to wait for. Default: .deploy/config.yaml.",
        instead={"up": "Application that Argo CD has; `openeg-system` when none is given."},
    ),
    Option(
        name="argocd-server",
        group=ROLLOUT,
        metavar="HOST:PORT|URL",
        environment="ARGOCD_SERVER",
        help="Argo CD's API server.",
    ),
    Option(name="argocd-token", group=ROLLOUT, secret=True, environment="ARGOCD_AUTH_TOKEN", help="Argo CD's token."),
    Option(
        name="argocd-project",
        group=ROLLOUT,
        metavar="NAME",
        help="Project of the applications; makes `unknown` and `forbidden` different answers.",
    ),
    Option(
        name="argocd-header",
        group=ROLLOUT,
        metavar="'NAME: VALUE'",
        repeatable=True,
        spaced=True,
        help="Extra header for a private front. $VARIABLE in the value is taken from the environment.",
    ),
    Option(name="argocd-root-path", group=ROLLOUT, metavar="PATH", help="Path below which Argo CD is served."),
    Option(name="argocd-ca", group=ROLLOUT, metavar="FILE", help="CA bundle (PEM) of a private front."),
    Option(name="argocd-client-cert", group=ROLLOUT, metavar="FILE", help="Client certificate (PEM)."),
    Option(name="argocd-client-key", group=ROLLOUT, metavar="FILE", help="Key of the client certificate."),
    Option(name="argocd-proxy", group=ROLLOUT, metavar="URL", help="HTTP proxy to Argo CD; HTTPS_PROXY works too."),
    Option(name="revision", group=ROLLOUT, metavar="COMMIT", help="GitOps commit to wait for."),
    Option(
        name="timeout",
        group=ROLLOUT,
        metavar="SECONDS",
        default=600.0,
        help="How long to wait for health; with --wait-merge also for the merge.",
        instead={"bump": "How long --wait-merge waits."},
    ),
    Option(
        name="grace",
        group=ROLLOUT,
        metavar="SECONDS",
        default=None,
        number=True,
        help="How long what is broken may take to recover. Default: 2 for a pod in back-off, 30 for all else.",
    ),
    Option(
        name="sync",
        group=ROLLOUT,
        default=False,
        help="Start the sync, for applications without automated sync; end another commit's that keeps failing.",
    ),
    Option(
        name="on-failure",
        group=ROLLOUT,
        metavar="none|rollback",
        default="none",
        help="What to do when the rollout fails.",
    ),
    Option(
        name="to",
        group=APPLICATION,
        metavar="PREVIOUS|TAG",
        default="PREVIOUS",
        help="Version to go back to.",
    ),
    # what is told
    Option(
        name="from",
        group=OUTPUT,
        metavar="FILE|JSON",
        repeatable=True,
        spaced=True,
        help="Earlier results: files (`-` is standard input), or the JSON itself; a matrix fans in.",
    ),
    Option(
        name="dry-run",
        group=OUTPUT,
        default=False,
        help="Show the change as a unified diff; change nothing anywhere.",
        instead={
            "build": "Tell what would be built; build and push nothing.",
            "notify": "Tell what would be told; post nothing.",
            "release": "Show version and notes; make nothing.",
            "comment": "Print the comment; write and deploy nothing.",
            "init": "List what would be written; write nothing.",
        },
    ),
    Option(name="json", group=OUTPUT, default=False, help="Print exactly one JSON object on standard output."),
    Option(name="slack-channel", group=OUTPUT, metavar="NAME", default=DEFAULT_CHANNEL, help="Channel of the notice."),
    Option(
        name="slack-token",
        group=OUTPUT,
        secret=True,
        environment="SLACK_BOT_TOKEN",
        help="Bot token; the message is updated in place.",
    ),
    Option(
        name="slack-webhook",
        group=OUTPUT,
        secret=True,
        environment="SLACK_WEBHOOK_URL",
        help="Incoming webhook, where there is no bot; one message at the end.",
    ),
    Option(
        name="slack-api-url",
        group=OUTPUT,
        metavar="URL",
        environment="SLACK_API_URL",
        help="Another Slack API, such as the sandbox's.",
    ),
    Option(
        name="files",
        group=GITOPS,
        metavar="FILE...",
        argument=True,
        repeatable=True,
        flag_only=True,
        help="Kustomization files.",
    ),
    Option(
        name="in-place", group=OUTPUT, default=False, flag_only=True, help="Write the files instead of printing one."
    ),
    # history
    Option(
        name="since",
        group=HISTORY,
        metavar="MOMENT",
        help="From when on: 2026-11-24, 2026-11-24T16:20Z, or an age such as 12h, 7d, 2w.",
    ),
    Option(name="until", group=HISTORY, metavar="MOMENT", help="Up to when, written as for --since."),
    Option(name="limit", group=HISTORY, metavar="NUMBER", default=20.0, help="How many to list, the newest first."),
    # lint
    Option(
        name="folder",
        group=LINT,
        metavar="[DIR]",
        argument=True,
        flag_only=True,
        default=".",
        help="Folder of the GitOps repository; the current one when none is named.",
    ),
    Option(
        name="format",
        group=LINT,
        metavar="table|json|sarif|github",
        default="table",
        help="Findings as a table for people, as the JSON result, as SARIF 2.1.0, or as GitHub's workflow commands.",
    ),
    # releases
    Option(
        name="version",
        group=RELEASE,
        metavar="X.Y.Z",
        help="Version to release. Default: what follows from the conventional commits since the last one.",
    ),
    Option(name="commit", group=RELEASE, metavar="COMMIT", help="Commit to release. Default: the one that runs."),
    Option(
        name="allow-not-running",
        group=RELEASE,
        default=False,
        help="Release --commit without a look at what runs.",
    ),
    Option(
        name="sign",
        group=RELEASE,
        default=False,
        help="Sign the tag with git's key, in a local clone. Default: as git's tag.gpgSign says.",
    ),
    Option(
        name="draft", group=RELEASE, default=False, help="Make the release a draft; without it a draft is published."
    ),
    Option(name="prerelease", group=RELEASE, default=False, help="Mark the release as one that is not for production."),
    # the sandbox
    Option(name="port", group=SANDBOX, metavar="PORT", default=0.0, help="Port to serve on; 0 takes a free one."),
    Option(name="poll", group=SANDBOX, metavar="SECONDS", default=180.0, help="How often Argo CD looks at git."),
    Option(name="sync-seconds", group=SANDBOX, metavar="SECONDS", default=0.3, help="How long a sync takes."),
    Option(
        name="fault",
        group=SANDBOX,
        metavar="TAG=KIND",
        repeatable=True,
        help="What happens to pods of that image tag: pull, crash, oom, slow, never-ready, vault-init, recover, sync "
        "or suspended.",
    ),
    Option(name="git-root", group=SANDBOX, metavar="DIR", help="Bare repositories to serve."),
    # a new repository
    Option(name="dir", group=NEW, metavar="[DIR]", argument=True, flag_only=True, help="Folder to write to."),
    Option(
        name="into-app",
        flag="app",
        group=NEW,
        default=False,
        flag_only=True,
        help="Write deploy.yaml and a workflow into the application repository DIR, by default the current folder.",
    ),
    Option(name="organisation", group=NEW, metavar="NAME", default="openeg", help="Whose names everything bears."),
    Option(name="domain", group=NEW, metavar="NAME", help="Domain of all pages; NAME.example.com when not given."),
    Option(
        name="environment",
        group=NEW,
        metavar="NAME",
        repeatable=True,
        help="Environment. Default: those of the template. One that is new is made after staging.",
    ),
    Option(name="force", group=NEW, default=False, flag_only=True, help="Overwrite files that are in the way."),
)


def default(name: str) -> str | float | bool | None:
    """The default of one option."""
    return OPTIONS[name].default


def secret(environ: Mapping[str, str], *names: str) -> Secret | None:
    """The first of the named secrets that the environment has; None when it has none of them."""
    for name in names:
        variable = OPTIONS[name].variable
        value = environ.get(variable or "")
        if value:
            return Secret(value)
    return None


def secret_variables() -> Iterable[str]:
    """The environment variables that hold secrets."""
    return (option.variable for option in OPTIONS.values() if option.secret and option.variable)
