"""A receiver of webhooks as a site would write one: it checks each signature by a few lines of its own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote


class Received(NamedTuple):
    """One request: its path, headers (names in lower case), body, and whether it was taken."""

    path: str
    headers: dict[str, str]
    body: bytes
    taken: bool

    def is_signed_with(self, secret: str) -> bool:
        """HMAC-SHA256 over `id.timestamp.body`, as Standard Webhooks has it."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        said = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.digest(key, said, hashlib.sha256)).decode()
        return hmac.compare_digest(wanted, self.headers["webhook-signature"])

    def event(self) -> dict[str, Any]:
        """The CloudEvent, whichever of the two ways it came in."""
        data = json.loads(self.body)
        if self.headers["content-type"] == "application/cloudevents+json":
            return dict(data)
        given = {n.removeprefix("ce-"): unquote(v) for n, v in self.headers.items() if n.startswith("ce-")}
        return {**given, "datacontenttype": self.headers["content-type"], "data": data}


class Receiver:
    """Listens on loopback; `received` holds all requests in the order in which they came. While `refusing`
    it answers 503."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.refusing = False
        received, lock, receiver = self.received, threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with lock:
                    taken = not receiver.refusing
                    received.append(Received(self.path, headers, body, taken))
                self.send_response(204 if taken else 503)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: what came is in `received`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def taken(self, path: str) -> list[Received]:
        """What was taken at that path, in order."""
        return [one for one in list(self.received) if one.path == path and one.taken]

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
