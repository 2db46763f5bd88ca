"""git's own client against the smart HTTP server."""

import os
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.secret import Secret
from pipeline.sandbox.git_http import git_http
from pipeline.sandbox.server import Server

TOKEN = "s3cret-token"


def git(*arguments: str, cwd: Path | None = None) -> str:
    """Run git undisturbed by the machine's settings; raises CalledProcessError."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("one.git", "group/two.git"):
        git("init", "--bare", "--initial-branch=main", str(root / name))
    return root


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    server = Server(git_http(root))
    yield server
    server.close()


@pytest.fixture
def guarded(root: Path) -> Iterator[Server]:
    server = Server(git_http(root, token=Secret(TOKEN)))
    yield server
    server.close()


def work_tree(path: Path, content: bytes = b"hello\n") -> Path:
    git("init", "--initial-branch=main", str(path))
    (path / "file").write_bytes(content)
    git("add", ".", cwd=path)
    git("commit", "-m", "first", cwd=path)
    return path


def url(server: Server, name: str, user: str = "") -> str:
    return f"http://{user}127.0.0.1:{server.port}/{name}"


@pytest.mark.parametrize("name", ["one.git", "group/two.git"])
def test_what_is_pushed_can_be_cloned(server: Server, tmp_path: Path, name: str) -> None:
    git("push", url(server, name), "main", cwd=work_tree(tmp_path / "work"))
    git("clone", url(server, name), str(tmp_path / "clone"))
    assert (tmp_path / "clone/file").read_bytes() == b"hello\n"


def test_a_push_larger_than_gits_buffer_arrives_in_chunks(server: Server, root: Path, tmp_path: Path) -> None:
    """git sends a pack above http.postBuffer (1 MiB) with chunked encoding."""
    work = work_tree(tmp_path / "work", os.urandom(8 << 20))
    git("push", url(server, "one.git"), "main", cwd=work)
    assert git("-C", str(root / "one.git"), "rev-parse", "main") == git("rev-parse", "HEAD", cwd=work)


def test_a_large_fetch_request_arrives_compressed(server: Server, tmp_path: Path) -> None:
    """git compresses a request of more than 1 KiB: here the haves of a long local history."""
    work = work_tree(tmp_path / "work")
    for number in range(40):
        git("commit", "--allow-empty", "-m", str(number), cwd=work)
    git("push", url(server, "one.git"), "main", cwd=work)
    other = work_tree(tmp_path / "other", b"other\n")
    for number in range(60):
        git("commit", "--allow-empty", "-m", f"other {number}", cwd=other)
    git("fetch", url(server, "one.git"), "main", cwd=other)
    assert git("rev-parse", "FETCH_HEAD", cwd=other) == git("rev-parse", "HEAD", cwd=work)


def test_a_partial_clone_has_no_blobs(server: Server, tmp_path: Path) -> None:
    git("push", url(server, "one.git"), "main", cwd=work_tree(tmp_path / "work"))
    git("clone", "--bare", "--filter=blob:none", url(server, "one.git"), str(tmp_path / "clone"))
    missing = git("-C", str(tmp_path / "clone"), "rev-list", "--objects", "--missing=print", "main")
    assert "\n?" in missing


def test_a_server_may_know_no_partial_clones(root: Path, tmp_path: Path) -> None:
    server = Server(git_http(root, partial=False))
    try:
        git("push", url(server, "one.git"), "main", cwd=work_tree(tmp_path / "work"))
        git("clone", "--bare", "--filter=blob:none", url(server, "one.git"), str(tmp_path / "clone"))
    finally:
        server.close()
    assert "\n?" not in git("-C", str(tmp_path / "clone"), "rev-list", "--objects", "--missing=print", "main")


@pytest.mark.parametrize("user", [f"x-access-token:{TOKEN}@", f"anyone:{TOKEN}@"])
def test_the_token_opens_with_any_user_name(guarded: Server, tmp_path: Path, user: str) -> None:
    work = work_tree(tmp_path / "work")
    git("push", url(guarded, "one.git", user), "main", cwd=work)
    assert git("ls-remote", url(guarded, "one.git", user)).startswith(git("rev-parse", "HEAD", cwd=work))


@pytest.mark.parametrize("user", ["", "anyone:wrong@", f"{TOKEN}:@"])
def test_without_the_token_nothing_is_read(guarded: Server, user: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        git("ls-remote", url(guarded, "one.git", user))
    assert caught.value.returncode == 128


@pytest.mark.parametrize("header", ["Bearer x", "Basic !", "Basic w7Y=", "Basic //8=", ""])
def test_a_malformed_authorization_is_refused(guarded: Server, header: str) -> None:
    request = urllib.request.Request(
        url(guarded, "one.git/info/refs?service=git-upload-pack"), headers={"Authorization": header}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 401


@pytest.mark.parametrize("path", ["none.git/info/refs", "../one.git/info/refs", "one.git/../../etc/passwd", ""])
def test_what_is_not_a_repository_is_not_served(server: Server, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url(server, path))
    assert caught.value.code in {403, 404, 500}


def test_a_hook_speaks_and_refuses(server: Server, root: Path, tmp_path: Path) -> None:
    hook = root / "one.git/hooks/pre-receive"
    hook.write_text('#!/bin/sh\necho "not today, $REMOTE_USER"\nexit 1\n')
    hook.chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        git("push", url(server, "one.git"), "main", cwd=work_tree(tmp_path / "work"))
    assert "remote: not today, anonymous" in caught.value.stderr
    assert "pre-receive hook declined" in caught.value.stderr


def test_hooks_see_none_of_our_tokens(
    server: Server, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITOPS_TOKEN", TOKEN)
    hook = root / "one.git/hooks/post-receive"
    hook.write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\n")
    hook.chmod(0o755)
    git("push", url(server, "one.git"), "main", cwd=work_tree(tmp_path / "work"))
    assert TOKEN not in (tmp_path / "seen").read_text()


def test_many_clients_are_served_at_once(server: Server, tmp_path: Path) -> None:
    git("push", url(server, "one.git"), "main", cwd=work_tree(tmp_path / "work"))
    heads: list[str] = []
    threads = [
        threading.Thread(target=lambda: heads.append(git("ls-remote", url(server, "one.git"), "main")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heads) == 8
    assert len(set(heads)) == 1


def test_a_request_that_breaks_off_leaves_no_process_behind(server: Server, root: Path, tmp_path: Path) -> None:
    """git http-backend itself would go on reading the missing rest for ever."""
    git("push", url(server, "one.git"), "main", cwd=work_tree(tmp_path / "work"))
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"POST /one.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            b"Content-Type: application/x-git-receive-pack-request\r\n\r\n0000"
        )
    server.close()  # waits for every request
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(root) not in running
