"""A threaded HTTP server on loopback for one WSGI application; it ends cleanly even while streams are open."""

import contextlib
import socket
import threading
from typing import Any
from wsgiref.types import WSGIApplication

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from pipeline.errors import UsageError

HOST = "127.0.0.1"


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    _dated = False
    disable_nagle_algorithm = True  # a stream's lines must arrive when they are written

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin the answer; its date comes last, since an application may have a clock of its own."""
        self.send_response_only(code, message)
        self._dated = False

    def send_header(self, keyword: str, value: str) -> None:
        self._dated = self._dated or keyword.lower() == "date"
        super().send_header(keyword, value)

    def end_headers(self) -> None:
        if not self._dated:
            self.send_header("Date", self.date_time_string())
        super().end_headers()

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Say nothing: clients show what happens here, and Docker first knocks with TLS at every plain registry."""


class Server(ThreadedWSGIServer):
    """Serves from its making until `close`, one thread for each connection."""

    daemon_threads = False  # so that closing waits for every thread

    def __init__(self, app: WSGIApplication, port: int = 0, host: str = HOST) -> None:
        """Bind `port` (0: a free one) of the loopback interface, unless told another. Raises UsageError when taken."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with listener:
            try:
                listener.bind((host, port))
            except OSError as error:
                raise UsageError(
                    f"port {port} of {host}: {error.strerror}", remedy="Choose another port, or 0 for any free one."
                ) from error
            listener.listen(128)
            super().__init__(host, port, app, handler=_Handler, fd=listener.fileno())
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="sandbox-server")
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Accept nothing more, cut what is open, and wait for every thread."""
        self.shutdown()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.server_close()
