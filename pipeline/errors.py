"""The error tree: one class per situation, with its exit code and what to do next.

`docs/reference/exit-codes.md` is generated from these classes: a class's docstring says when it occurs.
Raise the most precise class, with a message that says what happened and where (file, line, host, name).
"""

from typing import ClassVar, Literal

Outcome = Literal[
    "built",
    "edited",
    "planned",
    "published",
    "deployed",
    "unchanged",
    "superseded",
    "refused",
    "failed",
    "timed_out",
    "suspended",
    "reported",
    "findings",
]


class Signalled(BaseException):
    """A signal, raised in the main thread so that `finally` clauses run and nothing is left half done.

    For SIGINT too: Typer would make an exit code of its own of a KeyboardInterrupt. `args[0]` is its number.
    """


class PipelineError(Exception):
    """Base of every error that a user can act on."""

    exit_code: ClassVar[int]
    outcome: ClassVar[Outcome] = "failed"
    remedy: str

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        """`message` says what and where; `remedy` replaces the class's own advice where more is known."""
        super().__init__(message)
        if remedy is not None:
            self.remedy = remedy


# 2: usage or configuration


class UsageError(PipelineError):
    """A flag, an argument or a combination of them makes no sense."""

    exit_code = 2
    remedy = "Run the command with --help for its options."


class PathOutsideRepository(UsageError):
    """A path in the GitOps repository is absolute, or `..` or a symbolic link leads out of the repository."""

    remedy = "Give the overlay's path relative to the repository's root."


class GitUnusable(UsageError):
    """git is missing, too old, or its settings stop it, such as a signing key that does not work."""

    remedy = "Install git 2.31 or later, and try the same with git alone."


class CommandNotUnderstood(UsageError):
    """A comment holds a command that does not exist, several commands, or arguments that cannot be right."""

    outcome = "refused"
    remedy = "Write one command a comment, at the start of a line; `/help` lists them."


class ConfigInvalid(PipelineError):
    """deploy.yaml or .deploy/config.yaml does not say what it must."""

    exit_code = 2
    remedy = "Correct the named key; docs/reference/configuration.md lists every key."


class ExtraMissing(PipelineError):
    """A Python package that only this command needs is not installed."""

    exit_code = 2
    remedy = "Install the package with all extras: pip install 'openeg-deploy[all]'."


class KustomizationUnusable(PipelineError):
    """A kustomization file cannot be edited safely: damaged, ambiguous, templated, or not YAML."""

    exit_code = 2
    remedy = "Mend the named line by hand, check it with `kustomize build`, and run again."


class RepositoryDiffers(PipelineError):
    """The images entry stands for another repository than the one that the image was pushed to."""

    exit_code = 2
    remedy = "Correct newName in the GitOps repository, or the image's repository in deploy.yaml or in the flags."


class DigestMissing(PipelineError):
    """The images entry pins a digest, and none was given for the new tag: the old image would stay."""

    exit_code = 2
    remedy = "Give the digest too: --image NAME=TAG@sha256:…, or remove `digest` from the entry."


# 3: refused


class Refused(PipelineError):
    """A rule that protects the deployment says no."""

    exit_code = 3
    outcome = "refused"
    remedy = "Read which rule refused; nothing was changed."


class TagIsMutable(Refused):
    """The tag is not a full commit hash: `latest`, a branch name, a short hash."""

    remedy = "Deploy the full 40-character commit hash that the image was built from."


class TreeIsDirty(Refused):
    """The work tree differs from its commit, so that the commit would not tell what is in the image."""

    remedy = "Commit or stash the changes, then run again."


class TagIsTaken(Refused):
    """The registry already has this tag, built from another commit."""

    remedy = "Never overwrite a tag: find out who pushed it, delete it in the registry, then build again."


class Diverged(Refused):
    """The new commit is neither before nor after the one that is deployed."""

    remedy = "Merge or rebase onto the deployed commit, or pass --allow-diverged."


