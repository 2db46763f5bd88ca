"""GitHub Apps of the sandbox's GitHub: their proofs are verified, and the tokens that they get run out.

The shapes are the contract's. What it does not say (which proofs are refused, and in which words) follows
https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
and the answers that GitHub's users have published.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from werkzeug.http import http_date
from werkzeug.wrappers import Request

from pipeline.sandbox.github_rest import RefusedError

ENDPOINTS = {
    "installation": ("GET", "/repos/<owner>/<name>/installation"),
    "access_tokens": ("POST", "/app/installations/<int:number>/access_tokens"),
}
"""Those that want an App's proof in place of a token: method and path."""
_LONGEST_PROOF_SECONDS = 600


@dataclass(slots=True, kw_only=True)
class App:
    """An App with its one installation, on the sandbox's only owner."""

    id: int
    public_key: str
    """PEM."""
    permissions: dict[str, str]
    repositories: set[str]
    """The names of those that it is installed on."""
    suspended: bool = False
    token_seconds: int = 3600


@dataclass(frozen=True, slots=True)
class Rights:
    """What a token may do."""

    permissions: Mapping[str, str]
    """`write` or `read`, by permission."""
    repositories: frozenset[str] | None = None
    """The names of those that it sees; None for all."""


@dataclass(slots=True)
class Apps:
    """All Apps and the tokens that they were given. Tests register Apps, and set the clock."""

    exists: Callable[[str, str], bool]
    """Whether there is a repository, by owner and name."""
    registered: list[App] = field(default_factory=list)
    ahead_seconds: float = 0
    """How far GitHub's clock is ahead of this machine's."""
    tokens: dict[str, tuple[Rights, float]] = field(default_factory=dict)
    """What each token may do, and when it ends by GitHub's clock, in seconds since 1970."""

    def rights(self, token: str) -> Rights | None:
        """What an App's token may do; None for one that has ended, or never was."""
        rights, ends = self.tokens.get(token, (None, 0.0))
        return rights if self._now() < ends else None

    @property
    def headers(self) -> Mapping[str, str]:
        """GitHub's clock."""
        return {"Date": http_date(self._now())}

    def answer(self, endpoint: str, request: Request, sent: Any, **values: Any) -> tuple[int, Any]:
        """Status and answer of one of `ENDPOINTS`."""
        app = self._prover(request.headers.get("Authorization", ""))
        if endpoint == "installation":
            return 200, self._installation(app, request, **values)
        return 201, self._access_token(app, sent or {}, **values)

    def _now(self) -> float:
        return time.time() + self.ahead_seconds

    def _prover(self, authorization: str) -> App:
        """The App whose private key signed the proof."""
        import jwt

        scheme, _, proof = authorization.partition(" ")
        try:
            claims = jwt.decode(proof, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            claims = {}
        if scheme.lower() != "bearer" or not claims:
            raise RefusedError(401, "A JSON web token could not be decoded")
        app = next((app for app in self.registered if str(app.id) == str(claims.get("iss"))), None)
        if app is None:
            raise RefusedError(404, "Integration not found")
        try:
            jwt.decode(proof, app.public_key, ["RS256"], options={"verify_exp": False, "verify_iat": False})
        except jwt.InvalidTokenError:
            raise RefusedError(401, "A JSON web token could not be decoded") from None
        issued, ends, now = claims.get("iat"), claims.get("exp"), self._now()
        if not isinstance(ends, int) or ends <= now:
            raise RefusedError(
                401,
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the "
                "assertion expires",
            )
        if ends > now + _LONGEST_PROOF_SECONDS:
            raise RefusedError(401, "'Expiration time' claim ('exp') is too far in the future")
        if not isinstance(issued, int) or issued > now:
            raise RefusedError(
                401, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
            )
        return app

    def _installation(self, app: App, request: Request, owner: str, name: str) -> Any:
        if name not in app.repositories or not self.exists(owner, name):
            raise RefusedError(404, "Not Found")
        api, made = f"{request.host_url}api/v3", datetime(2026, 1, 1, tzinfo=UTC).isoformat()
        user = _user(request.host_url, owner)
        return {
            "id": app.id,
            "account": user,
            "repository_selection": "selected",
            "access_tokens_url": f"{api}/app/installations/{app.id}/access_tokens",
            "repositories_url": f"{api}/installation/repositories",
            "html_url": f"{request.host_url}organizations/{owner}/settings/installations/{app.id}",
            "app_id": app.id,
            "app_slug": "openeg",
            "target_id": user["id"],
            "target_type": user["type"],
            "permissions": {"metadata": "read", **app.permissions},
            "events": [],
            "created_at": made,
            "updated_at": made,
            "single_file_name": None,
            "suspended_by": user if app.suspended else None,
            "suspended_at": made if app.suspended else None,
        }

    def _access_token(self, app: App, sent: Any, number: int) -> Any:
        if number != app.id:
            raise RefusedError(404, "Not Found")
        if app.suspended:
            raise RefusedError(403, "This installation has been suspended")
        names = frozenset(sent.get("repositories") or app.repositories)
        permissions = dict(sent.get("permissions") or app.permissions)
        if not names <= app.repositories:
            raise RefusedError(422, "There is at least one repository that does not exist or is not accessible")
        token, ends = f"ghs_{secrets.token_hex(18)}", int(self._now()) + app.token_seconds
        self.tokens[token] = Rights(permissions, names), ends
        return {
            "token": token,
            "expires_at": datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "permissions": {"metadata": "read", **permissions},
            "repository_selection": "selected",
        }


def _user(host: str, login: str) -> dict[str, Any]:
    """An account, as far as the contract wants it."""
    api = f"{host}api/v3/users/{login}"
    addresses = {
        f"{name}_url": f"{api}/{name}"
        for name in (
            *("events", "followers", "following", "gists", "organizations", "received_events", "repos"),
            *("starred", "subscriptions"),
        )
    }
    account = {"id": 1, "node_id": "O_1", "login": login, "type": "Organization", "site_admin": False}
    pages = {"url": api, "html_url": f"{host}{login}", "avatar_url": f"{host}{login}.png", "gravatar_id": ""}
    return {**account, **pages, **addresses}
