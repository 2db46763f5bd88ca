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


def kustomize() -> str:
    """The real kustomize: the machine's, or the one that the lab has built."""
    cached = Path("~/.cache/openeg-lab/bin/kustomize").expanduser()
    found = shutil.which("kustomize") or (str(cached) if cached.exists() else None)
    return found or missing("kustomize is not installed")
