"""The buildx plugin: its output as it really writes it, and the plugin itself where one has been built."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipeline.core.progress import Silent
from pipeline.core.secret import Secret
from pipeline.edges import buildx, engine
from pipeline.edges.buildx import Buildx, find_plugin
from pipeline.edges.docker_engine import DockerEngine
from pipeline.edges.registry import OciRegistry
from pipeline.edges.registry_login import Login, Logins
from pipeline.errors import BuildFailed, PipelineError, PushFailed, RegistryDenied, Unreachable, UsageError
from pipeline.steps.build_image import REVISION_LABEL, Found, Recipe
from tests import needs

COMMIT = "3f2a9c1b" * 5
DIGEST = "sha256:" + "a" * 64
TOOLS = Path(os.environ.get("OPENEG_TOOLS", Path.home() / ".cache/openeg-lab/bin"))


@dataclass
class Heard:
    """Progress that is kept."""

    said: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, key: str, state: str) -> None:
        assert key == "build"
        self.shown.append(state)


def recipe_for(repository: str, context: Path) -> Recipe:
    return Recipe(
        repository=repository,
        tag=COMMIT,
        context=context,
        dockerfile=context / "Dockerfile",
        platforms=(),
        labels={REVISION_LABEL: COMMIT},
    )


# what it writes

GOOD = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 76B done
#1 DONE 0.0s

#4 [1/2] COPY busybox /busybox
#4 CACHED

#5 [2/2] RUN make
#5 0.123 compiling
#5 0.456 linking
#5 DONE 0.5s

#6 exporting to image
#6 pushing layers 0.1s done
#6 DONE 0.2s
"""


def test_steps_are_said_and_their_output_is_shown() -> None:
    heard = Heard()
    buildx.follow(GOOD.splitlines(keepends=True), "app:1", heard)
    assert heard.said == ["[1/2] COPY busybox /busybox", "[2/2] RUN make"]
    assert heard.shown == ["transferring dockerfile: 76B done", "compiling", "linking", "pushing layers 0.1s done", ""]


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        pytest.param(
            "#5 [2/2] RUN make\n#5 0.1 compiling\n#5 0.2 oops\n#5 ERROR: process did not complete\n"
            "------\n > [2/2] RUN make:\n0.1 compiling\n0.2 oops\n------\n"
            "ERROR: failed to build: exit code: 3\n",
            BuildFailed,
            "[2/2] RUN make: failed to build: exit code: 3\n  compiling\n  oops",
            id="a command fails",
        ),
        pytest.param(
            "#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n"
            "Dockerfile:1\n--------------------\n   1 | >>> FRM x\n--------------------\n"
            "ERROR: failed to solve: dockerfile parse error on line 1: unknown instruction: FRM\n",
            BuildFailed,
            "app:1: failed to solve: dockerfile parse error on line 1: unknown instruction: FRM",
            id="a Dockerfile that is none",
        ),
        pytest.param(
            "#5 exporting to image\n#5 ERROR: failed to push\n"
            "ERROR: failed to solve: failed to push app:1: unexpected status: 401 Unauthorized\n",
            RegistryDenied,
            "app:1: failed to solve: failed to push app:1: unexpected status: 401 Unauthorized",
            id="BuildKit may not push",
        ),
        pytest.param(
            "#6 pushing app:1 with docker\n#6 ERROR: received unexpected HTTP status: 507\n"
            "ERROR: failed to build: received unexpected HTTP status: 507\n",
            PushFailed,
            "app:1: failed to build: received unexpected HTTP status: 507",
            id="the registry is full",
        ),
        pytest.param(
            "ERROR: Cannot connect to the Docker daemon at tcp://127.0.0.1:1. Is the docker daemon running?\n",
            Unreachable,
            "app:1: Cannot connect to the Docker daemon at tcp://127.0.0.1:1. Is the docker daemon running?",
            id="no engine",
        ),
        pytest.param(
            '#0 building with "dead" instance using remote driver\n\n#1 [internal] waiting for connection\n'
            "#1 ERROR: context deadline exceeded\nERROR: failed to build: context deadline exceeded\n",
            Unreachable,
            "app:1: failed to build: context deadline exceeded",
            id="a builder that is down",
        ),
        pytest.param(
            "ERROR: failed to build: Multi-platform build is not supported for the docker driver.\n",
            UsageError,
            "app:1: failed to build: Multi-platform build is not supported for the docker driver.",
            id="platforms that the builder cannot do",
        ),
        pytest.param("", Unreachable, "app:1: buildx gave no reason", id="silence"),
    ],
)
def test_each_failure_is_told_apart(output: str, error: type[PipelineError], message: str) -> None:
    problem = buildx.follow(output.splitlines(keepends=True), "app:1", Silent())
    assert type(problem) is error
    assert str(problem) == message


