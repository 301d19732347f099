"""A receiver of webhooks on loopback, whose answers the test decides; and rows as the Ledger writes them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from steersman.kernel.clock import SystemClock
from steersman.kinds.command import ResourceEvent
from steersman.store.api import Put, Store


@dataclass
class Got:
    """One request. `event` is the CloudEvent in it, in the structured mode's shape."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        data = json.loads(self.body)
        if self.headers["content-type"].startswith("application/cloudevents+json"):
            return data
        attributes = {k.removeprefix("ce-"): v for k, v in self.headers.items() if k.startswith("ce-")}
        return {**attributes, "data": data}

    @property
    def id(self) -> str:
        return self.event["id"]


Answer = tuple[int, dict[str, str]]
Answers = Callable[[Got], Awaitable[Answer]]


async def fine(_: Got) -> Answer:
    return 204, {}


@dataclass
class Receiver:
    answer: Answers = fine
    got: list[Got] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    port: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(6):
            while not done():
                self.news.clear()
                await self.news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {
            k.strip().lower(): v.strip() for k, _, v in (one.partition(":") for one in lines[1:] if one)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        got = Got(method, path, headers, body)
        self.got.append(got)
        self.news.set()
        status, more = await self.answer(got)
        if 200 <= status < 300:
            self.taken.append(got.id)
        head = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{head}\r\n".encode())
        await writer.drain()
        self.news.set()
        return True


@asynccontextmanager
async def receiving(answer: Answers = fine) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


def verified(got: Got, secret: str) -> bool:
    """Whether the signature is right, by the words of Standard Webhooks and nothing of ours."""
    key = base64.b64decode(secret.split("_", 1)[1])
    signed = (got.headers["webhook-id"] + "." + got.headers["webhook-timestamp"] + ".").encode() + got.body
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return got.headers["webhook-signature"] == expected


def row(name: str, seq: int, kind: str = "Node", action: str = "transitioned", **data: Any) -> Put:
    event = ResourceEvent(
        id=f"{kind}/{name}/{seq}",
        type=f"steersman.resource.{action}.v1",
        subject=f"{kind}/{name}",
        sequence=seq,
        time=SystemClock().now(),
        data={"kind": kind, "id": name, "action": action, **data},
    )
    return Put(f"outbox/{kind}/{name}/{seq:012d}", msgspec.json.encode(event))


async def write_rows(store: Store, names: str, start: int = 1) -> list[str]:
    """A row for each letter, numbered by its place among the same letters; the ids."""
    made: list[str] = []
    for place, name in enumerate(names):
        seq = start + names[:place].count(name)
        await store.commit([], [row(name, seq)])
        made.append(f"Node/{name}/{seq}")
    return made


def in_order(ids: list[str]) -> bool:
    """Whether each resource's events come in order, repeats of earlier ones left out."""
    highest: dict[str, int] = {}
    for one in ids:
        name, _, seq = one.rpartition("/")
        if int(seq) > highest.get(name, 0) + 1:
            return False
        highest[name] = max(highest.get(name, 0), int(seq))
    return True
