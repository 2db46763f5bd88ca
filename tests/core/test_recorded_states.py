"""What a real Argo CD was recorded to answer is read and judged right."""

import json
from pathlib import Path

import pytest

from pipeline.core.argocd import parse_state, parse_tree
from pipeline.core.deployment import Image
from pipeline.core.observation import Expectation, Observation
from pipeline.core.rollout import Final, judge

RECORDED = Path(__file__).parents[1] / "fixtures" / "argocd"
SHAPES = Path(__file__).parents[3] / "shared" / "lab" / "argocd-shapes"
needs_shapes = pytest.mark.skipif(not SHAPES.is_dir(), reason="../shared/lab/argocd-shapes is not there")


def shape(name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((SHAPES / f"{name}.json").read_text())
    return loaded


def verdict_on(name: str, *, tree: str | None = None, image: Image | None = None) -> Final:
    state = parse_state(shape(name))
    expected = Expectation(
        revision=state.revisions[0] if state.revisions else "f" * 40, images=(image,) if image else ()
    )
    seen = Observation(
        expected=expected,
        state=state,
        tree=parse_tree(shape(tree)) if tree else None,
        standing="ours" if state.revisions else "unknown",
        fresh=True,
    )
    verdict = judge(seen, {}, 0)
    if not isinstance(verdict, Final):
        verdict = judge(seen, verdict.doubts, 60)
    assert isinstance(verdict, Final)
    return verdict


@needs_shapes
@pytest.mark.parametrize(
    ("name", "outcome", "reason", "words"),
    [
        ("badpath", "sync_failed", "ComparisonError", "app path does not exist"),
        ("badkust", "sync_failed", "ComparisonError", "kustomize build"),
        ("badfield", "sync_failed", "ComparisonError", "PatchTransformer"),
        ("nobranch", "sync_failed", "ComparisonError", "unable to resolve 'no-such-branch'"),
        ("norepo", "sync_failed", "ComparisonError", "repository not found"),
        ("immut", "sync_failed", "SyncFailed", "field is immutable"),
        ("nokind", "sync_failed", "SyncFailed", 'Make sure the "Widget" CRD is installed'),
        ("degraded-app", "failed", "Degraded", "exceeded its progress deadline"),
    ],
)
def test_a_recorded_failure_is_told_with_its_cause(name: str, outcome: str, reason: str, words: str) -> None:
    application = verdict_on(name).application
    assert application.cause is not None
    assert (application.outcome, application.cause.reason) == (outcome, reason)
    assert words in application.cause.message


@needs_shapes
def test_a_recorded_pull_failure_is_told_apart_from_the_pods_that_still_run() -> None:
    image = Image(name="web", repository="127.0.0.1:15000/acme/web", tag="bad51068")
    verdict = verdict_on("degraded-app", tree="degraded-tree", image=image)
    assert verdict.application.cause is not None
    assert verdict.application.cause.reason == "ImagePullBackOff"
    assert verdict.application.cause.message == 'Back-off pulling image "127.0.0.1:15000/acme/web:bad51068"'
    assert str(verdict.pod) == "Pod/web-7d47c86994-bbmj9"


@needs_shapes
def test_a_recorded_success_is_proof() -> None:
    assert verdict_on("hook").application.outcome == "deployed"


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("deployed", "deployed", None),
        ("pull", "failed", "ImagePullBackOff"),
        ("crash", "failed", "CrashLoopBackOff"),
        ("refused", "sync_failed", "SyncFailed"),
        ("unrenderable", "sync_failed", "ComparisonError"),
        ("degraded", "failed", "Degraded"),
    ],
)
def test_what_the_lab_s_argo_cd_showed_is_judged_right(name: str, outcome: str, reason: str | None) -> None:
    """Recorded by tests/e2e/test_shapes.py, at the end of each of these rollouts."""
    shape = json.loads((RECORDED / f"{name}.json").read_text())
    state, tree = parse_state(shape["application"]), parse_tree(shape["tree"])
    images = {image for pod in tree.pods for image in pod.images if image.endswith(shape["tag"])}
    image = next(iter(images), f"registry.example/web:{shape['tag']}")
    repository, _, tag = image.rpartition(":")
    revision = state.revisions[0] if state.revisions else "f" * 40
    seen = Observation(
        expected=Expectation(revision=revision, images=(Image(name="web", repository=repository, tag=tag),)),
        state=state,
        tree=tree,
        standing="ours" if state.revisions else "unknown",
        fresh=True,
    )
    verdict = judge(seen, {}, 0)
    if not isinstance(verdict, Final):
        verdict = judge(seen, verdict.doubts, 60)
    assert isinstance(verdict, Final)
    cause = verdict.application.cause
    assert (verdict.application.outcome, cause and cause.reason) == (outcome, reason)