# how it is found and started


def plugin(folder: Path, script: str) -> Path:
    program = folder / "cli-plugins" / "docker-buildx"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def machine(folder: Path) -> Logins:
    return Logins({"DOCKER_CONFIG": str(folder), "PATH": os.environ["PATH"], "HOME": str(folder)})


def test_the_plugin_is_used_where_docker_would_find_it(tmp_path: Path) -> None:
    program = plugin(tmp_path, "")
    assert find_plugin(machine(tmp_path)) == program
    assert engine.connect(machine(tmp_path)) == Buildx(program, machine(tmp_path))


def test_without_the_plugin_the_engine_builds_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buildx, "_SYSTEM_FOLDERS", ())
    assert engine.connect(machine(tmp_path)) == DockerEngine(machine(tmp_path))


def test_the_login_travels_in_the_environment_alone(tmp_path: Path) -> None:
    script = f"""
    printf '%s\\n' "$@" > {tmp_path}/arguments
    printf %s "$DOCKER_AUTH_CONFIG" > {tmp_path}/login
    for argument; do case $argument in --metadata-file=*) file=${{argument#*=}};; esac; done
    ls -A "$(dirname "$file")" > {tmp_path}/files
    echo '{{"containerimage.digest": "{DIGEST}"}}' > "$file"
    """
    present = json.dumps({"auths": {"base.example": {"auth": "eDp5"}}})
    logins = machine(tmp_path)
    logins = Logins(
        {**logins.environ, "DOCKER_AUTH_CONFIG": present},
        {host: Login("ci", Secret("geheim")) for host in ("registry.oud.kr", "docker.io")},
    )
    recipe = replace(recipe_for("registry.oud.kr/app", tmp_path), platforms=("linux/amd64", "linux/arm64"))
    assert Buildx(plugin(tmp_path, script), logins).build_and_push(recipe, Silent()) == DIGEST
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert "--platform=linux/amd64,linux/arm64" in arguments
    assert f"--label={REVISION_LABEL}={COMMIT}" in arguments
    assert f"--tag=registry.oud.kr/app:{COMMIT}" in arguments
    auth = base64.b64encode(b"ci:geheim").decode()
    assert json.loads((tmp_path / "login").read_text()) == {
        "auths": {
            "base.example": {"auth": "eDp5"},
            "registry.oud.kr": {"auth": auth},
            "https://index.docker.io/v1/": {"auth": auth},
        }
    }
    assert not any(secret in argument for argument in arguments for secret in ("geheim", auth))
    assert (tmp_path / "files").read_text() == ""


@pytest.mark.parametrize("metadata", ["", "{}", "["])
def test_a_push_without_a_digest_is_not_believed(tmp_path: Path, metadata: str) -> None:
    script = (
        f"""for argument; do case $argument in --metadata-file=*) echo '{metadata}' > "${{argument#*=}}";; esac; done"""
    )
    with pytest.raises(PushFailed, match="without the digest"):
        Buildx(plugin(tmp_path, script), machine(tmp_path)).build_and_push(
            recipe_for("r.example/app", tmp_path), Silent()
        )


class Interrupting(Silent):
    """Whoever watches presses Ctrl-C at the first word."""

    def say(self, text: str) -> None:  # noqa: ARG002
        raise KeyboardInterrupt


