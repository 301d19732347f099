"""A small HTTP server on loopback that can misbehave, for the fakes of drivers that speak HTTP.

It is written on raw streams, because a proper server library would not let it close in the middle of a
body, answer what is not HTTP, or hang. It is no server for anything but tests and trials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from msgspec import Struct, field

FAULTS = ("hang", "refuse", "garbage", "half", "close", "error", "denied", "endless")
"""What it can do wrong: never answer; refuse connections; answer what is not HTTP; break off in the middle of
the body; close without an answer; answer status 500; answer status 401; answer without an end."""
ENDLESS_BYTES = 1 << 50
"""What the endless answer says of its length: nobody keeps so much."""
ENDLESS_BLOCK = b"# " + b"x" * 65_533 + b"\n"
"""What it is made of: text that is a comment to most readers."""
REQUEST_MAX_BYTES = 64 * 1024


class Request(Struct, frozen=True):
    """What was asked: header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class Response(Struct, frozen=True):
    """What is answered."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict[str, str])


class WebFake:
    """Answers with what `answer` says, unless `fault` is set to one of `FAULTS`."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._fault = ""
        self._mended = asyncio.Event()
        self.port = 0
        self.requests: list[Request] = []

    async def start(self) -> WebFake:
        """Listen on a free port of 127.0.0.1, the same one after a stop; returns itself."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=REQUEST_MAX_BYTES
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
        return f"http://127.0.0.1:{self.port}"

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
        request = Request(method, path, {name.strip().lower(): value.strip() for name, _, value in pairs})
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
        response = broken.get(fault) or await self._answer(request)
        lines = [
            f"HTTP/1.1 {response.status} answer",
            f"Content-Type: {response.content_type}",
            f"Content-Length: {len(response.body)}",
            *(f"{name}: {value}" for name, value in response.headers.items()),
        ]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
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
