"""README's commands do what README shows.

Every `console` block is run in order, in a world as README describes it. What differs from run to run (hashes, ports,
seconds) is made equal on both sides. `UPDATE_README=1` writes the real output into README.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from pipeline.sandbox.cluster import Fault
from tests.cli.conftest import Scene, scene

__all__ = ["scene"]

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def blocks() -> list[str]:
    return [block for block in BLOCK.findall(README.read_text()) if block.startswith("$ ")]


def alike(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, same in (
        (r"flask-app-\w+-\w+|\([0-9a-f-]{36}\)", "POD"),
        (r"\b[0-9a-f]{7,64}\b", "HASH"),
        (r"127\.0\.0\.1:\d+", "HOST"),
        (r"\d+(\.\d+)? s\b|back-off \d+s|\(x\d+\)", "N"),
    ):
        text = re.sub(pattern, same, text)
    return text


def test_the_first_two_commands_are_the_demo_and_the_tests() -> None:
    first, second = (block.split()[1] for block in blocks()[:2])
    assert (first, second) == ("scripts/demo", "scripts/test")
    assert all(os.access(ROOT / name, os.X_OK) for name in (first, second))


def test_the_demo_shows_a_deployment_a_crash_and_a_race() -> None:
    environ = {**os.environ, "http_proxy": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": ""}
    demo = (sys.executable, "-m", "pipeline", "demo")
    done = subprocess.run(demo, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("succeeded", "CrashLoopBackOff", "ModuleNotFoundError", "was rolled back", "superseded", "embedded"):
        assert words in done.stdout


def test_every_example_prints_what_readme_shows(scene: Scene) -> None:
    environ = {**scene.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    text = README.read_text()
    for block in blocks()[2:]:
        if "--on-failure" in block:
            lines = ("Connecting to mongodb.openeg-system:27017", "KeyError: 'MONGODB_URI'")
            scene.sandbox.set_fault(scene.change(message="Read the database's address"), Fault("crash", lines))
        if "pipeline build" in block:
            scene.change("node/server.js", "Answer faster")
        shown = ""
        for command in (line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")):
            done = subprocess.run(command, shell=True, cwd=scene.app.path, env=environ, capture_output=True, text=True)
            error = done.stderr[done.stderr.find("error:") :] if "error:" in done.stderr else ""
            shown += f"$ {command}\n{done.stdout}{error}"
        if os.environ.get("UPDATE_README"):
            text = text.replace(block, shown.replace(scene.sandbox.registry_host, "127.0.0.1:5000"))
        else:
            assert alike(block) == alike(shown)
    README.write_text(text)
