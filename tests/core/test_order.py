"""Which commit may follow which."""

import pytest

from pipeline.core.deployment import Kind
from pipeline.core.order import Judgement, Relation, Rule, judge, needs_relation

OLD, NEW = "1" * 40, "2" * 40


@pytest.mark.parametrize(
    ("relation", "rule", "merged", "allow", "verdict", "warned"),
    [
        (Relation.DESCENDANT, "ancestry", None, False, "go", False),
        (Relation.DESCENDANT, "strict", None, False, "go", False),
        (Relation.EQUAL, "ancestry", None, False, "go", False),
        (Relation.ANCESTOR, "ancestry", None, False, "superseded", False),
        (Relation.ANCESTOR, "arrival", None, False, "superseded", False),
        (Relation.ANCESTOR, "ancestry", True, True, "superseded", False),
        (Relation.DIVERGED, "ancestry", None, False, "diverged", False),
        (Relation.DIVERGED, "ancestry", False, False, "diverged", False),
        (Relation.DIVERGED, "strict", False, False, "diverged", False),
        (Relation.DIVERGED, "ancestry", True, False, "go", False),
        (Relation.DIVERGED, "strict", True, False, "go", False),
        (Relation.DIVERGED, "arrival", False, False, "go", False),
        (Relation.DIVERGED, "ancestry", False, True, "go", True),
        (Relation.UNKNOWN, "ancestry", None, False, "go", True),
        (Relation.UNKNOWN, "arrival", None, False, "go", True),
        (Relation.UNKNOWN, "strict", None, False, "unknown", False),
    ],
)
def test_a_deployment_is_judged_by_ancestry(
    relation: Relation, rule: Rule, merged: bool | None, allow: bool, verdict: str, warned: bool
) -> None:
    judgement = judge("deploy", rule, OLD, relation, on_default_branch=merged, allow_diverged=allow)
    assert (judgement.verdict, judgement.warning is not None) == (verdict, warned)


@pytest.mark.parametrize("kind", ["rollback", "promote", "revert"])
@pytest.mark.parametrize("relation", list(Relation))
def test_what_goes_back_on_purpose_passes(kind: Kind, relation: Relation) -> None:
    assert judge(kind, "strict", OLD, relation) == Judgement("go")
    assert not needs_relation(kind, OLD, NEW)


def test_the_first_deployment_passes() -> None:
    assert judge("deploy", "strict", None, Relation.UNKNOWN) == Judgement("go")


def test_a_first_adoption_is_warned_about_with_the_tag_that_stood_there() -> None:
    assert "'v1.2'" in str(judge("deploy", "ancestry", "v1.2", Relation.UNKNOWN).warning)
    assert judge("deploy", "strict", "v1.2", Relation.UNKNOWN).verdict == "unknown"


@pytest.mark.parametrize(
    ("present", "new", "needed"), [(OLD, NEW, True), (OLD, OLD, False), (None, NEW, False), ("latest", NEW, False)]
)
def test_only_two_different_commits_are_compared(present: str | None, new: str, needed: bool) -> None:
    assert needs_relation("deploy", present, new) is needed
