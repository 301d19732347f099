"""The bus over a restart."""

from __future__ import annotations

import asyncio
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bus_facts import GPU, JOB, NODE, at, declare, said, value_of, world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_merge_properties import fragments, picture

from steersman.kernel.clock import ManualClock, SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.fragment import StateFragment
from steersman.state.bus import StateBus
from steersman.state.checkpoint import PREFIX, Checkpoint
from steersman.state.limits import BusLimits, RevisionsExhausted
from steersman.state.revisions import BLOCK, RevisionBlocks
from steersman.state.saved import BUCKET_FORMAT, BucketDamaged, pack, unpack
from steersman.store.api import Put, StoreUnavailable
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore


def a_store() -> MemoryStore:
    return MemoryStore(clock=ManualClock(), rng=seeded_rng(1))


def later(clock: ManualClock, seconds: float) -> ManualClock:
    """The clock of the next process: the wall went on, monotonic time starts anew."""
    return ManualClock(clock.now() + timedelta(seconds=seconds))


async def restarted(store: MemoryStore, clock: ManualClock, first_revision: int = 10**6) -> StateBus:
    bus = StateBus(clock, first_revision=first_revision)
    await Checkpoint(bus, store, clock).restore()
    return bus


async def keys(store: MemoryStore) -> list[str]:
    return [record.key for record in (await store.list(PREFIX)).records]


async def test_everything_comes_back_as_it_was() -> None:
    bus, clock = world()
    declare(bus, "a", priority=3)
    bus.put(said(at(1), "a", labels={"cluster": "c", "rack": "1"}, load_1m=1.0, odd={"x": [1, 2]}))
    bus.put(said(at(2), "b", labels={"cluster": "c"}, gpu_count=8, booted_at=at(0)))
    bus.put(said(at(3), "b", entity_type=JOB, entity_id="j", job_state="running"))
    bus.put(said(at(4), entity_type=GPU, entity_id="g", gpu_utilization=0.5))
    bus.forget(GPU, "g", observed_at=at(5))
    async with a_store() as store:
        report = await Checkpoint(bus, store, clock).save()
        assert report.entities == 3
        again = await restarted(store, later(clock, 0))
        assert list(again.entities(deleted=True)) == list(bus.entities(deleted=True))
        assert again.put(said(at(4), entity_type=GPU, entity_id="g")).verdict == "stale", "it stays deleted"
        assert again.put(said(at(1.5), "b", labels={"cluster": "c"})).verdict == "stale"


async def test_what_things_looked_like_before_is_known_after_the_restart() -> None:
    bus, clock = world()
    start = clock.now()
    for state in ("IDLE", "MIXED"):
        bus.put(said(clock.now(), scheduler_state=state))
        bus.put(said(clock.now(), entity_id="still", scheduler_state="IDLE"))
        clock.advance(60)
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        clock = later(clock, 600)
        again = await restarted(store, clock)
        again.put(said(clock.now(), entity_id="still", scheduler_state="IDLE"))
        moved, still = again.history(NODE, "n1"), again.history(NODE, "still")
        assert moved is not None
        assert still is not None
        assert moved.at(start + timedelta(seconds=30)).fields["scheduler_state"] == "IDLE"
        assert moved.at(start + timedelta(seconds=90)).fields["scheduler_state"] == "MIXED"
        assert still.at(start + timedelta(seconds=1)).fields["scheduler_state"] == "IDLE"
        assert still.states[0].at == start, "nothing changed over the restart"


