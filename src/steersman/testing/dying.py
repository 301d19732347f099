"""Dying at each commit: what a program does that is killed between any two of its writes.

`DyingStore` lets so many commits through and then is dead, as a killed process is: the commit that kills is
either not made at all, or made and never answered, which are the two things that can be true of it. A life is
run against it, and then another life against the store itself, which must come to the same end. `die_at_each`
does so for every commit that a whole life makes, both ways.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from steersman.store.api import (
    Condition,
    Event,
    Lease,
    Page,
    Record,
    Store,
    StoreUnavailable,
    Write,
)

DEATHS_MAX = 500
"""Commits that a life may make until the test is thought to be endless."""

Counts = Callable[[Sequence[Write]], bool]
"""Whether a commit is one of those that are counted."""
Life = Callable[[Store, asyncio.Event], Awaitable[None]]
"""A life: run the program on the store to its end; return soon once the event is set (it is dead)."""


class Died(StoreUnavailable):
    """The process is thought to be dead; whatever gets this can't matter any more."""


def touches(prefix: str) -> Counts:
    """Count commits that write a key under the prefix."""
    return lambda writes: any(write.key.startswith(prefix) for write in writes)


class DyingStore:
    """A store that dies at the counted commit number `dies_at` (from 1). `made`: that commit is made, and its
    answer lost; else it is not made. `died` is set then; `commits` counts."""

    def __init__(self, store: Store, dies_at: int, *, made: bool, counts: Counts | None = None) -> None:
        self._store = store
        self._dies_at = dies_at
        self._made = made
        self._counts = counts
        self.commits = 0
        self.died = asyncio.Event()

    async def get(self, key: str) -> Record | None:
        self._check()
        return await self._store.get(key)

    async def list(
        self, prefix: str, limit: int = 10_000, after: str | None = None, revision: int | None = None
    ) -> Page:
        self._check()
        return await self._store.list(prefix, limit, after, revision)

    async def commit(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        self._check()
        if self._counts is not None and not self._counts(writes):
            return await self._store.commit(conditions, writes)
        if self.commits + 1 == self._dies_at:
            if self._made:
                await self._store.commit(conditions, writes)
            self.commits += 1
            self.died.set()
            self._check()
        revision = await self._store.commit(conditions, writes)
        self.commits += 1
        return revision

    def watch(self, prefix: str, after_revision: int) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        self._check()
        return self._store.watch(prefix, after_revision)

    async def lease(self, ttl_s: float) -> Lease:
        self._check()
        return await self._store.lease(ttl_s)

    async def renew(self, lease: Lease) -> None:
        self._check()
        await self._store.renew(lease)

    async def revoke(self, lease: Lease) -> None:
        self._check()
        await self._store.revoke(lease)

    async def compact(self, before_revision: int) -> None:
        self._check()
        await self._store.compact(before_revision)

    async def revision(self) -> int:
        self._check()
        return await self._store.revision()

    async def close(self) -> None:
        """Nothing: the store is its owner's."""

    async def __aenter__(self) -> DyingStore:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing: the store is its owner's."""

    def _check(self) -> None:
        if self.died.is_set():
            raise Died(f"died at commit {self._dies_at}", outcome="unknown")


async def die_at_each(
    open_store: Callable[[], AbstractAsyncContextManager[Any]],
    life: Life,
    check: Callable[[Store], Awaitable[None]],
    *,
    counts: Counts | None = None,
    deaths_max: int = DEATHS_MAX,
) -> int:
    """For each commit of a life, and both ways to die at it: live until death, live again, `check`.

    `open_store` opens a new, empty store each time. Returns the number of deaths died.
    """
    deaths = 0
    for made in (False, True):
        for number in range(1, deaths_max + 1):
            async with open_store() as store:
                dying = DyingStore(store, number, made=made, counts=counts)
                await life(dying, dying.died)
                died = dying.died.is_set()
                await life(store, asyncio.Event())
                await check(store)
            if not died:
                break
            deaths += 1
        else:
            raise AssertionError(f"a life made {deaths_max} commits and was not over")
    return deaths
