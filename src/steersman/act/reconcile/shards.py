"""Which keys are this replica's.

Keys fall into `SHARDS` shards by a stable hash of kind and id. A shard is held by one replica at a time: its
key `shards/<nn>` hangs on the replica's lease, so it goes when the replica does, and every write made for a
key of it carries that lease as a condition (`held`): a replica that was gone too long can write nothing.

One lease a replica, not one a shard: 64 leases would be 64 durable renewals each few seconds, for nothing. A
shard is handed over only when none of its keys is in work, so a living lease that no longer holds a shard can
have no write of it left.

Replicas announce themselves under `replicas/`, and each holds at most its even share of the shards, rounded
up; so shards move only when replicas come and go. One replica holds all.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable

import msgspec

from steersman.kernel.clock import Clock
from steersman.kernel.logging import get_logger
from steersman.kinds.state import ResourceRef
from steersman.store.api import (
    Check,
    Condition,
    Conflict,
    Delete,
    Held,
    Lease,
    LeaseExpired,
    Put,
    Record,
    Store,
    StoreUnavailable,
    Write,
)

SHARDS = 64
"""Shards of all keys. Fixed for the life of a store: two replicas must agree on it."""
SHARD_PREFIX = "shards/"
REPLICA_PREFIX = "replicas/"
LEASE_TTL_S = 15.0
"""A replica that falls silent is replaced after so long, and a step more at most."""
STEP_S = LEASE_TTL_S / 3
"""How often a replica renews its lease and looks at the others."""
SAFETY_S = 2.0
"""So long before its lease may have ended a replica stops by itself."""

_log = get_logger("act.shards")


def shard_of(ref: ResourceRef) -> int:
    """The key's shard: the same in every process and on every machine."""
    return zlib.crc32(f"{ref.kind}/{ref.id}".encode()) % SHARDS


def shard_key(shard: int) -> str:
    """Where the store says who holds it."""
    return f"{SHARD_PREFIX}{shard:02d}"


class Shards:
    """The shards that one replica holds.

    - `busy(shard)`: whether a key of it is in work; such a shard is not handed over.
    - `lost(shards)`: called at once with shards that are no longer ours; their work must stop.
    - `gained(shards)`: called with new ones; their keys are to be looked at.
    """

    def __init__(
        self,
        store: Store,
        replica: str,
        *,
        clock: Clock,
        busy: Callable[[int], bool],
        lost: Callable[[set[int]], None],
        gained: Callable[[set[int]], None],
    ) -> None:
        self._store = store
        self._replica = replica
        self._clock = clock
        self._busy = busy
        self._lost = lost
        self._gained = gained
        self._lease: Lease | None = None
        self._good_until_s = -math.inf
        self._mine: set[int] = set()
        self._leaving: set[int] = set()

    def held(self, ref: ResourceRef) -> Held | None:
        """The condition for writes of this key; None where its shard is not ours, or may not be any more."""
        if shard_of(ref) not in self._mine or self._lease is None:
            return None
        if self._clock.monotonic() >= self._good_until_s:
            return None
        return Held(self._lease.id, self._lease.epoch)

    def takes(self, ref: ResourceRef) -> bool:
        """Whether work on the key may begin: its shard is ours, and is not about to be handed over."""
        return shard_of(ref) not in self._leaving and self.held(ref) is not None

    @property
    def mine(self) -> frozenset[int]:
        """The shards held."""
        return frozenset(self._mine)

    async def run(self) -> None:
        """Take, renew, hand over, until cancelled."""
        while True:
            try:
                await self.step()
            except StoreUnavailable as error:
                _log.warning("shards_not_renewed", error=error.detail, retry_in_s=STEP_S)
            if self._mine and self._clock.monotonic() >= self._good_until_s:
                self._forget("its lease could not be renewed in time")
            await self._clock.sleep(STEP_S)

    async def step(self) -> None:
        """Renew the lease, read who else is there, hand over what is too much and take what is free."""
        await self._renew()
        records = (await self._store.list(SHARD_PREFIX)).records
        owners = {record.key: record for record in records}
        replicas = {record.key for record in (await self._store.list(REPLICA_PREFIX)).records}
        await self._settle(records, replicas)
        share = math.ceil(SHARDS / max(1, len(replicas)))
        surplus = sorted(self._mine)[share:]
        kept = (self._leaving - set(surplus)) & self._mine
        self._leaving = set(surplus)
        if kept:
            self._gained(kept)  # while they were to be handed over, what changed in them was not taken up
        for shard in surplus:
            if not self._busy(shard):
                await self._hand_over(shard, owners.get(shard_key(shard)))
        free = [shard for shard in range(SHARDS) if shard_key(shard) not in owners]
        await self._take(free[: max(0, share - len(self._mine))])

    async def release(self) -> None:
        """Give everything up, in order: the replica ends."""
        lease, self._lease = self._lease, None
        self._mine.clear()
        self._leaving.clear()
        if lease is not None:
            await self._store.revoke(lease)

    def doubt(self) -> None:
        """A write was refused because our lease has ended: nothing is ours until the next step."""
        self._forget("a write was refused")

    async def _renew(self) -> None:
        began_s = self._clock.monotonic()
        if self._lease is not None:
            try:
                await self._store.renew(self._lease)
            except LeaseExpired:
                self._forget("its lease had ended")
        if self._lease is None:
            self._lease = await self._store.lease(LEASE_TTL_S)
        # From before the call: the store may have counted from any moment within it.
        self._good_until_s = began_s + LEASE_TTL_S - SAFETY_S

    async def _settle(self, records: Iterable[Record], replicas: set[str]) -> None:
        """Announce ourselves, and take in what an earlier commit got us whose answer was lost."""
        lease = self._lease
        if lease is None:
            return
        own = f"{REPLICA_PREFIX}{self._replica}"
        if own not in replicas:
            await self._store.commit([], [Put(own, self._said(), lease=lease.id)])
            replicas.add(own)
        ours = {int(record.key[len(SHARD_PREFIX) :]) for record in records if record.lease == lease.id}
        found = ours - self._mine
        self._mine |= found
        if found:
            self._gained(found)

    async def _take(self, shards: list[int]) -> None:
        lease = self._lease
        if not shards or lease is None:
            return
        conditions: list[Condition] = [Check(shard_key(shard), 0) for shard in shards]
        writes: list[Write] = [Put(shard_key(shard), self._said(), lease=lease.id) for shard in shards]
        try:
            await self._store.commit(conditions, writes)
        except Conflict:
            return  # another one was quicker; the next step sees whose they are
        self._mine |= set(shards)
        self._gained(set(shards))

    async def _hand_over(self, shard: int, record: Record | None) -> None:
        self._mine.discard(shard)
        self._leaving.discard(shard)
        self._lost({shard})
        if record is not None and self._lease is not None and record.lease == self._lease.id:
            await self._store.commit([Check(record.key, record.version)], [Delete(record.key)])

    def _forget(self, why: str) -> None:
        lost, self._mine, self._lease = self._mine, set(), None
        self._leaving.clear()
        self._good_until_s = -math.inf
        if lost:
            _log.warning("shards_lost", replica=self._replica, shards=len(lost), why=why)
            self._lost(lost)

    def _said(self) -> bytes:
        return msgspec.json.encode({"replica": self._replica, "at": self._clock.now()})
