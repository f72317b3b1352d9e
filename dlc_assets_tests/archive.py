"""An archive of our own on loopback: it answers what dandi's client asks while it uploads, checks digests, and fails on demand.

It stands in for the DANDI archive where there is none: the same requests, in the same order, with the same statuses.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dandischema.consts import DANDI_SCHEMA_VERSION
from dandischema.digests.dandietag import PartGenerator

KEY = "0123456789abcdef0123456789abcdef01234567"
DANDISET = "000123"


@dataclass
class Fault:
    """What goes wrong with a request: *status* is answered, or the connection is cut (`cut`), or the digest is wrong (`wrong_etag`)."""

    method: str
    path: str
    status: int = 0
    cut: bool = False
    wrong_etag: bool = False
    times: int = 1
    text: str = "as demanded"


@dataclass
class _Upload:
    etag: str
    size: int
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Asset:
    """An asset of the dandiset."""

    asset_id: str
    path: str
    blob: str
    metadata: dict[str, Any]


class StandInArchive:
    """The archive's state, and what it was asked."""

    def __init__(self) -> None:
        self.key = KEY
        self.may_write = True
        self.blobs: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.assets: dict[str, Asset] = {}
        self.uploads: dict[str, _Upload] = {}
        self.requests: list[tuple[str, str]] = []
        self.keys_at_storage = 0
        self.faults: list[Fault] = []
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.lock = threading.Lock()
        self.url = ""

    def fail(self, method: str, path: str, **how: Any) -> None:
        """Let the next requests of *method* whose path matches the expression *path* fail as `Fault` says."""
        self.faults.append(Fault(method, path, **how))

    @property
    def writes(self) -> list[tuple[str, str]]:
        """What was asked that is not reading."""
        return [(method, path) for method, path in self.requests if method != "GET"]

    def content(self, path: str) -> bytes:
        """Return the bytes of the asset at *path*."""
        return self.blobs[self._at(path).blob]

    def _at(self, path: str) -> Asset:
        (asset,) = (asset for asset in self.assets.values() if asset.path == path)
        return asset

    @property
    def paths(self) -> list[str]:
        """The paths of the dandiset's assets, sorted."""
        return sorted(asset.path for asset in self.assets.values())

    def put(self, path: str, content: bytes) -> None:
        """Put a file into the dandiset as if somebody else had uploaded it."""
        blob = str(uuid.uuid4())
        self.blobs[blob] = content
        self.etags[blob] = _etag([content])
        metadata = {"path": path, "digest": {"dandi:dandi-etag": self.etags[blob]}}
        asset = Asset(str(uuid.uuid4()), path, blob, metadata)
        self.assets[asset.asset_id] = asset


def _etag(parts: list[bytes]) -> str:
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    return f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"


@contextmanager
def stand_in_archive() -> Iterator[StandInArchive]:
    """Serve an archive with an empty dandiset until the end of the context."""
    archive = StandInArchive()

    class Handler(_Handler):
        state = archive

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # clients that hang up are part of the tests
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_NOW = datetime(2026, 5, 1, tzinfo=UTC).isoformat()
_DATED = {"created": _NOW, "modified": _NOW}


