"""The whole sandbox in one process and on one port of the loopback interface.

/v2/ is the registry (Docker wants it at the root), /api/ is Argo CD, /git/ git over smart HTTP, /github/ GitHub,
/slack/ Slack, and /sandbox/ shows and steers the sandbox itself.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Request, Response

from pipeline.core.secret import Secret
from pipeline.errors import UsageError
from pipeline.sandbox.argocd import ArgoCD, Setup
from pipeline.sandbox.cluster import FAULT_KINDS, Cluster, Fault
from pipeline.sandbox.controller import Controller
from pipeline.sandbox.git_http import git_http
from pipeline.sandbox.github import GitHub
from pipeline.sandbox.registry import Registry
from pipeline.sandbox.render import Repositories
from pipeline.sandbox.server import HOST, Server
from pipeline.sandbox.slack import WEBHOOK, Slack
from pipeline.sandbox.timeline import Timeline

SLACK_TOKEN = Secret("xoxb-sandbox")
"""Slack's bot token."""
GITHUB_TOKEN = Secret("ghs_sandbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the sandbox behaves. The defaults are a real cluster's, but for the seconds that a sync and a pod take."""

    port: int = 0
    """0 takes any free one."""
    folder: Path | None = None
    """Where the registry keeps its files; None uses a temporary folder."""
    git_root: Path | None = None
    """The folder of the bare repositories that are served under /git/; None makes an empty temporary one."""
    argocd_path: str = ""
    """Root path of the Argo CD API, such as `/argocd`; empty for none."""
    token: Secret = field(default_factory=lambda: Secret("sandbox"))
    """Argo CD's API token, and the password of its user `admin`."""
    denied: frozenset[str] = frozenset()
    """Rights that this token lacks, such as `logs, get` or `applications, sync`."""
    poll_seconds: float = 180
    """How often Argo CD looks at git unasked; 0 for never."""
    sync_seconds: float = 0.3
    pod_seconds: float = 0.5
    """How long a pod takes to be ready; the times of faults follow it."""
    progress_deadline_seconds: float = 600
    """For Deployments that name none themselves."""
    streams: bool = True
    """False refuses every stream, as a proxy may."""
    cut_streams_seconds: float | None = None
    """Every stream ends after so long, as a proxy may do."""
    faults: Mapping[str, Fault] = field(default_factory=dict)
    """What goes wrong, by tag or `NAME:TAG`."""


class World:
    """A running sandbox. Use it as a context manager, or call `close`."""

    def __init__(self, settings: Settings) -> None:
        """Start it. Raises UsageError when the port is taken."""
        with contextlib.ExitStack() as undo:  # an interrupt in the middle must leave no thread behind
            self._start(settings, undo)
            self._undo = undo.pop_all()

    def _start(self, settings: Settings, undo: contextlib.ExitStack) -> None:
        self._app: WSGIApplication = _not_found  # until all is there
        temporary = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="openeg-sandbox-")))
        self._temporary = temporary
        self._timeline = Timeline()
        undo.callback(self._timeline.close)
        self._server = Server(self.serve, settings.port)
        undo.callback(self._server.close)
        self.registry_host = f"{HOST}:{self._server.port}"
        self.url = f"http://{self.registry_host}"
        self.argocd_url = self.url + settings.argocd_path
        self.git_url = f"{self.url}/git"
        self.slack_url = f"{self.url}/slack/"
        """A page with the messages; the API is at `api/` below it."""
        self.git_root = settings.git_root or temporary / "git"
        self.git_root.mkdir(parents=True, exist_ok=True)
        self.token = settings.token
        self.slack = Slack(SLACK_TOKEN)
        self.github_url = f"{self.url}/github/api/v3"
        """GitHub's REST API, which knows the repositories of `git_root` as `git/NAME`."""
        self.github = GitHub(self.git_root, GITHUB_TOKEN)
        undo.callback(self.github.close)
        self._registry = Registry(settings.folder or temporary / "registry")
        self._cluster = Cluster(
            self._timeline,
            pod_seconds=settings.pod_seconds,
            progress_deadline_seconds=settings.progress_deadline_seconds,
            has_image=self._has_image,
        )
        for tag, fault in settings.faults.items():
            self.set_fault(tag, fault)
        self._controller = Controller(
            self._timeline,
            self._cluster,
            Repositories(temporary / "mirrors", {self.git_url: self.git_root}),
            sync_seconds=settings.sync_seconds,
            poll_seconds=settings.poll_seconds,
        )
        undo.callback(self._controller.close)
        self._app = self._routes(settings)

    def serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, as the WSGI application of everything that is here."""
        return self._app(environ, start_response)

    def _routes(self, settings: Settings) -> WSGIApplication:
        setup = Setup(
            token=settings.token,
            denied=settings.denied,
            streams=settings.streams,
            cut_streams_seconds=settings.cut_streams_seconds,
        )
        self.argocd = argocd = ArgoCD(self._controller, setup)
        at_root: dict[str, WSGIApplication] = {"v2": self._registry, "sandbox": _Control(self)}
        mounts: dict[str, WSGIApplication] = {
            "/git": git_http(self.git_root, admits=self.github.admits),
            "/github": self.github,
            "/slack": self.slack,
        }
        if settings.argocd_path:
            mounts[settings.argocd_path] = argocd
        else:
            at_root["api"] = argocd
        return DispatcherMiddleware(_first_part(at_root), mounts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every stream and thread, and remove what is temporary."""
        self._undo.close()

    def add_application(
        self,
        name: str,
        repo_url: str = "",
        path: str = "",
        *,
        branch: str = "main",
        sources: Sequence[Mapping[str, str]] = (),
        namespace: str | None = None,
        project: str = "default",
        automated: bool = True,
        blocked: bool = False,
    ) -> None:
        """Let Argo CD follow `path` at `branch` of `repo_url` (a URL or a local path), or several `sources`.

        The namespace is the application's name unless given. `blocked`: a sync window forbids every sync.
        """
        one = {"repoURL": repo_url, "path": path, "targetRevision": branch}
        policy: dict[str, Any] = {"syncOptions": ["CreateNamespace=true"]}
        if automated:
            policy["automated"] = {"prune": True, "selfHeal": True}
        spec: dict[str, Any] = {"sources": [dict(source) for source in sources]} if sources else {"source": one}
        spec["destination"] = {"server": "https://kubernetes.default.svc", "namespace": namespace or name}
        self._controller.add(name, {**spec, "project": project, "syncPolicy": policy}, blocked=blocked)

    def set_fault(self, tag: str, fault: Fault | None) -> None:
        """Break every pod with that image tag (or `NAME:TAG`) that is not ready yet; None mends it."""
        with self._timeline.lock:
            self._cluster.set_fault(tag, fault)

    def pause_controller(self, paused: bool = True) -> None:
        """Stop (or resume) Argo CD's controller: refreshes block, syncs wait, plain reads answer, pods go on."""
        self._controller.pause(paused)

    def overview(self) -> dict[str, Any]:
        """What is there, as JSON for people."""
        with self._timeline.lock:
            applications = {
                app.name: {
                    "sync": app.status["sync"]["status"],
                    "health": app.status["health"]["status"],
                    "revision": app.status["sync"].get("revision"),
                    "notes": list(app.target.notes if app.target else ()),
                }
                for app in self._controller.applications.values()
            }
            faults = {
                tag: {"kind": fault.kind, "logs": list(fault.logs)} for tag, fault in self._cluster.faults.items()
            }
        urls = {"registry": self.registry_host, "argocd": self.argocd_url, "git": self.git_url, "slack": self.slack_url}
        urls["github"] = self.github_url
        urls |= {"slack_api": f"{self.slack_url}api/", "slack_webhook": f"{self.slack_url}services/{WEBHOOK}"}
        return {"urls": urls, "applications": applications, "faults": faults}

    def _has_image(self, image: str) -> bool:
        """Only what would be pulled from the sandbox itself can be looked up; any other image is taken for granted."""
        return not image.startswith(f"{self.registry_host}/") or self._registry.has_image(image)


