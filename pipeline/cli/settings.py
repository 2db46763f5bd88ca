"""What one run works on: flags, environment and the configuration files, put together."""

import getpass
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.flags import Run
from pipeline.core.deployment import Deployment
from pipeline.core.image import Wanted, in_registry, is_registry, parse_wanted, require_repository
from pipeline.errors import NotFound, UsageError

if TYPE_CHECKING:
    from pipeline.config import ApplicationConfig, Environment, GitopsConfig
    from pipeline.edges.github import Access, App, Slug
    from pipeline.edges.gitops_repository import Repository
    from pipeline.steps.publish_change import Head


CONFIG_FILE = ".deploy/config.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Buildable:
    """One image that this application repository can build."""

    name: str
    repository: str
    context: Path
    dockerfile: Path | None
    platforms: tuple[str, ...]
    service: str | None
    paths: tuple[str, ...] = ()
    """What must differ from the version that runs; none for a service that is to be deployed in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a change goes: the GitOps repository as it was read, and what it says of the environment."""

    repository: "Repository"
    head: "Head"
    name: str
    """The environment's name."""
    config: "GitopsConfig | None"

    @property
    def environment(self) -> "Environment | None":
        """What `.deploy/config.yaml` says of the environment."""
        return self.config.environments.get(self.name) if self.config else None


def application(run: Run) -> "ApplicationConfig | None":
    """`deploy.yaml` of the application repository; None where there is none. Raises ConfigInvalid."""
    file = Path(run.required("source"), "deploy.yaml")
    if not file.is_file():
        return None
    from pipeline.config import ApplicationConfig, load

    return load(ApplicationConfig, file.read_bytes(), str(file))


def images_of(config: "ApplicationConfig | None") -> tuple[str, ...]:
    """The application's images by name; none where no deploy.yaml names them."""
    return tuple(service.image for service in config.services.values()) if config else ()


def registry(run: Run, config: "ApplicationConfig | None") -> str:
    """The registry of images whose name carries none. Raises UsageError."""
    host = run.required("registry", config.registry if config else None)
    if not is_registry(host):
        raise UsageError(f"--registry {host!r} is not a registry", remedy="Write HOST or HOST:PORT.")
    return host


def require_one_way(run: Run) -> None:
    """Raises UsageError where images are named in two ways, of which one would be passed over."""
    if run.texts("image") and run.texts("service"):
        raise UsageError("--image and --service both name images", remedy="Pass one of them.")


