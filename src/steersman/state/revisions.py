"""Reserving bus revisions, so that none is ever given twice (decision 0011).

The bus counts in memory and is not asked to write before it counts. So a block of numbers is reserved in the
store first; after a crash, counting goes on above the whole block. The unused rest of a block is lost, which
costs nothing: a block is large enough to outlast a store that is down for days, and small enough that two
million starts stay within the integers that every JSON reader can hold (2^53).
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from steersman.kernel.errors import SteersmanError
from steersman.store.api import Check, Conflict, Put, Record, Store

KEY = "soft/bus/revisions"
BLOCK = 2**32
"""At 100,000 changes a second: twelve hours."""
RENEW_BELOW = BLOCK // 2
ATTEMPTS_MAX = 5


class RevisionRecordInvalid(SteersmanError):
    """The record of reserved revisions can't be read; counting anew would give revisions twice."""

    code = "revision_record_invalid"
    title = "Record of revisions invalid"


class _Reserved(Struct):
    """What the store holds: every revision up to `ceiling` may have been given."""

    ceiling: int


class RevisionBlocks:
    """The blocks that this process reserves, one after the other without a gap."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = 0
        self.ceiling = 0
        """The last revision that may be given."""

    async def open(self) -> int:
        """Reserve the first block; the revision that counting starts above. Raises `RevisionRecordInvalid`,
        `StoreUnavailable`, `Conflict` where another process keeps reserving on the same store."""
        for attempt in range(ATTEMPTS_MAX):
            record = await self._store.get(KEY)
            first = _ceiling_of(record)
            try:
                await self._reserve(first + BLOCK, record.version if record is not None else 0)
            except Conflict:
                if attempt == ATTEMPTS_MAX - 1:
                    raise
                continue
            return first
        raise AssertionError("unreachable")

    async def renew(self, revision: int) -> int:
        """Reserve the next block if less than half of the present one is left at `revision`; the ceiling.

        Raises `Conflict` where another process reserved on this store meanwhile: two planes share it.
        """
        if self.ceiling - revision < RENEW_BELOW:
            await self._reserve(self.ceiling + BLOCK, self._version)
        return self.ceiling

    async def _reserve(self, ceiling: int, version: int) -> None:
        value = msgspec.json.encode(_Reserved(ceiling))
        await self._store.commit([Check(KEY, version)], [Put(KEY, value)])
        self._version = version + 1
        self.ceiling = ceiling


def _ceiling_of(record: Record | None) -> int:
    if record is None:
        return 0
    try:
        return msgspec.json.decode(record.value, type=_Reserved).ceiling
    except msgspec.MsgspecError as error:
        raise RevisionRecordInvalid(
            f"store key {KEY}: {error}; restore the store from a backup, or delete the key if no client "
            "holds an older revision",
            key=KEY,
        ) from error
