"""The program that test_crash.py kills: many writers on one store, telling on a pipe what was acknowledged.

It tells a line for each commit that returned, after it returned. Values say who wrote what and in which
order.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import Rng, seeded_rng
from steersman.store.api import Conflict, Delete, Put, Write
from steersman.store.sqlite import SqliteStore
from steersman.testing.killing import serve, tell

WRITERS = 32
BALLAST_BYTES = 3_000


async def write(store: SqliteStore, run: int, writer: int, rng: Rng) -> None:
    """Commits of one to three keys; each holds the writer's own counter, and some ballast now and then."""
    number = 0
    while True:
        number += 1
        stamp = f"{run}.{writer}.{number}"
        value = stamp.encode() + b" " + bytes(int(rng.random() * BALLAST_BYTES) if rng.random() < 0.1 else 0)
        writes: list[Write] = [Put(f"w/{writer:02d}", value)]
        if rng.random() < 0.5:
            writes.append(Put(f"pair/{writer:02d}", value))
        if rng.random() < 0.3:
            key = f"shared/{int(rng.random() * 8)}"
            writes.append(Put(key, value) if rng.random() < 0.7 else Delete(key))
        revision = await store.commit([], writes)
        tell(f"ack {revision} {stamp} {' '.join(_name(write) for write in writes)}")


def _name(write: Write) -> str:
    return write.key if isinstance(write, Put) else f"-{write.key}"


async def lease_and_compact(store: SqliteStore, rng: Rng) -> None:
    """Leases that come and go, and compactions, so that kills also fall into those."""
    while True:
        lease = await store.lease(60)
        tell(f"lease {lease.epoch}")
        try:
            revision = await store.commit([], [Put("leased", b"leased", lease=lease.id)])
            tell(f"leased {revision}")
        except Conflict:
            pass
        for _ in range(20):
            await SystemClock().sleep(0.001)
        if rng.random() < 0.5:
            before = max(0, await store.revision() - int(rng.random() * 200))
            tell(f"compacting {before}")
            await store.compact(before)
            tell(f"compacted {before}")
        await store.revoke(lease)


async def main(path: Path, run: int, seed: int) -> None:
    async with SqliteStore(path, clock=SystemClock(), rng=seeded_rng(seed)) as store:
        tell(f"open {await store.revision()}")
        async with asyncio.TaskGroup() as group:
            for writer in range(WRITERS):
                group.create_task(write(store, run, writer, seeded_rng(seed * 1000 + writer)))
            group.create_task(lease_and_compact(store, seeded_rng(seed)))


if __name__ == "__main__":
    serve(main)
