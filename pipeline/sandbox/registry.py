"""A container registry by the OCI distribution specification 1.1, as a WSGI application that keeps files in a folder.

Enough for `docker push` and `pull`, crane, and our own client: blobs (monolithic, chunked and mounted uploads),
manifests, indexes and tag lists. Deleting is refused (405), which the specification allows.
Blobs belong to the whole registry, not to a repository. There is no authentication: it serves loopback only.
"""

import hashlib
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.utils import send_file
from werkzeug.wrappers import Request, Response

from pipeline.core.image import split_reference, split_registry

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PIECE = 1 << 20
_LARGEST_MANIFEST = 4 << 20
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")

_ROUTES: tuple[tuple[str, str, str], ...] = (
    ("GET", "/v2/", "version"),
    ("POST", "/v2/<path:name>/blobs/uploads/", "start_upload"),
    ("GET", "/v2/<path:name>/blobs/uploads/<uuid:upload>", "show_upload"),
    ("PATCH", "/v2/<path:name>/blobs/uploads/<uuid:upload>", "continue_upload"),
    ("PUT", "/v2/<path:name>/blobs/uploads/<uuid:upload>", "finish_upload"),
    ("DELETE", "/v2/<path:name>/blobs/uploads/<uuid:upload>", "cancel_upload"),
    ("GET", "/v2/<path:name>/blobs/<digest>", "get_blob"),
    ("GET", "/v2/<path:name>/manifests/<reference>", "get_manifest"),
    ("PUT", "/v2/<path:name>/manifests/<reference>", "put_manifest"),
    ("GET", "/v2/<path:name>/tags/list", "list_tags"),
)


class Refused(Exception):
    """An error of the specification: HTTP status, code and message."""

    def __init__(self, http: int, code: str, message: str) -> None:
        super().__init__(message)
        self.http = http
        self.code = code


