"""The tail of the outbox: order, resume from memory and disk, what was retired, filters, many readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.command import ChangeAction, ResourceEvent
from steersman.kinds.subscription import EventFilter
from steersman.state.tail import RETIRED_KEY, Batch, Tail, TailReader, write_retired
from steersman.store.api import Delete, Put, Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore


def row(kind: str, name: str, seq: int, action: str = "transitioned", **data: object) -> Put:
    event = ResourceEvent(
        id=f"{kind}/{name}/{seq}",
        type=f"steersman.resource.{action}.v1",
        subject=f"{kind}/{name}",
        sequence=seq,
        time=SystemClock().now(),
        data={"kind": kind, "id": name, "action": action, **data},
    )
    return Put(f"outbox/{kind}/{name}/{seq:012d}", msgspec.json.encode(event))


async def write(store: Store, *names: str) -> list[int]:
    """A row for each word: the number of times it came before is its sequence."""
    made: list[int] = []
    for name in names:
        seq = len((await store.list(f"outbox/Node/{name}/")).records) + 1
        made.append(await store.commit([], [row("Node", name, seq)]))
    return made


def ids(batch: Batch) -> list[str]:
    return [told.event.id for told in batch.events]


async def drain(reader: TailReader) -> list[str]:
    """Everything that there is for a reader now."""
    found: list[str] = []
    while reader.behind:
        batch = await reader.step()
        found += ids(batch) if batch else []
    return found


@pytest.fixture
async def tasks() -> AsyncIterator[Supervisor]:
    async with Supervisor(SystemClock(), seeded_rng(1)) as supervisor:
        yield supervisor


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore(clock=SystemClock(), rng=seeded_rng(1)) as made:
        yield made


async def running(tasks: Supervisor, store: Store, **bounds: int) -> Tail:
    tail = Tail(store, SystemClock(), **bounds)
    tasks.start(f"tail.{id(tail)}", tail.run, ALWAYS)
    while not tail.loaded:
        await tail.wait()
    return tail


async def test_a_reader_from_now_on_sees_what_comes_in_order(store: Store, tasks: Supervisor) -> None:
    await write(store, "old")
    tail = await running(tasks, store)
    reader = tail.open()
    assert await drain(reader) == []
    revisions = await write(store, "a", "b", "a")
    seen: list[str] = []
    while len(seen) < 3:
        batch = await reader.next()
        assert not batch.lost
        seen += ids(batch)
    assert seen == ["Node/a/1", "Node/b/1", "Node/a/2"]
    assert reader.revision == revisions[-1]


async def test_other_keys_and_deletions_are_no_events(store: Store, tasks: Supervisor) -> None:
    await write(store, "a")
    tail = await running(tasks, store)
    reader = tail.open(0)
    await store.commit([], [Put("resources/Node/a", b"{}"), Delete("outbox/Node/a/000000000001")])
    await store.commit([], [Put("outbox/Node/broken/000000000001", b"no json")])
    await write(store, "b")
    seen: list[str] = []
    while "Node/b/1" not in seen:
        seen += ids(await reader.next())
    assert seen == ["Node/a/1", "Node/b/1"], "what is in memory is told; what can't be read is passed over"


@pytest.mark.parametrize("ring", [4, 1000])
async def test_a_reader_that_comes_back_misses_nothing_also_behind_the_ring(
    ring: int, store: Store, tasks: Supervisor
) -> None:
    await write(store, *"abcabcabc")
    tail = await running(tasks, store, ring_events_max=ring)
    expected = await drain(tail.open(0))
    assert len(expected) == 9
    for after in range(1, 9):
        assert await drain(tail.open(after)) == expected[after:]


async def test_a_reader_behind_the_ring_catches_up_while_more_comes(store: Store, tasks: Supervisor) -> None:
    await write(store, *["a"] * 30)
    tail = await running(tasks, store, ring_events_max=8)
    reader = tail.open(3)
    seen: list[str] = []
    for _ in range(10):
        seen += ids(await reader.next())
        await write(store, *["a"] * 5)
        await asyncio.sleep(0)
    seen += await drain(reader)
    while len(seen) < 77:
        seen += ids(await reader.next())
    assert seen == [f"Node/a/{n}" for n in range(4, 81)]


async def test_what_was_retired_is_told_once_and_only_to_who_missed_it(
    store: Store, tasks: Supervisor
) -> None:
    revisions = await write(store, *"aaaa")
    await store.commit(
        [],
        [
            *[Delete(f"outbox/Node/a/{seq:012d}") for seq in (1, 2)],
            Put(RETIRED_KEY, write_retired(revisions[1])),
        ],
    )
    tail = await running(tasks, store)
    late = tail.open(revisions[0])
    batch = await late.next()
    assert (batch.lost, ids(batch)) == (True, ["Node/a/3", "Node/a/4"])
    await write(store, "a")
    assert not (await late.next()).lost
    well = await tail.open(revisions[1]).next()
    assert (well.lost, ids(well)[0]) == (False, "Node/a/3")


async def test_a_cursor_of_another_store_is_lost_and_goes_on(store: Store, tasks: Supervisor) -> None:
    await write(store, "a")
    tail = await running(tasks, store)
    reader = tail.open(10_000)
    batch = await reader.next()
    assert batch.lost
    assert batch.revision == tail.horizon
    await write(store, "b")
    batch = await reader.next()
    assert (batch.lost, ids(batch)) == (False, ["Node/b/1"])


async def test_filters(store: Store, tasks: Supervisor) -> None:
    tail = await running(tasks, store)
    wanted = EventFilter(
        frozenset({"Node"}), frozenset({ChangeAction.DELETED.value}), frozenset({("rack", "1")})
    )
    reader = tail.open(0, wanted)
    await store.commit([], [row("Node", "a", 1, "deleted", labels={"rack": "2"})])
    await store.commit([], [row("Node", "b", 1, "created", labels={"rack": "1"})])
    await store.commit([], [row("Session", "c", 1, "deleted", labels={"rack": "1"})])
    await store.commit([], [row("Node", "d", 1, "deleted", labels={"rack": "1", "row": "x"})])
    assert ids(await reader.next()) == ["Node/d/1"]


async def test_a_tail_slower_than_compaction_reads_the_outbox_again(store: Store, tasks: Supervisor) -> None:
    tail = Tail(store, SystemClock())
    await write(store, "a")
    reader = tail.open(0)
    tasks.start("tail", tail.run, ALWAYS)
    assert ids(await reader.next()) == ["Node/a/1"]
    await tasks.end("tail")
    await write(store, "b", "c")
    await store.compact(await store.revision())
    tasks.start("tail", tail.run, ALWAYS)
    assert ids(await reader.next()) == ["Node/b/1", "Node/c/1"]


async def test_the_place_of_a_time(store: Store, tasks: Supervisor) -> None:
    tail = await running(tasks, store)
    first, second = await write(store, "a", "b")
    when = msgspec.json.decode((await store.list("outbox/Node/b/")).records[0].value, type=ResourceEvent).time
    assert await tail.place_before(when) == second - 1
    assert await tail.place_before(when - timedelta(hours=1)) == first - 1
    assert await tail.place_before(when + timedelta(hours=1)) == second


async def test_a_slow_reader_holds_up_nobody_and_a_thousand_share_the_reading(
    store: Store, tasks: Supervisor
) -> None:
    await write(store, *["a"] * 40)
    tail = await running(tasks, store, ring_events_max=8)
    slow = tail.open(0)
    readers = [tail.open(5) for _ in range(1000)]
    looks = 0
    listing = store.list

    async def counted(*args: object) -> object:
        nonlocal looks
        looks += 1
        return await listing(*args)  # type: ignore[arg-type]

    store.list = counted  # type: ignore[method-assign,assignment]
    found = await asyncio.gather(*(drain(reader) for reader in readers))
    assert all(one == [f"Node/a/{n}" for n in range(6, 41)] for one in found)
    assert looks <= 4, "a thousand that come back together cost a look or two at the disk"
    assert (await drain(slow))[0] == "Node/a/1"


async def test_it_goes_on_over_a_restart_of_the_process(tmp_path: Path, tasks: Supervisor) -> None:
    clock = SystemClock()
    async with SqliteStore(tmp_path / "s.db", clock=clock, rng=seeded_rng(1)) as store:
        tail = await running(tasks, store)
        reader = tail.open(0)
        await write(store, *"abab")
        seen: list[str] = []
        while len(seen) < 2:
            seen += ids(await reader.next())[: 2 - len(seen)]
        place = 2
    async with SqliteStore(tmp_path / "s.db", clock=clock, rng=seeded_rng(1)) as store:
        tail = await running(tasks, store)
        assert seen + await drain(tail.open(place)) == ["Node/a/1", "Node/b/1", "Node/a/2", "Node/b/2"]


async def test_a_reader_ahead_of_the_tail_rests(tasks: Supervisor, store: Store) -> None:
    """Goal: a cursor from the disk may be newer than what the watch has brought; that is no news."""
    await write(store, "a")
    tail = await running(tasks, store)
    await store.commit([], [Put("other", b"")])
    reader = tail.open(await store.revision())
    assert await drain(reader) == []
    assert not reader.behind
    await write(store, "b")
    assert ids(await reader.next()) == ["Node/b/1"]
