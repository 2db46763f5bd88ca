"""A tag stays a string in every YAML."""

import pytest
from ruamel.yaml import YAML

from pipeline.core.yaml_scalar import needs_quotes, write

# fmt: off
OTHER_THAN_STRINGS = [
    "553640e6", "7284872", "0123", "0x1f", "0o17", "0b101", "1_000",
    "1.10", ".5", "1.", "1e3", "1E-3", "+12", "-3", "12:30", "1:2:3.5", "2024-01-31", "2024-1-3",
    "1111111111111111111111111111111111111111", "12345e6789012345678901234567890123456789", "1_1e5",
    "yes", "No", "ON", "off", "true", "FALSE", "null", "~", "y", "N", ".inf", "-.INF", ".nan", "<<", "=",
]
STRINGS = [
    "3fa8c1e5b7d94c0a8e6f1b2d3c4a5968778695a4", "v1.10", "1.2.3", "1.10-alpine", "latest",
    "0x", "0xfg", "1e", "1e5f", "20231103-00005-2ae8071d",
    "registry.oud.kr/openegflask", "localhost:5000/app", "yes1", "null-1", "nano", ".5a", "0o8",
]
# fmt: on


@pytest.mark.parametrize("text", OTHER_THAN_STRINGS)
def test_what_some_reader_takes_for_something_else_is_quoted(text: str) -> None:
    assert needs_quotes(text)
    assert write(text) == f'"{text}"'


@pytest.mark.parametrize("text", STRINGS)
def test_what_every_reader_takes_for_a_string_stays_bare(text: str) -> None:
    assert write(text) == text


@pytest.mark.parametrize("version", [(1, 1), (1, 2)])
@pytest.mark.parametrize("text", OTHER_THAN_STRINGS + STRINGS)
def test_every_reader_reads_back_what_was_written(version: tuple[int, int], text: str) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = version
    assert yaml.load(f"tag: {write(text)}\n") == {"tag": text}


@pytest.mark.parametrize(
    "text", ["", "a b", "a: b", "a:", "-a", "#a", "a #b", "{a}", "*a", "&a", "!a", "@a", "%a", "'a"]
)
def test_what_is_no_plain_scalar_is_quoted(text: str) -> None:
    assert needs_quotes(text)


def test_quotes_of_the_neighbours_are_taken_over() -> None:
    assert write("abc", "'") == "'abc'"