async def test_what_was_before_a_restart_is_not_what_came_after_it() -> None:
    bus, clock = world()
    start = clock.now()
    bus.put(said(start, scheduler_state="IDLE", hostname="h"))
    before = bus.history(NODE, "n1")
    assert before is not None
    clock.advance(60)
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        clock = later(clock, 7200)
        again = await restarted(store, clock)
        silent = again.history(NODE, "n1")
        again.put(said(clock.now(), scheduler_state="DOWN", hostname="h"))
        told = again.history(NODE, "n1")
        assert silent is not None
        assert told is not None
        assert silent.states == before.states, "also while nobody has told of it again"
        assert told.at(start).fields == before.at(start).fields
        assert told.at(clock.now()).fields["scheduler_state"] == "DOWN"
        assert told.at(clock.now()).since["scheduler_state"] == clock.now()


async def test_ages_are_true_after_the_restart() -> None:
    bus, clock = world()
    bus.put(said(clock.now() - timedelta(seconds=7), load_1m=1.0))
    clock.advance(5)
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        clock_2 = later(clock, 100)
        again = await restarted(store, clock_2)
        freshness = again.freshness(NODE, "n1")
        assert freshness is not None
        assert freshness.age_s == pytest.approx(112.0)
        revision = again.revision
        clock_2.advance(1000)
        again.sweep()
        assert [e.freshness for e in again.changed_since(revision)] == ["expired"], "and it goes on ageing"


async def test_a_clock_set_back_over_the_restart_makes_no_age_negative_and_stops_no_source() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), load_1m=1.0))
    clock.advance(5)
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        clock_2 = later(clock, -3600)
        again = await restarted(store, clock_2)
        freshness = again.freshness(NODE, "n1")
        assert freshness is not None
        assert freshness.age_s == 5.0
        assert again.put(said(clock_2.now(), load_1m=2.0)).verdict == "merged"


async def test_the_silence_of_a_source_goes_on_over_the_restart() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), entity_type=GPU, model_name="H100"))
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        again = await restarted(store, later(clock, 3600))
        (status,) = again.sources()
        assert status.state == "silent"
        assert status.silent_s == 3600.0


async def test_only_changed_buckets_are_written() -> None:
    bus, clock = world()
    bus.put_many([said(at(1), entity_id=f"n{i}", load_1m=1.0) for i in range(5000)])
    async with a_store() as store:
        checkpoint = Checkpoint(bus, store, clock)
        assert (await checkpoint.save()).buckets > 900
        assert (await checkpoint.save()).buckets == 0
        bus.put(said(at(2), entity_id="n7", load_1m=2.0))
        report = await checkpoint.save()
        assert report.buckets == 1
        assert value_of(await restarted(store, later(clock, 1)), "load_1m", "n7") == 2.0


async def test_what_is_forgotten_for_good_leaves_the_store() -> None:
    bus, clock = world(tombstone_ttl_s=10.0)
    bus.put(said(at(1), load_1m=1.0))
    async with a_store() as store:
        checkpoint = Checkpoint(bus, store, clock)
        await checkpoint.save()
        bus.forget(NODE, "n1")
        clock.advance(11)
        bus.sweep()
        await checkpoint.save()
        assert await keys(store) == []


async def test_a_tombstone_whose_time_ended_while_we_were_down_does_not_come_back() -> None:
    bus, clock = world(tombstone_ttl_s=10.0)
    bus.forget(NODE, "n1")
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        assert len(list((await restarted(store, later(clock, 5))).entities(deleted=True))) == 1
        assert list((await restarted(store, later(clock, 11))).entities(deleted=True)) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: b"",
        lambda v: bytes([BUCKET_FORMAT + 1]) + v[1:],
        lambda v: v[: len(v) // 2],
        lambda v: v[:20] + bytes([v[20] ^ 0xFF]) + v[21:],
        lambda v: bytes([BUCKET_FORMAT]) + zlib.compress(b"not msgpack at all"),
        lambda v: bytes([BUCKET_FORMAT]) + zlib.compress(msgspec.msgpack.encode({"a": 1})),
    ],
    ids=["empty", "newer format", "cut off", "a flipped byte", "garbage", "another shape"],
)
async def test_a_damaged_bucket_is_named_and_the_others_load(damage: Any) -> None:
    bus, clock = world()
    bus.put_many([said(at(1), entity_id=f"n{i}", load_1m=1.0) for i in range(100)])
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        page = await store.list(PREFIX)
        broken = page.records[3]
        await store.commit([], [Put(broken.key, damage(broken.value))])
        again = StateBus(clock)
        checkpoint = Checkpoint(again, store, clock)
        report = await checkpoint.restore()
        lost = len(unpack(broken.value).cells)
        assert report.entities == 100 - lost
        (warning,) = report.warnings
        assert broken.key in warning
        await checkpoint.save()
        whole = await Checkpoint(StateBus(clock), store, clock).restore()
        assert whole.warnings == (), "the next save puts the store right"


