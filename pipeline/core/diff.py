"""The unified diff of a change, as `git apply` takes it."""

import difflib
from collections.abc import Mapping


def unified(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    """One diff over all files of `after`; a file that is missing in `before` is new. Bytes beyond UTF-8 are escaped."""
    return "".join(_file(path, before.get(path), after[path]) for path in sorted(after))


def _file(path: str, old: bytes | None, new: bytes) -> str:
    shown = path.lstrip("/")
    lines = difflib.unified_diff(
        _lines(old or b""), _lines(new), "/dev/null" if old is None else f"a/{shown}", f"b/{shown}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(data: bytes) -> list[str]:
    # Only "\n" ends a line for git; splitlines would also split at a lone CR.
    lines = data.decode("utf-8", "backslashreplace").split("\n")
    return [f"{line}\n" for line in lines[:-1]] + [line for line in lines[-1:] if line]
