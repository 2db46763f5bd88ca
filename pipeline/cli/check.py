"""`check`: what a deployment would miss. Everything is only read, through the edges that `deploy` uses."""

from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from pipeline.cli import actions, human, settings, stages
from pipeline.cli.flags import Run
from pipeline.cli.settings import Buildable, Place
from pipeline.core.check import Check, Finding, follows, ok, problem, unknown
from pipeline.core.deployment import Image
from pipeline.core.github_token import grant, token_kind
from pipeline.core.image import Wanted
from pipeline.core.secret import Secret
from pipeline.core.wording import visible
from pipeline.errors import GitDenied, RepositoryDiffers
from pipeline.steps.check_setup import Checklist

if TYPE_CHECKING:
    from pipeline.config import ApplicationConfig
    from pipeline.core.argocd import State
    from pipeline.core.kustomization import Entry
    from pipeline.edges.argocd import ArgoCD

_MARKS = {"ok": human.GREEN, "problem": human.RED, "unknown": human.YELLOW}
_DEADLINE_SECONDS = 10.0
"""So long a rate limit may hold one question up."""
APPLICATION, GITOPS, OVERLAY, ARGOCD = "deploy.yaml", "GitOps repository", "overlay", "Argo CD"


def check(run: Run) -> None:
    """Tell what a deployment would miss: tokens and their permissions, repositories, registry, Argo CD, Slack."""
    settings.require_one_way(run)
    run.report.update(environment=run.required("env"))
    run = replace(run, values={**run.values, "dry-run": True, "deadline": _DEADLINE_SECONDS})
    checklist = Checklist(run.progress)
    config = checklist.look(
        APPLICATION,
        lambda: settings.application(run),
        lambda found: ok("it can be read" if found else "there is none: flags and variables say what is deployed"),
    )
    with run.report.stage("check"):
        where = _gitops(run, checklist, config)
        _images(run, checklist, config, where)
        _argocd(run, checklist, where)
        _slack(run, checklist)
    result = checklist.result()
    run.report.update(outcome="findings" if result.problems else "reported", check=result)
    run.report.content = actions.harmless(_table(result, colour=run.report.coloured)).encode(errors="replace")


def _gitops(run: Run, checklist: Checklist, config: "ApplicationConfig | None") -> Place | None:
    """The application's repository, the GitOps repository, the right to push to it, and the overlay."""
    checklist.look("application's repository", lambda: stages.order_known(run), _of_order)
    if token := run.secret("github-token"):
        checklist.look("GitHub deployments", partial(_showing, run, token), lambda found: found)
    where = checklist.look(
        GITOPS,
        lambda: settings.place(run, config),
        lambda place: ok(f"{place.repository.name} {place.repository.branch}@{place.head.revision[:12]}"),
        needs=() if run.text("gitops") else (APPLICATION,),
    )
    place = cast("Place", where)  # what needs it is asked only where it is there
    checklist.look(
        "right to push",
        lambda: _require_writable(run, place),
        lambda who: ok(f"{who} may push to {place.repository.branch}"),
        needs=(GITOPS,),
    )
    how = checklist.look(
        "mode",
        lambda: stages.publishing(run, place),
        lambda found: ok(f"changes go {'through pull requests' if found.proposing else 'to the branch as commits'}"),
        needs=(GITOPS,),
    )
    if how and how.proposing:
        checklist.look("pull requests", lambda: stages.may_propose(place), partial(_of_proposing, run))
    checklist.look(
        OVERLAY,
        lambda: stages.entries(run, place),
        lambda entries: ok(f"{', '.join(settings.overlays(run, place))}: {', '.join(entries) or 'no images yet'}"),
        needs=(GITOPS,),
    )
    return where


def _of_order(known: bool | None) -> Finding:
    if known is None:
        return unknown(
            "there is none that could tell the order of commits",
            "Run in a clone of the application's repository, or name it with --source.",
        )
    return ok("it tells the order of commits")


