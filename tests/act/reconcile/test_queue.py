"""The work queue: once each, serial for each key, fair over kinds, people first, bounded."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.act.reconcile.queue import WorkQueue
from steersman.kernel.clock import ManualClock
from steersman.kinds.state import ResourceRef


def key(name: str, kind: str = "Node") -> ResourceRef:
    return ResourceRef(kind, name)


async def test_a_key_is_there_once_however_often_it_is_woken() -> None:
    queue = WorkQueue(ManualClock())
    for _ in range(10):
        queue.add(key("a"))
    assert len(queue) == 1
    assert queue.take() == key("a")
    assert queue.take() is None


async def test_a_key_woken_while_worked_on_is_done_again_and_never_by_two() -> None:
    queue = WorkQueue(ManualClock())
    queue.add(key("a"))
    assert queue.take() == key("a")
    queue.add(key("a"))
    assert queue.take() is None
    assert queue.done(key("a")) is True
    assert queue.take() == key("a")
    assert queue.done(key("a")) is False
    assert queue.take() is None


async def test_ten_thousand_of_one_kind_do_not_make_another_wait() -> None:
    queue = WorkQueue(ManualClock())
    for number in range(10_000):
        queue.add(key(str(number), "Recommendation"))
    queue.add(key("n1"))
    assert key("n1") in [queue.take() for _ in range(3)]


async def test_what_a_person_asked_for_goes_first_also_where_it_waits_already() -> None:
    queue = WorkQueue(ManualClock())
    for name in "abcd":
        queue.add(key(name))
    queue.add(key("c"), forced=True)
    queue.add(key("z"), forced=True)
    assert [queue.take() for _ in range(5)] == [key(name) for name in "czabd"]
    assert queue.take() is None


async def test_forced_while_worked_on_goes_first_afterwards() -> None:
    queue = WorkQueue(ManualClock())
    queue.add(key("a"))
    queue.take()
    queue.add(key("b"))
    queue.add(key("a"), forced=True)
    queue.done(key("a"))
    assert queue.take() == key("a")


async def test_a_full_queue_says_so_and_counts() -> None:
    queue = WorkQueue(ManualClock(), keys_max=2)
    assert queue.add(key("a"))
    assert queue.add(key("b"))
    assert queue.add(key("a")), "it has its place already"
    assert not queue.add(key("c"))
    assert queue.overflowed == 1


async def test_keys_of_a_lost_shard_are_forgotten_also_those_to_be_done_again() -> None:
    queue = WorkQueue(ManualClock())
    for name in "abc":
        queue.add(key(name))
    assert queue.take() == key("a")
    queue.add(key("a"))
    queue.drop(lambda ref: ref.id in "ab")
    assert queue.done(key("a")) is False
    assert queue.take() == key("c")
    assert queue.take() is None


async def test_the_oldest_wait_is_told() -> None:
    clock = ManualClock()
    queue = WorkQueue(clock)
    queue.add(key("a"))
    clock.advance(3)
    queue.add(key("b"))
    clock.advance(4)
    assert queue.oldest_wait_s() == 7
    queue.take()
    assert queue.oldest_wait_s() == 4


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("atfd"), st.integers(0, 5)), max_size=80))
def test_no_wake_is_lost_and_no_key_is_worked_on_twice(moves: list[tuple[str, int]]) -> None:
    queue = WorkQueue(ManualClock())
    owed: set[ResourceRef] = set()
    working: set[ResourceRef] = set()
    for move, number in moves:
        ref = key(str(number), "A" if number % 2 else "B")
        if move in "af":
            assert queue.add(ref, forced=move == "f")
            owed.add(ref)
        elif move == "t":
            taken = queue.take()
            if taken is None:
                assert owed <= working
            else:
                assert taken in owed
                assert taken not in working
                owed.discard(taken)
                working.add(taken)
        elif working:
            done = sorted(working)[0]
            working.discard(done)
            queue.done(done)
    for done in working:
        queue.done(done)
    rest: list[ResourceRef] = []
    while (taken := queue.take()) is not None:
        rest.append(taken)
        queue.done(taken)
    assert set(rest) == owed
    assert len(rest) == len(owed)
