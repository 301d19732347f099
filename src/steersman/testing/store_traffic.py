"""Many clients and watchers at random against one store, judged by `store_history`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import Refused
from steersman.kernel.ids import Rng, seeded_rng
from steersman.store.api import Check, Condition, Delete, Lease, Put, Store, Write
from steersman.testing.store_expect import MakeStore, true
from steersman.testing.store_history import History, Recorder, validate

CLIENTS = 16
WATCHERS = 12
STEPS = 25
KEYS = 12
PREFIXES = ("", "k/", "k/1")
MARK = "k/1/end"
"""Under every prefix that is watched: tells the watchers that the recording is over."""

SEEDS = range(1, 9)


async def record_traffic(store: Store, rng: Rng) -> History:
    """Let clients and watchers loose on an open, empty store; what they did and saw."""
    recorder = Recorder(store)
    through: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as watching:
        watching.create_task(recorder.watch("whole", "", 0, through))

        async def client(name: str) -> None:
            known: dict[str, int] = {}
            lease: Lease | None = None
            for step in range(STEPS):
                if rng.random() < 0.1:
                    lease = await _change_lease(store, lease)
                conditions, writes = _some_commit(rng, known, f"{name}/{step}".encode(), lease)
                try:
                    await recorder.commit(name, conditions, writes)
                except Refused as refusal:
                    key = refusal.facts.get("key")
                    if key is not None:
                        known[key] = refusal.facts["current"]
                    continue
                for write in writes:
                    known.pop(write.key, None)  # unknown to this client: others write too
                if rng.random() < 0.2:
                    record = await store.get(_key(rng))
                    if record is not None:
                        known[record.key] = record.version

        async def watcher(number: int) -> None:
            for _ in range(int(rng.random() * 20)):
                await ManualClock().sleep(0)
            after = int(rng.random() * (await store.revision() + 1))
            prefix = PREFIXES[number % len(PREFIXES)]
            watching.create_task(recorder.watch(f"watcher-{number}", prefix, after, through))

        async with asyncio.TaskGroup() as working:
            for number in range(CLIENTS):
                working.create_task(client(f"client-{number}"))
            for number in range(WATCHERS):
                working.create_task(watcher(number))
        through.set_result(await store.revision())
        await recorder.commit("mark", [], [Put(MARK, b"")])
    history = await recorder.finish()
    history.ended_leases = True
    return history


async def _change_lease(store: Store, lease: Lease | None) -> Lease | None:
    if lease is None:
        return await store.lease(60)
    await store.revoke(lease)
    return None


def _some_commit(
    rng: Rng, known: dict[str, int], value: bytes, lease: Lease | None
) -> tuple[Sequence[Condition], Sequence[Write]]:
    """One to three writes, some deletions, some on conditions that may hold."""
    writes: dict[str, Write] = {}
    for _ in range(1 + int(rng.random() * 3)):
        key = _key(rng)
        if rng.random() < 0.25:
            writes[key] = Delete(key)
        else:
            hangs = lease.id if lease is not None and rng.random() < 0.5 else None
            writes[key] = Put(key, value, hangs)
    conditions = [Check(key, known.get(key, 0)) for key in writes if rng.random() < 0.4]
    return conditions, list(writes.values())


def _key(rng: Rng) -> str:
    return f"{'k' if rng.random() < 0.8 else 'other'}/{int(rng.random() * KEYS)}"


async def check_random_traffic(make: MakeStore, seed: int) -> None:
    """One seed's traffic leaves a recording without a fault."""
    async with make(ManualClock()) as store:
        history = await record_traffic(store, seeded_rng(seed))
    violations = validate(history)
    true(not violations, f"seed {seed}: {violations[:5]}")
    true(len(history.commits) > CLIENTS, f"seed {seed}: hardly anything happened")
