"""Our client of the distribution API, against Debian's docker-registry and against servers that misbehave."""

import base64
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.core.secret import Secret
from pipeline.edges.registry import OciRegistry, digest_of
from pipeline.edges.registry_login import Login, Logins, for_registry
from pipeline.errors import ConfigInvalid, PipelineError, RegistryDenied, RegistryUnusable, Unreachable, UsageError
from pipeline.steps.build_image import REVISION_LABEL, Found

COMMIT = "3f2a9c1b" * 5
PASSWORD = "pa:ss wörd"
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker.distribution.manifest."


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def config(revision: str | None = COMMIT) -> bytes:
    return encoded({"config": {"Labels": {REVISION_LABEL: revision} if revision else None}})


def manifest(of: bytes, media_type: str = f"{OCI}manifest.v1+json") -> bytes:
    descriptor = {"mediaType": f"{OCI}config.v1+json", "digest": digest_of(of), "size": len(of)}
    return encoded({"schemaVersion": 2, "mediaType": media_type, "config": descriptor, "layers": []})


def index(of: bytes, media_type: str = f"{OCI}index.v1+json") -> bytes:
    attestation = {"digest": "sha256:" + "f" * 64, "platform": {"os": "unknown", "architecture": "unknown"}}
    image = {
        "mediaType": f"{OCI}manifest.v1+json",
        "digest": digest_of(of),
        "size": len(of),
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    return encoded({"schemaVersion": 2, "mediaType": media_type, "manifests": [attestation, image]})


def nobody(folder: Path) -> Logins:
    """A machine on which nobody ever logged in."""
    return Logins({"HOME": str(folder), "PATH": os.environ["PATH"]})


def owner(host: str, folder: Path, username: str | None = "ci") -> Logins:
    return Logins(nobody(folder).environ, {host: Login(username, Secret(PASSWORD))})


@dataclass(frozen=True)
class Request:
    """What a server was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Scripted:
    """A server whose answers a test writes by hand; it remembers what it was asked."""

    host: str
    answer: Callable[[Request], Answer] = lambda _: (404, {}, b"")
    asked: list[Request] = field(default_factory=list)


Serve = Callable[..., Scripted]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as running:
        yield lambda address="127.0.0.1": running.enter_context(scripted(address))


@contextmanager
def scripted(address: str) -> Iterator[Scripted]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            server.asked.append(request)
            status, extra, content = server.answer(request)
            if status == 0:  # hang up
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if request.method != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class names it so
            """Say nothing."""

    with ThreadingHTTPServer((address, 0), Handler) as listening:
        server = Scripted(f"{address}:{listening.server_port}")
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        listening.shutdown()


def stored(*blobs: bytes, tagged: bytes) -> Callable[[Request], Answer]:
    """A registry without authentication: `tagged` under each tag, `blobs` and all by their digests."""
    by_digest = {digest_of(data): data for data in (*blobs, tagged)}

    def answer(request: Request) -> Answer:
        name = request.path.rpartition("/")[2]
        data = by_digest.get(name) if name.startswith("sha256:") else tagged
        return (200, {}, data) if data is not None else (404, {}, b"")

    return answer


# against the real registry


@pytest.mark.registry
@pytest.mark.parametrize(
    ("media_type", "as_index"),
    [
        (f"{OCI}manifest.v1+json", None),
        (f"{DOCKER}v2+json", None),
        (f"{OCI}manifest.v1+json", f"{OCI}index.v1+json"),
        (f"{DOCKER}v2+json", f"{DOCKER}list.v2+json"),
    ],
)
def test_images_and_indexes_are_found_with_digest_and_revision(
    start_registry: Callable[..., str], tmp_path: Path, media_type: str, as_index: str | None
) -> None:
    repository = f"{start_registry()}/team/app"
    registry = OciRegistry(nobody(tmp_path))
    image = manifest(config(), media_type)
    registry.push_blob(repository, config())
    registry.push_manifest(repository, "the-image", image, media_type)
    if as_index:
        registry.push_blob(repository, b"{}")
        attestation = manifest(b"{}")
        registry.push_manifest(repository, "the-attestation", attestation, f"{OCI}manifest.v1+json")
        top = index(image, as_index).replace(b"sha256:" + b"f" * 64, digest_of(attestation).encode())
    else:
        top = image
    registry.push_manifest(repository, COMMIT, top, as_index or media_type)
    assert registry.look_up(repository, COMMIT) == Found(digest_of(top), COMMIT)


@pytest.mark.registry
def test_what_is_not_there_is_none(start_registry: Callable[..., str], tmp_path: Path) -> None:
    registry, host = OciRegistry(nobody(tmp_path)), start_registry()
    assert registry.look_up(f"{host}/never-seen", COMMIT) is None
    registry.push_blob(f"{host}/seen", config(None))
    registry.push_manifest(f"{host}/seen", "other", manifest(config(None)), f"{OCI}manifest.v1+json")
    assert registry.look_up(f"{host}/seen", COMMIT) is None
    assert registry.look_up(f"{host}/seen", "other") == Found(digest_of(manifest(config(None))), None)


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    file = tmp_path / "htpasswd"
    subprocess.run(["htpasswd", "-Bbc", str(file), "ci", PASSWORD], check=True, capture_output=True)
    return file


@pytest.mark.registry
def test_the_given_login_opens_a_registry_with_basic_authentication(
    start_registry: Callable[..., str], htpasswd: Path, tmp_path: Path
) -> None:
    host = start_registry(htpasswd)
    registry = OciRegistry(owner(host, tmp_path))
    registry.push_blob(f"{host}/app", config())
    registry.push_manifest(f"{host}/app", COMMIT, manifest(config()), f"{OCI}manifest.v1+json")
    assert registry.look_up(f"{host}/app", COMMIT) == Found(digest_of(manifest(config())), COMMIT)
    with pytest.raises(RegistryDenied, match=f"{host} asks for a user and password, and none is known"):
        OciRegistry(nobody(tmp_path)).look_up(f"{host}/app", COMMIT)
    wrong = Logins(nobody(tmp_path).environ, {host: Login("ci", Secret("wrong"))})
    with pytest.raises(RegistryDenied, match="401 UNAUTHORIZED"):
        OciRegistry(wrong).look_up(f"{host}/app", COMMIT)


@pytest.mark.registry
@pytest.mark.parametrize("key", ["{host}", "https://{host}", "http://{host}/v1/", "https://{host}/v2/"])
def test_docker_s_configuration_opens_it_too(
    start_registry: Callable[..., str], htpasswd: Path, tmp_path: Path, key: str
) -> None:
    host = start_registry(htpasswd)
    auth = base64.b64encode(f"ci:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_bytes(encoded({"auths": {"other": {}, key.format(host=host): {"auth": auth}}}))
    logins = Logins({"DOCKER_CONFIG": str(tmp_path)})
    assert OciRegistry(logins).look_up(f"{host}/app", COMMIT) is None


def helper(folder: Path, script: str) -> Logins:
    """A machine whose credential helper `docker-credential-safe` is `script`."""
    program = folder / "docker-credential-safe"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Logins({"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"})


@pytest.mark.registry
@pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
def test_a_credential_helper_opens_it_too(
    start_registry: Callable[..., str], htpasswd: Path, tmp_path: Path, setting: str
) -> None:
    host = start_registry(htpasswd)
    value: object = "safe" if setting == "credsStore" else {host: "safe"}
    (tmp_path / "config.json").write_bytes(encoded({setting: value, "auths": {host: {}}}))
    answer = json.dumps({"ServerURL": host, "Username": "ci", "Secret": PASSWORD}, ensure_ascii=False)
    logins = helper(tmp_path, f"""[ "$1" = get ] && [ "$(cat)" = {host} ] && echo '{answer}'""")
    assert OciRegistry(logins).look_up(f"{host}/app", COMMIT) is None


# logins


def test_docker_hub_has_a_key_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(encoded({"credsStore": "safe"}))
    logins = helper(tmp_path, """read host; echo '{"Username": "'$host'", "Secret": "x"}'""")
    assert logins.at("docker.io") == Login("https://index.docker.io/v1/", Secret("x"))
    assert logins.at("ghcr.io") == Login("ghcr.io", Secret("x"))
    auth = base64.b64encode(b"me:token").decode()
    (tmp_path / "config.json").write_bytes(encoded({"auths": {"https://index.docker.io/v1/": {"auth": auth}}}))
    assert logins.at("docker.io") == Login("me", Secret("token"))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo cannot open the vault; exit 1", "docker-credential-safe failed for ghcr.io: cannot open the vault"),
        ("echo hunter2", "gave no readable login for ghcr.io"),
        ("""echo '{"Username": 1}'""", "gave no readable login for ghcr.io"),
    ],
)
def test_a_helper_that_fails_is_named(tmp_path: Path, script: str, words: str) -> None:
    (tmp_path / "config.json").write_bytes(encoded({"credsStore": "safe"}))
    with pytest.raises(RegistryDenied, match=words) as caught:
        helper(tmp_path, script).at("ghcr.io")
    assert "hunter2" not in str(caught.value)


def test_a_helper_that_is_not_installed_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(encoded({"credHelpers": {"ghcr.io": "gone"}}))
    with pytest.raises(RegistryDenied, match="docker-credential-gone"):
        Logins({"DOCKER_CONFIG": str(tmp_path), "PATH": os.environ["PATH"]}).at("ghcr.io")


def test_a_helper_that_knows_nothing_leaves_us_nobody(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(encoded({"credsStore": "safe"}))
    assert helper(tmp_path, "echo credentials not found in native keychain; exit 1").at("ghcr.io") is None


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "\xff", '{"auths": [1]}', '{"auths": []}', '{"credHelpers": ""}'),
        '{"auths": {"ghcr.io": {"auth": "%%%"}}}',
        '{"auths": {"ghcr.io": {"registrytoken": "hunter2\\n"}}}',
        '{"auths": {"ghcr.io": ["hunter2"]}}',
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigInvalid, match=r"config\.json") as caught:
        Logins({"DOCKER_CONFIG": str(tmp_path)}).at("ghcr.io")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "sent"),
    [
        ({"username": "ci", "password": "pw"}, "Basic Y2k6cHc="),
        ({"registrytoken": "let-me-in"}, "Bearer let-me-in"),
        ({"registrytoken": "let-me-in", "auth": "Y2k6cHc="}, "Bearer let-me-in"),
    ],
)
def test_every_kind_of_entry_in_docker_s_configuration_is_used(
    serve: Serve, tmp_path: Path, entry: dict[str, str], sent: str
) -> None:
    registry = serve()
    challenge = {"WWW-Authenticate": 'Basic realm="r"'}
    registry.answer = lambda request: (404, {}, b"") if request.authorization == sent else (401, challenge, b"")
    (tmp_path / "config.json").write_bytes(encoded({"auths": {registry.host: entry}}))
    assert OciRegistry(Logins({"DOCKER_CONFIG": str(tmp_path)})).look_up(f"{registry.host}/app", COMMIT) is None


@pytest.mark.parametrize(
    ("registry", "host"),
    [("registry.oud.kr", "registry.oud.kr"), ("ghcr.io/openeg", "ghcr.io"), ("127.0.0.1:5000", "127.0.0.1:5000")],
)
def test_the_given_login_is_for_one_host_alone(tmp_path: Path, registry: str, host: str) -> None:
    logins = for_registry(registry, "ci", Secret("x"), nobody(tmp_path).environ)
    assert logins.at(host) == Login("ci", Secret("x"))
    assert logins.at("docker.io") is None
    assert logins.at("registry.example") is None


@pytest.mark.parametrize(("username", "password"), [("ci", None), (None, Secret("x")), ("ci", Secret(""))])
def test_half_a_login_is_a_mistake(username: str | None, password: Secret | None) -> None:
    with pytest.raises(UsageError, match="only one of REGISTRY_USERNAME and REGISTRY_PASSWORD"):
        for_registry("registry.oud.kr", username, password, {})


# tokens


def guarded(registry: Scripted, tokens: Scripted, behind: Callable[[Request], Answer]) -> None:
    """Make `registry` ask for a token of `tokens` before it answers as `behind`."""
    challenge = f'Bearer realm="http://{tokens.host}/token",service="the registry",scope="repository:team/app:pull"'

    def answer(request: Request) -> Answer:
        if request.authorization != "Bearer let-me-in":
            return 401, {"WWW-Authenticate": challenge}, b""
        return behind(request)

    registry.answer = answer
    tokens.answer = lambda _: (200, {}, encoded({"token": "let-me-in"}))


def test_a_token_is_fetched_once_and_used_from_then_on(serve: Serve, tmp_path: Path) -> None:
    registry, tokens = serve(), serve("127.0.0.2")
    guarded(registry, tokens, stored(config(), tagged=manifest(config())))
    client = OciRegistry(owner(registry.host, tmp_path))
    for _ in range(2):
        assert client.look_up(f"{registry.host}/team/app", COMMIT) == Found(digest_of(manifest(config())), COMMIT)
    assert len(registry.asked) == 1 + 2 + 2
    (asked,) = tokens.asked
    assert parse_qs(urlsplit(asked.path).query) == {"service": ["the registry"], "scope": ["repository:team/app:pull"]}
    assert base64.b64decode(str(asked.authorization).removeprefix("Basic ")).decode() == f"ci:{PASSWORD}"


@pytest.mark.parametrize(
    ("access", "may"),
    [
        ([{"type": "repository", "name": "team/app", "actions": ["pull", "push"]}], True),
        ([{"type": "repository", "name": "team/app", "actions": ["*"]}], True),
        ([{"type": "repository", "name": "team/app", "actions": ["pull"]}], False),
        ([{"type": "repository", "name": "team/other", "actions": ["pull", "push"]}], False),
        ([], False),
        (None, None),
    ],
)
def test_whether_a_push_is_allowed_is_read_off_the_token(
    serve: Serve, tmp_path: Path, access: object, may: bool | None
) -> None:
    registry, tokens = serve(), serve("127.0.0.2")
    guarded(registry, tokens, stored(config(), tagged=manifest(config())))
    claims = base64.urlsafe_b64encode(json.dumps({"access": access}).encode()).decode().rstrip("=")
    token = "opaque" if access is None else f"e30.{claims}.c2ln"
    tokens.answer = lambda _: (200, {}, encoded({"token": token}))
    client = OciRegistry(owner(registry.host, tmp_path))
    assert client.may_push(f"{registry.host}/team/app") is may
    (asked,) = tokens.asked
    assert "scope=repository%3Ateam%2Fapp%3Apull%2Cpush" in asked.path
    assert {request.method for request in registry.asked} == {"GET"}


def test_an_anonymous_token_is_asked_for_without_a_login(serve: Serve, tmp_path: Path) -> None:
    registry, tokens = serve(), serve()
    guarded(registry, tokens, stored(config(), tagged=manifest(config())))
    assert OciRegistry(nobody(tmp_path)).look_up(f"{registry.host}/team/app", COMMIT)
    assert tokens.asked[0].authorization is None


def test_an_identity_token_goes_into_a_form(serve: Serve, tmp_path: Path) -> None:
    registry, tokens = serve(), serve()
    guarded(registry, tokens, stored(config(), tagged=manifest(config())))
    entry = {"auths": {registry.host: {"auth": "", "identitytoken": "long-lived"}}}
    (tmp_path / "config.json").write_bytes(encoded(entry))
    assert OciRegistry(Logins({"DOCKER_CONFIG": str(tmp_path)})).look_up(f"{registry.host}/team/app", COMMIT)
    form = parse_qs(tokens.asked[0].body.decode())
    assert tokens.asked[0].method == "POST"
    assert "long-lived" not in tokens.asked[0].path
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["long-lived"]


def test_a_token_that_has_run_out_is_renewed(serve: Serve, tmp_path: Path) -> None:
    registry, tokens = serve(), serve()
    guarded(registry, tokens, stored(config(), tagged=manifest(config())))
    client = OciRegistry(nobody(tmp_path))
    client.look_up(f"{registry.host}/team/app", COMMIT)
    guarded(registry, tokens, stored(config(), tagged=manifest(config())))
    still_behind = registry.answer
    registry.answer = lambda request: (
        still_behind(request) if len(tokens.asked) > 1 else still_behind(Request(request.method, request.path, {}, b""))
    )
    assert client.look_up(f"{registry.host}/team/app", COMMIT)
    assert len(tokens.asked) == 2


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((401, encoded({"errors": [{"code": "UNAUTHORIZED", "message": "bad"}]})), RegistryDenied, "UNAUTHORIZED: bad"),
        ((403, b"<html>"), RegistryDenied, "refused the login: HTTP 403"),
        ((503, b""), RegistryUnusable, "gave no token: HTTP 503"),
        ((200, b"{}"), RegistryUnusable, "gave no token"),
        ((200, b"[1]"), RegistryUnusable, "gave no token"),
        ((200, encoded({"token": "a\nb"})), RegistryUnusable, "gave no token: HTTP 200"),
        ((200, b'{"token": ' + b"[" * 100_000), RegistryUnusable, "gave no token"),
    ],
)
def test_a_token_server_that_gives_none_is_named(
    serve: Serve, tmp_path: Path, answer: tuple[int, bytes], error: type[PipelineError], words: str
) -> None:
    registry, tokens = serve(), serve()
    guarded(registry, tokens, stored(tagged=b""))
    tokens.answer = lambda _: (answer[0], {}, answer[1])
    client = OciRegistry(owner(registry.host, tmp_path), sleep=lambda _: None)
    with pytest.raises(error, match=words) as caught:
        client.look_up(f"{registry.host}/team/app", COMMIT)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        ("Negotiate", "unknown way to log in: 'Negotiate'"),
        ("", "answers 401 and names no way to log in"),
        ('Bearer realm="http://tokens.example/token"', "only https is safe"),
        ('Bearer realm="ftp://127.0.0.1/token"', "only https is safe"),
        ('Bearer realm="http://["', "is not an address"),
        ("Bearer", "asks for a token, and does not say where"),
    ],
)
def test_a_challenge_that_cannot_be_met_safely_is_refused(
    serve: Serve, tmp_path: Path, challenge: str, words: str
) -> None:
    registry = serve()
    registry.answer = lambda _: (401, {"WWW-Authenticate": challenge}, b"")
    with pytest.raises((RegistryDenied, RegistryUnusable), match=words):
        OciRegistry(owner(registry.host, tmp_path)).look_up(f"{registry.host}/app", COMMIT)


@pytest.mark.parametrize("challenge", ['Basic realm="a, b"', "Basic", "Negotiate, Basic", 'basic,Digest realm="x"'])
def test_basic_is_found_alone_and_beside_unknown_schemes(serve: Serve, tmp_path: Path, challenge: str) -> None:
    registry = serve()
    registry.answer = lambda request: (
        (404, {}, b"") if request.authorization else (401, {"WWW-Authenticate": challenge}, b"")
    )
    with pytest.raises(RegistryDenied, match="asks for a user and password, and none is known"):
        OciRegistry(nobody(tmp_path)).look_up(f"{registry.host}/app", COMMIT)
    assert OciRegistry(owner(registry.host, tmp_path)).look_up(f"{registry.host}/app", COMMIT) is None


# where secrets must not go


def test_one_registry_s_login_never_reaches_another(serve: Serve, tmp_path: Path) -> None:
    home, other = serve(), serve()
    other.answer = lambda _: (401, {"WWW-Authenticate": f'Basic realm="http://{home.host}"'}, b"")
    with pytest.raises(RegistryDenied):
        OciRegistry(owner(home.host, tmp_path)).look_up(f"{other.host}/app", COMMIT)
    assert [request.authorization for request in other.asked] == [None]


def test_a_redirected_blob_is_fetched_without_our_authorization(serve: Serve, tmp_path: Path) -> None:
    registry, storage = serve(), serve("127.0.0.2")
    storage.answer = lambda _: (200, {}, config())
    plain = stored(tagged=manifest(config()))

    def answer(request: Request) -> Answer:
        if request.authorization is None:
            return 401, {"WWW-Authenticate": 'Basic realm="r"'}, b""
        if "/blobs/" in request.path:
            return 307, {"Location": f"http://{storage.host}/bucket?signature=s"}, b""
        return plain(request)

    registry.answer = answer
    found = OciRegistry(owner(registry.host, tmp_path)).look_up(f"{registry.host}/app", COMMIT)
    assert found == Found(digest_of(manifest(config())), COMMIT)
    assert [request.authorization for request in storage.asked] == [None]


def test_a_redirect_to_plain_http_elsewhere_is_not_followed(serve: Serve, tmp_path: Path) -> None:
    registry = serve()
    registry.answer = lambda _: (307, {"Location": "http://storage.example/x?signature=s"}, b"")
    with pytest.raises(RegistryUnusable, match=r"http://storage\.example/x: not asked"):
        OciRegistry(nobody(tmp_path)).look_up(f"{registry.host}/app", COMMIT)


# servers that misbehave


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {}, b"<html>"), "not an image's"),
        ((200, {}, b"[]"), "not an image's"),
        ((200, {}, b'{"schemaVersion": 1, "fsLayers": []}'), "not an image's"),
        ((200, {}, b'{"manifests": []}'), "an index without images"),
        ((200, {}, b'{"manifests": [null]}'), "not an image's"),
        ((200, {"Docker-Content-Digest": "sha256:" + "0" * 64}, b"{}"), "does not match its digest"),
        ((200, {}, manifest(config())), "damaged"),
        ((302, {}, b""), "HTTP 302"),
        ((302, {"Location": "http://["}, b""), "is not an address"),
        ((400, {}, encoded({"errors": [{"code": "NAME_INVALID", "message": "no"}]})), "400 NAME_INVALID: no"),
        ((418, {}, encoded({"errors": []})), "HTTP 418"),
        ((503, {}, b""), "HTTP 503"),
    ],
)
def test_an_answer_that_is_no_registry_s_is_an_error_of_its_own(
    serve: Serve, tmp_path: Path, answer: Answer, words: str
) -> None:
    registry = serve()
    registry.answer = lambda _: answer
    with pytest.raises(RegistryUnusable, match=words):
        OciRegistry(nobody(tmp_path), sleep=lambda _: None).look_up(f"{registry.host}/app", COMMIT)


def test_a_manifest_whose_parts_are_gone_is_an_error(serve: Serve, tmp_path: Path) -> None:
    registry = serve()
    registry.answer = stored(tagged=manifest(config()))
    with pytest.raises(RegistryUnusable, match="the registry lost sha256:"):
        OciRegistry(nobody(tmp_path)).look_up(f"{registry.host}/app", COMMIT)


@pytest.mark.parametrize(
    ("trouble", "pauses"),
    [
        ((429, {"Retry-After": "2"}, b""), [2.0, 2.0]),
        ((429, {"Retry-After": "3600"}, b""), [10.0, 10.0]),
        ((503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b""), None),
        ((500, {}, b""), None),
        ((0, {}, b""), None),
    ],
)
def test_a_busy_server_is_asked_again(
    serve: Serve, tmp_path: Path, trouble: Answer, pauses: list[float] | None
) -> None:
    registry, slept = serve(), list[float]()
    plain = stored(config(), tagged=manifest(config()))
    registry.answer = lambda request: trouble if len(registry.asked) <= 2 else plain(request)
    assert OciRegistry(nobody(tmp_path), sleep=slept.append).look_up(f"{registry.host}/app", COMMIT)
    assert slept == pauses if pauses else 0 < sum(slept) < 5


def test_an_unreachable_registry_is_named(tmp_path: Path) -> None:
    with scripted("127.0.0.1") as gone:
        pass
    with pytest.raises(Unreachable, match=f"registry {gone.host}: .*refused"):
        OciRegistry(nobody(tmp_path)).look_up(f"{gone.host}/app", COMMIT)


@pytest.mark.parametrize("host", ["registry.invalid", "[:::]", "registry.invalid:99999"])
def test_an_address_that_leads_nowhere_is_named(tmp_path: Path, host: str) -> None:
    with pytest.raises(Unreachable, match=re.escape(host)):
        OciRegistry(nobody(tmp_path)).look_up(f"{host}/app", COMMIT)
