"""The embedded store: group commit against a commit for each fsync, and watch fan-out.

The baseline is the same shape of write (check a version, insert a row, index it) in plain sqlite3 with the
same settings, one transaction for each, from one thread with nothing else to do: what the disk and SQLite
give without group commit. The store's figure includes everything a caller pays: its task, the queue, the
decision, the answer.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.figure import Figure
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import system_rng
from steersman.store.api import Check, Conflict, Put
from steersman.store.sqlite import SqliteStore
from steersman.store.sqlite.file import open_checked, prepare

WRITERS = 64
COMMITS = 32_000
BASELINE_COMMITS = 2_000
VALUE = b"x" * 200
"""About the size of a transition's record."""

ROUNDS = 3
WATCHERS = 1_000
WATCHED_COMMITS = 150


def open_store(path: Path) -> SqliteStore:
    """A store on the machine's clock."""
    return SqliteStore(path, clock=SystemClock(), rng=system_rng())


def one_fsync_a_commit(path: Path) -> float:
    """Commits a second in plain sqlite3: version check, insert, COMMIT, each durable by itself."""
    prepare(path)
    db = open_checked(path)
    began = time.perf_counter()
    for number in range(BASELINE_COMMITS):
        key = f"w/{number % WRITERS:02d}"
        db.execute("BEGIN IMMEDIATE")
        row = db.execute("SELECT version FROM log WHERE key = ? ORDER BY id DESC LIMIT 1", (key,)).fetchone()
        version = row[0] if row else 0
        db.execute("INSERT INTO log VALUES (?, ?, ?, ?, NULL)", ((number + 1) << 14, key, version + 1, VALUE))
        db.execute("COMMIT")
    rate = BASELINE_COMMITS / (time.perf_counter() - began)
    db.close()
    return rate


async def concurrent_writers(path: Path) -> float:
    """Durable commits a second of 64 tasks, each with a check of the version it wrote last."""
    async with open_store(path) as store:

        async def write(writer: int) -> None:
            key = f"w/{writer:02d}"
            for version in range(COMMITS // WRITERS):
                await store.commit([Check(key, version)], [Put(key, VALUE)])

        began = time.perf_counter()
        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
        return COMMITS / (time.perf_counter() - began)


async def one_writer(path: Path) -> float:
    """Durable commits a second of a single task that waits for each: what one caller gets alone."""
    async with open_store(path) as store:
        began = time.perf_counter()
        for version in range(BASELINE_COMMITS // 4):
            await store.commit([Check("w", version)], [Put("w", VALUE)])
        return BASELINE_COMMITS // 4 / (time.perf_counter() - began)


async def losing_writers(path: Path) -> float:
    """Refusals a second: 64 tasks whose version is always wrong. A refusal must not cost an fsync."""
    async with open_store(path) as store:
        await store.commit([], [Put("w", VALUE)])

        async def write() -> None:
            for _ in range(COMMITS // WRITERS // 8):
                try:
                    await store.commit([Check("w", 0)], [Put("w", VALUE)])
                except Conflict:
                    continue

        began = time.perf_counter()
        await asyncio.gather(*(write() for _ in range(WRITERS)))
        return COMMITS / 8 / (time.perf_counter() - began)


class Arrivals:
    """Counts the watchers that have heard of a commit, and keeps how long each took."""

    def __init__(self) -> None:
        self.delays_ms: list[float] = []
        self.began = 0.0
        self._missing = 0
        self._all = asyncio.Event()

    def expect(self, count: int) -> None:
        """So many watchers shall hear of the next commit."""
        self._missing = count
        self._all.clear()

    def begin(self) -> None:
        """The commit is durable, and nobody but its caller knows."""
        self.began = time.perf_counter()

    def note(self) -> None:
        """One has heard."""
        self.delays_ms.append((time.perf_counter() - self.began) * 1000)
        self._missing -= 1
        if self._missing == 0:
            self._all.set()

    async def wait(self) -> None:
        """Until all have."""
        await self._all.wait()


async def fan_out(path: Path, prefixes: int) -> list[float]:
    """Milliseconds from a commit's return to each watcher's having the event.

    The store answers the caller first, so its return is the earliest moment at which the commit is known to
    be durable; what the disk takes is not the watchers' affair. The watchers share `prefixes` prefixes, so
    each commit concerns `WATCHERS / prefixes` of them. One commit at a time, the next when all have heard.
    """
    arrivals = Arrivals()
    async with open_store(path) as store, asyncio.TaskGroup() as group:

        async def watch(number: int) -> None:
            async with store.watch(f"p{number % prefixes}/", 0) as events:
                async for _ in events:
                    arrivals.note()

        for number in range(WATCHERS):
            group.create_task(watch(number))
        for number in range(WATCHED_COMMITS):
            arrivals.expect(WATCHERS // prefixes)
            await store.commit([], [Put(f"p{number % prefixes}/key", VALUE)])
            arrivals.begin()
            await arrivals.wait()
        await store.close()
    return arrivals.delays_ms[WATCHERS // prefixes :]  # the first commit also finds the watchers starting


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[int(len(values) * share)]


async def measure() -> list[Figure]:
    """Each rate is the median of `ROUNDS` rounds, taken in turn so that noise falls on all alike."""
    singles: list[float] = []
    groups: list[float] = []
    alone: list[float] = []
    refusals: list[float] = []
    with tempfile.TemporaryDirectory(prefix=".bench-store-", dir=Path.cwd()) as name:
        folder = Path(name)  # on the disk that the checkout is on, not on a /tmp that may be memory
        for number in range(ROUNDS):
            singles.append(one_fsync_a_commit(folder / f"single-{number}.db"))
            groups.append(await concurrent_writers(folder / f"group-{number}.db"))
            alone.append(await one_writer(folder / f"alone-{number}.db"))
            refusals.append(await losing_writers(folder / f"refused-{number}.db"))
        everyone = await fan_out(folder / "everyone.db", 1)
        spread = await fan_out(folder / "spread.db", 50)
    single, group = median(singles), median(groups)
    same = f"{single:.0f}/s in plain sqlite3, one transaction each, same settings and disk"
    return [
        Figure(
            f"group commit, {WRITERS} writers / commit per fsync",
            group / single,
            "x",
            ">=10",
            f"{group:.0f}/s against {same}",
        ),
        Figure(
            "one writer alone / commit per fsync", median(alone) / single, "x", "", f"{median(alone):.0f}/s"
        ),
        Figure("refused commits", median(refusals), "1/s", "", f"{WRITERS} writers, version always wrong"),
        Figure(
            f"watch p99, {WATCHERS} watchers of one prefix",
            percentile(everyone, 0.99),
            "ms",
            "<=5",
            f"from the commit's return to the watcher's event; median {median(everyone):.2f} ms, "
            f"{len(everyone)} deliveries",
        ),
        Figure(
            f"watch p99, {WATCHERS} watchers of 50 prefixes",
            percentile(spread, 0.99),
            "ms",
            "<=5",
            f"median {median(spread):.2f} ms; each commit concerns {WATCHERS // 50} watchers",
        ),
    ]
