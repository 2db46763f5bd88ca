"""What observations of Argo CD prove: tables of states, and sequences as the stream shows them."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from pipeline.core.argocd import Evidence, Tree, parse_state, parse_tree
from pipeline.core.deployment import Image
from pipeline.core.observation import Expectation, Observation, Standing, matches, stand
from pipeline.core.rollout import Final, Pending, judge, timed_out
from tests.argocd_shapes import (
    IMAGE,
    LATER,
    NEW_IMAGE,
    OLD,
    OLD_IMAGE,
    OTHER,
    OURS,
    REPOSITORY,
    TAG,
    Json,
    application,
    descends,
    pod,
    replica_set,
    tree,
)

FLASK = Image(name="openegflask", repository=REPOSITORY, tag=TAG)
EXPECTED = Expectation(revision=OURS, images=(FLASK,))
CONFIGURATION = Expectation(revision=OURS)
RUNNING = tree(pod())


def observe(
    app: Json,
    nodes: Json | None = None,
    *,
    expected: Expectation = EXPECTED,
    fresh: bool = True,
    evidence: Evidence | None = None,
    blocked: str | None = None,
    known: bool = True,
) -> Observation:
    state = parse_state(app)
    return Observation(
        expected=expected,
        state=state,
        tree=parse_tree(nodes) if nodes else None,
        standing=stand(state.revisions, expected.revision, descends if known else lambda *_: None),
        fresh=fresh,
        evidence={"uid-web-new": evidence} if evidence else {},
        blocked=blocked,
    )


def follow(seen: Iterable[tuple[float, Observation]]) -> Final | Pending:
    """The verdict after observations at their times; the first that is final stands."""
    verdict: Final | Pending = Pending(text="")
    for now, observation in seen:
        assert isinstance(verdict, Pending)
        verdict = judge(observation, verdict.doubts, now)
        if isinstance(verdict, Final):
            return verdict
    return verdict


def staying(seen: Observation, seconds: float) -> Final | Pending:
    """The verdict when nothing changes for so long."""
    return follow([(0.0, seen), (seconds, seen)])


def outcome(verdict: Final | Pending) -> str:
    return verdict.application.outcome if isinstance(verdict, Final) else "pending"


def reason(verdict: Final | Pending) -> str | None:
    return verdict.application.cause.reason if isinstance(verdict, Final) and verdict.application.cause else None


# what is proof

STEPS: list[tuple[str, Json, Json, bool]] = [
    ("the refresh is asked for", application(OLD, refreshing=True), tree(pod(OLD_IMAGE, owner="new")), False),
    ("the operation is gone", application(OLD, phase=None), tree(pod(OLD_IMAGE, owner="new")), False),
    ("compared, Healthy is stale", application(OURS, "OutOfSync", phase=None), tree(pod(OLD_IMAGE)), False),
    ("the sync runs", application(OURS, "OutOfSync", phase="Running"), tree(pod(OLD_IMAGE)), False),
    ("the sync is done, not compared", application(OURS, "OutOfSync"), tree(pod(OLD_IMAGE)), False),
    ("Synced, pods start", application(health="Progressing"), tree(pod(reason="ContainerCreating")), False),
    ("a second sync of the same commit", application(phase="Running"), RUNNING, False),
    ("Healthy, the tree lags behind", application(), tree(pod(OLD_IMAGE)), False),
    ("Healthy, no tree yet", application(), {}, False),
    ("Healthy, our pod is not", application(), tree(pod(reason="ContainerCreating")), False),
    ("Healthy, and our pod runs", application(), RUNNING, True),
]


@pytest.mark.parametrize(("app", "nodes", "done"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS])
def test_only_the_last_step_of_a_deployment_is_proof(app: Json, nodes: Json, done: bool) -> None:
    assert outcome(judge(observe(app, nodes), {}, 0)) == ("deployed" if done else "pending")


def test_a_deployment_goes_through_all_steps_to_its_proof() -> None:
    verdict = follow(((0.2 * at, observe(app, nodes)) for at, (_, app, nodes, _) in enumerate(STEPS)))
    assert isinstance(verdict, Final)
    assert verdict.application.revision == OURS
    assert verdict.application.proof == "1 pod runs openegflask:1111111; Synced at aaaaaaa and Healthy"


def test_pods_of_earlier_rollouts_neither_prove_nor_fail() -> None:
    left = pod(OLD_IMAGE, "ImagePullBackOff", owner="old", name="web-old")
    ending = pod(OLD_IMAGE, "Terminating", name="web-ending")
    assert outcome(judge(observe(application(), tree(left, ending, pod())), {}, 0)) == "deployed"
    progressing = observe(application(health="Progressing"), tree(left, ending))
    assert outcome(staying(progressing, 300)) == "pending"
    ours_in_the_old_set = tree(pod(owner="old"))
    assert "1 pod" not in str(judge(observe(application(), ours_in_the_old_set), {}, 0))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (tree(), "no pod of registry.oud.kr/openegflask is expected here"),
        (tree(pod(OLD_IMAGE, owner="job", owner_kind="Job"), cron := {
            "kind": "Job", "name": "job", "uid": "uid-job", "parentRefs": [{"kind": "CronJob", "uid": "uid-cron"}],
        }), "no pod of registry.oud.kr/openegflask is expected here"),
        (tree(pod("redis:7")), "no pod of registry.oud.kr/openegflask is expected here"),
    ],
    ids=["zero replicas", "a CronJob's earlier run", "another service's application"],
)  # fmt: skip
def test_where_no_pod_is_expected_the_proof_says_so(nodes: Json, words: str) -> None:
    verdict = judge(observe(application(), nodes), {}, 0)
    assert isinstance(verdict, Final)
    assert verdict.application.outcome == "deployed"
    assert words in (verdict.application.proof or "")


@pytest.mark.parametrize(
    ("applied", "why"),
    [
        ([], "(no replicas, a CronJob, or not part of it)"),
        ([IMAGE, "redis:7"], "(no replicas, or a CronJob)"),
        (["redis:7"], "(the sync applied no manifest that names it)"),
    ],
)
def test_why_no_pod_is_expected_is_told_as_far_as_it_is_known(applied: list[str], why: str) -> None:
    results = [{"kind": "Deployment", "name": "web", "status": "Synced", "images": applied}]
    verdict = judge(observe(application(results=results), tree()), {}, 0)
    assert isinstance(verdict, Final)
    assert why in (verdict.application.proof or "")


def test_a_configuration_change_is_proved_without_pods() -> None:
    verdict = judge(observe(application(), expected=CONFIGURATION), {}, 0)
    assert isinstance(verdict, Final)
    assert verdict.application.proof == "no image was named, so pods were not compared; Synced at aaaaaaa and Healthy"


def test_a_swallowed_commit_is_proved_by_its_descendant() -> None:
    """The operation's own revision stays old where a commit changes nothing for the application."""
    assert outcome(judge(observe(application(LATER, synced=OLD), RUNNING), {}, 0)) == "deployed"


