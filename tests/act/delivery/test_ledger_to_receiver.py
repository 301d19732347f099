"""From a change that the Ledger writes to a receiver: what is sent is what history says."""

from __future__ import annotations

from receiver import receiving, verified
from test_deliveries import delivering

from steersman.act.lifecycle.registry import Lifecycles
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.command import Actor, Terms
from steersman.kinds.state import NodeState, ResourceRef
from steersman.kinds.subscription import NewSubscription
from steersman.state.ledger.ledger import Ledger
from steersman.store.memory import MemoryStore

ALICE = Actor("user:alice", ("operator",))


async def test_each_change_arrives_once_with_its_reason() -> None:
    clock = SystemClock()
    async with (
        MemoryStore(clock=clock, rng=seeded_rng(1)) as store,
        receiving() as receiver,
        delivering(store) as deliveries,
    ):
        machines = Lifecycles(store)
        ledger = Ledger(store, clock, machines)
        await machines.open([], ledger)
        issued = await deliveries.create(NewSubscription(url=receiver.url, kinds=("Node",)))
        ref = ResourceRef("Node", "rack 1/n1")
        node = NodeState(id=ref.id, lifecycle_table="hpc-default", status="in_service", labels={"rack": "1"})
        await ledger.create(node, ALICE, Terms(reason="new"))
        await ledger.set_desired(ref, ALICE, "maintenance", Terms(reason="fans"))
        await receiver.until(lambda: len(receiver.taken) == 2)
        history = (await ledger.history(ref)).entries
        assert [got.event["type"] for got in receiver.got] == [
            f"steersman.resource.{entry.action}.v1" for entry in history
        ]
        assert [got.event["data"]["reason"] for got in receiver.got] == ["new", "fans"]
        assert receiver.got[0].event["data"]["labels"] == {"rack": "1"}
        assert all(verified(got, issued.secret) for got in receiver.got)