def test_a_bucket_that_unpacks_without_end_is_refused() -> None:
    with pytest.raises(BucketDamaged, match="too large"):
        unpack(bytes([BUCKET_FORMAT]) + zlib.compress(bytes(100_000)), 1000)


async def test_an_entity_type_of_another_version_is_left_out_and_named() -> None:
    bus, clock = world()
    bus.put(said(at(1), load_1m=1.0))
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        (record,) = (await store.list(PREFIX)).records
        raw = zlib.decompress(record.value[1:]).replace(b"node", b"nodx")
        await store.commit([], [Put(record.key, record.value[:1] + zlib.compress(raw))])
        report = await Checkpoint(StateBus(clock), store, clock).restore()
        assert report.entities == 0
        assert "nodx/n1" in report.warnings[0]


async def test_more_than_fits_is_left_out_and_named() -> None:
    bus, clock = world()
    bus.put_many([said(at(1), entity_id=f"n{i}") for i in range(10)])
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        again = StateBus(clock, limits=BusLimits(entities_max=6))
        report = await Checkpoint(again, store, clock).restore()
        assert (report.entities, len(report.warnings), len(again)) == (6, 4, 6)


async def test_what_came_before_the_restore_ended_is_not_overwritten() -> None:
    bus, clock = world()
    bus.put(said(at(1), load_1m=1.0))
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        again = StateBus(clock)
        again.put(said(at(2), load_1m=2.0))
        await Checkpoint(again, store, clock).restore()
        assert value_of(again, "load_1m") == 2.0


async def test_data_that_can_not_be_saved_costs_only_its_entity() -> None:
    bus, clock = world()
    bus.put_many([said(at(1), entity_id=f"n{i}", load_1m=1.0) for i in range(3000)])
    bus.put(said(at(1), entity_id="odd", thing=object()))
    async with a_store() as store:
        report = await Checkpoint(bus, store, clock).save()
        assert report.dropped == 1
        assert len(await restarted(store, later(clock, 1))) == 3000


async def test_over_a_real_file_and_a_real_restart(tmp_path: Path) -> None:
    """SQLite, revisions and checkpoint together, as the program uses them."""
    clock = ManualClock(at(1000))
    seen: list[int] = []
    for turn in range(3):
        async with SqliteStore(tmp_path / "state.db", clock=clock, rng=seeded_rng(turn)) as store:
            blocks = RevisionBlocks(store)
            bus = StateBus(clock, first_revision=await blocks.open())
            checkpoint = Checkpoint(bus, store, clock, revisions=blocks)
            report = await checkpoint.restore()
            assert report.entities == 50 * (turn > 0)
            clock.advance(10)
            bus.put_many([said(clock.now(), entity_id=f"n{i}", load_1m=float(turn)) for i in range(50)])
            seen += [entity.revision for entity in bus.entities()]
            await checkpoint.save()
    assert len(set(seen)) == 150


class FullStore(MemoryStore):
    """A store whose disk is full, until it is not."""

    full = True

    async def commit(self, conditions: Any, writes: Any) -> int:
        if self.full:
            raise StoreUnavailable("the disk is full")
        return await super().commit(conditions, writes)


