"""Docker's buildx plugin: BuildKit with its cache, and other platforms than the machine's own.

Sources: https://docs.docker.com/reference/cli/docker/buildx/build/ and, for the folders,
https://docs.docker.com/extend/cli_plugins/.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.image import DOCKER_HUB
from pipeline.core.progress import Progress
from pipeline.edges.build_output import BuildStep, push_error
from pipeline.edges.registry_login import HUB_KEY, Logins
from pipeline.errors import BuildFailed, PipelineError, PushFailed, Unreachable, UsageError
from pipeline.steps.build_image import Recipe

_SYSTEM_FOLDERS = tuple(
    Path(folder) / "docker/cli-plugins"
    for folder in ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")
)
_LINE = re.compile(r"#([1-9]\d*) (.*)")  # "#0" names the builder and is no step
_OUTPUT = re.compile(r"\d+\.\d+ (.*)")
_FINISHED = re.compile(r"DONE \d|CACHED$|CANCELED$")
_FAREWELL_SECONDS = 10
_CONNECTING = ("[internal] booting buildkit", "[internal] waiting for connection")


def find_plugin(logins: Logins) -> Path | None:
    """The plugin's program, from the folders in which Docker's command line looks for it."""
    folders = (logins.config_folder / "cli-plugins", *_SYSTEM_FOLDERS)
    program = shutil.which("docker-buildx", path=os.pathsep.join(map(str, folders)))
    return Path(program) if program else None


@dataclass(frozen=True, slots=True)
class Buildx:
    """The plugin, run as a program of its own; it finds its builder as `docker buildx` does."""

    plugin: Path
    logins: Logins

    def build_and_push(self, recipe: Recipe, progress: Progress) -> str:
        """The digest that BuildKit reports after the push: of an index where there are several platforms.

        Raises Unreachable, UsageError for what the builder cannot do, BuildFailed, RegistryDenied and PushFailed.
        """
        reference = f"{recipe.repository}:{recipe.tag}"
        with tempfile.TemporaryDirectory(prefix="openeg-buildx-") as folder:
            metadata = Path(folder) / "metadata.json"
            command = [
                str(self.plugin),
                "build",
                "--push",
                "--progress=plain",
                # An attestation holds the time of the build: without it the same layers give the same digest.
                "--provenance=false",
                f"--metadata-file={metadata}",
                f"--file={recipe.dockerfile}",
                f"--tag={reference}",
                *(f"--label={name}={value}" for name, value in recipe.labels.items()),
                *((f"--platform={','.join(recipe.platforms)}",) if recipe.platforms else ()),
                str(recipe.context),
            ]
            _run(command, _environment(self.logins), reference, progress)
            try:
                return str(json.loads(metadata.read_bytes())["containerimage.digest"])
            except (OSError, ValueError, KeyError):
                raise PushFailed(f"{reference}: buildx ended without the digest of what it pushed") from None


def _environment(logins: Logins) -> dict[str, str]:
    """Our environment, with the given logins where the plugin (0.26 and later) looks first: in no file."""
    environ = dict(logins.environ)
    if logins.given:
        try:
            present = dict(json.loads(environ["DOCKER_AUTH_CONFIG"])["auths"])
        except (KeyError, TypeError, ValueError):  # absent, or what the plugin itself would pass over
            present = {}
        ours = {
            HUB_KEY if host == DOCKER_HUB else host: {"auth": login.encoded()} for host, login in logins.given.items()
        }
        environ["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {**present, **ours}})
    return environ


def _run(command: list[str], environ: Mapping[str, str], reference: str, progress: Progress) -> None:
    with subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            problem = follow(process.stderr or (), reference, progress)
        except BaseException:  # an interrupt: leave no build behind
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_FAREWELL_SECONDS)
            process.kill()
            raise
    if process.returncode:
        raise problem


def follow(lines: Iterable[str], reference: str, progress: Progress) -> PipelineError:
    """Show the plain progress of a build; returns the error to raise should the build turn out to have failed."""
    steps: dict[str, BuildStep] = {}
    failed: BuildStep | None = None
    last_word = "buildx gave no reason"
    for line in map(str.rstrip, lines):
        if line.startswith("ERROR: "):
            last_word = line.removeprefix("ERROR: ")
        if not (found := _LINE.fullmatch(line)):
            continue
        number, text = found.groups()
        if number not in steps:
            steps[number] = BuildStep(text)
            if text.startswith("[") and not text.startswith("[internal]"):
                progress.say(text)
        elif text.startswith("ERROR: "):
            failed = steps[number]
        elif not _FINISHED.match(text):
            output = _OUTPUT.fullmatch(text)
            steps[number].output.append(output[1] if output else text)
            progress.show("build", steps[number].output[-1])
    progress.show("build", "")
    return _error(steps, failed, last_word, reference)


def _error(steps: Mapping[str, BuildStep], failed: BuildStep | None, last_word: str, reference: str) -> PipelineError:
    problem = f"{reference}: {last_word}"
    if "docker driver" in last_word:
        return UsageError(problem, remedy="Make a builder that can do it: `docker buildx create --use`.")
    if not steps or (failed and failed.name.startswith(_CONNECTING)):
        return Unreachable(problem, remedy="See that `docker buildx inspect --bootstrap` finds a running builder.")
    if failed is None:
        return BuildFailed(problem)
    if failed.name.startswith(("exporting ", "pushing ")):
        return push_error(problem)
    return failed.failed(last_word)
