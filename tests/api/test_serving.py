"""The real server at its bounds: headers, connections, what is no HTTP, slow senders, bodies, pipelines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import uvicorn
from uvicorn.server import ServerState

from steersman.api.serving import (
    HEADERS_MAX,
    HEADERS_MAX_BYTES,
    HEADERS_TIMEOUT_S,
    KEEP_ALIVE_S,
    LINGER_S,
    TARGET_MAX_BYTES,
    BoundedProtocol,
)

Make = Callable[..., Any]


@asynccontextmanager
async def connection(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def talk(address: str, *parts: bytes) -> bytes:
    """Send bytes as they are; everything that comes back until the server closes."""
    async with connection(address) as (reader, writer):
        for part in parts:
            writer.write(part)
        try:
            await writer.drain()
            return await asyncio.wait_for(reader.read(), 20)
        except ConnectionError:
            return b""


def split(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower(), answer[:400]
    return int(head.split()[1]), msgspec.json.decode(body)


HEAD = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
PUSH = HEAD.replace(b"GET /healthz", b"POST /api/v1/fragments") + b"content-type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"hello there\r\n\r\n", 400, "request_malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "request_malformed"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "request_malformed"),
        (HEAD + b"x: y\x00z\r\n\r\n", 400, "request_malformed"),
        (HEAD + b"content-length: ten\r\n\r\n", 400, "request_malformed"),
        (HEAD + b"transfer-encoding: xchunked\r\n\r\nhello", 400, "request_malformed"),
        (PUSH + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 400, "request_malformed"),
        (HEAD + b"host: evil.example\r\n\r\n", 400, "request_malformed"),
        (HEAD + b"authorization: Bearer a\r\n" * 2 + b"\r\n", 400, "request_malformed"),
        (PUSH + b"content-type: text/plain\r\ncontent-length: 0\r\n\r\n", 400, "request_malformed"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "request_malformed"),
        (b"GET /healthz HTTP/1.1\r\nhost: [::1]evil.example\r\n\r\n", 400, "request_malformed"),
        (b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost:1\r\n\r\n", 400, "request_malformed"),
        (HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400, "request_malformed"),
        (
            HEAD + b"".join(b"x-%d: y\r\n" % n for n in range(HEADERS_MAX + 5)) + b"\r\n",
            431,
            "headers_too_large",
        ),
        (
            HEAD + b"x: " + b"y" * (HEADERS_MAX_BYTES + TARGET_MAX_BYTES) + b"\r\n\r\n",
            431,
            "headers_too_large",
        ),
        (HEAD + b"x: " + b"y" * (HEADERS_MAX_BYTES + TARGET_MAX_BYTES), 431, "headers_too_large"),
        (b"GET /" + b"a" * (2 * TARGET_MAX_BYTES) + b" HTTP/1.1\r\n\r\n", 431, "headers_too_large"),
    ],
)
async def test_what_can_not_be_served_is_told_why(sent: bytes, status: int, code: str, address: str) -> None:
    answered, body = split(await talk(address, sent))
    assert (answered, body["code"], body["status"]) == (status, code, status)


async def test_a_fine_request_is_answered_on_the_same_server(address: str) -> None:
    answer = await talk(address, HEAD + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"server:" not in answer.lower()


async def test_pipelined_requests_are_answered_in_order(address: str) -> None:
    first = HEAD.replace(b"connection: close\r\n", b"") + b"\r\n"
    answer = await talk(address, first + HEAD.replace(b"/healthz", b"/nope") + b"\r\n")
    assert answer.index(b"200 OK") < answer.index(b"404 Not Found")


async def test_a_body_over_the_bound_gets_its_answer_before_the_end(address: str) -> None:
    """Goal: also a sender that announces no length sees 413 and not a broken pipe."""
    head = (
        b"POST /api/v1/fragments HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    status, body = split(await talk(address, head, *[chunk] * 10, b"0\r\n\r\n"))
    assert (status, body["code"]) == (413, "too_large")


async def test_connections_are_bounded(new_world: Make, serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: one connection too many is closed; the others go on."""
    async with new_world(streams_max=1) as world, serve(world) as url:
        from contextlib import AsyncExitStack

        async with AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(connection(url)) for _ in range(1025)]
            extra = await stack.enter_async_context(connection(url))
            try:
                assert await asyncio.wait_for(extra[0].read(), 20) == b""
            except ConnectionError:
                pass
            reader, writer = opened[0]
            writer.write(HEAD + b"\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")