def start(settings: Settings | None = None) -> World:
    """Start a sandbox."""
    return World(settings or Settings())


def _first_part(apps: Mapping[str, WSGIApplication]) -> WSGIApplication:
    """Choose the application by the first part of the path, and leave the path as it is."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        first = environ["PATH_INFO"].removeprefix("/").partition("/")[0]
        return apps.get(first, _not_found)(environ, start_response)

    return app


def _not_found(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return Response("nothing here; /sandbox/ tells what there is\n", 404)(environ, start_response)


class _Control:
    """Shows and steers the sandbox: GET /sandbox/, PUT and DELETE /sandbox/faults/TAG, PUT /sandbox/controller."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer, status = self._steer(request), 200
        except UsageError as error:
            answer, status = {"error": str(error)}, 400
        except LookupError:
            answer, status = {"error": "no such address"}, 404
        return Response(json.dumps(answer, indent=1) + "\n", status, mimetype="application/json")(
            environ, start_response
        )

    def _steer(self, request: Request) -> dict[str, Any]:
        parts = request.path.removeprefix("/sandbox").strip("/").split("/", 1)
        match request.method, parts:
            case "GET", [""]:
                pass
            case "PUT", ["faults", tag]:
                self._world.set_fault(tag, _fault(request.get_json(silent=True)))
            case "DELETE", ["faults", tag]:
                self._world.set_fault(tag, None)
            case "PUT", ["controller"]:
                body = request.get_json(silent=True)
                if not isinstance(body, dict) or not isinstance(body.get("paused"), bool):
                    raise UsageError('the body must be {"paused": true} or {"paused": false}')
                self._world.pause_controller(body["paused"])
            case _:
                raise LookupError
        return self._world.overview()


def _fault(body: object) -> Fault:
    kind = body.get("kind") if isinstance(body, dict) else None
    logs = body.get("logs", []) if isinstance(body, dict) else []
    if kind not in FAULT_KINDS:
        raise UsageError(f'the body must be JSON such as {{"kind": "crash"}}; kinds are {", ".join(FAULT_KINDS)}')
    if not isinstance(logs, list) or not all(isinstance(line, str) for line in logs):
        raise UsageError('"logs" must be a list of lines')
    return Fault(kind, tuple(logs))
