"""GitHub's API, carried by PyGithub's requester: REST and GraphQL, errors that name what is missing, rate limits.

PyGithub's own sleeps and repetitions are switched off: whoever calls knows better what may be waited for.
"""

import itertools
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pipeline.core.github_token import grant, token_kind
from pipeline.core.order import Relation
from pipeline.core.pull_request import Since, SourceCommit, merged_by
from pipeline.core.secret import Secret
from pipeline.edges.http import USER_AGENT
from pipeline.errors import (
    BranchIsProtected,
    CommitRefused,
    GitDenied,
    NotFound,
    PipelineError,
    RateLimited,
    RepositoryNotFound,
    Unreachable,
    UsageError,
)

_TIMEOUT_SECONDS = 30
_API = "https://api.github.com"
# https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api: without a header, a minute at least
_PAUSE_SECONDS = 60.0
PAGE = 100
"""Items of the longest page that GitHub gives."""
_SPREAD = 1.2
"""So that those who wait do not come back together."""
_EMPTY = {204, 304}
"""What has no body: done, and not modified."""
_PROTECTED = ("rule violations", "protected branch", "pull request")


@dataclass(frozen=True, slots=True)
class App:
    """A GitHub App: who we are on its behalf where there is no token."""

    id: Secret
    """Its number, or its client id."""
    key: Secret
    """Its private key in PEM; its line ends may be written as `\\n`."""


@dataclass(frozen=True, slots=True)
class Access:
    """How GitHub's API may be used, where a repository lies on GitHub and a token is there."""

    api_url: str | None = None
    """The REST API; None for github.com's."""
    deadline_seconds: float = 120.0
    """How long its rate limits may hold us up, all in all."""
    say: Callable[[str], None] = lambda _: None
    app: App | None = None


@dataclass(frozen=True, slots=True)
class Slug:
    """A repository on GitHub, and the REST API that knows it."""

    api_url: str
    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


def slug(url: str, api_url: str | None) -> Slug | None:
    """The repository at `url`, on github.com or the host of `api_url`; None for any other.

    Raises UsageError for an `api_url` that is no URL.

    >>> slug("https://github.com/openeg/gitops.git", None)
    Slug(api_url='https://api.github.com', owner='openeg', name='gitops')
    """
    found = re.fullmatch(r"(https?)://([^/]+)/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", url, re.ASCII)
    if found is None:
        return None
    scheme, host, owner, name = found.groups()
    if (scheme, host) == ("https", "github.com"):
        return Slug(_API, owner, name)
    try:
        api = urlsplit(api_url or _API)
    except ValueError:
        api = urlsplit("")
    if api.scheme not in {"http", "https"} or not api.hostname:
        raise UsageError(f"--github-api-url {api_url!r} is no URL", remedy="Write https://HOST/api/v3.")
    here = (api.scheme, api.netloc.removeprefix("api.") if api.netloc.endswith(".ghe.com") else api.netloc)
    return Slug(api.geturl().rstrip("/"), owner, name) if (scheme, host) == here else None


def by_ssh(url: str, api_url: str | None) -> Slug | None:
    """The repository on GitHub that an SSH address names; None for any other address."""
    found = re.fullmatch(r"(?:ssh://)?[^@/]+@([^:/]+)(?:(?::\d+)?/|:)(.+)", url)
    return slug(f"https://{found[1]}/{found[2]}", api_url) if found else None


def connect(where: Slug, credentials: Secret, access: Access) -> "Api":
    """The API that knows a repository; the token is the password of `credentials`.

    Raises ModuleNotFoundError when PyGithub is not installed.
    """
    if credentials.renewed:
        return Api(where.api_url, Secret(lambda: _password(credentials)), access)
    return Api(where.api_url, Secret(_password(credentials)), access)


def _password(credentials: Secret) -> str:
    return credentials.reveal().partition(":")[2]


class StaleHeadError(Exception):
    """The branch is not where the commit was to be put."""


