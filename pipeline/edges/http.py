"""HTTP, as the registry and Argo CD need it: one connection pool with everything a private front asks for."""

import contextlib
import ipaddress
import os
import re
import ssl
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

    Raises UsageError for certificates that cannot be used, and for a proxy that is no URL.
    """
    front = front or Front()
    files = (front.ca_bundle, front.client_certificate, front.client_key)
    context = _tls(*files) if any(files) or base_url.startswith("https:") else None
    common: dict[str, Any] = {
        "num_pools": 4,
        "maxsize": connections,
        "retries": False,
        "timeout": urllib3.Timeout(connect=10, read=30),
        "headers": {"User-Agent": USER_AGENT, **front.headers},
        "ssl_context": context,
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


def _tls(ca_bundle: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """One context for all connections: what is wrong with a file shows now, and not when the first one is opened."""
    if key and not certificate:
        raise UsageError(f"{key}: a key without its certificate", remedy="Give the client certificate too.")
    trusted = ca_bundle or os.environ.get("SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=trusted)
    except OSError as error:
        raise UsageError(
            f"{trusted}: not a CA bundle: {_openssl(error)}", remedy="Give a file with certificates in PEM."
        ) from error
    if certificate:
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # else OpenSSL would ask on the terminal
        except OSError as error:
            told = f"{certificate} and {key}" if key else str(certificate)
            raise UsageError(
                f"{told}: not a client certificate with its key: {_openssl(error)}",
                remedy="Give both in PEM, the key without a passphrase.",
            ) from error
    return context


def _openssl(error: OSError) -> str:
    """Its words without the line of the source: `[X509] PEM lib`."""
    return str(error.strerror).partition(" (_ssl")[0]


def _through(proxy: str, common: Mapping[str, Any]) -> urllib3.ProxyManager:
    """Raises ValueError for what is no address of a proxy."""
    parts = urlsplit(proxy)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(parts.scheme)
    auth = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    return urllib3.ProxyManager(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        proxy_headers=urllib3.make_headers(proxy_basic_auth=auth) if auth else None,
        proxy_ssl_context=common["ssl_context"],
        **common,
    )


def _environment_proxy(url: str) -> str | None:
    parts = urlsplit(url)
    server = parts.netloc.rpartition("@")[2]
    return None if is_loopback(server) or proxy_bypass(server) else getproxies().get(parts.scheme)


def is_loopback(server: str) -> bool:
    """Whether `server` (host and port) is this machine, where plain HTTP is safe and no proxy can help."""
    try:
        host = urlsplit(f"//{server}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