def _showing(run: Run, token: Secret) -> Finding:
    """Whether GitHub may be told what runs where. No deployment depends on it."""
    page = stages.source_page(run, token)
    if page is None:
        return ok("the application's repository is not on GitHub, which could show what runs where")
    with closing(page):
        try:
            may = page.may_write()
        except GitDenied:
            may = False
    if may is None:
        return unknown("whether GITHUB_TOKEN may show what runs where shows the first deployment alone")
    return ok(
        "GITHUB_TOKEN may show what runs where"
        if may
        else "GITHUB_TOKEN may not show what runs where (`deployments: write`), and need not"
    )


def _of_proposing(run: Run, may: bool | None) -> Finding:
    if may:
        return ok(f"{_variable(run)} may open them")
    if may is None:
        return unknown(f"{_variable(run)} may read them; whether it may open one shows the first alone")
    return problem(f"{_variable(run)} may not open them", grant("classic", "pull_requests: write", _variable(run)))


def _variable(run: Run) -> str:
    return "GITOPS_TOKEN" if run.secret("gitops-token") else "GITHUB_TOKEN"


def _require_writable(run: Run, where: Place) -> str:
    """Who may push. Raises GitDenied with the remedy for this kind of token."""
    token = run.secret("gitops-token", "github-token")
    kind = token_kind(token) if token else "unknown"
    variable = _variable(run)
    try:
        where.repository.require_writable(where.head)
    except GitDenied as error:
        if kind == "unknown":
            raise
        raise GitDenied(str(error), remedy=grant(kind, "contents: write", variable)) from None
    if token:
        return variable if kind == "unknown" else f"{variable} ({kind})"
    return "the GitHub App" if run.secret("github-app-id") else "git with its own credentials"


def _images(run: Run, checklist: Checklist, config: "ApplicationConfig | None", where: Place | None) -> None:
    """Each image's entry in the overlay, and its registry."""
    place, registry = cast("Place", where), settings.registry(run, config)
    if any("=" in argument for argument in run.texts("image")):
        for wanted in settings.wanted_images(run):
            checklist.look(
                f"image {wanted.name}",
                partial(_find_image, run, place, wanted, registry),
                lambda image: ok(f"{image.reference} is in the registry and in the overlay"),
                needs=(OVERLAY,),
            )
        return
    items = checklist.look(
        "images",
        lambda: settings.buildables(run, config),
        lambda found: ok(", ".join(item.name for item in found)),
        needs=() if run.texts("image") else (APPLICATION,),
    )
    for item in items or ():
        checklist.look(
            f"image {item.name}",
            partial(_find_entry, run, place, item),
            lambda entry: ok(f"the overlay has it as {entry.new_name or entry.name}"),
            needs=(OVERLAY,),
        )
        checklist.look(
            f"registry of {item.name}",
            partial(stages.may_push, run, item.repository, registry),
            partial(_of_push, item),
        )


def _find_image(run: Run, where: Place, wanted: Wanted, registry: str) -> Image:
    stages.require_deployable(run, where, {wanted.name: wanted.tag})
    return stages.find_images(run, where, (wanted,), registry)[0]


def _find_entry(run: Run, where: Place, item: Buildable) -> "Entry":
    """Raises EntryNotFound, and RepositoryDiffers for an entry that stands for another repository."""
    stages.require_deployable(run, where, {item.name: None})
    entry = stages.entries(run, where)[item.name]
    named = entry.new_name or entry.name
    if named != item.repository:
        raise RepositoryDiffers(f"the overlay has {item.name} as {named}, and the image is pushed to {item.repository}")
    return entry


def _of_push(item: Buildable, may: bool | None) -> Finding:
    if may is None:
        return unknown(f"{item.repository} can be read; whether it can be pushed to shows the first push alone")
    if may:
        return ok(f"{item.repository} can be read and pushed to")
    return problem(
        f"{item.repository} can be read, not pushed to",
        "Give the user of REGISTRY_USERNAME the right to push, or set it to one who has it.",
    )


