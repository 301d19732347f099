"""The store for all rooms but the Ledger: reads everything, and can't write what is the Ledger's.

`app` opens one store, gives it to the Ledger, and hands this around. What would still get past it, another
program on the same file, `verify` finds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from steersman.kernel.errors import Refused
from steersman.state.ledger.keys import RESERVED
from steersman.store.api import PAGE_MAX, Condition, Event, Lease, Page, Record, Store, Write


class ReservedKey(Refused):
    """Only the Ledger writes this key: ask it for the change. `facts`: `key`."""

    code = "reserved_key"
    title = "Key reserved for the Ledger"


class GuardedStore:
    """A `Store` that refuses to write under `keys.RESERVED`. It does not own the store: closing it does
    nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, key: str) -> Record | None:
        return await self._store.get(key)

    async def list(
        self, prefix: str, limit: int = PAGE_MAX, after: str | None = None, revision: int | None = None
    ) -> Page:
        return await self._store.list(prefix, limit, after, revision)

    async def commit(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        """As the store's. Raises `ReservedKey`."""
        for write in writes:
            if write.key.startswith(RESERVED):
                raise ReservedKey(
                    f"{write.key[:80]!r} is written by the Ledger alone: ask it for the change", key=write.key
                )
        return await self._store.commit(conditions, writes)

    def watch(self, prefix: str, after_revision: int) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        return self._store.watch(prefix, after_revision)

    async def lease(self, ttl_s: float) -> Lease:
        return await self._store.lease(ttl_s)

    async def renew(self, lease: Lease) -> None:
        await self._store.renew(lease)

    async def revoke(self, lease: Lease) -> None:
        await self._store.revoke(lease)

    async def compact(self, before_revision: int) -> None:
        await self._store.compact(before_revision)

    async def revision(self) -> int:
        return await self._store.revision()

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass
