"""Argo CD over its REST and streaming API.

API: https://cd.argoproj.io/docs and the server's own /swagger-ui. What is odd about it (measured on 3.1): an unknown
application is a 403 unless its project is named, and the stream of an unknown application hangs without a byte; a
killed server looks like a clean end of a stream; the errors of streams have another shape.
"""

import contextlib
import functools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

import urllib3

from pipeline.core.address import server_url
from pipeline.core.argocd import MISSHAPEN, Evidence, Pod, State, Tree, parse_state, parse_tree
from pipeline.core.secret import Secret
from pipeline.edges.argocd_feed import CONNECTIONS, Feed
from pipeline.edges.http import Front, pool, reaching
from pipeline.errors import ApplicationNotFound, ArgoCDDenied, NotArgoCD, PipelineError, Unreachable, UsageError

IDLE_SECONDS = 60.0
"""A stream that is silent for so long is opened anew, in case the network forgot it."""
REFRESH_SECONDS = 90.0
LOG_LINES = 20
EVENT_LINES = 5

_NEVER_RAN = re.compile(r"ImagePull|InvalidImage|NeverPull|CreateContainer|ContainerCreating|PodInitializing|Inspect")


def connect(
    server: str, token: Secret, front: Front | None = None, *, root_path: str = "", project: str | None = None
) -> "ArgoCD":
    """A client of the Argo CD at `server` (host:port, which means https, or a URL). Opens no connection yet.

    Raises UsageError for an address or a token that cannot be one, or certificates that cannot be used.
    """
    parts = server_url(server)
    if parts is None:
        raise UsageError(
            f"{server.rpartition('@')[2]!r} is not the address of an Argo CD",  # before the @ may stand a password
            remedy="Write HOST:PORT or an http(s) URL, without user and password: ARGOCD_AUTH_TOKEN says who you are.",
        )
    if not re.fullmatch(r"[\x21-\x7e]+", token.reveal().strip()):
        raise UsageError("ARGOCD_AUTH_TOKEN is empty or holds characters that no token has", remedy="Set it anew.")
    base = f"{parts.scheme}://{parts.netloc}/{parts.path.strip('/')}".rstrip("/")
    root = root_path.strip("/")
    return ArgoCD(f"{base}/{root}" if root else base, token, front or Front(), project)


_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")


def _understood(
    question: Callable[Concatenate["ArgoCD", _Given], _Answer],
) -> Callable[Concatenate["ArgoCD", _Given], _Answer]:
    """The same question; it raises NotArgoCD for JSON of another shape than Argo CD's."""

    @functools.wraps(question)
    def asked(self: "ArgoCD", /, *arguments: _Given.args, **named: _Given.kwargs) -> _Answer:
        try:
            return question(self, *arguments, **named)
        except MISSHAPEN as error:
            raise NotArgoCD(f"Argo CD at {self.url} gives an answer that cannot be understood: {error}") from error

    return asked