def buildables(run: Run, config: "ApplicationConfig | None") -> tuple[Buildable, ...]:
    """What to build: `--image NAME` with its flags, or the services of deploy.yaml. Raises UsageError, NotFound."""
    root = Path(run.required("source"))
    named = run.texts("image")
    for platform in run.texts("platform"):
        if not re.fullmatch(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?", platform):
            raise UsageError(f"--platform {platform!r} is not OS/ARCH", remedy="Write it as linux/arm64.")
    if named:
        if len(named) > 1:
            raise UsageError(
                "several images cannot be built from flags alone", remedy="Describe the services in deploy.yaml."
            )
        require_repository(named[0])
        dockerfile = run.text("dockerfile")
        return (
            Buildable(
                name=named[0],
                repository=in_registry(named[0], registry(run, config)),
                context=root / run.required("context"),
                dockerfile=Path(dockerfile) if dockerfile else None,
                platforms=run.texts("platform"),
                service=None,
            ),
        )
    services = config.services if config else {}
    if not services:
        raise UsageError(
            f"nothing to build: no --image, and {root / 'deploy.yaml'} names no service",
            remedy="Pass --image NAME, or write deploy.yaml; docs/reference/configuration.md lists its keys.",
        )
    wanted = run.texts("service", services)
    for name in wanted:
        if name not in services:
            raise NotFound(f"deploy.yaml has no service {name!r}; it has {', '.join(services)}")
    chosen = {name: services[name] for name in wanted}
    return tuple(
        Buildable(
            name=service.image,
            repository=in_registry(service.image, registry(run, config)),
            context=root / service.context,
            dockerfile=Path(service.dockerfile) if service.dockerfile else None,
            platforms=run.texts("platform", service.platforms),
            service=name,
            paths=() if run.texts("service") else service.paths,
        )
        for name, service in chosen.items()
    )


def image_names(run: Run, config: "ApplicationConfig | None") -> tuple[str, ...]:
    """The images that --image and --service name, without a tag. Raises UsageError, NotFound."""
    services = config.services if config else {}
    for name in run.texts("service"):
        if name not in services:
            raise NotFound(f"deploy.yaml has no service {name!r}; it has {', '.join(services) or 'none'}")
    if tagged := [name for name in run.texts("image") if "=" in name]:
        raise UsageError(
            f"--image {tagged[0]}: {run.report.command} takes names alone",
            remedy="Leave out =TAG; `rollback` takes a version with --to.",
        )
    return (*run.texts("image"), *(services[name].image for name in run.texts("service")))


def wanted_images(run: Run) -> tuple[Wanted, ...]:
    """`--image NAME=TAG`, parsed; each NAME once. Raises UsageError."""
    images = tuple(parse_wanted(argument) for argument in run.texts("image"))
    names = [image.name for image in images]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"--image names {', '.join(sorted(twice))} twice", remedy="Name each image once.")
    return images


def place(
    run: Run,
    config: "ApplicationConfig | None" = None,
    earlier: Deployment | None = None,
    *,
    read_only: bool = False,
) -> Place:
    """Open and read the GitOps repository. One read asks for its configuration and the usual overlay together."""
    from pipeline.edges import gitops_repository
    from pipeline.steps.publish_change import read_patiently

    known = earlier.gitops if earlier else None
    name = run.required("env", earlier.environment if earlier else None)
    repository = gitops_repository.open_repository(
        run.text("gitops", config.gitops.url if config else None, known.repository if known else None) or ".",
        run.text("branch", config.gitops.branch if config else None, known.branch if known else None),
        token=run.secret("gitops-token", "github-token"),
        author=run.text("author"),
        committer=run.text("committer"),
        push=not run.switch("no-push"),
        commit=not run.switch("no-commit"),
        dry_run=run.switch("dry-run"),
        read_only=read_only,
        access=github_access(run),
    )
    head = read_patiently(repository, _usual_paths(run, name))
    data = head.files.get(head.paths.get(CONFIG_FILE, ""))
    gitops_config = None
    if data is not None:
        from pipeline.config import GitopsConfig, load

        gitops_config = load(GitopsConfig, data, f"{repository.name}: {CONFIG_FILE}")
        if name not in gitops_config.environments and gitops_config.environments and run.values.get("env"):
            there = ", ".join(gitops_config.environments)
            raise NotFound(f"{repository.name} has no environment {name!r}; {CONFIG_FILE} has {there}")
    return Place(repository=repository, head=head, name=name, config=gitops_config)


def github_access(run: Run) -> "Access":
    """How GitHub's API may be used."""
    from pipeline.edges.github import Access

    return Access(run.text("github-api-url"), run.number("deadline") or 0.0, run.progress.say, _app(run))


def _app(run: Run) -> "App | None":
    """The GitHub App of the environment; a token goes before it. Raises UsageError for half of one."""
    from pipeline.edges.github import App

    number, key = run.secret("github-app-id"), run.secret("github-app-private-key")
    if number and key:
        return App(number, key)
    if number or key:
        missing = "GITHUB_APP_PRIVATE_KEY" if number else "GITHUB_APP_ID"
        raise UsageError(f"{missing} is not set", remedy="A GitHub App needs GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY.")
    return None


def reread(run: Run, where: Place) -> Place:
    """The same place as it is now."""
    return replace(where, head=where.repository.read(_usual_paths(run, where.name)))


