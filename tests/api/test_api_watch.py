"""The watch stream: order, resume, filters, slow and stalled readers, bounds, a clean end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
import pytest

from steersman.api.streams import STALL_S, Line
from steersman.api.watch import HEARTBEAT_S
from steersman.client.sse import EventParser, ServerEvent
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.state.limits import BusLimits

Fragment = Callable[..., dict[str, Any]]
Make = Callable[..., Any]


def put(world: Any, *fragments: dict[str, Any]) -> None:
    for one in fragments:
        world.bus.put(msgspec.convert(one, StateFragment))


class Reader:
    """A caller of the watch over bare ASGI, whose speed and end the test decides."""

    def __init__(self, api: Any, query: str = "", headers: dict[str, str] | None = None) -> None:
        self.status = 0
        self.raw = bytearray()
        self.events: list[ServerEvent] = []
        self.chunks: list[bytes] = []
        self.complete = False
        self.may_send = asyncio.Event()
        self.may_send.set()
        self._gone = asyncio.Event()
        self._arrived = asyncio.Event()
        self._parser = EventParser()
        self.scope = {
            "type": "http",
            "method": "GET",
            "path": "/api/v1/watch",
            "raw_path": b"/api/v1/watch",
            "query_string": query.encode(),
            "headers": [(b"host", b"127.0.0.1")]
            + [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
            "client": ("127.0.0.1", 5),
        }
        self._api = api

    async def run(self) -> None:
        """Be served, until either side ends."""
        await self._api(self.scope, self._receive, self._send)

    def hang_up(self) -> None:
        self._gone.set()

    async def until(self, count: int) -> list[ServerEvent]:
        """The events so far, as soon as there are so many."""
        while len(self.events) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.events

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.may_send.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.chunks.append(message["body"])
        self.raw += message["body"]
        self.events += self._parser.feed(message["body"])
        self.complete = not message["more_body"]
        self._arrived.set()


@asynccontextmanager
async def reading(tasks: Supervisor, reader: Reader) -> AsyncIterator[asyncio.Task[None]]:
    task = tasks.spawn("reader", reader.run())
    try:
        yield task
    finally:
        reader.hang_up()
        await asyncio.wait([task])


def names(events: list[ServerEvent]) -> list[str]:
    return [event.name for event in events]


def ids_in(events: list[ServerEvent]) -> list[str]:
    return [msgspec.json.decode(e.data)["entity_id"] for e in events if e.name in ("entity", "gone")]


async def test_a_stream_begins_with_hello_and_tells_changes_in_order(world: Any, fragment: Fragment) -> None:
    put(world, fragment("before"))
    world.bus.feed.flush()
    reader = Reader(world.api)
    async with reading(world.tasks, reader):
        (hello,) = await reader.until(1)
        assert hello.name == "hello"
        assert msgspec.json.decode(hello.data)["revision"] == int(hello.id or "")
        put(world, fragment("a"), fragment("b"))
        world.bus.forget(EntityType.NODE, "a", "c1")
        await reader.until(3)
        while "gone" not in names(reader.events):
            await reader.until(len(reader.events) + 1)
    assert ids_in(reader.events) == ["b", "a"], "once each, by the last change"
    told = [int(event.id) for event in reader.events if event.id is not None]
    assert told == sorted(told)
    entity = next(e for e in reader.events if e.name == "entity")
    assert msgspec.json.decode(entity.data)["entity_type"] == "node"


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_caller_that_comes_back_gets_what_it_missed(how: str, world: Any, fragment: Fragment) -> None:
    put(world, fragment("a"), fragment("b"))
    first = Reader(world.api, "after=0")
    async with reading(world.tasks, first):
        await first.until(3)
    last = max(int(event.id) for event in first.events if event.id is not None)
    put(world, fragment("c"), fragment("a", cpu_utilization=0.9), fragment("c", cpu_utilization=0.8))
    world.bus.forget(EntityType.NODE, "b", "c1")
    again = Reader(
        world.api,
        f"after={last}" if how == "query" else "after=0",
        {} if how == "query" else {"last-event-id": str(last)},
    )
    async with reading(world.tasks, again):
        await again.until(4)
    assert names(again.events) == ["hello", "entity", "entity", "gone"]
    assert ids_in(again.events) == ["a", "c", "b"], "each once, in the order of the last change"


@pytest.mark.parametrize("after", ["1000000", "999999999999999999"])
async def test_a_revision_from_elsewhere_leads_to_a_resync(
    after: str, world: Any, fragment: Fragment
) -> None:
    put(world, fragment("a"))
    world.bus.feed.flush()
    reader = Reader(world.api, f"after={after}")
    async with reading(world.tasks, reader):
        await reader.until(2)
    assert names(reader.events) == ["hello", "resync"]
    assert int(reader.events[1].id or "") == world.bus.revision


async def test_history_that_is_gone_leads_to_a_resync(new_world: Make, fragment: Fragment) -> None:
    async with new_world(limits=BusLimits(changes_max=8)) as world:
        put(world, *(fragment("a", cpu_utilization=n / 100) for n in range(50)))
        world.bus.sweep()
        reader = Reader(world.api, "after=1")
        async with reading(world.tasks, reader):
            await reader.until(2)
        assert names(reader.events) == ["hello", "resync"]


async def test_kinds_filter_in_any_spelling(world: Any, fragment: Fragment) -> None:
    reader = Reader(world.api, "kinds=GPUs,svc&kinds=queue&after=0")
    put(
        world,
        fragment("n"),
        fragment("g", "gpu", gpu_utilization=0.1),
        fragment("s", "service", error_rate=0.0),
    )
    async with reading(world.tasks, reader):
        await reader.until(3)
    assert ids_in(reader.events) == ["g", "s"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("kinds=cat", 404, "unknown_kind"),
        ("after=-1", 400, "invalid_parameter"),
        ("after=x", 400, "invalid_parameter"),
        ("after=1&after=2", 400, "invalid_parameter"),
        ("after=" + "9" * 30, 400, "invalid_parameter"),
        ("since=1", 400, "unknown_parameter"),
    ],
)
async def test_wrong_watches_are_refused(query: str, status: int, code: str, world: Any) -> None:
    answer = await world.http.get(f"/api/v1/watch?{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert len(world.api.lines) == 0


async def test_one_encoding_serves_all_streams(world: Any, fragment: Fragment) -> None:
    readers = [Reader(world.api) for _ in range(20)]
    tasks = [world.tasks.spawn("reader", reader.run()) for reader in readers]
    for reader in readers:
        await reader.until(1)
    put(world, fragment("a"))
    for reader in readers:
        await reader.until(2)
    assert len({id(reader.chunks[-1]) for reader in readers}) == 1, "the same bytes, not equal ones"
    assert "steersman_watch_events_total 1.0" in (await world.http.get("/metrics")).text
    for reader in readers:
        reader.hang_up()
    await asyncio.wait(tasks)


async def test_a_slow_reader_gets_the_latest_state_and_no_backlog(world: Any, fragment: Fragment) -> None:
    reader = Reader(world.api)
    async with reading(world.tasks, reader):
        await reader.until(1)
        reader.may_send.clear()
        for value in range(200):
            put(world, fragment("a", cpu_utilization=value / 200))
            if value % 20 == 0:
                world.bus.feed.flush()
                await asyncio.sleep(0)
        reader.may_send.set()
        while msgspec.json.decode(reader.events[-1].data).get("cpu_utilization") != 199 / 200:
            await reader.until(len(reader.events) + 1)
    assert len(reader.events) <= 5


@pytest.mark.looptime
async def test_a_quiet_stream_beats_and_moves_its_reader_on(new_world: Make, fragment: Fragment) -> None:
    """Goal: changes that a filter keeps out still move the last id, so that coming back stays cheap."""
    async with new_world() as world:
        reader = Reader(world.api, "kinds=gpu")
        async with reading(world.tasks, reader):
            await reader.until(1)
            put(world, fragment("n"))
            await asyncio.sleep(2.5 * HEARTBEAT_S)
        assert reader.raw.count(b": still here") == 2
        assert names(reader.events) == ["hello"]
        assert reader._parser.last_id == str(world.bus.revision)


@pytest.mark.looptime
async def test_a_reader_that_takes_nothing_is_cut(new_world: Make, fragment: Fragment) -> None:
    async with new_world() as world:
        reader = Reader(world.api)
        task = world.tasks.spawn("reader", reader.run())
        await reader.until(1)
        reader.may_send.clear()
        began = asyncio.get_running_loop().time()
        put(world, fragment("a"))
        await task
        assert asyncio.get_running_loop().time() - began < STALL_S + 1
        assert not reader.complete
        assert len(world.api.lines) == 0
        assert "steersman_watch_drops_total 1.0" in (await world.http.get("/metrics")).text


async def test_streams_are_bounded(new_world: Make) -> None:
    async with new_world(streams_max=2) as world:
        first, second = Reader(world.api), Reader(world.api)
        async with reading(world.tasks, first), reading(world.tasks, second):
            await first.until(1)
            await second.until(1)
            answer = await world.http.get("/api/v1/watch")
            assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (
                429,
                "too_many_streams",
                2,
            )
            assert answer.headers["retry-after"] == "5"
            assert (await world.http.get("/api/v1/status")).json()["streams"] == 2
        third = Reader(world.api)
        async with reading(world.tasks, third):
            await third.until(1)


async def test_a_reader_that_goes_is_noticed_at_once(world: Any) -> None:
    reader = Reader(world.api)
    async with reading(world.tasks, reader):
        await reader.until(1)
        assert len(world.api.lines) == 1
    assert len(world.api.lines) == 0
    assert world.bus.counters()["subscriptions"] == 0


async def test_the_end_is_said_and_no_stream_opens_after_it(world: Any, fragment: Fragment) -> None:
    reader = Reader(world.api)
    async with reading(world.tasks, reader) as task:
        await reader.until(1)
        await world.api.drain()
        await asyncio.wait([task])
    assert names(reader.events) == ["hello", "bye"]
    assert msgspec.json.decode(reader.events[-1].data)["reason"] == "shutdown"
    assert reader.complete
    assert (await world.http.get("/api/v1/watch")).status_code == 503


async def test_secrets_do_not_leave_through_the_stream(world: Any, fragment: Fragment) -> None:
    put(world, {**fragment("a", password="hunter2"), "labels": {"cluster": "c1", "api-token": "tok-1234"}})
    reader = Reader(world.api, "after=0")
    async with reading(world.tasks, reader):
        await reader.until(2)
    assert b"hunter2" not in reader.raw
    assert b"tok-1234" not in reader.raw
    assert b"***" in reader.raw


async def test_over_a_real_server_a_stream_ends_cleanly_at_shutdown(
    world: Any, serve: Make, fragment: Fragment
) -> None:
    """Goal: the last event is bye, the answer is complete, and the server does not wait for its time-out."""
    parser, events = EventParser(), []
    async with (
        serve(world) as url,
        httpx2.AsyncClient() as http,
        http.stream("GET", f"{url}/api/v1/watch?after=0") as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        async for chunk in answer.aiter_raw():
            events += parser.feed(chunk)
            if names(events) == ["hello"]:
                put(world, fragment("a"))
            elif names(events) == ["hello", "entity"]:
                await world.api.drain()
    assert names(events) == ["hello", "entity", "bye"]


async def test_over_a_real_server_a_closed_connection_frees_its_stream(world: Any, address: str) -> None:
    async with httpx2.AsyncClient() as http, http.stream("GET", f"{address}/api/v1/watch") as answer:
        await anext(answer.aiter_raw())
        assert len(world.api.lines) == 1
    while len(world.api.lines):
        await asyncio.sleep(0)


async def test_a_stream_ends_also_while_changes_never_stop(world: Any, fragment: Fragment) -> None:
    """Goal: a shutdown does not wait for a quiet moment."""
    reader = Reader(world.api)
    async with reading(world.tasks, reader) as task:
        await reader.until(1)
        for value in range(5000):
            put(world, fragment("a", cpu_utilization=value / 5000))
            world.bus.feed.flush()
            if value == 100:
                await world.api.drain()
            await asyncio.sleep(0)
            if task.done():
                break
        assert value < 4000
    assert reader.events[-1].name == "bye"


async def test_a_revoked_token_ends_its_stream_and_nothing_more_is_told(
    guarded: Any, fragment: Fragment
) -> None:
    """Goal: revoking works at once also on what is open; who comes back with another token misses nothing."""
    token = await guarded.token("viewer")
    bearer = {"authorization": f"Bearer {token}"}
    reader, other = Reader(guarded.api, "", bearer), Reader(guarded.api, "", await guarded.bearer("viewer"))
    async with reading(guarded.tasks, reader) as task, reading(guarded.tasks, other):
        await reader.until(1)
        await other.until(1)
        put(guarded, fragment("n1"))
        told = int((await reader.until(2))[-1].id or 0)
        await guarded.plane.tokens.revoke(token.split("_")[1])
        put(guarded, fragment("n2"))
        await asyncio.wait_for(task, 10)
        assert [event.name for event in reader.events] == ["hello", "entity", "bye"]
        bye = msgspec.json.decode(reader.events[-1].data)
        assert bye == {"revision": told, "reason": "token_ended"}
        assert reader.complete
        assert b"n2" in (await other.until(3))[-1].data


@pytest.mark.looptime
async def test_an_end_at_the_moment_of_a_heartbeat_is_an_end() -> None:
    """Goal: a wait that runs out in the very step in which the stream is told to end raises nothing."""
    loop, line = asyncio.get_running_loop(), Line(None, lambda: True)  # type: ignore[arg-type]  # unused
    at_s = loop.time() + 5
    heard: list[str] = []
    loop.set_exception_handler(lambda _, context: heard.append(str(context)))
    waiting = asyncio.ensure_future(line.wait(asyncio.Event().wait, 5))
    await asyncio.sleep(0)
    loop.call_at(at_s, line.end, "shutdown")
    assert await waiting is None
    assert heard == []
    assert line.ending == "shutdown"
