"""The client of receivers, against real ones on loopback and resolvers that lie."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from steersman.drivers.webhook.client import ANSWER_MAX_BYTES, RETRY_AFTER_MAX_S, WebhookClient, WebhookFailed
from steersman.drivers.webhook.message import Message
from steersman.drivers.webhook.targets import TargetRefused, Targets
from steersman.kernel.clock import SystemClock

MESSAGE = Message({"content-type": "application/json"}, b"{}")
Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Lying(AbstractResolver):
    """A resolver that answers from a list, each time the next."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def serving(speak: Speak) -> AsyncIterator[int]:
    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.02)  # what is served notices that its caller went


def answering(head: str, body: bytes = b"") -> Speak:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        try:
            await writer.drain()
        except OSError:
            pass
        writer.close()

    return speak


@asynccontextmanager
async def client(targets: Targets, resolver: AbstractResolver | None = None) -> AsyncIterator[WebhookClient]:
    made = WebhookClient(targets, SystemClock(), resolver=resolver)
    try:
        yield made
    finally:
        await made.close()


OPEN = Targets(["127.0.0.0/8"])


@pytest.mark.parametrize(
    ("head", "status", "wait_s"),
    [
        ("HTTP/1.1 204 x", 204, 0),
        ("HTTP/1.1 302 x\nlocation: http://127.0.0.1:1/\ncontent-length: 0", 302, 0),
        ("HTTP/1.1 503 x\nretry-after: 7\ncontent-length: 0", 503, 7),
        ("HTTP/1.1 429 x\nretry-after: 999999999999\ncontent-length: 0", 429, RETRY_AFTER_MAX_S),
        ("HTTP/1.1 429 x\nretry-after: Wed, 21 Oct 2015 07:28:00 GMT\ncontent-length: 0", 429, 0),
        ("HTTP/1.1 429 x\nretry-after: soon\ncontent-length: 0", 429, 0),
        ("HTTP/1.1 500 x\nretry-after: 7\ncontent-length: 0", 500, 0),
    ],
)
async def test_what_is_used_of_an_answer(head: str, status: int, wait_s: float) -> None:
    async with serving(answering(head)) as port, client(OPEN) as one:
        answer = await one.post(f"http://127.0.0.1:{port}/", MESSAGE)
        assert (answer.status, answer.retry_after_s, answer.taken) == (status, wait_s, status == 204)


async def test_an_answer_without_end_is_cut() -> None:
    body = b"x" * (ANSWER_MAX_BYTES * 20)
    async with serving(answering("HTTP/1.1 200 x", body)) as port, client(OPEN) as one:
        assert (await one.post(f"http://127.0.0.1:{port}/", MESSAGE)).taken


@pytest.mark.parametrize("head", ["no http", "HTTP/1.1 200 x\ncontent-length: 50"])
async def test_what_is_no_answer_is_a_failure_of_the_attempt(head: str) -> None:
    async with serving(answering(head)) as port, client(OPEN) as one:
        with pytest.raises(WebhookFailed):
            await one.post(f"http://127.0.0.1:{port}/secret-path", MESSAGE)


async def test_a_receiver_that_never_answers_costs_its_time_and_no_more() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with serving(silent) as port, client(OPEN) as one:
        with pytest.raises(WebhookFailed, match=r"0\.05 s"):
            await one.post(f"http://127.0.0.1:{port}/", MESSAGE, 0.05)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.8"])
async def test_a_name_that_leads_inside_is_not_connected_to(address: str) -> None:
    asked: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1))

    async with serving(note) as port, client(Targets(), Lying(address)) as one:
        with pytest.raises(TargetRefused):
            await one.post(f"http://hooks.example:{port}/", MESSAGE)
    assert asked == []


async def test_a_name_that_changes_its_answer_gains_nothing() -> None:
    """Goal: what is connected to is what was judged; a second look at the name is judged anew."""
    lying = Lying("127.0.0.1", "10.0.0.8")
    async with serving(answering("HTTP/1.1 204 x\nconnection: close")) as port, client(OPEN, lying) as one:
        assert (await one.post(f"http://hooks.example:{port}/", MESSAGE)).taken
        with pytest.raises(TargetRefused):
            await one.post(f"http://hooks.example:{port}/", MESSAGE)


async def test_spellings_of_loopback_that_resolve_to_it_are_refused() -> None:
    async with client(Targets()) as one:
        for host in ("127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:7f00:1]"):
            with pytest.raises((TargetRefused, WebhookFailed)):
                await one.post(f"http://{host}:9/", MESSAGE)


async def test_an_allowed_name_may_lead_inside() -> None:
    named = Targets(["hooks.internal"])
    async with serving(answering("HTTP/1.1 204 x")) as port, client(named, Lying("127.0.0.1")) as one:
        assert (await one.post(f"http://hooks.internal:{port}/", MESSAGE)).taken
