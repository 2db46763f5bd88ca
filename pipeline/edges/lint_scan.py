"""Text files under two libraries: detect-secrets for what looks like a token, yamllint for style.

Both take most of a run's time, so that files are handed to processes of their own in chunks. Each file has some
seconds there: a hostile one must not hold the run.
"""

import base64
import functools
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.core.lint import allowing
from pipeline.core.lint.finding import Finding
from pipeline.core.lint.rules import RULES
from pipeline.core.lint.values import NotYaml, is_placeholder
from pipeline.edges import yaml_values
from pipeline.edges.lint_files import read

_SECONDS = 10
_BY_HAND = 500
"""Lines: of a longer file nobody cares for the style, since a program has written it."""

# Of detect-secrets' own, those whose form is a token's and nothing else's.
_DETECTORS = (
    *("AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "DiscordBotTokenDetector"),
    *("GitHubTokenDetector", "GitLabTokenDetector", "JwtTokenDetector", "MailchimpDetector", "NpmDetector"),
    *("OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector", "SendGridDetector", "SlackDetector"),
    *("SquareOAuthDetector", "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector"),
)
# Those that it does not know. Words alone make no token: `hvs.the-token-goes-here`.
_TOKENS = {
    kind: re.compile(rf"(?<![\w.-])(?<![A-Za-z0-9][+/]){form}(?![\w+/-])")
    for kind, form in {
        "Vault token": r"hv[sbr]\.(?![a-z_-]+(?![\w-])|[A-Z_-]+(?![\w-]))[\w-]{24,}",
        "GitHub fine-grained token": r"github_pat_\w{22,}",
        "Google API key": r"AIza[\w-]{35}",
        "age secret key": r"AGE-SECRET-KEY-1[0-9A-Z]{40,}",
    }.items()
}
_LOGIN = re.compile(r"""["']?\bauth["']?[ \t]*[:=][ \t]*["']?([A-Za-z0-9+/]{8,}={0,2})(?![\w+/=])""")
"""Where Docker's `config.json` has user and password."""
_KEYWORD = re.compile(
    r"""(?:passw(?:or)?d|pwd|secret|api_?key|auth_?key|private_?key|token|unseal[ _-]?key(?: \d+)?)[\w-]*"""
    r"""["']?\s*[:=]+>?\s*["']?([A-Za-z0-9+/=_-]{20,120})["']?[ \t,;]*$""",
    re.IGNORECASE | re.MULTILINE,
)
_KEY_BODY = re.compile(r"-*(?:\\n|[\s\"',+|\\])*(?:Proc-Type|Comment|[A-Za-z0-9+/=]{32})")
_SEALED = re.compile(r"^kind: *SealedSecret\b|^sops:|\"sops\":", re.MULTILINE)
_STYLE = """
extends: relaxed
rules:
  line-length: disable
  new-line-at-end-of-file: {level: warning}
"""


class _TooLong(Exception):
    pass


def scan(root: Path, names: Sequence[str], own_style: str | None) -> list[Finding]:
    """The findings in the text of some files. `own_style` is the repository's `.yamllint`, relative to it."""
    previous = signal.signal(signal.SIGALRM, _stop)
    found: list[Finding] = []
    try:
        for name in names:
            signal.setitimer(signal.ITIMER_REAL, _SECONDS)
            try:
                found += _scan_file(root, name, own_style)
            except (_TooLong, RecursionError):
                found.append(Finding(name, 1, "yaml-style", "it was left out: it took too long to look through"))
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, previous)
    return found


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _TooLong


def _scan_file(root: Path, name: str, own_style: str | None) -> Iterator[Finding]:
    data = read(root, name)
    if b"\0" in data[:8192]:
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    yield from allowing.comments(name, text, RULES)
    yield from _tokens(name, text)
    if name == own_style and isinstance(problem := _config(root, own_style), str):
        yield Finding(name, 1, "yaml-style", f"yamllint cannot read its configuration: {problem}")
    if name.endswith((".yaml", ".yml")):
        yield from _style(root, name, text, own_style)


def _tokens(name: str, text: str) -> Iterator[Finding]:
    seen: set[int] = set()
    for kind, position, value in _strings(name, text):
        line = text.count("\n", 0, position) + 1
        if line not in seen and not is_placeholder(value):
            seen.add(line)
            yield Finding(name, line, "token-like-string", f"this looks like a secret: {kind}")


