"""The timer: two clocks kept apart, nothing lost, nothing twice, one sleep for all."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

from steersman.act.reconcile.wheel import WALL_LOOK_S, TimerWheel
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.state import ResourceRef


def key(name: object) -> ResourceRef:
    return ResourceRef("Node", str(name))


def drain(wheel: TimerWheel) -> list[ResourceRef]:
    found: list[ResourceRef] = []
    while (ref := wheel.pop()) is not None:
        found.append(ref)
    return found


def test_delays_come_in_order_once_each_and_the_last_one_set_counts() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    wheel.set_after(key("late"), 9)
    wheel.set_after(key("soon"), 1)
    wheel.set_after(key("moved"), 1)
    wheel.set_after(key("moved"), 5)
    wheel.set_after(key("gone"), 1)
    wheel.clear(key("gone"))
    assert drain(wheel) == []
    clock.advance(1)
    assert drain(wheel) == [key("soon")]
    clock.advance(4)
    assert drain(wheel) == [key("moved")]
    clock.advance(100)
    assert drain(wheel) == [key("late")]
    assert wheel.wait_s() == math.inf


def test_a_wall_clock_set_forward_makes_due_what_it_passes_and_delays_do_not_care() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    wheel.set_due(key("due"), clock.now() + timedelta(hours=1))
    wheel.set_after(key("delay"), 3600)
    clock.set_wall(clock.now() + timedelta(hours=2))
    assert drain(wheel) == [key("due")]
    clock.set_wall(clock.now() - timedelta(hours=2))
    assert drain(wheel) == [], "handed out once"
    clock.advance(3600)
    assert drain(wheel) == [key("delay")]


def test_a_wall_clock_set_back_makes_it_wait_and_loses_nothing() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    start = clock.now()
    wheel.set_due(key("due"), start + timedelta(minutes=1))
    clock.advance(59)
    clock.set_wall(start - timedelta(hours=1))
    clock.advance(60)
    assert drain(wheel) == []
    clock.advance(3600)
    assert drain(wheel) == [key("due")]


def test_a_key_may_have_a_delay_and_a_due_time() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    wheel.set_after(key("a"), 2)
    wheel.set_due(key("a"), clock.now() + timedelta(seconds=10))
    clock.advance(2)
    assert drain(wheel) == [key("a")]
    clock.advance(8)
    assert drain(wheel) == [key("a")]


def test_a_hundred_thousand_keys_set_anew_ten_times_keep_one_entry_each() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    for round_ in range(10):
        for number in range(10_000):
            wheel.set_after(key(number), 100 + round_ + number % 7)
    assert len(wheel) == 10_000
    clock.advance(1000)
    assert len(set(drain(wheel))) == 10_000
    assert wheel.late == 10_000


def test_over_the_bound_it_says_no() -> None:
    wheel = TimerWheel(ManualClock(), keys_max=1)
    assert wheel.set_after(key("a"), 1)
    assert wheel.set_after(key("a"), 2)
    assert not wheel.set_after(key("b"), 1)


async def test_one_sleep_for_all_which_an_earlier_time_shortens() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    got: list[ResourceRef] = []

    async with Supervisor(clock, seeded_rng(1)) as tasks:

        async def ring() -> None:
            while True:
                got.append(await wheel.next(tasks))

        tasks.start("ring", ring)
        wheel.set_after(key("hour"), 3600)
        await settle()
        wheel.set_after(key("second"), 1)
        await settle()
        clock.advance(1)
        await settle()
        assert got == [key("second")]
        clock.advance(3599)
        await settle()
        assert got == [key("second"), key("hour")]


async def test_a_step_of_the_wall_clock_is_noticed_while_it_sleeps() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    got: list[ResourceRef] = []

    async with Supervisor(clock, seeded_rng(1)) as tasks:

        async def ring() -> None:
            while True:
                got.append(await wheel.next(tasks))

        tasks.start("ring", ring)
        wheel.set_due(key("a"), clock.now() + timedelta(days=1))
        await settle()
        clock.set_wall(clock.now() + timedelta(days=2))
        clock.advance(WALL_LOOK_S)
        await settle()
        assert got == [key("a")]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
