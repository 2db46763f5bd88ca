"""The five steps as the commands call them: connect what a step needs, call it, enter its result in the report."""

import re
import string
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from pipeline.cli import settings
from pipeline.cli.flags import Run
from pipeline.cli.settings import Buildable, Place
from pipeline.core.deployment import Gitops, Image, Kind, Rollout
from pipeline.core.image import Wanted, in_registry, is_commit, require_commit
from pipeline.core.links import commit_page
from pipeline.core.order import Rule
from pipeline.core.secret import Secret
from pipeline.errors import (
    ImageNotFound,
    NotArgoCD,
    PipelineError,
    Unreachable,
    UsageError,
)

if TYPE_CHECKING:
    from pipeline.core.kustomization import Entry
    from pipeline.edges.argocd import ArgoCD
    from pipeline.edges.github_deployments import Deployments
    from pipeline.edges.github_pull_requests import GitHubPullRequests
    from pipeline.edges.http import Front
    from pipeline.edges.registry_login import Logins
    from pipeline.edges.source_repository import SourceRepository
    from pipeline.steps.build_image import Engine
    from pipeline.steps.build_image import Inputs as Recipe
    from pipeline.steps.propose_change import Options
    from pipeline.steps.publish_change import Head, PublishedChange


def recipes(run: Run, items: Iterable[Buildable]) -> "tuple[Recipe, ...]":
    """How to build the images of the commit that is checked out."""
    from pipeline.edges import source_repository
    from pipeline.steps import build_image

    checkout = source_repository.checkout(Path(run.required("source")))
    return tuple(
        build_image.Inputs(
            name=item.name,
            repository=item.repository,
            context=item.context,
            dockerfile=item.dockerfile,
            platforms=item.platforms,
            checkout=checkout,
            service=item.service,
        )
        for item in items
    )


def planned(recipes: "Iterable[Recipe]") -> tuple[Image, ...]:
    """The images that a build would give."""
    from pipeline.steps import build_image

    return tuple(build_image.planned(inputs) for inputs in recipes)


def build(run: Run, recipes: "Iterable[Recipe]", registry: str) -> tuple[Image, ...]:
    """Build and push what the registry lacks. With --dry-run only look; the digest is then still unknown."""
    from pipeline.edges.registry import OciRegistry
    from pipeline.steps import build_image

    logins = _logins(run, registry)
    images: tuple[Image, ...] = ()
    with run.report.stage("build"):
        for inputs in recipes:
            if run.switch("dry-run"):
                found = build_image.find_image(OciRegistry(logins), inputs)
                image = found.image if found else build_image.planned(inputs)
            else:
                built = build_image.build_image(_engine(run, logins), OciRegistry(logins), inputs, run.progress)
                image = built.image
            images += (image,)
            run.report.update(images=images)
    return images


def concerned(run: Run, where: Place, items: Iterable[Buildable]) -> tuple[Buildable, ...]:
    """Those of the services whose paths differ from the version that runs, or that name no paths.

    The present commit itself is never passed over: deploying it again tells how its rollout stands.
    """
    from pipeline.edges import source_repository

    known = entries(run, where)
    root = Path(run.required("source"))
    commit = source_repository.checkout(root).commit
    left = []
    for item in items:
        tag = known[item.name].tag if item.name in known else None
        judged = item.paths and tag and is_commit(tag) and tag != commit
        if tag and judged and not source_repository.differs(root, tag, item.paths):
            run.progress.say(f"{item.service} is unchanged: {', '.join(item.paths)} as in {tag[:7]}, which runs")
        else:
            left.append(item)
    return tuple(left)


def as_read(where: Place) -> Gitops:
    """The GitOps repository, in which nothing is changed."""
    return Gitops(repository=where.repository.name, branch=where.repository.branch, revision=where.head.revision)


def entries(run: Run, where: Place) -> "Mapping[str, Entry]":
    """The images entries of the environment, by name."""
    from pipeline.steps import publish_change

    return publish_change.entries(read_overlays(run, where), settings.overlays(run, where))


def read_overlays(run: Run, where: Place) -> "Head":
    """The head with the environment's kustomizations; read again only where they are not where they usually are."""
    from pipeline.steps import publish_change

    return publish_change.read_overlays(where.repository, where.head, settings.overlays(run, where))


def name_images(known: "Mapping[str, Entry]", wanted: Iterable[Wanted], registry: str) -> tuple[Image, ...]:
    """What `--image NAME=TAG` means: the repository that the kustomization names, else NAME in `registry`."""
    images = []
    for item in wanted:
        entry = known.get(item.name)
        repository = (entry.new_name or entry.name) if entry else in_registry(item.name, registry)
        images.append(Image(name=item.name, repository=repository, tag=item.tag, digest=item.digest))
    return tuple(images)


