"""Build the lab's programs from the Go module proxy.

Each through a wrapper module of its own, whose go.mod repeats the component's requirements and replacements: thus the
very versions are built that its authors chose, which `go install MODULE@VERSION` refuses for modules with replacements.
"""

import fnmatch
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.components import DEBIAN, Component
from pipeline.core.progress import Progress
from pipeline.errors import BuildFailed, UsageError

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "openeg-lab")
"""Everything that the lab keeps on this machine."""
PROGRAMS = HOME / "bin"
"""Links to the programs at their present versions, for people's PATH and for tests."""
_BUILT = HOME / "built"
_GO = HOME / "go"
_LAST_LINES = 20


def program(component: Component) -> Path:
    """Where the built program is, or will be."""
    return _BUILT / component.key / component.name


def kept(component: Component, name: str) -> Path:
    """A file that the component keeps for the time when the lab runs."""
    return program(component).with_name(name)


def ensure(components: Iterable[Component], progress: Progress) -> None:
    """Build what is missing, and link all of them. Raises UsageError without Go, BuildFailed."""
    for component in components:
        if not all(path.exists() for path in (program(component), *(kept(component, name) for name in component.kept))):
            _build(component, progress)
        _link(PROGRAMS / component.name, program(component))


def ensure_distributed(progress: Progress) -> None:
    """Have the distribution's programs; installs them where we may. Raises UsageError."""
    missing = [package for name, package in DEBIAN.items() if shutil.which(name) is None]
    if not missing:
        return
    install = f"apt-get install {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UsageError(f"not installed: {', '.join(missing)}", remedy=f"On Debian: `{install}`, as root.")
    progress.say(f"Installing {', '.join(missing)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-q"], [*install.split(), "-y", "-q", "--no-install-recommends"]):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{install}: {done.stderr.strip()}", remedy="Install these packages by hand.")


def clean() -> int:
    """Drop Go's caches, keep what was built. The bytes that were freed."""
    freed = 0
    for folder, names, files in os.walk(_GO):
        for name in names:  # Go writes its modules read-only
            path = Path(folder, name)
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
        freed += sum(Path(folder, name).lstat().st_size for name in files)
    shutil.rmtree(_GO, ignore_errors=True)
    return freed


def _build(component: Component, progress: Progress) -> None:
    if shutil.which("go") is None:
        raise UsageError("Go is not installed", remedy="Install Go 1.24 or later: https://go.dev/doc/install.")
    progress.say(f"Building {component.key}")
    target = program(component)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wrapper = Path(scratch, "wrapper")
        wrapper.mkdir()
        where = _wrap(component, wrapper, progress)
        stamps = " ".join(f"-X {name}={value}" for name, value in component.stamps.items())
        package = f"{component.module}/{component.package}".rstrip("/")
        made = Path(scratch, component.name)
        _go(
            wrapper,
            component.name,
            progress,
            "build",
            "-v",
            "-trimpath",
            f"-ldflags=-s -w {stamps}",
            "-o",
            str(made),
            package,
        )
        for name, file in component.kept.items():
            shutil.copyfile(where / file, kept(component, name))
        made.replace(target)  # last: what is there is whole
    progress.show(component.name, "")


def _wrap(component: Component, wrapper: Path, progress: Progress) -> Path:
    """Write the wrapper's go.mod; returns the folder of the component's module."""
    (wrapper / "go.mod").write_text("module lab\n")
    progress.show(component.name, "downloading")
    asked = ("mod", "download", "-json", f"{component.module}@{component.version}")
    found = json.loads(_go(wrapper, component.name, progress, *asked))
    theirs = json.loads(_go(wrapper, component.name, progress, "mod", "edit", "-json", found["GoMod"]))
    (wrapper / "go.mod").write_text(_go_mod(component, theirs))
    return Path(found["Dir"])


def _go_mod(component: Component, theirs: Mapping[str, Any]) -> str:
    """A module that requires `component`, with the requirements and replacements of its own go.mod, `theirs`."""
    lines = ["module lab", f"go {theirs['Go']}"]
    lines += [f"godebug {item['Key']}={item['Value']}" for item in theirs.get("GoDebug") or []]
    lines.append(f"require {component.module} {component.version}")
    local = {item["Old"]["Path"] for item in theirs.get("Replace") or [] if "Version" not in item["New"]}
    published = {
        path: version
        for path in local
        for pattern, version in component.published.items()
        if fnmatch.fnmatchcase(path, pattern)
    }
    for item in theirs.get("Require") or []:
        lines.append(f"require {item['Path']} {published.get(item['Path'], item['Version'])}")
    for item in theirs.get("Replace") or []:
        old, new = item["Old"], item["New"]
        if "Version" in new:
            lines.append(f"replace {' '.join(old.values())} => {new['Path']} {new['Version']}")
    lines += [f"replace {path} => {path} {version}" for path, version in sorted(published.items())]
    lines += [f"exclude {item['Path']} {item['Version']}" for item in theirs.get("Exclude") or []]
    return "\n".join(lines) + "\n"


def _go(folder: Path, name: str, progress: Progress, *arguments: str) -> str:
    """Run go and show what it works on; returns its standard output. Raises BuildFailed with its last lines."""
    environment = {
        **os.environ,
        "GOMODCACHE": str(_GO / "mod"),
        "GOCACHE": str(_GO / "build"),
        "GOFLAGS": "-mod=mod -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            ["go", *arguments], cwd=folder, env=environment, stdout=output, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        for number, line in enumerate(process.stderr or (), 1):
            last.append(line.rstrip())
            progress.show(name, f"{number} steps, now {line.strip()[:60]}")
        code = process.wait()
        output.seek(0)
        printed = output.read()
    if code:
        raise BuildFailed("\n  ".join((f"go {' '.join(arguments[:2])}: exit code {code}", *last, printed[-500:])))
    return printed


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    new = link.with_name(f".{link.name}.{os.getpid()}")
    new.symlink_to(target)
    new.replace(link)