class Api:
    """Requests to one GitHub. They raise GitDenied, RepositoryNotFound, RateLimited and Unreachable."""

    def __init__(self, api_url: str, token: Secret, access: Access, *, variable: str = "GITOPS_TOKEN") -> None:
        """`variable` is where the token comes from, for errors to name."""
        import github

        self._client = github.Github(
            auth=_bearing(token),
            base_url=api_url,
            timeout=_TIMEOUT_SECONDS,
            user_agent=USER_AGENT,
            retry=None,
            seconds_between_requests=None,
            seconds_between_writes=None,
        )
        self.host = urlsplit(api_url).netloc
        self._token = token
        self._patience = access.deadline_seconds
        self._say = access.say
        self._variable = variable

    def get(self, path: str, *, permission: str = "contents: read", **parameters: str) -> Any:
        """The answer of the REST API; `path` from `/repos` on. `permission` is what the token needs."""
        return self._rest("GET", path, permission, parameters=parameters)[1]

    def all(self, path: str, *, permission: str = "contents: read", **parameters: str) -> Iterator[Any]:
        """The items of every page of a list; `get` of one page at a time, as far as they are asked for."""
        for page in itertools.count(1):
            items = self.get(path, permission=permission, per_page=str(PAGE), page=str(page), **parameters)
            yield from items
            if len(items) < PAGE:
                return

    def may_write(self, path: str, permission: str) -> bool | None:
        """Whether the token may add to the list at `path`, found without writing; None where only writing would tell.

        A classic token has its scopes in every answer; of others GitHub tells what they may not even read, which
        raises GitDenied with `permission`.
        https://docs.github.com/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
        """
        status, headers, answer = self.answer("GET", path, parameters={"per_page": "1"})
        if status != 200:
            # What reading lacks would be told, and writing needs more.
            wanted = {name: value for name, value in headers.items() if name != "x-accepted-github-permissions"}
            raise self._refusal(path, status, wanted, answer, permission)
        scopes = headers.get("x-oauth-scopes")
        return None if scopes is None else not {"repo", "public_repo"}.isdisjoint(re.split(r"[,\s]+", scopes))

    def get_if_changed(self, path: str, etag: str | None, *, permission: str) -> tuple[str | None, Any]:
        """As `get`, with the answer's etag. Empty when it is still what `etag` stands for: that costs nothing of the
        rate limit.
        """
        headers, answer = self._rest("GET", path, permission, headers={"If-None-Match": etag} if etag else {})
        return headers.get("etag") or etag, answer

    def send(self, verb: str, path: str, body: Mapping[str, Any], *, permission: str) -> Any:
        """What the REST API answers to a change. What it finds wrong in the body raises CommitRefused."""
        return self._rest(verb, path, permission, input=body)[1]

    def _rest(self, verb: str, path: str, permission: str, **request: Any) -> tuple[Mapping[str, str], Any]:
        status, headers, answer = self.answer(verb, path, **request)
        if status not in {200, 201, 204, 304}:
            raise self._refusal(path, status, headers, answer, permission)
        return headers, answer

    def graphql(self, document: str, variables: Mapping[str, Any], *, permission: str = "contents: read") -> Any:
        """The data that GraphQL answers with; `permission` is what the document needs.

        A mutation raises StaleHeadError, BranchIsProtected and CommitRefused too.
        """
        body = {"query": document, "variables": variables}
        status, headers, answer = self.answer("POST", self._client.requester.graphql_url, input=body)
        if status != 200:
            raise self._refusal(": GraphQL", status, headers, answer, permission)
        for error in answer.get("errors") or ():
            problem = self._problem(headers, error, permission)
            if isinstance(problem, CommitRefused) and not document.startswith("mutation"):
                raise Unreachable(str(problem))
            raise problem
        return answer["data"]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _refusal(
        self, what: str, status: int, headers: Mapping[str, str], answer: Any, permission: str
    ) -> PipelineError:
        said = f"{self.host}{what}: {message_of(answer) or f'HTTP {status}'}"
        if unauthorized := self._sign_on(said, headers):
            return unauthorized
        if status == 401:
            return GitDenied(said, remedy=f"Set {self._variable} to a token that is valid and has not expired.")
        if status == 403:
            accepted = headers.get("x-accepted-github-permissions", "").replace("=", ": ")
            return self._denied(said, accepted or permission)
        if status == 404:
            return self._unseen(said)
        return CommitRefused(f"{said} (HTTP {status})")

    def _problem(self, headers: Mapping[str, str], error: Mapping[str, Any], permission: str) -> Exception:
        message = str(error.get("message"))
        said = f"{self.host}: {message}"
        if unauthorized := self._sign_on(said, headers):
            return unauthorized
        match error.get("type"):
            case "STALE_DATA":
                return StaleHeadError(message)
            case "NOT_FOUND":
                return self._unseen(said)
            case "FORBIDDEN" | "INSUFFICIENT_SCOPES":
                return self._denied(said, permission)
        if error.get("type") == "BRANCH_PROTECTION_RULE_VIOLATION" or any(word in message for word in _PROTECTED):
            return BranchIsProtected(said)
        return CommitRefused(said, remedy="Read GitHub's words in the message, and look at its status page.")

    def _denied(self, said: str, permission: str) -> GitDenied:
        lacks = f"{said}; the token lacks the permission `{permission}`"
        return GitDenied(lacks, remedy=grant(token_kind(self._token), permission, self._variable))

    def _unseen(self, said: str) -> RepositoryNotFound:
        if token_kind(self._token) == "installation":
            why = "A token that GitHub Actions gives a job sees no repository but its own."
        else:
            why = f"A private repository also needs {self._variable}."
        return RepositoryNotFound(said, remedy=f"Check the address. {why}")

    def _sign_on(self, said: str, headers: Mapping[str, str]) -> GitDenied | None:
        """An organization that wants its single sign-on tells where a token is authorized for it.

        https://docs.github.com/rest/authentication/authenticating-to-the-rest-api: `required; url=URL`
        """
        found = re.search(r"\burl=(\S+)", headers.get("x-github-sso", ""))
        if found is None:
            return None
        return GitDenied(
            f"{said}; the token is not authorized for the organization's single sign-on (SAML SSO)",
            remedy=f"Authorize the token of {self._variable} at {found[1]} (good for an hour), then run this again.",
        )

    def answer(self, verb: str, path: str, **request: Any) -> tuple[int, Mapping[str, str], Any]:
        """One answer; those that a rate limit gives are waited out, as long as patience lasts."""
        while True:
            status, headers, answer = self._request(verb, path, **request)
            seconds = _held_up(status, headers, answer)
            if seconds is None:
                return status, headers, answer
            seconds *= random.uniform(1, _SPREAD)  # noqa: S311 -- so that runs do not come back together; no secret
            if seconds > self._patience:
                raise RateLimited(
                    f"{self.host}: {message_of(answer)} The next request may be made in {seconds:.0f} s, "
                    f"and --deadline leaves {self._patience:.0f} s"
                )
            self._say(f"GitHub's rate limit is reached: waiting {seconds:.0f} s")
            self._patience -= seconds
            time.sleep(seconds)

    def _request(self, verb: str, path: str, **request: Any) -> tuple[int, Mapping[str, str], Any]:
        import requests

        try:
            status, headers, text = self._client.requester.requestJson(verb, path, **request)
        except (requests.RequestException, RuntimeError) as error:  # RuntimeError: it is led to another server
            raise Unreachable(f"{self.host}: {type(error).__name__}: {_innermost(error)}") from None
        try:
            answer = {} if status in _EMPTY else json.loads(text)
        except ValueError:
            answer = None
        if status >= 500 or not isinstance(answer, dict | list):
            raise Unreachable(f"{self.host}: answered with HTTP {status}, and not as GitHub's API does")
        return status, headers, answer