@pytest.mark.parametrize("revisions", [[OTHER, OURS], [OURS, "1.2.3"], [LATER, "1.2.3"]])
def test_one_source_of_several_carries_our_commit(revisions: list[str]) -> None:
    app = application("", status={"sync": {"status": "Synced", "revisions": revisions}})
    verdict = judge(observe(app, RUNNING), {}, 0)
    assert isinstance(verdict, Final)
    assert verdict.application.revision == (OURS if OURS in revisions else revisions[0])


@pytest.mark.parametrize(
    ("reference", "digest", "same"),
    [
        (IMAGE, None, True),
        (OLD_IMAGE, None, False),
        ("openegflask:" + TAG, None, None),
        (f"{IMAGE}@sha256:{'d' * 64}", None, True),
        (f"{REPOSITORY}@sha256:{'d' * 64}", f"sha256:{'d' * 64}", True),
        (f"{REPOSITORY}@sha256:{'e' * 64}", f"sha256:{'d' * 64}", False),
    ],
)
def test_images_match_by_repository_and_tag_or_digest(reference: str, digest: str | None, same: bool | None) -> None:
    assert matches(Image(name="x", repository=REPOSITORY, tag=TAG, digest=digest), reference) is same


def test_docker_hub_names_match_in_all_spellings() -> None:
    assert matches(Image(name="redis", repository="redis", tag="7"), "docker.io/library/redis:7") is True