def find_images(run: Run, where: Place, wanted: Iterable[Wanted], registry: str) -> tuple[Image, ...]:
    """What `--image NAME=TAG` means, with the digest that the registry has.

    Raises ImageNotFound unless --no-check-image, and RegistryDenied or Unreachable.
    """
    return check_images(run, name_images(entries(run, where), wanted, registry), registry)


def check_images(run: Run, images: tuple[Image, ...], registry: str) -> tuple[Image, ...]:
    """The images with the digests that the registry has. Raises as `find_images`."""
    if run.switch("no-check-image"):
        return images
    there = {image.name: image for image in built(run, images, registry)}
    for image in images:
        if image.name not in there:
            raise ImageNotFound(f"{image.reference} is not in the registry")
        digest = there[image.name].digest
        if image.digest and image.digest != digest:
            raise ImageNotFound(f"{image.reference} is {digest} in the registry, not {image.digest}")
    return tuple(there.values())


def built(run: Run, images: Iterable[Image], registry: str) -> Iterator[Image]:
    """Those of the images that the registry has, with its digests. Raises RegistryDenied or Unreachable."""
    from pipeline.edges.registry import OciRegistry

    look_up = OciRegistry(_logins(run, registry)).look_up
    found = ((image, look_up(image.repository, image.tag)) for image in images)
    return (replace(image, digest=there.digest) for image, there in found if there)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """How to publish: settled before an image is built or looked for."""

    order: Rule
    deadline_seconds: float
    timeout_seconds: float
    proposing: "Options | None" = None
    """How the pull request is to be; None where a commit is to go to the branch itself."""
    wait_merge: bool = False

    @property
    def arrives(self) -> bool:
        """Whether the change will be on the branch when publishing has ended."""
        return self.proposing is None or self.wait_merge


def publishing(run: Run, where: Place) -> Publishing:
    """Read the settings of publishing, so that a wrong one is an error before anything is done."""
    environment = where.environment
    proposing = None
    if run.choice("mode", ("commit", "pr"), environment.mode if environment else None) == "pr":
        from pipeline.steps.propose_change import Options

        _pull_requests(where)
        proposing = Options(
            reviewers=run.texts("reviewer"),
            labels=run.texts("label"),
            draft=run.switch("draft"),
            merge=run.switch("merge"),
        )
        if proposing.draft and proposing.merge:
            raise UsageError("--draft and --merge: a draft cannot be merged", remedy="Pass one of them.")
    order = run.choice("order", get_args(Rule), environment.order if environment else None) or "ancestry"
    return Publishing(
        order=cast("Rule", order),
        deadline_seconds=run.number("deadline") or 0.0,
        timeout_seconds=run.number("timeout", environment.timeout if environment else None) or 0.0,
        proposing=proposing,
        wait_merge=run.switch("wait-merge"),
    )


def _pull_requests(where: Place) -> "GitHubPullRequests":
    from pipeline.edges.github_repository import GitHubRepository

    if not isinstance(where.repository, GitHubRepository):
        raise UsageError(
            f"{where.repository.name}: pull requests need GitHub's API",
            remedy="Name a repository on GitHub by its https URL (an Enterprise Server needs --github-api-url), set "
            "GITOPS_TOKEN, install the extra `github`, and leave --author and --committer out; or use --mode commit.",
        )
    return where.repository.pull_requests()


def may_propose(where: Place) -> bool | None:
    """Whether a pull request may be opened; None where only opening one would tell. Raises GitDenied."""
    return _pull_requests(where).may_write()


def source_page(run: Run, token: Secret) -> "Deployments | None":
    """What GitHub shows of the application's repository; None where that is not on GitHub."""
    from pipeline.edges import github_deployments

    return github_deployments.connect(settings.source_url(run) or "", token, settings.github_access(run))


def may_push(run: Run, repository: str, registry: str) -> bool | None:
    """Whether the login may push to an image's repository; None where the registry does not say.

    Raises RegistryDenied or Unreachable where it cannot even be read.
    """
    from pipeline.edges.registry import OciRegistry

    client = OciRegistry(_logins(run, registry))
    client.look_up(repository, "0" * 40)
    return client.may_push(repository)


def order_known(run: Run) -> bool | None:
    """Whether the application's repository tells the order of commits; None where there is none that could."""
    source = _source(run)
    if source is None:
        return None
    try:
        return source.answers()
    finally:
        source.close()


def require_deployable(run: Run, where: Place, tags: Mapping[str, str | None]) -> None:
    """Raise TagIsMutable for a tag that is no commit, EntryNotFound for a name that no kustomization has.

    `tags` are by `images[].name`; None for what is yet to be built.
    """
    for name, tag in tags.items():
        if tag is not None:
            require_commit(tag, name)
    known = entries(run, where)
    missing = [name for name in tags if name not in known]
    if missing and not run.switch("create"):
        from pipeline.core.kustomization import entry_not_found

        raise entry_not_found(missing, ", ".join(settings.overlays(run, where)), known.values())


