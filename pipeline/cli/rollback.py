"""`rollback`: a forward commit to an earlier version, then proof of health."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.cli import notices, settings, stages
from pipeline.cli.flags import Run
from pipeline.cli.settings import Place
from pipeline.core.deployment import Rollback
from pipeline.core.history import Step, last_deployed, version_before
from pipeline.core.image import Wanted, is_commit, require_tag
from pipeline.core.wording import short
from pipeline.errors import (
    NotFound,
    PipelineError,
    Refused,
    RolloutFailed,
    RolloutTimedOut,
    SyncFailed,
    TagIsMutable,
)

if TYPE_CHECKING:
    from pipeline.steps.publish_change import PublishedChange


def rollback(run: Run) -> None:
    """Undo the last deployment of the named services: a forward commit to the version before, then the wait."""
    config = settings.application(run)
    where = settings.place(run, config)
    settings.identity(run, where)
    run.report.update(kind="rollback")
    publishing = stages.publishing(run, where)
    waits = publishing.arrives and not run.switch("dry-run")
    awaiting = stages.awaiting(run, where, must_exist=True) if waits else None
    wanted = tuple(_earlier_versions(run, where, settings.image_names(run, config), settings.images_of(config)))
    if not wanted:
        raise NotFound("history shows no deployment to undo", remedy="Say what and where to: --image NAME --to TAG.")
    images = stages.find_images(run, where, wanted, settings.registry(run, config))
    published = stages.publish(run, where, images, publishing, "rollback")
    stages.enter_change(run, published)
    change = stages.enter_merge(run, where, published, publishing)
    if awaiting and change:
        rollout = stages.wait(run, awaiting, where, change.gitops.revision, change.images, overtake=True)
        stages.enter_rollout(run, rollout)
    if not run.switch("dry-run"):
        notices.notify(run, where)
        notices.record(run, where)


def undo(
    run: Run,
    publishing: stages.Publishing,
    awaiting: stages.Awaiting,
    where: Place,
    change: "PublishedChange",
    registry: str,
) -> None:
    """Undo a deployment that failed, if it still is what the GitOps repository says.

    What goes wrong here is reported beside the failure that set it off, and never hides it.
    """
    try:
        result = _undo(run, publishing, awaiting, where, change, registry)
    except PipelineError as error:
        run.report.fail(error)
        result = Rollback(outcome=error.outcome)
    if result.outcome == "deployed":
        run.report.advise("The former version runs again. Read the cause and the log lines, then deploy what mends it.")
    run.report.update(rollback=result)


def would_help(error: PipelineError) -> bool:
    """Whether the version before could do better: not where the rollout is unknown, or waits for a person."""
    return isinstance(error, SyncFailed | RolloutFailed | RolloutTimedOut)


def _undo(
    run: Run,
    publishing: stages.Publishing,
    awaiting: stages.Awaiting,
    where: Place,
    change: "PublishedChange",
    registry: str,
) -> Rollback:
    from pipeline.steps.wait_rollout import error_of

    failed = {image.name: image.tag for image in change.images if image.previous}
    before: dict[str, dict[str, str | None]] = {name: {} for name in failed}
    for line in change.gitops.changed:
        if line.name in failed and line.new == failed[line.name]:
            before[line.name][line.file] = line.old
    wanted = tuple(Wanted(name, tag) for name, tags in before.items() if (tag := _agreed(name, tags)))
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
    undone = stages.publish(run, now, images, publishing, "rollback")
    gitops = stages.after_merge(run, now, undone.gitops, undone.images, publishing.timeout_seconds)
    if gitops is None:
        return Rollback(outcome="superseded")
    rollout = stages.wait(run, awaiting, now, gitops.revision, undone.images, overtake=True)
    error = error_of(rollout)
    if error:
        run.report.fail(error)
    return Rollback(
        outcome=error.outcome if error else "deployed", images=undone.images, gitops=gitops, rollout=rollout
    )


def _earlier_versions(run: Run, where: Place, names: tuple[str, ...], ours: tuple[str, ...]) -> Iterator[Wanted]:
    """For each image the version to go back to, from the history of the environment's kustomizations."""
    from pipeline.steps.publish_change import kustomization_file
    from pipeline.steps.read_history import DEPTH, tags

    target = run.required("to")
    head = stages.read_overlays(run, where)
    files = tuple(dict.fromkeys(kustomization_file(head, overlay) for overlay in settings.overlays(run, where)))
    present = tags({file: head.files[file] for file in files})
    steps, walk = itertools.tee(_steps(where, files))  # what one walk has read, the next does not ask git for again
    chosen = names or last_deployed(walk, ours)
    stages.require_deployable(run, where, dict.fromkeys(chosen))
    for name in chosen:
        if target.upper() != "PREVIOUS":
            steps, walk = itertools.tee(steps)
            _require_former(name, target, DEPTH, walk)
            yield Wanted(name, target)
            continue
        before: dict[str, str | None] = {}
        for file, _ in (written for written in present if written[1] == name):
            steps, walk = itertools.tee(steps)
            before[file] = version_before(walk, (file, name))
        for file, earlier in tuple(before.items()):
            if earlier is None and present[file, name] in before.values():
                del before[file]  # it never left the version that the others go back to
        tag = _agreed(name, before)
        if tag is None:
            raise NotFound(
                f"{name}: the last {DEPTH} changes of {where.name} show no earlier version",
                remedy="Name the version: --to TAG.",
            )
        yield Wanted(name, tag)


def _require_former(name: str, tag: str, depth: int, steps: Iterable[Step]) -> None:
    """Raise TagIsMutable for a tag that is no commit, unless it stood there before."""
    require_tag(tag, name)
    if is_commit(tag):
        return
    stood = (former for step in steps for (_, image), former in step.before.items() if image == name)
    if tag not in stood:
        raise TagIsMutable(f"{name}: {tag!r} is not a full commit hash, and never stood there in {depth} changes")


def _agreed(name: str, before: Mapping[str, str | None]) -> str | None:
    """The one version that `name` had before in each file; None where there was none. Raises Refused for several."""
    if len(set(before.values())) > 1:
        told = ", ".join(f"{short(tag)} in {file}" for file, tag in before.items())
        raise Refused(
            f"{name}: the version before is not the same everywhere: {told}",
            remedy="Roll back one after the other with `rollback --overlay PATH`, or name the version: --to TAG.",
        )
    return next(iter(before.values()), None)


def _steps(where: Place, files: Sequence[str]) -> Iterator[Step]:
    """What each commit did to the environment's tags, newest first; read from git only as far as it is asked for."""
    from pipeline.steps.read_history import DEPTH, step_of

    return map(step_of, where.repository.history(files, DEPTH))
