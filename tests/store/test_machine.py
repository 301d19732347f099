"""SQLite step by step beside the memory store, in sequences that hypothesis thinks of."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import HealthCheck, settings

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore
from steersman.testing.store_machine import StoreMachine

BOUNDS = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class MemoryMachine(StoreMachine):
    """The model against itself: the machine's own proof that it accepts a good store."""

    def make(self, clock: ManualClock) -> Store:
        return MemoryStore(clock=clock, rng=seeded_rng(1))


class SqliteMachine(StoreMachine):
    """The embedded store, also over restarts."""

    durable: ClassVar[bool] = True

    def make(self, clock: ManualClock) -> Store:
        return SqliteStore(self.folder / "store.db", clock=clock, rng=seeded_rng(1))


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(BOUNDS, max_examples=20)

TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = BOUNDS
