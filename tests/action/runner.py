"""The action without a runner."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.action.examples import ROOT

ACTION = ROOT / "action.yml"


def read(path: Path) -> dict[str, Any]:
    """What a YAML file says."""
    return dict(YAML(typ="safe").load(path))


class Runner:
    """The action's last step, run as the runner does: its script in bash, its values in the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (_, self.step) = read(ACTION)["runs"]["steps"]
        self.output = folder / "output"

    def variables(self, inputs: Mapping[str, str]) -> dict[str, str]:
        """The variables that a step's inputs travel by."""
        by_name = {
            found: key for key, value in self.step["env"].items() for found in re.findall(r"inputs\.([\w-]+)", value)
        }
        return {by_name[name]: value for name, value in inputs.items()}

    def run(self, values: Mapping[str, str], *, empty: bool = True) -> subprocess.CompletedProcess[str]:
        inputs = {name: "" for name, value in self.step["env"].items() if "inputs." in value and empty}
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHON": sys.executable}
        environ |= {"PYTHONPATH": str(ROOT), "GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(self.output)}
        file = self.folder / "step.sh"
        file.write_text(self.step["run"])
        command = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(file))
        environ |= {**inputs, "COMMAND": "deploy", **values}
        return subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=100)
