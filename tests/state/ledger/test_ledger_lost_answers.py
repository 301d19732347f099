"""A commit whose answer is lost, and a lease that is gone: nothing is done twice or refused in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from ledger_house import ALICE, NODE, node, ref, tables

from steersman.kernel.clock import ManualClock
from steersman.kinds.command import Terms
from steersman.state.ledger import Ledger
from steersman.state.ledger.guard import GuardedStore
from steersman.state.ledger.keys import IDEMPOTENCY
from steersman.store.api import Condition, Lease, Store, StoreUnavailable, Write


class Forgetful(GuardedStore):
    """A real store whose answer to a commit is lost, or where commits come at the same moment."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._inner = store
        self.loses = False
        self.waits: asyncio.Barrier | None = None

    async def commit(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        barrier = self.waits
        if barrier is not None:
            await barrier.wait()
            self.waits = None
        revision = await self._inner.commit(conditions, writes)
        if self.loses:
            self.loses = False
            raise StoreUnavailable("the answer was lost")
        return revision


async def test_a_change_whose_answer_was_lost_is_not_made_again(store: Store, clock: ManualClock) -> None:
    forgetful = Forgetful(store)
    ledger = Ledger(forgetful, clock, tables())
    await ledger.create(node(), ALICE)
    before = (await ledger.claim(NODE, ALICE)).state.epoch
    forgetful.loses = True
    with pytest.raises(StoreUnavailable):
        await ledger.claim(NODE, ALICE)
    assert (await ledger.get(NODE)).epoch == before + 1


async def test_many_answers_at_once_outlive_the_end_of_their_lease(store: Store, clock: ManualClock) -> None:
    together = Forgetful(store)
    ledger = Ledger(together, clock, tables())
    for number in range(8):
        await ledger.create(node(f"n{number}"), ALICE)
    await ledger.claim(ref("n0"), ALICE, Terms(idempotency_key="first"))
    kept = (await store.list(IDEMPOTENCY)).records[0]
    assert kept.lease is not None
    await store.revoke(Lease(kept.lease, 0, 60.0))
    together.waits = asyncio.Barrier(8)
    await asyncio.gather(
        *(
            ledger.claim(ref(f"n{number}"), ALICE, Terms(idempotency_key=f"key-{number}"))
            for number in range(8)
        )
    )
