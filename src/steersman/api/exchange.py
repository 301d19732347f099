"""One HTTP exchange over bare ASGI: what was asked, read within bounds, and what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from steersman.api.auth import Caller
from steersman.api.problems import (
    BodyTimedOut,
    Headers,
    InvalidParameter,
    UnknownParameter,
    UnsupportedMediaType,
    reveal,
)
from steersman.api.routes import Route
from steersman.kernel.bounds import MIB
from steersman.kernel.errors import TooLarge
from steersman.kernel.nearest import nearest

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_TIMEOUT_S = 30.0
"""How long a request body may take to arrive, in all."""
DISCARD_MAX_BYTES = 16 * MIB
"""How much of a body that is too large is still read, so that its sender gets to see the answer."""
QUERY_MAX_CHARS = 8192
PARAMETERS_MAX = 64

JSON = b"application/json"


class Disconnected(Exception):
    """The caller went away before the request was complete: nobody is left to answer."""


class BoundedBody:
    """The body of one request as a `receive` that holds its bounds in size and time."""

    def __init__(self, receive: Receive, limit_bytes: int) -> None:
        self._receive = receive
        self._limit = limit_bytes
        self._size = 0
        self._complete = False
        self._deadline: float | None = None

    async def __call__(self) -> Message:
        """The next message. Raises `TooLarge`, `BodyTimedOut`."""
        if self._complete:
            return await self._receive()
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + BODY_TIMEOUT_S
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self._complete = True
            raise BodyTimedOut(
                f"the body did not arrive within {BODY_TIMEOUT_S:g} s; send it faster, or in smaller parts"
            ) from None
        if message["type"] != "http.request":
            self._complete = True
            return message
        self._size += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._size > self._limit:
            await self._discard()
            raise TooLarge(
                f"the body has more than {self._limit} bytes; send it in several requests", limit=self._limit
            )
        return message

    async def _discard(self) -> None:
        """Read what still comes, to a bound: a sender that is cut off in the middle never sees the answer."""
        try:
            async with asyncio.timeout_at(self._deadline):
                while not self._complete and self._size < self._limit + DISCARD_MAX_BYTES:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        break
                    self._size += len(message.get("body", b""))
                    self._complete = not message.get("more_body", False)
        except TimeoutError:
            pass
        self._complete = True


class Exchange:
    """One request and its answer.

    `parameters` are the path's, decoded. `headers` have lower-case names; of a repeated one the first counts.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, route: Route, limit_bytes: int) -> None:
        self.scope = scope
        self.receive: Receive = BoundedBody(receive, limit_bytes)
        self._raw_receive = receive
        self.send = send
        self.route = route
        self.limit_bytes = limit_bytes
        self.headers: dict[str, str] = {}
        for name, value in reversed(scope["headers"]):
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self.parameters: dict[str, str] = {}
        self.caller: Caller | None = None
        self._query: list[tuple[str, str]] | None = None

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query's pairs, decoded, in order. Raises `InvalidParameter` over the bounds."""
        if self._query is None:
            text = bytes(self.scope.get("query_string", b"")).decode("latin-1")
            if len(text) > QUERY_MAX_CHARS:
                raise InvalidParameter(f"the query has more than {QUERY_MAX_CHARS} characters")
            try:
                self._query = parse_qsl(text, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
            except ValueError:
                raise InvalidParameter(f"the query has more than {PARAMETERS_MAX} parameters") from None
        return self._query

    def values(self, name: str) -> list[str]:
        """All values of a query parameter."""
        return [value for key, value in self.query if key == name]

    def value(self, name: str) -> str | None:
        """The value of a query parameter that may come once. Raises `InvalidParameter` where it repeats."""
        values = self.values(name)
        if len(values) > 1:
            raise InvalidParameter(f"{name} may be given once, not {len(values)} times")
        return values[0] if values else None

    def check_query(self, allowed: Mapping[str, bool]) -> None:
        """Raise `UnknownParameter` for a query parameter that is not among those allowed, `InvalidParameter`
        for one that comes twice and may not. `allowed`: whether each may repeat."""
        names = list(allowed)
        for key, _ in self.query:
            if key in allowed:
                if not allowed[key]:
                    self.value(key)
            else:
                near = nearest(key, names)
                hint = f"; did you mean {near}?" if near else ""
                raise UnknownParameter(
                    f"{self.route.path} has no query parameter {reveal(key)!r}{hint}",
                    parameter=key[:80],
                    allowed=names,
                    nearest=near,
                )

    def media_type(self, allowed: tuple[str, ...]) -> str:
        """The body's media type, which must be one of these. Raises `UnsupportedMediaType`."""
        given = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given not in allowed:
            said = f"not {reveal(given)}" if given else "and none was named"
            raise UnsupportedMediaType(
                f"the body must be {' or '.join(allowed)}, {said}", allowed=list(allowed)
            )
        return given

    async def body(self) -> bytes:
        """The whole body. Raises `TooLarge`, `BodyTimedOut`, `UnsupportedMediaType`, `Disconnected`."""
        parts = [chunk async for chunk in self.chunks()]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises as `body` does; what came before an error was given already."""
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise UnsupportedMediaType(
                f"the body must not be compressed, and it says {reveal(encoding)}", allowed=["identity"]
            )
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            more = message.get("more_body", False)
            chunk = message.get("body", b"")
            if chunk:
                yield chunk

    async def gone(self) -> None:
        """Return once the caller has closed the connection (or our own answer has ended)."""
        while (await self._raw_receive())["type"] != "http.disconnect":
            pass

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        """Answer in one piece."""
        await self.start(status, [*(headers or []), (b"content-length", str(len(body)).encode())])
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def answer_json(self, value: Any, status: int = 200, headers: Headers | None = None) -> None:
        """Answer with a value as JSON."""
        await self.answer(status, msgspec.json.encode(value), [(b"content-type", JSON), *(headers or [])])

    async def start(self, status: int, headers: Headers) -> None:
        """Begin an answer; `write` follows."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, chunk: bytes, *, more: bool = True) -> None:
        """Go on with an answer; waits while the caller reads slower than we write."""
        await self.send({"type": "http.response.body", "body": chunk, "more_body": more})


RawHandler = Callable[[Exchange], Awaitable[None]]


def decoded(segment: str) -> str:
    """A percent-encoded path segment as text. Raises `InvalidParameter` where it is not UTF-8."""
    try:
        text = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise InvalidParameter(f"the path segment {reveal(segment)!r} is not percent-encoded UTF-8") from None
    if "\x00" in text:
        raise InvalidParameter("a path may not hold a NUL character")
    return text
