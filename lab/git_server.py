"""Git over smart HTTP, as a process of its own: `python -m lab.git_server ROOT PORT [HOST]`."""

import signal
import sys
import threading
from pathlib import Path

from pipeline.sandbox.git_http import git_http
from pipeline.sandbox.server import Server

if __name__ == "__main__":
    root, port, *host = sys.argv[1:]
    server = Server(git_http(Path(root)), int(port), *host)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.wait(1.0):  # a signal in the moment before a wait is heard after it
        pass
    server.close()
