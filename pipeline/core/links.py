"""Pages of well-known git hosts, for people to click on."""

import re
from urllib.parse import quote


def commit_page(repository: str, revision: str | None) -> str | None:
    """The page of a commit; None for a repository that has no web page.

    >>> commit_page("https://github.com/openeg/gitops.git", "abc")
    'https://github.com/openeg/gitops/commit/abc'
    """
    url = over_https(repository)
    if not revision or not url.startswith("https://"):
        return None
    between = "/-/commit/" if "gitlab" in url else "/commit/"
    return url.removesuffix("/").removesuffix(".git") + between + revision


def over_https(repository: str) -> str:
    """The HTTPS address of a repository that is given by its SSH address; any other address as it is.

    >>> over_https("git@github.com:openeg/gitops.git")
    'https://github.com/openeg/gitops.git'
    """
    scp = re.fullmatch(r"(?:ssh://)?git@([^:/]+)[:/](.+)", repository)
    return f"https://{scp[1]}/{scp[2]}" if scp else repository


def line_page(repository: str, revision: str | None, file: str, line: int) -> str | None:
    """The page of a line as a commit left it, on hosts whose pages we know; else that of the commit.

    >>> line_page("https://github.com/openeg/gitops.git", "abc", "overlays/dev/kustomization.yaml", 12)
    'https://github.com/openeg/gitops/blob/abc/overlays/dev/kustomization.yaml#L12'
    """
    page = commit_page(repository, revision)
    if page is None or not re.match(r"https://[^/]*(github|gitlab)", page):
        return page
    start, _, commit = page.rpartition("/commit/")
    return f"{start}/blob/{commit}/{quote(file)}#L{line}"