# One plugin goes at once; the other takes longer than Python's own patience with an interrupted child.
@pytest.mark.parametrize("farewell", ["", "trap 'sleep 1; exit 1' TERM;"])
def test_an_interrupt_ends_the_plugin(tmp_path: Path, farewell: str) -> None:
    script = f"{farewell} echo $$ > {tmp_path}/pid; echo '#1 [1/1] RUN sleep' >&2; while :; do sleep 0.1; done"
    with pytest.raises(KeyboardInterrupt):
        Buildx(plugin(tmp_path, script), machine(tmp_path)).build_and_push(
            recipe_for("r.example/app", tmp_path), Interrupting()
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# the real one


@pytest.fixture
def buildkit(tmp_path: Path) -> Iterator[Logins]:
    """A machine whose builder is a BuildKit daemon of its own."""
    if absent := [name for name in ("buildx", "buildkitd") if not (TOOLS / name).exists()]:
        needs.missing(f"{' and '.join(absent)} not in {TOOLS}")
    if os.geteuid() != 0 or not shutil.which("runc"):
        needs.missing("BuildKit needs root and runc")
    address = f"unix://{tmp_path}/buildkit.sock"
    logins = machine(tmp_path)
    environ = {**logins.environ, "BUILDX_BUILDER": "test"}
    command = [str(TOOLS / "buildkitd"), f"--addr={address}", f"--root={tmp_path}/buildkit"]
    with subprocess.Popen(command, stderr=(tmp_path / "buildkitd.log").open("wb")) as daemon:
        try:
            create = [str(TOOLS / "buildx"), "create", "--name=test", "--driver=remote", "--bootstrap", address]
            subprocess.run(create, env=environ, check=True, capture_output=True)
            yield Logins(environ)
        finally:
            daemon.terminate()


@pytest.fixture
def recipe(tmp_path: Path, start_registry: Callable[..., str]) -> Recipe:
    folder = tmp_path / "context"
    folder.mkdir()
    busybox = shutil.which("busybox")
    if busybox is None:
        needs.missing("busybox is not installed")
    shutil.copy(busybox, folder)
    return recipe_for(f"{start_registry()}/team/app", folder)


def write(recipe: Recipe, dockerfile: str) -> None:
    recipe.dockerfile.write_text(f"FROM scratch\nCOPY busybox /busybox\n{dockerfile}")


@pytest.mark.registry
def test_buildkit_builds_pushes_and_explains(buildkit: Logins, recipe: Recipe) -> None:
    builder, registry = Buildx(TOOLS / "buildx", buildkit), OciRegistry(buildkit)

    write(recipe, 'RUN ["/busybox", "echo", "built"]\n')
    heard = Heard()
    digest = builder.build_and_push(recipe, heard)
    assert registry.look_up(recipe.repository, COMMIT) == Found(digest, COMMIT)
    assert heard.said == ["[1/2] COPY busybox /busybox", '[2/2] RUN ["/busybox", "echo", "built"]']
    assert "built" in heard.shown

    write(recipe, "")
    both = replace(recipe, platforms=("linux/amd64", "linux/arm64"))
    of_both = builder.build_and_push(both, Silent())
    assert of_both != digest
    assert registry.look_up(recipe.repository, COMMIT) == Found(of_both, COMMIT)

    write(recipe, 'RUN ["/busybox", "sh", "-c", "echo one; exit 3"]\n')
    with pytest.raises(BuildFailed, match=r"(?s)^\[2/2\] RUN .* exit code: 3\n  one$"):
        builder.build_and_push(recipe, Silent())


@pytest.mark.registry
def test_buildkit_pushes_with_the_given_login(
    buildkit: Logins, recipe: Recipe, start_registry: Callable[..., str], tmp_path: Path
) -> None:
    htpasswd = tmp_path / "htpasswd"
    subprocess.run(["htpasswd", "-Bbc", str(htpasswd), "ci", "geheim"], check=True, capture_output=True)
    host = start_registry(htpasswd)
    closed = replace(recipe, repository=f"{host}/team/app")
    write(closed, "")
    with pytest.raises(RegistryDenied, match=host):
        Buildx(TOOLS / "buildx", buildkit).build_and_push(closed, Silent())
    known = Logins(buildkit.environ, {host: Login("ci", Secret("geheim"))})
    digest = Buildx(TOOLS / "buildx", known).build_and_push(closed, Silent())
    assert OciRegistry(known).look_up(closed.repository, COMMIT) == Found(digest, COMMIT)
