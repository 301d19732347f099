"""What guardrails count: in step with each change, at a cost that grows with the changes and not with their
square."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from advice_house import House, policy

import steersman.act.advice
from steersman.act.advice.book import Book, key_of
from steersman.act.advice.past import Past
from steersman.kernel.clock import ManualClock, using_clock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.command import Actor, Terms
from steersman.kinds.state import ResourceRef
from steersman.store.api import Store
from steersman.store.memory import MemoryStore

ROOM = str(Path(steersman.act.advice.__file__).parent)
ALL_AT_ONCE = policy(
    "controlled_auto_act",
    limits="{cooldown: 10m, window: 1h, max_count: 1000, failure_domain: rack, breaker_failures: 3}",
    **{"for": "0s"},
)
SAID = Terms(reason="a test")
ADMIN = Actor("user:root", ("admin",))


class Steps:
    """Lines of advice that were run."""

    def __init__(self) -> None:
        self.lines = 0

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOM):
            return None
        self.lines += event == "line"
        return self.trace


@contextmanager
def steps() -> Iterator[Steps]:
    counted, before = Steps(), sys.gettrace()
    sys.settrace(counted.trace)
    try:
        yield counted
    finally:
        sys.settrace(before)


def step(clock: ManualClock, seconds: float) -> None:
    """Somebody sets the wall clock."""
    clock.set_wall(clock.now() + timedelta(seconds=seconds))


async def fail_together(count: int) -> int:
    """The steps in which so many nodes that fail at once are recommended, acted on, drained and returned."""
    clock = ManualClock()
    names = [f"n{number}" for number in range(count)]
    with using_clock(clock):
        async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
            made = await House(store, clock, {"p.yaml": ALL_AT_ONCE}).open()
            await made.add_nodes(*names, labels={"rack": "r1"})
            made.speak()
            await made.look()
            made.disks = dict.fromkeys(names, 0.95)
            with steps() as counted:
                made.speak()
                await made.look()
                await made.walk(*names)
                await made.settle()
            assert len(await made.intents(*names)) == count
            assert len(await made.recommendations("applied")) == count
            return counted.lines


async def test_the_work_grows_with_the_nodes_that_fail_and_not_with_their_square() -> None:
    few, many = await fail_together(25), await fail_together(100)
    assert many <= 4 * few * 1.1, f"{few} steps for 25 nodes, {many} for 100"


async def test_a_change_of_a_node_looks_at_no_other_ones_recommendation(
    store: Store, clock: ManualClock
) -> None:
    """Of a hundred under way, the one is nudged whose node it is."""
    names = [f"n{number}" for number in range(100)]
    made = await House(store, clock, {"p.yaml": ALL_AT_ONCE}).open()
    await made.add_nodes(*names)
    made.disks = dict.fromkeys(names, 0.95)
    made.speak()
    await made.look()
    assert len(await made.recommendations("applying")) == 100
    nudged: list[ResourceRef] = []
    made.advice.nudge = nudged.append
    with steps() as counted:
        await made.set_desired("n7", None)
    assert [ref.kind for ref in nudged] == ["Recommendation"]
    (name,) = {ref.id for ref in nudged}
    about = await made.ledger.get(ResourceRef("Recommendation", name))
    assert about.labels["entity"] == "node/n7"
    assert counted.lines < 100


async def test_conditions_that_are_reported_are_not_counted(store: Store, clock: ManualClock) -> None:
    made = await House(store, clock, {"p.yaml": ALL_AT_ONCE}).open()
    counted: list[object] = []
    made.advice.book.on_count(lambda key, _acting: counted.append(key))
    await made.add_nodes("n1")
    assert len(counted) == 1
    ref = ResourceRef("Node", "n1")
    written = await made.ledger.change_spec(ref, ADMIN, metadata={"note": "x"}, terms=SAID)
    made.advice.book.note(written.state)
    assert len(counted) == 1
    written = await made.ledger.change_spec(ref, ADMIN, labels={"rack": "r2"}, terms=SAID)
    made.advice.book.note(written.state)
    await made.set_desired("n1", "maintenance")
    assert len(counted) == 3


async def test_an_index_that_saw_each_change_counts_as_one_that_read_them_all(
    store: Store, clock: ManualClock
) -> None:
    """Kept in step or read anew, the numbers are the same."""
    text = {
        "p.yaml": policy(
            "controlled_auto_act",
            limits="{window: 1h, max_count: 3, failure_domain: rack, capacity_floor: 0.2}",
            **{"for": "0s"},
        )
    }
    made = await House(store, clock, text).open()
    names = [f"n{number}" for number in range(8)]
    await made.add_nodes(*names[:4], labels={"rack": "r1"})
    await made.add_nodes(*names[4:], labels={"rack": "r2"})
    made.disks = dict.fromkeys(names, 0.95)
    await made.pass_time(30)
    await made.walk(*names)
    moved = ResourceRef("Node", "n5")
    written = await made.ledger.change_spec(moved, ADMIN, labels={"rack": "r1"}, terms=SAID)
    made.advice.book.note(written.state)
    await made.set_desired("n6", "maintenance")
    await made.pass_time(20)
    other = await House(store, clock, text, bus=made.bus).open()
    other.advice.watching.look_at_all()
    compared = 0
    for state in await made.recommendations():
        value = state.recommendation
        assert value is not None
        key, rule = key_of(state), made.advice.policies.by_name["full-disks"]
        one, two = (life.advice.standings.of(rule, value, key, 0) for life in (made, other))
        assert one == two, value.entity
        compared += one.domain_acted
    assert compared > 0


async def test_a_time_that_lies_ahead_counts_from_when_it_was_first_met(clock: ManualClock) -> None:
    past = Past(clock)
    when = clock.now() + timedelta(hours=30)
    first = clock.now()
    assert past.at("a", when) == first
    clock.advance(60)
    assert past.at("a", when) == first
    step(clock, -3600)
    again = clock.now()
    assert past.at("a", when) == again
    step(clock, 40 * 3600)
    assert past.at("a", when) == when


async def test_which_failed_in_a_row_does_not_hang_on_the_clock(clock: ManualClock, store: Store) -> None:
    """One was applied while the clock was far ahead: what fails after it was set right still counts."""
    text = {"p.yaml": policy("controlled_auto_act", limits="{window: 1m, max_count: 9, breaker_failures: 2}")}
    made = await House(store, clock, text).open()
    assert made.advice.book.failures_in_a_row("full-disks") == 0
    step(clock, 30 * 86_400)
    await made.add_nodes("n1", "n2", "n3")
    made.disks["n1"] = 0.95
    await made.pass_time(60)
    await made.walk("n1")
    await made.pass_time(10)
    assert [state.status for state in await made.recommendations()] == ["applied"]
    step(clock, -30 * 86_400)
    made.disks = {"n1": 0.1, "n2": 0.95, "n3": 0.95}
    await made.pass_time(60)
    for state in await made.recommendations("applying"):
        ref = ResourceRef("Recommendation", state.id)
        written = await made.ledger.transition(ref, Actor("loop", ("engine",)), event="fail", terms=SAID)
        made.advice.book.note(written.state)
    assert made.advice.book.failures_in_a_row("full-disks") == 2
    later = Book(store, clock)
    await later.load()
    assert later.failures_in_a_row("full-disks") == 2
