"""A pull request of the application on GitHub: its commits, its comments, and who may command in them."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pipeline.core.pr_comment import Commit
from pipeline.core.secret import Secret
from pipeline.edges.github import Access, Api, Slug, plain
from pipeline.errors import RepositoryNotFound

Reaction = Literal["eyes", "rocket", "-1", "confused"]
_READ, _WRITE = "pull requests: read", "pull requests: write"
_WRITERS = {"admin", "write"}


class PullRequest:
    """One pull request, as a token of its repository sees it. Questions raise what `github.Api` raises."""

    def __init__(self, where: Slug, number: int, token: Secret, access: Access) -> None:
        """Raises ModuleNotFoundError when PyGithub is not installed."""
        self._api = Api(where.api_url, token, access, variable="GITHUB_TOKEN")
        self._path = f"/repos/{where}"
        self.number = number
        self._bases: dict[tuple[str, str], str | None] = {}

    @cached_property
    def commits(self) -> tuple[Commit, ...]:
        """The commits, oldest first; GitHub lists 250 at most."""
        return tuple(
            Commit(
                oid=item["sha"],
                subject=item["commit"]["message"].partition("\n")[0],
                parents=tuple(parent["sha"] for parent in item["parents"]),
                url=item["html_url"],
            )
            for item in self._api.all(f"{self._path}/pulls/{self.number}/commits", permission=_READ)
        )

    @cached_property
    def _shown(self) -> Mapping[str, Any]:
        return dict(self._api.get(f"{self._path}/pulls/{self.number}", permission=_READ))

    @property
    def head(self) -> str:
        """The newest commit."""
        return str(self._shown["head"]["sha"])

    @property
    def merged_as(self) -> str | None:
        """The commit that merging made; None before."""
        made = self._shown["merge_commit_sha"]  # before, it is a trial of GitHub's
        return str(made) if self._shown["merged"] and made else None

    def common(self, one: str, other: str) -> str | None:
        """The newest commit that is in the history of both; None where there is none, or one is not known here."""
        if (one, other) not in self._bases:
            try:
                # The files that differ come with the first page alone, and are of no use here.
                answer = self._api.get(f"{self._path}/compare/{one}...{other}", page="2", per_page="1")
                self._bases[one, other] = str(answer["merge_base_commit"]["sha"])
            except RepositoryNotFound:
                self._bases[one, other] = None
        return self._bases[one, other]

    def may_write(self, login: str) -> bool:
        """Whether somebody may push to the repository, as GitHub knows it now."""
        try:
            found = self._api.get(f"{self._path}/collaborators/{login}/permission", permission=_READ)
        except RepositoryNotFound:
            return False
        return found["permission"] in _WRITERS

    def put(self, marker: str, body: str) -> tuple[Literal["created", "updated", "unchanged"], str]:
        """Write our comment that begins with `marker`, or the one that is there anew; its address.

        One that says the same already is left alone, and so is one by somebody else.
        """
        ours = self._ours(marker)
        if ours is None:
            path = f"{self._path}/issues/{self.number}/comments"
            return "created", str(self._api.send("POST", path, {"body": body}, permission=_WRITE)["html_url"])
        if plain(ours["body"]) == plain(body):
            return "unchanged", str(ours["html_url"])
        path = f"{self._path}/issues/comments/{ours['id']}"
        return "updated", str(self._api.send("PATCH", path, {"body": body}, permission=_WRITE)["html_url"])

    def react(self, comment: int, reaction: Reaction) -> None:
        """React to a comment; the same twice is the same as once."""
        path = f"{self._path}/issues/comments/{comment}/reactions"
        self._api.send("POST", path, {"content": reaction}, permission=_WRITE)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    @cached_property
    def _we(self) -> str:
        """The login that our token writes as; REST tells it to people alone, GraphQL to apps too."""
        return str(self._api.graphql("query { viewer { login } }", {}, permission=_READ)["viewer"]["login"])

    def _ours(self, marker: str) -> Mapping[str, Any] | None:
        path = f"{self._path}/issues/{self.number}/comments"
        for comment in self._api.all(path, permission=_READ):
            author = comment["user"]
            if (comment["body"] or "").startswith(marker) and author and author["login"] == self._we:
                return dict(comment)
        return None


def number_of(where: Slug, commit: str, token: Secret, access: Access) -> int | None:
    """The pull request that brought a commit: the merged one where there are several; None where there is none."""
    api = Api(where.api_url, token, access, variable="GITHUB_TOKEN")
    try:
        found = tuple(api.all(f"/repos/{where}/commits/{commit}/pulls", permission=_READ))
    except RepositoryNotFound:
        return None
    finally:
        api.close()
    merged = [item for item in found if item["merged_at"]]
    return next((int(item["number"]) for item in (*merged, *found)), None)