@pytest.mark.looptime
async def test_a_save_that_fails_is_made_up_by_a_later_one() -> None:
    bus, clock = world()
    bus.put(said(at(1), load_1m=1.0))
    async with FullStore(clock=clock, rng=seeded_rng(1)) as store:
        checkpoint = Checkpoint(bus, store, clock)
        with pytest.raises(StoreUnavailable):
            await checkpoint.save()
        store.full = False
        assert (await checkpoint.save()).entities == 1
        assert value_of(await restarted(store, later(clock, 1)), "load_1m") == 1.0


@pytest.mark.looptime
async def test_running_saves_at_intervals_counts_failures_and_renews_revisions() -> None:
    clock = SystemClock()
    async with FullStore(clock=clock, rng=seeded_rng(1)) as store:
        store.full = False
        blocks = RevisionBlocks(store)
        bus = StateBus(clock, first_revision=await blocks.open())
        bus.put(said(at(1), load_1m=1.0))
        checkpoint = Checkpoint(bus, store, clock, revisions=blocks)
        store.full = True
        running = asyncio.ensure_future(checkpoint.run(60.0))
        await asyncio.sleep(130)
        assert checkpoint.failures == 2
        store.full = False
        await asyncio.sleep(60)
        assert checkpoint.failures == 0
        assert len(await keys(store)) == 1
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_the_bus_counts_no_further_than_was_reserved() -> None:
    clock = ManualClock(at(1000))
    async with a_store() as store:
        blocks = RevisionBlocks(store)
        first = await blocks.open()
        bus = StateBus(clock, first_revision=first + BLOCK - 1)  # as if the block were nearly used up
        checkpoint = Checkpoint(bus, store, clock, revisions=blocks)
        bus.put(said(at(1)))
        with pytest.raises(RevisionsExhausted):
            bus.put(said(at(2)))
        await checkpoint.save()
        assert bus.put(said(at(3))).revision == first + BLOCK + 1


async def test_writing_goes_on_while_a_save_is_under_way() -> None:
    bus, clock = world()
    bus.put_many([said(at(1), entity_id=f"n{i}", load_1m=1.0) for i in range(3000)])
    async with a_store() as store:
        checkpoint = Checkpoint(bus, store, clock)
        turns = 0

        class Busy(ManualClock):
            async def sleep(self, seconds: float) -> None:
                nonlocal turns
                turns += 1
                bus.put(said(at(1 + turns / 10), entity_id=f"n{turns % 3000}", load_1m=2.0))
                bus.forget(NODE, f"n{2999 - turns}")
                await super().sleep(seconds)

        busy = Checkpoint(bus, store, Busy())
        await busy.save()
        assert turns > 100, "it gives way between slices"
        await checkpoint.save()
        again = await restarted(store, later(clock, 0))
        assert list(again.entities(deleted=True)) == list(bus.entities(deleted=True))


async def test_a_lost_record_of_revisions_lets_nothing_come_from_the_future() -> None:
    bus, clock = world()
    bus.put_many([said(at(i), load_1m=1.0) for i in range(10)])
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        again = await restarted(store, later(clock, 1), first_revision=0)
        assert [e.revision for e in again.entities()] == [0]
        assert again.put(said(at(9), load_1m=2.0)).fields == {"load_1m": "accepted"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(fragments, min_size=1, max_size=25), st.lists(fragments, max_size=10))
async def test_a_restart_changes_nothing_about_merging(
    before: list[StateFragment], after: list[StateFragment]
) -> None:
    """Folded layers, clears and times included: what comes later gets the same verdicts as without it."""
    bus, clock = world()
    bus.put_many(before)
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        again = await restarted(store, later(clock, 0))
    assert picture(again) == picture(bus)
    for fragment in after:
        one, other = bus.put(fragment), again.put(fragment)
        assert (one.verdict, one.fields) == (other.verdict, other.fields)
    assert picture(again) == picture(bus)


