"""The simulated cluster, with the test's own clock."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.sandbox.cluster import FAULT_KINDS, Cluster, Fault, FaultKind, InvalidManifest
from pipeline.sandbox.workload import Pod, Workload, key_of


class Clock:
    """Time that moves when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._order), action))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = end


class Stage:
    """A cluster whose pods are ready after a second, and what was seen of it."""

    def __init__(self, faults: dict[str, Fault] | None = None, images: Callable[[str], bool] = lambda _: True) -> None:
        self.clock = Clock()
        self.cluster = Cluster(self.clock, pod_seconds=1, progress_deadline_seconds=60, has_image=images)
        for tag, fault in (faults or {}).items():
            self.cluster.set_fault(tag, fault)

    def roll(self, tag: str, kind: str = "Deployment", **spec: Any) -> Workload:
        found = manifest(tag, kind, **spec)
        self.cluster.apply(found)
        return self.cluster.workloads[key_of(found)]

    def settled(self, tag: str, kind: str = "Deployment", **spec: Any) -> Workload:
        workload = self.roll(tag, kind, **spec)
        self.clock.advance(30)
        assert workload.health()[0] == "Healthy"
        return workload

    def reasons(self, workload: Workload, seconds: float) -> list[tuple[str, str]]:
        """What the newest pod's reason and health were over the next seconds, each change once."""
        seen: list[tuple[str, str]] = []
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)
            pod = newest(workload)
            if (state := (pod.reason, pod.health)) not in seen[-1:]:
                seen.append(state)
        return seen


def manifest(tag: str, kind: str = "Deployment", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "web", "image": f"example/web:{tag}"}, {"name": "side", "image": "example/side:v1"}]
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}
    metadata = {"name": "web", "namespace": "demo"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": {"template": template, **spec}}


def newest(workload: Workload) -> Pod:
    return workload.updated()[-1]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_a_rollout_ends_with_the_new_pods_alone(kind: str) -> None:
    stage = Stage()
    stage.settled("v1", kind, replicas=3)
    workload = stage.settled("v2", kind, replicas=3)
    wanted = 1 if kind == "DaemonSet" else 3
    assert [pod.images[0] for pod in workload.pods] == ["example/web:v2"] * wanted
    if kind == "StatefulSet":
        assert sorted(pod.name for pod in workload.pods) == ["web-0", "web-1", "web-2"]


@pytest.mark.parametrize(("replicas", "most", "fewest"), [(1, 2, 1), (2, 3, 2), (4, 5, 3), (10, 13, 8)])
def test_a_deployment_keeps_within_a_quarter_of_its_size(replicas: int, most: int, fewest: int) -> None:
    stage = Stage()
    workload = stage.settled("v1", replicas=replicas)
    stage.roll("v2", replicas=replicas)
    while workload.health()[0] != "Healthy":
        stage.clock.advance(0.05)
        assert len(workload.staying()) <= most
        assert sum(pod.available for pod in workload.staying()) >= fewest


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "pull",
            [
                ("Pending", "Progressing"),
                ("ContainerCreating", "Progressing"),
                ("ErrImagePull", "Degraded"),
                ("ImagePullBackOff", "Degraded"),
            ],
        ),
        (
            "crash",
            [
                ("Pending", "Progressing"),
                ("ContainerCreating", "Progressing"),
                ("Running", "Progressing"),
                ("Error", "Progressing"),
                ("Running", "Degraded"),
                ("Error", "Degraded"),
                ("CrashLoopBackOff", "Degraded"),
            ],
        ),
        (
            "oom",
            [
                ("Pending", "Progressing"),
                ("ContainerCreating", "Progressing"),
                ("Running", "Progressing"),
                ("OOMKilled", "Progressing"),
                ("Running", "Degraded"),
                ("OOMKilled", "Degraded"),
                ("CrashLoopBackOff", "Degraded"),
            ],
        ),
        (
            "recover",
            [
                ("Pending", "Progressing"),
                ("ContainerCreating", "Progressing"),
                ("Running", "Progressing"),
                ("Error", "Progressing"),
                ("Running", "Degraded"),
                ("Error", "Degraded"),
                ("CrashLoopBackOff", "Degraded"),
            ],
        ),
        ("vault-init", [("Pending", "Progressing"), ("Init:0/1", "Progressing")]),
        (
            "never-ready",
            [("Pending", "Progressing"), ("ContainerCreating", "Progressing"), ("Running", "Progressing")],
        ),
        ("slow", [("Pending", "Progressing"), ("ContainerCreating", "Progressing"), ("Running", "Progressing")]),
    ],
)
def test_a_fault_shows_what_a_kubelet_would_report(kind: FaultKind, expected: list[tuple[str, str]]) -> None:
    stage = Stage({"v2": Fault(kind)})
    workload = stage.settled("v1", replicas=2)
    stage.roll("v2", replicas=2)
    assert [newest(workload).reason] == ["Pending"]
    assert stage.reasons(workload, 2.5)[: len(expected)] == expected
    assert workload.health()[0] == "Progressing"
    assert sum(pod.available for pod in workload.staying()) == 2