# where Argo CD stands


@pytest.mark.parametrize(
    ("revisions", "standing"),
    [
        ((OURS,), "ours"),
        ((LATER,), "later"),
        ((OLD,), "earlier"),
        ((OTHER,), "rewritten"),
        ((OTHER, OURS), "ours"),
        ((OTHER, OLD), "earlier"),
        ((), "unknown"),
    ],
)
def test_where_the_synced_revision_stands(revisions: tuple[str, ...], standing: Standing) -> None:
    assert stand(revisions, OURS, descends) == standing


def test_what_history_cannot_tell_is_unknown_not_rewritten() -> None:
    assert stand((OTHER,), OURS, lambda *_: None) == "unknown"
    assert stand((OTHER,), None, descends) == "unknown"


def test_without_history_our_image_is_the_proof_and_the_proof_says_so() -> None:
    verdict = judge(observe(application(LATER), RUNNING, known=False), {}, 0)
    assert isinstance(verdict, Final)
    assert "whether bbbbbbb contains our commit could not be told" in (verdict.application.proof or "")
    for nodes in (tree(), tree(pod(OLD_IMAGE))):
        assert outcome(staying(observe(application(OLD), nodes, known=False), 300)) == "pending"
    not_refreshed = observe(application(LATER), RUNNING, known=False, fresh=False)
    assert outcome(judge(not_refreshed, {}, 0)) == "pending"


def test_images_alone_are_waited_for_without_a_revision() -> None:
    expected = Expectation(revision=None, images=(FLASK,))
    verdict = judge(observe(application(LATER), RUNNING, expected=expected), {}, 0)
    assert isinstance(verdict, Final)
    assert verdict.application.proof == "1 pod runs openegflask:1111111; Synced at bbbbbbb and Healthy"


def test_a_branch_rewritten_without_our_commit_fails_but_an_old_revision_waits() -> None:
    verdict = judge(observe(application(OTHER), tree(pod(OLD_IMAGE))), {}, 0)
    assert (outcome(verdict), reason(verdict)) == ("failed", "BranchRewritten")
    assert outcome(staying(observe(application(OLD), tree(pod(OLD_IMAGE))), 300)) == "pending"


def test_a_branch_that_went_back_behind_our_commit_fails_after_its_grace() -> None:
    back = replace(observe(application(OLD), tree(pod(OLD_IMAGE))), been_there=True)
    looking = replace(back, state=replace(back.state, refreshing=True))
    assert outcome(staying(back, 29)) == "pending"
    verdict = follow([(0, back), (15, looking), (16, back), (30, back)])
    assert (outcome(verdict), reason(verdict)) == ("failed", "BranchRewritten")


APPLIED = [{"kind": "Deployment", "name": "web", "status": "Synced", "images": [NEW_IMAGE]}]


@pytest.mark.parametrize(
    ("app", "nodes", "expected"),
    [
        (application(LATER, health="Progressing", results=APPLIED), tree(pod(NEW_IMAGE, "Error")), "superseded"),
        (application(LATER), tree(pod(NEW_IMAGE)), "superseded"),
        (application(LATER, "OutOfSync", phase=None), tree(pod(NEW_IMAGE)), "pending"),
        (application(LATER, health="Progressing"), tree(pod(OLD_IMAGE)), "pending"),
        (application(LATER), RUNNING, "deployed"),
    ],
    ids=["by the manifests, at once", "by the pods", "not synced yet", "the tree is of before", "same image"],
)  # fmt: skip
def test_a_later_commit_supersedes_when_it_runs_another_image(app: Json, nodes: Json, expected: str) -> None:
    assert outcome(judge(observe(app, nodes), {}, 0)) == expected


