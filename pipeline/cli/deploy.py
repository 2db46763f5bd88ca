"""`deploy` and its parts: `build`, `bump`, `wait`, `notify`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pipeline.cli import notices, rollback, settings, stages
from pipeline.cli.flags import Run
from pipeline.cli.settings import Buildable, Place
from pipeline.core.deployment import Deployment, Image
from pipeline.core.image import Wanted, is_commit
from pipeline.core.wording import left_out
from pipeline.errors import KustomizationUnusable, NotFound, PipelineError, Signalled, UsageError

if TYPE_CHECKING:
    from pipeline.core.kustomization import Entry


def deploy(run: Run) -> None:
    """Bring the checked-out commit to a healthy rollout: build, edit, publish, wait, tell."""
    run.choice("on-failure", ("none", "rollback"))
    config = settings.application(run)
    settings.require_one_way(run)
    prebuilt = any("=" in argument for argument in run.texts("image"))
    items = () if prebuilt else settings.buildables(run, config)
    wanted = settings.wanted_images(run) if prebuilt else ()
    registry = settings.registry(run, config)
    where = settings.place(run, config)
    settings.identity(run, where)
    if items and not (items := stages.concerned(run, where, items)):
        run.report.update(outcome="unchanged", gitops=stages.as_read(where))
        return
    tags: dict[str, str | None] = {item.name: item.tag for item in wanted}

    def find(told: bool) -> tuple[Image, ...]:
        return _images(run, where, items, wanted, registry, told=told)

    carry_out(run, where, tags | {item.name: None for item in items}, find, registry)


def carry_out(
    run: Run, where: Place, tags: Mapping[str, str | None], find: Callable[[bool], tuple[Image, ...]], registry: str
) -> None:
    """Deploy the images that `find` builds or finds, told whether it is more than a plan.

    `tags` are known before, and None for what is yet to be built. What goes wrong from then on is in the report; what
    is wrong before is raised.
    """
    run.report.update(kind="deploy")
    publishing = stages.publishing(run, where)
    stages.require_deployable(run, where, tags)
    waits = publishing.arrives and not run.switch("dry-run")
    awaiting = stages.awaiting(run, where, must_exist=True) if waits else None
    try:
        _bring(run, where, find(awaiting is not None), publishing, awaiting, registry)
    except PipelineError as error:
        run.report.fail(error)
    except Signalled as interrupt:  # told as well: a message that says "under way" would say so for ever
        run.report.interrupted(128 + interrupt.args[0])
    if not run.switch("dry-run"):
        notices.notify(run, where)
        notices.record(run, where)


def _images(
    run: Run, where: Place, items: tuple[Buildable, ...], wanted: tuple[Wanted, ...], registry: str, *, told: bool
) -> tuple[Image, ...]:
    """Build, or find what is there; GitHub is told before, since that may take minutes."""
    recipes = stages.recipes(run, items) if items else ()
    if told:
        notices.tell_github(run, "queued", stages.planned(recipes) or stages.name_images({}, wanted, registry))
    return stages.build(run, recipes, registry) if items else stages.find_images(run, where, wanted, registry)


def _bring(
    run: Run,
    where: Place,
    images: tuple[Image, ...],
    publishing: stages.Publishing,
    awaiting: stages.Awaiting | None,
    registry: str,
) -> None:
    """Publish, wait; and undo it where that is wished.

    `awaiting` is None where that is all: a dry run ends with the plan, a pull request that others merge with its URL.
    """
    published = stages.publish(run, where, images, publishing)
    stages.enter_change(run, published)
    if awaiting is None or published.outcome == "superseded":
        return
    notices.notify(run, where, final=False)
    change = stages.enter_merge(run, where, published, publishing)
    if change is None:
        return
    rollout = stages.wait(run, awaiting, where, change.gitops.revision, change.images)
    error = stages.enter_rollout(run, rollout)
    if error and run.text("on-failure") == "rollback" and rollback.would_help(error):
        rollback.undo(run, publishing, awaiting, where, change, registry)


def build(run: Run) -> None:
    """Build the image of the checked-out commit and push it, unless the registry has it."""
    settings.require_one_way(run)
    config = settings.application(run)
    stages.build(run, stages.recipes(run, settings.buildables(run, config)), settings.registry(run, config))
    run.report.update(outcome="planned" if run.switch("dry-run") else "built")


def bump(run: Run) -> None:
    """Set image tags in the GitOps repository and publish the change as one commit."""
    earlier = earlier_results(run)
    if earlier.error or earlier.outcome == "planned":
        raise UsageError(f"--from: the earlier result is {earlier.outcome!r}, so there is no image to bump")
    config = settings.application(run)
    wanted = settings.wanted_images(run)
    if not wanted and not earlier.images:
        raise UsageError("no image to bump", remedy="Pass --image NAME=TAG, or --from with the result of `build`.")
    if wanted and earlier.images:
        raise UsageError("--image and --from both name images", remedy="Pass one of them.")
    where = settings.place(run, config, earlier)
    settings.identity(run, where, earlier)
    run.report.update(kind="deploy")
    registry = settings.registry(run, config)
    publishing = stages.publishing(run, where)
    tags = {item.name: item.tag for item in wanted} | {image.name: image.tag for image in earlier.images}
    stages.require_deployable(run, where, tags)
    if wanted:
        images = stages.find_images(run, where, wanted, registry)
    else:
        images = stages.check_images(run, earlier.images, registry)
    change = stages.publish(run, where, images, publishing)
    stages.enter_change(run, change)
    stages.enter_merge(run, where, change, publishing)


def wait(run: Run) -> None:
    """Wait until Argo CD proves that a revision, its images and health are there, or tells why not."""
    earlier = earlier_results(run)
    known = earlier.gitops
    proposed = known.pull_request if known else None
    if earlier.outcome == "planned" or (earlier.error and not (known and (known.revision or proposed))):
        raise UsageError(f"--from: the earlier result is {earlier.outcome!r}, so there is nothing to wait for")
    if earlier.outcome == "superseded" and not (run.text("revision") or run.texts("image")):
        run.progress.say("A newer change is deployed: there is nothing to wait for")
        run.report.update(outcome="superseded")
        notices.tell_github(run)
        return
    config = settings.application(run)
    # The GitOps repository tells which revision descends from which; without it, equal is all that can be seen.
    named = run.text("gitops", config.gitops.url if config else None, known.repository if known else None)
    where = settings.place(run, config, earlier, read_only=True) if named else None
    settings.identity(run, where or run.required("env", earlier.environment), earlier)
    images = _awaited(run, where, settings.registry(run, config)) or tuple(
        image for image in earlier.images if not left_out(earlier, image)
    )
    run.report.update(images=images)
    revision = run.text("revision", known.revision if known else None)
    if revision is not None and not is_commit(revision):
        raise UsageError(f"--revision {revision!r} is not a full commit hash", remedy="Give all 40 hexadecimal digits.")
    awaiting = stages.awaiting(run, where)
    if not run.texts("from"):  # without a deployment to continue there is nothing to tell GitHub of
        stages.enter_rollout(run, stages.wait(run, awaiting, where, revision, images))
        return
    notices.tell_github(run, "in_progress")
    try:
        if known and where and revision is None:
            known = stages.after_merge(run, where, known, images, awaiting.timeout_seconds)
            if known:
                stages.enter_gitops(run, known)
                revision = known.revision
            else:
                run.report.update(outcome="superseded")
        if run.report.deployment.outcome != "superseded":
            stages.enter_rollout(run, stages.wait(run, awaiting, where, revision, images))
    except PipelineError as error:
        run.report.fail(error)
    except Signalled as interrupt:
        run.report.interrupted(128 + interrupt.args[0])
    notices.tell_github(run)
    if where and earlier.deployment_id:
        notices.record(run, where)


def _awaited(run: Run, where: Place | None, registry: str) -> tuple[Image, ...]:
    """The images that --image names; a kustomization that cannot be read keeps nobody from waiting."""
    wanted = settings.wanted_images(run)
    known: Mapping[str, Entry] = {}
    try:
        known = stages.entries(run, where) if where and wanted else {}
    except (NotFound, KustomizationUnusable) as error:
        run.progress.say(f"Images are taken to be in {registry} unless their names say more: {error}")
    return stages.name_images(known, wanted, registry)


def notify(run: Run) -> None:
    """Tell Slack and the job summary how a deployment went; --from hands its results in."""
    if not run.texts("from"):
        raise UsageError("there is nothing to tell", remedy="Pass --from with the result of an earlier command.")
    earlier = earlier_results(run)
    run.report.update(outcome=earlier.outcome)
    if run.switch("dry-run"):
        run.progress.say(f"Would tell Slack: {earlier.outcome}")
        return
    notices.notify(run)
    if run.secret("slack-token", "slack-webhook") is None:
        run.progress.say("Slack was not told: neither SLACK_BOT_TOKEN nor SLACK_WEBHOOK_URL is set")


def earlier_results(run: Run) -> Deployment:
    """The results of earlier commands, entered in the report; an empty one without --from."""
    paths = run.texts("from")
    if not paths:
        return Deployment(command="", outcome="reported")
    from pipeline.cli.earlier import load

    earlier = load(paths)
    run.report.follow(earlier)
    return earlier