@pytest.mark.parametrize("kind", ["recover", "slow"])
def test_what_recovers_is_healthy_in_the_end(kind: FaultKind) -> None:
    stage = Stage({"v1": Fault(kind)})
    workload = stage.settled("v1")
    assert newest(workload).restarts == (2 if kind == "recover" else 0)
    assert newest(workload).ready == {"web", "side"}


@pytest.mark.parametrize("kind", ["pull", "crash", "never-ready", "vault-init"])
def test_a_deployment_is_degraded_only_after_its_progress_deadline(kind: FaultKind) -> None:
    stage = Stage({"v2": Fault(kind)})
    workload = stage.settled("v1")
    stage.roll("v2", progressDeadlineSeconds=20)
    stage.clock.advance(19)
    assert workload.health()[0] == "Progressing"
    stage.clock.advance(2)
    assert workload.health() == ("Degraded", 'Deployment "web" exceeded its progress deadline')


@pytest.mark.parametrize("kind", ["pull", "vault-init", "never-ready", "crash"])
def test_what_is_mended_goes_on(kind: FaultKind) -> None:
    stage = Stage({"v1": Fault(kind)})
    workload = stage.roll("v1")
    stage.clock.advance(90)
    assert workload.health()[0] == "Degraded"
    stage.cluster.set_fault("v1", None)
    stage.clock.advance(310)
    assert workload.health() == ("Healthy", "")


def test_a_pause_is_suspended_until_it_is_promoted() -> None:
    stage = Stage({"v2": Fault("suspended")})
    workload = stage.settled("v1", replicas=3)
    stage.roll("v2", replicas=3)
    stage.clock.advance(100)
    assert workload.health() == ("Suspended", "Deployment is paused")
    assert len(workload.updated()) == 1
    stage.cluster.set_fault("v2", None)
    stage.clock.advance(10)
    assert workload.health() == ("Healthy", "")


def test_a_broken_pod_of_an_earlier_rollout_stands_beside_the_new_one_for_a_while() -> None:
    stage = Stage({"v2": Fault("crash")})
    workload = stage.settled("v1", replicas=2)
    stage.roll("v2", replicas=2)
    stage.clock.advance(10)
    stage.roll("v3", replicas=2)
    stage.clock.advance(0.1)
    assert {(pod.images[0], pod.health) for pod in workload.pods} == {
        ("example/web:v1", "Healthy"),
        ("example/web:v2", "Degraded"),
        ("example/web:v3", "Progressing"),
    }
    stage.clock.advance(10)
    assert {pod.images[0] for pod in workload.pods} == {"example/web:v3"}


def test_going_back_takes_up_the_old_replica_set_under_a_new_revision() -> None:
    stage = Stage()
    first = stage.settled("v1").replica_sets[0].uid
    stage.settled("v2")
    workload = stage.settled("v1")
    assert [item.revision for item in workload.replica_sets] == [2, 3]
    assert workload.replica_sets[-1].uid == first


def test_an_image_that_is_not_there_yet_is_pulled_when_it_comes() -> None:
    images: set[str] = set()
    stage = Stage(images=lambda image: "web" not in image or image in images)
    workload = stage.roll("v1")
    stage.clock.advance(5)
    assert newest(workload).message == 'Back-off pulling image "example/web:v1"'
    images.add("example/web:v1")
    stage.clock.advance(10)
    assert workload.health() == ("Healthy", "")


@pytest.mark.parametrize(
    ("key", "image", "found"),
    [
        ("v1", "example/web:v1", True),
        ("v1", "127.0.0.1:5000/web:v1", True),
        ("web:v1", "127.0.0.1:5000/example/web:v1", True),
        ("example/web:v1", "127.0.0.1:5000/example/web:v1", True),
        ("b:v1", "127.0.0.1:5000/example/web:v1", False),
        ("v1", "example/web:v11", False),
        ("v1", "example/web", False),
        ("v1", "example/web:v1@sha256:" + "0" * 64, True),
    ],
)
def test_a_fault_is_tied_to_an_exact_tag(key: str, image: str, found: bool) -> None:
    assert (Stage({key: Fault("crash")}).cluster.fault_of(image) is not None) == found


def test_zero_replicas_are_healthy_at_once() -> None:
    assert Stage().roll("v1", replicas=0).health() == ("Healthy", "")


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_every_fault_stops_the_rollout_or_lets_it_end(kind: FaultKind) -> None:
    stage = Stage({"v2": Fault(kind)})
    workload = stage.settled("v1")
    if kind == "sync":
        with pytest.raises(InvalidManifest, match=r'Deployment\.apps "web" is invalid'):
            stage.roll("v2")
    else:
        stage.roll("v2")
    stage.clock.advance(600)
    assert any(pod.available for pod in workload.pods)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"replicas": "many"}, "spec.replicas: Invalid value"),
        ({"template": None}, "spec.template.spec.containers: Required value"),
        ({"template": {"spec": {"containers": [{"name": "web"}]}}}, "name and image are required"),
    ],
)
def test_a_senseless_manifest_is_refused_and_nothing_changes(spec: dict[str, Any], message: str) -> None:
    stage = Stage()
    workload = stage.settled("v1")
    with pytest.raises(InvalidManifest, match=message):
        stage.roll("v2", **spec)
    assert newest(workload).images[0] == "example/web:v1"
