"""Argo CD's HTTP API as a WSGI application: the endpoints that a deployment needs, with Argo CD's own manners.

Answers follow Argo CD 3.1's published contract and what it was seen to do: an unknown application is 403 unless a
project is named, its stream hangs for ever without a byte, and errors on streams have another shape.
"""

import json
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from pipeline.core.secret import Secret
from pipeline.sandbox.application import Application, Json, Rejected
from pipeline.sandbox.controller import Controller
from pipeline.sandbox.tree import events_of, log_of, manifest_of
from pipeline.sandbox.workload import Pod

VERSION = "v3.1.16+sandbox"
USER = "admin"

_ROUTES: tuple[tuple[str, str, str], ...] = (
    ("GET", "/api/version", "version"),
    ("POST", "/api/webhook", "webhook"),
    ("GET", "/api/v1/settings", "settings"),
    ("POST", "/api/v1/session", "log_in"),
    ("GET", "/api/v1/session/userinfo", "user_info"),
    ("GET", "/api/v1/account/can-i/<resource>/<action>/<path:what>", "can_i"),
    ("GET", "/api/v1/applications", "list"),
    ("POST", "/api/v1/applications", "create"),
    ("GET", "/api/v1/applications/<name>", "get"),
    ("DELETE", "/api/v1/applications/<name>", "delete"),
    ("POST", "/api/v1/applications/<name>/sync", "sync"),
    ("DELETE", "/api/v1/applications/<name>/operation", "end_sync"),
    ("GET", "/api/v1/applications/<name>/resource-tree", "tree"),
    ("GET", "/api/v1/applications/<name>/resource", "resource"),
    ("GET", "/api/v1/applications/<name>/syncwindows", "sync_windows"),
    ("GET", "/api/v1/applications/<name>/events", "events"),
    ("GET", "/api/v1/applications/<name>/logs", "logs"),
    ("GET", "/api/v1/applications/<name>/pods/<pod>/logs", "logs"),
    ("POST", "/api/v1/applications/<name>/resource/actions", "restart"),
    ("GET", "/api/v1/stream/applications", "stream"),
    ("GET", "/api/v1/stream/applications/<name>/resource-tree", "tree_stream"),
)
_OPEN = ("version", "webhook", "settings", "log_in")
_STREAMS = ("stream", "tree_stream", "logs")
_HTTP_STATUS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 501: "Not Implemented"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How the API server is set up, and what stands before it."""

    token: Secret
    denied: frozenset[str] = frozenset()
    """Rights that the account lacks, such as `logs, get` or `applications, sync`."""
    streams: bool = True
    """False: streams are not to be had, as behind a proxy that does not let them through."""
    cut_streams_seconds: float | None = None
    """The proxy before the server ends every stream after so long."""


class ArgoCD:
    """The WSGI application."""

    def __init__(self, controller: Controller, setup: Setup) -> None:
        self._controller = controller
        self.setup = setup
        self._routes = Map([Rule(path, endpoint=endpoint, methods=[method]) for method, path, endpoint in _ROUTES])

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._answer(Request(environ), environ)(environ, start_response)

    def _answer(self, request: Request, environ: WSGIEnvironment) -> Response:
        endpoint = ""
        try:
            endpoint, arguments = self._routes.bind_to_environ(environ).match()
            if endpoint not in _OPEN:
                self._authenticate(request)
            if request.method != "GET" and endpoint != "webhook" and request.mimetype != "application/json":
                return Response("Invalid content type", 415, mimetype="text/plain")
            handler: Callable[..., Response] = getattr(self, f"_{endpoint}")
            return handler(request, **arguments)
        except Rejected as error:
            return _refusal(error, stream=endpoint in _STREAMS)
        except HTTPException as error:
            return _refusal(Rejected(error.code or 500, 5, error.name), stream=False)

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        given = given or request.cookies.get("argocd.token", "")
        if not given:
            raise Rejected(401, 16, "no session information")
        if given != self.setup.token.reveal():
            raise Rejected(401, 16, "invalid session: token signature is invalid")

    def _allow(self, right: str, app: Application) -> None:
        if right in self.setup.denied:
            raise Rejected(403, 7, f"permission denied: {right}, {_project(app)}/{app.name}, sub: {USER}")

    def _find(self, request: Request, name: str, right: str = "applications, get") -> Application:
        """The application, if it may be seen: without a project in the question nobody learns whether it exists."""
        app = self._controller.applications.get(name)
        project = request.args.get("project") or request.args.get("projects")
        if app is None:
            if project:
                raise Rejected(404, 5, f'applications.argoproj.io "{name}" not found')
            raise Rejected(403, 7, "permission denied")
        if project and _project(app) not in (*request.args.getlist("project"), *request.args.getlist("projects")):
            raise Rejected(403, 7, "permission denied")
        self._allow(right, app)
        return app

    # Endpoints

    def _version(self, _: Request) -> Response:
        return _json({"Version": VERSION})

    def _settings(self, _: Request) -> Response:
        return _json({"url": "", "trackingMethod": "annotation", "controllerNamespace": "argocd"})

    def _log_in(self, request: Request) -> Response:
        body = _body(request)
        if not body.get("username") or body.get("password") != self.setup.token.reveal():
            raise Rejected(401, 16, "Invalid username or password")
        return _json({"token": self.setup.token.reveal()})

    def _user_info(self, _: Request) -> Response:
        return _json({"loggedIn": True, "username": USER, "iss": "argocd"})

    def _can_i(self, _: Request, resource: str, action: str, what: str) -> Response:  # noqa: ARG002 -- one for all
        return _json({"value": "no" if f"{resource}, {action}" in self.setup.denied else "yes"})

    def _webhook(self, request: Request) -> Response:
        """Refresh what follows the pushed repository; 200 also where nothing does. Scheme and port do not matter."""
        body = _body(request)
        pushed = _without_host_details(str((body.get("repository") or {}).get("html_url") or ""))
        for app in list(self._controller.applications.values()):
            if pushed in {_without_host_details(source["repoURL"]) for source in app.sources}:
                self._controller.refresh_soon(app)
        return Response("", 200)

    def _list(self, request: Request) -> Response:
        wanted = _chosen(request)
        apps = sorted(self._controller.applications.values(), key=lambda app: app.name)
        return _json({"metadata": {}, "items": [self._controller.show(app) for app in apps if wanted(app)]})

    def _create(self, request: Request) -> Response:
        body = _body(request)
        name, spec = (body.get("metadata") or {}).get("name"), body.get("spec") or {}
        if not name or not (spec.get("source") or spec.get("sources")):
            raise Rejected(400, 3, "application spec is invalid: metadata.name and spec.source are required")
        if any(not source.get("repoURL") for source in spec.get("sources") or [spec["source"]]):
            raise Rejected(400, 3, "application spec is invalid: spec.source.repoURL is required")
        spec = {"destination": {"server": "https://kubernetes.default.svc", "namespace": "default"}, **spec}
        return _json(self._controller.show(self._controller.add(name, {"project": "default", **spec})))

    def _get(self, request: Request, name: str) -> Response:
        app = self._find(request, name)
        if kind := request.args.get("refresh"):
            self._controller.refresh(app, kind)
        return _json(self._controller.show(app))

    def _delete(self, request: Request, name: str) -> Response:
        self._controller.remove(self._find(request, name, "applications, delete").name)
        return _json({})

    def _sync(self, request: Request, name: str) -> Response:
        app = self._find(request, name, "applications, sync")
        body = _body(request)
        revisions = body.get("revisions") or [body.get("revision")]
        self._controller.sync(app, [item or None for item in revisions], prune=bool(body.get("prune")), username=USER)
        return _json(self._controller.show(app))

    def _end_sync(self, request: Request, name: str) -> Response:
        self._controller.end_sync(self._find(request, name, "applications, sync"))
        return _json({})

    def _tree(self, request: Request, name: str) -> Response:
        return _json(self._controller.tree(self._find(request, name)))

    def _sync_windows(self, request: Request, name: str) -> Response:
        if not self._find(request, name).blocked:
            return _json({"canSync": True})
        windows = [{"kind": "deny", "schedule": "* * * * *", "duration": "1h", "manualSync": False}]
        return _json({"activeWindows": windows, "assignedWindows": windows, "canSync": False})

    def _resource(self, request: Request, name: str) -> Response:
        app = self._find(request, name)
        kind = request.args.get("kind", "")
        pod = self._pod(app, request) if kind == "Pod" else None  # nothing else has more to tell than its node
        if pod is None:
            group, what = (request.args.get(key, "") for key in ("group", "resourceName"))
            raise Rejected(400, 3, f"{kind} {group} {what} not found as part of application {name}")
        return _json({"manifest": json.dumps(manifest_of(pod), default=str)})

    def _pod(self, app: Application, request: Request) -> Pod | None:
        """The pod that is asked for, by name and, if given, namespace."""
        name, namespace = request.args.get("resourceName"), request.args.get("namespace")
        pods = self._controller.pods(app)
        return next((pod for pod in pods if pod.name == name and namespace in (None, "", pod.namespace)), None)

    def _events(self, request: Request, name: str) -> Response:
        app = self._find(request, name)
        pod = self._pod(app, request)
        if pod is None or request.args.get("resourceUID") not in (None, "", pod.uid):
            return _json({"metadata": {}, "items": []})
        return _json(events_of(pod))

    def _logs(self, request: Request, name: str, pod: str | None = None) -> Response:
        app = self._find(request, name)
        self._allow("logs, get", app)
        wanted = pod or request.args.get("podName")
        tail = request.args.get("tailLines", type=int)
        previous = request.args.get("previous") == "true"
        found: list[Pod] = [item for item in self._controller.pods(app) if wanted in (None, "", item.name)]
        container = request.args.get("container") or None
        entries = [entry for item in found for entry in log_of(item, container, tail=tail, previous=previous)]
        return Response(map(_line, entries), mimetype="application/json")

    def _restart(self, request: Request, name: str) -> Response:
        app = self._find(request, name)
        if request.get_json(silent=True) != "restart":
            raise Rejected(400, 3, "the only action here is restart")
        kind, group = request.args.get("kind", ""), request.args.get("group", "")
        self._allow(f"applications, action/{group}/{kind}/restart", app)
        self._controller.restart(app, kind, request.args.get("resourceName", ""))
        return _json({})

    def _stream(self, request: Request) -> Response:
        self._require_streams()
        events = self._controller.watch(_chosen(request))
        return Response(self._lines(events), mimetype="text/event-stream")

    def _tree_stream(self, request: Request, name: str) -> Response:
        self._require_streams()
        trees = self._controller.watch_tree(self._find(request, name))
        return Response(self._lines(trees), mimetype="text/event-stream")

    def _require_streams(self) -> None:
        if not self.setup.streams:
            raise Rejected(501, 12, "streams are not to be had here")

    def _lines(self, events: "queue.SimpleQueue[Json | None]") -> Iterator[bytes]:
        """One JSON a line until the controller ends the watch, the client leaves, or the proxy cuts the stream."""
        limit = self.setup.cut_streams_seconds
        end = None if limit is None else time.monotonic() + limit
        try:
            while (event := events.get(timeout=None if end is None else max(0.0, end - time.monotonic()))) is not None:
                yield _line(event)
        except queue.Empty:
            return
        finally:
            self._controller.unwatch(events)


def _json(value: Json) -> Response:
    return Response(json.dumps(value, default=str), mimetype="application/json")


def _line(value: Json) -> bytes:
    return json.dumps({"result": value}, default=str).encode() + b"\n"


def _refusal(error: Rejected, *, stream: bool) -> Response:
    message = str(error)
    if stream:
        status = _HTTP_STATUS.get(error.http, "")
        body: Json = {
            "error": {"grpc_code": error.code, "http_code": error.http, "message": message, "http_status": status}
        }
    else:
        body = {"error": message, "code": error.code, "message": message}
    return Response(json.dumps(body), error.http, mimetype="application/json")


def _body(request: Request) -> dict[str, Any]:
    body = request.get_json(silent=True, force=True)
    return body if isinstance(body, dict) else {}


def _project(app: Application) -> str:
    return str(app.spec.get("project", "default"))


def _chosen(request: Request) -> Callable[[Application], bool]:
    """Which applications a list or a stream is asked for."""
    name = request.args.get("name")
    projects = {*request.args.getlist("project"), *request.args.getlist("projects")} - {""}
    return lambda app: name in (None, "", app.name) and (not projects or _project(app) in projects)


def _without_host_details(url: str) -> str:
    """A repository's URL without scheme, user, port and `.git`, as Argo CD's webhook compares them."""
    rest = url.partition("://")[2] or url
    host, _, path = rest.partition("/")
    return f"{host.rpartition('@')[2].partition(':')[0]}/{path}".lower().removesuffix("/").removesuffix(".git")