def test_of_two_images_one_may_be_moved_on_and_the_other_be_ours() -> None:
    node = Image(name="node", repository="registry.oud.kr/openegnode", tag=TAG)
    expected = Expectation(revision=OURS, images=(FLASK, node))
    nodes = tree(pod(NEW_IMAGE), pod(node.reference, name="node-1", owner="node"))
    verdict = judge(observe(application(LATER), nodes, expected=expected), {}, 0)
    assert isinstance(verdict, Final)
    assert verdict.application.outcome == "deployed"
    assert "openegflask was moved on" in (verdict.application.proof or "")


# what is failure


@pytest.mark.parametrize(
    ("pod_reason", "seconds"),
    [
        ("InvalidImageName", 0),
        ("ErrImageNeverPull", 0),
        ("ImagePullBackOff", 2),
        ("ErrImagePull", 2),
        ("CrashLoopBackOff", 2),
        ("OOMKilled", 2),
        ("Init:CrashLoopBackOff", 2),
        ("Init:ImagePullBackOff", 2),
        ("CreateContainerConfigError", 30),
        ("Error", 30),
        ("ExitCode:3", 30),
    ],
)
def test_a_broken_pod_fails_the_rollout_after_its_grace(pod_reason: str, seconds: float) -> None:
    broken = observe(application(health="Progressing"), tree(pod(reason=pod_reason, message="why")))
    if seconds:
        early = staying(broken, seconds - 0.1)
        assert isinstance(early, Pending)
        assert early.look_again == seconds
    verdict = staying(broken, seconds)
    assert isinstance(verdict, Final)
    assert verdict.application.cause is not None
    cause = verdict.application.cause
    assert (outcome(verdict), cause.reason, cause.resource, cause.message) == (
        "failed",
        pod_reason,
        "Pod/web-new",
        "why",
    )
    assert verdict.pod is not None


@pytest.mark.parametrize("pod_reason", ["Pending", "ContainerCreating", "PodInitializing", "Init:0/2", "Evicted"])
def test_a_slow_pod_is_not_a_broken_one(pod_reason: str) -> None:
    slow = observe(application(health="Progressing"), tree(pod(reason=pod_reason)))
    assert outcome(staying(slow, 599)) == "pending"


def test_the_grace_time_is_the_users_to_choose() -> None:
    patient = Expectation(revision=OURS, images=(FLASK,), grace_seconds=60)
    crash = observe(application(health="Progressing"), tree(pod(reason="CrashLoopBackOff")), expected=patient)
    assert outcome(staying(crash, 59)) == "pending"
    assert outcome(staying(crash, 60)) == "failed"


def test_a_crash_that_recovers_within_the_grace_is_deployed() -> None:
    crash = observe(application(health="Progressing"), tree(pod(reason="CrashLoopBackOff")))
    assert outcome(follow([(0, crash), (1.9, crash), (2.1, observe(application(), RUNNING))])) == "deployed"


def test_a_crashing_pod_that_runs_between_its_crashes_is_still_broken() -> None:
    progressing = application(health="Progressing")
    crash = observe(progressing, tree(pod(reason="CrashLoopBackOff")))
    between = pod()
    between["health"] = {"status": "Degraded"}
    seen = [(0.0, crash), (1.0, observe(progressing, tree(between))), (1.5, crash), (2.0, crash)]
    assert outcome(follow(seen)) == "failed"
    healthy_meanwhile = [(0.0, crash), (1.0, observe(progressing, RUNNING)), (1.5, crash), (2.0, crash)]
    assert outcome(follow(healthy_meanwhile)) == "pending"