class ArgoCD:
    """One Argo CD server."""

    def __init__(self, url: str, token: Secret, front: Front, project: str | None) -> None:
        self.url = url
        self._token = token
        self._project = project
        self._pool = pool(url, front, connections=CONNECTIONS)

    @contextlib.contextmanager
    def watch(self, applications: Sequence[str]) -> Iterator[Feed]:
        """Report the present state of each application, then each change; ends all its connections when left."""
        feed = Feed(self, applications)
        try:
            yield feed
        finally:
            feed.close()

    def applications(self, names: Sequence[str]) -> "Stream":
        """The events of applications; of one alone where one is named, else of all that this account may see."""
        fields = {"projects": self._project} if self._project else {}
        return self._stream("/api/v1/stream/applications", fields | ({"name": names[0]} if len(names) == 1 else {}))

    def trees(self, application: str) -> "Stream":
        """The resource tree of one application, whole, at each change."""
        return self._stream(f"/api/v1/stream/applications/{quote(application, safe='')}/resource-tree", {})

    @_understood
    def get(self, application: str, *, refresh: bool = False) -> State:
        """One application. With `refresh`, only after Argo CD has looked at git, which may take half a minute."""
        fields = {"refresh": "normal"} if refresh else {}
        state = parse_state(self._ask(application, "", fields, seconds=REFRESH_SECONDS if refresh else 10.0))
        if state.name != application:
            raise NotArgoCD(f"Argo CD at {self.url} shows {state.name!r} in place of {application}")
        return state

    @_understood
    def user(self) -> str:
        """The account that the token belongs to. Raises ArgoCDDenied for a token that is not accepted."""
        told = self._check(self._request("GET", "/api/v1/session/userinfo"), "the account")
        if not told.get("loggedIn"):
            raise ArgoCDDenied(f"Argo CD at {self.url} does not accept the token")
        return str(told.get("username") or told.get("iss") or "?")

    def can(self, resource: str, action: str, what: str) -> bool | None:
        """Whether the account may do that with PROJECT/APPLICATION; None where Argo CD does not tell."""
        where = f"/api/v1/account/can-i/{resource}/{action}/{quote(what)}"
        response = self._request("GET", where)
        value = (_json(response.data) or {}).get("value") if response.status == 200 else None
        return value == "yes" if value in {"yes", "no"} else None

    @_understood
    def tree(self, application: str) -> Tree:
        """The resource tree as it is now."""
        return parse_tree(self._ask(application, "/resource-tree"))

    def sync(self, application: str) -> str | None:
        """Begin a sync to the head of what the application follows; None, or the sync window that forbids it.

        An automated sync, or one that is under way already, is as good.
        """
        path = f"/api/v1/applications/{quote(application, safe='')}/sync"
        body = {"name": application} | ({"project": self._project} if self._project else {})
        response = self._request("POST", path, body=body)
        message = _message(response)
        if response.status == 403 and "sync window" in message:
            return message
        if response.status == 400 and ("auto-sync" in message or "already in progress" in message):
            return None
        self._check(response, application)
        return None

    def end_sync(self, application: str) -> None:
        """End the sync that is under way; that there is none is as good."""
        path = f"/api/v1/applications/{quote(application, safe='')}/operation"
        response = self._request("DELETE", path)
        if response.status != 400 or "No operation is in progress" not in _message(response):
            self._check(response, application)

    @_understood
    def sync_window(self, application: str) -> str | None:
        """The sync window that keeps automated sync from beginning now, in words."""
        answer = self._ask(application, "/syncwindows")
        active, assigned = answer.get("activeWindows") or [], answer.get("assignedWindows") or []
        blocking = [window for window in active if window.get("kind") == "deny"]
        if not active:
            blocking = [window for window in assigned if window.get("kind") == "allow"]
        if not blocking:
            return None
        told = ", ".join(f"{item.get('kind')} {item.get('schedule')} for {item.get('duration')}" for item in blocking)
        return f"cannot sync: blocked by sync window ({told})"

    @_understood
    def explain(self, application: str, pod: Pod) -> Evidence:
        """Last log lines and events of the pod's container that is in trouble, as far as they are to be had."""
        try:
            manifest = json.loads(self._ask(application, "/resource", _resource_of(pod)).get("manifest") or "{}")
        except (PipelineError, ValueError):
            manifest = {}
        status = _troubled_container(manifest)
        state = status.get("state") or {}
        return Evidence(
            container=status.get("name"),
            running="running" in state,
            message=_message_of(status),
            logs=self._logs(application, pod, status),
            events=self._events(application, pod),
        )

    def _logs(self, application: str, pod: Pod, status: Mapping[str, Any]) -> tuple[str, ...]:
        state, last = status.get("state") or {}, status.get("lastState") or {}
        started = "running" in state or "terminated" in state or "terminated" in last or status.get("restartCount")
        if not started and _NEVER_RAN.search(pod.reason):
            return ()
        fields = {"podName": pod.name, "namespace": pod.namespace, "tailLines": str(LOG_LINES), "follow": "false"}
        fields |= {"container": status["name"]} if status.get("name") else {}
        crashed = "running" in state and "terminated" in last
        try:
            lines = self._log_lines(application, fields | ({"previous": "true"} if crashed else {}))
            if not lines and not crashed:
                lines = self._log_lines(application, fields | {"previous": "true"})
        except ArgoCDDenied:
            return ("(log lines need the right `logs, get` in Argo CD)",)
        except PipelineError as error:
            return (f"(log lines are not to be had: {error})",)
        return lines

    def _log_lines(self, application: str, fields: Mapping[str, str]) -> tuple[str, ...]:
        """One JSON a line; what the kubelet complains of is content as well, but of no pod."""
        path = f"/api/v1/applications/{quote(application, safe='')}/logs"
        response = self._request("GET", path, fields=fields)
        if response.status != 200:
            self._check(response, application)
        entries = [(_json(line) or {}).get("result") or {} for line in response.data.splitlines() if line.strip()]
        contents = [str(entry.get("content") or "").rstrip() for entry in entries if entry.get("podName")]
        return tuple(filter(None, contents))[-LOG_LINES:]

    def _events(self, application: str, pod: Pod) -> tuple[str, ...]:
        fields = {"resourceNamespace": pod.namespace, "resourceName": pod.name, "resourceUID": pod.uid}
        try:
            items = self._ask(application, "/events", fields).get("items") or []
        except PipelineError:
            return ()
        items.sort(key=lambda item: item.get("lastTimestamp") or item.get("eventTime") or "")
        troubles = [item for item in items if item.get("type") == "Warning"] or items
        return tuple(_event(item) for item in troubles[-EVENT_LINES:])

    def _stream(self, path: str, fields: Mapping[str, str]) -> "Stream":
        response = self._request("GET", path, fields=fields, seconds=IDLE_SECONDS, stream=True)
        if response.status != 200:
            with reaching(f"Argo CD at {self.url}"):
                raise Unreachable(f"Argo CD at {self.url} answers {response.status} for a stream: {_message(response)}")
        return Stream(response, f"the stream of Argo CD at {self.url}")

    def _ask(
        self, application: str, path: str, fields: Mapping[str, str] | None = None, *, seconds: float = 10.0
    ) -> dict[str, Any]:
        where = f"/api/v1/applications/{quote(application, safe='')}{path}"
        response = self._request("GET", where, fields=fields, seconds=seconds)
        return self._check(response, application)

    def _request(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, str] | None = None,
        body: object = None,
        seconds: float = 10.0,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        headers = urllib3.HTTPHeaderDict(self._pool.headers, Accept="application/json")
        if method != "GET":
            headers["Content-Type"] = "application/json"  # Argo CD asks for it, also where there is no body
        if "Authorization" in headers:  # the front's own; Argo CD takes a cookie too
            ours = f"argocd.token={self._token.reveal().strip()}"
            headers["Cookie"] = "; ".join(filter(None, (headers.get("Cookie"), ours)))
        else:
            headers["Authorization"] = f"Bearer {self._token.reveal().strip()}"
        query = {**(fields or {}), **({"project": self._project} if self._project else {})}
        with reaching(f"Argo CD at {self.url}"):
            return self._pool.request(
                method,
                self.url + path,
                fields=None if method == "POST" else query,
                json=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=10.0, read=seconds),
                preload_content=not stream,
            )

    def _check(self, response: urllib3.BaseHTTPResponse, application: str) -> dict[str, Any]:
        """The answer's JSON, or the error that its status means."""
        where = f"Argo CD at {self.url}"
        body = _json(response.data)
        if response.status == 200 and body is not None:
            return body
        message = _message(response)
        if response.status == 401:
            raise ArgoCDDenied(f"{where} does not accept the token: {message}")
        if response.status == 403 and body is not None:
            if message != "permission denied":
                raise ArgoCDDenied(f"{application}: {where} says: {message}")
            project = f"it is not in the project {self._project!r}" if self._project else "it does not exist"
            raise ArgoCDDenied(
                f"{application}: {where} says 'permission denied': {project}, or this account may not see it"
            )
        if response.status == 404 and body is not None and body.get("code") == 5:
            project = f" in the project {self._project!r}" if self._project else ""
            raise ApplicationNotFound(f"{application}: {where} has no such application{project}")
        if 300 <= response.status < 400:
            raise NotArgoCD(f"{where} redirects to {response.headers.get('Location', '?').partition('?')[0]}")
        if response.status in {200, 403, 404}:
            kind = response.headers.get("Content-Type", "no content type")
            raise NotArgoCD(f"{where} answers {response.status} with {kind}: this is not Argo CD's API")
        raise Unreachable(f"{where} answers {response.status}: {message}")


