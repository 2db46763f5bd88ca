"""What a test needs of the machine."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def missing(why: str) -> NoReturn:
    """Skip the test, by name of what is missing; with REQUIRE_ALL, as CI sets it, fail."""
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set, and {why}")
    pytest.skip(why)


def program(name: str) -> str:
    """A program such as kustomize or act: the machine's, or the one that the lab has built."""
    cached = Path("~/.cache/openeg-lab/bin", name).expanduser()
    found = shutil.which(name) or (str(cached) if cached.exists() else None)
    return found or missing(f"{name} is not installed")
