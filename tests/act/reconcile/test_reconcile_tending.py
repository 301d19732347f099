"""What was begun here is looked after at the start, at each deletion, and now and then."""

from __future__ import annotations

from loop_house import ALICE, House, node

from steersman.act.reconcile.loop import ReconcileLoop
from steersman.act.reconcile.tending import TEND_S
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import CountedIds, seeded_rng
from steersman.store.memory import MemoryStore


class Tended(House):
    """A house whose manager begins what outlives its turns."""

    def __init__(self, store: MemoryStore, clock: ManualClock) -> None:
        super().__init__(store, clock)
        self.looks = 0
        self.broken = False
        house = self

        class Manager(type(self.manager)):
            async def tend(self) -> int:
                house.looks += 1
                if house.broken:
                    raise RuntimeError("can't")
                return 1

        self.manager = Manager(self.ledger, clock)
        self.loop = ReconcileLoop(
            store, self.ledger, [self.manager], clock=clock, rng=seeded_rng(3), ids=CountedIds(), name="one"
        )


async def test_it_is_looked_after_at_the_start_at_each_deletion_and_now_and_then() -> None:
    clock = ManualClock()
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
        house = Tended(store, clock)
        await house.make("n1")
        await house.make("n2")
        async with house:
            assert house.looks == 1
            await house.ledger.delete(node("n1"), ALICE)
            await house.quiet()
            assert house.looks == 2
            house.broken = True
            await house.pass_time(int(TEND_S) + 1)
            assert house.looks == 3
            await house.ledger.delete(node("n2"), ALICE)
            await house.quiet()
            assert house.looks == 4, "an error of a tender ends nothing"
        async with Tended(store, clock) as again:
            assert again.looks == 1, "and again at the next start"
