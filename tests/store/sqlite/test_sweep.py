"""Compaction's rows: exactly those that nobody can read any more are gone."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import OwnedThread
from steersman.store.api import Delete, Put
from steersman.store.sqlite import SqliteStore
from steersman.store.sqlite.batch import ROWS_PER_REVISION
from steersman.store.sqlite.operations import CommitOperation, CompactOperation
from steersman.store.sqlite.sweep import SWEEP_ROWS
from steersman.store.sqlite.writer import Writer
from steersman.testing.store_expect import until


def make(path: Path) -> SqliteStore:
    return SqliteStore(path, clock=ManualClock(), rng=seeded_rng(0))


def rows(path: Path) -> list[tuple[int, str]]:
    """(revision, key) of all that is in the file."""
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        found = db.execute("SELECT id, key FROM log ORDER BY id").fetchall()
    finally:
        db.close()
    return [(row_id // ROWS_PER_REVISION, key) for row_id, key in found]


def reachable(log: list[tuple[int, str, bool]], compacted: int) -> list[tuple[int, str]]:
    """What must be kept of (revision, key, is a put): the state at `compacted`, and all since."""
    state: dict[str, tuple[int, bool]] = {}
    kept: list[tuple[int, str]] = []
    for revision, key, is_put in log:
        if revision <= compacted:
            state[key] = (revision, is_put)
        if revision >= compacted:
            kept.append((revision, key))
    kept += [(revision, key) for key, (revision, is_put) in state.items() if is_put and revision < compacted]
    return sorted(kept)


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_left_is_what_can_be_read(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store.db"
    rng = seeded_rng(seed)
    log: list[tuple[int, str, bool]] = []
    alive: set[str] = set()
    compacted = 0
    async with make(path) as store:
        for _ in range(3):
            for _ in range(80):
                writes = {f"k/{int(rng.random() * 40):02d}": rng.random() < 0.7 for _ in range(3)}
                writes = {key: is_put for key, is_put in writes.items() if is_put or key in alive}
                if not writes:
                    continue
                revision = await store.commit(
                    [], [Put(key, b"v") if is_put else Delete(key) for key, is_put in writes.items()]
                )
                log += [(revision, key, writes[key]) for key in sorted(writes)]
                alive |= {key for key, is_put in writes.items() if is_put}
                alive -= {key for key, is_put in writes.items() if not is_put}
            newest = await store.revision()
            compacted = newest - int(rng.random() * 3) * 20
            await store.compact(compacted)
            expected = reachable(log, compacted)
            await until(lambda expected=expected: rows(path) == expected, f"the rows kept at {compacted}")


async def test_a_sweep_is_done_in_pieces_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Told to end right after a large compaction, the writer has done one piece; the rest goes at the next
    start, unasked."""
    path = tmp_path / "store.db"
    loop = asyncio.get_running_loop()
    count = 4 * SWEEP_ROWS
    ended = asyncio.Event()
    writer = Writer(
        path,
        opened=lambda outcome: None,
        report=lambda report: None,
        ended=lambda: loop.call_soon_threadsafe(ended.set) and None,
    )
    for number in range(count):
        put = Put(f"k/{number % 10}", b"v")
        writer.put([CommitOperation(loop.create_future(), conditions=[], writes=[put])])
    writer.put([CompactOperation(loop.create_future(), before_revision=count)])
    writer.end()
    thread = OwnedThread("writer", writer.run, writer.end).start()
    await ended.wait()
    thread.close()
    assert len(rows(path)) == count - SWEEP_ROWS + 10
    async with make(path):
        await until(lambda: len(rows(path)) == 10, "the end of the sweep")
