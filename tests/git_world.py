"""A world of git for tests: real repositories, real servers, and what goes wrong between them."""

import contextlib
import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.core.deployment import Image
from pipeline.core.progress import Silent
from pipeline.core.secret import Secret
from pipeline.sandbox.git_http import git_http
from pipeline.sandbox.server import Server
from pipeline.steps.publish_change import GitopsRepository, Inputs, PublishedChange, Source, publish_change

OVERLAY = "overlays/production"
FILE = f"{OVERLAY}/kustomization.yaml"
QUIET = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
}


def git(where: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git undisturbed by the machine's settings; raises CalledProcessError."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=where,
        env={"PATH": os.environ["PATH"], "HOME": os.devnull, **QUIET},
        input=stdin,
        capture_output=True,
        check=True,
    )
    return os.fsdecode(done.stdout).strip()


def tag(word: str) -> str:
    """A tag that looks like a commit."""
    return hashlib.sha1(word.encode()).hexdigest()


def kustomization(**tags: str) -> bytes:
    """A kustomization file with one entry per name."""
    entries = "".join(f"  - name: {name}  # ours\n    newTag: {value}\n" for name, value in tags.items())
    return f"# The production overlay\nresources:\n  - ../../base\n\nimages:\n{entries}".encode()


def bare(path: Path, files: Mapping[str, bytes] | None = None, *, branch: str = "main") -> Path:
    """A bare repository whose branch holds `files`; without any it is empty."""
    git(path.parent, "init", "--quiet", "--bare", f"--initial-branch={branch}", str(path))
    if files:
        commit(path, files, branch=branch)
    return path


def commit(
    repository: Path, files: Mapping[str, bytes | None], *, branch: str = "main", message: str = "by hand"
) -> str:
    """Commit to a bare repository as somebody else would; None removes a file. Returns the new revision."""
    old = git(repository, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
    parent = f"from {old}\n" if old else ""
    text = message.encode()
    lines = [
        f"commit refs/heads/{branch}\ncommitter Bob <bob@example.org> 1700000000 +0000\ndata {len(text)}\n".encode()
    ]
    lines += [text, b"\n", parent.encode()]
    for path, data in files.items():
        content = (
            f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data if data is not None else f"D {path}".encode()
        )
        lines += [content, b"\n"]
    git(repository, "fast-import", "--quiet", "--force", stdin=b"".join(lines))
    return head(repository, branch)


def head(repository: Path, branch: str = "main") -> str:
    """The revision of a branch."""
    return git(repository, "rev-parse", f"refs/heads/{branch}")


def content(repository: Path, path: str = FILE, revision: str = "main") -> bytes:
    """A file's bytes in a repository."""
    return subprocess.run(
        ["git", "cat-file", "blob", f"{revision}:{path}"], cwd=repository, check=True, capture_output=True
    ).stdout


def clone(repository: Path, path: Path) -> Path:
    """A work tree of a repository, with a user's settings."""
    git(path.parent, "clone", "--quiet", str(repository), str(path))
    git(path, "config", "user.name", "Ada")
    git(path, "config", "user.email", "ada@example.org")
    return path


def hook(repository: Path, name: str, script: str) -> None:
    """Put a hook on the server's side."""
    file = repository / "hooks" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@contextlib.contextmanager
def served(root: Path, *, token: Secret | None = None, partial: bool = True) -> Iterator[str]:
    """Serve the repositories below `root` over smart HTTP; gives the base URL."""
    server = Server(git_http(root, token=token, partial=partial))
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.close()


def image(name: str = "flask", word: str = "new", *, digest: str | None = None) -> Image:
    """An image to deploy."""
    return Image(name=name, repository=name, tag=tag(word), digest=digest)


def bump(
    repository: GitopsRepository, *images: Image, source: Source | None = None, **inputs: object
) -> PublishedChange:
    """publish_change with what tests rarely care about."""
    given: dict[str, object] = {
        "environment": "production",
        "images": images or (image(),),
        "overlays": (OVERLAY,),
        "deployment_id": "4711-production",
        **inputs,
    }
    return publish_change(repository, source, Inputs(**given), Silent())  # type: ignore[arg-type]


class Proxy:
    """A TCP proxy that cuts connections: `cut` decides, for each piece that passes, whether the line goes dead."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.cut_request: bytes | None = None
        """A word of a request's first line; such a request is cut."""
        self.deliver_request = False
        """Whether a request that is cut still reaches the server whole; only its answer is lost."""
        self.times = 1
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server)) as server, contextlib.suppress(OSError):
            first = client.recv(1 << 16)
            line = first.partition(b"\r\n")[0]
            self.requests.append(line)
            with self._lock:
                cut = bool(self.cut_request and self.cut_request in line and self.times > 0)
                self.times -= cut
            if cut and not self.deliver_request:
                server.sendall(first[: len(first) // 2])
                return
            server.sendall(first)
            upward = threading.Thread(target=_pump, args=(client, server))
            upward.start()
            if cut:
                while server.recv(1 << 16):
                    pass
            else:
                _pump(server, client)
            client.shutdown(socket.SHUT_RDWR)
            upward.join()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