class Stream:
    """One JSON object a line, for as long as the server sends; another thread may shut it."""

    def __init__(self, response: urllib3.BaseHTTPResponse, what: str) -> None:
        self._response = response
        self._what = what
        self._shut = threading.Event()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each line's `result`. Ends when the server ends or is silent for long; raises Unreachable when it breaks."""
        rest = b""
        try:
            with reaching(self._what):
                while data := self._response.read1(1 << 16):
                    *lines, rest = (rest + data).split(b"\n")
                    for line in filter(None, lines):
                        result = (_json(line) or {}).get("result")
                        if not isinstance(result, dict):
                            raise Unreachable(f"{self._what}: {line[:200].decode(errors='replace')}")
                        yield result
        except (OSError, ValueError):  # what a read says when the socket is shut under it
            if not self._shut.is_set():
                raise
        finally:
            self._response.close()

    def shut(self) -> None:
        """End it, also while it waits for bytes."""
        self._shut.set()
        with contextlib.suppress(OSError, ValueError):
            self._response.shutdown()


def _json(data: bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else, such as a front's login page."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _message(response: urllib3.BaseHTTPResponse) -> str:
    """The message of an error: `message` at the top, or inside `error` for streams, or the plain text."""
    body = _json(response.data) or {}
    inner = body.get("error")
    message = body.get("message") or (inner.get("message") if isinstance(inner, dict) else inner)
    return str(message or response.data[:200].decode(errors="replace").strip() or response.reason)


def _resource_of(pod: Pod) -> dict[str, str]:
    return {"namespace": pod.namespace, "resourceName": pod.name, "version": "v1", "group": "", "kind": "Pod"}


def _troubled_container(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The status of the container that keeps the pod from being ready: the first init container that has not ended
    well (a sidecar among them: not started), else the first container that waits, has ended or is not ready; empty
    when nothing is known."""
    status, spec = manifest.get("status") or {}, manifest.get("spec") or {}
    sidecars = {item["name"] for item in spec.get("initContainers") or [] if item.get("restartPolicy") == "Always"}
    for container in status.get("initContainerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated")
        done = container.get("started") if container["name"] in sidecars else ended and ended.get("exitCode") == 0
        if not done:
            return dict(container)
    containers = [dict(container) for container in status.get("containerStatuses") or []]
    waiting = (item for item in containers if "running" not in (item.get("state") or {}))
    unready = (item for item in containers if not item.get("ready"))
    return next(waiting, None) or next(unready, None) or (containers[0] if len(containers) == 1 else {})


def _message_of(status: Mapping[str, Any]) -> str:
    """How the container ended last, or why it waits."""
    state, last = status.get("state") or {}, status.get("lastState") or {}
    if ended := state.get("terminated") or last.get("terminated"):
        reason = ended.get("reason") or "ended"
        return ended.get("message") or f"exit code {ended.get('exitCode')} ({reason})"
    return str((state.get("waiting") or {}).get("message") or "")


def _event(item: Mapping[str, Any]) -> str:
    count = item.get("count") or 1
    return f"{item.get('reason')}: {item.get('message')}" + (f" (x{count})" if count > 1 else "")
