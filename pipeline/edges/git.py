"""How git is run: through GitPython, never asking a person, with secrets in the child's environment alone."""

import atexit
import base64
import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline.core.secret import Secret
from pipeline.errors import (
    BranchIsProtected,
    BranchNotFound,
    CommitRefused,
    Denied,
    GitDenied,
    GitUnusable,
    NoSpaceLeft,
    PipelineError,
    RepositoryNotFound,
    Unreachable,
    UsageError,
)

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a missing git is reported when it is first run
import git

_LONGEST_COMMAND_SECONDS = 300
_SCHEMES = ("http", "https", "ssh", "git+ssh", "git", "file")
ANY_USER = "x-access-token"  # what GitHub asks for; GitLab, Gitea and others take any name

_REMOTE = {"fetch", "ls-remote", "push"}
"""The commands that talk to a server; no other one is a reason to get a token."""

# Set by git while a hook runs us: they would turn every git that we start to the hook's own repository.
_OUTER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")

_NEVER_ASK = {
    "GIT_TERMINAL_PROMPT": "0",
    "GCM_INTERACTIVE": "never",
    "SSH_ASKPASS_REQUIRE": "never",
    # A server that says nothing for a minute is gone; receive-pack sends a sign of life every five seconds.
    "GIT_HTTP_LOW_SPEED_LIMIT": "1",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


class GitError(Exception):
    """git ended with an error. It stays inside the edges: `explained` makes a PipelineError of it."""

    def __init__(self, command: str, status: int, stdout: str, stderr: str) -> None:
        super().__init__(f"git {command} ended with {status}: {stderr.strip()}")
        self.stdout = stdout
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Address:
    """Where a repository is: a URL without credentials, or a path."""

    url: str
    credentials: Secret | None = None
    """`user:password`."""
    user: str | None = None
    """A user name without a password, for the machine's own credential helpers."""

    @property
    def path(self) -> Path | None:
        """The folder, for a repository on this machine."""
        if self.url.startswith("file://"):
            return Path(unquote(urlsplit(self.url).path))
        return None if _is_remote(self.url) else Path(self.url)

    def settings(self) -> list[tuple[str, str]]:
        """The git settings that authenticate. They must travel by the environment only."""
        if self.credentials:
            encoded = base64.b64encode(self.credentials.reveal().encode()).decode()
            header = f"http.{self.url}.extraHeader"
            # The empty values drop headers and helpers of the machine's settings: two Authorization headers
            # are an error for GitHub, and a helper would quietly act as somebody else.
            return [(header, ""), (header, f"Authorization: Basic {encoded}"), ("credential.helper", "")]
        return [(f"credential.{self.url}.username", self.user)] if self.user else []


def _is_remote(address: str) -> bool:
    head, colon, _ = address.partition(":")
    return bool(colon) and "/" not in head


def parse_address(address: str, token: Secret | None) -> Address:
    """Take credentials out of a URL. A password in it goes before `token`, which counts for HTTP only.

    Raises UsageError for a URL that is none; it does not repeat the URL, which may hold a password.
    """
    scheme = re.match("([A-Za-z][A-Za-z0-9+.-]*)(://-?|::)", address)
    if scheme and (scheme[1] not in _SCHEMES or scheme[2] != "://"):
        raise UsageError(f"{scheme[0]}…: git has no such address here", remedy="Write an https:// or ssh:// URL.")
    if not scheme or scheme[1] == "file":
        return Address(address)
    try:
        parts = urlsplit(address)
        wrong = parts.query or parts.fragment or "@" in parts.path or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise UsageError(
            "the repository's address is not a URL: a wrong port, a query, a fragment, or '@' in its path",
            remedy="Write https://HOST/PATH; in user and password write / as %2F, ? as %3F, # as %23 and @ as %40.",
        )
    server = parts.netloc.rpartition("@")[2]
    if not scheme[1].startswith("http"):
        there = f"{parts.username}@{server}" if parts.username else server
        return Address(urlunsplit(parts._replace(netloc=there)))
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    url = urlunsplit(parts._replace(netloc=server))
    if password or token:
        secret = password or (token.reveal() if token else "")
        return Address(url, Secret(f"{user or ANY_USER}:{secret}"))
    return Address(url, user=user or None)


class Git:
    """git in one repository. Every method raises GitError, or Unreachable when a command takes too long."""

    def __init__(
        self,
        folder: Path,
        address: Address | None = None,
        *,
        settings: Sequence[tuple[str, str]] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        for name in _OUTER_REPOSITORY:
            os.environ.pop(name, None)
        self.address = address
        self._settings = settings
        self._renewed = bool(address and address.credentials and address.credentials.renewed)
        self._git = git.Git(folder)
        self._git.update_environment(
            **_NEVER_ASK,
            **_as_environment([*(address.settings() if address and not self._renewed else []), *settings]),
            **({"GIT_ASKPASS": ""} if address and address.credentials else {}),
            **(environment or {}),
        )

    def run(self, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        """Run `git ARGUMENTS` and return its standard output."""
        if self.address and self._renewed and arguments[0] in _REMOTE and not environment:
            environment = _as_environment([*self.address.settings(), *self._settings])
        try:
            process = self._git.execute(
                ["git", *arguments],
                istream=subprocess.PIPE,
                as_process=True,
                env=environment,
                start_new_session=True,  # without a terminal, ssh and gpg cannot ask either
            )
        except git.GitCommandNotFound as error:
            raise GitUnusable("git is not installed, or not on PATH") from error
        try:
            out, err = process.communicate(stdin, timeout=_LONGEST_COMMAND_SECONDS)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                where = f"{self.address.url}: " if self.address else ""
                raise Unreachable(f"{where}git {arguments[0]} took over {_LONGEST_COMMAND_SECONDS} s") from None
            raise
        if process.returncode:
            raise GitError(arguments[0], process.returncode, self._text(out), self._text(err))
        return bytes(out)

    def line(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run `git ARGUMENTS` and return its output as text without the last newline."""
        return os.fsdecode(self.run(*arguments, stdin=stdin)).rstrip("\n")

    def try_line(self, *arguments: str) -> str | None:
        """As `line`; None when git ends with an error."""
        try:
            return self.line(*arguments)
        except GitError:
            return None

    def object(self, name: str) -> tuple[str, bytes] | None:
        """The oid and content of an object, from one long-lived `git cat-file`; None when it is not there."""
        try:
            oid, _, _, data = self._git.get_object_data(name)
        except ValueError:
            return None
        return os.fsdecode(oid), data  # GitPython says str, and gives bytes

    def close(self) -> None:
        """End the long-lived process."""
        self._git.clear_cache()

    def _text(self, output: bytes) -> str:
        text = output.decode("utf-8", "replace")
        if self.address and self.address.credentials:
            secret = self.address.credentials.reveal()
            for part in (base64.b64encode(secret.encode()).decode(), secret.partition(":")[2]):
                text = text.replace(part, "***")
        return text


class Scratch:
    """A bare repository in a temporary folder. It goes when it is closed, or else when the program ends.

    Missing objects are normal in it. Only `fetch` knows the remote `origin` as one that keeps them (a promisor): no
    other command fetches on its own, one object at a time.
    """

    def __init__(self, origin: Address, *, objects: Path | None = None, settings: Sequence[tuple[str, str]] = ()):
        """`objects`: the object folder of a repository on this machine, to borrow from."""
        self.folder = Path(tempfile.mkdtemp(prefix="openeg-deploy-"))
        atexit.register(self.close)
        here = {"GIT_DIR": str(self.folder)}
        settings = [*settings, ("remote.origin.url", origin.url), ("maintenance.auto", "false")]
        promisor = [("remote.origin.promisor", "true"), ("remote.origin.partialCloneFilter", "tree:0")]
        self.git = Git(self.folder, origin, settings=settings, environment=here)
        self._origin = origin
        self._fetching = [*settings, *promisor]
        try:
            self._make(objects)
        except BaseException:
            self.close()
            raise

    def _make(self, objects: Path | None) -> None:
        self.git.run("init", "--quiet", "--bare", "--template=")
        if objects:
            info = self.folder / "objects/info"
            info.mkdir(exist_ok=True)
            (info / "alternates").write_bytes(os.fsencode(objects) + b"\n")

    def fetch(self, *arguments: str, negotiate: bool = False) -> None:
        """`git fetch ARGUMENTS` from origin. Unless told to `negotiate`, it does not say what is here already: the
        server would take all objects behind a commit for present and leave them out.
        """
        algorithm = ("fetch.negotiationAlgorithm", "default" if negotiate else "noop")
        self.git.run(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", *arguments),
            environment=_as_environment([*self._origin.settings(), *self._fetching, algorithm]),
        )

    @property
    def is_shallow(self) -> bool:
        """Whether commits have been cut off from their history."""
        return (self.folder / "shallow").exists()

    def close(self) -> None:
        """Remove the folder."""
        atexit.unregister(self.close)
        self.git.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _as_environment(settings: list[tuple[str, str]]) -> dict[str, str]:
    """git settings as GIT_CONFIG_* variables, after those that the environment has already."""
    start = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    pairs = {
        name: value
        for number, (key, setting) in enumerate(settings, start)
        for name, value in ((f"GIT_CONFIG_KEY_{number}", key), (f"GIT_CONFIG_VALUE_{number}", setting))
    }
    return {"GIT_CONFIG_COUNT": str(start + len(settings)), **pairs} if settings else {}


# What git and the servers say, for people; decisions about races never rest on it. The first kind that fits counts.
_MEANINGS: tuple[tuple[type[PipelineError], tuple[str, ...]], ...] = (
    (NoSpaceLeft, ("no space left on device", "disk quota exceeded", "file too large", "out of diskspace")),
    (GitUnusable, ("failed to sign", "gpg failed", "user.signingkey", "mismatched algorithms")),
    (
        GitDenied,
        (
            *("authentication failed", "could not read username", "could not read password", "permission denied"),
            *("returned error: 401", "returned error: 403", "access denied", "host key verification failed"),
            *("dubious ownership", "insufficient permission"),
        ),
    ),
    (BranchNotFound, ("couldn't find remote ref",)),
    (
        RepositoryNotFound,
        (
            *("not found", "does not appear to be a git repository", "not a git repository"),
            *("returned error: 404", "no such file or directory", "must be run in a work tree"),
        ),
    ),
    (
        Unreachable,
        (
            *(
                "could not resolve host",
                "could not resolve proxy",
                "unsupported proxy syntax",
                "failed to connect",
                "couldn't connect",
                "could not connect",
                "timed out",
            ),
            *("connection refused", "connection reset", "connection closed", "too slow", "empty reply"),
            *("returned error: 5", "early eof", "hung up", "rpc failed", "unexpected disconnect", "transfer closed"),
            *("could not read from remote repository", "broken pipe", "ssl", "tls", "remote failure"),
            *("failed to report status", "network is unreachable", "no route to host", "expected flush", "bad band"),
        ),
    ),
    (BranchIsProtected, ("hook declined", "protected branch", "rule violations", "push declined", "denied by")),
)
_REJECTED = re.compile(r"^!\t[^\t]*\t(.*)$", re.MULTILINE)


_OVER_SSH = "Check the SSH key (`ssh-add -l`), the host's key in known_hosts, and who may write the repository."


def explain(error: GitError, where: str) -> PipelineError:
    """The PipelineError that tells a person what git's error means; `where` names the repository."""
    told = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    from_server = [line for line in told if line.startswith("remote:")]
    rejection = _REJECTED.search(error.stdout)
    if rejection is None:
        own = "\n".join(line for line in told if line not in from_server)
        kind = _meaning(own)
        over_ssh = not re.match("https?://|/", where)
        remedy = _OVER_SSH if kind is GitDenied and over_ssh else None
        if owner := re.search("git config .*safe.directory .*", own):
            remedy = f"Trust the folder: {owner[0]}"
        return kind(f"{where}: {'; '.join(_words(told)) or error}", remedy=remedy)
    # What a hook prints is its own affair: the verdict alone tells which kind of rejection it was.
    verdict = rejection[1]
    kind = _meaning(error.stderr) if "unpack" in verdict else _meaning(verdict)
    return kind("; ".join([f"{where}: {verdict}", *_words(from_server)]))


def _meaning(text: str) -> type[PipelineError]:
    said = re.sub(r"'[^' ]*/[^' ]*'", "''", text).lower()  # without URLs and paths, which may hold any word
    return next((kind for kind, phrases in _MEANINGS if any(phrase in said for phrase in phrases)), CommitRefused)


def _words(lines: list[str]) -> list[str]:
    """The telling lines of git's output, the last ones, without their prefixes."""
    telling = [line for line in lines if re.match(r"(remote|fatal|error):", line)] or lines
    if any("Could not read from remote repository" in line for line in telling):  # what ssh said stands before it
        telling = lines[: next(number for number, line in enumerate(lines) if "Could not read from" in line)] or telling
    bare = [re.sub(r"^((remote|fatal|error): ?)+", "", line).strip() for line in telling]
    return [line for line in dict.fromkeys(bare) if line][-4:]


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn git's errors, and our own with files, into PipelineErrors that name the repository."""
    try:
        yield
    except GitError as error:
        raise explain(error, where) from None
    except OSError as error:
        message = f"{error.filename or where}: {error.strerror}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise NoSpaceLeft(message) from error
        raise Denied(message, remedy="Check who owns the file or folder, and its permissions.") from error
