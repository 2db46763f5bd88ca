"""A proxy before Argo CD that ends every connection after a while, as some do."""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit


@contextlib.contextmanager
def cutting_proxy(url: str, *, seconds: float) -> Iterator[str]:
    """The address of a TCP proxy to `url` that cuts each connection after `seconds`."""
    parts = urlsplit(url)
    target = (str(parts.hostname), parts.port or 80)
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threads.append(threading.Thread(target=_carry, args=(client, target, seconds)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join()


def _carry(client: socket.socket, target: tuple[str, int], seconds: float) -> None:
    ends = time.monotonic() + seconds
    with client, socket.create_connection(target) as server, selectors.DefaultSelector() as ready:
        for source, sink in ((client, server), (server, client)):
            ready.register(source, selectors.EVENT_READ, sink)
        with contextlib.suppress(OSError):
            while (left := ends - time.monotonic()) > 0:
                for key, _ in ready.select(left):
                    assert isinstance(key.fileobj, socket.socket)
                    if not (data := key.fileobj.recv(1 << 16)):
                        return
                    key.data.sendall(data)
