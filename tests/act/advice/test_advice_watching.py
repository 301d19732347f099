"""From the picture to findings: what fires, what never does, and how a restart is bridged."""

from __future__ import annotations

from datetime import timedelta

from advice_house import House, key, policy

from steersman.act.advice.watching import RESUME_MAX_S, SAVE_GAP_S
from steersman.kernel.clock import ManualClock
from steersman.state.bus import StateBus
from steersman.store.api import Store


async def test_it_fires_when_it_has_held_for_long_enough_and_not_before(
    store: Store, clock: ManualClock
) -> None:
    made = await House(store, clock).open()
    await made.add_nodes("n1")
    await made.pass_time(20)
    made.disks["n1"] = 0.95
    began = clock.now()
    await made.pass_time(25, 5)
    assert await made.recommendations() == []
    await made.pass_time(10, 1)
    state = await made.the_one()
    assert 30 <= (state.created_at - began).total_seconds() <= 31, "a timer, not a word, made it due"


async def test_a_break_begins_it_anew(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock).open()
    await made.add_nodes("n1")
    for disk in (0.95, 0.95, 0.2, 0.95, 0.95, 0.2, 0.95, 0.95):
        made.disks["n1"] = disk
        await made.pass_time(10)
    assert await made.recommendations() == []


async def test_a_silent_source_never_fires_nor_withdraws(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock, {"p.yaml": policy(max_staleness="20s")}).open()
    await made.add_nodes("n1", "n2")
    made.disks["n1"] = 0.95
    await made.pass_time(40)
    assert len(await made.recommendations("proposed")) == 1
    made.disks["n2"] = 0.95
    made.speak()
    await made.pass_time(600, 10, speaking=False)
    (state,) = await made.recommendations()
    assert state.labels["entity"] == "node/n1"
    assert state.status == "proposed", "not knowing is no news"


async def test_a_value_that_was_never_collected_never_fires(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock, {"p.yaml": policy(when="entity.swap_utilization >= 0.0")}).open()
    await made.add_nodes("n1")
    await made.pass_time(120)
    assert await made.recommendations() == []


async def test_what_no_longer_holds_is_withdrawn_with_the_reason(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock).open()
    await made.add_nodes("n1")
    made.disks["n1"] = 0.95
    await made.pass_time(40)
    made.disks["n1"] = 0.3
    await made.pass_time(10)
    state = await made.the_one()
    assert state.status == "superseded"
    assert "no longer holds" in (state.state_history[-1].reason or "")


async def test_a_node_that_is_gone_takes_its_recommendation_with_it(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock).open()
    await made.add_nodes("n1")
    made.disks["n1"] = 0.95
    await made.pass_time(40)
    made.bus.forget(key("n1").entity_type, "n1")
    made.disks.clear()
    await made.look()
    assert (await made.the_one()).status == "superseded"


async def test_only_what_changed_or_is_due_is_looked_at(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock).open()
    await made.add_nodes(*[f"n{number}" for number in range(50)])
    await made.pass_time(10)
    before = made.advice.watching.looked
    await made.look()
    assert made.advice.watching.looked == before
    made.disks = {"n7": 0.4}
    made.speak()
    await made.look()
    assert made.advice.watching.looked == before + 1


async def test_a_subscriber_that_fell_off_the_log_reads_all_again(store: Store, clock: ManualClock) -> None:
    from steersman.state.limits import BusLimits

    bus = StateBus(clock, limits=BusLimits(changes_max=8))
    made = await House(store, clock, bus=bus).open()
    await made.add_nodes(*[f"n{number}" for number in range(30)])
    made.disks = dict.fromkeys(made.disks, 0.95)
    for _ in range(5):
        made.speak()
        clock.advance(10)
    await made.look()
    await made.pass_time(40)
    assert len(await made.recommendations("proposed")) == 30


async def test_since_goes_on_over_a_short_restart_without_the_time_between(
    store: Store, clock: ManualClock
) -> None:
    text = {"p.yaml": policy(**{"for": "5m"})}
    made = await House(store, clock, text).open()
    await made.add_nodes("n1")
    made.disks["n1"] = 0.95
    began = clock.now()
    await made.pass_time(200)
    down_s = 60.0
    await made.advice.watching.save()
    clock.advance(down_s)
    again = await House(store, clock, text, bus=made.bus).open()
    again.disks["n1"] = 0.95
    await again.pass_time(90, 1)
    assert await again.recommendations() == [], "the time in which nobody looked does not count"
    await again.pass_time(30, 1)
    held_s = ((await again.the_one()).created_at - began).total_seconds()
    assert 300 + down_s - 1 <= held_s <= 300 + down_s + SAVE_GAP_S + 10


async def test_after_a_long_restart_it_begins_anew(store: Store, clock: ManualClock) -> None:
    text = {"p.yaml": policy(**{"for": "5m"})}
    made = await House(store, clock, text).open()
    await made.add_nodes("n1")
    made.disks["n1"] = 0.95
    await made.pass_time(280)
    await made.advice.watching.save()
    clock.advance(RESUME_MAX_S + 1)
    again = await House(store, clock, text).open()
    again.disks["n1"] = 0.95
    await again.pass_time(290)
    assert await again.recommendations() == []


async def test_a_damaged_checkpoint_is_left_out(store: Store, clock: ManualClock) -> None:
    from steersman.act.advice.watching import SINCE_KEY
    from steersman.store.api import Put

    await store.commit([], [Put(SINCE_KEY, b"\xff\x00nonsense")])
    made = await House(store, clock).open()
    await made.add_nodes("n1")
    made.disks["n1"] = 0.95
    await made.pass_time(40)
    assert len(await made.recommendations()) == 1


async def test_a_wall_clock_that_is_set_neither_shortens_nor_stretches_it(
    store: Store, clock: ManualClock
) -> None:
    made = await House(store, clock).open()
    await made.add_nodes("n1")
    made.disks["n1"] = 0.95
    await made.pass_time(10)
    clock.set_wall(clock.now() + timedelta(hours=1))
    await made.pass_time(15, 5)
    assert await made.recommendations() == []
    clock.set_wall(clock.now() - timedelta(hours=2))
    await made.pass_time(10, 5)
    assert len(await made.recommendations()) == 1