class Registry:
    """The WSGI application."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made where it is missing; what an earlier registry kept there is served again."""
        self._blobs = folder / "blobs"
        self._uploads = folder / "uploads"
        self._repositories = folder / "repositories"
        for place in (self._blobs, self._uploads, self._repositories):
            place.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._routes = Map(
            [Rule(path, endpoint=endpoint, methods=[method]) for method, path, endpoint in _ROUTES],
            merge_slashes=False,
            strict_slashes=False,
        )

    def has(self, path: str, reference: str) -> bool:
        """Whether the repository at `path` has a manifest of that tag or digest."""
        if not _NAME.fullmatch(path):
            return False
        return self._manifest_digest(path, reference) is not None

    def has_image(self, image: str) -> bool:
        """Whether the image `host/path:tag` or `host/path@digest` is here; the host is not looked at."""
        repository, tag, digest = split_reference(image)
        return self.has(split_registry(repository)[1], digest or tag or "latest")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = self._answer(Request(environ), environ)
        response.headers["Docker-Distribution-API-Version"] = "registry/2.0"
        return response(environ, start_response)

    def _answer(self, request: Request, environ: WSGIEnvironment) -> Response:
        try:
            endpoint, arguments = self._routes.bind_to_environ(environ).match()
            return self._handle(request, endpoint, arguments)
        except Refused as error:
            return _errors(error.http, error.code, str(error))
        except MethodNotAllowed:
            return _errors(405, "UNSUPPORTED", "the operation is unsupported")
        except NotFound:
            return _errors(404, "NAME_UNKNOWN", "no such address")
        except HTTPException as error:
            return _errors(error.code or 500, "UNSUPPORTED", error.name)

    def _handle(self, request: Request, endpoint: str, arguments: Mapping[str, Any]) -> Response:
        if not _NAME.fullmatch(arguments.get("name", "any")):
            raise Refused(400, "NAME_INVALID", f"{arguments['name']}: invalid repository name")
        handler: Callable[..., Response] = getattr(self, f"_{endpoint}")
        return handler(request, **arguments)

    def _version(self, _: Request) -> Response:
        return Response("{}", mimetype="application/json")

    # Blobs

    def _start_upload(self, request: Request, name: str) -> Response:
        mount = request.args.get("mount", "")
        if mount and self._blob(mount) is not None:
            return self._created(name, "blobs", mount)
        upload = uuid.uuid4()
        (self._uploads / str(upload)).touch()
        if digest := request.args.get("digest"):
            self._receive(request, upload)
            return self._store(name, upload, digest)
        return self._progress(name, upload, 202)

    def _show_upload(self, _: Request, name: str, upload: uuid.UUID) -> Response:
        self._upload(upload)
        return self._progress(name, upload, 204)

    def _continue_upload(self, request: Request, name: str, upload: uuid.UUID) -> Response:
        self._receive(request, upload)
        return self._progress(name, upload, 202)

    def _finish_upload(self, request: Request, name: str, upload: uuid.UUID) -> Response:
        digest = request.args.get("digest", "")
        if not _DIGEST.fullmatch(digest):
            raise Refused(400, "DIGEST_INVALID", f"{digest!r} is no sha256 digest")
        self._receive(request, upload)
        return self._store(name, upload, digest)

    def _cancel_upload(self, _: Request, name: str, upload: uuid.UUID) -> Response:  # noqa: ARG002
        self._upload(upload).unlink()
        return Response(status=204)

    def _upload(self, upload: uuid.UUID) -> Path:
        path = self._uploads / str(upload)
        if not path.exists():
            raise Refused(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        return path

    def _receive(self, request: Request, upload: uuid.UUID) -> None:
        """Append the body to an upload. A chunk that does not begin where the last one ended is refused."""
        path = self._upload(upload)
        start = request.headers.get("Content-Range", "").partition("-")[0]
        if start and start != str(path.stat().st_size):
            raise Refused(416, "BLOB_UPLOAD_INVALID", f"the next chunk must begin at {path.stat().st_size}")
        with path.open("ab") as file:
            while piece := request.stream.read(_PIECE):
                file.write(piece)

    def _store(self, name: str, upload: uuid.UUID, digest: str) -> Response:
        path = self._upload(upload)
        with path.open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != digest:
            path.unlink()
            raise Refused(400, "DIGEST_INVALID", f"the content's digest is {found}, not {digest}")
        path.replace(self._blob_path(digest))
        return self._created(name, "blobs", digest)

    def _progress(self, name: str, upload: uuid.UUID, status: int) -> Response:
        size = self._upload(upload).stat().st_size
        headers = {
            "Location": f"/v2/{name}/blobs/uploads/{upload}",
            "Range": f"0-{max(0, size - 1)}",
            "Docker-Upload-UUID": str(upload),
        }
        return Response(status=status, headers=headers)

    def _created(self, name: str, what: str, digest: str, reference: str | None = None) -> Response:
        location = f"/v2/{name}/{what}/{reference or digest}"
        return Response(status=201, headers={"Location": location, "Docker-Content-Digest": digest})

    def _blob_path(self, digest: str) -> Path:
        return self._blobs / digest.replace(":", "-")

    def _blob(self, digest: str) -> Path | None:
        path = self._blob_path(digest)
        return path if _DIGEST.fullmatch(digest) and path.exists() else None

    def _get_blob(self, request: Request, name: str, digest: str) -> Response:
        path = self._blob(digest)
        if path is None:
            raise Refused(404, "BLOB_UNKNOWN", f"{name}: blob {digest} unknown to registry")
        response = send_file(path, request.environ, "application/octet-stream", etag=digest, conditional=True)
        response.headers["Docker-Content-Digest"] = digest
        return response

    # Manifests and tags

    def _manifest_digest(self, name: str, reference: str) -> str | None:
        """The digest that a tag or digest stands for in a repository."""
        kind = "manifests" if ":" in reference else "tags"
        path = self._repositories / quote(name, safe="") / kind / reference.replace(":", "-")
        if not (_DIGEST.fullmatch(reference) or _TAG.fullmatch(reference)) or not path.exists():
            return None
        return path.read_text() if kind == "tags" else reference

    def _get_manifest(self, _: Request, name: str, reference: str) -> Response:
        digest = self._manifest_digest(name, reference)
        if digest is None:
            raise Refused(404, "MANIFEST_UNKNOWN", f"{name}:{reference}: manifest unknown")
        media_type = (self._repositories / quote(name, safe="") / "manifests" / digest.replace(":", "-")).read_text()
        data = self._blob_path(digest).read_bytes()
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"', "Content-Type": media_type}
        return Response(data, headers=headers)

    def _put_manifest(self, request: Request, name: str, reference: str) -> Response:
        data = request.stream.read(_LARGEST_MANIFEST + 1)
        if len(data) > _LARGEST_MANIFEST:
            raise Refused(413, "SIZE_INVALID", "a manifest has at most 4 MiB")
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if ":" in reference and reference != digest:
            raise Refused(400, "DIGEST_INVALID", f"the content's digest is {digest}, not {reference}")
        if ":" not in reference and not _TAG.fullmatch(reference):
            raise Refused(400, "TAG_INVALID", f"{reference}: not a tag")
        media_type = self._check_manifest(name, request.mimetype, data)
        _write(self._blob_path(digest), data)
        _write(self._repositories / quote(name, safe="") / "manifests" / digest.replace(":", "-"), media_type.encode())
        if ":" not in reference:
            _write(self._repositories / quote(name, safe="") / "tags" / reference, digest.encode())
        return self._created(name, "manifests", digest, reference)

    def _check_manifest(self, name: str, declared: str, data: bytes) -> str:
        """Its media type, once all that a manifest or index refers to is known to be here."""
        try:
            manifest: Any = json.loads(data)
        except ValueError as error:
            raise Refused(400, "MANIFEST_INVALID", f"not JSON: {error}") from error
        if not isinstance(manifest, dict) or manifest.get("schemaVersion") != 2:
            raise Refused(400, "MANIFEST_INVALID", "schemaVersion must be 2")
        media_type = str(manifest.get("mediaType") or declared)
        if declared and media_type != declared:
            raise Refused(400, "MANIFEST_INVALID", f"mediaType is {media_type}, but Content-Type {declared}")
        if media_type in _INDEXES:
            wanted = [item.get("digest", "") for item in manifest.get("manifests", [])]
            missing = [digest for digest in wanted if self._manifest_digest(name, digest) is None]
        else:
            blobs = [manifest.get("config") or {}, *manifest.get("layers", [])]
            missing = [item.get("digest", "") for item in blobs if not item.get("urls")]
            missing = [digest for digest in missing if self._blob(digest) is None]
        if missing:
            raise Refused(400, "MANIFEST_BLOB_UNKNOWN", f"unknown to registry: {', '.join(missing)}")
        return media_type

    def _list_tags(self, request: Request, name: str) -> Response:
        folder = self._repositories / quote(name, safe="")
        if not folder.exists():
            raise Refused(404, "NAME_UNKNOWN", f"{name}: repository name not known to registry")
        last, count = request.args.get("last", ""), request.args.get("n", type=int)
        tags = sorted(path.name for path in (folder / "tags").glob("*") if path.name > last)
        response = Response(mimetype="application/json")
        if count is not None and len(tags) > count >= 0:
            tags = tags[:count]
            if tags:
                response.headers["Link"] = f'</v2/{name}/tags/list?n={count}&last={tags[-1]}>; rel="next"'
        response.data = json.dumps({"name": name, "tags": tags}).encode()
        return response


def _write(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4()}")
    draft.write_bytes(data)
    draft.replace(path)


def _errors(http: int, code: str, message: str) -> Response:
    body = {"errors": [{"code": code, "message": message, "detail": None}]}
    return Response(json.dumps(body), http, mimetype="application/json")
