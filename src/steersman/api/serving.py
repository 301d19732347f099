"""Runs the API on a listening socket: uvicorn with httptools, within bounds, inside our own event loop.

uvicorn brings its own signal handlers, logging set-up and plain-text errors; none of these are used. It sets
no bound on headers with httptools and no time for them to arrive, drops the body of a request that wishes for
another protocol, and forgets a connection that is quiet after an early answer; all that is held here.
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

from steersman.api.access import HOST
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
LINGER_S = 5.0
"""How long what a caller still sends is read and thrown away once its answer is given: closing at once would
destroy an answer that was not read yet, and reading on for ever would hold the connection for ever."""
SHUTDOWN_TIMEOUT_S = 5
"""How long answers that are under way may still take when the server ends."""
SINGLE = (b"host", b"authorization", b"content-type", b"content-encoding", b"origin")
"""Headers by which something is decided, and of which a request has one."""
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
        self._in_body = False
        self._refused = False
        self._refusal: SteersmanError | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as the class itself does
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self._end_lingering()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = self._head_count = self._unfinished_bytes = 0
        self._pipelined = bool(self.cycle)
        self._await_head()

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._head_bytes > TARGET_MAX_BYTES:
            self._refuse(HeadersTooLarge(f"the request's address has more than {TARGET_MAX_BYTES} bytes"))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        self._head_count += 1
        if self._head_count > HEADERS_MAX:
            self._refuse(HeadersTooLarge(f"the request has more than {HEADERS_MAX} headers"))
        if self._head_bytes > HEADERS_MAX_BYTES + TARGET_MAX_BYTES:
            self._refuse(HeadersTooLarge(f"the request's headers have more than {HEADERS_MAX_BYTES} bytes"))
        if not self._in_body:  # else it is a trailer: who looked at the head has not seen it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_arrived()
        if self.parser.should_upgrade():
            return  # it is read again, see `_feed`
        self._check_head()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_body = False
        self._end_lingering()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        answered = self.cycle.response_complete  # else another request is under way by now
        if answered and self._in_body and self._linger_timer is None and not self.transport.is_closing():
            self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._pipelined = False
        self._unset_keepalive_if_required()
        self._feed(data)
        if self.transport.is_closing() or self._refused:
            return
        if self._head_timer is not None:
            # A header without end is told of by the parser only once it ends; so bytes are counted too. Those
            # of a chunk in which another request ended are not: which of them are this one's is not known.
            self._unfinished_bytes += 0 if self._pipelined else len(data)
            if self._unfinished_bytes > HEADERS_MAX_BYTES + TARGET_MAX_BYTES:
                detail = f"the request's headers have more than {HEADERS_MAX_BYTES} bytes"
                self._refusal = HeadersTooLarge(detail)
                self.send_400_response("")
        elif self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # The end of a body that was answered before, or an empty line: nothing else would end the wait.
            self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE_S, self.timeout_keep_alive_handler)

    def eof_received(self) -> bool | None:  # pyright: ignore[reportIncompatibleMethodOverride] - None there
        """The caller sends nothing more (`nc -N`). One whose request is whole still gets the answer to it; a
        stream that has begun ends, as that is how a reader that went is noticed."""
        answering = self.cycle
        if not answering or self._in_body or answering.response_started:
            return None
        answering.keep_alive = False
        return True

    def shutdown(self) -> None:
        """End with the server: at once where nothing is under way any more."""
        if self._refused:
            self.transport.close()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer what can't be handed to the application, and end the connection."""
        error = self._refusal or RequestMalformed(
            "this is not an HTTP/1.1 request that can be read; check the address and whether TLS is meant"
        )
        if not self._may_answer():
            self.transport.close()
            return
        body = problem_body(error, "")
        head = (
            f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        self._refused = True
        self._head_arrived()
        self._end_lingering()
        self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _may_answer(self) -> bool:
        """Whether no answer of the application stands in the way of ours. One that waits for a body that
        turned out to be malformed is told that its caller has gone."""
        waiting = self.cycle  # None before the first request, whatever its type says
        if not waiting or waiting.response_complete:
            return True
        if not self._in_body or self.pipeline or waiting.response_started:
            return False
        waiting.disconnected = True
        waiting.message_event.set()
        return True

    def _feed(self, data: bytes) -> None:
        """Hand bytes to the parser. A wish for another protocol is left unheard, as HTTP allows: the parser
        stops behind such a head, so a new one reads it again without the wish, and then its body."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as wish:
                data = self._head_without_wish() + data[wish.args[0] :]
            except httptools.HttpParserError:
                self.send_400_response("")
                return
            else:
                return

    def _head_without_wish(self) -> bytes:
        """The head that the parser has stopped behind, without `Upgrade`; and a new parser."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        if method == b"CONNECT":
            return b"\0"  # a tunnel is all that is wished for: no request is left to be read
        lines = [b"%s %s HTTP/%s" % (method, self.url, version.encode())]
        for name, value in self.headers:
            if name == b"connection":
                words = {word.strip() for word in value.lower().split(b",")} & {b"close", b"keep-alive"}
                lines += [b"connection: " + word for word in words]
            elif name != b"upgrade":
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    def _check_head(self) -> None:
        """One request names one host, one caller, one type (RFC 9112, 3.2; RFC 9110, 5.3): of two, another
        program on the way may obey the other."""
        names = [name for name, _ in self.headers]
        twice = next((name for name in SINGLE if names.count(name) > 1), None)
        if twice is not None:
            self._refuse(RequestMalformed(f"the request has more than one header {twice.decode()}"))
        host = next(
            (value.strip().decode("latin-1") for name, value in self.headers if name == b"host"), None
        )
        if (host is None and self.parser.get_http_version() == "1.1") or (host and not HOST.fullmatch(host)):
            self._refuse(RequestMalformed("a request has one Host header, which is a name or an address"))

    def _refuse(self, error: SteersmanError) -> None:
        self._refusal = error
        raise httptools.HttpParserError(error.detail)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADERS_TIMEOUT_S, self._too_slow)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_lingering(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        self._refusal = HeadersTimedOut(f"the headers did not arrive within {HEADERS_TIMEOUT_S:g} s")
        self.send_400_response("")
        self.transport.close()


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
