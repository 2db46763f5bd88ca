"""A real HTTP server whose answers a test writes, for what a well-behaved server never does."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One request, as it was."""

    path: str
    headers: Message
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}


class Exchange(BaseHTTPRequestHandler):
    """One request, and the means to answer it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Scripted"

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        """A whole answer: JSON, or text as it is."""
        text = isinstance(body, str)
        data = str(body).encode() if text else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "text/html" if text else "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, results: "Iterator[object]") -> None:
        """A chunked answer: each result is a line, sent at once; the end is a clean one."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for result in results:
            line = json.dumps({"result": result}).encode() + b"\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def hang(self) -> None:
        """No answer until the server ends."""
        self.server.ended.wait(30)
        self.close_connection = True

    def _dispatch(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.requests.append(Asked(self.path, self.headers, body))
        try:
            self.server.routes.get(urlsplit(self.path).path, self.server.otherwise)(self)
        except OSError:
            self.close_connection = True

    do_GET = do_POST = _dispatch  # noqa: N815 -- the names are http.server's

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


Route = Callable[[Exchange], None]


class Scripted(ThreadingHTTPServer):
    """`routes` by path; anything else is answered by `otherwise`."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Exchange)
        self.routes: dict[str, Route] = {}
        self.otherwise: Route = lambda exchange: exchange.answer(404, "nothing here")
        self.requests: list[Asked] = []
        self.ended = threading.Event()
        self.scheme = "http"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def handle_error(self, *_: Any) -> None:
        """A client that leaves is no news."""


@contextmanager
def scripted(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Scripted]:
    """A server that runs until the block ends."""
    server = Scripted(port)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
