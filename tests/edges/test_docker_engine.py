"""The Docker SDK against a real engine and a real registry, and its streams as engines really write them."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from pipeline.core.progress import Silent
from pipeline.core.secret import Secret
from pipeline.core.source import Checkout
from pipeline.edges import docker_engine
from pipeline.edges.docker_engine import DockerEngine
from pipeline.edges.registry import OciRegistry
from pipeline.edges.registry_login import Login, Logins
from pipeline.errors import BuildFailed, PipelineError, PushFailed, RegistryDenied, TagIsTaken, Unreachable, UsageError
from pipeline.steps.build_image import REVISION_LABEL, Found, Inputs, Recipe, build_image

COMMIT = "3f2a9c1b" * 5
SHELL = 'RUN ["/busybox", "sh", "-c", "{}"]\n'


@dataclass
class Heard:
    """Progress that is kept."""

    said: list[str] = field(default_factory=list)
    shown: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, key: str, state: str) -> None:
        self.shown.append((key, state))


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    shutil.copy(busybox, folder)
    return folder


@pytest.fixture
def recipe(context: Path, start_registry: Callable[..., str]) -> Iterator[Recipe]:
    repository = f"{start_registry()}/team/app"
    yield recipe_for(repository, context)
    clean(repository)


def recipe_for(repository: str, context: Path) -> Recipe:
    return Recipe(
        repository=repository,
        tag=COMMIT,
        context=context,
        dockerfile=context / "Dockerfile",
        platforms=(),
        labels={REVISION_LABEL: COMMIT},
    )


def clean(repository: str) -> None:
    """Leave nothing of a test in the engine."""
    client = docker.from_env()
    for image in client.images.list(name=repository):
        with contextlib.suppress(NotFound):  # whoever cleans the engine meanwhile may have been first
            client.images.remove(str(image.id), force=True)
    client.images.prune(filters={"label": f"{REVISION_LABEL}={COMMIT}"})
    client.close()


def write(recipe: Recipe, dockerfile: str) -> None:
    recipe.dockerfile.write_text(f"FROM scratch\nCOPY busybox /busybox\n{dockerfile}")


def logins(folder: Path) -> Logins:
    return Logins({"HOME": str(folder), "PATH": os.environ["PATH"]})


@pytest.mark.docker
@pytest.mark.registry
def test_what_the_engine_pushed_is_what_the_registry_has(recipe: Recipe, tmp_path: Path) -> None:
    write(recipe, SHELL.format("echo built"))
    heard = Heard()
    digest = DockerEngine(logins(tmp_path)).build_and_push(recipe, heard)
    assert OciRegistry(logins(tmp_path)).look_up(recipe.repository, COMMIT) == Found(digest, COMMIT)
    assert heard.said[1] == "Step 2/4 : COPY busybox /busybox"
    assert ("build", "built") in heard.shown
    layers = [state for key, state in heard.shown if key.startswith("layer ")]
    assert layers[0] == "Preparing"
    assert layers[-1] == "", "a layer that is pushed is shown no longer"


@pytest.mark.docker
@pytest.mark.registry
def test_the_step_holds_on_a_real_engine_and_a_real_registry(recipe: Recipe, tmp_path: Path) -> None:
    write(recipe, "")
    engine, registry = DockerEngine(logins(tmp_path)), OciRegistry(logins(tmp_path))
    checkout = Checkout(recipe.context, COMMIT, "https://github.com/openeg/app", (), datetime(2026, 11, 23, tzinfo=UTC))
    inputs = Inputs(
        name="app",
        repository=recipe.repository,
        context=recipe.context,
        dockerfile=None,
        platforms=(),
        checkout=checkout,
        service=None,
    )
    first = build_image(engine, registry, inputs, Silent())
    second = build_image(engine, registry, inputs, Silent())
    assert (first.pushed, second.pushed) == (True, False)
    assert first.image == second.image

    other = "0" * 40
    engine.build_and_push(replace(recipe, tag=other), Silent())
    with pytest.raises(TagIsTaken, match=f"built from commit {COMMIT}"):
        build_image(engine, registry, replace(inputs, checkout=replace(checkout, commit=other)), Silent())


@pytest.mark.docker
@pytest.mark.registry
def test_a_dockerfile_may_lie_beside_the_context(recipe: Recipe, tmp_path: Path) -> None:
    beside = replace(recipe, dockerfile=tmp_path / "Dockerfile.beside")
    write(beside, "")
    assert DockerEngine(logins(tmp_path)).build_and_push(beside, Silent())


@pytest.mark.docker
@pytest.mark.registry
@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        (SHELL.format("echo one; echo two; exit 3"), r"(?s)^RUN \[.*non-zero code: 3\n  one\n  two$"),
        ("COPY nothing /\n", "^COPY nothing /: COPY failed"),
        ("FRM scratch\n", "unknown instruction: FRM"),
        ("FROM 127.0.0.1:1/base\n", "^FROM 127.0.0.1:1/base: .*refused"),
    ],
)
def test_a_failed_build_names_its_step_and_its_last_lines(
    recipe: Recipe, tmp_path: Path, dockerfile: str, words: str
) -> None:
    write(recipe, dockerfile)
    with pytest.raises(BuildFailed, match=words):
        DockerEngine(logins(tmp_path)).build_and_push(recipe, Silent())
    assert OciRegistry(logins(tmp_path)).look_up(recipe.repository, COMMIT) is None


@pytest.mark.docker
@pytest.mark.registry
def test_the_given_login_pushes_and_no_login_is_denied(
    context: Path, start_registry: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    htpasswd = tmp_path / "htpasswd"
    subprocess.run(["htpasswd", "-Bbc", str(htpasswd), "ci", "geheim"], check=True, capture_output=True)
    host = start_registry(htpasswd)
    recipe = recipe_for(f"{host}/team/app", context)
    write(recipe, "")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    known = Logins(logins(tmp_path).environ, {host: Login("ci", Secret("geheim"))})
    wrong = Logins(logins(tmp_path).environ, {host: Login("ci", Secret("verraten"))})
    try:
        with pytest.raises(RegistryDenied, match="no basic auth credentials"):
            DockerEngine(logins(tmp_path)).build_and_push(recipe, Silent())
        with pytest.raises(RegistryDenied, match=f"registry {host}") as caught:
            DockerEngine(wrong).build_and_push(recipe, Silent())
        assert "verraten" not in str(caught.value)
        digest = DockerEngine(known).build_and_push(recipe, Silent())
        assert OciRegistry(known).look_up(recipe.repository, COMMIT) == Found(digest, COMMIT)
    finally:
        clean(recipe.repository)


@pytest.mark.docker
@pytest.mark.parametrize("platforms", [("plan9/mips",), ("linux/amd64", "linux/arm64")])
def test_other_platforms_need_buildx(context: Path, tmp_path: Path, platforms: tuple[str, ...]) -> None:
    recipe = replace(recipe_for("127.0.0.1:1/app", context), platforms=platforms)
    with pytest.raises(UsageError, match=r"this Docker engine builds for linux/.* alone") as caught:
        DockerEngine(logins(tmp_path)).build_and_push(recipe, Silent())
    assert "buildx" in caught.value.remedy


@pytest.mark.docker
@pytest.mark.registry
def test_a_damaged_credential_helper_is_named(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(recipe, "")
    (tmp_path / "config.json").write_text('{"credsStore": "gone"}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with (
        pytest.warns(UserWarning, match="gone"),
        pytest.raises(RegistryDenied, match="docker-credential-gone not installed"),
    ):
        DockerEngine(logins(tmp_path)).build_and_push(recipe, Silent())


@pytest.mark.parametrize("address", ["unix:///nowhere.sock", "tcp://127.0.0.1:1", "nonsense://"])
def test_without_an_engine_the_remedy_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    assert not docker_engine.answers()
    with pytest.raises(Unreachable, match="no Docker engine: ") as caught:
        DockerEngine(logins(tmp_path)).build_and_push(recipe_for("127.0.0.1:1/app", tmp_path), Silent())
    assert "DOCKER_HOST" in caught.value.remedy


@pytest.mark.docker
def test_an_engine_that_runs_answers() -> None:
    assert docker_engine.answers()


@pytest.mark.parametrize(
    ("event", "error", "words"),
    [
        ({"error": "denied: requested access to the resource is denied"}, RegistryDenied, "app:1: denied"),
        ({"error": "unauthorized: authentication required"}, RegistryDenied, "unauthorized"),
        ({"error": "received unexpected HTTP status: 507 Insufficient Storage"}, PushFailed, "507"),
        ({"error": "write /var/lib/registry/x: no space left on device"}, PushFailed, "no space left"),
        ({"status": "Pushed", "id": "0123"}, PushFailed, "without a digest"),
    ],
)
def test_a_push_that_fails_says_why(event: dict[str, Any], error: type[PipelineError], words: str) -> None:
    with pytest.raises(error, match=words):
        docker_engine.follow_push([{"status": "Preparing", "id": "0123"}, event], "app:1", Silent())


def test_layers_are_shown_in_tens_of_percent() -> None:
    heard = Heard()
    detail = [{}, {"current": 5, "total": 40}, {"current": 39, "total": 40}, {"current": 41, "total": 40}]
    events: list[dict[str, Any]] = [{"status": "Pushing", "id": "ab", "progressDetail": each} for each in detail]
    digest = "sha256:" + "1" * 64
    pushed = {"status": f"{COMMIT}: digest: {digest} size: 528"}
    assert docker_engine.follow_push([*events, pushed], "app:1", heard) == digest
    assert [state for _, state in heard.shown] == ["Pushing", "Pushing 10 %", "Pushing 90 %", "Pushing"]


def test_a_build_that_ends_early_is_no_success() -> None:
    with pytest.raises(BuildFailed, match="RUN x: the Docker engine ended the build without an image"):
        docker_engine.follow_build([{"stream": "Step 1/2 : RUN x"}], Silent())


@pytest.mark.parametrize("rest", [b"", b'1d\r\n{"stream": "Step 1/2 : RUN x"}', b"1\r\n{\r\n0\r\n\r\n"])
def test_an_engine_that_dies_while_building_is_unreachable(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    """A server that answers as an engine does, and breaks off in the middle of the build."""
    version = b'{"ApiVersion": "1.41", "Os": "linux", "Arch": "amd64"}'
    answers = [b"Content-Length: %d\r\n\r\n%s" % (len(version), version)] * 2
    answers.append(b"Transfer-Encoding: chunked\r\n\r\n" + rest)

    def serve(listening: socket.socket) -> None:
        for answer in answers:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as asked:
                while asked.readline().strip():
                    pass
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + answer)

    recipe = recipe_for("127.0.0.1:1/app", context)
    recipe.dockerfile.write_text("FROM scratch\n")
    (context / "busybox").unlink()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(Unreachable, match="the Docker engine broke off"):
            DockerEngine(logins(tmp_path)).build_and_push(recipe, Silent())


def test_only_the_last_lines_of_a_long_step_are_repeated() -> None:
    lines = [{"stream": f"line {number}\n"} for number in range(100)]
    with pytest.raises(BuildFailed) as caught:
        docker_engine.follow_build([{"stream": "Step 1/1 : RUN x"}, *lines, {"error": "exit 1"}], Silent())
    assert str(caught.value).splitlines() == ["RUN x: exit 1", *(f"  line {number}" for number in range(80, 100))]
