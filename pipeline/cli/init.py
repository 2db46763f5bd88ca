"""`init`: a GitOps repository from the template, or what makes an application deployable."""

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.cli import questions
from pipeline.cli.flags import Run
from pipeline.errors import FilesExist, UsageError
from pipeline.resources import folder as shipped

if TYPE_CHECKING:
    from pipeline.core.answers import Answers

_NO_SOURCES = {"node_modules", "vendor", "venv"}
_MESSAGE = "Start from the template of OpenEG Deploy"
_FEW = 5
_BREAK = " |\n    kube"  # before kubectl and kubeseal; a shell reads on after it


def init(run: Run) -> None:
    """Make a GitOps repository in DIR; with --app, write deploy.yaml and a workflow into an application."""
    (_application if run.switch("into-app") else _repository)(run)


def _repository(run: Run) -> None:
    from pipeline.core import next_steps, template
    from pipeline.edges import new_files

    if run.text("dir") is None:
        raise UsageError("DIR is missing", remedy="Name the new repository's folder: init acme-gitops.")
    folder = Path(run.required("dir"))
    top = new_files.repository_of(folder)
    new = top != folder.resolve()
    if top and new and not run.switch("force"):
        raise FilesExist(
            f"{folder}: lies inside of the git repository {top}",
            remedy="Choose a folder outside of it, or pass --force to have one repository inside of the other.",
        )

    ours = _template()
    given = _answers(run, template.services(ours), template.environments(ours))
    made = template.make(ours, given)
    for file in made.unfinished:
        run.progress.say(f"warning: {file}: names staging's namespace in a text; name the new environment there too")
    if made.guides:
        run.progress.say(
            f"warning: {', '.join(made.guides)}: written for the template's environments and services;"
            " name yours in their commands and lists"
        )

    commit, told = None, ""
    written = new_files.in_the_way(folder, made.files, force=run.switch("force"))
    if written and not run.switch("dry-run"):
        new_files.write(folder, {file: made.files[file] for file in written}, repository=new)
        new_files.add(folder, written)
        commit, why = new_files.commit(folder, _MESSAGE) if new else (None, "the repository was there before")
        told = f"committed as {commit[:7]} on main" if commit else f"added, not committed: {why}"
    _tell(run, folder, written, next_steps.repository(str(folder), given, made.files, new=new), commit, told)


def _template() -> dict[str, str]:
    root = shipped("gitops-repo-template")
    files = (file for file in sorted(root.rglob("*")) if file.is_file())
    return {str(file.relative_to(root)): file.read_bytes().decode() for file in files}


def _answers(run: Run, services: tuple[str, ...], environments: tuple[str, ...]) -> "Answers":
    """What is asked of a new GitOps repository; `services` and `environments` are the template's."""
    from pipeline.core import answers

    ask = partial(questions.ask, run)
    name = ask("organisation", "Organisation", answers.ORGANISATION, answers.require_organisation)
    return answers.Answers(
        organisation=name,
        gitops_url=ask("gitops", "URL of this repository", answers.gitops_url(name), answers.require_url),
        registry=ask("registry", "Registry of the images", answers.registry(name), answers.require_registry),
        domain=ask("domain", "Domain", answers.domain(name), answers.require_domain),
        services=ask(
            "service",
            "Services, each NAME[=IMAGE][:PORT]",
            " ".join(services),
            lambda text: answers.parse_services(_words(text), name),
        ),
        environments=ask(
            "environment",
            "Environments",
            " ".join(environments),
            lambda text: answers.parse_environments(_words(text)),
        ),
    )


def _application(run: Run) -> None:
    from pipeline.core import answers, application_files, next_steps
    from pipeline.edges import new_files

    folder = Path(run.text("dir") or ".")
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", remedy="Name the folder of an application repository.")
    contexts = _contexts(folder)
    ask = partial(questions.ask, run)
    name = ask("organisation", "Organisation", answers.ORGANISATION, answers.require_organisation)
    url = ask("gitops", "URL of the GitOps repository", answers.gitops_url(name), answers.require_url)
    registry = ask("registry", "Registry of the images", answers.registry(name), answers.require_registry)
    services = ask(
        "service",
        "Services, each NAME[=IMAGE]",
        " ".join(contexts),
        lambda text: answers.parse_services(_words(text), name),
    )
    if not services:
        raise UsageError(f"{folder}: no Dockerfile found", remedy="Name the services: --service NAME[=IMAGE].")
    contexts = {service.name: contexts.get(service.name, ".") for service in services}
    files = {
        application_files.DEPLOY: application_files.deploy_yaml(registry, url, services, contexts),
        application_files.WORKFLOW: application_files.workflow(__version__),
    }
    written = new_files.in_the_way(folder, files, force=run.switch("force"))
    if not run.switch("dry-run"):
        new_files.write(folder, {file: files[file] for file in written})
    _tell(run, folder, written, next_steps.application())


def _contexts(folder: Path) -> dict[str, str]:
    """The folders with a Dockerfile, at most two levels deep, by a service's name made of their path."""
    found = {}
    for pattern in ("Dockerfile", "*/Dockerfile", "*/*/Dockerfile"):
        for file in sorted(folder.glob(pattern)):
            path = file.relative_to(folder).parent
            if not any(part.startswith(".") or part in _NO_SOURCES for part in path.parts):
                words = "-".join(path.parts) or folder.resolve().name
                found[re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")] = path.as_posix()
    return found


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _tell(
    run: Run, folder: Path, written: tuple[str, ...], steps: tuple[str, ...], commit: str | None = None, told: str = ""
) -> None:
    from pipeline.core.deployment import Created

    planned = run.switch("dry-run")
    run.report.update(
        outcome="unchanged" if not written else "planned" if planned else "edited",
        init=Created(folder=str(folder), files=written, commit=commit, next=steps),
    )
    count = f"{len(written)} file{'' if len(written) == 1 else 's'} {'would be ' if planned else ''}written"
    lines = [f"{folder}: {count if written else 'is as it shall be'}{f', {told}' if told else ''}"]
    if planned or len(written) < _FEW:
        lines += [f"  {file}" for file in written]
    lines += ["", "Next:", *(f"  {step.replace(' | kube', _BREAK)}" for step in steps)] if not planned else []
    run.report.content = ("\n".join(lines) + "\n").encode()
