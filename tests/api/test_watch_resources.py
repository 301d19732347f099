"""Events of resources on the watch stream: ids of two places, resume, filters, loss, a thousand readers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from test_api_watch import Reader, names, put, reading

from steersman.client import AsyncSteersman
from steersman.kernel.clock import SystemClock
from steersman.kinds.command import ResourceEvent
from steersman.state.tail import RETIRED_KEY, write_retired
from steersman.store.api import Delete, Put
from steersman.testing.plane import World, make_world

Fragment = Callable[..., dict[str, Any]]


@pytest.fixture
async def telling() -> AsyncIterator[World]:
    async with make_world(events=True) as made:
        yield made


def row(name: str, seq: int, kind: str = "Node") -> Put:
    event = ResourceEvent(
        id=f"{kind}/{name}/{seq}",
        type="steersman.resource.transitioned.v1",
        subject=f"{kind}/{name}",
        sequence=seq,
        time=SystemClock().now(),
        data={"kind": kind, "id": name},
    )
    return Put(f"outbox/{kind}/{name}/{seq:012d}", msgspec.json.encode(event))


async def change(world: Any, *rows: Put) -> None:
    for one in rows:
        await world.plane.store.commit([], [one])


def told(reader: Reader) -> list[str]:
    return [msgspec.json.decode(one.data)["id"] for one in reader.events if one.name == "resource"]


async def until(reader: Reader, done: Callable[[], bool]) -> None:
    while not done():
        await reader.until(len(reader.events) + 1)


async def test_a_stream_tells_both_and_resumes_both(telling: World, fragment: Fragment) -> None:
    first = Reader(telling.api)
    async with reading(telling.tasks, first):
        (hello,) = await first.until(1)
        assert hello.id == f"0-{telling.plane.tail.horizon}"
        await change(telling, row("a", 1))
        put(telling, fragment("n1"))
        await until(first, lambda: {"entity", "resource"} <= set(names(first.events)))
    last = [event.id for event in first.events if event.id is not None][-1]
    await change(telling, row("a", 2), row("b", 1))
    put(telling, fragment("n2"))
    again = Reader(telling.api, headers={"last-event-id": last})
    async with reading(telling.tasks, again):
        await until(again, lambda: len(again.events) >= 4)
    assert told(again) == ["Node/a/2", "Node/b/1"]
    assert names(again.events).count("entity") == 1, "nothing twice, nothing left out"


async def test_no_cut_loses_an_event(telling: World, fragment: Fragment) -> None:
    """Goal: come back after any event, with the last id that was whole, and everything is told."""
    await change(telling, *[row("abc"[n % 3], 1 + n // 3) for n in range(9)])
    whole = Reader(telling.api, "after=0-0")
    async with reading(telling.tasks, whole):
        await until(whole, lambda: len(told(whole)) == 9)
    expected = told(whole)
    for position, event in enumerate(whole.events):
        if event.id is None:
            continue
        again = Reader(telling.api, headers={"last-event-id": event.id})
        seen = [
            msgspec.json.decode(one.data)["id"]
            for one in whole.events[: position + 1]
            if one.name == "resource"
        ]
        async with reading(telling.tasks, again):
            await again.until(1)
            left = len(expected) - len(seen)
            await until(again, lambda again=again, left=left: len(told(again)) >= left)
        assert seen + told(again) == expected


@pytest.mark.parametrize(
    ("query", "entities", "resources", "two"),
    [
        ("", {"gpu", "node"}, {"Node", "Session"}, True),
        ("kinds=node", {"node"}, {"Node"}, True),
        ("kinds=gpu", {"gpu"}, set(), False),
        ("kinds=session", set(), {"Session"}, True),
        ("kinds=gpu&resources=all", {"gpu"}, {"Node", "Session"}, True),
        ("resources=none", {"gpu", "node"}, set(), False),
        ("kinds=gpu&resources=nodes,sessions", {"gpu"}, {"Node", "Session"}, True),
    ],
)
async def test_what_is_asked_for(
    query: str, entities: set[str], resources: set[str], two: bool, telling: World, fragment: Fragment
) -> None:
    reader = Reader(telling.api, query)
    async with reading(telling.tasks, reader):
        (hello,) = await reader.until(1)
        assert ("-" in (hello.id or "")) is two, "a stream of entities alone has the ids it always had"
        assert ("resource_revision" in msgspec.json.decode(hello.data)) is two
        await change(telling, row("a", 1), row("s", 1, "Session"))
        put(telling, fragment("g1", kind="gpu"), fragment("n1"))
        await until(reader, lambda: len(reader.events) == 1 + len(entities) + len(resources))
        await asyncio.sleep(0.1)
    kinds = {msgspec.json.decode(e.data)["entity_type"] for e in reader.events if e.name == "entity"}
    assert kinds == entities
    assert {one.partition("/")[0] for one in told(reader)} == resources


async def test_events_that_were_retired_are_told_as_lost(telling: World) -> None:
    await change(telling, row("a", 1), row("a", 2), row("a", 3))
    newest = await telling.plane.store.revision()
    await telling.plane.store.commit(
        [],
        [Delete("outbox/Node/a/000000000001"), Put(RETIRED_KEY, write_retired(newest - 2))],
    )
    async with make_world(events=True) as later:
        later.plane.tail._store = telling.plane.store  # the same store, as after a restart
        await later.plane.tail._load()
        reader = Reader(later.api, "after=0-0&kinds=session,node")
        async with reading(later.tasks, reader):
            await reader.until(4)
        assert names(reader.events) == ["hello", "resource_resync", "resource", "resource"]


@pytest.mark.parametrize("after", ["1-", "-1", "1-2-3", "a-1", "1-x", "1" * 19, "1-" + "1" * 19])
async def test_an_id_that_is_none_of_ours_is_refused(after: str, telling: World) -> None:
    answer = await telling.http.get(f"/api/v1/watch?after={after}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def test_kinds_that_there_are_not_are_refused(telling: World) -> None:
    for query in ("kinds=nodle", "resources=nodle"):
        answer = await telling.http.get(f"/api/v1/watch?{query}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_kind")


@pytest.mark.looptime
async def test_a_heartbeat_says_both_places(telling: World) -> None:
    reader = Reader(telling.api, "kinds=session")
    async with reading(telling.tasks, reader):
        await reader.until(1)
        await change(telling, row("a", 1))
        await asyncio.sleep(40)
    marks = [line for line in bytes(reader.raw).decode().split("\n") if line.startswith("id: ")]
    assert marks[-1] == f"id: 0-{telling.plane.tail.horizon}", "past what the filter kept out"


async def test_a_thousand_readers_are_told_and_held_up_by_no_slow_one(telling: World) -> None:
    readers = [Reader(telling.api, "kinds=session,node&resources=all") for _ in range(1000)]
    readers[0].may_send.clear()
    tasks = [telling.tasks.spawn("reader", one.run()) for one in readers]
    await asyncio.gather(*(one.until(1) for one in readers[1:]))
    await change(telling, *[row("a", seq) for seq in range(1, 21)])
    async with asyncio.timeout(30):
        await asyncio.gather(*(one.until(21) for one in readers[1:]))
    assert all(len(told(one)) == 20 for one in readers[1:])
    readers[0].may_send.set()
    await readers[0].until(21)
    for one in readers:
        one.hang_up()
    await asyncio.wait(tasks)


async def test_the_client_comes_back_where_it_was(telling: World, serve: Any) -> None:
    """Goal: a program that watches resources gets each event once, however often it is started."""
    seen: list[str] = []
    place: str | None = "0-0"
    async with serve(telling) as address:
        for life in range(3):
            await change(telling, row("a", 2 * life + 1), row("a", 2 * life + 2))
            async with (
                AsyncSteersman(address) as plane,
                contextlib.aclosing(plane.watch_resources(["Node"], after=place)) as events,
            ):
                async for one in events:
                    assert isinstance(one, ResourceEvent)
                    seen.append(one.id)
                    rows = (await telling.plane.store.list("outbox/")).records
                    place = f"0-{rows[len(seen) - 1].revision}"
                    if len(seen) == 2 * life + 2:
                        break
    assert seen == [f"Node/a/{seq}" for seq in range(1, 7)]
