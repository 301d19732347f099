"""A Ledger on each kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ledger_house import tables

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.state.ledger import Ledger
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    rng = seeded_rng(1)
    made: Store
    if request.param == "memory":
        made = MemoryStore(clock=clock, rng=rng)
    else:
        made = SqliteStore(tmp_path / "store.db", clock=clock, rng=rng)
    async with made:
        yield made


@pytest.fixture
def ledger(store: Store, clock: ManualClock) -> Ledger:
    return Ledger(store, clock, tables())
