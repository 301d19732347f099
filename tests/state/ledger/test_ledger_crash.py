"""kill -9 while many ask: nothing acknowledged is lost, no chain is broken, no budget is off by one.

A few kills in CI; `make chaos` sets CHAOS_KILLS for more, and CHAOS_SEED for other rounds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.state import ResourceRef
from steersman.state.ledger import keys, rows
from steersman.state.ledger.budgets import read_account
from steersman.state.ledger.reading import read_event
from steersman.state.ledger.verify import verify_store
from steersman.store.api import Store
from steersman.store.sqlite import SqliteStore
from steersman.testing.killing import Worker

KILLS = int(os.environ.get("CHAOS_KILLS", "10"))
FIRST_SEED = int(os.environ.get("CHAOS_SEED", "1"))
FILES = 2
RUN_MAX_S = 0.3

Acks = dict[tuple[ResourceRef, int], str]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(Path(__file__).with_name("ledger_crash_worker.py"))
    yield worker
    worker.close()


async def check_acks(store: Store, acks: Acks) -> None:
    for (ref, seq), hashed in acks.items():
        record = await store.get(keys.history_key(ref, seq))
        assert record is not None, f"{ref}/{seq} was acknowledged and is gone"
        assert rows.decode_row(record)[0].hash == hashed


async def check_events(store: Store) -> None:
    """Exactly one event for each row, written with it."""
    events = {record.key: record for record in (await store.list(keys.OUTBOX)).records}
    page = await store.list(keys.HISTORY)
    assert page.after is None
    assert len(events) == len(page.records)
    for record in page.records:
        entry, _ = rows.decode_row(record)
        event = events[keys.outbox_key(entry.ref, entry.seq)]
        assert event.revision == record.revision
        assert read_event(event).data["action"] == entry.action.value


async def check_budgets(store: Store) -> None:
    """Who is in the state that draws on the lifecycle's budget has the place, and nobody else."""
    loaded = [rows.load(record) for record in (await store.list(keys.RESOURCES)).records]
    drawn = {f"Node/{one.state.id}" for one in loaded if one.state.status == "firmware"}
    kept = {f"Node/{one.state.id}" for one in loaded if one.places}
    held: set[str] = set()
    for record in (await store.list(keys.BUDGETS)).records:
        account = read_account(record)
        assert len(account.places) <= (3 if account.name == "blast" else 1)
        held |= {place.resource for place in account.places if place.until is None}
    assert drawn == kept == held


@pytest.mark.slow
@pytest.mark.timeout(60 + 5 * KILLS)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + FILES))
async def test_nothing_that_the_ledger_acknowledged_is_lost(
    seed: int, tmp_path: Path, worker: Worker
) -> None:
    rng = seeded_rng(seed)
    path = tmp_path / "store.db"
    acks: Acks = {}
    written = 0
    for run in range(KILLS):
        for word, *told in worker.run_and_kill(path, run, rng, run_max_s=RUN_MAX_S):
            if word == "ack":
                acks[ResourceRef.parse(told[0]), int(told[1])] = told[2]
        async with SqliteStore(path, clock=ManualClock(), rng=seeded_rng(0)) as store:
            report = await verify_store(store)
            assert report.ok, report.problems
            written = report.rows
            await check_budgets(store)
            await check_acks(store, acks)
            if written < 5_000:
                await check_events(store)
        acks = dict(list(acks.items())[-2_000:])
    print(f"seed {seed}: {KILLS} kills, {written} rows")
    assert written > 10 * KILLS, "the Ledger was hardly under load"
