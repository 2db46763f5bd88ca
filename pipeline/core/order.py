"""Which commit may follow which: the rule that keeps an older run from replacing a newer one."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from pipeline.core.deployment import Kind
from pipeline.core.image import is_commit

Rule = Literal["ancestry", "arrival", "strict"]
Verdict = Literal["go", "superseded", "diverged", "unknown"]


class Relation(Enum):
    """How a new commit stands to an old one."""

    EQUAL = "equal"
    ANCESTOR = "ancestor"
    """The new commit is part of the old one's history: it is older."""
    DESCENDANT = "descendant"
    DIVERGED = "diverged"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """May the image be deployed? `diverged` and `unknown` are refusals; `warning` goes with a `go`."""

    verdict: Verdict
    warning: str | None = None


def needs_relation(kind: Kind, present: str | None, new: str) -> bool:
    """Whether the judgement needs to know how the two tags' commits are related."""
    return kind == "deploy" and present is not None and present != new and is_commit(present) and is_commit(new)


def judge(
    kind: Kind,
    rule: Rule,
    present: str | None,
    relation: Relation,
    *,
    on_default_branch: bool | None = None,
    allow_diverged: bool = False,
) -> Judgement:
    """Judge a deployment over the tag `present` (None: there was none), by the relation of the new commit to it.

    Rollback, promotion and revert mean what they say: their kind passes.
    """
    if kind != "deploy" or present is None or relation in {Relation.EQUAL, Relation.DESCENDANT}:
        return Judgement("go")
    if relation is Relation.ANCESTOR:
        return Judgement("superseded")
    if relation is Relation.DIVERGED:
        if on_default_branch or rule == "arrival":
            return Judgement("go")
        if allow_diverged:
            return Judgement("go", f"the deployed {present[:12]} is not in this commit's history")
        return Judgement("diverged")
    if rule == "strict":
        return Judgement("unknown")
    if not is_commit(present):
        return Judgement("go", f"the present tag {present!r} is no commit, so the order was not judged")
    return Judgement("go", f"the order to the deployed {present[:12]} is unknown")
