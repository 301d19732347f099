"""No revision is given twice, whatever dies when."""

from __future__ import annotations

import pytest
from bus_facts import at, said

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.state.bus import StateBus
from steersman.state.revisions import BLOCK, KEY, RevisionBlocks, RevisionRecordInvalid
from steersman.store.api import Conflict, Put
from steersman.store.memory import MemoryStore


def a_store() -> MemoryStore:
    return MemoryStore(clock=ManualClock(), rng=seeded_rng(1))


async def test_counting_goes_on_above_everything_given_before_a_crash() -> None:
    given: list[int] = []
    async with a_store() as store:
        for _ in range(5):  # each turn is a process that dies without a word
            blocks = RevisionBlocks(store)
            first = await blocks.open()
            bus = StateBus(ManualClock(at(100)), first_revision=first)
            bus.grant_revisions(blocks.ceiling)
            given += [bus.put(said(at(i))).revision or 0 for i in range(10)]
    assert given == sorted(set(given))
    assert given[-1] > 4 * BLOCK


async def test_renewing_joins_blocks_without_a_gap_and_only_when_half_is_used() -> None:
    async with a_store() as store:
        blocks = RevisionBlocks(store)
        first = await blocks.open()
        assert await blocks.renew(first + 1) == first + BLOCK
        assert await blocks.renew(first + BLOCK // 2 + 1) == first + 2 * BLOCK
        record = await store.get(KEY)
        assert record is not None
        assert record.version == 2


async def test_two_planes_on_one_store_are_noticed() -> None:
    async with a_store() as store:
        one, two = RevisionBlocks(store), RevisionBlocks(store)
        first = await one.open()
        assert await two.open() == first + BLOCK, "they do not share numbers"
        with pytest.raises(Conflict):
            await one.renew(first + BLOCK)


async def test_a_record_that_can_not_be_read_is_refused_and_says_what_to_do() -> None:
    async with a_store() as store:
        await store.commit([], [Put(KEY, b"{}")])
        with pytest.raises(RevisionRecordInvalid, match=KEY):
            await RevisionBlocks(store).open()


def test_revisions_stay_within_what_json_readers_hold() -> None:
    assert 1_000_000 * BLOCK < 2**53