def publish(
    run: Run, where: Place, images: tuple[Image, ...], how: Publishing, kind: Kind = "deploy"
) -> "PublishedChange":
    """Edit and publish, as one commit or as a pull request."""
    from pipeline.steps import propose_change, publish_change

    so_far = run.report.deployment
    if how.proposing:
        images = _of_services(run, images)
    inputs = publish_change.Inputs(
        environment=where.name,
        kind=kind,
        overlays=settings.overlays(run, where),
        images=images,
        create=run.switch("create"),
        order=how.order,
        allow_diverged=run.switch("allow-diverged"),
        deployment_id=so_far.deployment_id or "",
        actor=so_far.actor,
        run=so_far.run,
        dry_run=run.switch("dry-run"),
        deadline_seconds=how.deadline_seconds,
    )
    with run.report.stage("publish"):
        if how.proposing is None:
            return publish_change.publish_change(where.repository, _source(run), inputs, run.progress, head=where.head)
        pulls = _pull_requests(where)
        change = propose_change.propose_change(
            where.repository, pulls, _source(run), inputs, how.proposing, run.progress, head=where.head
        )
    if change.outcome == "published" and not (how.wait_merge or change.gitops.revision):
        run.progress.say("Next, once it is merged: `wait --from` with this result (--json) proves the rollout")
    return change


def _of_services(run: Run, images: tuple[Image, ...]) -> tuple[Image, ...]:
    """The images with the services that deploy.yaml has for them: these name the branch, whatever named the images."""
    config = settings.application(run)
    services = {service.image: name for name, service in config.services.items()} if config else {}
    return tuple(replace(image, service=image.service or services.get(image.name)) for image in images)


def enter_change(run: Run, change: "PublishedChange") -> None:
    """Enter what was published in the report."""
    run.report.diff = change.diff
    left_out = tuple(image for image in change.superseded if image not in change.images)
    run.report.update(outcome=change.outcome, images=change.images + left_out)
    enter_gitops(run, change.gitops)


def enter_gitops(run: Run, gitops: Gitops) -> None:
    """Enter what was published where, with its pages."""
    run.report.update(gitops=gitops)
    proposed = gitops.pull_request
    pages = {
        "commit": commit_page(gitops.repository, gitops.revision),
        "pull_request": proposed.url if proposed else None,
    }
    known = run.report.deployment.urls or {}
    if there := {name: page for name, page in pages.items() if page}:
        run.report.update(urls={**known, **there})


def after_merge(
    run: Run, where: Place, gitops: Gitops, images: tuple[Image, ...], timeout_seconds: float
) -> Gitops | None:
    """What was published, with the revision that its pull request became, when that is merged.

    None when a newer deployment has taken its place. Raises PullRequestClosed, MergeTimedOut.
    """
    proposed = gitops.pull_request
    if proposed is None or proposed.number is None or gitops.revision:
        return gitops
    from pipeline.steps.await_merge import await_merge
    from pipeline.steps.propose_change import entered

    with run.report.stage("merge"):
        merged = await_merge(_pull_requests(where), proposed, where.name, images, timeout_seconds, run.progress)
        run.progress.show("merge", "")
    if merged is None:
        return None
    return replace(gitops, revision=merged.merge_commit, pull_request=entered(merged))


def enter_merge(run: Run, where: Place, change: "PublishedChange", how: Publishing) -> "PublishedChange | None":
    """Wait until what was published is on the branch, where that is wished, and enter it; None as `after_merge`."""
    if change.outcome != "published" or not how.wait_merge:
        return change
    gitops = after_merge(run, where, change.gitops, change.images, how.timeout_seconds)
    if gitops is None:
        run.report.update(outcome="superseded")
        return None
    enter_gitops(run, gitops)
    return replace(change, gitops=gitops)


def enter_rollout(run: Run, rollout: Rollout) -> PipelineError | None:
    """Enter how a wait ended in the report; the error, if it ended badly."""
    from pipeline.steps.wait_rollout import error_of

    error = error_of(rollout)
    superseded = any(application.outcome == "superseded" for application in rollout.applications)
    unchanged = run.report.deployment.outcome == "unchanged"
    outcome = "superseded" if superseded else "unchanged" if unchanged else "deployed"
    run.report.update(rollout=rollout, outcome=outcome)
    if error:
        run.report.fail(error)
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaiting:
    """Whom to ask for proof, and how long: settled before anything is published."""

    argocd: "ArgoCD"
    applications: tuple[str, ...]
    timeout_seconds: float
    grace_seconds: float | None
    sync: bool


