"""Runs the API on a listening socket: uvicorn with httptools, within bounds, inside our own event loop.

uvicorn brings its own signal handlers, logging set-up and plain-text errors; none of these are used. It sets
no bound on headers with httptools and no time for them to arrive; both are held here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from steersman.api.problems import problem_body
from steersman.kernel.bounds import KIB
from steersman.kernel.errors import InvalidInput, SteersmanError
from steersman.kinds.settings import ServerSettings

if TYPE_CHECKING:
    from steersman.api.server import Api

HEADERS_MAX = 100
HEADERS_MAX_BYTES = 32 * KIB
TARGET_MAX_BYTES = 16 * KIB
HEADERS_TIMEOUT_S = 10.0
"""How long a request's headers may take to arrive."""
KEEP_ALIVE_S = 30
SHUTDOWN_TIMEOUT_S = 5
"""How long answers that are under way may still take when the server ends."""
CONNECTIONS_SPARE = 1024
"""Connections beside those of event streams."""


class RequestMalformed(InvalidInput):
    """What came over the connection is not HTTP."""

    code = "request_malformed"
    title = "Not an HTTP request"


class HeadersTooLarge(SteersmanError):
    """The request's address or headers are over their bound."""

    code = "headers_too_large"
    title = "Headers too large"
    status = 431


class HeadersTimedOut(SteersmanError):
    """The request's headers did not arrive within their time."""

    code = "headers_timed_out"
    title = "Headers too slow"
    status = 408


_REASONS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on headers and connections, and errors as problem+json."""

    connections_max: ClassVar[int] = CONNECTIONS_SPARE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._head_count = 0
        self._unfinished_bytes = 0
        self._pipelined = False
        self._refusal: SteersmanError | None = None
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as the class itself does
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = self._head_count = self._unfinished_bytes = 0
        self._pipelined = bool(self.cycle)
        self._await_head()

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._head_bytes > TARGET_MAX_BYTES:
            self._refuse(f"the request's address has more than {TARGET_MAX_BYTES} bytes")
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        self._head_count += 1
        if self._head_count > HEADERS_MAX:
            self._refuse(f"the request has more than {HEADERS_MAX} headers")
        if self._head_bytes > HEADERS_MAX_BYTES + TARGET_MAX_BYTES:
            self._refuse(f"the request's headers have more than {HEADERS_MAX_BYTES} bytes")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_arrived()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        self._pipelined = False
        super().data_received(data)
        if self._head_timer is None or self.transport.is_closing():
            return
        # A header without end is told of by the parser only once it ends; so bytes are counted too. Those of
        # a chunk in which another request ended are not: which of them are this one's is not known.
        self._unfinished_bytes += 0 if self._pipelined else len(data)
        if self._unfinished_bytes > HEADERS_MAX_BYTES + TARGET_MAX_BYTES:
            self._refusal = HeadersTooLarge(f"the request's headers have more than {HEADERS_MAX_BYTES} bytes")
            self.send_400_response("")

    def _unsupported_upgrade_warning(self) -> None:
        """A wish for another protocol may be left unheard, and needs no line in the log."""

    def send_400_response(self, msg: str) -> None:
        """Answer what can't be handed to the application, and close."""
        error = self._refusal or RequestMalformed(
            "this is not an HTTP/1.1 request that can be read; check the address and whether TLS is meant"
        )
        body = problem_body(error, "")
        head = (
            f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        answering = self.cycle  # None before the first request, whatever its type says
        if not answering or answering.response_complete:
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _refuse(self, detail: str) -> None:
        self._refusal = HeadersTooLarge(detail)
        raise httptools.HttpParserError(detail)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADERS_TIMEOUT_S, self._too_slow)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        self._refusal = HeadersTimedOut(f"the headers did not arrive within {HEADERS_TIMEOUT_S:g} s")
        self.send_400_response("")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals belong to the program."""
        yield


class HttpServer:
    """Serves an API on a socket that listens already. `run` is a task for the supervisor.

    Cancelling `run`, or calling `stop`, ends event streams with `bye`, lets answers that are under way finish
    within `SHUTDOWN_TIMEOUT_S`, and closes the socket.
    """

    def __init__(self, api: Api, settings: ServerSettings, listening: socket.socket) -> None:
        self._api = api
        self._socket = listening
        bound = settings.streams_max + CONNECTIONS_SPARE
        protocol = type("SizedProtocol", (BoundedProtocol,), {"connections_max": bound})
        config = uvicorn.Config(
            api,  # pyright: ignore[reportArgumentType] - uvicorn's ASGI types are narrower than ours
            loop="none",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )
        self._server = _Server(config)
        self._started = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    async def run(self) -> None:
        """Serve until `stop` or cancellation."""
        await self._api.start()
        server = self._server
        try:
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup(sockets=[self._socket])
            self._started.set()
            await server.main_loop()
        finally:
            await self._api.drain()
            if server.started:
                await server.shutdown(sockets=[self._socket])
            self._ended.set()

    async def started(self) -> None:
        """Return once requests are answered."""
        await self._started.wait()

    async def stop(self) -> None:
        """End, and return once it has ended."""
        await self._api.drain()
        self._server.should_exit = True
        await self._ended.wait()
