"""The unified diff."""

import pytest

from pipeline.core.diff import unified

HEADER = "--- a/f\n+++ b/f\n"


@pytest.mark.parametrize(
    ("old", "new", "diff"),
    [
        (b"a\nb\n", b"a\nc\n", HEADER + "@@ -1,2 +1,2 @@\n a\n-b\n+c\n"),
        (b"a", b"b", HEADER + "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n"),
        (b"a\r\nb\r\n", b"a\r\nc\r\n", HEADER + "@@ -1,2 +1,2 @@\n a\r\n-b\r\n+c\r\n"),
        (b"a\rb\n", b"c\rb\n", HEADER + "@@ -1 +1 @@\n-a\rb\n+c\rb\n"),
        (b"\xff\n", b"x\n", HEADER + "@@ -1 +1 @@\n-\\xff\n+x\n"),
        (b"a\n", b"a\n", ""),
    ],
)
def test_a_changed_file(old: bytes, new: bytes, diff: str) -> None:
    assert unified({"f": old}, {"f": new}) == diff


def test_a_new_file_comes_from_nowhere_and_files_are_sorted() -> None:
    assert unified({}, {"b": b"1\n", "a": b"2\n"}) == (
        "--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+2\n--- /dev/null\n+++ b/b\n@@ -0,0 +1 @@\n+1\n"
    )
