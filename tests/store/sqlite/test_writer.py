"""The writer thread: one transaction for all that waits, bounds, and faults of our own."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from steersman.kernel.bounds import KIB, MIB
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import OwnedThread
from steersman.store.api import Check, Conflict, Put, StoreUnavailable
from steersman.store.sqlite import SqliteStore
from steersman.store.sqlite.file import WAL_MAX_BYTES
from steersman.store.sqlite.operations import CommitOperation, Operation, Report
from steersman.store.sqlite.store import QUEUE_OPERATIONS_MAX
from steersman.store.sqlite.writer import BATCH_OPERATIONS_MAX, Writer
from steersman.testing.store_expect import keys, put


def make(path: Path) -> SqliteStore:
    return SqliteStore(path, clock=ManualClock(), rng=seeded_rng(0))


def operation(number: int, *conditions: Check) -> CommitOperation:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    return CommitOperation(future, 10, conditions=conditions, writes=[Put(f"k/{number}", b"v")])


async def reports_of(path: Path, queued: list[list[Operation]]) -> list[Report]:
    """What the writer reports for operations that all wait before it starts."""
    reports: list[Report] = []
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    writer = Writer(
        path,
        opened=lambda outcome: None,
        report=lambda report: reports.append(report),
        ended=lambda: loop.call_soon_threadsafe(ended.set) and None,
    )
    for operations in queued:
        writer.put(operations)
    writer.end()
    thread = OwnedThread("writer", writer.run, writer.end).start()
    await ended.wait()
    thread.close()
    return reports


async def test_all_that_waits_is_one_transaction(tmp_path: Path) -> None:
    """64 commits from several hands: one report, one revision each, in the order in which they came."""
    operations = [operation(number) for number in range(64)]
    reports = await reports_of(tmp_path / "store.db", [operations[:1], operations[1:40], operations[40:]])
    assert len(reports) == 1
    assert [op.result for op in operations] == list(range(1, 65))
    assert [commit.revision for commit in reports[0].commits] == list(range(1, 65))


async def test_a_refusal_leaves_no_trace_in_the_batch(tmp_path: Path) -> None:
    """In order: each sees those before it, and a refused one changes nothing for those after."""
    operations = [
        operation(1, Check("k/1", 0)),
        operation(1, Check("k/1", 0)),
        operation(2, Check("k/1", 1)),
        operation(1, Check("k/2", 1)),
    ]
    (report,) = await reports_of(tmp_path / "store.db", [list(operations)])
    assert [op.result for op in operations] == [1, None, 2, 3]
    assert isinstance(operations[1].error, Conflict)
    assert [event.key for commit in report.commits for event in commit.events] == ["k/1", "k/2", "k/1"]


async def test_a_batch_is_bounded(tmp_path: Path) -> None:
    queued: list[list[Operation]] = [[operation(n)] for n in range(BATCH_OPERATIONS_MAX + 10)]
    reports = await reports_of(tmp_path / "store.db", queued)
    assert [len(report.settled) for report in reports] == [BATCH_OPERATIONS_MAX, 10]


async def test_the_queue_is_bounded_and_nobody_is_turned_away(tmp_path: Path) -> None:
    """More callers than places: the rest wait their turn, and those that give up free theirs."""
    async with make(tmp_path / "store.db") as store:
        most = 0

        async def write(number: int) -> int:
            nonlocal most
            revision = await put(store, f"{number}")
            most = max(most, store.in_flight)
            return revision

        count = 3 * QUEUE_OPERATIONS_MAX
        tasks = [asyncio.ensure_future(write(number)) for number in range(count)]
        await asyncio.sleep(0)
        assert store.in_flight == QUEUE_OPERATIONS_MAX
        for task in tasks[2::3]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        done = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert len(done) == count - len(tasks[2::3])
        assert most <= QUEUE_OPERATIONS_MAX
        assert await store.revision() == len(await keys(store))
        assert store.in_flight == 0


async def test_a_fault_of_ours_is_an_answer(tmp_path: Path) -> None:
    """What no check foresaw breaks that commit alone: its neighbours in the batch and the store go on."""
    async with make(tmp_path / "store.db") as store:

        async def bad() -> int:
            return await store.commit([object()], [Put("bad", b"")])  # type: ignore[list-item]  # the fault

        outcomes = await asyncio.gather(
            *(put(store, f"a/{n}") for n in range(5)),
            bad(),
            *(put(store, f"b/{n}") for n in range(5)),
            return_exceptions=True,
        )
        fault = outcomes.pop(5)
        assert isinstance(fault, StoreUnavailable)
        assert fault.facts["outcome"] == "not_done"
        assert outcomes == list(range(1, 11))
        assert await put(store, "after") == 11


async def test_closing_twice_and_reopening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = make(path)
    async with store:
        await put(store, "a")
    await store.close()
    async with make(path) as store:
        assert await keys(store) == ["a"]
        with pytest.raises(Conflict):
            await store.commit([Check("a", 0)], [])


async def test_the_write_ahead_log_is_bounded(tmp_path: Path) -> None:
    """Readers that overlap without a pause keep SQLite from starting its log anew by itself."""
    path = tmp_path / "store.db"
    log = tmp_path / "store.db-wal"
    async with make(path) as store:
        writing = True
        sizes: list[int] = []

        async def read() -> None:
            while writing:
                await store.list("")

        async def write() -> None:
            nonlocal writing
            block = bytes(256 * KIB)
            for number in range(3 * WAL_MAX_BYTES // 2 // len(block)):
                await put(store, f"{number % 20}", block)
                sizes.append(log.stat().st_size)
            writing = False

        await asyncio.gather(read(), read(), read(), write())
        assert max(sizes) <= WAL_MAX_BYTES + MIB


async def test_a_reader_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    """Somebody's open read by hand makes the log grow; commits go on, and the log shrinks afterwards."""
    path = tmp_path / "store.db"
    log = tmp_path / "store.db-wal"
    block = bytes(MIB)
    async with make(path) as store:
        await put(store, "a")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT * FROM log").fetchall()
        for number in range(WAL_MAX_BYTES // MIB + 8):
            await put(store, f"{number % 8}", block)
        assert log.stat().st_size > WAL_MAX_BYTES
        other.execute("COMMIT")
        other.close()
        for number in range(WAL_MAX_BYTES // MIB + 8):
            await put(store, f"{number % 8}", block)
        assert log.stat().st_size <= 2 * WAL_MAX_BYTES
