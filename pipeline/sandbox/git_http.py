"""Git over smart HTTP: every bare repository below one folder, served by git's own `git http-backend` (a CGI).

Bodies stream in both directions, so that a push or a clone of any size takes little memory.
The contract with the backend: https://git-scm.com/docs/git-http-backend
"""

import base64
import binascii
import contextlib
import hmac
import io
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

from pipeline.core.secret import Secret

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_PIECE = 1 << 16
_KEPT = ("PATH", "HOME", "TMPDIR", "LANG")
"""What the backend and the repositories' hooks see of our environment: no token, no GIT_DIR."""
_CGI = ("REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "REMOTE_ADDR", "HTTP_CONTENT_ENCODING")


Admits = Callable[[str, str, bool], int]
"""The status for a password, a repository's name and whether it is to be written; 200 lets it in."""


def git_http(
    root: Path, *, token: Secret | None = None, admits: Admits | None = None, partial: bool = True
) -> "WSGIApplication":
    """A WSGI application that serves `root/NAME` as `/NAME`, for reading and pushing.

    With `token`, every request needs it as the password of basic authentication; the user's name is free, as on
    GitHub; `admits` judges more closely. `partial` is whether the server knows partial clones (`--filter`).
    """

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        user, password = _credentials(environ.get("HTTP_AUTHORIZATION", ""))
        if token and not hmac.compare_digest(password.encode(), token.reveal().encode()):
            return _refuse(start_response, 401)
        name = environ["PATH_INFO"].lstrip("/").partition("/")[0].removesuffix(".git")
        writes = "git-receive-pack" in environ["PATH_INFO"] + environ.get("QUERY_STRING", "")
        status = admits(password, name, writes) if admits else 200
        if status != 200:
            return _refuse(start_response, status)
        return _run_backend(root, environ, start_response, user or "anonymous", partial)

    return app


def _credentials(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


_REFUSALS = {
    401: ("401 Unauthorized", b"a token is needed\n"),
    403: ("403 Forbidden", b"Write access to repository not granted.\n"),
    404: ("404 Not Found", b"Repository not found.\n"),
}


def _refuse(start_response: "StartResponse", status: int) -> Iterable[bytes]:
    line, text = _REFUSALS[status]
    headers = [("Content-Type", "text/plain")]
    start_response(line, [*headers, ("WWW-Authenticate", 'Basic realm="git"')] if status == 401 else headers)
    return [text]


def _run_backend(
    root: Path, environ: "WSGIEnvironment", start_response: "StartResponse", user: str, partial: bool
) -> Iterator[bytes]:
    backend = subprocess.Popen(
        ["git", "http-backend"],
        env=_environment(root, environ, user, partial),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what the client must know travels in git's side band
        start_new_session=True,
    )
    stdout = cast("io.BufferedReader", backend.stdout)
    feeder = threading.Thread(target=_feed, args=(get_input_stream(environ), backend))
    feeder.start()
    try:
        status, headers = _head(stdout)
        start_response(status, headers)
        while piece := stdout.read1(_PIECE):
            yield piece
    finally:
        # When the client is gone, a push that has arrived whole is still carried out, as on most servers.
        stdout.close()
        feeder.join()
        backend.wait()


def _environment(root: Path, environ: "WSGIEnvironment", user: str, partial: bool) -> dict[str, str]:
    """The CGI environment. Request headers are picked one by one: `Proxy:` must not become HTTP_PROXY."""
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        **{name: environ[name] for name in _CGI if name in environ},
        "GIT_PROJECT_ROOT": str(root.resolve()),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROTOCOL": environ.get("HTTP_GIT_PROTOCOL", ""),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "uploadpack.allowFilter",
        "GIT_CONFIG_VALUE_0": str(partial).lower(),
        "PATH_INFO": os.fsdecode(environ["PATH_INFO"].encode("latin-1")),
        "REMOTE_USER": user,  # without it the backend refuses every push
    }


def _feed(body: IO[bytes], backend: subprocess.Popen[bytes]) -> None:
    """Hand the request's body on; the rest of one that the backend no longer reads is thrown away."""
    stdin = cast("io.BufferedWriter", backend.stdin)
    try:
        with contextlib.suppress(BrokenPipeError), stdin:
            shutil.copyfileobj(body, stdin, _PIECE)
        while body.read(_PIECE):
            pass
    except (OSError, ValueError, ClientDisconnected):
        # The client broke off. At the end of a body that is too short the backend would go on reading for ever.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(backend.pid, signal.SIGTERM)


def _head(stdout: IO[bytes]) -> tuple[str, list[tuple[str, str]]]:
    """The CGI header, as WSGI wants it."""
    status, headers = "200 OK", []
    while line := stdout.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "status":
            status = value.strip()
        else:
            headers.append((name, value.strip()))
    if not headers:  # the backend died before it said anything
        return "500 Internal Server Error", [("Content-Type", "text/plain")]
    return status, headers