async def test_a_web_socket_is_not_offered(address: str) -> None:
    """Goal: the request is answered as the plain one that it also is."""
    upgrade = (
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with connection(address) as (reader, writer):
        writer.write(HEAD.replace(b"connection: close\r\n", upgrade))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


@pytest.mark.looptime
@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nx: "])
async def test_headers_that_dribble_are_cut_off_at_their_time(first: bytes) -> None:
    """Goal: a connection that says nothing, or one header for ever, is not kept."""
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(lambda *_: None, log_config=None, lifespan="off", ws="none", loop="none")
    protocol, wire = BoundedProtocol(config, ServerState(), {}, _loop=loop), Wire()
    protocol.connection_made(wire)
    began = loop.time()
    while not wire.closed:
        if first:
            protocol.data_received(first)
            first = b"y"
        await asyncio.sleep(0.5)
    assert HEADERS_TIMEOUT_S <= loop.time() - began <= HEADERS_TIMEOUT_S + 1
    status, body = split(wire.written)
    assert (status, body["code"]) == (408, "headers_timed_out")
    protocol.connection_lost(None)


H2C = b"connection: Upgrade, HTTP2-Settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
"""What Java's HTTP client sends with every request over plain HTTP."""


async def test_a_push_that_wishes_for_http2_is_read_whole(address: str, world: Any, fragment: Make) -> None:
    """Goal: a wish for another protocol costs neither the body nor the requests behind it."""
    body = msgspec.json.encode([fragment("n1")])
    head = PUSH.replace(b"connection: close\r\n", H2C) + b"content-length: %d\r\n\r\n" % len(body)
    async with connection(address) as (reader, writer):
        writer.write(head + body[:20])
        await writer.drain()
        writer.write(body[20:])
        answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert b'"accepted":1' in answer
    assert world.bus.get("node", "n1") is not None


async def test_requests_behind_a_wish_for_another_protocol_are_answered(address: str) -> None:
    wish = HEAD.replace(b"connection: close\r\n", H2C.replace(b", close", b"")) + b"\r\n"
    answer = await talk(address, wish * 3 + HEAD + b"\r\n")
    assert answer.count(b"HTTP/1.1 200") == 4


def make_protocol(app: Any) -> tuple[BoundedProtocol, Wire]:
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", loop="none")
    config.load()
    protocol, wire = BoundedProtocol(config, ServerState(), {}, _loop=asyncio.get_running_loop()), Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.looptime
async def test_a_body_without_end_is_not_listened_to_for_ever_once_it_was_refused() -> None:
    loop = asyncio.get_running_loop()
    protocol, wire = make_protocol(refuse)
    protocol.data_received(
        PUSH.replace(b"connection: close\r\n", b"") + b"transfer-encoding: chunked\r\n\r\n"
    )
    began = loop.time()
    while not wire.closed:
        protocol.data_received(b"1\r\nx\r\n")
        await asyncio.sleep(1)
        assert loop.time() - began < 3 * LINGER_S
    assert wire.written.startswith(b"HTTP/1.1 401")
    protocol.connection_lost(None)


@pytest.mark.looptime
@pytest.mark.parametrize("rest", [b"y" * 5, b"y" * 5 + b"\r\n", b""])
async def test_a_connection_that_falls_silent_is_closed(rest: bytes) -> None:
    """Goal: also one whose body ended behind the answer, and one that sent an empty line."""
    loop = asyncio.get_running_loop()
    protocol, wire = make_protocol(refuse)
    protocol.data_received(
        PUSH.replace(b"connection: close\r\n", b"") + b"content-length: %d\r\n\r\n" % (5 if rest else 0)
    )
    await asyncio.sleep(1)
    assert wire.written.startswith(b"HTTP/1.1 401")
    protocol.data_received(rest or b"\r\n")
    began = loop.time()
    while not wire.closed:
        await asyncio.sleep(1)
        assert loop.time() - began < 2 * KEEP_ALIVE_S
    protocol.connection_lost(None)


async def test_trailers_are_no_headers(address: str) -> None:
    """Goal: what comes behind the body says nothing of type or caller: it came too late."""
    head = PUSH.replace(b"content-type: application/json\r\n", b"transfer-encoding: chunked\r\n\r\n")
    status, body = split(
        await talk(address, head + b"2\r\n[]\r\n0\r\ncontent-type: application/json\r\n\r\n")
    )
    assert (status, body["code"]) == (415, "unsupported_media_type")


async def test_a_caller_that_has_said_all_still_gets_its_answer(address: str, fragment: Make) -> None:
    """Goal: `nc -N` and the like, which close their side of the connection behind the request."""
    body = msgspec.json.encode([fragment("n1")])
    head = PUSH.replace(b"connection: close\r\n", b"") + b"content-length: %d\r\n\r\n" % len(body)
    async with connection(address) as (reader, writer):
        writer.write(head + body)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer


async def test_a_caller_that_closes_in_the_middle_is_let_go(address: str, world: Any) -> None:
    for sent in (HEAD[:20], PUSH + b"content-length: 10\r\n\r\n["):
        async with connection(address) as (reader, writer):
            writer.write(sent)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 20) == b""
