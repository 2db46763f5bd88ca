"""The monitoring stack as kustomize renders it, and the programs that judge its configurations."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lab.build import PROGRAMS
from lab.services import ROOT
from tests import needs

TEMPLATE = ROOT / "gitops-repo-template"
HOME = TEMPLATE / "base" / "monitoring"

Object = Mapping[str, Any]


def program(name: str) -> str:
    """Of the lab's programs, at the very version that the template deploys; skips where it is not built."""
    path = PROGRAMS / name
    if not path.exists():
        needs.missing(f"{name} is not built: scripts/lab build {name}")
    return str(path)


def installed(name: str) -> str:
    """A program that only the machine's owner can bring; skips, in CI too, where it is not on the PATH."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def build(folder: Path) -> list[Object]:
    """What kustomize renders; a warning of its is a failure."""
    kustomize = shutil.which("kustomize") or program("kustomize")
    done = subprocess.run([kustomize, "build", str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return list(YAML(typ="safe").load_all(done.stdout))


@cache
def rendered() -> tuple[Object, ...]:
    return tuple(build(HOME))


def with_alloy(scratch: Path) -> list[Object]:
    """The stack after the change-over that components/alloy describes."""
    shutil.copytree(TEMPLATE, scratch / "repository")
    changed = scratch / "repository" / HOME.relative_to(TEMPLATE)
    with (changed / "kustomization.yaml").open("a") as file:
        file.write("components:\n  - ../../components/alloy\n")
    return build(changed)


def named(objects: Iterator[Object] | tuple[Object, ...] | list[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name; a generated name's hash is left out."""
    names = re.compile(rf"{name}(-[a-z0-9]{{10}})?")
    (found,) = (item for item in objects if item["kind"] == kind and names.fullmatch(item["metadata"]["name"]))
    return found


def workloads(objects: tuple[Object, ...] | list[Object]) -> list[Object]:
    return [item for item in objects if item["kind"] in {"Deployment", "StatefulSet", "DaemonSet"}]


def dashboards() -> dict[str, Any]:
    """By file name, as Grafana gets them."""
    data = named(rendered(), "ConfigMap", "grafana-dashboards")["data"]
    return {name: json.loads(text) for name, text in data.items()}


def rules() -> list[Object]:
    """Every rule, recording and alerting."""
    return [
        rule
        for path in sorted((HOME / "prometheus" / "rules").iterdir())
        for group in load(path)["groups"]
        for rule in group["rules"]
    ]


def alerts() -> dict[str, Object]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def panels(dashboard: Object) -> Iterator[Object]:
    """Rows, what is folded into them, and all others."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries(kind: str) -> dict[str, str]:
    """The expressions of all dashboards for a data source of that kind, by where they stand."""
    found: dict[str, str] = {}
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel.get("targets", ()):
                if target["datasource"]["type"] == kind:
                    found[f"{name}, {panel['title']}, {target['refId']}"] = target["expr"]
        for annotation in dashboard["annotations"]["list"]:
            if annotation["datasource"]["type"] == kind:
                found[f"{name}, annotation {annotation['name']}"] = annotation["expr"]
        for variable in dashboard["templating"]["list"]:
            asked = (
                re.fullmatch(r"label_values\((.+), \w+\)", str(variable["query"].get("query", "")))
                if variable["type"] == "query"
                else None
            )
            if asked and variable["datasource"]["type"] == kind:
                found[f"{name}, variable {variable['name']}"] = asked[1]
    return found


def filled_in(expression: str) -> str:
    """As Grafana sends it: variables and intervals have values."""
    expression = re.sub(r"\$__(rate_interval|auto|interval|range)\b", "5m", expression)
    return re.sub(r"\$(namespace|app|node|search)\b", "x", expression)


def metrics(expression: str) -> set[str]:
    """The names of the series that an expression reads."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    words = {"and", "or", "unless", "offset", "bool"}
    return {name for name in re.findall(r"(?<![\w.:$])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])", bare) if name not in words}


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def running(ready: str, folder: Path, *command: str) -> Iterator[None]:
    """A server, until the end of the block, from when `ready` is answered."""
    log = folder / "log"
    with subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + 90
            while not _answers(ready):
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.2)
            yield
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    except OSError:
        return False
