"""The project's own Python environment, made on first use: what `scripts/demo` and `scripts/test` stand on.

Standard library only, since nothing is installed when it runs.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv"
PYTHON = HOME / "bin" / "python"
OLDEST = (3, 11)


def ready(*groups: str) -> Path:
    """Make `.venv` with the package, all its extras and the dependency groups; return its Python.

    Installs again only when pyproject.toml or the groups have changed since.
    """
    stamp = HOME / ".installed"
    state = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    known, *there = stamp.read_text().split() if stamp.is_file() else [""]
    if known != state or not set(groups) <= set(there):
        print("Setting up .venv (once) …", file=sys.stderr, flush=True)
        if not PYTHON.exists():
            _run(interpreter(), "-m", "venv", str(HOME))
        pip = (str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, "--upgrade", "pip")  # dependency groups need pip 25.1
        wanted = (word for group in groups for word in ("--group", f"{ROOT}/pyproject.toml:{group}"))
        _run(*pip, "--editable", f"{ROOT}[all]", *wanted)
        stamp.write_text(" ".join([state, *groups]))
    return PYTHON


def become(*arguments: str) -> None:
    """Replace this process by the environment's Python."""
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), *arguments])


def interpreter() -> str:
    """A Python that is new enough: this one, one of PATH, or one that GitHub's runner keeps; exits without."""
    if sys.version_info >= OLDEST:
        return sys.executable
    names = (f"python3.{minor}" for minor in range(20, OLDEST[1] - 1, -1))
    kept = Path(os.environ.get("RUNNER_TOOL_CACHE") or "/none", "Python")
    found = next(filter(None, map(shutil.which, names)), None) or next(
        (str(path) for minor in range(20, OLDEST[1] - 1, -1) for path in kept.glob(f"3.{minor}.*/*/bin/python3")), None
    )
    if found is None:
        sys.exit(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; this is {sys.version.split()[0]}.")
    return found


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"This failed: {' '.join(command)}\nMend what it says, then run the script again.")