def awaiting(run: Run, where: Place | None, *, must_exist: bool = False) -> Awaiting:
    """Read every setting of the wait, so that a wrong one is an error before it can leave half a deployment.

    With `must_exist` Argo CD is asked for the applications too, and raises ApplicationNotFound, ArgoCDDenied or
    NotArgoCD; an Argo CD that does not answer now may do so when its turn comes.
    """
    from pipeline.edges import argocd

    environment = where.environment if where else None
    target = environment.argocd if environment else None
    names = run.texts("app", target.applications if target else ())
    if not names:
        raise UsageError(
            "no application to wait for",
            remedy="Pass --app, or name it in .deploy/config.yaml of the GitOps repository.",
        )
    server = run.required("argocd-server", target.server if target else None)
    token = run.secret("argocd-token")
    if token is None:
        raise UsageError("ARGOCD_AUTH_TOKEN is not set", remedy="Set it to an API token of an Argo CD account.")
    client = argocd.connect(
        server,
        token,
        _front(run),
        root_path=run.text("argocd-root-path") or "",
        project=run.text("argocd-project", target.project if target else None),
    )
    for name in names if must_exist else ():
        try:
            client.get(name)
        except NotArgoCD:
            raise
        except Unreachable:
            break
    return Awaiting(
        argocd=client,
        applications=names,
        timeout_seconds=run.number("timeout", environment.timeout if environment else None) or 0.0,
        grace_seconds=run.number("grace"),
        sync=run.switch("sync"),
    )


def wait(
    run: Run,
    settled: Awaiting,
    where: Place | None,
    revision: str | None,
    images: tuple[Image, ...],
    *,
    overtake: bool = False,
) -> Rollout:
    """Wait for the environment's applications; the outcome of each is in the result.

    `overtake`: the sync of an earlier commit that keeps failing is ended, as it is with --sync.
    """
    from pipeline.steps import wait_rollout

    names = settled.applications
    with run.report.stage("wait"):
        rollout = wait_rollout.wait_rollout(
            settled.argocd,
            where.repository if where else None,
            wait_rollout.Inputs(
                applications=names,
                revision=revision,
                images=images,
                timeout_seconds=settled.timeout_seconds,
                grace_seconds=settled.grace_seconds,
                sync=settled.sync,
                overtake=overtake or settled.sync,
            ),
            run.progress,
            time.monotonic,
        )
    urls = run.report.deployment.urls or {}
    pages = {f"argocd/{name}": f"{settled.argocd.url}/applications/{name}" for name in names}
    run.report.update(urls={**urls, **pages})
    return rollout


def _engine(run: Run, logins: "Logins") -> "Engine":
    if run.choice("engine", ("docker", "sources")) == "sources":
        from pipeline.edges.registry import OciRegistry
        from pipeline.sandbox.source_image import SourceImages

        return SourceImages(OciRegistry(logins))
    from pipeline.edges import engine

    return engine.connect(logins)


def _logins(run: Run, registry: str) -> "Logins":
    """REGISTRY_USERNAME and REGISTRY_PASSWORD belong to `registry`, and go nowhere else."""
    from pipeline.edges import registry_login

    username = run.secret("registry-username")
    return registry_login.for_registry(
        registry, username.reveal() if username else None, run.secret("registry-password"), run.environ
    )


def _source(run: Run) -> "SourceRepository | None":
    """The application's repository, which knows the order of commits; None where there is none to ask."""
    from pipeline.edges import source_repository

    return source_repository.open_source(
        run.required("source"), token=run.secret("github-token"), access=settings.github_access(run)
    )


def _front(run: Run) -> "Front":
    from pipeline.edges.http import Front

    headers = {}
    for line in run.texts("argocd-header"):
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip()):
            shown = name.split()[0] if name.split() else ""  # the rest may be a secret
            raise UsageError(f"--argocd-header {shown!r}… is not 'NAME: VALUE'")
        named = re.findall(r"\$\{?([A-Za-z_]\w*)", value)
        if unset := [variable for variable in named if variable not in run.environ]:
            raise UsageError(f"--argocd-header {name.strip()}: the variable {unset[0]} is not set")
        filled = string.Template(value.strip()).safe_substitute(run.environ)
        if not re.fullmatch(r"[\t\x20-\x7e]*", filled):
            raise UsageError(f"--argocd-header {name.strip()}: its value holds characters that no header has")
        headers[name.strip()] = filled
    paths = (run.text(name) for name in ("argocd-ca", "argocd-client-cert", "argocd-client-key"))
    ca, certificate, key = (Path(path) if path else None for path in paths)
    return Front(
        ca_bundle=ca, client_certificate=certificate, client_key=key, proxy=run.text("argocd-proxy"), headers=headers
    )
