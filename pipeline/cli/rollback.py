"""`rollback`: a forward commit to an earlier version, then proof of health."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.cli import settings, stages
from pipeline.cli.flags import Run
from pipeline.cli.settings import Place
from pipeline.core.deployment import Rollback
from pipeline.core.history import Step, last_deployed, version_before
from pipeline.core.image import Wanted, require_tag
from pipeline.errors import NotFound, PipelineError, RolloutFailed, RolloutTimedOut, SyncFailed, UsageError

if TYPE_CHECKING:
    from pipeline.config import ApplicationConfig
    from pipeline.steps.publish_change import PublishedChange

_DEPTH = 200


def rollback(run: Run) -> None:
    """Undo the last deployment of the named services: a forward commit to the version before, then the wait."""
    config = settings.application(run)
    where = settings.place(run, config)
    settings.identity(run, where.name)
    run.report.update(kind="rollback")
    settled = None if run.switch("dry-run") else stages.awaiting(run, where)
    wanted = tuple(_earlier_versions(run, where, _names(run, config)))
    if not wanted:
        raise NotFound("history shows no deployment to undo", remedy="Say what and where to: --image NAME --to TAG.")
    images = stages.find_images(run, where, wanted, settings.registry(run, config))
    change = stages.publish(run, where, images, "rollback")
    stages.enter_change(run, change)
    if settled:
        stages.enter_rollout(run, stages.wait(run, settled, where, change.gitops.revision, change.images))
        stages.notify(run, where)


def undo(run: Run, settled: stages.Awaiting, where: Place, change: "PublishedChange", registry: str) -> None:
    """Undo a deployment that failed, if it still is what the GitOps repository says.

    What goes wrong here is reported beside the failure that set it off, and never hides it.
    """
    try:
        result = _undo(run, settled, where, change, registry)
    except PipelineError as error:
        run.report.fail(error)
        result = Rollback(outcome=error.outcome)
    run.report.update(rollback=result)


def would_help(error: PipelineError) -> bool:
    """Whether the version before could do better: not where the rollout is unknown, or waits for a person."""
    return isinstance(error, SyncFailed | RolloutFailed | RolloutTimedOut)


def _undo(run: Run, settled: stages.Awaiting, where: Place, change: "PublishedChange", registry: str) -> Rollback:
    from pipeline.steps.wait_rollout import error_of

    failed = {image.name: image.tag for image in change.images if image.previous}
    wanted = tuple(Wanted(image.name, image.previous) for image in change.images if image.previous)
    if not wanted:
        raise NotFound(
            "cannot roll back: this was the first deployment", remedy="Deploy a commit that works; nothing ran before."
        )
    now = settings.reread(run, where)
    present = stages.entries(run, now)
    if moved := [name for name, tag in failed.items() if name in present and present[name].tag != tag]:
        run.progress.say(f"Not rolled back: {', '.join(moved)} was deployed anew since")
        return Rollback(outcome="superseded")
    run.progress.say("Rolling back to " + ", ".join(f"{image.name} {image.tag[:7]}" for image in wanted))
    images = stages.find_images(run, now, wanted, registry)
    undone = stages.publish(run, now, images, "rollback")
    rollout = stages.wait(run, settled, now, undone.gitops.revision, undone.images)
    error = error_of(rollout)
    if error:
        run.report.fail(error)
    return Rollback(
        outcome=error.outcome if error else "deployed", images=undone.images, gitops=undone.gitops, rollout=rollout
    )


def _names(run: Run, config: "ApplicationConfig | None") -> tuple[str, ...]:
    """The images that --image and --service name; none means those of the last deployment."""
    services = config.services if config else {}
    for name in run.texts("service"):
        if name not in services:
            raise NotFound(f"deploy.yaml has no service {name!r}; it has {', '.join(services) or 'none'}")
    if tagged := [name for name in run.texts("image") if "=" in name]:
        raise UsageError(f"--image {tagged[0]}: rollback takes names alone", remedy="Give the version with --to TAG.")
    return (*run.texts("image"), *(services[name].image for name in run.texts("service")))


def _earlier_versions(run: Run, where: Place, names: tuple[str, ...]) -> Iterator[Wanted]:
    """For each image the version to go back to, from the history of the environment's kustomization."""
    target = run.required("to")
    for name in names or last_deployed(_steps(run, where)):
        tag = version_before(_steps(run, where), name) if target == "PREVIOUS" else target
        if tag is None:
            raise NotFound(
                f"{name}: the last {_DEPTH} changes of {where.name} show no earlier version",
                remedy="Name the version: --to TAG.",
            )
        require_tag(tag, name)
        yield Wanted(name, tag)


def _steps(run: Run, where: Place) -> Iterator[Step]:
    """What each commit did to the environment's tags, newest first; read from git only as far as it is asked for."""
    from pipeline.core.commit_message import parse
    from pipeline.steps.publish_change import kustomization_file

    head = stages.read_overlays(run, where)
    for overlay in settings.overlays(run, where):
        file = kustomization_file(head, overlay)
        for change in where.repository.history(file, _DEPTH):
            trailers = parse(change.message)
            kind = trailers.kind if trailers else None
            yield Step(change.revision, kind, _tags(change.before, file), _tags(change.after, file))


def _tags(data: bytes | None, file: str) -> dict[str, str | None]:
    """The tags that a kustomization named; none where a former commit had it damaged or not at all."""
    from pipeline.core.kustomization import read_entries

    try:
        return {entry.name: entry.tag for entry in read_entries(data or b"", file)}
    except PipelineError:
        return {}
