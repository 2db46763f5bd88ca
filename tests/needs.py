"""What a test needs of the machine."""

import os
from typing import NoReturn

import pytest


def missing(why: str) -> NoReturn:
    """Skip the test, by name of what is missing; with REQUIRE_ALL, as CI sets it, fail."""
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set, and {why}")
    pytest.skip(why)
