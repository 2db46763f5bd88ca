"""A GitHub App's tokens: one for each repository that is worked on, which reaches nothing else and is renewed in time.

https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from pipeline.core.secret import Secret
from pipeline.edges.git import ANY_USER, Address
from pipeline.edges.github import Access, Api, App, Slug, message_of, slug
from pipeline.errors import CommitRefused, GitDenied, UsageError

_RENEWED_WITH_LEFT = 0.1
"""The part of its life that a token has before it when the next one is asked for: six minutes of GitHub's hour."""
_CLOCKS_MAY_DIFFER_SECONDS = 30


def sign_in(address: Address, access: Access | None) -> Address:
    """The address with the App's token for it, where it is on GitHub and names no credentials itself."""
    if access is None or access.app is None or address.credentials:
        return address
    where = slug(address.url, access.api_url)
    if where is None:
        return address
    token = _Token(where, access, access.app)
    return replace(address, credentials=Secret(lambda: f"{ANY_USER}:{token.now()}"))


class _Token:
    """The App's token for one repository."""

    def __init__(self, where: Slug, access: Access, app: App) -> None:
        self._where = where
        self._access = access
        self._app = app
        self._lock = threading.Lock()
        self._value = ""
        self._good_until = 0.0

    def now(self) -> str:
        """The token that holds now. Raises GitDenied, UsageError, RateLimited and Unreachable."""
        with self._lock:
            if time.monotonic() >= self._good_until:
                began = time.monotonic()
                self._value, seconds = self._ask()
                self._good_until = began + seconds * (1 - _RENEWED_WITH_LEFT)
            return self._value

    def _ask(self) -> tuple[str, float]:
        """A new token, and the seconds that it lives by GitHub's own clock."""
        api = Api(self._where.api_url, _proof(self._app), self._access)
        try:
            path = f"/repos/{self._where}/installation"
            status, headers, installation = api.answer("GET", path)
            if status != 200:
                self._refuse(api.host, path, status, headers, installation)
            if installation["suspended_at"]:
                self._refuse_suspended(api.host)
            path = f"/app/installations/{installation['id']}/access_tokens"
            status, headers, made = api.answer("POST", path, input={"repositories": [self._where.name]})
            if status != 201:
                self._refuse(api.host, path, status, headers, made)
        finally:
            api.close()
        born = parsedate_to_datetime(headers["date"])
        return str(made["token"]), (datetime.fromisoformat(made["expires_at"]) - born).total_seconds()

    def _refuse(self, host: str, path: str, status: int, headers: Mapping[str, str], answer: Any) -> NoReturn:
        said = f"{host}{path}: {message_of(answer) or f'HTTP {status}'}"
        ahead = time.time() - parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else 0.0
        if status == 401 and ("('exp')" in said or "('iat')" in said) and abs(ahead) > _CLOCKS_MAY_DIFFER_SECONDS:
            raise GitDenied(
                f"{said}; this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} GitHub's",
                remedy="Set this machine's clock, best by NTP: a GitHub App proves who it is for minutes only.",
            )
        if status == 401 or "Integration not found" in said:
            raise GitDenied(
                f"{said}; GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY are not those of one GitHub App",
                remedy="Take the id from the App's settings page, and a private key that is listed there.",
            )
        if "suspended" in said:
            self._refuse_suspended(host)
        if status in {403, 404, 422}:
            raise GitDenied(
                f"{said}; the GitHub App is not installed on {self._where}, or there is no such repository",
                remedy=f"Install the App on {self._where}: 'Install App' on its settings page; check the address too.",
            )
        raise CommitRefused(f"{said} (HTTP {status})")

    def _refuse_suspended(self, host: str) -> NoReturn:
        raise GitDenied(
            f"{host}: the installation of the GitHub App on {self._where.owner} is suspended",
            remedy=f"Lift the suspension in the settings of {self._where.owner}, under 'GitHub Apps'.",
        )


def _proof(app: App) -> Secret:
    """The App's own token, which lives for minutes. Raises UsageError for a key that is none; it is not repeated."""
    import github
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = app.key.reveal().replace("\\n", "\n").strip()
    try:
        usable = isinstance(load_pem_private_key(pem.encode(), password=None), RSAPrivateKey)
    except (ValueError, TypeError):  # TypeError: it has a passphrase; the words of both may repeat it
        usable = False
    if not usable:
        raise UsageError(
            "GITHUB_APP_PRIVATE_KEY is not a private key of a GitHub App",
            remedy="Set it to the whole content of the .pem file that GitHub made, with its line ends or \\n for them.",
        )
    return Secret(github.Auth.AppAuth(app.id.reveal().strip(), pem).create_jwt)
