"""The registry of the sandbox, by the rules of the OCI distribution specification and with real clients."""

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.test import Client, TestResponse

from pipeline.sandbox.registry import Registry
from pipeline.sandbox.server import Server

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = b'{"architecture": "amd64", "os": "linux"}'


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(Registry(tmp_path / "registry"))


def upload(client: Client, data: bytes, name: str = "acme/web") -> str:
    """Push a blob in one request; returns its digest."""
    digest = digest_of(data)
    assert client.post(f"/v2/{name}/blobs/uploads/?digest={digest}", data=data).status_code == 201
    return digest


def manifest_of(*layers: bytes) -> bytes:
    described = [{"digest": digest_of(layer), "size": len(layer)} for layer in layers]
    config = {"digest": digest_of(CONFIG), "size": len(CONFIG)}
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described}).encode()


def put(client: Client, reference: str, data: bytes, kind: str = MANIFEST, name: str = "acme/web") -> TestResponse:
    return client.put(f"/v2/{name}/manifests/{reference}", data=data, content_type=kind)


def code_of(response: TestResponse) -> str:
    """The specification's code of an error."""
    return str(json.loads(response.data)["errors"][0]["code"])


def push(client: Client, tag: str) -> str:
    """Push an image without layers; returns its digest."""
    upload(client, CONFIG)
    response = put(client, tag, manifest_of())
    assert response.status_code == 201
    return response.headers["Docker-Content-Digest"]


def test_a_blob_comes_in_chunks_and_goes_out_whole_or_in_part(client: Client) -> None:
    data = b"0123456789"
    place = client.post("/v2/acme/web/blobs/uploads/").headers["Location"]
    first = client.patch(place, data=data[:4], headers={"Content-Range": "0-3"})
    assert (first.status_code, first.headers["Range"]) == (202, "0-3")
    gap = client.patch(place, data=data[6:], headers={"Content-Range": "6-9"})
    assert (gap.status_code, code_of(gap)) == (416, "BLOB_UPLOAD_INVALID")
    assert client.get(place).headers["Range"] == "0-3"
    done = client.put(f"{place}?digest={digest_of(data)}", data=data[4:])
    assert (done.status_code, done.headers["Docker-Content-Digest"]) == (201, digest_of(data))
    blob = client.get(done.headers["Location"])
    assert (blob.data, blob.headers["Docker-Content-Digest"]) == (data, digest_of(data))
    head = client.head(done.headers["Location"])
    assert (head.status_code, head.headers["Content-Length"], head.data) == (200, "10", b"")
    part = client.get(done.headers["Location"], headers={"Range": "bytes=2-3"})
    assert (part.status_code, part.data) == (206, b"23")


def test_a_blob_is_mounted_where_it_is_there_and_uploaded_where_not(client: Client) -> None:
    digest = upload(client, b"data")
    assert client.post(f"/v2/acme/other/blobs/uploads/?mount={digest}&from=acme/web").status_code == 201
    missing = client.post(f"/v2/acme/other/blobs/uploads/?mount={digest_of(b'other')}&from=acme/web")
    assert missing.status_code == 202
    assert client.delete(missing.headers["Location"]).status_code == 204
    assert client.get(missing.headers["Location"]).status_code == 404


def test_content_that_is_not_what_its_digest_says_is_refused(client: Client) -> None:
    response = client.post(f"/v2/acme/web/blobs/uploads/?digest={digest_of(b'one')}", data=b"two")
    assert (response.status_code, code_of(response)) == (400, "DIGEST_INVALID")
    assert client.head(f"/v2/acme/web/blobs/{digest_of(b'two')}").status_code == 404


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_manifest_is_had_by_tag_and_by_digest(client: Client, by: str) -> None:
    digest = push(client, "v1")
    response = client.get(f"/v2/acme/web/manifests/{'v1' if by == 'tag' else digest}")
    assert response.data == manifest_of()
    assert response.headers["Content-Type"] == MANIFEST
    assert response.headers["Docker-Content-Digest"] == digest
    assert response.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    head = client.head(response.request.path)
    assert head.headers["Content-Length"] == str(len(manifest_of()))


def test_an_index_needs_its_manifests(client: Client) -> None:
    digest = digest_of(manifest_of())
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": digest}]}).encode()
    refused = put(client, "v1", index, INDEX)
    assert (refused.status_code, code_of(refused)) == (400, "MANIFEST_BLOB_UNKNOWN")
    upload(client, CONFIG)
    assert put(client, digest, manifest_of()).status_code == 201
    assert put(client, "v1", index, INDEX).status_code == 201
    assert client.get("/v2/acme/web/manifests/v1").headers["Content-Type"] == INDEX


