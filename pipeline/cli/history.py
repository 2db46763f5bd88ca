"""`history`: what was deployed, when, by whom, and how it ended. Nothing is changed anywhere."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from pipeline.cli import actions, human, settings, stages
from pipeline.cli.flags import Run
from pipeline.cli.settings import Place
from pipeline.core.deployment import PastDeployment
from pipeline.core.moment import parse_moment
from pipeline.core.wording import duration, one_line, short
from pipeline.errors import UsageError

_GOOD, _WIDTH = {"deployed", "unchanged"}, 200
_UNKNOWN = "not recorded"


def history(run: Run) -> None:
    """List the deployments of an environment, or of all: what changed, who did it, how it ended."""
    now = datetime.now(UTC)
    since, until = (
        parse_moment(text, f"--{name}", now) if (text := run.text(name)) else None for name in ("since", "until")
    )
    limit = int(run.number("limit") or 0)
    if limit < 1:
        raise UsageError(f"--limit {limit} lists nothing", remedy="Give a number from 1 on.")
    config = settings.application(run)
    images = settings.image_names(run, config)
    where = settings.place(run, config, read_only=True)
    found: list[PastDeployment] = []
    one = run.values.get("env") or run.texts("overlay") or not (where.config and where.config.environments)
    for place in (where,) if one else settings.everywhere(run, where):
        found += _of(run, place, images, since, until, limit)
    newest = tuple(sorted(found, key=lambda past: past.at, reverse=True)[:limit])
    run.report.update(environment=where.name if run.values.get("env") else None, history=newest)
    run.report.content = actions.harmless(_table(newest, colour=run.report.coloured)).encode(errors="replace")


def _of(
    run: Run, where: Place, images: tuple[str, ...], since: datetime | None, until: datetime | None, limit: int
) -> tuple[PastDeployment, ...]:
    from pipeline.cli.earlier import recorded
    from pipeline.core.record import BRANCH
    from pipeline.edges.gitops_repository import beside
    from pipeline.steps import publish_change, read_history

    head = stages.read_overlays(run, where)
    overlays = settings.overlays(run, where)
    files = tuple(dict.fromkeys(publish_change.kustomization_file(head, overlay) for overlay in overlays))
    inputs = read_history.Inputs(environment=where.name, images=images, since=since, until=until, limit=limit)
    changes = where.repository.history(files, read_history.DEPTH)
    return read_history.read_history(changes, beside(where.repository, BRANCH), inputs, recorded, run.progress)


def _table(found: Iterable[PastDeployment], *, colour: bool) -> str:
    rows = [_row(past) for past in found]
    if not rows:
        return "No deployment\n"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(f"{line}\n" for line in _lines(rows, widths, colour=colour))


def _row(past: PastDeployment) -> tuple[str, ...]:
    when = past.at[:16].replace("T", " ")
    images = ", ".join(f"{image.name} {short(image.previous)} → {short(image.tag)}" for image in past.images)
    took = duration(past.seconds) if past.seconds is not None else ""
    kind = past.kind or "by hand"
    cause = f": {past.cause}" if past.cause else ""
    texts = (when, past.environment, kind, past.outcome or _UNKNOWN, took, past.actor or "", past.revision[:7])
    return (*(one_line(text, 40) for text in texts), one_line(f"{images}{cause}", _WIDTH))


def _lines(rows: Iterable[tuple[str, ...]], widths: list[int], *, colour: bool) -> Iterator[str]:
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        if colour:
            outcome = row[3]
            mark = human.GREEN if outcome in _GOOD else human.DIM if outcome == _UNKNOWN else human.RED
            cells[3] = human.paint(cells[3], mark)
        yield "  ".join(cells).rstrip()
