"""One application seen at one moment, beside what the rollout should come to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.core.argocd import Evidence, Operation, Pod, State, Tree
from pipeline.core.deployment import Image
from pipeline.core.image import split_reference, split_registry

Standing = Literal["ours", "later", "earlier", "rewritten", "unknown"]
"""How the synced revision stands to ours: the same, a descendant, an ancestor, neither, or not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the rollout should come to. Without a revision the images alone are the proof; one of both is needed."""

    revision: str | None
    images: tuple[Image, ...] = ()
    grace_seconds: float | None = None
    """How long what is broken may take to recover; None: 2 s for a pod in back-off, 30 s for all else."""

    def grace(self, usual: float) -> float:
        """The grace time where `usual` is the default."""
        return usual if self.grace_seconds is None else self.grace_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that is known of one application at one moment."""

    expected: Expectation
    state: State
    tree: Tree | None = None
    standing: Standing = "unknown"
    fresh: bool = False
    """Argo CD has looked at git since the wait began."""
    been_there: bool = False
    """Argo CD has compared with our commit, or with a later one, since the wait began."""
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    """What pods that hang in an init container say, by uid."""
    blocked: str | None = None
    """The sync window that forbids the sync that is waited for."""

    @property
    def reached(self) -> bool:
        """Whether what Argo CD compares with contains our commit; where nobody can tell, the images must."""
        if self.standing == "unknown":
            return self.fresh and bool(self.expected.images)
        return self.standing in {"ours", "later"}

    @property
    def carried(self) -> bool:
        """Whether the last sync was of our commit, or of the present revision that contains it."""
        operation = self.state.operation
        if operation is None:
            return False
        of_ours = self.expected.revision in operation.revisions and self.standing != "later"
        return of_ours or (self.reached and self.state.tried)

    @property
    def before_ours(self) -> Operation | None:
        """The sync of another commit that ours must wait for; Argo CD tries one that fails for minutes."""
        operation = self.state.operation
        waiting = self.standing in {"ours", "later"} and not self.carried
        return operation if operation and operation.running and operation.revisions and waiting else None

    @property
    def applied(self) -> tuple[str, ...]:
        """The images that the manifests of our commit name, as applied; empty where Argo CD does not tell."""
        return self.state.operation.images if self.state.operation and self.carried else ()

    def applies(self, image: Image) -> bool | None:
        """Whether a manifest of our commit names the image's repository; None where Argo CD does not tell."""
        if not self.applied:
            return None
        return any(matches(image, reference) is not None for reference in self.applied)

    @property
    def unsynced(self) -> bool:
        """Whether our commit is known to Argo CD and not synced, and no sync of it is or was under way."""
        state = self.state
        arrived = self.fresh and self.standing in {"ours", "later", "unknown"} and not state.refreshing
        return arrived and state.sync == "OutOfSync" and not state.busy and not state.tried

    @property
    def revision(self) -> str | None:
        """The revision to report: ours where it is one of several sources' revisions."""
        revisions = self.state.revisions
        return self.expected.revision if self.expected.revision in revisions else next(iter(revisions), None)

    @property
    def short_revision(self) -> str:
        """What Argo CD compares with, for people."""
        return "+".join(revision[:7] for revision in self.state.revisions) or "no revision"

    def pods_of(self, image: Image) -> tuple[list[Pod], list[Pod]]:
        """The present pods that run `image`, and those that run its repository with another tag or digest."""
        pods = [pod for pod in self.tree.pods if pod.current] if self.tree else []
        ours = [pod for pod in pods if any(matches(image, reference) for reference in pod.images)]
        others = [pod for pod in pods if pod not in ours and any(matches(image, ref) is False for ref in pod.images)]
        return ours, others

    @property
    def suspects(self) -> list[Pod]:
        """The pods whose trouble is ours: those with our image, and those that a sync of our commit made.

        A pod that runs another tag of our image belongs to another commit, and one that runs no image of ours and was
        there before has its own story. While a sync runs, a pod from before it may hold what the sync is to mend.
        """
        if self.tree is None or not self.reached:
            return []
        applied = self.state.sync == "Synced" and not self.state.busy
        start = self.state.operation.started if self.state.operation and self.carried else None
        suspects = []
        for pod in self.tree.pods:
            known = [matches(image, reference) for image in self.expected.images for reference in pod.images]
            made = start is not None and pod.created >= start
            ours = True in known
            if pod.current and ((ours and applied) or (made and (ours or False not in known))):
                suspects.append(pod)
        return suspects

    @property
    def troubled(self) -> list[Pod]:
        """The pods that keep the application from being healthy: the suspects, else any other present ones."""
        present = [pod for pod in self.tree.pods if pod.current] if self.tree and self.reached else []
        return [pod for pod in self.suspects if not pod.healthy] or [pod for pod in present if not pod.healthy]


def stand(revisions: tuple[str, ...], ours: str | None, descends: Callable[[str, str], bool | None]) -> Standing:
    """How synced `revisions` (one per source) stand to our commit.

    `descends(revision, ancestor)` answers None when it cannot tell; it is not asked where equality answers.
    """
    if ours is None or not revisions:
        return "unknown"
    if ours in revisions:
        return "ours"
    later = [descends(revision, ours) for revision in revisions]
    if True in later:
        return "later"
    earlier = [descends(ours, revision) for revision in revisions]
    if True in earlier:
        return "earlier"
    return "unknown" if None in later or None in earlier else "rewritten"


def matches(image: Image, reference: str) -> bool | None:
    """Whether a container's `reference` is `image`; None when it is not of the same repository."""
    repository, tag, digest = split_reference(reference)
    if split_registry(repository) != split_registry(image.repository):
        return None
    if digest and image.digest:
        return digest == image.digest
    return tag == image.tag