def everywhere(run: Run, where: Place) -> tuple[Place, ...]:
    """Every environment of the GitOps repository, as one read finds them now. Raises NotFound where none is named."""
    from pipeline.steps.publish_change import read_patiently

    named = where.config.environments if where.config else {}
    if not named:
        raise NotFound(
            f"{where.repository.name} names no environments",
            remedy=f"Name them in {CONFIG_FILE}; docs/reference/configuration.md lists its keys.",
        )
    places = [replace(where, name=name) for name in named]
    paths = (path for place in places for overlay in overlays(run, place) for path in _paths(overlay))
    head = read_patiently(where.repository, tuple(dict.fromkeys((CONFIG_FILE, *paths))))
    return tuple(replace(place, head=head) for place in places)


def github_repository(run: Run) -> "Slug":
    """The application's repository on GitHub: GITHUB_REPOSITORY, else the remote of --source. Raises UsageError."""
    from pipeline.edges import github, source_repository

    api_url, name = run.text("github-api-url"), run.environ.get("GITHUB_REPOSITORY")
    if name:
        found = github.slug(f"https://github.com/{name}", None)
        found = replace(found, api_url=api_url.rstrip("/")) if found and api_url else found
    else:
        found = github.slug(source_repository.checkout(Path(run.required("source"))).url, api_url)
    if found is None:
        raise UsageError(
            "it is not known which repository on GitHub is the application's",
            remedy="Set GITHUB_REPOSITORY to OWNER/NAME, or run in a clone of it.",
        )
    return found


def _usual_paths(run: Run, environment: str) -> tuple[str, ...]:
    usual = run.texts("overlay") or (f"overlays/{environment}",)
    return (CONFIG_FILE, *(path for overlay in usual for path in _paths(overlay)))


def _paths(overlay: str) -> tuple[str, ...]:
    from pipeline.core.kustomization import KUSTOMIZATION_NAMES

    return (overlay, *(f"{overlay}/{name}" for name in KUSTOMIZATION_NAMES))


def overlays(run: Run, where: Place) -> tuple[str, ...]:
    """The folders to edit: flags, else the configuration, else overlays/ENV."""
    named = where.environment.overlay if where.environment else None
    return run.texts("overlay", (named or f"overlays/{where.name}",))


def source_url(run: Run) -> str | None:
    """Where the application's repository comes from; None where that is not known."""
    from pipeline.edges import source_repository

    return source_repository.url_of(run.required("source"))


def identity(run: Run, where: Place | str, earlier: Deployment | None = None) -> None:
    """Enter who deploys what where, with an id that a rerun of the same CI job keeps."""
    environment = where if isinstance(where, str) else where.name
    config = None if isinstance(where, str) else where.environment
    if config and config.url:
        run.report.update(urls={**(run.report.deployment.urls or {}), "environment": config.url})
    environ = run.environ
    job = environ.get("GITHUB_RUN_ID")
    new = f"{job}-{environment}" if job else uuid.uuid4().hex[:12]
    run.report.update(
        environment=environment,
        deployment_id=(earlier.deployment_id if earlier else None) or new,
        actor=(earlier.actor if earlier else None)
        or environ.get("GITHUB_ACTOR")
        or environ.get("GITLAB_USER_LOGIN")
        or _user(),
        run=(earlier.run if earlier else None) or run_url(environ),
    )


def run_url(environ: Mapping[str, str]) -> str | None:
    """The page of the CI job that runs us; None outside of one."""
    if "GITHUB_RUN_ID" in environ and "GITHUB_REPOSITORY" in environ:
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        return f"{server}/{environ['GITHUB_REPOSITORY']}/actions/runs/{environ['GITHUB_RUN_ID']}"
    return environ.get("CI_JOB_URL") or environ.get("BUILD_URL")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        return "unknown"