def _argocd(run: Run, checklist: Checklist, where: Place | None) -> None:
    """Argo CD, each application, and what the account may do with it."""
    needs = () if run.texts("app") and run.text("argocd-server") else (GITOPS,)
    awaiting = checklist.look(
        ARGOCD,
        lambda: stages.awaiting(run, where),
        lambda found: ok(f"{found.argocd.url} knows the account {found.argocd.user()}"),
        needs=needs,
    )
    for name in awaiting.applications if awaiting else ():
        client, application = cast("stages.Awaiting", awaiting).argocd, f"application {name}"
        state = checklist.look(
            application,
            partial(client.get, name),
            lambda found: ok(f"it is {found.health or 'of unknown health'} and {found.sync}"),
            needs=(ARGOCD,),
        )
        checklist.look(
            f"source of {name}",
            partial(_source, run, where, state),
            lambda found: found,
            needs=(application, GITOPS, OVERLAY),
        )
        checklist.look(f"manifests of {name}", partial(_manifests, state), lambda found: found, needs=(application,))
        checklist.look(
            f"syncs of {name}", partial(_syncs, run, client, state), lambda found: found, needs=(application,)
        )
        checklist.look(f"logs of {name}", partial(_logs, client, state), lambda found: found, needs=(application,))


def _manifests(state: "State | None") -> Finding:
    errors = [item.message for item in cast("State", state).conditions if item.type.endswith("Error")]
    if errors:
        return problem(errors[0], "Mend what Argo CD complains of: a deployment would fail with it.")
    return ok("Argo CD can make them")


def _source(run: Run, where: Place | None, state: "State | None") -> Finding:
    place, known = cast("Place", where), cast("State", state)
    return follows(known.sources, place.repository.name, settings.overlays(run, place), place.repository.branch)


def _syncs(run: Run, client: "ArgoCD", state: "State | None") -> Finding:
    known = cast("State", state)
    may = client.can("applications", "sync", f"{known.project}/{known.name}")
    if not known.automated and not run.switch("sync"):
        return problem(
            "it is not synced automatically", "Set spec.syncPolicy.automated of the Application, or pass --sync."
        )
    if may is False and not known.automated:
        return problem("this account may not sync it", _policy(known, "applications, sync"))
    how = "automatically" if known.automated else "by --sync"
    return ok(f"it is synced {how}" + ("; this account may not start one, and need not" if may is False else ""))


def _logs(client: "ArgoCD", state: "State | None") -> Finding:
    known = cast("State", state)
    may = client.can("logs", "get", f"{known.project}/{known.name}")
    if may is None:
        return unknown("this Argo CD does not tell what an account may do")
    if may:
        return ok("this account may read the log lines of its pods")
    return problem(
        "this account may not read log lines: a failure would be told without them", _policy(known, "logs, get")
    )


def _policy(state: "State", right: str) -> str:
    return f"Add to Argo CD's RBAC: p, ROLE, {right}, {state.project}/{state.name}, allow"


def _slack(run: Run, checklist: Checklist) -> None:
    """Slack, where it is to be told."""
    token, webhook = run.secret("slack-token"), run.secret("slack-webhook")
    if token:
        checklist.look("Slack", lambda: _bot(token, run.text("slack-api-url")), lambda who: ok(f"the bot is {who}"))
    elif webhook:
        checklist.look("Slack", lambda: None, lambda _: unknown("a webhook can be tried by a message alone"))


def _bot(token: Secret, api_url: str | None) -> str:
    from pipeline.edges.slack import Bot

    return Bot(token, api_url).user()


def _table(check: Check, *, colour: bool) -> str:
    """One line for each thing, the remedy below it, and a last one that sums it up."""

    def paint(text: str, mark: str) -> str:
        return human.paint(text, mark) if colour else text

    lines: list[str] = []
    width = max(len(item.name) for item in check.items)
    for item in check.items:
        name, message = f"{_shown(item.name):<{width}}", _shown(item.message)
        lines.append(f"{paint(f'{item.state:<7}', _MARKS[item.state])}  {name}  {message}")
        if item.remedy:
            lines.append(f"{'':<7}  {'':<{width}}  → {_shown(item.remedy)}")
    problems = "1 problem" if check.problems == 1 else f"{check.problems} problems"
    told = problems if check.problems else "Nothing is missing"
    told += f"; {check.unknown} cannot be told" if check.unknown else ""
    lines.append(paint(told, human.RED if check.problems else human.GREEN))
    return "\n".join(lines) + "\n"


def _shown(text: str) -> str:
    """Foreign text on one line, without what a terminal would obey."""
    return visible(text).replace("\n", " ")
