"""The Docker engine's own builder, through the Docker SDK. Builds for the engine's own platform only."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import docker
import requests
import urllib3
from docker.credentials.errors import StoreError
from docker.errors import APIError, DockerException, StreamParseError

from pipeline.core.image import split_registry
from pipeline.core.progress import Progress
from pipeline.edges.build_output import BuildStep, push_error
from pipeline.edges.registry_login import Logins
from pipeline.errors import BuildFailed, PushFailed, RegistryDenied, Unreachable, UsageError
from pipeline.steps.build_image import Recipe

_TIMEOUT_SECONDS = 300  # between two signs of life while pushing; a build may be silent as long as it likes
_REMEDY = "Start Docker (or set DOCKER_HOST to where it runs) and see that `docker version` answers."
_STEP = re.compile(r"Step \d+/\d+ : (.*)")
_PUSHED = re.compile(r".*: digest: (sha256:[0-9a-f]{64}) size: \d+")  # the one form that both image stores write
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class DockerEngine:
    """Connects when it is asked to build, and not before."""

    logins: Logins

    def build_and_push(self, recipe: Recipe, progress: Progress) -> str:
        """The digest that the engine reports after the push.

        Raises Unreachable, UsageError for a platform of others, BuildFailed, RegistryDenied and PushFailed.
        """
        with _connected() as client:
            _require_own_platform(client, recipe)
            self._log_in(client, recipe)
            _build(client, recipe, progress)
            return _push(client, recipe, progress)

    def _log_in(self, client: docker.DockerClient, recipe: Recipe) -> None:
        """Tell the client the login that was given to us; it finds those of Docker's configuration by itself."""
        host, _ = split_registry(recipe.repository)
        login = self.logins.given.get(host)
        if login is None:
            return
        try:
            client.login(login.username or "", login.password.reveal(), registry=host, reauth=True)
        except APIError as error:
            raise push_error(f"registry {host}: {error.explanation}") from error


def answers() -> bool:
    """Whether a Docker engine can be reached."""
    try:
        with _connected():
            return True
    except Unreachable:
        return False


@contextlib.contextmanager
def _connected() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env(timeout=_TIMEOUT_SECONDS)
    except DockerException as error:
        raise Unreachable(f"no Docker engine: {error}", remedy=_REMEDY) from error
    try:
        yield client
    except APIError as error:
        raise BuildFailed(f"the Docker engine refused: {error.explanation or error}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, StreamParseError) as error:
        raise Unreachable(f"the Docker engine broke off: {error}", remedy=_REMEDY) from error
    except (StoreError, DockerException) as error:  # what is left: the credential helpers of Docker's configuration
        raise RegistryDenied(f"Docker's configuration: {error}") from error
    finally:
        client.close()


def _require_own_platform(client: docker.DockerClient, recipe: Recipe) -> None:
    version = client.version()
    own = f"{version['Os']}/{version['Arch']}"
    if others := [platform for platform in recipe.platforms if platform != own]:
        raise UsageError(
            f"{recipe.repository}: this Docker engine builds for {own} alone, not for {', '.join(others)}",
            remedy="Install Docker's buildx plugin, or leave the platform out.",
        )


def _build(client: docker.DockerClient, recipe: Recipe, progress: Progress) -> None:
    try:
        events = client.api.build(
            path=str(recipe.context.resolve()),
            dockerfile=str(recipe.dockerfile.resolve()),
            tag=f"{recipe.repository}:{recipe.tag}",
            labels=dict(recipe.labels),
            rm=True,
            forcerm=True,
            decode=True,
        )
        follow_build(events, progress)
    except requests.RequestException:
        raise
    except OSError as error:
        raise BuildFailed(f"{recipe.context}: the build context cannot be read: {error}") from error


def _push(client: docker.DockerClient, recipe: Recipe, progress: Progress) -> str:
    events = client.api.push(recipe.repository, tag=recipe.tag, stream=True, decode=True)
    return follow_push(events, f"{recipe.repository}:{recipe.tag}", progress)


_LAYER_DONE = {"Pushed", "Layer already exists", "Pull complete", "Already exists"}


def follow_build(events: Iterable[Mapping[str, Any]], progress: Progress) -> None:
    """Show a build's events; raises BuildFailed with the failing step and its last lines of output."""
    step = BuildStep("before the first step")
    built = False
    for event in events:
        if error := event.get("error"):
            raise step.failed(error)
        if "id" in event:  # a layer of the base image
            _show_layer(event, progress)
        for line in _COLOURS.sub("", event.get("stream", "")).splitlines():
            if found := _STEP.fullmatch(line):
                step = BuildStep(found[1])
                progress.say(line)
            elif line.strip() and not line.startswith((" ---> ", "Removing intermediate container ")):
                step.output.append(line)
                progress.show("build", line)
        built = built or "ID" in event.get("aux", {})
    progress.show("build", "")
    if not built:
        raise step.failed("the Docker engine ended the build without an image")


def follow_push(events: Iterable[Mapping[str, Any]], reference: str, progress: Progress) -> str:
    """Show a push's events and return the digest; raises RegistryDenied or PushFailed."""
    digest: str | None = None
    for event in events:
        if error := event.get("error"):
            raise push_error(f"{reference}: {error}")
        if "id" in event:
            _show_layer(event, progress)
        if found := _PUSHED.fullmatch(event.get("status", "")):
            digest = found[1]
    if digest is None:
        raise PushFailed(f"{reference}: the engine ended the push without a digest")
    return digest


def _show_layer(event: Mapping[str, Any], progress: Progress) -> None:
    detail = event.get("progressDetail") or {}
    current, total = detail.get("current", 0), detail.get("total", 0)
    share = f" {100 * current // total // 10 * 10} %" if 0 < current <= total else ""
    status = event.get("status", "")
    progress.show(f"layer {event['id']}", "" if status in _LAYER_DONE else f"{status}{share}")
