"""Comments that switch a rule off, on the line or right above it: `# lint: allow(RULE-ID) reason`."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from pipeline.core.lint.finding import Finding

_ALLOW = re.compile(r"(?:\#|//|--|;)\s*lint:\s*allow\(([^()\n]{0,300})\)[ \t]*(.*)")
_COMMENT = re.compile(r"\s*(?:#|//|<!--|--|;)")
_NO_REASON = re.compile(r"[\s:.\-–—>*/]*")


def comments(file: str, text: str, known: Collection[str]) -> Iterator[Finding]:
    """What is wrong with the comments of a file themselves: no reason, or a rule that there is none of."""
    if "lint:" not in text:
        return
    for number, line in enumerate(text.splitlines(), 1):
        found = _ALLOW.search(line)
        if not found:
            continue
        if _NO_REASON.fullmatch(found[2]):
            yield Finding(
                file, number, "allow-without-reason", f"allow({found[1]}) gives no reason, so it has no effect"
            )
        for name in _names(found[1]):
            if name not in known:
                yield Finding(file, number, "allow-unknown-rule", f"there is no rule {name!r}")


def not_allowed(findings: Iterable[Finding], texts: Mapping[str, str]) -> Iterator[Finding]:
    """The findings that no comment of the files switches off."""
    lines = {file: text.splitlines() for file, text in texts.items() if "lint:" in text}
    for finding in findings:
        places = ((finding.file, finding.line), *finding.allowed_at)
        if not any(finding.rule in _allowed(lines.get(file, ()), line) for file, line in places):
            yield finding


def _allowed(lines: Sequence[str], number: int) -> set[str]:
    """The rules that are switched off on a line."""
    allowed: set[str] = set()
    if 0 < number <= len(lines):
        allowed |= _rules(lines[number - 1])
    number -= 1
    while 0 < number <= len(lines) and _COMMENT.match(lines[number - 1]):
        allowed |= _rules(lines[number - 1])
        number -= 1
    return allowed


def _rules(line: str) -> set[str]:
    found = _ALLOW.search(line)
    return set(_names(found[1])) if found and not _NO_REASON.fullmatch(found[2]) else set()


def _names(text: str) -> list[str]:
    return [name for name in re.split(r"[,\s]+", text) if name] or [""]
