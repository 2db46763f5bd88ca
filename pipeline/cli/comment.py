"""`comment`: a pull request shows where its commits run, and takes commands in its comments."""

from pipeline.cli import bot, deploy, pr_board, settings
from pipeline.cli.flags import Run
from pipeline.core.deployment import Deployment
from pipeline.core.image import is_commit
from pipeline.errors import UsageError


def comment(run: Run) -> None:
    """Show on a pull request where its commits run, or carry out the command in a comment on it."""
    from pipeline.cli import event  # which loads pydantic

    if said := event.issue_comment(run.environ):
        bot.obey(run, said)
        return
    earlier = deploy.earlier_results(run)
    number = _number(run, event.pull_request(run.environ), earlier)
    if number is None:
        run.progress.say("No pull request brought this commit: there is nothing to comment on")
        return
    with pr_board.pull_request(run, number) as pull:
        pr_board.show(run, pull, earlier if earlier.command else None)
    made = run.report.deployment.comment
    if made and made.url:
        run.report.content = f"{made.url}\n".encode()


def _number(run: Run, of_event: int | None, earlier: Deployment) -> int | None:
    """The pull request to comment on; None where the commit came without one."""
    given = run.number("pr")
    if given is not None:
        if not given.is_integer() or not given:
            raise UsageError(f"--pr {given:g} is no number of a pull request")
        return int(given)
    if of_event:
        return of_event
    commits = [image.tag for image in earlier.images if is_commit(image.tag)]
    commit = next(iter(commits), run.environ.get("GITHUB_SHA"))
    if commit is None:
        raise UsageError("it is not known which pull request is meant", remedy="Name it with --pr NUMBER.")
    from pipeline.edges.github_pull_request import number_of

    token = run.secret("github-token")
    if token is None:
        raise UsageError("GITHUB_TOKEN is not set", remedy="Set it to a token with `pull-requests: write`.")
    return number_of(settings.github_repository(run), commit, token, settings.github_access(run))
