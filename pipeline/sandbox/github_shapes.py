"""What stands in many answers of GitHub's REST API: people, repositories, commits."""

from typing import Any

from pipeline.sandbox.github_rest import Call, node_id

_NOREPLY = "@users.noreply.github.com"
_LINKS = (
    *("archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare", "contents"),
    *("contributors", "deployments", "downloads", "events", "forks", "git_commits", "git_refs", "git_tags", "hooks"),
    *("issue_comment", "issue_events", "issues", "keys", "labels", "languages", "merges", "milestones"),
    *("notifications", "pulls", "releases", "stargazers", "statuses", "subscribers", "subscription", "tags", "teams"),
    "trees",
)
_NO = dict.fromkeys(
    (
        *("private", "fork", "has_projects", "has_wiki", "has_pages", "has_discussions", "has_downloads", "archived"),
        "disabled",
    ),
    False,
)
_NONE: dict[str, Any] = dict.fromkeys(("description", "homepage", "language", "mirror_url", "license"))
_COUNTS = dict.fromkeys(
    (
        *("forks", "forks_count", "open_issues", "open_issues_count", "size", "stargazers_count", "watchers"),
        "watchers_count",
    ),
    0,
)
_BORN = "2020-01-01T00:00:00Z"


def user(call: Call, login: str) -> Any:
    """A person."""
    url = f"{call.request.host_url}api/v3/users/{login}"
    lists = ("followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events")
    return {
        "login": login,
        "id": sum(login.encode()),
        "node_id": node_id("User", login),
        "avatar_url": f"{call.request.host_url}avatars/{login}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{call.request.host_url}{login}",
        **{f"{name}_url": f"{url}/{name}" for name in (*lists, "received_events")},
        "type": "User",
        "site_admin": False,
    }


def team(call: Call, slug: str) -> Any:
    """A team of the owner's."""
    url = f"{call.request.host_url}api/v3/organizations/1/team/{slug}"
    return {
        "id": sum(slug.encode()),
        "node_id": node_id("Team", slug),
        "name": slug,
        "slug": slug,
        "description": None,
        "privacy": "closed",
        "permission": "push",
        "url": url,
        "html_url": f"{call.request.host_url}orgs/{call.owner}/teams/{slug}",
        "members_url": f"{url}/members{{/member}}",
        "repositories_url": f"{url}/repos",
        "type": "organization",
    }


def login(mail: str) -> str | None:
    """Whose mail address this is; of others than GitHub's own kind, the sandbox knows nobody."""
    return mail.removesuffix(_NOREPLY).rpartition("+")[2] if mail.endswith(_NOREPLY) else None


def repository(call: Call) -> Any:
    """The repository, as it stands in other answers."""
    return {
        "id": sum(call.slug.encode()),
        "node_id": node_id("Repository", call.slug),
        "name": call.name,
        "full_name": call.slug,
        "owner": user(call, call.owner),
        "html_url": call.page,
        "url": call.url,
        "default_branch": call.repository.default_branch() or "main",
        "has_issues": True,
        "clone_url": f"{call.page}.git",
        "git_url": f"git://{call.request.host}/{call.slug}.git",
        "ssh_url": f"git@{call.request.host}:{call.slug}.git",
        "svn_url": call.page,
        "visibility": "public",
        **{f"{name}_url": f"{call.url}/{name}" for name in _LINKS},
        **_NO,
        **_NONE,
        **_COUNTS,
        **dict.fromkeys(("pushed_at", "created_at", "updated_at"), _BORN),
    }


def commit(call: Call, revision: str) -> Any:
    """A commit, without its files."""
    shown, url = call.repository.commit(revision), call.url

    def person(who: tuple[str, str, str]) -> Any:
        return dict(zip(("name", "email", "date"), who, strict=True))

    def account(who: tuple[str, str, str]) -> Any:
        known = login(who[1])
        return user(call, known) if known else None

    return {
        "sha": shown.oid,
        "node_id": node_id("Commit", shown.oid),
        "url": f"{url}/commits/{shown.oid}",
        "html_url": f"{call.page}/commit/{shown.oid}",
        "comments_url": f"{url}/commits/{shown.oid}/comments",
        "author": account(shown.author),
        "committer": account(shown.committer),
        "parents": [{"sha": oid, "url": f"{url}/commits/{oid}"} for oid in shown.parents],
        "commit": {
            "url": f"{url}/git/commits/{shown.oid}",
            "author": person(shown.author),
            "committer": person(shown.committer),
            "message": shown.message,
            "comment_count": 0,
            "tree": {"sha": shown.tree, "url": f"{url}/git/trees/{shown.tree}"},
        },
    }


def files(call: Call, base: str, head: str) -> list[Any]:
    """The files that differ between two commits."""
    return [
        {
            "sha": file.oid,
            "filename": file.path,
            "status": _STATUS.get(file.letter, "changed"),
            "additions": file.additions,
            "deletions": file.deletions,
            "changes": file.additions + file.deletions,
            "blob_url": f"{call.page}/blob/{head}/{file.path}",
            "raw_url": f"{call.page}/raw/{head}/{file.path}",
            "contents_url": f"{call.url}/contents/{file.path}?ref={head}",
            **({"patch": file.patch} if file.patch else {}),
            **({"previous_filename": file.former} if file.former else {}),
        }
        for file in call.repository.differences(base, head)
    ]


_STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed"}
