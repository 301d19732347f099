"""The Ledger: durable transitions a second against the same writes in bare SQLite.

A transition checks the resource's version and writes the resource, a history row and an event. The baseline
does that in plain sqlite3 with the same settings and values of the same size, and nothing else: no lifecycle,
no hash chain, no reading of the resource. Once with a transaction for each, as a program without group commit
would; once with as many in one transaction as there are writers, by hand, which is the best that SQLite could
do if somebody gathered them for free.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.figure import Figure
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import system_rng
from steersman.kinds.command import Actor
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.ledger import Ledger
from steersman.state.ledger.verify import verify_store
from steersman.store.sqlite import SqliteStore
from steersman.store.sqlite.file import open_checked, prepare
from steersman.testing.tables import Tables

WRITERS = 64
TRANSITIONS = 12_800
SINGLES = 1_500
ROUNDS = 3
STATE, ROW, EVENT = b"s" * 1_600, b"r" * 700, b"e" * 500
"""About the sizes of a node's records after some transitions."""

TABLE = Lifecycle.from_map({"a": ["b"], "b": ["a"]}, name="bench")
ACTOR = Actor("bench", ("operator",))


def write_one(db: sqlite3.Connection, number: int) -> None:
    """What one transition writes."""
    writer = number % WRITERS
    key = f"resources/Node/n{writer:02d}"
    row = db.execute("SELECT version FROM log WHERE key = ? ORDER BY id DESC LIMIT 1", (key,)).fetchone()
    version = row[0] if row else 0
    place = (number + 1) << 14
    insert = "INSERT INTO log VALUES (?, ?, ?, ?, NULL)"
    db.execute(insert, (place, f"history/Node/n{writer:02d}/{version + 1:012d}", 1, ROW))
    db.execute(insert, (place + 1, f"outbox/Node/n{writer:02d}/{version + 1:012d}", 1, EVENT))
    db.execute(insert, (place + 2, key, version + 1, STATE))


def bare(path: Path, count: int, each: int) -> float:
    """Transitions a second in plain sqlite3, `each` in a transaction."""
    prepare(path)
    db = open_checked(path)
    began = time.perf_counter()
    for start in range(0, count, each):
        db.execute("BEGIN IMMEDIATE")
        for number in range(start, start + each):
            write_one(db, number)
        db.execute("COMMIT")
    rate = count / (time.perf_counter() - began)
    db.close()
    return rate


async def transitions(path: Path) -> tuple[float, float]:
    """Transitions a second of 64 writers, each on a node of its own; and rows a second verified."""
    async with SqliteStore(path, clock=SystemClock(), rng=system_rng()) as store:
        ledger = Ledger(store, SystemClock(), Tables(TABLE))

        async def write(writer: int, count: int) -> None:
            ref = ResourceRef("Node", f"n{writer:02d}")
            await ledger.create(NodeState(id=ref.id, lifecycle_table="bench"), ACTOR)
            for number in range(count):
                await ledger.transition(ref, ACTOR, to="ba"[number % 2])

        began = time.perf_counter()
        await asyncio.gather(*(write(writer, TRANSITIONS // WRITERS) for writer in range(WRITERS)))
        rate = TRANSITIONS / (time.perf_counter() - began)
        began = time.perf_counter()
        report = await verify_store(store)
        if not report.ok:
            raise AssertionError(report.problems[:3])
        return rate, report.rows / (time.perf_counter() - began)


async def measure() -> list[Figure]:
    """Each rate is the median of `ROUNDS` rounds, taken in turn so that noise falls on all alike."""
    singles: list[float] = []
    grouped: list[float] = []
    ledgers: list[float] = []
    verified: list[float] = []
    with tempfile.TemporaryDirectory(prefix=".bench-ledger-", dir=Path.cwd()) as name:
        folder = Path(name)  # on the disk that the checkout is on
        for number in range(ROUNDS):
            singles.append(bare(folder / f"single-{number}.db", SINGLES, 1))
            grouped.append(bare(folder / f"grouped-{number}.db", TRANSITIONS, WRITERS))
            rate, check = await transitions(folder / f"ledger-{number}.db")
            ledgers.append(rate)
            verified.append(check)
    single, group, ledger = median(singles), median(grouped), median(ledgers)
    return [
        Figure(
            f"durable transitions, {WRITERS} writers / bare SQLite, one commit per fsync",
            ledger / single,
            "x",
            ">=10",
            f"{ledger:.0f}/s against {single:.0f}/s; check, guards, hash chain and event included",
        ),
        Figure(
            f"durable transitions / bare SQLite, {WRITERS} to a commit by hand",
            ledger / group,
            "x",
            "",
            f"{ledger:.0f}/s against {group:.0f}/s: what judging, hashing and encoding cost beside the disk",
        ),
        Figure("verification of all chains", median(verified), "rows/s", "", "decode, hash, link, head"),
    ]
