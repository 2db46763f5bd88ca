"""write_deployment: what runs where, on the page of the application's repository on GitHub.

One GitHub deployment for an environment and a source commit; a rerun, or a later job, continues it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.core.deployment import GitHubDeployment
from pipeline.core.github_deployment import Target

_LOOKED_AT = 10
"""How many earlier deployments may cost a request each, to find those that run no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A deployment of ours that GitHub has."""

    id: int
    commit: str
    deployment_id: str
    images: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What GitHub shall say of a deployment; `description` has at most 140 characters."""

    state: str
    description: str
    environment_url: str | None = None
    log_url: str | None = None


class Page(Protocol):
    """The deployments of one repository. Each method raises a PipelineError when GitHub does not do it."""

    @property
    def name(self) -> str:
        """`OWNER/NAME`."""

    def recent(self, environment: str) -> Sequence[Shown]:
        """Our deployments to an environment, newest first."""

    def create(self, environment: str, commit: str, deployment_id: str, images: Sequence[str], task: str) -> int:
        """Make a deployment; its id."""

    def state(self, deployment: int) -> str | None:
        """The state of the newest status."""

    def tell(self, deployment: int, status: Status) -> None:
        """Add a status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What to show of which deployment. `before` is what earlier notices of this deployment have left."""

    target: Target
    environment: str
    deployment_id: str
    environment_url: str | None = None
    log_url: str | None = None
    before: tuple[GitHubDeployment, ...] = ()


def write_deployment(page: Page, inputs: Inputs) -> GitHubDeployment | None:
    """Bring one deployment on GitHub up to date, and make it first where there is none. Raises PipelineError.

    None for one that GitHub never heard of and that is over: it ran nowhere.

    After a success the deployments before it, whose images all run in newer versions, become inactive. GitHub's own
    `auto_inactive` would do so for a service of the same repository that is deployed apart, and not in production.
    """
    target = inputs.target
    known = next((item for item in inputs.before if (item.repository, item.commit) == (page.name, target.commit)), None)
    if known and known.state == target.state:
        return known
    recent = page.recent(inputs.environment) if known is None or target.state == "success" else ()
    number = known.id if known else _find(inputs, recent)
    if number is None:
        if target.state == "inactive":
            return None
        number = page.create(inputs.environment, target.commit, inputs.deployment_id, target.images, target.task)
    status = Status(
        state=target.state,
        description=target.description,
        environment_url=inputs.environment_url,
        log_url=inputs.log_url,
    )
    page.tell(number, status)
    if target.state == "success":
        _retire(page, target, [item for item in recent if item.id < number][:_LOOKED_AT])
    return GitHubDeployment(repository=page.name, commit=target.commit, id=number, state=target.state)


def _find(inputs: Inputs, recent: Sequence[Shown]) -> int | None:
    ours = (inputs.deployment_id, inputs.target.commit)
    return next((item.id for item in recent if (item.deployment_id, item.commit) == ours), None)


def _retire(page: Page, target: Target, earlier: Sequence[Shown]) -> None:
    newer = set(target.images)
    for item in earlier:
        if page.state(item.id) == "success":
            if item.images <= newer:
                page.tell(item.id, Status(state="inactive", description=f"Replaced by {target.commit[:7]}"))
            newer |= item.images
