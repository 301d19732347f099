"""kill -9 at random moments under load: nothing acknowledged is lost, nothing is half there, no gap.

Ten files of 20 kills each in CI. `make chaos` sets CHAOS_KILLS for more kills a file, and
CHAOS_SEED repeats other rounds: a failure names its seed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct, field

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.store.api import Compacted, Event
from steersman.store.sqlite import SqliteStore
from steersman.store.sqlite.batch import ROWS_PER_REVISION
from steersman.testing.killing import Worker
from steersman.testing.store_expect import take

KILLS_PER_FILE = int(os.environ.get("CHAOS_KILLS", "20"))
FIRST_SEED = int(os.environ.get("CHAOS_SEED", "1"))
FILES = 10
RUN_MAX_S = 0.25
EARLY_KILLS = 0.2
"""This share falls into opening: migration, recovery of the last crash, the first commits."""


class Ack(Struct):
    """A commit that a writer was told is durable: `keys` starting with "-" were deletions."""

    revision: int
    stamp: str
    keys: list[str]


class Known(Struct):
    """What the outside knows of the store, over all kills of a file."""

    acks: list[Ack] = field(default_factory=list[Ack])
    revision: int = 0
    epoch: int = 0
    compacted: int = 0
    compacting: int = 0
    kills: int = 0


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(Path(__file__).with_name("crash_worker.py"))
    yield worker
    worker.close()


def note(known: Known, lines: list[list[str]]) -> None:
    """Take in what the killed process had told."""
    for line in lines:
        match line:
            case ["ack", revision, stamp, *keys]:
                known.acks.append(Ack(int(revision), stamp, keys))
                known.revision = max(known.revision, int(revision))
            case ["leased", revision]:
                known.revision = max(known.revision, int(revision))
            case ["lease", epoch]:
                assert int(epoch) > known.epoch, "an epoch was given twice"
                known.epoch = int(epoch)
            case ["compacting", before]:
                known.compacting = max(known.compacting, int(before))
            case ["compacted", before]:
                known.compacted = max(known.compacted, int(before))
            case ["open", revision]:
                assert int(revision) >= known.revision, "acknowledged commits were gone when it opened"
            case _:
                raise AssertionError(line)


async def log_of(store: SqliteStore, known: Known) -> tuple[int, dict[int, dict[str, Event]]]:
    """Where readable history begins, and all events from there by revision, as a watcher sees them."""
    newest = await store.revision()
    start = 0
    while True:
        log: dict[int, dict[str, Event]] = {}
        async with store.watch("", start) as events:
            try:
                while newest > start and (not log or max(log) < newest):
                    (event,) = await take(events, 1)
                    log.setdefault(event.revision, {})[event.key] = event
            except Compacted as error:
                start = int(error.facts["compacted"]) - 1
                continue
        # The last revision may have more events than the one that ended the loop.
        page = await store.list("", revision=newest)
        for record in page.records:
            if record.revision == newest:
                log[newest].setdefault(record.key, Event(record.key, newest, record))
        return start, log


async def verify(path: Path, known: Known) -> None:
    """Open the file that the killed process left, and hold it against what is known."""
    async with SqliteStore(path, clock=ManualClock(), rng=seeded_rng(0)) as store:
        await store.check()
        newest = await store.revision()
        assert newest >= known.revision, "an acknowledged commit is gone"
        start, log = await log_of(store, known)
        assert known.compacted <= start + 1 <= max(known.compacting, 1) or known.compacted == 0
        assert sorted(log) == list(range(start + 1, newest + 1)), "a gap in the revisions"
        verify_acks(known, start, log)
        verify_writers(known, log, {r.key: r.value for r in (await store.list("")).records})
        lease = await store.lease(1)
        assert lease.epoch > known.epoch
        known.epoch = lease.epoch
    verify_file(path)
    known.revision = newest
    known.acks = [ack for ack in known.acks if ack.revision > newest - 2000]


def verify_acks(known: Known, start: int, log: dict[int, dict[str, Event]]) -> None:
    """Each acknowledged commit is there at its revision: every key of it, and none beside."""
    for ack in known.acks:
        if ack.revision <= start:
            continue
        events = log[ack.revision]
        puts = {key for key in ack.keys if not key.startswith("-")}
        deletes = {key[1:] for key in ack.keys} - puts
        assert puts <= events.keys() <= puts | deletes, f"{ack} is {events}"
        for key in puts:
            record = events[key].record
            assert record is not None
            assert record.value.split()[0].decode() == ack.stamp


def verify_writers(known: Known, log: dict[int, dict[str, Event]], state: dict[str, bytes]) -> None:
    """Each writer's commits are there in its own order, each once, and no later than one in flight."""
    last: dict[str, tuple[int, int]] = {}
    for revision in sorted(log):
        event = log[revision]
        for key, change in event.items():
            if not key.startswith("w/") or change.record is None:
                continue
            run, writer, number = map(int, change.record.value.split()[0].decode().split("."))
            assert key == f"w/{writer:02d}"
            if key in last and last[key][0] == run:
                assert number == last[key][1] + 1, f"{key}: {number} after {last[key]}"
            last[key] = (run, number)
    for ack in known.acks:
        run, writer, number = map(int, ack.stamp.split("."))
        held = tuple(map(int, state[f"w/{writer:02d}"].split()[0].decode().split(".")))
        assert (held[0], held[2]) >= (run, number), f"{ack.stamp} was acknowledged, the key holds {held}"
    for key, value in state.items():
        if key.startswith("pair/"):
            mine = value.split()[0].split(b".")
            other = state["w/" + key.removeprefix("pair/")].split()[0].split(b".")
            assert [int(n) for n in other] >= [int(n) for n in mine], "half a commit"


def verify_file(path: Path) -> None:
    """What only the file itself shows: leases and keys belong together, ids are well formed."""
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        orphans = db.execute(
            "SELECT key FROM log AS this WHERE lease IS NOT NULL"
            " AND id = (SELECT max(id) FROM log WHERE key = this.key)"
            " AND lease NOT IN (SELECT id FROM lease)"
        ).fetchall()
        assert orphans == [], "keys on leases that are gone"
        torn = db.execute(
            f"SELECT id / {ROWS_PER_REVISION} AS revision, min(id), max(id), count(*) FROM log"
            f" GROUP BY revision HAVING max(id) % {ROWS_PER_REVISION} < count(*) - 1"
        ).fetchall()
        assert torn == [], "places within a commit are given twice"
    finally:
        db.close()


@pytest.mark.slow
@pytest.mark.timeout(60 + 5 * KILLS_PER_FILE)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + FILES))
async def test_nothing_acknowledged_is_lost(seed: int, tmp_path: Path, worker: Worker) -> None:
    rng = seeded_rng(seed)
    path = tmp_path / "store.db"
    known = Known()
    total = 0
    for run in range(KILLS_PER_FILE):
        lines = worker.run_and_kill(path, run, rng, run_max_s=RUN_MAX_S, early=EARLY_KILLS)
        total += sum(line[0] == "ack" for line in lines)
        note(known, lines)
        await verify(path, known)
        known.kills += 1
    print(f"seed {seed}: {known.kills} kills, {total} commits acknowledged, revision {known.revision}")
    assert total > 10 * KILLS_PER_FILE, "the store was hardly under load"
