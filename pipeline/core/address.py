"""The address of a server, as people write it."""

from urllib.parse import SplitResult, urlsplit


def server_url(address: str) -> SplitResult | None:
    """HOST:PORT, which means https, or an http(s) URL without user and password; None for anything else.

    >>> server_url("argocd.example.com:8443").geturl()
    'https://argocd.example.com:8443'
    """
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme in {"http", "https"} and parts.hostname and parts.username is None else None
