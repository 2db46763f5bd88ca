"""The kinds of GitHub's tokens, which are told by how they begin, and how each is given a permission.

https://docs.github.com/authentication/keeping-your-account-and-data-secure/about-authentication-to-github
"""

from typing import Literal

from pipeline.core.secret import Secret

TokenKind = Literal["classic", "fine-grained", "installation", "unknown"]

_BEGINNINGS: tuple[tuple[str, TokenKind], ...] = (
    ("ghp_", "classic"),
    ("github_pat_", "fine-grained"),
    ("ghs_", "installation"),
)


def token_kind(token: Secret) -> TokenKind:
    """The kind of a token: GitHub Actions' own are an installation's too.

    >>> token_kind(Secret("github_pat_11AA"))
    'fine-grained'
    """
    value = token.reveal()
    return next((kind for beginning, kind in _BEGINNINGS if value.startswith(beginning)), "unknown")


def grant(kind: TokenKind, permission: str, variable: str) -> str:
    """How a token of a kind, which `variable` holds, is given a permission such as `contents: write`."""
    match kind:
        case "classic":
            return "Give the classic token the scope `repo`."
        case "fine-grained":
            return f"Give the fine-grained token the repository permission `{permission}`, and select the repository."
        case "installation":
            return (
                f"Give the GitHub App the permission `{permission}` and accept it where the App is installed; "
                "a job's own token is given it under `permissions:`."
            )
    return (
        f"Give the token of {variable} the permission `{permission}` on the repository; "
        "for a classic token that is the scope `repo`."
    )