@pytest.mark.parametrize(
    ("app", "nodes"),
    [
        (application(OLD), tree(pod(OLD_IMAGE, "CrashLoopBackOff"))),
        (application(OURS, "OutOfSync", phase=None), tree(pod(OLD_IMAGE, "CrashLoopBackOff"))),
        (application(health="Progressing"), tree(pod(OLD_IMAGE, "CrashLoopBackOff"))),
        (
            application(OURS, "OutOfSync", phase="Running"),
            tree(pod(reason="CrashLoopBackOff", created="2026-11-23T15:00:00Z")),
        ),
        (
            application(health="Progressing"),
            tree(pod("operator/db:1", "CrashLoopBackOff", created="2026-11-23T15:00:00Z"), pod(reason="Pending")),
        ),
    ],
    ids=["before our commit", "not applied", "the tree lags behind", "the sync is to mend it", "not ours at all"],
)
def test_a_pod_that_was_broken_before_is_not_our_failure(app: Json, nodes: Json) -> None:
    assert outcome(staying(observe(app, nodes), 20)) == "pending"


def test_a_pod_that_breaks_while_a_sync_waits_for_it_fails_at_once() -> None:
    """Sync waves and hooks hold the sync until their pods are healthy."""
    running = observe(application(OURS, "OutOfSync", phase="Running"), tree(pod(reason="ImagePullBackOff")))
    assert outcome(staying(running, 2)) == "failed"


@pytest.mark.parametrize(
    ("pod_reason", "expected"), [("Error", "pending"), ("CrashLoopBackOff", "pending"), ("ImagePullBackOff", "failed")]
)
def test_a_job_may_try_again_unless_its_image_is_not_there(pod_reason: str, expected: str) -> None:
    hook = pod("x/migrate:v1", pod_reason, name="migrate-1", owner="migrate", owner_kind="Job")
    running = observe(application(OURS, "OutOfSync", phase="Running"), tree(hook))
    verdict = staying(running, 60)
    assert outcome(verdict) == expected
    if isinstance(verdict, Pending):  # its pod is asked why, before it is gone
        assert [str(each) for each in verdict.questions] == ["Pod/migrate-1"]


INIT = observe(application(health="Progressing"), tree(pod(reason="Init:0/1")))


def in_init(evidence: Evidence) -> Observation:
    return observe(application(health="Progressing"), tree(pod(reason="Init:0/1")), evidence=evidence)


def test_a_pod_that_stays_in_an_init_container_is_asked_after_ten_seconds() -> None:
    early, late = staying(INIT, 9.9), staying(INIT, 10)
    assert isinstance(early, Pending)
    assert isinstance(late, Pending)
    assert (early.look_again, early.questions) == (10, ())
    assert [str(each) for each in late.questions] == ["Pod/web-new"]


@pytest.mark.parametrize(
    ("evidence", "seconds"),
    [
        (Evidence(container="vault-agent-init", running=True, logs=("[ERROR] auth: permission denied",)), 0),
        (Evidence(container="vault-agent-init", running=True, logs=("[INFO] renewing",)), 30),
        (Evidence(container="vault-agent-init", running=False), None),
        (Evidence(container="migrate", running=True, logs=("[ERROR] retrying",)), None),
    ],
    ids=["says why", "says nothing", "is being pulled", "another init container may take its time"],
)
def test_a_vault_agent_that_never_ends_fails_the_rollout(evidence: Evidence, seconds: float | None) -> None:
    if seconds is None:
        assert outcome(staying(in_init(evidence), 599)) == "pending"
    else:
        verdict = staying(in_init(evidence), seconds)
        assert isinstance(verdict, Final)
        assert verdict.application.cause is not None
        assert verdict.application.cause.message == "vault-agent-init does not end"
        assert seconds == 0 or outcome(staying(in_init(evidence), seconds - 1)) == "pending"


