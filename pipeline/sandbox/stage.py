"""Where a story can play: a cluster with Argo CD, git over smart HTTP and a registry, embedded or real."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from pipeline.sandbox.cluster import Fault, FaultKind
from pipeline.sandbox.world import World


class Stage(Protocol):
    """What a demonstration or an end-to-end test needs, in plain values."""

    git_root: Path
    """Bare repositories made here are served at `git_url`."""
    git_url: str
    registry: str
    argocd: str
    token: str

    def add_application(self, name: str, spec: Mapping[str, Any]) -> None:
        """Let Argo CD have an application; `spec` as in its manifest."""

    def remove_application(self, name: str) -> None:
        """Forget an application, and the namespace of the same name."""

    def break_image(self, image: str, kind: str, log: Sequence[str] = ()) -> None:
        """Let new pods of one image (`REPOSITORY:TAG`) fail; `log` is what they have written."""

    def mend_image(self, image: str) -> None:
        """Let pods of that image be healthy again."""

    def pause_controller(self) -> contextlib.AbstractContextManager[None]:
        """Argo CD's controller does nothing for a while."""


def follows(url: str, path: str, namespace: str) -> dict[str, Any]:
    """The specification of an application that follows `path` of a repository's main branch by itself."""
    return {
        "project": "default",
        "source": {"repoURL": url, "targetRevision": "main", "path": path},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
        "syncPolicy": {"automated": {"prune": True, "selfHeal": True}, "syncOptions": ["CreateNamespace=true"]},
    }


class Embedded:
    """The sandbox as a stage."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.git_root, self.git_url = world.git_root, world.git_url
        self.registry, self.argocd, self.token = world.registry_host, world.argocd_url, world.token.reveal()

    def add_application(self, name: str, spec: Mapping[str, Any]) -> None:
        """See `Stage`."""
        source = spec.get("source") or {}
        self._world.add_application(
            name,
            source.get("repoURL", ""),
            source.get("path", ""),
            branch=source.get("targetRevision", "main"),
            sources=spec.get("sources", ()),
            namespace=spec["destination"]["namespace"],
            automated="automated" in spec["syncPolicy"],
        )

    def remove_application(self, name: str) -> None:
        """Everything goes with the world."""

    def break_image(self, image: str, kind: str, log: Sequence[str] = ()) -> None:
        """See `Stage`."""
        self._world.set_fault(image.rpartition(":")[2], Fault(cast("FaultKind", kind), tuple(log)))

    def mend_image(self, image: str) -> None:
        """See `Stage`."""
        self._world.set_fault(image.rpartition(":")[2], None)

    @contextlib.contextmanager
    def pause_controller(self) -> Iterator[None]:
        """See `Stage`."""
        self._world.pause_controller()
        try:
            yield
        finally:
            self._world.pause_controller(False)
