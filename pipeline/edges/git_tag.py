"""Signed tags: made in a local clone, with the key that its git knows, and pushed."""

from pipeline.core.secret import Secret
from pipeline.edges.git import Git, GitError, explain, explained, parse_address
from pipeline.errors import CommitRefused, GitUnusable, NotFound, UsageError, VersionIsTaken

_NO_KEY = "Check git's settings user.signingKey and gpg.format, and that the key is there; or leave --sign out."


def signs(source: str) -> bool:
    """Whether git is set to sign tags in the clone at `source`; False for what is no clone."""
    folder = parse_address(source, None).path
    if folder is None or not folder.is_dir():
        return False
    return Git(folder).try_line("config", "--type=bool", "tag.gpgSign") == "true"


class SignedTags:
    """Signs in one clone."""

    def __init__(self, source: str, url: str, token: Secret | None) -> None:
        """`url` is where the tags go. Raises UsageError where `source` is no clone."""
        folder = parse_address(source, None).path
        if folder is None or not folder.is_dir():
            raise UsageError(
                f"--sign: {source} is no clone on this machine, and a signature is made by git in one",
                remedy="Run in a clone of the application's repository, or leave --sign out.",
            )
        self._folder = folder
        self._address = parse_address(url, token)

    def __call__(self, name: str, commit: str, message: str) -> None:
        """Sign a tag and push it.

        Raises GitUnusable when git cannot sign, CommitRefused when the remote has another tag of that name, and
        VersionIsTaken when the clone has one at another commit.
        """
        git, remote = Git(self._folder), Git(self._folder, self._address)
        if git.try_line("cat-file", "-e", f"{commit}^{{commit}}") is None:
            raise NotFound(f"{self._folder}: does not have commit {commit[:12]}", remedy="Fetch it first.")
        there = git.try_line("rev-parse", "--verify", "--quiet", f"refs/tags/{name}^{{commit}}")
        if there not in {None, commit}:
            raise VersionIsTaken(f"{self._folder}: the tag {name} stands at {str(there)[:12]}, not {commit[:12]}")
        if there is None:
            with explained(str(self._folder)):
                git.run("tag", "--sign", "--file=-", name, commit, stdin=message.encode())
            # Where git 2.39 does not find an SSH key, it says so, succeeds, and leaves a tag that is not signed.
            if "-----BEGIN " not in git.line("cat-file", "tag", name):
                git.run("tag", "--delete", name)
                raise GitUnusable(f"{self._folder}: git did not sign the tag {name}", remedy=_NO_KEY)
        try:
            remote.run("push", "--porcelain", "--no-follow-tags", self._address.url, f"refs/tags/{name}")
        except GitError as error:
            if there is None:
                git.try_line("tag", "--delete", name)
            problem = explain(error, self._address.url)
            raise CommitRefused(str(problem)) if "already exists" in error.stdout else problem from None
