"""The Store protocol: what every backend promises, and the errors that are part of the promise.

Terms, as in etcd. A *revision* is a number for the whole store that grows by one with each commit. A
*version* is a number for one key: 1 when it is created, one more with each write, 0 where it does not
exist; a key deleted and made again starts at 1. A *lease* is a time to live that keys can hang on; its
*epoch* is a number that only ever grows across the whole store and so tells an old holder from a new one.

`steersman.testing.store` is the one suite that each backend passes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import Struct

from steersman.kernel.bounds import MIB
from steersman.kernel.errors import InvalidInput, Refused, SteersmanError, Unavailable

KEY_MAX_CHARS = 1024
VALUE_MAX_BYTES = 4 * MIB
COMMIT_WRITES_MAX = 1024
COMMIT_CONDITIONS_MAX = 1024
COMMIT_MAX_BYTES = 16 * MIB
"""Keys and values of one commit together."""
PAGE_MAX = 10_000
PAGE_MAX_BYTES = 16 * MIB
"""A page ends early, with `after` set, once its values reach this; it holds one record at least."""
LEASE_TTL_MIN_S = 1.0
LEASE_TTL_MAX_S = 86_400.0
LEASES_MAX = 100_000
LEASE_KEYS_MAX = 10_000
"""Keys that may hang on one lease: they all go in one commit when it ends."""


# gc=False: these hold text, bytes and numbers (an Event a Record), so no cycle can run through them, and
# millions of them cost the garbage collector nothing.


class Record(Struct, frozen=True, gc=False):
    """A key's value at a revision: `revision` is that of its last write, `lease` the id it hangs on."""

    key: str
    value: bytes
    version: int
    revision: int
    lease: str | None = None


class Page(Struct, frozen=True):
    """Some records of one snapshot, in key order.

    `revision` is the snapshot's. `after` continues it: pass both to the next `list`; None is the end.
    """

    records: tuple[Record, ...]
    revision: int
    after: str | None


class Check(Struct, frozen=True, gc=False):
    """A commit's condition: the key is at this version (0: it does not exist)."""

    key: str
    version: int


class Held(Struct, frozen=True, gc=False):
    """A commit's condition: the lease is alive and has this epoch. Else `LeaseExpired`."""

    lease: str
    epoch: int


class Put(Struct, frozen=True, gc=False):
    """Set a key. With `lease` it goes when the lease goes; without, it stays, even if it hung on one."""

    key: str
    value: bytes
    lease: str | None = None


class Delete(Struct, frozen=True, gc=False):
    """Remove a key; a key that does not exist is no error and no event."""

    key: str


Condition = Check | Held
Write = Put | Delete


class Event(Struct, frozen=True, gc=False):
    """One change that a watcher sees. `record` is None for a deletion (by hand, or because a lease ended)."""

    key: str
    revision: int
    record: Record | None


class Lease(Struct, frozen=True, gc=False):
    """A time to live that was granted. `epoch` grows with every lease of the store: it is the fence."""

    id: str
    epoch: int
    ttl_s: float


class Conflict(Refused):
    """A check failed. `facts`: `key`, `expected`, `current` (its version now)."""

    code = "conflict"
    title = "Version conflict"


class Compacted(SteersmanError):
    """The history asked for is gone: list again, and watch from the list's revision. `facts`: `compacted`."""

    code = "compacted"
    title = "History compacted"
    status = 410


class FutureRevision(InvalidInput):
    """A revision that the store has not reached: the caller speaks of another store, or of a lost one."""

    code = "future_revision"
    title = "Revision not reached yet"


class LeaseExpired(Refused):
    """The lease is not alive: it ended, was revoked, or never was. `facts`: `lease`."""

    code = "lease_expired"
    title = "Lease expired"


class StoreUnavailable(Unavailable):
    """The backend can't serve: locked, full, corrupt, unreachable. `detail` says which and what to do.

    A commit that raises this may or may not have been made (as with any lost answer): read before you
    repeat. Backends set `facts["outcome"]` to "not_done" where they know that nothing was written.
    """

    code = "store_unavailable"
    title = "Store unavailable"


class StoreClosed(StoreUnavailable):
    """The store was closed, or not opened yet: a mistake in the order of things, not of the disk."""

    code = "store_closed"
    title = "Store closed"


class Store(Protocol):
    """A backend. Open it with `async with`; all methods may be called from any task of the loop."""

    async def get(self, key: str) -> Record | None:
        """The key's record now; None where it does not exist.

        A caller sees every commit that returned before it asked. A key whose lease is over is not returned,
        also where the store is a moment late in deleting it.
        """
        ...

    async def list(
        self, prefix: str, limit: int = PAGE_MAX, after: str | None = None, revision: int | None = None
    ) -> Page:
        """Records under `prefix` in key order, at most `limit`, those behind `after`.

        One consistent snapshot: the newest, or the one at `revision` (pass a page's own to go on in it).
        `after` need not exist, nor start with `prefix`. Raises `Compacted`, `FutureRevision`.
        """
        ...

    async def commit(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        """All writes or none, at one new revision, durable when this returns; the revision is returned.

        Each key at most once among the writes (`InvalidInput`); a commit over a bound is `TooLarge`. Where
        the writes come to nothing (none, or deletes of absent keys) the conditions are checked all the same,
        and the present revision is returned.
        Raises `Conflict` (first failed check), `LeaseExpired`, `StoreUnavailable`. Cancelling the caller
        does not undo a commit that was handed over.
        """
        ...

    def watch(self, prefix: str, after_revision: int) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Every change under `prefix` after that revision: once, in order, no gaps; then the ones to come.

        Events of one commit share its revision and come in key order. The iterator raises `Compacted` where
        history it needs is gone (also when this watcher is slower than compaction) and `FutureRevision`.
        Leaving the context ends it; closing the store ends the iteration. The caller's speed is its own
        affair: a slow watcher reads what it missed from history, and holds up neither writers nor others.
        """
        ...

    async def lease(self, ttl_s: float) -> Lease:
        """Grant a lease of `ttl_s`, durable. It ends `ttl_s` after the grant or the last renewal.

        Only time in which the store is open counts, by the monotonic clock: a step of the wall clock neither
        shortens nor stretches a lease, and a restart never ends one early (docs/decisions/0009).
        Raises `InvalidInput` for a time out of bounds, `TooMany` at `LEASES_MAX`.
        """
        ...

    async def renew(self, lease: Lease) -> None:
        """Start its time to live anew. Raises `LeaseExpired`."""
        ...

    async def revoke(self, lease: Lease) -> None:
        """End it now: its keys are deleted in one commit. A lease that has ended is no error."""
        ...

    async def compact(self, before_revision: int) -> None:
        """Forget history before that revision: superseded values and old deletions. Live records stay.

        From then on the snapshot at that revision is the oldest to be read, and a watch may start from the
        revision before it. Repeating it, or asking for less than was compacted before, does nothing.
        Raises `FutureRevision`.
        """
        ...

    async def revision(self) -> int:
        """The present revision; 0 for a store never written to."""
        ...

    async def close(self) -> None:
        """Finish what was handed over, end the watchers, release files. Repeating it does nothing."""
        ...

    async def __aenter__(self) -> Store: ...

    async def __aexit__(self, *exc: object) -> None: ...
