"""The command in a comment on a pull request: heard, checked, carried out, answered."""

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.cli import deploy, pr_board, rollback, settings, stages
from pipeline.cli.flags import Run
from pipeline.core.bot_command import Command, parse
from pipeline.core.deployment import Image
from pipeline.core.image import Wanted
from pipeline.core.pr_comment import MARKER, answer, answer_marker
from pipeline.errors import (
    Bug,
    CommandNotUnderstood,
    CommenterMayNotWrite,
    CommitNotInPullRequest,
    ImageNotFound,
    PipelineError,
    Signalled,
)

if TYPE_CHECKING:
    from pipeline.cli.event import IssueComment
    from pipeline.edges.github_pull_request import PullRequest, Reaction

_Heard = Command | CommandNotUnderstood | None
"""The command of a comment, or what is wrong with it; None where it holds none."""


def obey(run: Run, said: "IssueComment") -> None:
    """Carry out the command of a new comment on a pull request; anything else is passed over.

    How it ended is in the report, and in an answer beside the comment.
    """
    command = _heard(said.comment.body or "")
    if why := _passed_over(said) or (None if command else "the comment holds no command"):
        run.progress.say(f"Nothing to do: {why}")
        return
    login = said.comment.user.login if said.comment.user else ""
    run.report.update(actor=login, run=settings.run_url(run.environ))
    with pr_board.pull_request(run, said.issue.number) as pull:
        _react(run, pull, said.comment.id, "eyes")
        try:
            _carry_out(run, pull, login, command)
        except PipelineError as error:
            run.report.fail(error)
        except Signalled as interrupt:
            run.report.interrupted(128 + interrupt.args[0])
        except Exception as error:
            run.report.fail(Bug(f"{type(error).__name__}; the run's log has more"))
            _tell(run, pull, said.comment.id, command)
            raise
        _tell(run, pull, said.comment.id, command)


def _heard(body: str) -> _Heard:
    try:
        return parse(body)
    except CommandNotUnderstood as error:
        return error


def _passed_over(said: "IssueComment") -> str | None:
    """Why an event is none of ours."""
    if said.action != "created":
        return f"the comment was {said.action}, not created"
    if said.issue.pull_request is None:
        return "the comment is on an issue, not on a pull request"
    if said.comment.user is None or said.comment.user.type == "Bot":
        return "the comment is not by a person"
    if (said.comment.body or "").startswith(MARKER):
        return "the comment is one of ours"
    return None


def _carry_out(run: Run, pull: "PullRequest", login: str, command: _Heard) -> None:
    """Raises whatever is in the way, before anything else that the commenter may not write."""
    if not pull.may_write(login):
        raise CommenterMayNotWrite(f"{login} may not write to the repository")
    if not isinstance(command, Command):
        raise command or CommandNotUnderstood("there is no command")
    there = replace(run, values={**run.values, "env": command.environment})
    match command.name:
        case "deploy":
            _deploy(there, pull, command)
        case "rollback":
            rollback.rollback(there)


def _deploy(run: Run, pull: "PullRequest", command: Command) -> None:
    """Deploy the images of one commit that are built; the others keep the version that they have."""
    config = settings.application(run)
    where = settings.place(run, config)
    settings.identity(run, where)
    if command.commit not in {commit.oid for commit in pull.commits}:
        raise CommitNotInPullRequest(f"{command.commit} is none of the {len(pull.commits)} commits of #{pull.number}")
    registry = settings.registry(run, config)
    known = stages.entries(run, where)
    ours = settings.images_of(config)
    wanted = tuple(Wanted(name, command.commit) for name in known if not ours or name in ours)
    images = tuple(stages.built(run, stages.name_images(known, wanted, registry), registry))
    if not images:
        names = ", ".join(item.name for item in wanted) or f"none of {', '.join(ours)} in {where.name}"
        raise ImageNotFound(
            f"no image is built from {command.commit}: {names}", remedy="Wait until its build is done, then try again."
        )
    run.report.update(kind="deploy", images=images)
    _update(run, pull, final=False)

    def find(_: bool) -> tuple[Image, ...]:
        return images

    deploy.carry_out(run, where, {image.name: image.tag for image in images}, find, registry)


def _tell(run: Run, pull: "PullRequest", comment: int, command: _Heard) -> None:
    """Answer the comment, and bring the one that stays up to date; a deployment does not depend on being told."""
    ended = run.report.deployment
    understood = command if isinstance(command, Command) else None
    if ended.images:
        _update(run, pull)
    reaction: Reaction = "rocket"
    if ended.error:
        reaction = "confused" if ended.error.class_ == CommandNotUnderstood.__name__ else "-1"
    elif ended.outcome == "superseded":
        reaction = "-1"
    try:
        pr_board.write(run, pull, answer_marker(comment), answer(comment, understood, ended))
        _react(run, pull, comment, reaction)
    except PipelineError as error:
        run.progress.say(f"warning: the comment was not answered: {error} ({error.remedy})")


def _update(run: Run, pull: "PullRequest", *, final: bool = True) -> None:
    if run.switch("dry-run"):
        return
    try:
        pr_board.show(run, pull, run.report.deployment, final=final)
    except PipelineError as error:
        run.progress.say(f"warning: the pull request was not told: {error} ({error.remedy})")


def _react(run: Run, pull: "PullRequest", comment: int, reaction: "Reaction") -> None:
    if not run.switch("dry-run"):
        pull.react(comment, reaction)