class OrderUnknown(Refused):
    """Under `order: strict` the new commit could not be compared with the deployed one."""

    remedy = "Give the application's repository with --source, with full history, or relax `order`."


class LocalChanges(Refused):
    """A file that would be edited has uncommitted changes."""

    remedy = "Commit, stash or discard the changes of the named file, then run again."


class CommenterMayNotWrite(Refused):
    """Who gave a command in a comment has no write permission on the repository."""

    remedy = "Ask somebody who may push to the repository to give the command."


class CommitNotInPullRequest(Refused):
    """The commit in a comment's command is none of the pull request's."""

    remedy = "Copy the hash from the pull request's list of commits."


class FilesExist(Refused):
    """Files are in the way of what `init` writes, or its folder lies inside of another repository."""

    remedy = "Choose another folder, or pass --force to overwrite the files named above; all others stay."


class LocalBranchDiverged(Refused):
    """The work tree's branch and the branch that it would be pushed to have gone different ways."""

    remedy = "Rebase or merge the work tree's branch, or pass --no-push."


class NotRunning(Refused):
    """The commit to be released is not proved to be the one that runs."""

    remedy = "Deploy it first, or pass --commit with --allow-not-running."


class VersionIsTaken(Refused):
    """The tag of the version stands at another commit."""

    remedy = "A release is never moved: name another version with --version."


class BranchIsProtected(Refused):
    """The server does not let this user push to the branch."""

    remedy = "Allow this token to push to the branch, or deploy through a pull request."


class BranchIsNotOurs(Refused):
    """The branch of a deployment's pull request carries a commit that this program did not make."""

    remedy = "Merge or close its pull request, delete the branch, then run again."


class PullRequestClosed(Refused):
    """The pull request was closed without being merged."""

    remedy = "Read on its page why; the same command opens a new one."


class PullRequestBlocked(Refused):
    """The pull request cannot be merged: it conflicts, or its branch's rules ask for more than it has."""

    remedy = "Do what its page asks for, or allow auto-merge in the repository's settings; then run again."


# 4: not found


class NotFound(PipelineError):
    """Something that was named does not exist."""

    exit_code = 4
    remedy = "Check the spelling of the name."


class EntryNotFound(NotFound):
    """The kustomization has no images entry of that name."""

    remedy = "Use one of the names listed, or pass --create to add the entry."


class OverlayNotFound(NotFound):
    """The path in the GitOps repository does not exist or holds no kustomization file."""

    remedy = "Check --overlay and --env against the GitOps repository."


class RepositoryNotFound(NotFound):
    """There is no git repository at that address, or the token may not see it."""

    remedy = "Check the address; a private repository also needs GITOPS_TOKEN."


class BranchNotFound(NotFound):
    """The repository has no such branch, or no commit at all."""

    remedy = "Check --branch; a new repository needs a first commit."


class ImageNotFound(NotFound):
    """The registry does not have that image."""

    remedy = "Build and push the image first, or pass --no-check-image if the registry cannot be read."


class ApplicationNotFound(NotFound):
    """Argo CD does not know that application."""

    remedy = "Check --app and --argocd-project."


class SlackChannelNotFound(NotFound):
    """Slack has no such channel, or the bot is not in it. Only a warning: a notice never fails a deployment."""

    remedy = "Check --slack-channel, and invite the bot into the channel."


# 5: authentication or permission


class Denied(PipelineError):
    """Who we are was not accepted, or may not do this."""

    exit_code = 5
    remedy = "Check the token and its permissions."


class GitDenied(Denied):
    """The git server refused our credentials or our right to push."""

    remedy = "Set GITOPS_TOKEN to a token that may read and write the GitOps repository."


class RegistryDenied(Denied):
    """The registry refused our credentials."""

    remedy = "Set REGISTRY_USERNAME and REGISTRY_PASSWORD, or log in with `docker login`."