def test_a_failed_sync_names_the_resource_and_the_servers_message() -> None:
    results = [
        {"kind": "Service", "name": "web", "status": "Synced", "message": "service/web unchanged"},
        {"kind": "Deployment", "name": "web", "status": "SyncFailed", "message": "field is immutable"},
    ]
    verdict = judge(observe(application(OURS, "OutOfSync", phase="Failed", results=results)), {}, 0)
    assert isinstance(verdict, Final)
    cause = verdict.application.cause
    assert cause is not None
    assert (outcome(verdict), cause.resource, cause.message) == ("sync_failed", "Deployment/web", "field is immutable")


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ('Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0', 3),
        ("The Kubernetes API could not find example.org/Widget for requested resource web/x", 30),
    ],
)
def test_a_sync_that_is_tried_again_for_minutes_fails_by_what_was_refused(message: str, seconds: float) -> None:
    refused = f'error when patching "/dev/shm/2604691729": {message}'
    results = [{"kind": "Deployment", "name": "web", "status": "SyncFailed", "message": refused}]
    words = "one or more objects failed to apply. Retrying attempt #1 at 12:17AM."
    retrying = observe(application(OURS, "OutOfSync", phase="Running", results=results, message=words))
    assert outcome(staying(retrying, seconds - 0.1)) == "pending"
    verdict = staying(retrying, seconds)
    assert isinstance(verdict, Final)
    assert verdict.application.outcome == "sync_failed"
    assert verdict.application.cause is not None
    assert verdict.application.cause.message == message
    of_another = application(OURS, "OutOfSync", phase="Running", synced=OLD, results=results)
    assert outcome(staying(observe(of_another), 300)) == "pending"


def test_a_failed_hook_is_explained_by_its_pod() -> None:
    results = [
        {"kind": "Job", "name": "migrate", "hookType": "PreSync", "hookPhase": "Failed", "message": "backoff limit"}
    ]
    nodes = tree(pod("x/migrate:v1", "Error", name="migrate-1", owner="migrate", owner_kind="Job"))
    verdict = judge(observe(application(OURS, "OutOfSync", phase="Failed", results=results), nodes), {}, 0)
    assert isinstance(verdict, Final)
    assert (outcome(verdict), str(verdict.pod)) == ("sync_failed", "Pod/migrate-1")


def of_two_sources(synced: list[str]) -> Json:
    """An application whose last sync, of those revisions, failed; the second source never changes."""
    operation = {"phase": "Failed", "message": "boom", "syncResult": {"revision": "", "revisions": synced}}
    sync = {"status": "OutOfSync", "revisions": [OURS, "1.2.3"]}
    return application("", status={"sync": sync, "operationState": operation})


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (application(OURS, "OutOfSync", phase="Running"), "pending"),
        (application(OLD, "OutOfSync", phase="Failed"), "pending"),
        (application(OURS, "OutOfSync", phase="Failed", synced=OLD), "pending"),
        (application(OURS, "OutOfSync", phase="Failed", operation={"sync": {}}), "pending"),
        (application(OURS, "OutOfSync", phase="Error", message="boom"), "sync_failed"),
        (application(LATER, "OutOfSync", phase="Failed"), "sync_failed"),
        (application(LATER, "OutOfSync", phase="Failed", synced=OURS), "pending"),
        (application(OURS, phase="Failed"), "sync_failed"),
        (of_two_sources([OLD, "1.2.3"]), "pending"),
        (of_two_sources([OURS, "1.2.3"]), "sync_failed"),
    ],
    ids=[
        "retrying",
        "of the old",
        "before ours",
        "asked for anew",
        "error",
        "of a later one",
        "ours, and a later one comes",
        "a PostSync hook",
        "before ours, of two sources",
        "ours, of two sources",
    ],
)
def test_only_a_sync_of_our_commit_that_ended_fails(app: Json, expected: str) -> None:
    assert outcome(judge(observe(app, RUNNING), {}, 0)) == expected


