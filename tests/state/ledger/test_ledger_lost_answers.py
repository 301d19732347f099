"""A commit whose answer is lost, and a lease that is gone: nothing is done twice or refused in vain."""

from __future__ import annotations

import asyncio

import pytest
from ledger_house import ALICE, NODE, MeddledStore, node, ref, tables

from steersman.kernel.clock import ManualClock
from steersman.kinds.command import Terms
from steersman.state.ledger import Ledger
from steersman.state.ledger.keys import IDEMPOTENCY
from steersman.store.api import Lease, Store, StoreUnavailable


async def test_a_change_whose_answer_was_lost_is_not_made_again(store: Store, clock: ManualClock) -> None:
    meddled = MeddledStore(store)
    ledger = Ledger(meddled, clock, tables())
    await ledger.create(node(), ALICE)
    before = (await ledger.claim(NODE, ALICE)).state.epoch
    meddled.loses = True
    with pytest.raises(StoreUnavailable):
        await ledger.claim(NODE, ALICE)
    assert (await ledger.get(NODE)).epoch == before + 1


async def test_many_answers_at_once_outlive_the_end_of_their_lease(store: Store, clock: ManualClock) -> None:
    together = MeddledStore(store)
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
