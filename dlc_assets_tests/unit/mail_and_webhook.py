"""A mail server and a webhook on this machine: real sockets and protocols, and everything that came is kept."""

from __future__ import annotations

import base64
import json
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class MailServer:
    """What a mail server is asked to do, and what came.

    `login` is the user and password that it wants (none: it asks for none); `certificate` makes it offer STARTTLS; `refuses` are
    recipients that it does not know; `answer` is its answer to a whole message.
    """

    port: int = 0
    login: tuple[str, str] | None = None
    certificate: Path | None = None
    tls_from_the_start: bool = False
    refuses: tuple[str, ...] = ()
    answer: str = "250 kept"
    login_refusal: str = "535 no"
    commands: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)

    @property
    def letters(self) -> list[EmailMessage]:
        return [message_from_bytes(raw, policy=policy.default) for raw in self.raw]  # type: ignore[misc]  # by its policy


class _Smtp(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        kept: MailServer = self.server.kept
        self.encrypted = False
        if kept.tls_from_the_start:
            self._encrypt(kept)
        self.known = kept.login is None
        self._say("220 here")
        to: list[str] = []
        while line := self.rfile.readline():
            command = line.decode().strip()
            verb = command.partition(" ")[0].upper()
            kept.commands.append(verb)
            if verb == "EHLO":
                offers = [
                    "here",
                    *(["STARTTLS"] if kept.certificate and not self.encrypted else []),
                    *(["AUTH PLAIN"] if kept.login else []),
                ]
                for number, offer in enumerate(offers, start=1):
                    self._say(f"250{' ' if number == len(offers) else '-'}{offer}")
            elif verb == "STARTTLS":
                self._say("220 go on")
                self._encrypt(kept)
            elif verb == "AUTH":
                _, user, password = base64.b64decode(command.split()[-1]).decode().split("\0")
                self.known = (user, password) == kept.login
                self._say("235 welcome" if self.known else f"{kept.login_refusal} {command} for {user} {password}")
            elif verb == "MAIL":
                to = []
                self._say("250 ok" if self.known else "530 who are you")
            elif verb == "RCPT":
                address = command.partition("<")[2].partition(">")[0]
                if address in kept.refuses:
                    self._say("550 nobody of that name")
                else:
                    to.append(address)
                    self._say("250 ok")
            elif verb == "DATA":
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                content = b"".join(line.removeprefix(b".") if line.startswith(b"..") else line for line in lines)
                if kept.answer.startswith("2"):
                    kept.raw.append(content)
                    kept.recipients.append(to)
                self._say(kept.answer)
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def _encrypt(self, kept: MailServer) -> None:
        assert kept.certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(kept.certificate)
        self.request = context.wrap_socket(self.request, server_side=True)
        self.encrypted = True
        self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", buffering=0)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that refuses our certificate and leaves is what some tests are about."""


@contextmanager
def mail_server(**wishes: Any) -> Iterator[MailServer]:
    kept = MailServer(**wishes)
    with _Server(("127.0.0.1", kept.port), _Smtp) as server:
        server.kept = kept  # type: ignore[attr-defined]  # for the handlers
        kept.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield kept
        server.shutdown()


def certificate(folder: Path) -> Path:
    """Write key and certificate of the host "localhost", signed by itself, into one file."""
    file = folder / "localhost.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(file), "-out", str(folder / "public.pem")),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    public = folder / "public.pem"
    file.write_text(file.read_text() + public.read_text())
    return file


@dataclass
class WebhookServer:
    """What a webhook answers, and what came: the path and the JSON of each POST."""

    port: int = 0
    status: int = 200
    says: str = "ok"
    headers: dict[str, str] = field(default_factory=dict)
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/T0SECRET/B0SECRET?token=very-secret-token"


class _Webhook(BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        kept: WebhookServer = self.server.kept
        kept.posts.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(kept.status)
        for name, value in kept.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(kept.says.encode())

    def log_message(self, *_: Any) -> None:
        """Nobody reads a test server's log."""


@contextmanager
def webhook_server(**wishes: Any) -> Iterator[WebhookServer]:
    kept = WebhookServer(**wishes)
    with ThreadingHTTPServer(("127.0.0.1", kept.port), _Webhook) as server:
        server.kept = kept  # type: ignore[attr-defined]  # for the handlers
        kept.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield kept
        server.shutdown()


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        return int(server.server_address[1])
