"""Argo CD's application controller, simulated: compares git with the cluster, syncs, and says how things stand.

The order of events and the words follow what Argo CD 3.1 was seen to do, stale Healthy included. Applications are
kept as Argo CD's own JSON, because that JSON is what they are for.
"""

import itertools
import json
import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from functools import partial

from pipeline.sandbox.application import Application, Json, Rejected, Target, pick
from pipeline.sandbox.cluster import Cluster, InvalidManifest
from pipeline.sandbox.render import CLUSTER_KINDS, CannotRender, Repositories
from pipeline.sandbox.timeline import Timeline
from pipeline.sandbox.tree import NO_HEALTH_CHECK, tree_of
from pipeline.sandbox.workload import Health, Key, Manifest, Pod, images_of, key_of, now

REFRESH = "argocd.argoproj.io/refresh"
REFRESH_SECONDS = 0.3
KEPT_HISTORY = 10
RETRIES = 5
HEALTH_ORDER: tuple[Health, ...] = ("Healthy", "Suspended", "Progressing", "Missing", "Degraded", "Unknown")


class Controller:
    """Keeps the applications; one thread compares and reads git, the timeline does what takes time.

    Public methods may be called from any thread.
    """

    def __init__(
        self,
        timeline: Timeline,
        cluster: Cluster,
        repositories: Repositories,
        *,
        sync_seconds: float,
        poll_seconds: float,
    ) -> None:
        self._timeline = timeline
        self._lock = timeline.lock
        self._cluster = cluster
        self._repositories = repositories
        self._sync_seconds = sync_seconds
        self._poll_seconds = poll_seconds
        self.applications: dict[str, Application] = {}
        self._versions = itertools.count(1000)
        self._watches: dict[queue.SimpleQueue[Json | None], Callable[[Application], bool]] = {}
        self._tree_watches: dict[queue.SimpleQueue[Json | None], Application] = {}
        self._parked: list[Callable[[], None]] | None = None
        """What came due while the controller was paused; None while it runs."""
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False
        cluster.on_change = self._cluster_changed
        if poll_seconds > 0:
            timeline.after(poll_seconds, self._poll)
        self._thread = threading.Thread(target=self._work, name="sandbox-controller")
        self._thread.start()

    # What the API asks for

    def add(self, name: str, spec: Json, *, blocked: bool = False) -> Application:
        """Begin to follow an application; the first comparison starts at once. Raises Rejected when it exists."""
        with self._lock:
            if name in self.applications:
                raise Rejected(
                    400, 9, f"existing application spec is different, use upsert flag to force update: {name}"
                )
            metadata = {"name": name, "namespace": "argocd", "uid": str(uuid.uuid4()), "creationTimestamp": now()}
            status = {
                "sync": {"status": "Unknown", "comparedTo": pick(spec, "source", "sources", "destination")},
                "health": {"status": "Unknown"},
                "summary": {},
                "resourceHealthSource": "appTree",
                "controllerNamespace": "argocd",
                "sourceHydrator": {},
            }
            app = Application(name=name, spec=spec, metadata=metadata, status=status, blocked=blocked)
            self.applications[name] = app
            self._publish(app, "ADDED")
            self.refresh_soon(app)
            return app

    def remove(self, name: str) -> None:
        """Delete an application with all that it deployed."""
        with self._lock:
            app = self.applications[name]
            self._publish(app, "DELETED")
            del self.applications[name]
            for key in app.live:
                self._cluster.delete(key)
            app.refreshed.set()

    def refresh(self, app: Application, kind: str) -> None:
        """Compare with git now; returns when that is done, and for as long as the controller is paused not at all."""
        with self._lock:
            if "annotations" not in app.metadata:
                app.metadata["annotations"] = {REFRESH: "hard" if kind == "hard" else "normal"}
                app.refreshed.clear()
                self._publish(app)
                self._later(min(REFRESH_SECONDS, self._sync_seconds), partial(self.refresh_soon, app))
            if self._closed:
                return
        app.refreshed.wait()

    def refresh_soon(self, app: Application) -> None:
        """Compare with git, and let nobody wait for it."""
        self._jobs.put(partial(self._compare, app))

    def sync(self, app: Application, revisions: Sequence[str | None], *, prune: bool, username: str) -> None:
        """Begin a sync that a user asked for. A revision of None is what the source says. Raises Rejected."""
        if app.blocked:
            raise Rejected(403, 7, "cannot sync: blocked by sync window")
        commits = []
        for source, revision in app.asked(revisions):
            wanted = source.get("targetRevision") or "HEAD"
            if app.automated is not None and revision not in (None, wanted):
                raise Rejected(400, 9, f"Cannot sync to {revision}: auto-sync currently set to {wanted}")
            try:
                commits.append(self._repositories.resolve(source["repoURL"], revision or wanted))
            except CannotRender as error:
                raise Rejected(400, 9, str(error)) from error
        with self._lock:
            if app.operation is not None:
                raise Rejected(400, 9, "another operation is already in progress")
            sync = app.revisions(commits)
            if prune:
                sync["prune"] = True
            self._begin(app, {"sync": sync, "initiatedBy": {"username": username}, "retry": {}})
            self._jobs.put(partial(self._load_and_sync, app, commits))

    def end_sync(self, app: Application) -> None:
        """End the sync that is under way. Raises Rejected."""
        with self._lock:
            state = app.status.get("operationState")
            if app.operation is None or state is None:
                raise Rejected(400, 3, "Unable to terminate operation. No operation is in progress")
            state["phase"] = "Terminating"
            self._publish(app)
            outcome = state.get("syncResult") or app.by_source(app.tried)
            self._later(self._sync_seconds * 0.2, partial(self._end, app, app.operation, outcome))

    def _end(self, app: Application, operation: Json, outcome: Json) -> None:
        if app.operation is operation:
            self._finish(app, "Failed", "Operation terminated", outcome)

    def restart(self, app: Application, kind: str, name: str) -> None:
        """The resource action `restart`. Raises Rejected when the application has no such workload."""
        with self._lock:
            found = [key for key in app.live if (key.kind, key.name) == (kind, name) and key in self._cluster.workloads]
            if not found:
                raise Rejected(400, 3, f"{kind} {name} not found as part of application {app.name}")
            self._cluster.restart(found[0])

    def pause(self, paused: bool) -> None:
        """Stop or resume the controller: refreshes and syncs wait, pods go on, plain reads still answer."""
        with self._lock:
            if paused == (self._parked is not None):
                return
            due, self._parked = self._parked or [], [] if paused else None
            for action in due:
                action()
            if not paused:
                for app in self.applications.values():
                    self._look_again(app)

    def watch(self, wanted: Callable[[Application], bool]) -> "queue.SimpleQueue[Json | None]":
        """Events of all applications that are `wanted`, beginning with what is there; None ends them."""
        events: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        with self._lock:
            for app in sorted(filter(wanted, self.applications.values()), key=lambda app: app.name):
                events.put({"type": "ADDED", "application": app.as_json()})
            self._watches[events] = wanted
            if self._closed:
                events.put(None)
        return events

    def watch_tree(self, app: Application) -> "queue.SimpleQueue[Json | None]":
        """The application's whole resource tree, now and at each change; None ends it."""
        trees: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        with self._lock:
            trees.put(self.tree(app))
            self._tree_watches[trees] = app
            if self._closed:
                trees.put(None)
        return trees

    def unwatch(self, events: "queue.SimpleQueue[Json | None]") -> None:
        with self._lock:
            self._watches.pop(events, None)
            self._tree_watches.pop(events, None)

    def show(self, app: Application) -> Json:
        """The application as the API shows it."""
        with self._lock:
            return app.as_json()

    def tree(self, app: Application) -> Json:
        """The application's resource tree."""
        with self._lock:
            missing = {} if app.target is None else app.target.manifests
            return tree_of({**missing, **app.live}, app.live, self._cluster.workloads)

    def pods(self, app: Application) -> list[Pod]:
        """The pods of all that the application has deployed."""
        with self._lock:
            return [
                pod for key in app.live if key in self._cluster.workloads for pod in self._cluster.workloads[key].pods
            ]

    def close(self) -> None:
        """End every watch and the thread."""
        with self._lock:
            self._closed = True
            self._parked = None
            for events in [*self._watches, *self._tree_watches]:
                events.put(None)
            for app in self.applications.values():
                app.refreshed.set()
        self._jobs.put(None)
        self._thread.join()

    # Comparison

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._lock:
                if self._parked is not None:
                    self._parked.append(partial(self._jobs.put, job))
                    continue
            job()

    def _poll(self) -> None:
        for app in self.applications.values():
            self.refresh_soon(app)
        self._timeline.after(self._poll_seconds, self._poll)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do `action` in `seconds`, or when the controller is resumed."""

        def act() -> None:
            if self._parked is None:
                action()
            else:
                self._parked.append(action)

        self._timeline.after(seconds, act)

    def _load(self, app: Application, revisions: Sequence[str | None] = ()) -> Target:
        rendered = []
        for place, (source, revision) in enumerate(app.asked(revisions), start=1):
            try:
                wanted = revision or source.get("targetRevision") or "HEAD"
                rendered.append(self._repositories.render(source["repoURL"], wanted, source.get("path", "")))
            except CannotRender as error:
                raise CannotRender(
                    f"Failed to load target state: failed to generate manifest for source {place} of "
                    f"{len(app.sources)}: rpc error: code = Unknown desc = {error}"
                ) from error
        manifests: dict[Key, Manifest] = {}
        for manifest in (manifest for each in rendered for manifest in each.manifests):
            if manifest["kind"] not in CLUSTER_KINDS and not manifest["metadata"].get("namespace"):
                inside = {**manifest["metadata"], "namespace": app.spec["destination"].get("namespace", "default")}
                manifest = {**manifest, "metadata": inside}  # noqa: PLW2901
            manifests[key_of(manifest)] = manifest
        return Target(
            revisions=tuple(each.revision for each in rendered),
            kinds=tuple(each.kind for each in rendered),
            manifests=manifests,
            notes=tuple(note for each in rendered for note in each.notes),
        )

    def _compare(self, app: Application) -> None:
        """Read git and say how the cluster differs; start an automated sync where it does."""
        asked = "annotations" in app.metadata  # a refresh that is asked for from here on needs a later look at git
        try:
            target, trouble = self._load(app), ""
        except CannotRender as error:
            target, trouble = None, str(error)
        with self._lock:
            app.target = target
            self._set_condition(app, "ComparisonError", trouble)
            assess = not app.settling
            self._sync_if_due(app)
            self._state_sync(app)
            if assess:  # before the sync that may just have begun: the health of what ran until now
                self._assess(app)
            app.status["reconciledAt"] = now()
            if asked:
                app.metadata.pop("annotations", None)
                app.refreshed.set()
            self._publish(app)

    def _state_sync(self, app: Application) -> None:
        """Write `status.sync` and each resource's status: how git, as last read, compares with the cluster."""
        sync: Json = {"status": "Unknown", "comparedTo": pick(app.spec, "source", "sources", "destination")}
        for key in ("sourceType", "sourceTypes"):  # as little known as the rest while git cannot be rendered
            app.status.pop(key, None)
        if app.target is not None:
            sync["status"] = "Synced" if app.in_sync() else "OutOfSync"
            sync |= app.revisions(app.target.revisions)
            kinds = list(app.target.kinds)
            app.status.update({"sourceTypes": kinds} if app.spec.get("sources") else {"sourceType": kinds[0]})
        app.status["sync"] = sync

    def _set_condition(self, app: Application, kind: str, message: str) -> None:
        """Set or, without a message, clear a condition. Its time moves only when its text does."""
        conditions = app.status.get("conditions", [])
        if any((item["type"], item["message"]) == (kind, message) for item in conditions):
            return
        conditions = [item for item in conditions if item["type"] != kind]
        if message:
            conditions.append({"type": kind, "message": message, "lastTransitionTime": now()})
        app.status.pop("conditions", None)
        if conditions:
            app.status["conditions"] = conditions

    def _assess(self, app: Application) -> bool:
        """Look at the health of what is deployed; whether anything about it changed."""
        before = json.dumps([app.status.get(key) for key in ("health", "resources", "summary")])
        wanted = app.live if app.target is None else app.target.manifests
        resources, worst = [], 0
        for key, manifest in {**app.live, **wanted}.items():
            resource: Json = {"group": key.group} if key.group else {}
            resource["version"] = manifest["apiVersion"].rpartition("/")[2]
            resource["kind"] = key.kind
            resource.update({"namespace": key.namespace} if key.namespace else {})
            resource["name"] = key.name
            same = app.live.get(key) == wanted.get(key)
            resource["status"] = "Unknown" if app.target is None else "Synced" if same else "OutOfSync"
            if key not in wanted:
                resource["requiresPruning"] = True
            health, message = self._health(app, key)
            if health is not None:
                resource["health"] = {"status": health, **({"message": message} if message else {})}
                worst = max(worst, HEALTH_ORDER.index(health))
            resources.append(resource)
        if resources:
            app.status["resources"] = resources
        else:
            app.status.pop("resources", None)
        if app.status["health"]["status"] != HEALTH_ORDER[worst]:
            app.status["health"] = {"status": HEALTH_ORDER[worst], "lastTransitionTime": now()}
        images = sorted({image for pod in self.pods(app) for image in pod.images})
        app.status["summary"] = {"images": images} if images else {}
        return before != json.dumps([app.status.get(key) for key in ("health", "resources", "summary")])

    def _health(self, app: Application, key: Key) -> tuple[Health | None, str]:
        if key not in app.live:
            return "Missing", "Resource has not been created"
        workload = self._cluster.workloads.get(key)
        if workload is not None:
            return workload.health()
        return (None if key.kind in NO_HEALTH_CHECK else "Healthy"), ""

    def _cluster_changed(self, key: Key) -> None:
        for app in self.applications.values():
            if key in app.live:
                self._look_again(app)

    def _look_again(self, app: Application) -> None:
        """Something moved in the cluster: tell the tree, and the application where its health moved too."""
        if self._parked is not None:
            return
        watching = [trees for trees, watched in self._tree_watches.items() if watched is app]
        if watching:
            tree = self.tree(app)
            for trees in watching:
                trees.put(tree)
        if not app.settling and self._assess(app):
            self._publish(app)

    def _publish(self, app: Application, kind: str = "MODIFIED") -> None:
        """Tell the watches of a new state, unless the application is deleted."""
        if self.applications.get(app.name) is not app:
            return
        app.metadata["resourceVersion"] = str(next(self._versions))
        app.metadata["generation"] = app.metadata.get("generation", 0) + 1
        event = {"type": kind, "application": app.as_json()}
        for events, wanted in self._watches.items():
            if wanted(app):
                events.put(event)

    # Operations

    def _sync_if_due(self, app: Application) -> None:
        """Start an automated sync of the target, unless it was tried, or something forbids it."""
        target = app.target
        if target is None or app.automated is None or app.blocked or app.settling:
            return
        if app.in_sync() or target.revisions == app.tried:
            return
        sync = app.revisions(target.revisions)
        if app.automated.get("prune"):
            sync["prune"] = True
        if options := app.spec["syncPolicy"].get("syncOptions"):
            sync["syncOptions"] = options
        self._begin(app, {"sync": sync, "initiatedBy": {"automated": True}, "retry": {"limit": RETRIES}})
        self._later(self._sync_seconds * 0.2, partial(self._run, app, target))

    def _begin(self, app: Application, operation: Json) -> None:
        app.operation = operation
        app.settling = True
        app.status.pop("operationState", None)
        self._publish(app)

    def _load_and_sync(self, app: Application, revisions: Sequence[str | None]) -> None:
        """Read git for a sync that a user asked for."""
        try:
            target, trouble = self._load(app, revisions), ""
        except CannotRender as error:
            target, trouble = None, str(error)
        with self._lock:
            if target is not None:
                self._later(self._sync_seconds * 0.2, partial(self._run, app, target))
                return
            self._start_state(app)
            self._finish(app, "Error", f"ComparisonError: {trouble}", app.by_source(()))

    def _start_state(self, app: Application) -> None:
        app.status["operationState"] = {
            "operation": app.operation,
            "phase": "Running",
            "message": "waiting for completion of sync",
            "startedAt": now(),
        }

    def _run(self, app: Application, target: Target) -> None:
        self._start_state(app)
        app.tried = target.revisions
        self._publish(app)
        self._later(self._sync_seconds * 0.6, partial(self._apply, app, app.operation or {}, target, 0))

    def _apply(self, app: Application, operation: Json, target: Target, retries: int) -> None:
        """Apply every manifest; what the API server refuses is tried again, and then fails the operation."""
        if self.applications.get(app.name) is not app:
            return  # deleted meanwhile: nothing may come back
        if app.operation is not operation or app.status["operationState"]["phase"] != "Running":
            return  # it was ended meanwhile
        results = [self._apply_one(app, key, manifest) for key, manifest in target.manifests.items()]
        if operation.get("sync", {}).get("prune"):
            for key in [key for key in app.live if key not in target.manifests]:
                results.append(_result(key, app.live.pop(key), "Pruned", "pruned"))
                self._cluster.delete(key)
        refused = [result["message"] for result in results if result["status"] == "SyncFailed"]
        outcome = {"resources": results, "revision": "", **app.by_source(target.revisions)}
        if not refused:
            self._remember(app, target)
            self._finish(app, "Succeeded", "successfully synced (all tasks run)", outcome)
            return
        reason = f"one or more objects failed to apply, reason: {', '.join(refused)}"
        if retries < operation.get("retry", {}).get("limit", 0):
            state = app.status["operationState"]
            state.update({"message": f"{reason}. Retrying attempt #{retries + 1} at {now()}.", "syncResult": outcome})
            state["retryCount"] = retries + 1
            self._publish(app)
            self._later(self._sync_seconds / 2 * 2**retries, partial(self._apply, app, operation, target, retries + 1))
            return
        tried = f" (retried {retries} times)" if retries else ""
        self._finish(app, "Failed", f"{reason}{tried}.", outcome)

    def _apply_one(self, app: Application, key: Key, manifest: Manifest) -> Json:
        name = f"{key.kind.lower()}{'.' + key.group if key.group else ''}/{key.name}"
        before = app.live.get(key)
        if before == manifest:
            return _result(key, manifest, "Synced", f"{name} unchanged")
        try:
            app.live[key] = manifest
            self._cluster.apply(manifest)
        except InvalidManifest as error:
            app.live.pop(key, None)
            if before is not None:
                app.live[key] = before
            return _result(key, manifest, "SyncFailed", f'error when patching "/dev/shm/{key.name}": {error}')
        return _result(key, manifest, "Synced", f"{name} {'created' if before is None else 'configured'}")

    def _remember(self, app: Application, target: Target) -> None:
        history = app.status.setdefault("history", [])
        history.append(
            {
                "id": history[-1]["id"] + 1 if history else 0,
                "deployedAt": now(),
                "deployStartedAt": app.status["operationState"]["startedAt"],
                "initiatedBy": (app.operation or {}).get("initiatedBy", {}),
                **app.by_source(target.revisions),
            }
        )
        del history[:-KEPT_HISTORY]

    def _finish(self, app: Application, phase: str, message: str, outcome: Json) -> None:
        app.status["operationState"].update(
            {"phase": phase, "message": message, "syncResult": outcome, "finishedAt": now()}
        )
        app.operation = None
        self._publish(app)
        self._later(self._sync_seconds * 0.2, partial(self._settle, app))

    def _settle(self, app: Application) -> None:
        """The comparison after an operation: only now do sync status and health tell the new state."""
        if app.operation is not None:
            return  # the next one has begun, and settles itself
        app.settling = False
        state = app.status["operationState"]
        failed = state["phase"] in ("Failed", "Error") and app.automated is not None
        trouble = f"Failed sync attempt to {', '.join(app.tried)}: {state['message']}" if failed else ""
        self._set_condition(app, "SyncError", trouble)
        self._state_sync(app)
        self._assess(app)
        app.status["reconciledAt"] = now()
        self._publish(app)
        self._sync_if_due(app)


def _result(key: Key, manifest: Manifest, status: str, message: str) -> Json:
    """One line of `syncResult.resources`."""
    result: Json = {
        "group": key.group,
        "version": manifest["apiVersion"].rpartition("/")[2],
        "kind": key.kind,
        "namespace": key.namespace,
        "name": key.name,
        "status": status,
        "message": message,
        "hookPhase": "Failed" if status == "SyncFailed" else "Succeeded" if status == "Pruned" else "Running",
        "syncPhase": "Sync",
    }
    images = images_of(manifest, init=False)
    return {**result, "images": list(images)} if images else result
