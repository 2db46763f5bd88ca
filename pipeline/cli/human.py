"""A command's result as a few aligned lines on standard output."""

from collections.abc import Iterator

from pipeline.core.deployment import Deployment
from pipeline.core.wording import duration, left_out, one_line, rollback, short, stages, state, visible, web_url

GREEN, YELLOW, RED, BOLD, DIM = "32", "33", "31", "1", "2"
_GOOD = {"built", "edited", "planned", "published", "deployed", "unchanged", "reported"}
_WIDTH = 200


def paint(text: str, colour: str) -> str:
    """`text` in an ANSI colour."""
    return f"\x1b[{colour}m{text}\x1b[0m"


def result(deployment: Deployment, *, colour: bool) -> str:
    """The outcome, then what was deployed, published and proved; ends in a newline."""
    _, sentence = state(deployment)
    rows = list(_rows(deployment))
    width = max((len(label) for label, _ in rows), default=0)
    if colour:
        good = GREEN if deployment.outcome in _GOOD else YELLOW if deployment.outcome == "superseded" else RED
        sentence = paint(sentence, f"{BOLD};{good}")
    lines = [sentence]
    for label, text in rows:
        shown = f"{label:<{width}}"
        lines.append(f"  {paint(shown, DIM) if colour else shown}  {one_line(text, _WIDTH)}")
    return "\n".join(lines) + "\n"


def _rows(deployment: Deployment) -> Iterator[tuple[str, str]]:
    for image in deployment.images:
        before = f"{short(image.previous)} → " if image.previous else ""
        if left_out(deployment, image):
            before = f"{short(image.previous)} stays, newer than "
        yield "image", f"{image.name} {before}{short(image.tag)}, {image.repository}"
    if gitops := deployment.gitops:
        branch = f" {gitops.branch}" if gitops.branch else ""
        revision = f"@{gitops.revision[:12]}" if gitops.revision else ""
        tries = f" (attempt {gitops.attempts})" if gitops.attempts and gitops.attempts > 1 else ""
        if branch or revision:
            yield "gitops", f"{web_url(gitops.repository) or gitops.repository}{branch}{revision}{tries}"
        for line in gitops.changed:
            yield "changed", f"{line.file}:{line.line}, {line.name} {short(line.old)} → {short(line.new)}"
        if proposed := gitops.pull_request:
            yield "pull request", ", ".join(filter(None, (proposed.url, proposed.branch, proposed.state)))
    for item in deployment.rollout.applications if deployment.rollout else ():
        revision = f" at {item.revision[:12]}" if item.revision else ""
        why = item.proof or (item.cause.reason if item.cause else "")
        yield "application", f"{item.name} {item.health or item.outcome}{revision}{f', {why}' if why else ''}"
    if back := rollback(deployment):
        yield "rollback", back.removeprefix("Rollback ")
    if timed := stages(deployment):
        total = (deployment.seconds or {}).get("total", sum(seconds for _, seconds in timed))
        yield "time", f"{duration(total)}: " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in timed)


def coloured_diff(diff: str) -> str:
    """A unified diff for a terminal, with control characters made visible."""
    colours = {"+": GREEN, "-": RED, "@": DIM}
    lines = visible(diff).splitlines()
    return "".join(f"{paint(line, colours[line[0]]) if line[:1] in colours else line}\n" for line in lines)