def test_a_tag_moves_and_the_old_manifest_stays(client: Client) -> None:
    old = push(client, "v1")
    upload(client, b"layer")
    new = put(client, "v1", manifest_of(b"layer")).headers["Docker-Content-Digest"]
    assert client.get("/v2/acme/web/manifests/v1").headers["Docker-Content-Digest"] == new != old
    assert client.get(f"/v2/acme/web/manifests/{old}").status_code == 200


def test_tags_are_listed_in_pages(client: Client) -> None:
    for tag in ("b", "a", "c"):
        push(client, tag)
    assert client.get("/v2/acme/web/tags/list").json == {"name": "acme/web", "tags": ["a", "b", "c"]}
    page = client.get("/v2/acme/web/tags/list?n=2")
    assert page.json == {"name": "acme/web", "tags": ["a", "b"]}
    assert client.get(page.headers["Link"].partition(">")[0].removeprefix("<")).json == {
        "name": "acme/web",
        "tags": ["c"],
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/acme/web/manifests/none", 404, "MANIFEST_UNKNOWN"),
        ("GET", f"/v2/acme/web/manifests/{digest_of(b'')}", 404, "MANIFEST_UNKNOWN"),
        ("GET", f"/v2/acme/web/blobs/{digest_of(b'')}", 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/acme/web/blobs/..%2f..%2fetc%2fpasswd", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/acme/web/manifests/..", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/acme/none/tags/list", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/Acme/web/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/../web/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/acme/web/unheard/of", 404, "NAME_UNKNOWN"),
        ("DELETE", "/v2/acme/web/manifests/v1", 405, "UNSUPPORTED"),
        ("PATCH", "/v2/acme/web/blobs/uploads/00000000-0000-0000-0000-000000000000", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", "/v2/acme/web/manifests/bad!tag", 400, "TAG_INVALID"),
        ("PUT", f"/v2/acme/web/manifests/{digest_of(b'')}", 400, "DIGEST_INVALID"),
    ],
)
def test_an_error_has_the_code_of_the_specification(
    client: Client, method: str, path: str, status: int, code: str
) -> None:
    response = client.open(path, method=method, data=b"{}" if method == "PUT" else None)
    assert (response.status_code, code_of(response)) == (status, code)


@pytest.mark.parametrize("data", [b"", b"no json", b"[]", b'{"schemaVersion": 1}'])
def test_what_is_no_manifest_is_refused(client: Client, data: bytes) -> None:
    assert code_of(put(client, "v1", data)) == "MANIFEST_INVALID"


def test_what_was_pushed_is_there_after_a_restart(tmp_path: Path) -> None:
    push(Client(Registry(tmp_path)), "v1")
    assert Registry(tmp_path).has("acme/web", "v1")
    assert Registry(tmp_path).has_image("127.0.0.1:5000/acme/web:v1")
    assert not Registry(tmp_path).has_image("127.0.0.1:5000/acme/web:v2")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    server = Server(Registry(tmp_path / "registry"))
    yield f"127.0.0.1:{server.port}"
    server.close()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.docker
def test_a_real_engine_pushes_and_pulls(served: str, tmp_path: Path) -> None:
    image = f"{served}/acme/web:v1"
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    with tarfile.open(tmp_path / "layer.tar", "w") as tar:
        tar.add(tmp_path / "file", "file")
    try:
        made = run("docker", "import", str(tmp_path / "layer.tar"), image)
        assert "digest: sha256:" in run("docker", "push", image)
        run("docker", "rmi", "--force", made)
        run("docker", "pull", image)
        assert run("docker", "image", "inspect", "--format", "{{.Id}}", image) == made
    finally:
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True)


def test_crane_copies(served: str, tmp_path: Path) -> None:
    crane = shutil.which("crane")
    if crane is None:
        pytest.skip("crane is not installed")
    (tmp_path / "file").write_text("hello")
    with tarfile.open(tmp_path / "layer.tar", "w") as tar:
        tar.add(tmp_path / "file", "file")
    run(crane, "append", "--new_layer", str(tmp_path / "layer.tar"), "--new_tag", f"{served}/acme/web:v1")
    run(crane, "copy", f"{served}/acme/web:v1", f"{served}/acme/copy:v2")
    assert run(crane, "ls", f"{served}/acme/copy") == "v2"
    assert run(crane, "digest", f"{served}/acme/copy:v2") == run(crane, "digest", f"{served}/acme/web:v1")
