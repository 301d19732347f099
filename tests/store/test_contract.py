"""The one store suite, run by each store of this build. A new store is one more line in STORES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.kernel.ids import seeded_rng
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore
from steersman.testing.store import CHECKS, DURABLE_CHECKS, StoreCheck
from steersman.testing.store_expect import MakeStore


def memory(_: Path) -> MakeStore:
    return lambda clock: MemoryStore(clock=clock, rng=seeded_rng(0))


def sqlite(folder: Path) -> MakeStore:
    return lambda clock: SqliteStore(folder / "store.db", clock=clock, rng=seeded_rng(0))


STORES = [memory, sqlite]
DURABLE_STORES = [sqlite]


def name(value: object) -> str:
    return getattr(value, "__name__", str(value)).removeprefix("check_")


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("store", STORES, ids=name)
async def test_contract(store: Callable[[Path], MakeStore], check: StoreCheck, tmp_path: Path) -> None:
    await check(store(tmp_path))


@pytest.mark.parametrize("check", DURABLE_CHECKS, ids=name)
@pytest.mark.parametrize("store", DURABLE_STORES, ids=name)
async def test_durable_contract(
    store: Callable[[Path], MakeStore], check: StoreCheck, tmp_path: Path
) -> None:
    await check(store(tmp_path))