def broken_render(message: str) -> Json:
    status = {"sync": {"status": "Unknown"}, "conditions": [{"type": "ComparisonError", "message": message}]}
    return application("", phase=None, status=status)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("rpc error: code = Unknown desc = `kustomize build` failed exit status 1", 3),
        ('rpc error: code = Unavailable desc = connection error: dial tcp: connect: connection refused"', 30),
    ],
    ids=["a manifest that cannot be rendered", "the repo-server is down"],
)
def test_a_comparison_error_fails_although_health_is_healthy(message: str, seconds: float) -> None:
    seen = observe(broken_render(message))
    assert outcome(staying(seen, seconds - 0.1)) == "pending"
    verdict = staying(seen, seconds)
    assert (outcome(verdict), reason(verdict)) == ("sync_failed", "ComparisonError" if seconds == 3 else "Unavailable")


def test_a_comparison_error_of_before_our_commit_is_forgotten() -> None:
    stale = broken_render("app path does not exist")
    stale["metadata"]["annotations"] = {"argocd.argoproj.io/refresh": "normal"}
    seen = [(0.0, observe(stale, fresh=False)), (9.0, observe(stale)), (9.5, observe(application(), RUNNING))]
    assert outcome(follow(seen)) == "deployed"


def test_degraded_fails_after_the_grace_and_names_the_resource() -> None:
    resources = [
        {"kind": "Service", "name": "web", "status": "Synced", "health": {"status": "Healthy"}},
        {
            "kind": "Deployment",
            "name": "web",
            "status": "Synced",
            "health": {"status": "Degraded", "message": 'Deployment "web" exceeded its progress deadline'},
        },
    ]
    seen = observe(
        application(health="Degraded", status={"resources": resources}), tree(pod(reason="ContainerCreating"))
    )
    assert outcome(staying(seen, 29)) == "pending"
    verdict = staying(seen, 30)
    assert isinstance(verdict, Final)
    cause = verdict.application.cause
    assert cause is not None
    assert (cause.reason, cause.resource) == ("Degraded", "Deployment/web")
    assert cause.message == 'Deployment "web" exceeded its progress deadline'
    assert str(verdict.pod) == "Pod/web-new"


def test_degraded_that_recovers_within_the_grace_is_deployed() -> None:
    degraded = observe(application(health="Degraded"), tree(pod(reason="ContainerCreating")))
    assert outcome(follow([(0, degraded), (29, degraded), (30, observe(application(), RUNNING))])) == "deployed"


def test_pods_that_may_not_be_made_are_told_by_their_replica_set() -> None:
    """Resource health may be missing in the Application; a quota shows on the newest ReplicaSet alone."""
    denied = replica_set("newest", 3, health={"status": "Degraded", "message": "exceeded quota: q"})
    verdict = staying(observe(application(health="Progressing"), tree(denied)), 30)
    assert isinstance(verdict, Final)
    assert verdict.application.cause is not None
    assert (verdict.application.cause.resource, verdict.application.cause.message) == (
        "ReplicaSet/newest",
        "exceeded quota: q",
    )


def test_a_pause_is_suspended_after_the_grace_since_a_timed_one_ends() -> None:
    resources = [{"kind": "Rollout", "name": "web", "health": {"status": "Suspended", "message": "Rollout is paused"}}]
    paused = observe(application(health="Suspended", status={"resources": resources}), RUNNING)
    assert outcome(staying(paused, 29)) == "pending"
    verdict = staying(paused, 30)
    assert isinstance(verdict, Final)
    assert verdict.application.cause is not None
    assert (outcome(verdict), verdict.application.cause.message) == ("suspended", "Rollout is paused")


def test_an_image_that_no_manifest_uses_is_named() -> None:
    verdict = staying(observe(application(), tree(pod(OLD_IMAGE))), 30)
    assert isinstance(verdict, Final)
    assert verdict.application.cause is not None
    assert reason(verdict) == "ImageNotUsed"
    assert f"Pod/web-new runs {OLD_IMAGE}, not {IMAGE}" in verdict.application.cause.message


