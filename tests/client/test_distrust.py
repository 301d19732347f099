"""A client that talks to somebody who is no Steersman, or to nobody: a typed error, soon, no secret told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steersman.client import AsyncSteersman, Steersman, calls
from steersman.client.errors import AnswerTimedOut, ApiInvalidInput, BadAnswer, NotReachable
from steersman.client.transport import CONNECTIONS_MAX, AsyncTransport, Transport
from steersman.client.watching import WatchSession
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import seeded_rng

HELLO = b'id: 1\nevent: hello\ndata: {"revision":1}\n\n'


@asynccontextmanager
async def stranger(answer: bytes, drip: bytes = b"") -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers every request with these bytes, then with `drip` for as long as it is heard."""
    asked: list[bytes] = []

    handlers: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            handlers[task] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            gone = asyncio.ensure_future(reader.read())
            while drip and not gone.done() and not writer.is_closing():
                writer.write(drip)
                await asyncio.wait([gone], timeout=0.02)
            gone.cancel()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for writer in handlers.values():
            writer.close()
        await asyncio.gather(*handlers, return_exceptions=True)
        await server.wait_closed()


def said(body: bytes, media_type: str = "application/json", status: int = 200, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\nconnection: close\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def first_change(address: str, blocking: bool) -> Any:
    if blocking:
        with Steersman(address) as plane, contextlib.closing(plane.watch()) as changes:  # type: ignore[type-var]
            return await asyncio.to_thread(lambda: next(changes))
    async with AsyncSteersman(address) as plane, contextlib.aclosing(plane.watch()) as changes:
        return await anext(changes)


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (said(b"<html>hello</html>", "text/html"), BadAnswer),
        (said(HELLO, "text/event-stream", more="content-encoding: gzip\r\n"), BadAnswer),
        (said(b"", "text/event-stream"), NotReachable),
        (said("id: \u00b2\n\n".encode(), "text/event-stream"), BadAnswer),
        (said(b"id: " + b"9" * 5000 + b"\n\n", "text/event-stream"), BadAnswer),
    ],
)
async def test_what_is_no_stream_of_events_is_told_at_once(
    answer: bytes, error: type[Exception], blocking: bool
) -> None:
    """Goal: `watch` does not ask some other program again and again, for ever and in silence."""
    async with stranger(answer) as (address, asked):
        with pytest.raises(error):
            await asyncio.wait_for(first_change(address, blocking), 20)
        assert len(asked) == 1
        assert b"accept-encoding: identity" in asked[0].lower()


def test_a_server_that_always_ends_the_stream_is_given_up_on() -> None:
    session = WatchSession((), None, seeded_rng(1))
    session.call()
    session.feed(HELLO)
    session.cut(None, 0.0)
    with pytest.raises(NotReachable):
        session.cut(None, 301.0)


@pytest.mark.parametrize("kind", [Transport, AsyncTransport])
async def test_an_answer_that_drips_ends_with_the_calls_time(kind: type[Any]) -> None:
    """Goal: each byte comes in time and the whole never; the call's time is for the whole."""
    call = calls.Call("GET", "/api/v1/status", bytes, timeout_s=0.3, repeatable=False)
    async with stranger(b"HTTP/1.1 200 X\r\ncontent-length: 1000000\r\n\r\n", b" ") as (address, _):
        transport = kind(address, None, "test")
        with pytest.raises(AnswerTimedOut):
            await (transport.run(call) if kind is AsyncTransport else asyncio.to_thread(transport.run, call))
        await (transport.close() if kind is AsyncTransport else asyncio.to_thread(transport.close))


async def test_an_error_nested_without_end_is_an_error() -> None:
    async with (
        stranger(said(b'{"a":' + b"[" * 50_000, status=400)) as (address, _),
        AsyncSteersman(address) as plane,
    ):
        with pytest.raises(ApiInvalidInput):
            await plane.status()


@pytest.mark.parametrize(("entity_id", "path"), [("..", b"%2E%2E"), (".", b"%2E"), ("a/../b", b"a%2F..%2Fb")])
async def test_dots_in_a_name_lead_nowhere_else(
    entity_id: str, path: bytes, world: Any, address: str
) -> None:
    """Goal: the name of a thing never makes the request one for something else."""
    from steersman.testing.plane import make_fragment

    async with stranger(said(b"{}")) as (elsewhere, asked):
        async with AsyncSteersman(elsewhere) as plane:
            with pytest.raises(BadAnswer):
                await plane.entity("node", entity_id)
        assert asked[0].startswith(b"GET /api/v1/entities/node/" + path + b" HTTP/1.1\r\n")
    async with AsyncSteersman(address) as plane:
        await plane.push([make_fragment(entity_id)])
        assert (await plane.entity("node", entity_id)).entity_id == entity_id


@pytest.mark.parametrize("entity_id", ["\ud800", "x" * 20_000])
async def test_names_that_can_not_be_sent_are_refused(entity_id: str) -> None:
    with pytest.raises(InvalidInput):
        await AsyncSteersman("http://127.0.0.1:1").entity("node", entity_id)


@pytest.mark.parametrize("fragment", [{"fields": {"a": "\ud800"}}, {"a": object()}])
async def test_a_fragment_that_json_can_not_hold_is_named(fragment: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="fragment 1 can't be written"):
        await AsyncSteersman("http://127.0.0.1:1").push([{}, fragment])


@pytest.mark.parametrize(
    ("host", "proxied"),
    [
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("localhost.", False),
        ("[::1]", False),
        ("[::ffff:127.0.0.1]", False),
        ("0.0.0.0", False),
        ("127.example.invalid", True),
        ("plane.example.invalid", True),
    ],
)
def test_a_proxy_of_the_environment_is_for_other_machines_alone(host: str, proxied: bool) -> None:
    """Goal: a token for this machine goes to no proxy, and one for elsewhere the way the user set."""
    assert Transport(f"http://{host}:7440", None, "test").options()["trust_env"] is proxied


async def test_a_client_whose_connections_are_all_in_use_says_so(world: Any, address: str) -> None:
    """Goal: twenty open watches are not mistaken for a server that does not answer."""
    async with AsyncSteersman(address) as plane, contextlib.AsyncExitStack() as stack:
        transport = AsyncTransport(address, None, "test")
        stack.push_async_callback(transport.close)
        for _ in range(CONNECTIONS_MAX):
            await stack.enter_async_context(transport.stream(calls.watch((), None)))
        call = calls.whoami()
        call.timeout_s, call.repeatable = 0.3, False
        with pytest.raises(AnswerTimedOut, match="connections of this client are in use"):
            await transport.run(call)
        assert (await plane.whoami()).anonymous
