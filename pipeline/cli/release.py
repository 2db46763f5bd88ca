"""`release`: tag what runs, and publish a release with notes of what came since the one before."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from pipeline.cli import settings, stages
from pipeline.cli.flags import Run
from pipeline.core.deployment import Release
from pipeline.core.image import Wanted, is_commit
from pipeline.core.semver import Version
from pipeline.core.wording import left_out, short
from pipeline.errors import NotFound, NotRunning, UsageError

_PROOF_SECONDS = 60.0
"""What runs already is proved at once; a rollout under way may end meanwhile."""


def release(run: Run) -> None:
    """Tag the commit that runs healthy, and make a GitHub release with notes from the commits since the last one."""
    version, given = run.text("version"), run.text("commit")
    if version is not None and Version.parse(version) is None:
        raise UsageError(f"--version {version!r} is no version", remedy="Write it as 1.2.3, or 1.2.3-rc.1.")
    if given is not None and not is_commit(given):
        raise UsageError(f"--commit {given!r} is not a full commit hash", remedy="Give all 40 hexadecimal digits.")
    if run.switch("allow-not-running") and given is None:
        raise UsageError("--allow-not-running needs --commit", remedy="Name the commit to be released.")
    token = run.secret("github-token")
    if token is None:
        raise UsageError(
            "GITHUB_TOKEN is not set",
            remedy="Set it to a token with `contents: write` on the application's repository.",
        )
    source = settings.source_url(run)
    if source is None:
        raise UsageError(
            f"--source {run.required('source')}: where this repository comes from is not known",
            remedy="Run in a clone of the application's repository, or name it with --source URL.",
        )
    from pipeline.edges import git_tag, github_releases
    from pipeline.steps import make_release

    with contextlib.closing(github_releases.connect(source, token, settings.github_access(run))) as host:
        commit = given if given and run.switch("allow-not-running") else _running(run, given)
        sign = run.given_switch("sign")
        signed = git_tag.signs(run.required("source")) if sign is None else sign
        tagger: make_release.Tagger = host.annotate
        if signed:
            tagger = git_tag.SignedTags(run.required("source"), source, token)
        inputs = make_release.Inputs(
            commit=commit,
            version=version,
            draft=run.switch("draft"),
            prerelease=run.switch("prerelease"),
            dry_run=run.switch("dry-run"),
        )
        made = make_release.make_release(host, tagger, inputs, run.progress)
    urls = {**(run.report.deployment.urls or {}), **({"release": made.release.url} if made.release.url else {})}
    run.report.update(outcome=made.outcome, release=made.release, urls=urls)
    run.report.content = _told(made.outcome, made.release).encode()


def _told(outcome: str, release: Release) -> str:
    at = f"{release.tag} of {release.repository} at {release.commit[:7]}"
    if outcome == "planned":
        return f"Would release {at}\n\n{release.notes}"
    there = f"{'Released' if outcome == 'published' else 'Released already:'} {at}"
    return f"{there}{' (draft)' if release.draft else ''}\n{release.url}\n"


def _running(run: Run, given: str | None) -> str:
    """The commit that runs: that of --from, else what the overlay names and Argo CD proves. Raises NotRunning."""
    versions = _deployed(run) if run.texts("from") else _proved(run)
    commits = {tag for tag in versions.values() if tag}
    if len(commits) > 1:
        told = ", ".join(f"{name} {short(tag)}" for name, tag in versions.items())
        raise NotRunning(
            f"not one commit runs: {told}",
            remedy="A tag is of the whole repository: name the service whose commit to release with --service.",
        )
    (commit,) = commits
    if not is_commit(commit):
        raise NotRunning(f"what runs is {commit!r}, which is no commit", remedy="Deploy a full commit hash first.")
    if given not in {None, commit}:
        raise NotRunning(f"{short(commit)} runs, not {short(given)}")
    return commit


def _deployed(run: Run) -> Mapping[str, str]:
    from pipeline.cli.earlier import load

    earlier = load(run.texts("from"))
    if earlier.outcome not in {"deployed", "unchanged"} or earlier.rollout is None:
        raise NotRunning(f"--from: the earlier result is {earlier.outcome!r}, so nothing is proved to run")
    run.report.update(environment=earlier.environment, deployment_id=earlier.deployment_id, run=earlier.run)
    services = run.texts("service")
    images = [image for image in earlier.images if not left_out(earlier, image)]
    chosen = [image for image in images if not services or image.service in services]
    if not chosen:
        raise NotFound(f"--from: it has no image of {', '.join(services) or 'any service'}")
    return {image.service or image.name: image.tag for image in chosen}


def _proved(run: Run) -> Mapping[str, str]:
    config = settings.application(run)
    services = config.services if config else {}
    for name in run.texts("service"):
        if name not in services:
            raise NotFound(f"deploy.yaml has no service {name!r}; it has {', '.join(services) or 'none'}")
    named = {name: services[name].image for name in run.texts("service", services)}
    if not named:
        raise UsageError(
            "which images are this repository's is not known: deploy.yaml names no service",
            remedy="Write deploy.yaml, pass --from with the deployment's result, or --commit with --allow-not-running.",
        )
    where = settings.place(run, config, read_only=True)
    run.report.update(environment=where.name)
    known = stages.entries(run, where)
    versions = {name: known[image].tag for name, image in named.items() if image in known}
    found = {name: tag for name, tag in versions.items() if tag}
    if not found:
        raise NotRunning(f"{where.name} has no version of {', '.join(named)} yet")
    wanted = [Wanted(named[name], tag) for name, tag in found.items()]
    _prove(run, where, wanted, settings.registry(run, config))
    return found


def _prove(run: Run, where: settings.Place, wanted: list[Wanted], registry: str) -> None:
    from pipeline.steps.wait_rollout import error_of

    images = stages.name_images(stages.entries(run, where), wanted, registry)
    awaiting = replace(stages.awaiting(run, where), timeout_seconds=_PROOF_SECONDS)
    rollout = stages.wait(run, awaiting, where, None, images)
    run.report.update(rollout=rollout)
    if error := error_of(rollout):
        raise NotRunning(f"{', '.join(image.name for image in images)}: not proved to run: {error}") from None
