"""The change feed: coalescing, shared, bounded, never in the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from bus_facts import GPU, NODE, at, said, world
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.kernel.clock import SystemClock
from steersman.kernel.errors import TooMany
from steersman.state.bus import StateBus
from steersman.state.feed import DELTA_ENTITIES_MAX, Delta, EntityFilter, Subscription


def deltas(subscription: Subscription) -> Iterator[Delta]:
    while (delta := subscription.poll()) is not None:
        yield delta


def ids(subscription: Subscription) -> list[str]:
    return [entity.entity_id for delta in deltas(subscription) for entity in delta.entities]


def test_changes_are_seen_after_a_flush_each_entity_once_as_it_is_now() -> None:
    bus, _ = world()
    subscription = bus.subscribe()
    for second in range(5):
        bus.put(said(at(second), entity_id="n1", load_1m=float(second)))
        bus.put(said(at(second), entity_id="n2", load_1m=float(second)))
    assert subscription.poll() is None
    assert bus.flush()
    (delta,) = deltas(subscription)
    assert [(e.entity_id, getattr(e, "load_1m", None)) for e in delta.entities] == [("n1", 4.0), ("n2", 4.0)]
    assert (delta.after, delta.revision, delta.resync) == (0, bus.revision, False)
    assert subscription.poll() is None
    assert not bus.flush(), "nothing new"


def test_filters_by_type_scope_labels_and_id() -> None:
    bus, _ = world()
    wanted = {
        "type": EntityFilter(types=frozenset({GPU})),
        "scope": EntityFilter(scope="east"),
        "labels": EntityFilter(labels=frozenset({("rack", "1")})),
        "id": EntityFilter(entity_id="n2"),
    }
    subscriptions = {name: bus.subscribe(f) for name, f in wanted.items()}
    bus.put(said(at(1), entity_id="n1", labels={"cluster": "east"}))
    bus.put(said(at(1), entity_id="n2", labels={"rack": "1", "zone": "z"}))
    bus.put(said(at(1), entity_id="g", entity_type=GPU))
    bus.flush()
    seen = {name: ids(subscription) for name, subscription in subscriptions.items()}
    assert seen == {"type": ["g"], "scope": ["n1"], "labels": ["n2"], "id": ["n2"]}


def test_a_deletion_is_told_also_through_a_label_filter() -> None:
    bus, _ = world()
    bus.put(said(at(1), labels={"rack": "1"}))
    bus.flush()
    subscription = bus.subscribe(EntityFilter(labels=frozenset({("rack", "1")})))
    bus.forget(NODE, "n1")
    bus.flush()
    (delta,) = deltas(subscription)
    assert [e.deleted_at is not None for e in delta.entities] == [True]


def test_one_who_has_fallen_off_the_log_is_told_to_read_again() -> None:
    bus, _ = world(changes_max=20)
    slow = bus.subscribe()
    for i in range(100):
        bus.put(said(at(i), load_1m=float(i)))
    bus.flush()
    (delta,) = deltas(slow)
    assert (delta.resync, delta.revision, delta.entities) == (True, bus.revision, ())
    bus.put(said(at(200), load_1m=1.0))
    bus.flush()
    assert ids(slow) == ["n1"], "and goes on from there"
    assert bus.counters()["resyncs"] == 1


@pytest.mark.parametrize("after", [3, 7, 10**9])
def test_resuming_where_this_process_never_was_means_reading_again(after: int) -> None:
    """Revisions before the start belong to an earlier process, later ones to a store that was lost."""
    bus = StateBus(world()[1], first_revision=8)
    with bus.subscribe(after=after) as subscription:
        (delta,) = deltas(subscription)
        assert delta.resync


def test_resuming_within_the_log_gives_what_came_since() -> None:
    bus, _ = world()
    for name in ("n1", "n2", "n3"):
        bus.put(said(at(1), entity_id=name))
    bus.flush()
    assert ids(bus.subscribe(after=1)) == ["n2", "n3"]


def test_resuming_beyond_the_last_flush_waits_for_the_next() -> None:
    bus, _ = world()
    bus.put(said(at(1)))
    subscription = bus.subscribe(after=1)
    assert subscription.poll() is None
    bus.flush()
    bus.put(said(at(2)))
    bus.flush()
    assert ids(subscription) == ["n1"]


def test_many_changes_come_in_bounded_deltas_without_loss() -> None:
    bus, _ = world()
    subscription = bus.subscribe()
    names = [f"n{i:04d}" for i in range(1001)]
    bus.put_many([said(at(1), entity_id=name) for name in names])
    bus.flush()
    parts = [[e.entity_id for e in delta.entities] for delta in deltas(subscription)]
    assert max(len(part) for part in parts) == DELTA_ENTITIES_MAX
    assert [name for part in parts for name in part] == names


def test_work_is_shared_between_subscribers_of_one_filter() -> None:
    """A thousand subscribers: one Delta object, one entity object, no queue for anyone."""
    bus, _ = world()
    subscriptions = [bus.subscribe() for _ in range(1000)]
    other = bus.subscribe(EntityFilter(types=frozenset({NODE})))
    bus.put(said(at(1)))
    bus.flush()
    first = subscriptions[0].poll()
    assert first is not None
    assert all(subscription.poll() is first for subscription in subscriptions[1:])
    also = other.poll()
    assert also is not None
    assert also.entities[0] is first.entities[0]
    assert bus.counters()["subscriptions"] == 1001


def test_a_subscriber_that_never_reads_costs_nothing_and_blocks_nobody() -> None:
    bus, _ = world(changes_max=100)
    bus.subscribe()
    quick = bus.subscribe()
    seen = 0
    for i in range(1000):
        bus.put(said(at(i), load_1m=float(i)))
        bus.flush()
        seen += len(ids(quick))
    assert seen == 1000


def test_closing_gives_the_place_back_and_places_are_bounded() -> None:
    bus, _ = world(subscriptions_max=2)
    one = bus.subscribe()
    bus.subscribe()
    with pytest.raises(TooMany):
        bus.subscribe()
    one.close()
    one.close()
    bus.subscribe()


writes = st.lists(
    st.tuples(st.sampled_from(["put", "flush", "read", "forget"]), st.sampled_from(["n1", "n2", "n3"])),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(writes)
def test_whoever_applies_the_deltas_has_the_bus(steps: list[tuple[str, str]]) -> None:
    """A follower that starts with a read and applies deltas (or reads again when told) ends with the picture
    of the bus, whatever was written, flushed and read in between."""
    bus, clock = world(changes_max=8)
    picture = {e.entity_id: e.revision for e in bus.entities()}
    subscription = bus.subscribe()

    def read() -> None:
        nonlocal picture
        for delta in deltas(subscription):
            if delta.resync:
                picture = {e.entity_id: e.revision for e in bus.entities()}
            for entity in delta.entities:
                if entity.deleted_at is None:
                    picture[entity.entity_id] = entity.revision
                else:
                    picture.pop(entity.entity_id, None)

    for step, name in steps:
        clock.advance(1)
        if step == "put":
            bus.put(said(clock.now(), entity_id=name, load_1m=1.0))
        elif step == "forget":
            bus.forget(NODE, name)
        elif step == "flush":
            bus.flush()
        else:
            read()
    bus.flush()
    read()
    assert picture == {e.entity_id: e.revision for e in bus.entities()}


# ---- on an event loop


@contextlib.asynccontextmanager
async def pumped(bus: StateBus) -> AsyncIterator[None]:
    task = asyncio.create_task(bus.pump())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.looptime
async def test_the_pump_flushes_and_ages_by_itself() -> None:
    bus = StateBus(SystemClock())
    loop = asyncio.get_running_loop()
    with bus.subscribe() as subscription:
        async with pumped(bus):
            bus.put(said(at(0), load_1m=1.0))
            delta = await subscription.next()
            assert [e.entity_id for e in delta.entities] == ["n1"]
            assert loop.time() <= 1.0


@pytest.mark.looptime
async def test_a_burst_is_told_once() -> None:
    bus = StateBus(SystemClock())
    with bus.subscribe() as subscription:
        async with pumped(bus):
            await asyncio.sleep(1)
            for second in range(100):
                bus.put(said(at(second), load_1m=float(second)))
            delta = await subscription.next()
            assert len(delta.entities) == 1
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(subscription.next(), 1.0)


@pytest.mark.looptime
async def test_waiting_for_nothing_that_fits_the_filter_goes_on_waiting() -> None:
    bus = StateBus(SystemClock())
    with bus.subscribe(EntityFilter(types=frozenset({GPU}))) as subscription:
        async with pumped(bus):
            waiting = asyncio.ensure_future(subscription.next())
            bus.put(said(at(0), load_1m=1.0))
            await asyncio.sleep(1)
            assert not waiting.done()
            bus.put(said(at(0), entity_type=GPU, entity_id="g"))
            delta = await waiting
            assert [e.entity_id for e in delta.entities] == ["g"]


@pytest.mark.looptime
async def test_a_cancelled_wait_loses_nothing() -> None:
    bus = StateBus(SystemClock())
    with bus.subscribe() as subscription:
        async with pumped(bus):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(subscription.next(), 0.5)
            bus.put(said(at(0), load_1m=1.0))
            delta = await subscription.next()
            assert len(delta.entities) == 1
