"""What breaks between us and the server: whatever it is, the change lands exactly once or not at all."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.edges.gitops_repository import open_repository
from pipeline.errors import NoSpaceLeft, PipelineError, Unreachable
from pipeline.steps.publish_change import PublishedChange
from tests.git_world import (
    FILE,
    QUIET,
    Proxy,
    bare,
    bump,
    content,
    git,
    head,
    hook,
    image,
    kustomization,
    served,
    tag,
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The machine's own git settings play no part, and nothing temporary stays."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    yield
    assert list(temporary.iterdir()) == []


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """The bare GitOps repository."""
    (tmp_path / "root").mkdir()
    return bare(tmp_path / "root/gitops.git", {FILE: kustomization(flask=tag("old"))})


@pytest.fixture
def proxy(world: Path) -> Iterator[Proxy]:
    """A line to the server that can be cut."""
    with served(world.parent) as root:
        proxy = Proxy(int(root.rpartition(":")[2]))
        yield proxy
        proxy.close()


def publish(proxy: Proxy) -> PublishedChange:
    repository = open_repository(f"http://127.0.0.1:{proxy.port}/gitops.git", "main")
    try:
        return bump(repository, image("flask", "new"))
    finally:
        repository.close()


def landed(world: Path) -> int:
    """How many commits say that they deploy."""
    return git(world, "log", "--format=%s", "main").count("deploy(production)")


def test_a_bump_s_requests(proxy: Proxy) -> None:
    """The requests that the other tests cut."""
    publish(proxy)
    lines = [line.decode().replace("/gitops.git", "").partition(" HTTP")[0] for line in proxy.requests]
    assert lines == [
        "GET /info/refs?service=git-upload-pack",
        "POST /git-upload-pack",
        "POST /git-upload-pack",
        "GET /info/refs?service=git-upload-pack",
        "POST /git-upload-pack",
        "GET /info/refs?service=git-receive-pack",
        "POST /git-receive-pack",
    ]


@pytest.mark.parametrize("delivered", [False, True])
@pytest.mark.parametrize(
    "request_line", [b"service=git-upload-pack", b"/git-upload-pack", b"service=git-receive-pack", b"/git-receive-pack"]
)
def test_one_cut_line_costs_nothing(proxy: Proxy, world: Path, request_line: bytes, delivered: bool) -> None:
    """Whether the request was lost or only its answer: the change is there, once."""
    proxy.cut_request, proxy.deliver_request = request_line, delivered
    change = publish(proxy)
    assert proxy.times == 0
    assert (change.outcome, change.gitops.revision) == ("published", head(world))
    assert landed(world) == 1


def test_an_answer_that_is_lost_while_others_go_on_is_still_found(proxy: Proxy, world: Path) -> None:
    """Our commit lands, the answer is lost, and three others commit on top before we can look."""
    hook(
        world,
        "post-receive",
        "while read old new ref; do for n in 1 2 3; do"
        " new=$(git commit-tree -p $new -m theirs $new^{tree}); git update-ref $ref $new; done; done",
    )
    proxy.cut_request, proxy.deliver_request = b"/git-receive-pack", True
    change = publish(proxy)
    assert change.gitops.revision == git(world, "rev-parse", "main~3")
    assert landed(world) == 1


def test_a_server_that_goes_away_for_good_is_told_honestly(
    proxy: Proxy, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the push on, nothing answers: nobody can know whether the commit landed, and that is what is said."""
    monkeypatch.setattr("pipeline.edges.git_push._TRIES_TO_SETTLE", 2)
    repository = open_repository(f"http://127.0.0.1:{proxy.port}/gitops.git", "main")
    try:
        now = repository.read([FILE])
        proxy.cut_request, proxy.times, proxy.deliver_request = b"/", 1000, True
        with pytest.raises(Unreachable, match=r"whether commit [0-9a-f]{40} arrived is not known"):
            repository.publish(now, {FILE: b"images: []\n"}, "ours")
        proxy.cut_request = None
        again = bump(repository, image("flask", "new"), create=True)
    finally:
        repository.close()
    assert again.outcome == "published"
    assert tag("new") in content(world).decode()


def test_a_server_that_dies_while_it_works_on_the_push(proxy: Proxy, world: Path) -> None:
    """receive-pack is killed in its hook, once: nothing landed, and the second try does."""
    hook(world, "pre-receive", f"[ -e {world}/died ] && exit 0; touch {world}/died; kill -9 $PPID")
    assert publish(proxy).outcome == "published"
    assert landed(world) == 1


def test_a_server_that_dies_after_the_commit_has_landed(proxy: Proxy, world: Path) -> None:
    hook(world, "post-update", "kill -9 $PPID")
    change = publish(proxy)
    assert (change.outcome, change.gitops.revision) == ("published", head(world))
    assert landed(world) == 1


@pytest.mark.root
@pytest.mark.parametrize(
    ("left", "error"),
    [(0, Unreachable), (8192, NoSpaceLeft)],
    ids=["nothing is left, so that git breaks off without a word", "a little is left"],
)
def test_a_full_disk_of_the_server(tmp_path: Path, left: int, error: type[PipelineError]) -> None:
    with mounted(tmp_path / "small", 600) as root:
        world = bare(root / "gitops.git", {FILE: kustomization(flask=tag("old"))})
        old = head(world)
        with served(root) as url:
            fill(root, leave=left)
            repository = open_repository(f"{url}/gitops.git")
            try:
                with pytest.raises(error):
                    bump(repository)
            finally:
                repository.close()
        (root / "filler").unlink()
        assert head(world) == old
        git(world, "fsck")


@pytest.mark.root
@pytest.mark.parametrize("kilobytes", [4, 80, 120])
def test_a_full_disk_of_ours(
    proxy: Proxy, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kilobytes: int
) -> None:
    old = head(world)
    with mounted(tmp_path / "small", kilobytes) as folder:
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        fill(folder, leave=kilobytes * 1024 // 4)
        with pytest.raises(NoSpaceLeft):
            publish(proxy)
        (folder / "filler").unlink()
        assert list(folder.iterdir()) == []
    assert head(world) == old


class mounted:  # noqa: N801
    """A small file system of its own."""

    def __init__(self, folder: Path, kilobytes: int) -> None:
        self._folder, self._kilobytes = folder, kilobytes

    def __enter__(self) -> Path:
        self._folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._kilobytes}k", "tmpfs", str(self._folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this machine lets nobody mount a small file system")
        return self._folder

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)


def fill(folder: Path, *, leave: int = 0) -> None:
    """Fill a file system but for `leave` bytes."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            file.truncate(max(0, file.tell() - leave))