def test_a_commit_whose_manifests_name_another_tag_is_not_waited_for() -> None:
    results = [{"kind": "Deployment", "name": "web", "status": "Synced", "images": [OLD_IMAGE, "redis:7"]}]
    progressing = application(health="Progressing", results=results)
    verdict = staying(observe(progressing, tree(pod(OLD_IMAGE, "ImagePullBackOff"))), 3)
    assert isinstance(verdict, Final)
    assert verdict.application.cause is not None
    assert reason(verdict) == "ImageNotUsed"
    assert f"its manifests name {OLD_IMAGE}, not {IMAGE}" in verdict.application.cause.message
    assert outcome(staying(observe(progressing, RUNNING), 60)) == "pending"


# what waits for a sync


def test_without_automated_sync_the_wait_ends_soon_and_says_so() -> None:
    manual = observe(application(OURS, "OutOfSync", synced=OLD, automated=False))
    assert outcome(staying(manual, 2.9)) == "pending"
    verdict = staying(manual, 3)
    assert (outcome(verdict), reason(verdict)) == ("suspended", "ManualSync")


def test_an_automated_sync_that_does_not_begin_is_looked_into() -> None:
    stalled = observe(application(OURS, "OutOfSync", synced=OLD))
    early, late = staying(stalled, 2.9), staying(stalled, 3)
    assert isinstance(early, Pending)
    assert isinstance(late, Pending)
    assert (early.questions, late.questions) == ((), ("sync window",))
    blocked = observe(application(OURS, "OutOfSync", synced=OLD), blocked="blocked by sync window")
    verdict = judge(blocked, {}, 0)
    assert (outcome(verdict), reason(verdict)) == ("sync_failed", "SyncWindow")


DIFFERING = {"resources": [{"kind": "Job", "name": "x", "status": "OutOfSync"}]}


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (observe(application(OLD), fresh=False), "did not answer the refresh"),
        (observe(application(OLD)), "follows main of https://git.example/acme/deploy.git"),
        (observe(application(LATER), known=False), "whether it contains aaaaaaa cannot be told"),
        (observe(application(OURS, "OutOfSync", phase="Running", message="waiting for hook")), "waiting for hook"),
        (
            observe(application(OURS, "OutOfSync", phase="Running", synced=OLD, message="Retrying attempt #4")),
            "still syncing 0000000; Argo CD still tries 0000000: Retrying attempt #4",
        ),
        (observe(broken_render("connection refused"), fresh=True), "connection refused"),
        (observe(application(OURS, "OutOfSync", status=DIFFERING)), "these differ from git: Job/x"),
        (observe(application(health="Progressing"), tree(pod(reason="Pending"))), "Pod/web-new: Pending"),
        (observe(application()), "its resource tree was not to be had"),
    ],
)  # fmt: skip
def test_running_out_of_time_says_what_was_waited_for(seen: Observation, words: str) -> None:
    final = timed_out(seen, 600)
    assert final.application.outcome == "timed_out"
    assert final.application.cause is not None
    assert final.application.cause.message.startswith("after 600 s: ")
    assert words in final.application.cause.message


def test_what_goes_on_is_told_in_a_few_words() -> None:
    seen = observe(application(health="Progressing"), tree(pod(), pod(reason="ContainerCreating", name="web-2")))
    verdict = judge(seen, {}, 0)
    assert isinstance(verdict, Pending)
    pods = "1/2 pods on openegflask:1111111 · Pod/web-2: ContainerCreating"
    assert verdict.text == f"Progressing · Synced at aaaaaaa · {pods}"


@pytest.mark.parametrize("shape", [{}, {"metadata": None, "spec": None, "status": None}, {"status": {"sync": {}}}])
def test_nothing_is_required_of_the_json(shape: Json) -> None:
    assert parse_state(shape).sync == "Unknown"
    assert parse_tree(shape) == Tree()
