"""Shards over replicas: one holds all, two share, a silent one is replaced, what is lost stops at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from steersman.act.reconcile.shards import LEASE_TTL_S, SHARDS, STEP_S, Shards, shard_of
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.state import ResourceRef
from steersman.store.api import LeaseExpired, Put, Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore

REFS = [ResourceRef("Node", f"n{number}") for number in range(500)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Store]:
    make: Callable[[], MemoryStore | SqliteStore] = {
        "memory": lambda: MemoryStore(clock=clock, rng=seeded_rng(1)),
        "sqlite": lambda: SqliteStore(tmp_path / "s.db", clock=clock, rng=seeded_rng(1)),
    }[str(request.param)]
    async with make() as opened:
        yield opened


class Replica:
    def __init__(self, store: Store, name: str, clock: ManualClock) -> None:
        self.busy: set[int] = set()
        self.lost: set[int] = set()
        self.gained: set[int] = set()
        self.shards = Shards(
            store,
            name,
            clock=clock,
            busy=lambda shard: shard in self.busy,
            lost=lambda shards: self.lost.update(shards),
            gained=lambda shards: self.gained.update(shards),
        )


def test_keys_fall_into_shards_evenly_and_the_same_everywhere() -> None:
    assert shard_of(ResourceRef("Node", "n1")) == shard_of(ResourceRef("Node", "n1")) == 39
    assert {shard_of(ref) for ref in REFS} == set(range(SHARDS))


async def test_one_replica_holds_all(store: Store, clock: ManualClock) -> None:
    one = Replica(store, "one", clock)
    await one.shards.step()
    assert one.shards.mine == frozenset(range(SHARDS)) == one.gained
    assert all(one.shards.takes(ref) for ref in REFS)
    before = await store.revision()
    await one.shards.step()
    assert await store.revision() == before, "an idle step makes no commit"


async def test_two_share_and_never_hold_one_together(store: Store, clock: ManualClock) -> None:
    one, two = Replica(store, "one", clock), Replica(store, "two", clock)
    for _ in range(4):
        await one.shards.step()
        await two.shards.step()
        assert not one.shards.mine & two.shards.mine
    assert len(one.shards.mine) == len(two.shards.mine) == SHARDS // 2
    before = await store.revision()
    await one.shards.step()
    await two.shards.step()
    assert await store.revision() == before, "nothing moves without a cause"


async def test_a_shard_with_work_in_it_is_not_handed_over(store: Store, clock: ManualClock) -> None:
    one, two = Replica(store, "one", clock), Replica(store, "two", clock)
    await one.shards.step()
    one.busy = {63}
    await two.shards.step()
    await one.shards.step()
    ref = next(ref for ref in REFS if shard_of(ref) == 63)
    assert one.shards.held(ref) is not None, "what is under way may end"
    assert not one.shards.takes(ref), "nothing new begins"
    assert 63 not in one.lost
    one.busy = set()
    await one.shards.step()
    await two.shards.step()
    assert 63 in two.shards.mine


async def test_a_silent_replica_is_replaced_and_can_write_nothing(store: Store, clock: ManualClock) -> None:
    one, two = Replica(store, "one", clock), Replica(store, "two", clock)
    await one.shards.step()
    held = one.shards.held(REFS[0])
    assert held is not None
    clock.advance(LEASE_TTL_S + 1)
    assert one.shards.held(REFS[0]) is None, "it knows by its own clock"
    await two.shards.step()
    assert two.shards.mine == frozenset(range(SHARDS))
    with pytest.raises(LeaseExpired):
        await store.commit([held], [Put("x", b"1")])
    await one.shards.step()
    assert one.lost == frozenset(range(SHARDS))
    assert not one.shards.mine & two.shards.mine


async def test_a_renewed_lease_lasts(store: Store, clock: ManualClock) -> None:
    one = Replica(store, "one", clock)
    for _ in range(10):
        await one.shards.step()
        clock.advance(STEP_S)
        assert one.shards.held(REFS[0]) is not None
    assert not one.lost


async def test_a_refused_write_makes_it_doubt_everything(store: Store, clock: ManualClock) -> None:
    one = Replica(store, "one", clock)
    await one.shards.step()
    one.shards.doubt()
    assert one.shards.held(REFS[0]) is None
    assert one.lost == frozenset(range(SHARDS))


async def test_what_is_released_is_free_at_once(store: Store, clock: ManualClock) -> None:
    one, two = Replica(store, "one", clock), Replica(store, "two", clock)
    await one.shards.step()
    await one.shards.release()
    await two.shards.step()
    assert two.shards.mine == frozenset(range(SHARDS))


async def test_a_shard_that_is_not_handed_over_after_all_is_looked_at_again(
    store: Store, clock: ManualClock
) -> None:
    one, two = Replica(store, "one", clock), Replica(store, "two", clock)
    await one.shards.step()
    one.busy = set(range(SHARDS))
    await two.shards.step()
    await one.shards.step()
    assert not all(one.shards.takes(ref) for ref in REFS), "what changes now is not taken up"
    await two.shards.release()
    one.gained.clear()
    await one.shards.step()
    assert all(one.shards.takes(ref) for ref in REFS)
    assert one.gained == set(range(SHARDS // 2, SHARDS)), "what changed meanwhile must be seen"