class SilentStore(MemoryStore):
    """A store that writes and then loses its answer, until it does not."""

    silent = False

    async def commit(self, conditions: Any, writes: Any) -> int:
        revision = await super().commit(conditions, writes)
        if self.silent:
            raise StoreUnavailable("no answer: whether it was written is not known")
        return revision


async def test_what_a_failed_commit_wrote_all_the_same_does_not_come_back_later() -> None:
    bus, clock = world(tombstone_ttl_s=10.0)
    bus.put(said(at(1), load_1m=1.0))
    async with SilentStore(clock=SystemClock(), rng=seeded_rng(1)) as store:
        checkpoint = Checkpoint(bus, store, clock)
        store.silent = True
        with pytest.raises(StoreUnavailable):
            await checkpoint.save()
        assert await keys(store) != []
        store.silent = False
        bus.forget(NODE, "n1")
        clock.advance(11)
        bus.sweep()
        await checkpoint.save()
        assert await keys(store) == []


async def test_a_failed_commit_that_wrote_nothing_leaves_nothing_to_be_missed() -> None:
    bus, clock = world(tombstone_ttl_s=10.0)
    bus.put(said(at(1), load_1m=1.0))
    async with FullStore(clock=SystemClock(), rng=seeded_rng(1)) as store:
        checkpoint = Checkpoint(bus, store, clock)
        with pytest.raises(StoreUnavailable):
            await checkpoint.save()
        store.full = False
        bus.forget(NODE, "n1")
        clock.advance(11)
        bus.sweep()
        await checkpoint.save()
        assert await keys(store) == []
        assert (await checkpoint.save()).buckets == 0


async def test_an_entity_that_breaks_a_rule_of_this_version_costs_only_itself() -> None:
    bus, clock = world()
    bus.put(said(at(1), load_1m=1.0))
    bus.put(said(at(1), entity_id="other", load_1m=1.0))
    async with a_store() as store:
        await Checkpoint(bus, store, clock).save()
        for record in (await store.list(PREFIX)).records:
            (cell,) = unpack(record.value).cells
            if cell.entity_id == "n1":
                broken = pack(clock.now(), [msgspec.structs.replace(cell, entity_id="")])
                await store.commit([], [Put(record.key, broken)])
        report = await Checkpoint(StateBus(clock), store, clock).restore()
        assert report.entities == 1
        assert "entity_id must not be empty" in report.warnings[0]


@pytest.mark.parametrize("key", ["zzzz/0000", "x", "0000/zz", "0000"])
async def test_a_key_that_is_none_of_ours_is_named_and_let_be(key: str) -> None:
    _, clock = world()
    async with a_store() as store:
        await store.commit([], [Put(PREFIX + key, b"junk")])
        checkpoint = Checkpoint(StateBus(clock), store, clock)
        (warning,) = (await checkpoint.restore()).warnings
        assert PREFIX + key in warning
        await checkpoint.save()
        assert await keys(store) == [PREFIX + key]


@pytest.mark.parametrize("step_s", [86_400.0, -3600.0])
async def test_ages_are_true_after_a_restart_although_the_clock_was_set_after_the_save(step_s: float) -> None:
    """A machine that starts with a wrong clock and gets the right one by NTP a minute later."""
    bus, clock = world()
    bus.put(said(clock.now(), load_1m=1.0))
    bus.forget(NODE, "gone")
    async with a_store() as store:
        checkpoint = Checkpoint(bus, store, clock)
        await checkpoint.save()
        clock.advance(30)
        clock.set_wall(clock.now() + timedelta(seconds=step_s))
        assert (await checkpoint.save()).buckets == 2
        assert (await checkpoint.save()).buckets == 0
        clock.advance(20)
        again = await restarted(store, later(clock, 0))
        found = again.explain(NODE, "n1")
        assert found is not None
        assert found.fields["load_1m"].age_s == 50.0
        assert again.get(NODE, "gone", deleted=True) is not None
