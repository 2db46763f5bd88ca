"""An Argo CD application: the parts of its JSON, and what the simulated controller knows beside them."""

import copy
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.sandbox.workload import Key, Manifest

Json = dict[str, Any]


class Rejected(Exception):
    """The API says no: HTTP status, gRPC code and message."""

    def __init__(self, http: int, code: int, message: str) -> None:
        super().__init__(message)
        self.http = http
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """What an application should be, from all of its sources."""

    revisions: tuple[str, ...]
    kinds: tuple[str, ...]
    manifests: dict[Key, Manifest]
    notes: tuple[str, ...]


@dataclass(slots=True, kw_only=True, eq=False)
class Application:
    """One application: the parts of its JSON, and what the controller knows beside them."""

    name: str
    spec: Json
    metadata: Json
    status: Json
    blocked: bool = False
    """A sync window of the project lets no sync begin."""
    operation: Json | None = None
    target: Target | None = None
    live: dict[Key, Manifest] = field(default_factory=dict)
    tried: tuple[str, ...] = ()
    """The revisions that were synced last; automated sync never tries the same ones twice."""
    settling: bool = False
    """Between the start of an operation and the comparison after it, health is not looked at anew."""
    refreshed: threading.Event = field(default_factory=threading.Event)

    @property
    def sources(self) -> list[Json]:
        return self.spec.get("sources") or [self.spec["source"]]

    @property
    def automated(self) -> Json | None:
        automated: Json | None = (self.spec.get("syncPolicy") or {}).get("automated")
        return automated

    def asked(self, revisions: Sequence[str | None]) -> list[tuple[Json, str | None]]:
        """Each source with the revision asked for it, if any."""
        return list(zip(self.sources, itertools.chain(revisions, itertools.repeat(None)), strict=False))

    def revisions(self, commits: Sequence[str]) -> Json:
        """`revision`, or `revisions` where there are several sources."""
        return {"revisions": list(commits)} if self.spec.get("sources") else {"revision": commits[0] if commits else ""}

    def by_source(self, commits: Sequence[str]) -> Json:
        """The revisions with the sources that they are of."""
        return {**self.revisions(commits), **pick(self.spec, "source", "sources")}

    def in_sync(self) -> bool:
        return self.target is not None and self.target.manifests == self.live

    def as_json(self) -> Json:
        shown: Json = {"metadata": self.metadata, "spec": self.spec, "status": self.status}
        if self.operation is not None:
            shown["operation"] = self.operation
        return copy.deepcopy(shown)


def pick(value: Json, *keys: str) -> Json:
    """Those of the keys that are there, with their values."""
    return {key: value[key] for key in keys if key in value}
