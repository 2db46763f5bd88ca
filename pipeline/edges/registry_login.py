"""Who we are at each registry: the login given to us, else what Docker's configuration knows.

Sources: https://docs.docker.com/reference/cli/docker/login/ (config.json, credsStore, credHelpers) and
https://github.com/docker/docker-credential-helpers (the helpers' protocol).
"""

import base64
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.image import DOCKER_HUB, split_registry
from pipeline.core.secret import Secret
from pipeline.errors import ConfigInvalid, RegistryDenied, UsageError

HUB_KEY = "https://index.docker.io/v1/"
_HELPER_TIMEOUT_SECONDS = 60
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 -- how a helper says that its secret is an identity token


@dataclass(frozen=True, slots=True)
class Login:
    """A user and password; where `username` is None, `password` is an identity token (OAuth2 refresh token)."""

    username: str | None
    password: Secret
    bearer: bool = False
    """Whether `password` is a token for the registry itself, which no other is exchanged for."""

    def encoded(self) -> str:
        """`user:password` in base64, as Basic authentication and Docker's configuration want it."""
        return base64.b64encode(f"{self.username}:{self.password.reveal()}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Logins:
    """Finds the login of a registry. `given` goes first, and only to the hosts that it names."""

    environ: Mapping[str, str] = field(repr=False)
    given: Mapping[str, Login] = field(default_factory=dict)

    def at(self, host: str) -> Login | None:
        """The login for `host`, None when we are nobody there.

        Raises ConfigInvalid when config.json is damaged, RegistryDenied when a credential helper fails.
        """
        if host in self.given:
            return self.given[host]
        config = self._config()
        key = HUB_KEY if host == DOCKER_HUB else host
        helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
        found = _ask_helper(helper, key, self.environ) if helper else None
        return found or _entry(config.get("auths") or {}, host)

    @property
    def config_folder(self) -> Path:
        """Where Docker keeps config.json and its plugins."""
        return Path(self.environ.get("DOCKER_CONFIG") or Path(self.environ.get("HOME", "~")).expanduser() / ".docker")

    def _config(self) -> dict[str, Any]:
        path = self.config_folder / "config.json"
        try:
            config = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigInvalid(
                f"{path}: {error}", remedy="Mend the file, or log in anew with `docker login`."
            ) from None
        if isinstance(config, dict) and all(
            isinstance(config.get(key), dict | None) for key in ("auths", "credHelpers")
        ):
            return config
        raise ConfigInvalid(f"{path}: is not a Docker configuration", remedy="Log in anew with `docker login`.")


def for_registry(registry: str, username: str | None, password: Secret | None, environ: Mapping[str, str]) -> Logins:
    """Logins where `username` and `password`, if given, are meant for the host of `registry` and no other.

    Raises UsageError when only one of the two is given.
    """
    if bool(username) != bool(password):
        raise UsageError(
            f"only one of REGISTRY_USERNAME and REGISTRY_PASSWORD is set for {registry}", remedy="Set both or neither."
        )
    if not username or not password:
        return Logins(environ)
    host, _ = split_registry(f"{registry}/image")
    return Logins(environ, {host: Login(username, password)})


def _entry(auths: Mapping[str, Any], host: str) -> Login | None:
    for key, entry in auths.items():
        if _host_of(key) != host:
            continue
        try:
            login = _login(entry or {})
        except (AttributeError, TypeError, ValueError):
            raise ConfigInvalid(
                f"Docker's config.json: the login of {key} is damaged", remedy="Log in anew with `docker login`."
            ) from None
        if login:
            return login
    return None


def _login(entry: Mapping[str, Any]) -> Login | None:
    """What one entry of `auths` holds, in Docker's own order. Raises TypeError, ValueError and others for nonsense."""
    if token := entry.get("registrytoken"):
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ValueError("no header can carry it")
        return Login(None, Secret(token), bearer=True)
    if token := entry.get("identitytoken"):
        return Login(None, Secret(token))
    if auth := entry.get("auth"):
        username, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        return Login(username, Secret(password))
    if entry.get("username") and entry.get("password"):
        return Login(str(entry["username"]), Secret(str(entry["password"])))
    return None


def _host_of(key: str) -> str:
    """The registry of an `auths` key, which may be an old one with scheme and path."""
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if host == "index.docker.io" else host


def _ask_helper(name: str, key: str, environ: Mapping[str, str]) -> Login | None:
    program = f"docker-credential-{name}"
    remedy = f"Try `echo {key} | {program} get`, or set REGISTRY_USERNAME and REGISTRY_PASSWORD."
    try:
        done = subprocess.run(
            [program, "get"],
            input=key,
            env=dict(environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=_HELPER_TIMEOUT_SECONDS,
        )
        if done.returncode == 0:
            answer = json.loads(done.stdout)
            username, secret = str(answer["Username"]), Secret(str(answer["Secret"]))
            return Login(None if username == _IDENTITY_TOKEN_USER else username, secret) if secret else None
    except OSError as error:
        raise RegistryDenied(f"{program}, named by Docker's config.json: {error.strerror}", remedy=remedy) from None
    except subprocess.TimeoutExpired:
        raise RegistryDenied(f"{program} gave no login for {key} in time", remedy=remedy) from None
    except (ValueError, KeyError, TypeError):  # what it printed may hold the secret: it is not shown
        raise RegistryDenied(f"{program} gave no readable login for {key}", remedy=remedy) from None
    if "credentials not found" in done.stdout + done.stderr:  # the protocol's own words
        return None
    raise RegistryDenied(f"{program} failed for {key}: {(done.stdout or done.stderr).strip()[:300]}", remedy=remedy)
