"""A clock that stands still, and each store that the plane may run on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from steersman.kernel.clock import ManualClock, using_clock
from steersman.kernel.ids import seeded_rng
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    clock = ManualClock()
    with using_clock(clock):
        yield clock


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        opened: MemoryStore | SqliteStore = MemoryStore(clock=clock, rng=seeded_rng(1))
    else:
        opened = SqliteStore(tmp_path / "plane.db", clock=clock, rng=seeded_rng(1))
    async with opened:
        yield opened
