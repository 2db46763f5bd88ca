"""HTTP, as the registry and Argo CD need it: one connection pool with everything a private front asks for."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from pipeline import __version__
from pipeline.errors import Unreachable, UsageError

USER_AGENT = f"openeg-deploy/{__version__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What stands between us and a server."""

    ca_bundle: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    """Proxy URL; None takes HTTPS_PROXY, HTTP_PROXY and NO_PROXY from the environment."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Extra headers for every request; they may hold secrets, so they are never shown."""


def pool(base_url: str, front: Front | None = None, *, connections: int = 16) -> urllib3.PoolManager:
    """A connection pool for the server at `base_url`. Redirects and retries are the caller's own decision.

    Raises UsageError when a certificate file cannot be read.
    """
    front = front or Front()
    for path in (front.ca_bundle, front.client_certificate, front.client_key):
        if path is not None and not path.is_file():
            raise UsageError(f"{path}: no such certificate file", remedy="Give the path of a PEM file.")
    common: dict[str, Any] = {
        "num_pools": 4,
        "maxsize": connections,
        "retries": False,
        "timeout": urllib3.Timeout(connect=10, read=30),
        "headers": {"User-Agent": USER_AGENT, **front.headers},
        "ca_certs": str(front.ca_bundle) if front.ca_bundle else os.environ.get("SSL_CERT_FILE"),
        "cert_file": str(front.client_certificate) if front.client_certificate else None,
        "key_file": str(front.client_key) if front.client_key else None,
    }
    proxy = front.proxy or _environment_proxy(base_url)
    if proxy is None:
        return urllib3.PoolManager(**common)
    try:
        return _through(proxy, common)
    except (ValueError, urllib3.exceptions.LocationParseError):  # whose words would repeat a password
        raise UsageError(
            f"the proxy for {urlsplit(base_url).hostname} is not a URL",
            remedy="Write http://HOST:PORT of an HTTP proxy; in user and password write '/' as %2F and '@' as %40.",
        ) from None


def _through(proxy: str, common: Mapping[str, Any]) -> urllib3.ProxyManager:
    """Raises ValueError for what is no address of a proxy."""
    parts = urlsplit(proxy)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(parts.scheme)
    auth = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    return urllib3.ProxyManager(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        proxy_headers=urllib3.make_headers(proxy_basic_auth=auth) if auth else None,
        **common,
    )


def _environment_proxy(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = getproxies()
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxies.get(parts.scheme)


@contextlib.contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turn urllib3's errors into Unreachable, which names `what` was asked and why it failed."""
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        raise Unreachable(f"{what}: {_why(error)}") from error


def _why(error: Exception) -> str:
    """The innermost cause, without the connection's repr that urllib3 puts before it."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, Exception):
        return _why(reason)
    return re.sub(r"^(<.*?>|\w+\(host=.*?\)): ", "", str(reason or error))