def _strings(name: str, text: str) -> Iterator[tuple[str, int, str]]:
    """Kind, position and value of what looks like a token."""
    detectors = _detectors()
    for name_of, detector in detectors.items():
        for pattern in getattr(detector, "denylist", ()):
            for match in pattern.finditer(text):
                if name_of == "PrivateKeyDetector" and not _KEY_BODY.match(text, match.end()):
                    continue  # the frame of a key, as in a page that explains where one goes
                value = next((group for group in match.groups() if group), match[0])
                line = _line_at(text, match.start())
                if len(line) <= 10_000 and any(
                    not _is_example(item.secret_value or value)
                    for item in detector.analyze_line(filename=name, line=line, line_number=0)
                ):
                    yield detector.secret_type, match.start(), value
    yield from _own_strings(text)


def _own_strings(text: str) -> Iterator[tuple[str, int, str]]:
    for kind, pattern in _TOKENS.items():
        for match in pattern.finditer(text):
            if not _is_example(match[0]):
                yield kind, match.start(), match[0]
    for match in _LOGIN.finditer(text):
        if _is_login(match[1]):
            yield "a registry's login", match.start(1), match[1]
    if _SEALED.search(text):
        return
    for match in _KEYWORD.finditer(text):
        if _is_random(match[1]):
            yield "a random string for a key", match.start(1), match[1]


def _line_at(text: str, position: int) -> str:
    end = text.find("\n", position)
    return text[text.rfind("\n", 0, position) + 1 : len(text) if end < 0 else end]


@functools.cache
def _detectors() -> dict[str, Any]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds: Iterable[Any] = get_mapping_from_secret_type_to_class().values()
    classes = {item.__name__: item for item in kinds}
    return {name: classes[name]() for name in _DETECTORS if name in classes}


def _is_random(value: str) -> bool:
    from detect_secrets.filters import heuristic
    from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString, HexHighEntropyString

    if heuristic.is_sequential_string(value) or heuristic.is_potential_uuid(value):
        return False
    if re.fullmatch(r"[0-9a-fA-F]+", value):
        hexadecimal = HexHighEntropyString()
        return bool(hexadecimal.calculate_shannon_entropy(value) > hexadecimal.entropy_limit)
    mixed = all(re.search(kind, value) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return mixed and bool(Base64HighEntropyString().calculate_shannon_entropy(value) > 4.0)


def _is_login(value: str) -> bool:
    """Whether base64 hides `USER:PASSWORD`, and no example of one."""
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode("ascii").partition(":")
    except ValueError:
        return False
    return bool(user and colon and password) and f"{user}{password}".isprintable() and not _is_example(password)


_EXAMPLE = re.compile(
    r"example|changeme|replace|placeholder|dummy|xxxx|\*\*\*|^(?:pass(?:word)?|user|secret|token|foo|bar)$",
    re.IGNORECASE,
)


def _is_example(value: str) -> bool:
    return _EXAMPLE.search(value) is not None or is_placeholder(value) or value.startswith("$")


def _style(root: Path, name: str, text: str, own_style: str | None) -> Iterator[Finding]:
    from yaml import YAMLError
    from yamllint import linter

    config = _config(root, own_style)
    if isinstance(config, str):
        return
    if own_style is None and text.count("\n") > _BY_HAND:
        return
    if config.is_file_ignored(name) or text.startswith("# yamllint disable-file"):
        return
    try:
        yaml_values.parse(name, text)
        for problem in linter.get_cosmetic_problems(text, config, name):
            rule = "yaml-duplicate-key" if problem.rule == "key-duplicates" else "yaml-style"
            yield Finding(name, problem.line, rule, problem.message)
    except NotYaml:  # the step says so, and a template has a style of its own
        return
    except (YAMLError, TypeError, ValueError, IndexError, AttributeError):  # yamllint's own parser takes less
        return


@functools.cache
def _config(root: Path, own_style: str | None) -> Any:
    from yamllint.config import YamlLintConfig, YamlLintConfigError

    try:
        return YamlLintConfig(_STYLE if own_style is None else read(root, own_style).decode(errors="replace"))
    except (YamlLintConfigError, OSError, ValueError) as error:
        return str(error)