class ArgoCDDenied(Denied):
    """Argo CD refused the token, or the account lacks the right; an unknown application looks the same."""

    remedy = "Check ARGOCD_AUTH_TOKEN, its RBAC, and the application's name; pass --argocd-project to tell them apart."


class SlackDenied(Denied):
    """Slack refused the token or the webhook. Only a warning: a notice never fails a deployment."""

    remedy = "Set SLACK_BOT_TOKEN to a bot token with the scope chat:write, or SLACK_WEBHOOK_URL to a webhook in use."


# 6 to 8


class BranchMovedTooOften(PipelineError):
    """Other writers won every race for the branch until the deadline."""

    exit_code = 6
    remedy = "Run again; if many jobs write at once, raise --deadline."


class Unreachable(PipelineError):
    """A server did not answer, or broke off and did not come back."""

    exit_code = 7
    remedy = "Check the address, the network and any proxy; the message names the host."


class RateLimited(PipelineError):
    """GitHub's rate limit is reached, and ends later than our deadline."""

    exit_code = 7
    remedy = "Run again later, or raise --deadline; a GitHub App has a limit of its own, apart from its people's."


class RegistryUnusable(Unreachable):
    """The registry answered, but not as the OCI distribution API says: overloaded, broken, or no registry at all."""

    remedy = "Check --registry and the registry's logs, then run again."


class NotArgoCD(Unreachable):
    """What answers at the address is not Argo CD's API: a front's login page or redirect, or another path."""

    remedy = (
        "Check --argocd-server and --argocd-root-path, and give what a front before Argo CD asks for: --argocd-header."
    )


class SlackRefused(Unreachable):
    """Slack answered, but did not take the message. Only a warning: a notice never fails a deployment."""

    remedy = "Look at the run instead; if it happens again, look the named code up in Slack's API reference."


class BuildFailed(PipelineError):
    """The image could not be built."""

    exit_code = 8
    remedy = "Read the build's last lines above; the same Dockerfile fails with `docker build` too."


class PushFailed(PipelineError):
    """The image was built but the registry does not hold it as pushed."""

    exit_code = 8
    remedy = "Check the registry's disk, quota and logs, then run again."


class CommitRefused(PipelineError):
    """The git server did not take the commit, although nobody else had moved the branch."""

    exit_code = 8
    remedy = "Read the server's words in the message; a push with git alone should fail in the same way."


class NoSpaceLeft(PipelineError):
    """A disk is full, or a quota or size limit is reached: on this machine or on the git server."""

    exit_code = 8
    remedy = "Make room on the disk that the message names; TMPDIR chooses where temporary files go."


# 10 to 13: what became of the rollout


class SyncFailed(PipelineError):
    """Argo CD could not apply the manifests, or could not render them."""

    exit_code = 10
    remedy = "Mend the manifest that the message names; the cluster still runs the former version."


class RolloutFailed(PipelineError):
    """The manifests were applied, and what runs is not healthy; or the branch was rewritten without our commit."""

    exit_code = 11
    remedy = "Read the cause and the log lines; `rollback` brings the former version back."


class RolloutTimedOut(PipelineError):
    """The deadline passed before health was proved."""

    exit_code = 12
    outcome = "timed_out"
    remedy = "Look at the application in Argo CD; raise --timeout if the rollout is only slow."


class MergeTimedOut(PipelineError):
    """The deadline passed before the pull request was merged."""

    exit_code = 12
    outcome = "timed_out"
    remedy = "Merge the pull request, then go on with `wait --from`; raise --timeout where people take longer."


class RolloutSuspended(PipelineError):
    """The rollout waits for a person, such as a paused canary."""

    exit_code = 13
    outcome = "suspended"
    remedy = "Promote or abort the rollout, then run `wait` again."


# 70: a bug of ours


class Bug(PipelineError):
    """Something happened that this program does not understand; the traceback follows."""

    exit_code = 70
    remedy = "Report it with the traceback: it is our fault, not yours."
