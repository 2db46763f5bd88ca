"""OCI registries: what is under a tag, and how a small image is pushed.

Sources: https://github.com/opencontainers/distribution-spec/blob/main/spec.md,
https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/.
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import tenacity
import urllib3

from pipeline.core.image import DOCKER_HUB, split_registry
from pipeline.edges.http import is_loopback, pool, reaching
from pipeline.edges.registry_login import Login, Logins
from pipeline.errors import PushFailed, RegistryDenied, RegistryUnusable
from pipeline.steps.build_image import REVISION_LABEL, Found

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    IMAGE_MANIFEST,
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REDIRECTS = {301, 302, 303, 307, 308}
_BUSY = {429, 500, 502, 503, 504}
_LONGEST_PAUSE_SECONDS = 10.0

_Response = urllib3.BaseHTTPResponse


@dataclass(frozen=True, slots=True)
class _Place:
    """A repository, as the API addresses it."""

    host: str
    path: str

    @property
    def base(self) -> str:
        server = "registry-1.docker.io" if self.host == DOCKER_HUB else self.host
        return f"{'http' if is_loopback(server) else 'https'}://{server}"

    def url(self, rest: str) -> str:
        return f"{self.base}/v2/{self.path}/{rest}"

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"


class OciRegistry:
    """Every registry that a repository name can carry; each gets its own login and no other's.

    All methods raise Unreachable (RegistryUnusable when the answer is no registry's) and RegistryDenied.
    """

    def __init__(self, logins: Logins, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """`sleep` pauses between the tries of a request that the registry was too busy for."""
        self._logins = logins
        self._sleep = sleep
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._authorizations: dict[_Place, str] = {}

    def look_up(self, repository: str, tag: str) -> Found | None:
        """What is under `tag`, None when nothing is: two requests for an image, three for an index.

        Every platform of an index carries the label, so that any of them tells the revision.
        """
        place = _Place(*split_registry(repository))
        top = self._get(place, f"manifests/{tag}")
        if top is None:
            return None
        try:
            manifest = _object(top)
            while "manifests" in manifest:
                manifest = _object(self._blob(place, "manifests", _first_platform(manifest)))
            config = _object(self._blob(place, "blobs", manifest["config"]["digest"]))
            labels = (config.get("config") or {}).get("Labels") or {}
            return Found(digest_of(top), labels.get(REVISION_LABEL))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryUnusable(f"{place}:{tag}: the manifest is not an image's ({error!r})") from error

    def may_push(self, repository: str) -> bool | None:
        """Whether our login is given the scope to push; None where the registry's answer does not tell.

        Nothing is written: a token that is asked for with the scope says in its claims what it was given.
        https://distribution.github.io/distribution/spec/auth/jwt/
        """
        place = _Place(*split_registry(repository))
        login = self._logins.at(place.host)
        answer = self._request("GET", f"{place.base}/v2/", {})
        offer = _challenges(answer.headers.get("WWW-Authenticate", "")).get("bearer")
        if answer.status != 401 or offer is None or (login and login.bearer):
            return None
        token = self._token(place, {**offer, "scope": f"repository:{place.path}:pull,push"}, login)
        return _is_given(token, place.path, "push")

    def push_blob(self, repository: str, data: bytes) -> str:
        """Store `data` unless it is there, and return its digest. Raises PushFailed."""
        place, digest = _Place(*split_registry(repository)), digest_of(data)
        if self._send(place, "HEAD", place.url(f"blobs/{digest}")).status == 200:
            return digest
        url = place.url("blobs/uploads/")
        start = self._send(place, "POST", url)
        _require_pushed(start, 202, place)
        upload = _with_query(_location(start, url), {"digest": digest})
        sent = self._send(place, "PUT", upload, {"Content-Type": "application/octet-stream"}, data)
        _require_pushed(sent, 201, place)
        return digest

    def push_manifest(self, repository: str, tag: str, data: bytes, media_type: str) -> str:
        """Store a manifest under `tag` and return its digest. Raises PushFailed."""
        place = _Place(*split_registry(repository))
        sent = self._send(place, "PUT", place.url(f"manifests/{tag}"), {"Content-Type": media_type}, data)
        _require_pushed(sent, 201, place)
        return digest_of(data)

    def _blob(self, place: _Place, kind: str, digest: str) -> bytes:
        data = self._get(place, f"{kind}/{digest}")
        if data is None:
            raise RegistryUnusable(f"{place}: the registry lost {digest}, which a manifest of its own names")
        if digest_of(data) != digest:
            raise RegistryUnusable(f"{place}: what the registry sent for {digest} is damaged")
        return data

    def _get(self, place: _Place, rest: str) -> bytes | None:
        url, accept = place.url(rest), {"Accept": ", ".join(_MANIFESTS)}
        response = self._send(place, "GET", url, accept)
        for _ in range(3):
            if response.status not in _REDIRECTS:
                break
            url = _location(response, url)
            response = self._send(place, "GET", url, accept)
        if response.status == 404:
            return None
        if response.status != 200:
            raise RegistryUnusable(f"GET {_shown(url)}: {_explain(response)}")
        stated = response.headers.get("Docker-Content-Digest", "")
        if stated.startswith("sha256:") and stated != digest_of(response.data):
            raise RegistryUnusable(f"GET {_shown(url)}: the content does not match its digest {stated}")
        return response.data

    def _send(
        self, place: _Place, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> _Response:
        """One request, with our authorization if it goes to the registry itself and not where it redirected us."""
        headers = dict(headers or {})
        at_home = _origin(url) == place.base
        if at_home and place in self._authorizations:
            headers["Authorization"] = self._authorizations[place]
        response = self._request(method, url, headers, body)
        if response.status == 401 and at_home:
            headers["Authorization"] = self._authorize(place, response.headers.get("WWW-Authenticate", ""))
            self._authorizations[place] = headers["Authorization"]
            response = self._request(method, url, headers, body)
        if response.status in {401, 403}:
            raise RegistryDenied(f"{place}: {urlsplit(url).netloc} refused {method}: {_explain(response)}")
        return response

    def _authorize(self, place: _Place, challenge: str) -> str:
        """The Authorization header that answers `challenge`."""
        offers = _challenges(challenge)
        login = self._logins.at(place.host)
        if login and login.bearer:
            return f"Bearer {login.password.reveal()}"
        if "bearer" in offers:
            return f"Bearer {self._token(place, offers['bearer'], login)}"
        if not challenge.strip():
            raise RegistryDenied(
                f"{place}: {place.host} answers 401 and names no way to log in",
                remedy="See whether a front stands before the registry, and what that asks for.",
            )
        if "basic" not in offers:
            raise RegistryDenied(f"{place.host} asks for an unknown way to log in: {challenge[:100]!r}")
        if login is None or login.username is None:
            raise RegistryDenied(f"{place}: {place.host} asks for a user and password, and none is known")
        return f"Basic {login.encoded()}"

    def _token(self, place: _Place, offer: Mapping[str, str], login: Login | None) -> str:
        realm = offer.get("realm")
        if not realm:
            raise RegistryUnusable(f"{place}: {place.host} asks for a token, and does not say where to get one")
        scope = offer.get("scope") or f"repository:{place.path}:pull"
        query = {"service": offer.get("service", ""), "scope": scope}
        if login is not None and login.username is None:
            form = {
                "grant_type": "refresh_token",
                "client_id": "openeg-deploy",
                "refresh_token": login.password.reveal(),
                **query,
            }
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._request("POST", realm, kind, urlencode(form).encode())
        else:
            headers = {"Authorization": f"Basic {login.encoded()}"} if login else {}
            response = self._request("GET", _with_query(realm, query), headers)
        if 400 <= response.status < 500 and response.status != 429:
            who = "the login" if login else "anonymous access"
            raise RegistryDenied(f"{place}: {urlsplit(realm).netloc} refused {who}: {_explain(response)}")
        try:
            answer = _object(response.data)
            token = str(answer.get("token") or answer["access_token"])
        except (ValueError, KeyError):
            token = ""
        if not re.fullmatch(r"[\x21-\x7e]+", token):  # what no header can carry is none
            raise RegistryUnusable(f"{_shown(realm)} gave no token: HTTP {response.status}")
        return token

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> _Response:
        """One request, tried again briefly when the server is busy or drops the connection."""
        origin = _origin(url)
        secure = url.startswith("https://") or (url.startswith("http://") and is_loopback(urlsplit(url).netloc))
        if not secure:
            raise RegistryUnusable(f"{_shown(url)}: not asked, since only https is safe beyond this machine")
        if origin not in self._pools:
            self._pools[origin] = pool(origin)
        client = self._pools[origin]
        send = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda response: response.status in _BUSY)
            | tenacity.retry_if_exception_type(urllib3.exceptions.ProtocolError),
            stop=tenacity.stop_after_attempt(4),
            wait=_pause,
            sleep=self._sleep,
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        with reaching(f"registry {urlsplit(url).netloc}"):
            response: _Response = send(
                client.request, method, url, headers={**client.headers, **headers}, body=body, redirect=False
            )
        return response


def _is_given(token: str, path: str, action: str) -> bool | None:
    """Whether a registry's token says that it grants an action; None for one that is not a JWT with claims."""
    try:
        payload = token.split(".")[1]
        access = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["access"]
        return any(item["name"] == path and {action, "*"} & set(item["actions"]) for item in access)
    except (IndexError, ValueError, KeyError, TypeError):
        return None


def digest_of(data: bytes) -> str:
    """The digest that addresses `data` in a registry."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds before the next try: what the server asks for, within reason, else growing with jitter."""
    outcome = state.outcome
    wished = "" if outcome is None or outcome.failed else outcome.result().headers.get("Retry-After", "")
    if wished.isdigit():
        return min(float(wished), _LONGEST_PAUSE_SECONDS)
    return tenacity.wait_random_exponential(multiplier=0.5, max=3)(state)


def _first_platform(index: Mapping[str, Any]) -> str:
    """The digest of an index's first manifest that is an image, which an attestation is not."""
    for entry in index["manifests"]:
        if entry.get("platform", {}).get("os") != "unknown":
            return str(entry["digest"])
    raise ValueError("an index without images")


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 -- as json.loads says it
    return value


def _challenges(header: str) -> dict[str, dict[str, str]]:
    """A WWW-Authenticate header by scheme, in lower case.

    >>> _challenges('Bearer realm="https://a/token",scope="x:pull,push", Basic realm="b"')
    {'bearer': {'realm': 'https://a/token', 'scope': 'x:pull,push'}, 'basic': {'realm': 'b'}}
    >>> _challenges("Basic")
    {'basic': {}}
    """
    parts = re.split(r"(?:^|,)\s*(bearer|basic)(?![^\s,])", header, flags=re.IGNORECASE)
    return {
        scheme.lower(): parse_keqv_list([item for item in parse_http_list(parameters) if "=" in item])
        for scheme, parameters in zip(parts[1::2], parts[2::2], strict=True)
    }


def _require_pushed(response: _Response, status: int, place: _Place) -> None:
    if response.status != status:
        raise PushFailed(f"{place}: {_explain(response)}")


def _explain(response: _Response) -> str:
    """The registry's own words, such as `404 NAME_UNKNOWN: repository name not known`."""
    try:
        first = _object(response.data)["errors"][0]
        return f"{response.status} {first['code']}: {first.get('message', '')}"[:300]
    except (ValueError, KeyError, IndexError, TypeError):
        return f"HTTP {response.status}"


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise RegistryUnusable(f"{_shown(url)} is not an address") from None
    return f"{parts.scheme}://{parts.netloc}"


def _location(response: _Response, url: str) -> str:
    """Where `response`, the answer to a request for `url`, sends us."""
    try:
        return urljoin(url, response.headers.get("Location", ""))
    except ValueError:
        raise RegistryUnusable(f"{_shown(url)} redirects to what is not an address") from None


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def _shown(url: str) -> str:
    """The URL without its query, which may be a signature."""
    return url.partition("?")[0]
