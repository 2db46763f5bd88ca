"""The lab's command line: `scripts/lab --help`."""

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from lab import build, cluster, components, faults, processes, sealed_secrets, services, stage, state
from lab.api import Api
from lab.state import Lab
from pipeline.cli.console import Console
from pipeline.errors import NotFound, PipelineError

app = typer.Typer(help=__doc__, rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Name = Annotated[str, typer.Option("--name", envvar="OPENEG_LAB", help="Which lab; several can run side by side.")]
Image = Annotated[str, typer.Argument(help="REPOSITORY:TAG, as the pod's spec says it.")]


@app.command()
def up(name: Name = "main") -> None:
    """Build what is missing, then start what does not run; the second time, that is what has died."""
    began = time.monotonic()
    with Console(os.environ) as progress:
        build.ensure_distributed(progress)
        build.ensure(components.CORE, progress)
        built = time.monotonic()
        lab = state.find(name) or state.make(name, services.SERVERS)
        cluster.route(lab, progress)
        processes.up(lab, services.cluster(lab), progress)
        progress.show("cluster", "settings")
        cluster.furnish(lab)
        progress.show("cluster", "")
        processes.up(lab, (*services.nodes(lab), *services.around(lab), *services.argocd(lab)), progress)
        cluster.await_nodes(lab)
        cluster.give_tokens(lab)
        progress.say(f'The lab {name!r} is up in {time.monotonic() - built:.0f} s: eval "$(scripts/lab env)"')
        if built - began > 1:
            progress.say(f"Building took {built - began:.0f} s; the next time there is nothing to build")


@app.command()
def down(name: Name = "main") -> None:
    """End what this lab started, and nothing else; its state stays."""
    lab = _lab(name)
    _end(lab)


@app.command()
def reset(name: Name = "main") -> None:
    """Forget everything: end it, drop its state, and start afresh with new ports."""
    if lab := state.find(name):
        _end(lab)
        state.remove(lab)
    up(name)


@app.command()
def status(name: Name = "main") -> None:
    """What runs, since when it has not, on which port and with how much memory; fails if something does not run."""
    lab = _lab(name)
    everything = services.everything(lab)
    width = max(len(service.name) for service in everything)
    missing = 0
    for service in everything:
        number = processes.pid(lab, service.name)
        missing += number is None
        port = lab.ports.get(service.name, "")
        memory = f"{_megabytes(number):5.0f} MiB  pid {number}" if number else "does not run"
        print(f"{service.name:<{width}}  {port!s:>5}  {memory}")
    raise typer.Exit(int(missing > 0))


@app.command()
def logs(
    service: Annotated[str, typer.Argument(help="One of the names that `status` shows.")],
    name: Name = "main",
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
) -> None:
    """What a process wrote."""
    lab = _lab(name)
    file = lab.logs / f"{service}.log"
    if not file.exists():
        there = ", ".join(sorted(path.stem for path in lab.logs.glob("*.log")))
        raise NotFound(f"no process {service!r}; there are {there}")
    if follow:
        os.execvp("tail", ("tail", "-n", str(lines), "-f", str(file)))
    print("\n".join(processes.tail(file, lines)))


@app.command()
def env(name: Name = "main") -> None:
    """The variables that a shell needs: eval "$(scripts/lab env)"."""
    lab = _lab(name)
    for variable, value in stage.variables(lab).items():
        print(f"export {variable}={shlex.quote(value)}")
    print(f'export PATH="{build.PROGRAMS}:$PATH"')


@app.command("break")
def break_(
    image: Image,
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(faults.KINDS)}.")],
    name: Name = "main",
    seconds: Annotated[float, typer.Option(help="How slow `slow` is.")] = faults.SLOW_SECONDS,
    log: Annotated[Path | None, typer.Option(help="File with what the container has written.")] = None,
) -> None:
    """Let new pods of one exact image fail."""
    lines = log.read_text().splitlines() if log else ()
    faults.break_image(Api(_lab(name).kubeconfig), image, kind, seconds=seconds, log=lines)


@app.command()
def mend(image: Image, name: Name = "main") -> None:
    """Let pods of an image be healthy again, also those that fail now."""
    faults.mend_image(Api(_lab(name).kubeconfig), image)


@app.command()
def demo(name: Name = "main") -> None:
    """Watch the main job on the real stack: `scripts/demo --lab`."""
    from pipeline.cli.demo import play

    if any(processes.pid(lab, service.name) is None for lab in [_lab(name)] for service in services.everything(lab)):
        up(name)
    cluster = stage.Cluster(stage.variables(_lab(name)))
    cluster.remove_application("openeg-system")
    cluster.await_gone("openeg-system")
    play(cluster, "real      etcd, Kubernetes, Argo CD, a registry: plain processes\nfake      the nodes and pods")


@app.command("build")
def build_(
    names: Annotated[
        list[str] | None, typer.Argument(help="Components; all of the lab's core when none is named.")
    ] = None,
) -> None:
    """Build without starting anything."""
    with Console(os.environ) as progress:
        chosen = [_component(word) for word in names or ()] or components.CORE
        build.ensure(chosen, progress)


@app.command()
def clean() -> None:
    """Drop Go's caches and keep what was built."""
    print(f"{build.clean() / 2**30:.1f} GiB freed; the programs stay in {build.PROGRAMS}")


def _lab(name: str) -> Lab:
    lab = state.find(name)
    if lab is None:
        raise NotFound(f"there is no lab {name!r}", remedy="Run `scripts/lab up`.")
    return lab


def _end(lab: Lab) -> None:
    names = [*(service.name for service in services.everything(lab)), sealed_secrets.NAME]
    ended = (*processes.down(lab, reversed(names[1:])), *processes.down(lab, names[:1]))
    cluster.unroute(lab)
    print(f"{len(ended)} processes ended")


def _component(name: str) -> components.Component:
    if name not in components.COMPONENTS:
        raise NotFound(f"no component {name!r}; there are {', '.join(components.COMPONENTS)}")
    return components.COMPONENTS[name]


def _megabytes(number: int) -> float:
    """The memory that a process holds, in MiB."""
    pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    """Run one command; errors become a message and an exit code, as in the product."""
    try:
        return int(app(standalone_mode=False) or 0)
    except PipelineError as error:
        print(f"error: {error}\n{error.remedy}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
