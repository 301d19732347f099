"""Intake on virtual time: pace, faults and what they do to others (nothing)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from steersman.drivers.api import Observation, SourceError
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import EntityKey, EntityType
from steersman.observe.inlet import Inlet
from steersman.observe.intake import BACKOFF_MAX_S, FIRST_SPREAD_S, JITTER, Intake
from steersman.observe.registry import Source
from steersman.state.bus import StateBus
from steersman.testing.sources import ScriptedDriver, node_fragment, source_of

pytestmark = pytest.mark.looptime


class World:
    """A bus with intake running over some sources."""

    def __init__(self, sources: list[Source], concurrency: int) -> None:
        clock = SystemClock()
        self.bus = StateBus(clock)
        self.inlet = Inlet(self.bus, clock)
        self.intake = Intake(self.inlet, sources, clock=clock, rng=seeded_rng(7), concurrency=concurrency)

    def service(self, name: str) -> Any:
        return self.bus.get(EntityType.SERVICE, f"source/{name}")


@asynccontextmanager
async def observing(*sources: Source, concurrency: int = 32) -> AsyncIterator[World]:
    world = World(list(sources), concurrency)
    async with Supervisor(SystemClock(), seeded_rng(1), name="test") as tasks:
        tasks.start("intake", world.intake.run)
        yield world


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_the_first_observation_is_seen_within_a_second() -> None:
    drivers = [ScriptedDriver() for _ in range(20)]
    async with observing(*(source_of(f"s{n}", d, 3600.0) for n, d in enumerate(drivers))) as world:
        await asyncio.sleep(1)
        firsts = sorted(driver.times[0] for driver in drivers)
        assert firsts[-1] <= FIRST_SPREAD_S
        assert firsts[-1] - firsts[0] > FIRST_SPREAD_S / 4
        assert world.bus.get(EntityType.NODE, "n1") is not None


async def test_a_lone_source_is_observed_at_once() -> None:
    driver = ScriptedDriver()
    async with observing(source_of("a", driver)):
        await asyncio.sleep(0.01)
        assert driver.times == [0.0]


async def test_the_pace_holds_with_jitter_and_without_drift() -> None:
    driver = ScriptedDriver()

    async def slow() -> Observation:
        await asyncio.sleep(3)
        return Observation()

    driver.script = slow
    async with observing(source_of("a", driver, interval_s=10.0)):
        await asyncio.sleep(1000)
    gaps = [b - a for a, b in pairwise(driver.times)]
    assert all(10 * (1 - JITTER) <= gap <= 10 * (1 + JITTER) for gap in gaps)
    assert len(set(gaps)) > 50
    assert 100 <= len(driver.times) <= 101


async def test_an_observation_longer_than_its_interval_leaves_rounds_out() -> None:
    driver = ScriptedDriver()

    async def slow() -> Observation:
        await asyncio.sleep(25)
        return Observation()

    driver.script = slow
    async with observing(source_of("a", driver, interval_s=10.0, timeout_s=60)):
        await asyncio.sleep(300)
    assert driver.most_running == 1
    assert len(driver.times) == 10


async def test_a_hanging_source_delays_nobody() -> None:
    """Goal: with one place more than hanging sources left, the good one keeps its pace to the second."""
    good = ScriptedDriver()
    bad = [ScriptedDriver() for _ in range(7)]
    for driver in bad:
        driver.script = driver.hang
    sources = [source_of(f"bad{n}", d, 10.0, timeout_s=9.0) for n, d in enumerate(bad)]
    async with observing(*sources, source_of("good", good, 10.0), concurrency=8) as world:
        await asyncio.sleep(600)
        gaps = [b - a for a, b in pairwise(good.times)]
        assert all(gap <= 10 * (1 + JITTER) + 0.01 for gap in gaps)
        assert len(good.times) >= 59
        health = {h.name: h for h in world.intake.snapshot()}
        assert health["good"].state == "up"
        assert health["bad0"].state == "down"
        assert health["bad0"].last_error == "no answer within 9 s"


async def test_failing_sources_share_half_of_the_places() -> None:
    """Goal: more hanging sources than places; after their first failure the good one is not crowded out."""
    good = ScriptedDriver()
    bad = [ScriptedDriver() for _ in range(40)]
    for driver in bad:
        driver.script = driver.hang
    sources = [source_of(f"bad{n}", d, 10.0, timeout_s=9.0) for n, d in enumerate(bad)]
    async with observing(*sources, source_of("good", good, 10.0), concurrency=4):
        await asyncio.sleep(300)
        good.times.clear()
        await asyncio.sleep(600)
        gaps = [b - a for a, b in pairwise(good.times)]
        assert max(gaps) <= 10 * (1 + JITTER) + 0.01
    assert sum(driver.running for driver in bad) == 0


async def test_failures_back_off_and_success_returns_to_the_pace() -> None:
    driver = ScriptedDriver()

    async def fail() -> Observation:
        raise SourceError("http://h:1/metrics: connection refused")

    driver.script = fail
    async with observing(source_of("a", driver, interval_s=10.0)) as world:
        await asyncio.sleep(900)
        gaps = [b - a for a, b in pairwise(driver.times)]
        ceilings = [10, 20, 40, 80, 80, 80]
        assert all(0.7 * c <= gap <= c for gap, c in zip(gaps, ceilings, strict=False))
        status = world.bus.source_status("a")
        assert status is not None
        assert (status.state, status.failures) == ("failing", len(driver.times))
        driver.script = driver.node
        await asyncio.sleep(BACKOFF_MAX_S)
        assert world.intake.snapshot()[0].state == "up"
        assert world.intake.snapshot()[0].failures == 0
        driver.times.clear()
        await asyncio.sleep(100)
        assert len(driver.times) in (9, 10, 11)


async def test_a_failure_ages_fields_and_never_takes_them() -> None:
    driver = ScriptedDriver()
    async with observing(source_of("a", driver, interval_s=10.0)) as world:
        await asyncio.sleep(5)

        async def fail() -> Observation:
            raise SourceError("down")

        driver.script = fail
        await asyncio.sleep(600)
        entity: Any = world.bus.get(EntityType.NODE, "n1")
        assert entity.cpu_utilization == 0.5
        assert entity.freshness == "expired"


async def test_a_sources_health_is_an_entity() -> None:
    driver = ScriptedDriver()

    async def answer() -> Observation:
        await asyncio.sleep(0.2)
        return Observation([node_fragment("n1")])

    async def fail() -> Observation:
        raise SourceError("http://u:hunter2@h/ refused token=hunter2")

    driver.script = answer
    async with observing(source_of("a", driver, interval_s=10.0, scope="hpc")) as world:
        await asyncio.sleep(95)
        service = world.service("a")
        assert (service.up, service.error_rate, service.scope) == (True, 0.0, "hpc")
        assert service.source_type == "steersman"
        assert service.latency_p50_ms == service.latency_p99_ms == 200.0
        assert service.last_success_at is not None
        assert service.last_error is None
        driver.script = fail
        await asyncio.sleep(15)
        service = world.service("a")
        assert service.up is False
        assert 0 < service.error_rate < 0.2
        assert service.latency_p50_ms == 200.0
        assert "hunter2" not in service.last_error
        assert "refused" in service.last_error
        assert service.freshness == "fresh"


async def test_a_silent_source_stays_a_fresh_fact_while_intake_lives() -> None:
    """Goal: between two attempts far apart, what is known of the source is as old as the heartbeat."""
    driver = ScriptedDriver()
    async with observing(source_of("a", driver, interval_s=3600.0)) as world:
        await asyncio.sleep(3000)
        assert world.service("a").freshness == "fresh"
    await asyncio.sleep(3600)
    assert world.service("a").freshness == "expired"


async def test_a_driver_that_ignores_cancellation_is_contained_and_reported() -> None:
    release = asyncio.Event()
    stubborn, good = ScriptedDriver(), ScriptedDriver()

    async def ignore() -> Observation:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return Observation()

    stubborn.script = ignore
    sources = source_of("stubborn", stubborn, 10.0), source_of("good", good, 10.0)
    async with observing(*sources, concurrency=1) as world:
        await asyncio.sleep(300)
        assert len(stubborn.times) == 1
        assert len(good.times) >= 29
        (failure,) = world.intake.failures()
        assert "stubborn is stuck" in failure
        assert world.service("stubborn").up is False
        release.set()
        stubborn.script = stubborn.node
        await asyncio.sleep(BACKOFF_MAX_S)
        assert world.intake.failures() == []
        assert world.intake.snapshot()[0].state == "up"


async def garbage() -> Any:
    return {"fragments": []}


async def garbage_fragments() -> Any:
    return Observation([{"entity_id": "x"}])  # type: ignore[list-item]


async def crash() -> Any:
    raise ZeroDivisionError("division by zero, token=hunter2")


async def cancel_itself() -> Any:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (garbage, "returned dict, not an observation"),
        (garbage_fragments, "returned dict as a fragment"),
        (crash, "failed with ZeroDivisionError: division by zero"),
        (cancel_itself, "cancelled itself"),
    ],
)
async def test_a_driver_that_breaks_its_contract_is_down_and_tried_again(script: Any, words: str) -> None:
    driver, good = ScriptedDriver(), ScriptedDriver()
    driver.script = script
    async with observing(source_of("bad", driver), source_of("good", good)) as world:
        await asyncio.sleep(100)
        bad, fine = world.intake.snapshot()
        assert words in bad.last_error
        assert "hunter2" not in bad.last_error
        assert bad.observations > 2
        assert (fine.state, fine.failures) == ("up", 0)


async def test_wrong_fields_of_a_driver_are_left_out_and_told() -> None:
    driver = ScriptedDriver()

    async def half() -> Observation:
        return Observation([node_fragment("n1", cpu_utilization=7.0, memory_utilization=0.25)])

    driver.script = half
    async with observing(source_of("a", driver)) as world:
        await asyncio.sleep(1)
        node: Any = world.bus.get(EntityType.NODE, "n1")
        assert (node.cpu_utilization, node.memory_utilization) == (None, 0.25)
        (warning,) = world.intake.snapshot()[0].warnings
        assert "cpu_utilization" in warning


async def test_a_driver_speaks_in_its_sources_name_only() -> None:
    driver = ScriptedDriver()

    async def other() -> Observation:
        return Observation([node_fragment("n1", source="somebody-else")])

    driver.script = other
    async with observing(source_of("a", driver)) as world:
        await asyncio.sleep(1)
        node: Any = world.bus.get(EntityType.NODE, "n1")
        assert node.sources == ("a",)


async def test_what_is_gone_becomes_a_tombstone() -> None:
    driver = ScriptedDriver()
    async with observing(source_of("a", driver)) as world:
        await asyncio.sleep(1)

        async def gone() -> Observation:
            return Observation(gone=[EntityKey(EntityType.NODE, "", "n1")])

        driver.script = gone
        await asyncio.sleep(11)
        assert world.bus.get(EntityType.NODE, "n1") is None
        assert world.bus.get(EntityType.NODE, "n1", deleted=True) is not None


async def test_what_is_left_out_of_a_whole_picture_becomes_a_tombstone() -> None:
    """A job that ended while nobody was here to see it does not stay in the picture for ever."""
    driver = ScriptedDriver()
    seen = {"n1": ["a"], "n2": ["a"], "n3": ["a", "b"], "n4": ["b"]}

    async def whole() -> Observation:
        return Observation(fragments=[node_fragment("n1")], whole=(EntityType.NODE,))

    driver.script = whole
    async with observing(source_of("a", driver, interval_s=10.0)) as world:
        for name, sources in seen.items():  # as a checkpoint brings them back
            world.bus.put_many(
                [structs.replace(node_fragment(name), source=source) for source in sources]
                + [structs.replace(node_fragment(name), source="a", labels={"cluster": "other"})]
            )
        await asyncio.sleep(1)
        here = {e.entity_id for e in world.bus.entities(EntityType.NODE, scope="")}
        assert here == {"n1", "n3", "n4"}, "what others tell of too is not this source's to end"
        assert len(list(world.bus.entities(EntityType.NODE, scope="other"))) == len(seen)


async def test_a_big_observation_lets_others_run_between_slices() -> None:
    """Goal: while 20,000 fragments are merged, another task gets its turn many times."""
    driver = ScriptedDriver()
    fragments = [node_fragment(f"n{n}") for n in range(20_000)]

    async def many() -> Observation:
        return Observation(fragments)

    driver.script = many
    turns = 0
    async with observing(source_of("a", driver, 3600.0)) as world:
        while world.intake.snapshot()[0].fragments == 0:
            turns += 1
            await asyncio.sleep(0)
    assert turns > 30
    assert len(world.bus) == 20_001


async def test_a_big_whole_picture_lets_others_run_while_it_finds_what_is_gone() -> None:
    """Goal: also looking through the fleet and forgetting thousands is done in slices, not at one go."""
    driver = ScriptedDriver()
    fragments = [node_fragment(f"n{n:05d}") for n in range(20_000)]

    async def whole() -> Observation:
        return Observation(fragments, whole=(EntityType.NODE,))

    asked = asyncio.Event()

    async def fewer() -> Observation:
        asked.set()
        return Observation([node_fragment(f"n{n:05d}") for n in range(10)], whole=(EntityType.NODE,))

    driver.script = whole
    turns = 0
    async with observing(source_of("a", driver, 10.0, timeout_s=5.0)) as world:
        await asyncio.sleep(5)
        driver.script = fewer
        await asked.wait()
        while len(world.bus) > 11:
            turns += 1
            await asyncio.sleep(0)
        assert {entity.entity_id for entity in world.bus.entities(EntityType.NODE)} == {
            f"n{n:05d}" for n in range(10)
        }
    assert turns > 100


async def test_stopping_in_the_middle_marks_no_source_as_down_and_closes_all() -> None:
    hanging, good = ScriptedDriver(), ScriptedDriver()
    hanging.script = hanging.hang
    async with observing(source_of("h", hanging, timeout_s=60), source_of("g", good)) as world:
        await asyncio.sleep(5)
    assert world.intake.snapshot()[0].state == "starting"
    assert world.intake.failures() == ["intake does not run"]
    assert (hanging.closed, good.closed) == (1, 1)
    assert hanging.running == 0
    assert [task for task in asyncio.all_tasks() if "intake" in task.get_name()] == []


async def test_a_driver_whose_close_hangs_does_not_keep_the_others_open() -> None:
    class HangsOnClose(ScriptedDriver):
        async def close(self) -> None:
            await asyncio.Event().wait()

    class FailsOnClose(ScriptedDriver):
        async def close(self) -> None:
            raise OSError("no")

    good = ScriptedDriver()
    async with observing(
        source_of("h", HangsOnClose()), source_of("f", FailsOnClose()), source_of("g", good)
    ):
        await asyncio.sleep(1)
    assert good.closed == 1
    assert now_s() < 10


async def test_a_driver_that_blocks_the_loop_is_named_and_asked_less_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import time

    driver = ScriptedDriver()

    async def block() -> Observation:
        time.sleep(0.3)
        return Observation([node_fragment("n1")])

    driver.script = block
    async with observing(source_of("a", driver, interval_s=10.0)) as world:
        await asyncio.sleep(100)
        assert len(driver.times) < 6
        health = world.intake.snapshot()[0]
        assert health.state == "up"
        assert health.longest_block_s >= 0.3
    assert "driver_blocks" in caplog.text
