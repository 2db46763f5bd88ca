"""Tags and releases of a repository on GitHub, by its REST API: https://docs.github.com/rest/releases"""

import itertools
from collections.abc import Sequence
from typing import Any

from pipeline.core.links import over_https
from pipeline.core.release_notes import Commit
from pipeline.core.secret import Secret
from pipeline.edges.github import PAGE, Access, Api, Slug, slug
from pipeline.errors import RepositoryNotFound, UsageError
from pipeline.steps.make_release import Published, Tag

_READ, _WRITE = "contents: read", "contents: write"
_COMMIT_PAGES = 10
"""As many commits as notes have room for."""


class Releases:
    """One repository, as far as releases need it."""

    def __init__(self, where: Slug, page: str, token: Secret, access: Access) -> None:
        """`page` is the repository's on the web."""
        self.name = str(where)
        self.page = page
        self._api = Api(where.api_url, token, access, variable="GITHUB_TOKEN")
        self._path = f"/repos/{where}"

    def tags(self) -> Sequence[Tag]:
        """All tags, each with the commit that it stands at in the end."""
        return [Tag(item["name"], item["commit"]["sha"]) for item in self._api.all(f"{self._path}/tags")]

    def commits(self, base: str | None, head: str) -> tuple[Sequence[Commit], int] | None:
        """The commits of `head` that `base` has not, and how many more; None where `base` is no ancestor of it.

        Without `base` those that came last; how many came before is then not counted.
        """
        if base is None:
            last = itertools.islice(self._api.all(f"{self._path}/commits", sha=head), _COMMIT_PAGES * PAGE)
            return list(map(_commit, last)), 0
        found: list[Commit] = []
        for number in range(1, _COMMIT_PAGES + 1):
            try:
                answer = self._api.get(f"{self._path}/compare/{base}...{head}", per_page=str(PAGE), page=str(number))
            except RepositoryNotFound as error:
                if "No common ancestor" in str(error):
                    return None
                raise
            if answer["status"] not in {"ahead", "identical"}:
                return None
            found += map(_commit, answer["commits"])
            if len(answer["commits"]) < PAGE:
                break
        return found, answer["total_commits"] - len(found)

    def pull_request(self, commit: str) -> int | None:
        """The pull request that brought a commit, if it was merged."""
        answer = self._api.get(f"{self._path}/commits/{commit}/pulls", permission="pull_requests: read")
        return next((int(item["number"]) for item in answer if item.get("merged_at")), None)

    def annotate(self, name: str, commit: str, message: str) -> None:
        """Put an annotated tag on a commit. Raises CommitRefused when there is a tag of that name."""
        tag = {"tag": name, "message": message, "object": commit, "type": "commit"}
        made = self._api.send("POST", f"{self._path}/git/tags", tag, permission=_WRITE)
        ref = {"ref": f"refs/tags/{name}", "sha": made["sha"]}
        self._api.send("POST", f"{self._path}/git/refs", ref, permission=_WRITE)

    def release(self, tag: str) -> Published | None:
        """The release of a tag; a draft, which GitHub does not find by its tag, is looked for in the list."""
        try:
            return _published(self._api.get(f"{self._path}/releases/tags/{tag}"))
        except RepositoryNotFound:
            return next(
                (_published(item) for item in self._api.all(f"{self._path}/releases") if item["tag_name"] == tag), None
            )

    def create_release(self, tag: str, notes: str, *, draft: bool, prerelease: bool) -> Published:
        """Make a release. Which is the latest GitHub judges by version and date."""
        body = {
            "tag_name": tag,
            "name": tag,
            "body": notes,
            "draft": draft,
            "prerelease": prerelease,
            **({} if draft or prerelease else {"make_latest": "legacy"}),
        }
        return _published(self._api.send("POST", f"{self._path}/releases", body, permission=_WRITE))

    def publish(self, release: Published) -> Published:
        """Make a draft public."""
        path = f"{self._path}/releases/{release.id}"
        return _published(self._api.send("PATCH", path, {"draft": False}, permission=_WRITE))

    def close(self) -> None:
        """Close the connections."""
        self._api.close()


def connect(source: str, token: Secret, access: Access) -> Releases:
    """The releases of the repository at a URL. Raises UsageError where that is not on GitHub."""
    url = over_https(source)
    where = slug(url, access.api_url)
    if where is None:
        raise UsageError(
            f"{source}: not a repository on GitHub, which releases are made on",
            remedy="Run in a clone of it, name it with --source URL, or give a GitHub Enterprise Server's API URL.",
        )
    return Releases(where, url.rstrip("/").removesuffix(".git"), token, access)


def _commit(item: Any) -> Commit:
    return Commit(
        oid=item["sha"],
        message=item["commit"]["message"],
        parents=tuple(parent["sha"] for parent in item["parents"]),
        author=(item["commit"].get("author") or {}).get("name") or "unknown",
        login=(item.get("author") or {}).get("login"),
    )


def _published(item: Any) -> Published:
    return Published(id=item["id"], url=item["html_url"], draft=item["draft"])
