"""Pages of well-known git hosts, for people to click on."""

import re


def commit_page(repository: str, revision: str | None) -> str | None:
    """The page of a commit; None for a repository that has no web page.

    >>> commit_page("https://github.com/openeg/gitops.git", "abc")
    'https://github.com/openeg/gitops/commit/abc'
    """
    scp = re.fullmatch(r"(?:ssh://)?git@([^:/]+)[:/](.+)", repository)
    url = f"https://{scp[1]}/{scp[2]}" if scp else repository
    if not revision or not url.startswith("https://"):
        return None
    between = "/-/commit/" if "gitlab" in url else "/commit/"
    return url.removesuffix("/").removesuffix(".git") + between + revision
