"""The loop around the judgement: what it asks Argo CD, when it stops, and what a person reads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.core.argocd import (
    Down,
    Event,
    Evidence,
    Grown,
    Lost,
    Pod,
    Seen,
    Tree,
    Up,
    parse_state,
    parse_tree,
)
from pipeline.core.deployment import Application, Cause, Image, Rollout
from pipeline.errors import (
    ApplicationNotFound,
    ArgoCDDenied,
    PipelineError,
    RolloutFailed,
    RolloutSuspended,
    RolloutTimedOut,
    SyncFailed,
    Unreachable,
    UsageError,
)
from pipeline.steps.wait_rollout import Inputs, error_of, wait_rollout
from tests.argocd_shapes import (
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
    tree,
)

FLASK = Image(name="openegflask", repository=REPOSITORY, tag=TAG)


@dataclass
class Story:
    """An Argo CD that tells events at their times, by a clock that only waiting moves."""

    events: list[tuple[float, Event]]
    tree_now: Json = field(default_factory=dict)
    evidence: Evidence | PipelineError = field(default_factory=Evidence)
    sync_answers: list[str | PipelineError | None] = field(default_factory=list)
    window: str | None = None
    now: float = 0.0
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    # Progress

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, key: str, state: str) -> None:
        self.shown.append(f"{key}: {state}")

    # ArgoCD

    @contextmanager
    def watch(self, applications: Sequence[str]) -> Iterator["Story"]:
        self.asked.append(f"watch {' '.join(applications)}")
        yield self

    def sync(self, application: str) -> str | None:
        self.asked.append(f"sync {application} at {self.now:g}")
        answer = self.sync_answers.pop(0) if self.sync_answers else None
        if isinstance(answer, PipelineError):
            raise answer
        return answer

    def end_sync(self, application: str) -> None:
        self.asked.append(f"end sync {application} at {self.now:g}")
        if isinstance(self.evidence, PipelineError):
            raise self.evidence

    def tree(self, application: str) -> Tree:
        self.asked.append(f"tree {application}")
        return parse_tree(self.tree_now)

    def explain(self, application: str, pod: Pod) -> Evidence:
        self.asked.append(f"explain {application} {pod}")
        if isinstance(self.evidence, PipelineError):
            raise self.evidence
        return self.evidence

    def sync_window(self, application: str) -> str | None:
        self.asked.append(f"window {application}")
        return self.window

    # Feed

    def next(self, seconds: float) -> Event | None:
        assert seconds < 1e6, "the wait would never end"
        if self.events and self.events[0][0] <= self.now + seconds:
            at, event = self.events.pop(0)
            self.now = max(self.now, at)
            return event
        self.now += seconds
        return None

    def refresh(self, application: str) -> None:
        self.asked.append(f"refresh {application} at {self.now:g}")

    def follow(self, application: str) -> None:
        if f"follow {application}" not in self.asked:
            self.asked.append(f"follow {application}")

    def drop(self, application: str) -> None:
        self.asked.append(f"drop {application}")


class Line:
    """The history of the commits in `argocd_shapes`; counts its questions."""

    def __init__(self) -> None:
        self.questions = 0

    def descends(self, revision: str, ancestor: str) -> bool | None:
        self.questions += 1
        return descends(revision, ancestor)


def seen(*arguments: Any, refreshed: bool = False, **options: Any) -> Seen:
    return Seen(parse_state(application(*arguments, **options)), refreshed)


def grown(*nodes: Json, name: str = "demo") -> Grown:
    return Grown(name, parse_tree(tree(*nodes)))


def run(story: Story, *, history: Line | None = None, **inputs: Any) -> Rollout:
    given = {"applications": ("demo",), "revision": OURS, "images": (FLASK,), "timeout_seconds": 120.0, **inputs}
    return wait_rollout(story, history or Line(), Inputs(**given), story, story.clock)


def only(rollout: Rollout) -> Application:
    (one,) = rollout.applications
    return one


def test_a_deployment_is_followed_to_its_proof() -> None:
    story = Story(
        [
            (0.0, seen(OLD)),
            (0.1, seen(OLD, refreshing=True)),
            (0.3, seen(OURS, "OutOfSync", phase=None, refreshed=True)),
            (0.4, seen(OURS, "OutOfSync", phase="Running")),
            (0.5, seen(OURS, "OutOfSync")),
            (0.6, seen(health="Progressing")),
            (0.7, grown(pod(reason="ContainerCreating"))),
            (5.0, grown(pod())),
            (5.1, seen()),
        ],
        tree_now=tree(pod()),
    )
    one = only(run(story))
    assert (one.outcome, one.revision, story.now) == ("deployed", OURS, 5.1)
    assert story.asked == ["watch demo", "refresh demo at 0", "follow demo", "tree demo", "drop demo"]
    assert story.shown[-1] == "demo: deployed · 1 pod runs openegflask:1111111; Synced at aaaaaaa and Healthy"


def test_a_sync_that_heals_one_resource_hides_nothing_of_the_one_before() -> None:
    """What a sync took away names its image too, and the sync after it names what it heals alone."""
    results = [
        {"kind": "Deployment", "name": "web", "status": "Pruned", "images": [OLD_IMAGE]},
        {"kind": "CronJob", "name": "web", "status": "Synced", "images": [NEW_IMAGE]},
    ]
    story = Story(
        [
            (0.1, seen(OURS, "OutOfSync", phase="Running", refreshed=True)),
            (0.5, seen(OURS, "OutOfSync", results=results)),
            (0.6, seen(OURS, "OutOfSync", phase=None)),
            (0.7, seen(results=[])),
        ],
        tree_now=tree(),
    )
    one = only(run(story))
    assert one.proof
    assert "is expected here (no replicas, or a CronJob)" in one.proof


def test_git_is_looked_at_again_in_a_rollout_that_is_under_way() -> None:
    """Nobody else may tell Argo CD that the branch was rewritten."""
    story = Story([(0.1, seen(health="Progressing", refreshed=True)), (20.0, seen(OTHER, refreshed=True))])
    assert only(run(story)).outcome == "failed"
    assert story.asked.count("refresh demo at 15") == 1


@pytest.mark.parametrize("forbidden", [False, True])
def test_a_failing_sync_of_another_commit_is_ended_where_that_is_asked_for(forbidden: bool) -> None:
    failed = [{"kind": "Deployment", "name": "web", "status": "SyncFailed", "message": "field is immutable"}]
    busy = seen(OURS, "Synced", phase="Running", synced=OLD, results=failed, refreshed=True)
    story = Story([(0.1, busy), (9.0, busy), (20.0, seen())], tree_now=tree(pod()))
    if forbidden:
        story.evidence = ArgoCDDenied("demo: permission denied: applications, sync")
    assert only(run(story)).outcome == "deployed"
    assert not any(question.startswith("end") for question in story.asked)

    story.events, story.now, story.asked = [(0.1, busy), (9.0, busy), (20.0, seen())], 0.0, []
    assert only(run(story, overtake=True)).outcome == "deployed"
    ended = [question for question in story.asked if question.startswith("end")]
    assert ended[0] == "end sync demo at 0.1"
    assert len(ended) == (1 if forbidden else 3), "asked again while it goes on, unless it is forbidden"
    assert any("permission denied" in line for line in story.said) == forbidden


def test_an_application_that_already_runs_our_revision_returns_at_once() -> None:
    history = Line()
    story = Story([(0.0, seen())], tree_now=tree(pod()))
    assert only(run(story, history=history)).outcome == "deployed"
    assert (story.now, history.questions) == (0.0, 0)


def test_healthy_before_the_sync_begins_does_not_return_early() -> None:
    story = Story([(0.0, seen(OLD)), (0.2, seen(OLD, refreshed=True))], tree_now=tree(pod(OLD_IMAGE)))
    assert only(run(story)).outcome == "timed_out"


def test_a_stale_tree_of_the_stream_is_not_taken_for_proof() -> None:
    story = Story([(0.0, grown(pod())), (0.1, seen())], tree_now=tree(pod(OLD_IMAGE)))
    assert only(run(story, timeout_seconds=10)).outcome == "timed_out"


def test_history_is_asked_once_per_revision_and_not_before_the_refresh() -> None:
    history = Line()
    early = Story([(0.0, seen(OLD))])
    run(early, history=history, timeout_seconds=5)
    assert history.questions == 0
    many = Story([(0.1 * at, seen(OLD, version=at, refreshed=at == 1)) for at in range(1, 20)])
    run(many, history=history, timeout_seconds=5)
    assert history.questions == 2  # OLD after OURS? OURS after OLD?


@pytest.mark.parametrize(
    ("event", "now", "outcome"),
    [
        (seen(LATER, refreshed=True), tree(pod()), "deployed"),
        (seen(LATER, refreshed=True), tree(pod(NEW_IMAGE)), "superseded"),
        (seen(OTHER, refreshed=True), tree(pod(OLD_IMAGE)), "failed"),
    ],
    ids=["swallowed", "replaced", "rewritten"],
)
def test_other_commits_than_ours(event: Seen, now: Json, outcome: str) -> None:
    assert only(run(Story([(0.0, event)], tree_now=now))).outcome == outcome


def test_a_history_that_fails_is_asked_again_later() -> None:
    class Moody(Line):
        def descends(self, revision: str, ancestor: str) -> bool | None:
            if self.questions < 2:
                self.questions += 1
                raise Unreachable("git.example: no answer")
            return super().descends(revision, ancestor)

    story = Story([(0.0, seen(LATER, refreshed=True))], tree_now=tree(pod()))
    assert only(run(story, history=Moody(), images=())).outcome == "deployed"
    assert story.now == 1.0
    assert "the order of bbbbbbb and aaaaaaa cannot be told: git.example: no answer" in story.said


def test_a_broken_pod_ends_the_wait_within_three_seconds_with_its_cause() -> None:
    story = Story(
        [
            (0.3, seen(OURS, "OutOfSync", phase=None, refreshed=True)),
            (0.6, seen(health="Progressing")),
            (1.0, grown(pod(reason="CrashLoopBackOff", message="back-off 10s restarting"))),
        ],
        evidence=Evidence(
            container="web", message="exit code 1 (Error)", logs=("boot", "KeyError"), events=("BackOff: x",)
        ),
    )
    one = only(run(story))
    assert one.cause == Cause(
        reason="CrashLoopBackOff",
        message="back-off 10s restarting: exit code 1 (Error)",
        resource="Pod/web-new",
        container="web",
        logs=("boot", "KeyError"),
        events=("BackOff: x",),
    )
    assert story.now == 3.0


def test_a_pod_that_cannot_be_asked_does_not_hide_the_cause() -> None:
    broken = grown(pod(reason="InvalidImageName", message="bad name"))
    story = Story([(0.0, seen(health="Progressing")), (0.0, broken)], evidence=Unreachable("no answer"))
    cause = only(run(story)).cause
    assert cause is not None
    assert (cause.reason, cause.message, cause.logs) == (
        "InvalidImageName",
        "bad name",
        ("(not to be had: no answer)",),
    )


def test_a_failed_hook_is_explained_by_a_pod_that_is_gone() -> None:
    hook = pod("x/migrate:v1", "Error", name="migrate-1", owner="migrate", owner_kind="Job")
    failed = {"kind": "Job", "name": "migrate", "hookPhase": "Failed", "message": "Job has reached its limit"}
    story = Story(
        [
            (0.0, seen(OURS, "OutOfSync", phase="Running", refreshed=True)),
            (0.5, grown(hook)),
            (1.0, grown()),
            (2.0, seen(OURS, "OutOfSync", phase="Running", results=[failed], version=2)),
        ],
        evidence=Evidence(container="migrate", logs=("no such table: users",)),
    )
    one = only(run(story))
    assert one.cause is not None
    assert (one.outcome, one.cause.resource, one.cause.logs) == (
        "sync_failed",
        "Job/migrate",
        ("no such table: users",),
    )
    assert story.asked.count("explain demo Pod/migrate-1") == 1
    assert story.now == 32.0


def test_a_hanging_vault_agent_is_asked_after_ten_seconds_and_fails() -> None:
    vault = Evidence(container="vault-agent-init", running=True, logs=("[ERROR] permission denied",))
    story = Story([(0.0, seen(health="Progressing")), (0.0, grown(pod(reason="Init:0/1")))], evidence=vault)
    one = only(run(story))
    assert one.cause is not None
    assert (one.outcome, one.cause.container, one.cause.logs) == ("failed", "vault-agent-init", vault.logs)
    assert story.now == 10.0


def test_another_hanging_init_container_is_asked_every_five_seconds_until_the_deadline() -> None:
    story = Story(
        [(0.0, seen(health="Progressing")), (0.0, grown(pod(reason="Init:0/1")))],
        evidence=Evidence(container="migrate", running=True, logs=("step 1 of 9",)),
    )
    one = only(run(story, timeout_seconds=21))
    assert one.cause is not None
    assert (one.outcome, one.cause.logs) == ("timed_out", ("step 1 of 9",))
    assert story.asked.count("explain demo Pod/web-new") == 4  # at 10, 15 and 20 s, and to explain the end


def test_argocd_looks_at_git_again_while_our_commit_is_not_there() -> None:
    story = Story([(0.2, seen(OLD, refreshed=True))])
    run(story, timeout_seconds=40)
    assert [line for line in story.asked if "refresh" in line] == [f"refresh demo at {at}" for at in (0, 1, 16, 31)]


def test_a_refresh_that_another_ones_answer_swallowed_is_asked_for_at_once() -> None:
    story = Story([(0.2, seen(OLD, refreshed=True)), (1.2, seen(refreshed=True))], tree_now=tree(pod()))
    assert only(run(story)).outcome == "deployed"
    assert [line for line in story.asked if "refresh" in line] == ["refresh demo at 0", "refresh demo at 1"]


def test_no_second_look_at_git_is_asked_for_where_our_commit_is_there() -> None:
    story = Story([(0.2, seen(health="Progressing", refreshed=True)), (9.0, seen(version=2))], tree_now=tree(pod()))
    assert only(run(story)).outcome == "deployed"
    assert [line for line in story.asked if "refresh" in line] == ["refresh demo at 0"]


# outages


def test_a_short_outage_is_survived_and_told() -> None:
    story = Story(
        [(0.0, seen(health="Progressing")), (1.0, Down(Unreachable("refused"))), (40.0, Up()), (41.0, seen())],
        tree_now=tree(pod()),
    )
    assert only(run(story)).outcome == "deployed"
    assert story.said == ["Argo CD gives no usable answer (refused); trying again", "Argo CD answers again"]


@pytest.mark.parametrize(("timeout", "ends"), [(600.0, 61.0), (30.0, 30.0)])
def test_a_long_outage_is_unreachable_also_when_the_deadline_comes_first(timeout: float, ends: float) -> None:
    story = Story([(0.0, seen(health="Progressing")), (1.0, Down(Unreachable("connection refused")))])
    one = only(run(story, timeout_seconds=timeout))
    assert one.cause is not None
    assert (one.outcome, story.now) == ("unreachable", ends)
    assert one.cause.message.endswith("s: connection refused")


def test_an_outage_of_what_renders_manifests_is_told_although_git_is_looked_at_again_and_again() -> None:
    message = "rpc error: code = Unavailable desc = connection refused"
    status = {"sync": {"status": "Unknown"}, "conditions": [{"type": "ComparisonError", "message": message}]}
    events: list[tuple[float, Event]] = [
        (at, seen("", refreshing=at % 15 == 1, refreshed=True, status=status, version=at)) for at in (0, 16, 18, 31, 33)
    ]
    one = only(run(Story(events)))
    assert one.cause is not None
    assert (one.outcome, one.cause.message) == ("sync_failed", message)


def test_a_refresh_that_an_outage_swallowed_is_asked_for_again() -> None:
    story = Story(
        [(0.0, Down(Unreachable("refused"))), (3.0, seen(OLD)), (3.0, Up()), (3.5, seen(refreshed=True))],
        tree_now=tree(pod()),
    )
    assert only(run(story)).outcome == "deployed"
    assert story.asked[1:3] == ["refresh demo at 0", "refresh demo at 3"]


def test_a_branch_that_goes_back_behind_our_commit_under_the_wait_fails() -> None:
    story = Story([(0.0, seen(health="Progressing", refreshed=True)), (5.0, seen(OLD, version=2))])
    one = only(run(story))
    assert one.cause is not None
    assert (one.outcome, one.cause.reason, story.now) == ("failed", "BranchRewritten", 35.0)


def test_a_stopped_controller_runs_out_the_time_and_is_named() -> None:
    one = only(run(Story([(0.0, seen(OLD, refreshing=True))])))
    assert one.cause is not None
    assert one.outcome == "timed_out"
    assert "application controller may be stopped" in one.cause.message


# several applications


def test_each_application_has_its_own_outcome() -> None:
    story = Story(
        [
            (0.0, Lost("gone", ApplicationNotFound("gone: no such application"))),
            (0.0, Lost("secret", ArgoCDDenied("secret: permission denied"))),
            (0.1, seen(name="good")),
            (0.2, seen(OURS, "OutOfSync", phase="Failed", message="refused", name="bad")),
            (0.3, seen(name="stranger")),
        ],
        tree_now=tree(pod()),
    )
    rollout = run(story, applications=("good", "bad", "gone", "secret"))
    assert {one.name: one.outcome for one in rollout.applications} == {
        "good": "deployed",
        "bad": "sync_failed",
        "gone": "not_found",
        "secret": "denied",
    }
    told = str(error_of(rollout)).splitlines()
    assert told[1:] == ["gone: ApplicationNotFound: no such application", "secret: ArgoCDDenied: permission denied"]


def test_an_application_that_is_deleted_meanwhile_stays_lost() -> None:
    deleted = Lost("demo", ApplicationNotFound("demo: the application was deleted meanwhile"))
    story = Story([(0.0, seen(health="Progressing")), (20.0, deleted)], tree_now=tree(pod()))
    assert (only(run(story)).outcome, story.now) == ("not_found", 20.0)


# --sync


def test_sync_is_asked_for_once_argocd_knows_the_commit() -> None:
    story = Story(
        [
            (0.0, seen(OLD, automated=False)),
            (0.3, seen(OURS, "OutOfSync", synced=OLD, automated=False, refreshed=True)),
            (0.5, seen(OURS, "OutOfSync", phase="Running", automated=False)),
            (1.0, seen(automated=False)),
        ],
        tree_now=tree(pod()),
    )
    assert only(run(story, sync=True)).outcome == "deployed"
    assert [line for line in story.asked if "sync" in line] == ["sync demo at 0.3"]


def test_sync_begins_anew_where_the_last_one_of_the_commit_failed() -> None:
    failed: Any = {"phase": "Failed", "automated": False}
    story = Story(
        [
            (0.0, seen(OURS, "OutOfSync", **failed)),
            (0.3, seen(OURS, "OutOfSync", refreshed=True, **failed)),
            (0.4, seen(OURS, "OutOfSync", operation={"sync": {}}, **failed)),
            (1.0, seen(automated=False)),
        ],
        tree_now=tree(pod()),
    )
    assert only(run(story, sync=True)).outcome == "deployed"


def test_sync_that_fails_is_not_begun_again() -> None:
    manual = {"automated": False}
    story = Story(
        [
            (0.3, seen(OURS, "OutOfSync", synced=OLD, refreshed=True, **manual)),
            (0.5, seen(OURS, "OutOfSync", phase="Running", **manual)),
            (1.0, seen(OURS, "OutOfSync", phase="Failed", message="field is immutable", **manual)),
        ]
    )
    assert only(run(story, sync=True)).outcome == "sync_failed"
    assert [line for line in story.asked if "sync" in line] == ["sync demo at 0.3"]


def test_sync_while_another_operation_runs_is_tried_again() -> None:
    """Argo CD answers 'another operation is already in progress', which the edge takes for begun."""
    story = Story(
        [(0.3, seen(OURS, "OutOfSync", synced=OLD, automated=False, refreshed=True)), (9.0, seen(automated=False))]
    )
    story.tree_now = tree(pod())
    assert only(run(story, sync=True)).outcome == "deployed"
    assert [line for line in story.asked if "sync" in line] == ["sync demo at 0.3", "sync demo at 5.3"]


def test_sync_in_a_window_that_denies_ends_with_argocds_words() -> None:
    story = Story(
        [(0.3, seen(OURS, "OutOfSync", synced=OLD, automated=False, refreshed=True))],
        sync_answers=["cannot sync: blocked by sync window"],
    )
    one = only(run(story, sync=True))
    assert one.cause is not None
    assert (one.outcome, one.cause.message) == ("sync_failed", "cannot sync: blocked by sync window")


def test_sync_without_the_right_is_denied() -> None:
    story = Story(
        [(0.3, seen(OURS, "OutOfSync", synced=OLD, automated=False, refreshed=True))],
        sync_answers=[ArgoCDDenied("demo: applications, sync, default/demo")],
    )
    assert only(run(story, sync=True)).outcome == "denied"


def test_automated_sync_is_left_alone() -> None:
    story = Story([(0.3, seen(OURS, "OutOfSync", phase=None, refreshed=True)), (1.0, seen())], tree_now=tree(pod()))
    assert only(run(story, sync=True)).outcome == "deployed"
    assert not [line for line in story.asked if line.startswith("sync")]


def test_without_sync_a_manual_application_ends_as_suspended_and_says_what_to_do() -> None:
    story = Story([(0.3, seen(OURS, "OutOfSync", synced=OLD, automated=False, refreshed=True))])
    rollout = run(story)
    error = error_of(rollout)
    assert isinstance(error, RolloutSuspended)
    assert "automated sync is off" in str(error)
    assert error.remedy.startswith("Pass --sync")
    assert story.now < 5


def test_an_automated_sync_that_a_window_keeps_from_beginning_is_found() -> None:
    story = Story([(0.0, seen(OURS, "OutOfSync", synced=OLD, refreshed=True))], window="blocked by sync window (deny)")
    one = only(run(story))
    assert one.cause is not None
    assert (one.outcome, one.cause.message, story.now) == ("sync_failed", "blocked by sync window (deny)", 3.0)


# what a person reads


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        ("failed", RolloutFailed),
        ("sync_failed", SyncFailed),
        ("timed_out", RolloutTimedOut),
        ("suspended", RolloutSuspended),
        ("not_found", ApplicationNotFound),
        ("denied", ArgoCDDenied),
        ("unreachable", Unreachable),
        ("deployed", None),
        ("superseded", None),
    ],
)
def test_each_outcome_has_its_error(outcome: Any, error: type[PipelineError] | None) -> None:
    found = error_of(Rollout(applications=(Application(name="demo", outcome=outcome),)))
    assert type(found) is (error or type(None))


def test_the_worst_outcome_gives_the_error_and_every_bad_one_is_told() -> None:
    crash = Cause(
        reason="CrashLoopBackOff",
        message="exit code 1",
        resource="Pod/web-1",
        container="web",
        logs=("boot", "KeyError: 'X'"),
        events=("BackOff: restarting",),
    )
    rollout = Rollout(
        applications=(
            Application(name="slow", outcome="timed_out", cause=Cause(reason="TimedOut", message="after 5 s")),
            Application(name="good", outcome="deployed"),
            Application(name="web", outcome="failed", cause=crash),
        )
    )
    error = error_of(rollout)
    assert isinstance(error, RolloutFailed)
    assert str(error).splitlines() == [
        "web: CrashLoopBackOff in Pod/web-1, container web: exit code 1",
        "  | boot",
        "  | KeyError: 'X'",
        "  event: BackOff: restarting",
        "slow: TimedOut: after 5 s",
    ]


@pytest.mark.parametrize("inputs", [{"applications": ()}, {"revision": None, "images": ()}])
def test_there_must_be_something_to_wait_for(inputs: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        run(Story([]), **inputs)
