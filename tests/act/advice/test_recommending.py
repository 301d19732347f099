"""One meaning, one recommendation: repeated, refreshed, bounded, pruned."""

from __future__ import annotations

from datetime import UTC, datetime

from advice_house import ALICE, SAID, House, policy

from steersman.act.advice.recommending import AdviceLimits, id_of
from steersman.kernel.clock import ManualClock
from steersman.store.api import Store

T0 = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


def test_an_id_is_derived_readable_and_never_that_of_the_one_before() -> None:
    first = id_of("full-disks", "full-disks:node/n1:drain", T0)
    assert first == id_of("full-disks", "full-disks:node/n1:drain", T0)
    assert first.startswith("full-disks-")
    assert first != id_of("full-disks", "full-disks:node/n2:drain", T0)
    second = id_of("full-disks", "full-disks:node/n1:drain", T0, first)
    third = id_of("full-disks", "full-disks:node/n1:drain", T0, second)
    assert len({first, second, third}) == 3
    assert "/" not in id_of("a/b c", "x", T0)


async def test_what_is_said_again_is_written_once(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock).open()
    await made.add_nodes("n1")
    made.disks["n1"] = 0.95
    await made.pass_time(600)
    state = await made.the_one("proposed")
    assert len(await made.history("Recommendation", state.id)) == 1
    again = await House(store, clock, bus=made.bus).open()
    again.disks["n1"] = 0.97
    await again.pass_time(100)
    assert (await again.the_one()).id == state.id
    assert len(await again.history("Recommendation", state.id)) == 1


async def test_another_version_of_the_policy_supersedes_what_it_said(
    store: Store, clock: ManualClock
) -> None:
    made = await House(store, clock).open()
    await made.add_nodes("n1")
    made.disks["n1"] = 0.95
    await made.pass_time(60)
    again = await House(store, clock, {"p.yaml": policy(version="2")}, bus=made.bus).open()
    again.disks["n1"] = 0.95
    await again.pass_time(700, 30)
    assert [
        (s.status, s.recommendation.policy_version) for s in await again.recommendations() if s.recommendation
    ] == [
        ("superseded", 1),
        ("proposed", 2),
    ]


async def test_what_flaps_is_not_told_each_time(store: Store, clock: ManualClock) -> None:
    text = {"p.yaml": policy(**{"for": "0s"}, limits="{window: 1h, max_count: 1}")}
    made = await House(store, clock, text).open()
    await made.add_nodes("n1")
    for turn in range(60):
        made.disks["n1"] = 0.95 if turn % 2 else 0.2
        await made.pass_time(9.9, 10)
    assert 5 <= len(await made.recommendations()) <= 11, "ten minutes of flapping, at most one a minute"


async def test_open_ones_are_bounded_and_the_rest_has_its_turn(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock, limits=AdviceLimits(open_max=3)).open()
    await made.add_nodes(*[f"n{number}" for number in range(5)])
    made.disks = dict.fromkeys(made.disks, 0.95)
    await made.pass_time(60)
    opened = await made.recommendations("proposed")
    assert len(opened) == 3
    assert made.advice.snapshot().waiting == 2
    for state in opened:
        await made.advice.desk.reject(state.id, ALICE, SAID)
    await made.pass_time(20)
    assert len(await made.recommendations("proposed")) == 2
    assert made.advice.snapshot().waiting == 3, "those that were rejected, for an hour"


async def test_those_at_an_end_are_kept_and_then_pruned(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock, limits=AdviceLimits(kept_s=7200)).open()
    await made.add_nodes("n1", "n2")
    made.disks["n1"] = 0.95
    await made.pass_time(60)
    made.disks["n1"] = 0.1
    await made.pass_time(3600, 60)
    assert len(await made.recommendations()) == 1
    await made.pass_time(4500, 60)
    assert await made.recommendations() == []
    assert list(made.advice.book.recommendations()) == []
