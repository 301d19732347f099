"""The policies that come with Steersman, there and back: pressure takes a node out, and its end brings it
back."""

from __future__ import annotations

from advice_house import ALICE, House

from steersman.decide import shipped_policies
from steersman.kernel.clock import ManualClock
from steersman.store.api import Store


async def test_there_and_back_by_themselves(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock, shipped_policies()).open()
    assert made.advice.policies.problems == ()
    for name in ("node-pressure", "node-recovered"):
        assert made.advice.policies.view(name).mode == "recommend_with_approval"
        await made.set_mode("controlled_auto_act", name)
    await made.add_nodes("n1", "n2")
    await made.pass_time(60)
    made.disks["n1"] = 0.99
    for _ in range(12):
        await made.pass_time(10)
        await made.walk("n1", "n2")
    assert (await made.node("n1")).status == "maintenance"
    made.disks["n1"] = 0.3
    for _ in range(12):
        await made.pass_time(10)
        await made.walk("n1", "n2")
    node = await made.node("n1")
    assert (node.status, node.desired_by) == ("in_service", "policy:node-recovered")
    assert [entry.actor for entry in await made.intents("n1", "n2")] == [
        "policy:node-pressure",
        "policy:node-recovered",
    ]
    assert [state.status for state in await made.recommendations()] == ["applied", "applied"]


async def test_what_a_person_took_out_stays_out(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock, shipped_policies()).open()
    await made.set_mode("controlled_auto_act", "node-recovered")
    await made.add_nodes("n1")
    await made.set_desired("n1", "maintenance", ALICE)
    await made.walk("n1")
    await made.pass_time(300)
    assert await made.recommendations() == []
    assert (await made.node("n1")).status == "maintenance"
