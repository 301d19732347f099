"""A look at a store's file from outside, while it is open and when it is damaged."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import system_rng
from steersman.store.api import Put, StoreUnavailable
from steersman.store.sqlite import SqliteStore
from steersman.store.sqlite.inspection import inspect_file


async def test_an_open_store_names_its_holder_and_stays_usable(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with SqliteStore(path, clock=SystemClock(), rng=system_rng()) as store:
        await store.commit([], [Put("a", b"1")])
        facts = await asyncio.to_thread(inspect_file, path)
        assert facts.holder == os.getpid()
        assert facts.mode == 0o600
        assert facts.size_bytes > 0
        await store.commit([], [Put("b", b"2")])
    facts = await asyncio.to_thread(inspect_file, path)
    assert facts.holder is None
    async with SqliteStore(path, clock=SystemClock(), rng=system_rng()) as store:
        assert await store.get("b") is not None


async def test_damage_is_told_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with SqliteStore(path, clock=SystemClock(), rng=system_rng()) as store:
        await store.commit([], [Put(f"k{n}", b"x" * 1000) for n in range(100)])
    await asyncio.to_thread(_damage_and_look, path)


def _damage_and_look(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:3000] = b"\xa5" * 2900
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="damaged"):
        inspect_file(path)
    assert path.read_bytes() == content


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        inspect_file(tmp_path / "none.db")
