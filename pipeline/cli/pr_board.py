"""What a pull request's comment shows: where its commits run, as the GitOps repository and Argo CD say now."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.cli import settings, stages
from pipeline.cli.actions import harmless
from pipeline.cli.flags import Run
from pipeline.cli.settings import Place
from pipeline.core.deployment import Comment, Deployment, Image
from pipeline.core.image import Wanted, is_commit
from pipeline.core.observation import Expectation, Observation
from pipeline.core.pr_comment import STICKY, Live, Running, Standing, contained, sticky
from pipeline.core.rollout import describe
from pipeline.errors import KustomizationUnusable, NotFound, PipelineError, UsageError
from pipeline.options import secret_variables

if TYPE_CHECKING:
    from pipeline.core.argocd import State
    from pipeline.edges.github_pull_request import PullRequest

_SECRET = 8
"""Characters of the shortest secret to look for: a user's name may be a word that occurs anywhere."""
_LOOKED_AT = 10
"""How many of the newest commits the registry is asked for."""


@contextlib.contextmanager
def pull_request(run: Run, number: int) -> "Iterator[PullRequest]":
    """The application's pull request of that number, for the length of a `with`."""
    from pipeline.edges.github_pull_request import PullRequest

    token = run.secret("github-token")
    if token is None:
        raise UsageError("GITHUB_TOKEN is not set", remedy="Set it to a token with `pull-requests: write`.")
    found = PullRequest(settings.github_repository(run), number, token, settings.github_access(run))
    try:
        yield found
    finally:
        found.close()


def write(run: Run, pull: "PullRequest", marker: str, body: str) -> None:
    """Write one of our comments and enter it in the report; with --dry-run it is printed instead."""
    for variable in secret_variables():  # a comment does not pass the runner, which masks its log
        secret = run.environ.get(variable, "").strip()
        if len(secret) >= _SECRET:
            body = body.replace(secret, "***")
    if run.switch("dry-run"):
        text = harmless(body) if run.environ.get("GITHUB_ACTIONS") else body
        run.report.content = f"{text.rstrip()}\n".encode(errors="replace")
        run.report.update(comment=Comment(pull_request=pull.number, change="planned", body=body))
        return
    change, url = pull.put(marker, body)
    run.progress.say(f"Comment {change}: {url}")
    run.report.update(comment=Comment(pull_request=pull.number, change=change, url=url))


def show(run: Run, pull: "PullRequest", told: Deployment | None = None, *, final: bool = True) -> None:
    """Bring the comment that stays up to date. `told` is a deployment to tell of, which `final` says is over."""
    config = settings.application(run)
    here = settings.place(run, config, read_only=True)
    places = settings.everywhere(run, here)
    registry = settings.registry(run, config)
    ours = settings.images_of(config)
    standings, repositories = [], dict[str, str]()
    for place in places:
        try:
            known = stages.entries(run, place)
        except (NotFound, KustomizationUnusable) as error:
            standings.append(Standing(environment=place.name, trouble=str(error)))
            continue
        images = tuple(
            Running(name=name, tag=entry.tag, contains=_contains(pull, entry.tag))
            for name, entry in known.items()
            if not ours or name in ours
        )
        wanted = (Wanted(image.name, "") for image in images)
        repositories |= {image.name: image.repository for image in stages.name_images(known, wanted, registry)}
        standings.append(Standing(environment=place.name, images=images, live=tuple(_live(run, place))))
    if not ours:  # then those that run a commit of this pull request anywhere are the application's
        ours = tuple({image.name for item in standings for image in item.images if image.contains})
        standings = [item.only(ours) for item in standings]
    built = _newest_built(run, pull, repositories, registry)
    write(run, pull, STICKY, sticky(pull.commits, standings, built, told, final=final))


def _contains(pull: "PullRequest", tag: str | None) -> frozenset[str]:
    """The pull request's commits that are in the commit which a tag names."""
    everything = frozenset(commit.oid for commit in pull.commits)
    if tag is None or not is_commit(tag):
        return frozenset()
    if tag in everything:
        return contained(pull.commits, tag)
    merged = pull.merged_as  # squashed or rebased, it does not have the commits themselves in its history
    if merged and pull.common(merged, tag) == merged:
        return everything
    common = pull.common(pull.head, tag)
    return everything if common == pull.head else contained(pull.commits, common or "")


def _live(run: Run, place: Place) -> Iterator[Live]:
    """The environment's applications as Argo CD shows them; none where it is not named or does not answer."""
    try:
        awaiting = stages.awaiting(run, place)
        for name in awaiting.applications:
            yield _seen(awaiting.argocd.get(name))
    except PipelineError as error:
        run.progress.say(f"{place.name}: it is not known how it runs: {error}")


def _seen(state: "State") -> Live:
    words = [f"{state.name}: {describe(Observation(expected=Expectation(revision=None), state=state))}"]
    words += [condition.message for condition in state.conditions if condition.type.endswith("Error")]
    if state.operation and state.operation.failed:
        words.append(state.operation.message)
    words += [f"{item}: {item.message}" for item in state.resources if item.message]
    under_way = state.busy or state.health == "Progressing"
    return Live(mark="✅" if state.settled else "🔄" if under_way else "⚠️", words=" · ".join(words[:3]))


def _newest_built(run: Run, pull: "PullRequest", repositories: dict[str, str], registry: str) -> str | None:
    """The newest commit that has an image in the registry; None where there is none, or it cannot be asked."""
    for commit in pull.commits[: -_LOOKED_AT - 1 : -1]:
        try:
            wanted = (Image(name=name, repository=where, tag=commit.oid) for name, where in repositories.items())
            if any(stages.built(run, wanted, registry)):
                return commit.oid
        except PipelineError as error:
            run.progress.say(f"It is not known which image is built: {error}")
            break
    return None