def _bearing(token: Secret) -> Any:
    """How PyGithub says who we are: with the token of now, since some are renewed."""
    import github

    class Bearer(github.Auth.Auth):
        token_type = property(lambda _: "Bearer")
        token = property(lambda _: token.reveal())

    return Bearer()


class Commits:
    """How commits are related, as GitHub compares them: for where no history is at hand."""

    def __init__(self, api: Api, where: Slug) -> None:
        self._api = api
        self._where = where
        self._known: dict[tuple[str, str], Relation] = {}

    def relation(self, old: str, new: str) -> Relation:
        """How `new` stands to `old`. Raises PipelineError when GitHub does not say."""
        if (old, new) not in self._known:
            self._known[old, new] = Relation.EQUAL if old == new else self._compared(old, new)
        return self._known[old, new]

    def _compared(self, old: str, new: str) -> Relation:
        # The files that differ come with the first page alone, and are of no use here.
        path = f"/repos/{self._where}/compare/{old}...{new}"
        try:
            answer = self._api.get(path, page="2", per_page="1")
        except RepositoryNotFound as error:
            if "No common ancestor" in str(error):
                return Relation.DIVERGED
            raise NotFound(
                f"{self._where} does not have both commits {old[:12]} and {new[:12]}, or hides them from this token",
                remedy="Push the commits, or set GITHUB_TOKEN to a token with the permission `contents: read` there.",
            ) from None
        return _RELATIONS[answer["status"]]

    def between(self, old: str, new: str) -> Since:
        """The commits that `new` has and `old` has not: the last hundred, or fewer, with their pull requests.

        Raises PipelineError when GitHub does not give them.
        """
        path = f"/repos/{self._where}/compare/{old}...{new}"
        first = self._api.get(path, per_page=str(PAGE))
        total = first["total_commits"]
        last = self._api.get(path, per_page=str(PAGE), page=str(-(-total // PAGE))) if total > PAGE else first
        pages = self._pull_requests([item["sha"] for item in last["commits"]])
        commits = tuple(
            SourceCommit(
                item["sha"],
                item["commit"]["message"].partition("\n")[0],
                (item["author"] or {}).get("login") or (item["commit"]["author"] or {}).get("name") or "",
                item["html_url"],
                pages.get(item["sha"])
                or merged_by(item["commit"]["message"].partition("\n")[0], item["html_url"].rpartition("/commit/")[0]),
            )
            for item in last["commits"]
        )
        return Since(old, new, commits, total - len(commits))

    def _pull_requests(self, oids: Sequence[str]) -> Mapping[str, str]:
        """The page of the pull request that brought each commit; none where the token may not see them."""
        field = "... on Commit { associatedPullRequests(first: 1) { nodes { url } } }"
        fields = " ".join(f'c{number}: object(oid: "{oid}") {{ {field} }}' for number, oid in enumerate(oids))
        document = f"query($owner: String!, $name: String!) {{ repository(owner: $owner, name: $name) {{ {fields} }} }}"
        try:
            found = self._api.graphql(document, {"owner": self._where.owner, "name": self._where.name})["repository"]
        except PipelineError:
            return {}
        nodes = {oid: (found[f"c{number}"] or {}).get("associatedPullRequests") for number, oid in enumerate(oids)}
        return {oid: item["nodes"][0]["url"] for oid, item in nodes.items() if item and item["nodes"]}

    def default_branch(self) -> str | None:
        """The head commit of the default branch."""
        document = (
            "query($owner: String!, $name: String!) "
            "{ repository(owner: $owner, name: $name) { defaultBranchRef { target { oid } } } }"
        )
        found = self._api.graphql(document, {"owner": self._where.owner, "name": self._where.name})
        branch = found["repository"]["defaultBranchRef"]
        return str(branch["target"]["oid"]) if branch else None

    def close(self) -> None:
        """Close the connections."""
        self._api.close()


_RELATIONS = {
    "identical": Relation.EQUAL,
    "ahead": Relation.DESCENDANT,
    "behind": Relation.ANCESTOR,
    "diverged": Relation.DIVERGED,
}


def _held_up(status: int, headers: Mapping[str, str], answer: Any) -> float | None:
    """The seconds that a rate limit asks to wait; None for an answer of any other kind."""
    limited = any(error.get("type") == "RATE_LIMITED" for error in _errors(answer))
    refused = status in {403, 429} and ("retry-after" in headers or "rate limit" in message_of(answer).lower())
    if not (limited or refused or status == 429):
        return None
    if headers.get("retry-after", "").isdigit():
        return float(headers["retry-after"])
    if headers.get("x-ratelimit-remaining") == "0" and "x-ratelimit-reset" in headers:
        return max(1.0, float(headers["x-ratelimit-reset"]) - time.time())
    return _PAUSE_SECONDS


def _errors(answer: Any) -> list[Mapping[str, Any]]:
    found = answer.get("errors") if isinstance(answer, dict) else None
    return [error if isinstance(error, dict) else {"message": error} for error in found or ()]


def plain(body: str | None) -> str:
    """The text of a body, whichever line ends GitHub keeps."""
    return (body or "").replace("\r\n", "\n").strip()


def message_of(answer: Any) -> str:
    """What the body of an error says; empty where it says nothing."""
    told = str(answer.get("message") or "") if isinstance(answer, dict) else ""
    return " ".join(filter(None, [told, *(str(error.get("message") or "") for error in _errors(answer))]))


def _innermost(error: BaseException) -> str:
    while (cause := getattr(error, "reason", None) or (error.args[0] if error.args else None)) and isinstance(
        cause, BaseException
    ):
        error = cause
    return re.sub(r"<[^>]*>: ", "", str(error))