class _Handler(BaseHTTPRequestHandler):
    state: StandInArchive
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        archive, url = self.state, urlsplit(self.path)
        path = unquote(url.path)
        fault = self._fault(path)
        if fault is not None and fault.cut:
            self._cut()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        archive.before(self.command, path)
        with archive.lock:
            archive.requests.append((self.command, path))
            if fault is not None and fault.status:
                self._answer(fault.status, {"detail": fault.text})
                return
            for method, pattern, answer, protected in _ROUTES:
                found = re.fullmatch(pattern, path)
                if method == self.command and found is not None:
                    if protected and self.headers.get("Authorization") != f"token {archive.key}":
                        self._answer(401, {"detail": "Invalid token."})
                        return
                    if protected and method != "GET" and not archive.may_write:
                        self._answer(403, {"detail": "You do not have permission to perform this action."})
                        return
                    query = {name: values[0] for name, values in parse_qs(url.query).items()}
                    self._etag_off = fault is not None and fault.wrong_etag
                    answer(self, *found.groups(), query=query, body=body)
                    return
            self._answer(404, {"detail": "Not found."})

    do_GET = do_POST = do_PUT = do_DELETE = _handle

    def _fault(self, path: str) -> Fault | None:
        with self.state.lock:
            for fault in self.state.faults:
                if fault.times and fault.method == self.command and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def _cut(self) -> None:
        """Read a part of what is sent, and hang up."""
        self.rfile.read(min(1000, int(self.headers.get("Content-Length") or 0)))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def _answer(self, status: int, obj: Any, *, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(obj).encode(), "application/json", headers)

    def _send(self, status: int, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def info(self, **_: Any) -> None:
        url = self.state.url
        self._answer(
            200,
            {
                "schema_version": DANDI_SCHEMA_VERSION,
                "version": "0.0",
                "services": {"api": {"url": f"{url}/api"}, "webui": {"url": url}},
                "cli-minimal-version": "0.60.0",
                "cli-bad-versions": [],
            },
        )

    def token(self, **_: Any) -> None:
        self._answer(200, {"token": self.state.key})

    def dandiset(self, **_: Any) -> None:
        draft = {"version": "draft", "name": "test", "asset_count": 0, "size": 0, "status": "Valid", **_DATED}
        self._answer(
            200,
            {
                "identifier": DANDISET,
                "contact_person": "Doe, Jane",
                "embargo_status": "OPEN",
                "draft_version": draft,
                **_DATED,
            },
        )

    def listed(self, *, query: dict[str, str], **_: Any) -> None:
        found = [asset for asset in self.state.assets.values() if asset.path.startswith(query.get("path", ""))]
        self._answer(200, {"count": len(found), "next": None, "results": [self._described(asset) for asset in found]})

    def _described(self, asset: Asset) -> dict[str, Any]:
        size = len(self.state.blobs[asset.blob])
        return {
            "asset_id": asset.asset_id,
            "blob": asset.blob,
            "zarr": None,
            "path": asset.path,
            "size": size,
            **_DATED,
        }

    def metadata(self, asset_id: str, **_: Any) -> None:
        self._answer(200, self.state.assets[asset_id].metadata)

    def initialize(self, *, body: bytes, **_: Any) -> None:
        asked = json.loads(body)
        etag, size = asked["digest"]["value"], asked["contentSize"]
        assert asked["dandiset"] == DANDISET
        for blob, known in self.state.etags.items():
            if known == etag:
                self._answer(409, {"detail": "Blob already exists."}, headers={"Location": blob})
                return
        upload = str(uuid.uuid4())
        self.state.uploads[upload] = _Upload(etag, size)
        parts = [
            {
                "part_number": part.number,
                "size": part.size,
                "upload_url": f"{self.state.url}/storage/{upload}/{part.number}?X-Amz-Signature=secret",
            }
            for part in PartGenerator.for_file_size(size)
        ]
        self._answer(200, {"upload_id": upload, "parts": parts})

    def store_part(self, upload: str, number: str, *, body: bytes, **_: Any) -> None:
        self.state.keys_at_storage += "Authorization" in self.headers
        self.state.uploads[upload].parts[int(number)] = body
        etag = hashlib.md5(body + (b"!" if self._etag_off else b"")).hexdigest()
        self._send(200, b"", "text/plain", {"ETag": f'"{etag}"'})

    def complete(self, upload: str, *, body: bytes, **_: Any) -> None:
        stated = {part["part_number"]: part["etag"] for part in json.loads(body)["parts"]}
        parts = self.state.uploads[upload].parts
        assert stated == {number: hashlib.md5(part).hexdigest() for number, part in parts.items()}
        self._answer(
            200, {"complete_url": f"{self.state.url}/storage/{upload}/complete?X-Amz-Signature=secret", "body": "<x/>"}
        )

    def complete_storage(self, upload: str, **_: Any) -> None:
        parts = self.state.uploads[upload].parts
        etag = "0" * 32 + "-1" if self._etag_off else _etag([parts[number] for number in sorted(parts)])
        answer = f'<CompleteMultipartUploadResult xmlns="x"><ETag>"{etag}"</ETag></CompleteMultipartUploadResult>'
        self._send(200, answer.encode(), "application/xml")

    def validate(self, upload: str, **_: Any) -> None:
        asked = self.state.uploads[upload]
        parts = [asked.parts[number] for number in sorted(asked.parts)]
        content = b"".join(parts)
        if len(content) != asked.size or _etag(parts) != asked.etag:
            self._answer(400, {"detail": "The digest does not match."})
            return
        blob = str(uuid.uuid4())
        self.state.blobs[blob], self.state.etags[blob] = content, asked.etag
        del self.state.uploads[upload]
        self._answer(200, {"blob_id": blob, "etag": asked.etag, "size": asked.size})

    def create(self, *, body: bytes, **_: Any) -> None:
        self._add(json.loads(body))

    def replace(self, asset_id: str, *, body: bytes, **_: Any) -> None:
        del self.state.assets[asset_id]
        self._add(json.loads(body))

    def _add(self, asked: dict[str, Any]) -> None:
        metadata, blob = asked["metadata"], asked["blob_id"]
        if metadata["digest"]["dandi:dandi-etag"] != self.state.etags[blob]:
            self._answer(400, {"detail": "The metadata state another digest."})
            return
        if any(asset.path == metadata["path"] for asset in self.state.assets.values()):
            self._answer(409, {"detail": "An asset with that path already exists."})
            return
        asset = Asset(str(uuid.uuid4()), metadata["path"], blob, metadata)
        self.state.assets[asset.asset_id] = asset
        self._answer(200, {**self._described(asset), "metadata": metadata})


_DRAFT = rf"/api/dandisets/{DANDISET}/versions/draft/assets/"
# Method, path, what answers it, whether the key is asked for.
_ROUTES: list[tuple[str, str, Callable[..., None], bool]] = [
    ("GET", r"/api/info/", _Handler.info, False),
    ("GET", r"/api/auth/token", _Handler.token, True),
    ("GET", rf"/api/dandisets/{DANDISET}/", _Handler.dandiset, True),
    ("GET", _DRAFT, _Handler.listed, True),
    ("GET", _DRAFT + r"([0-9a-f-]+)/", _Handler.metadata, True),
    ("POST", r"/api/uploads/initialize/", _Handler.initialize, True),
    ("PUT", r"/storage/([0-9a-f-]+)/(\d+)", _Handler.store_part, False),
    ("POST", r"/api/uploads/([0-9a-f-]+)/complete/", _Handler.complete, True),
    ("POST", r"/storage/([0-9a-f-]+)/complete", _Handler.complete_storage, False),
    ("POST", r"/api/uploads/([0-9a-f-]+)/validate/", _Handler.validate, True),
    ("POST", _DRAFT, _Handler.create, True),
    ("PUT", _DRAFT + r"([0-9a-f-]+)/", _Handler.replace, True),
]
