"""A small HTTP server on loopback that can misbehave, for the fakes of drivers that speak HTTP.

It is written on raw streams, because a proper server library would not let it close in the middle of a
body, answer what is not HTTP, or hang. It is no server for anything but tests and trials.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

from msgspec import Struct, field

from steersman.kernel.bounds import KIB, MIB
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import system_rng
from steersman.kernel.tasks import Supervisor

FAULTS = ("hang", "refuse", "garbage", "half", "close", "error", "denied", "endless")
"""What it can do wrong: never answer; refuse connections; answer what is not HTTP; break off in the middle of
the body; close without an answer; answer status 500; answer status 401; answer without an end."""
ENDLESS_BYTES = 1 << 50
"""What the endless answer says of its length: nobody keeps so much."""
ENDLESS_BLOCK = b"# " + b"x" * 65_533 + b"\n"
"""What it is made of: text that is a comment to most readers."""
REQUEST_MAX_BYTES = 64 * KIB
"""The head of a request."""
BODY_MAX_BYTES = 16 * MIB
"""The body of a request: no client of ours sends a larger one."""


class Request(Struct, frozen=True):
    """What was asked: header names are in lower case, `path` has the query with it. `user` is the common name
    of the caller's certificate, where the server has TLS and the caller showed one."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    user: str = ""


class Response(Struct, frozen=True):
    """What is answered: `body`, or the pieces of `stream` one after the other as they come, until it ends or
    the caller goes away. Where `cut`, the connection is broken off behind the last piece of the stream."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    stream: AsyncIterator[bytes] | None = None
    cut: bool = False


class WebFake:
    """Answers with what `answer` says, unless `fault` is set to one of `FAULTS`; over HTTPS with `tls`."""

    def __init__(
        self, answer: Callable[[Request], Awaitable[Response]], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answer = answer
        """May be replaced while it runs: who answers some requests otherwise passes on the others."""
        self._tls = tls
        self._streams = Supervisor(SystemClock(), system_rng(), name="web-fake")
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._fault = ""
        self._mended = asyncio.Event()
        self.port = 0
        self.requests: list[Request] = []

    async def start(self) -> WebFake:
        """Listen on a free port of 127.0.0.1, the same one after a stop; returns itself."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=REQUEST_MAX_BYTES, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close the listener and every connection. Repeating it does nothing."""
        server, self._server = self._server, None
        self._mended.set()
        if server is not None:
            server.close()
        for writer in list(self._writers):
            writer.close()
        if server is not None:
            await server.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    async def fail(self, fault: str) -> None:
        """Misbehave from now on."""
        if fault not in FAULTS:
            raise ValueError(f"{fault!r} is none of {FAULTS}")
        self._fault = fault
        self._mended.clear()
        if fault == "refuse":
            await self.stop()
        else:
            for writer in list(self._writers):  # a kept connection would outlive the change
                writer.close()

    async def mend(self) -> None:
        """Behave again."""
        self._fault = ""
        self._mended.set()
        if self._server is None:
            await self.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # the caller went away, or did not speak HTTP
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection may be used again."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        pairs = [line.partition(":") for line in head[1:] if line]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        request = Request(method, path, headers, await _body(reader, headers), _user(writer))
        self.requests.append(request)
        fault = self._fault
        if fault == "hang":
            await self._mended.wait()
            return False
        if fault == "close":
            return False
        if fault == "garbage":
            writer.write(b"\x00\xff\xfe no http here \r\n\r\n" * 20)
            await writer.drain()
            return False
        if fault == "endless":
            await self._write_for_ever(writer)
            return False
        broken = {"error": Response(b"broken", 500), "denied": Response(b"who are you?", 401)}
        response = broken.get(fault) or await self.answer(request)
        length = "Transfer-Encoding: chunked" if response.stream else f"Content-Length: {len(response.body)}"
        lines = [
            f"HTTP/1.1 {response.status} answer",
            f"Content-Type: {response.content_type}",
            length,
            *(f"{name}: {value}" for name, value in response.headers.items()),
        ]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        if response.stream is not None and method != "HEAD":
            return await self._send(response.stream, reader, writer, half=fault == "half", cut=response.cut)
        body = response.body if method != "HEAD" else b""
        writer.write(body[: len(body) // 2] if fault == "half" else body)
        await writer.drain()
        return fault != "half"

    async def _write_for_ever(self, writer: asyncio.StreamWriter) -> None:
        """Until the caller has enough (an OSError) or the fault is over."""
        head = f"HTTP/1.1 200 answer\r\nContent-Type: text/plain\r\nContent-Length: {ENDLESS_BYTES}\r\n\r\n"
        writer.write(head.encode("latin-1"))
        while self._fault == "endless":
            writer.write(ENDLESS_BLOCK)
            await writer.drain()

    async def _send(
        self,
        stream: AsyncIterator[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        half: bool,
        cut: bool,
    ) -> bool:
        """A streaming answer, in chunks; whether it came to its end. It is left where the caller goes."""

        async def pump() -> bool:
            async for piece in stream:
                part = piece[: len(piece) // 2] if half else piece
                if part:
                    writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                await writer.drain()
                if half:
                    return False
            if not cut:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
            return not cut

        sent = self._streams.spawn("send", pump())
        gone = self._streams.spawn("gone", reader.read(1))  # nothing more is asked on it meanwhile
        try:
            await asyncio.wait({sent, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sent, gone):
                task.cancel()
            ends = await asyncio.gather(sent, gone, return_exceptions=True)
        return ends[0] is True and not isinstance(ends[1], bytes)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """The body of a request, by its length or in chunks. Raises ValueError where it is too large."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        size = int(headers.get("content-length", "0"))
        if not 0 <= size <= BODY_MAX_BYTES:
            raise ValueError("the body is too large")
        return await reader.readexactly(size)
    parts: list[bytes] = []
    total = 0
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        total += size
        if total > BODY_MAX_BYTES:
            raise ValueError("the body is too large")
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return b"".join(parts)


def _user(writer: asyncio.StreamWriter) -> str:
    """The common name of the caller's certificate; empty without one."""
    shown: dict[str, Any] = writer.get_extra_info("peercert") or {}
    names = dict(pair for part in shown.get("subject", ()) for pair in part)
    return str(names.get("commonName", ""))


class FakeSystem:
    """What the fakes of systems that speak HTTP share. They answer through `web`, which has the faults."""

    web: WebFake

    async def start(self) -> Self:
        """Listen; returns itself."""
        await self.web.start()
        return self

    async def stop(self) -> None:
        """Close. Repeating it does nothing."""
        await self.web.stop()

    @property
    def url(self) -> str:
        """What a source is configured with."""
        return self.web.url
