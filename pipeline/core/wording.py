"""How a deployment is put into words, the same in Slack, in a job summary and on a terminal."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from pipeline.core.deployment import Application, Deployment, Image, RolloutOutcome
from pipeline.core.image import is_commit
from pipeline.errors import Outcome

_STATES: dict[Outcome, tuple[str, str]] = {
    "built": ("📦", "has built its image"),
    "edited": ("📝", "has edited the files"),
    "planned": ("📝", "is planned, nothing was changed"),
    "published": ("🚀", "is published"),
    "deployed": ("✅", "succeeded"),
    "unchanged": ("✅", "changed nothing"),
    "superseded": ("⏭️", "was superseded by a newer change"),
    "refused": ("⛔", "was refused"),
    "failed": ("❌", "failed"),
    "timed_out": ("⌛", "timed out"),
    "suspended": ("⏸️", "waits for a person"),
    "reported": ("📋", "is reported"),
    "findings": ("🔎", "has findings"),
}
_UNDER_WAY = ("🔄", "is under way")
_ROLLED_BACK = ("↩️", "failed and was rolled back")
_NOUNS = {"deploy": "Deployment", "rollback": "Rollback", "promote": "Promotion", "revert": "Revert"}
_LINKS = {
    "commit": "Commit",
    "run": "Run",
    "argocd": "Argo CD",
    "pull_request": "Pull request",
    "environment": "Environment",
}

_LINK_BREAKING = re.compile(r"""[\s<>"'`|\\]""")

_MANY = 3
_LONG = 40

_TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
# C0 and C1 controls without tab and newline, line separators, marks that turn the writing direction around, and
# surrogates, which stand for bytes that are no text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Foreign text with its control characters made visible, so that it cannot steer a terminal or hide itself.

    Colours, which build tools and applications write, are dropped; newlines and tabs stay.

    >>> visible("\\x1b[31mred\\x1b[0m\\x07")
    'red\\\\x07'
    """
    plain = _TERMINAL_COLOUR.sub("", text.replace("\r\n", "\n"))
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), plain)


def one_line(text: str, limit: int) -> str:
    """Visible text on one line of at most `limit` characters; what is longer ends in `…`."""
    line = " ".join(visible(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def ending(deployment: Deployment) -> tuple[str, str]:
    """An emoji, and how it ended: `succeeded`."""
    back = deployment.rollback and deployment.rollback.outcome == "deployed"
    return _ROLLED_BACK if back else _STATES[deployment.outcome]


def state(deployment: Deployment, *, final: bool = True) -> tuple[str, str]:
    """An emoji, and a sentence such as `Deployment of openegflask to production succeeded`."""
    emoji, phrase = ending(deployment) if final else _UNDER_WAY
    subject = _subject(deployment)
    if not (subject or deployment.environment):  # it ended before it was known what it is about
        return emoji, f"{deployment.command} {phrase}"
    noun = _NOUNS[deployment.kind or "deploy"]
    where = f" to {one_line(deployment.environment, _LONG)}" if deployment.environment else ""
    return emoji, f"{noun} of {subject or 'the configuration'}{where} {phrase}"


def mark(outcome: RolloutOutcome) -> str:
    """The emoji of how one application ended."""
    return next((emoji for name, (emoji, _) in _STATES.items() if name == outcome), "❌")


def _subject(deployment: Deployment) -> str:
    applications = deployment.rollout.applications if deployment.rollout else ()
    names = [image.service or image.name for image in deployment.images] or [item.name for item in applications]
    shown = [one_line(name, _LONG) for name in dict.fromkeys(names)]
    if len(shown) > _MANY:
        shown = [*shown[:_MANY], f"{len(shown) - _MANY} more"]
    return ", ".join(shown)


def left_out(deployment: Deployment, image: Image) -> bool:
    """Whether the image was not deployed because a newer one, its `previous`, stands there."""
    if deployment.gitops is None or image.previous in {None, image.tag}:
        return False
    return image.name not in {line.name for line in deployment.gitops.changed}


def short(tag: str | None) -> str:
    """A commit hash by its first seven digits; another tag as it is; `none` where there is none."""
    if not tag:
        return "none"
    return tag[:7] if is_commit(tag) else one_line(tag, _LONG)


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> [duration(0.42), duration(27.94), duration(184)]
    ['0.4 s', '27.9 s', '3 min 4 s']
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def web_url(url: str | None) -> str | None:
    """`url` made safe to link to: http(s) only, without credentials; None for anything else."""
    if not url or _LINK_BREAKING.search(visible(url)):
        return None
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            return None
    except ValueError:
        return None
    clean = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return clean.replace("(", "%28").replace(")", "%29")


def source_url(image: Image) -> str | None:
    """The page of the commit that an image was built from, where its source is a web address.

    GitHub, Gitea and Forgejo have it at this path; GitLab redirects to its own.
    """
    repository, _, commit = (image.source or "").rpartition("@")
    return web_url(f"{repository.removesuffix('.git')}/commit/{commit}") if repository and is_commit(commit) else None


def links(deployment: Deployment) -> Iterable[tuple[str, str]]:
    """Label and address of every link that a deployment has."""
    urls = dict(deployment.urls or {})
    proposed = deployment.gitops.pull_request if deployment.gitops else None
    if proposed and proposed.url:
        urls.setdefault("pull_request", proposed.url)
    for key, url in urls.items():
        if clean := web_url(url):
            kind, _, name = key.partition("/")  # as `argocd/openeg`
            yield one_line(f"{_LINKS.get(kind, kind)} {name}", _LONG), clean


def rollback(deployment: Deployment) -> str | None:
    """What became of the rollback that a failure set off, such as `Rollback deployed: openegflask 3f2a9c1`."""
    if not (back := deployment.rollback):
        return None
    images = ", ".join(f"{image.name} {short(image.tag)}" for image in back.images)
    return f"Rollback {back.outcome.replace('_', ' ')}{f': {images}' if images else ''}"


def broken(deployment: Deployment) -> tuple[Application, ...]:
    """The applications that have a cause to read."""
    return tuple(item for item in (deployment.rollout.applications if deployment.rollout else ()) if item.cause)


def stages(deployment: Deployment) -> tuple[tuple[str, float], ...]:
    """Name and seconds of each stage in order, without the total."""
    return tuple((name, seconds) for name, seconds in (deployment.seconds or {}).items() if name != "total")


def waterfall(deployment: Deployment, width: int = 32) -> tuple[str, ...]:
    """The stages as bars under one another, each starting where the one before it ended; empty without stages."""
    rows = stages(deployment)
    whole = sum(seconds for _, seconds in rows)
    label = max((len(name) for name, _ in rows), default=0)
    lines, before = [], 0.0
    for name, seconds in rows:
        start = round(width * before / whole) if whole else 0
        before += seconds
        end = round(width * before / whole) if whole else 0
        bar = " " * min(start, width - 1) + "█" * max(end - start, 1)
        lines.append(f"{name:<{label}}  {bar:<{width}}  {duration(seconds):>10}")
    return tuple(lines)
