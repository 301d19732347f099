"""The one driver suite: what every driver must do, on the real system and on its fake.

Call each of `DRIVER_CHECKS` with a factory of a started system:

    @pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
    async def test_driver(check): await check(my_system)

The factory gives an async context manager of a `SystemUnderTest`; docs/how-to/add-a-driver.md shows one. A
broken rule is an AssertionError that says which. Nothing here imports a test framework.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from steersman.drivers.api import Driver, DriverContext, Observation, SourceError
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import EntityKey
from steersman.kinds.fields import check_fields
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment

SOURCE = "suite-source"
SCOPE = "suite-scope"
TIMEOUT_S = 5.0
"""The source's time-out where the system behaves."""
SHORT_TIMEOUT_S = 0.4
"""The source's time-out where it does not."""
PATIENCE_S = 20.0
"""After this a call that should have ended counts as one that hangs."""
RECOVERY_ATTEMPTS_MAX = 20
SETTLE_ATTEMPTS_MAX = 100
FUTURE_MAX = timedelta(seconds=5)
STATES = ("empty", "skewed", "restarted", "huge")
"""What a system may be in without being at fault: it has nothing of what the driver looks for; its clock is
an hour ahead of ours; it began anew, and its counters with it; it has thousands of entities."""
HUGE_ENTITIES_MIN = 1_000
"""A huge system tells of at least so many entities."""
HUGE_TIMEOUT_S = 20.0
"""The source's time-out for a huge system."""
BLOCK_MAX_S = 1.0
"""So long may a look hold the event loop; reading all of a huge system there takes longer."""
BLOCK_SHARE_MAX = 0.5
"""Or so much of the time of a look: where a machine has other work, all of it takes longer. A driver that
reads in the loop holds it nearly all of the time."""
LOOP_THREAD = "asyncio_"
"""How the names of the threads begin that asyncio makes for `to_thread`."""
TICK_S = 0.01
"""How often the loop is asked whether it still runs."""


class SystemUnderTest(Protocol):
    """A started system, and how to make a driver for it.

    `secrets` are words that the driver was configured with and must show nowhere. `faults` are the faults the
    system can show: of hang, refuse, garbage, half, close, error, denied, endless.

    A system may also have `states`, those of `STATES` that it can be in, and then `show(state)`, which puts
    it there until `mend`. States are no faults: the system works, and the driver must see that it does.
    """

    @property
    def secrets(self) -> tuple[str, ...]:
        """Words that must not be seen."""
        ...

    @property
    def faults(self) -> tuple[str, ...]:
        """What it can do wrong."""
        ...

    def driver(self, context: DriverContext) -> Driver:
        """A new driver for this system."""
        ...

    async def fail(self, fault: str) -> None:
        """Show a fault from now on."""
        ...

    async def mend(self) -> None:
        """Behave again."""
        ...

    async def surprise(self) -> bool:
        """Show a shape that the driver does not know; False where this system has none to show."""
        ...


Factory = Callable[[], AbstractAsyncContextManager[SystemUnderTest]]
Check = Callable[[Factory], Awaitable[None]]


def context(timeout_s: float = TIMEOUT_S) -> DriverContext:
    """What the suite's drivers are handed."""
    return DriverContext(
        source=SOURCE,
        scope=SCOPE,
        clock=SystemClock(),
        rng=seeded_rng(1),
        interval_s=1.0,
        timeout_s=timeout_s,
    )


async def check_observation_is_well_formed(factory: Factory) -> None:
    """Two looks give fragments with typed, bounded fields, true times, the source's name and the scope."""
    async with factory() as system:
        driver = system.driver(context())
        try:
            for _ in range(2):
                seen = await _observe(driver)
                _expect(seen.fragments, "a healthy system gave no fragment")
                for fragment in seen.fragments:
                    assert_well_formed(fragment)
                keys = [(fragment.key, fragment.observed_at) for fragment in seen.fragments]
                _expect(len(keys) == len(set(keys)), "one observation tells twice of an entity at one time")
                for key in seen.gone:
                    _expect(key.scope == SCOPE, f"{key} is gone from another scope than ours")
                _assert_no_secret(system, [msgspec.json.encode(seen).decode(), repr(driver), repr(seen)])
        finally:
            await driver.close()


async def check_times_do_not_go_back(factory: Factory) -> None:
    """What a later look tells of an entity is not older than what an earlier one told."""
    async with factory() as system:
        driver = system.driver(context())
        try:
            before = {fragment.key: fragment.observed_at for fragment in (await _observe(driver)).fragments}
            for fragment in (await _observe(driver)).fragments:
                earlier = before.get(fragment.key)
                _expect(
                    earlier is None or fragment.observed_at >= earlier, f"{fragment.key} went back in time"
                )
        finally:
            await driver.close()


async def check_cancellation_leaves_nothing(factory: Factory) -> None:
    """A look that is cancelled at any await leaves nothing behind, and the next one works."""
    async with factory() as system:
        driver = system.driver(context())
        clock = SystemClock()
        before = _resources()
        try:
            async with Supervisor(clock, seeded_rng(1), name="suite") as tasks:
                for steps in _growing():
                    task = tasks.spawn("observe", driver.observe())
                    for _ in range(steps):
                        await clock.sleep(0)
                    ended = task.done()
                    task.cancel()
                    await asyncio.wait({task}, timeout=PATIENCE_S)
                    _expect(task.done(), "observe swallowed its cancellation")
                    if ended or not task.cancelled():
                        break
                    _expect(
                        (await _observe(driver)).fragments, "after a cancelled look the next one saw nothing"
                    )
        finally:
            await driver.close()
        await _assert_released(before)


async def check_faults_are_source_errors(factory: Factory) -> None:
    """A system that fails gives `SourceError` in time and without a secret; the driver recovers by itself."""
    async with factory() as system:
        for fault in system.faults:
            driver = system.driver(context(SHORT_TIMEOUT_S))
            try:
                await _recovered(driver, f"before {fault}")
                await system.fail(fault)
                for _ in range(2):  # the second look finds what the first one left behind
                    error = await _failure(driver, fault)
                    shown = [str(error), repr(error), msgspec.json.encode(error.problem()).decode()]
                    _assert_no_secret(system, [*shown, *_chain(error)])
                await system.mend()
                await _recovered(driver, f"after {fault}")
            finally:
                await system.mend()
                await driver.close()


async def check_close_leaves_nothing(factory: Factory) -> None:
    """Closing may be repeated, also unused and after a fault, and leaves no task, thread or descriptor."""
    async with factory() as system:
        before = _resources()
        unused = system.driver(context())
        await unused.close()
        await unused.close()
        for fault in ("", *system.faults):
            driver = system.driver(context(SHORT_TIMEOUT_S if fault else TIMEOUT_S))
            if fault:
                await system.fail(fault)
                await _failure(driver, fault)
                await system.mend()
            else:
                await _observe(driver)
            await driver.close()
            await driver.close()
        await _assert_released(before)


async def check_surprises_are_told(factory: Factory) -> None:
    """A shape that the driver does not know is reported as drift or as a warning; the rest is still told."""
    async with factory() as system:
        if not await system.surprise():
            return
        driver = system.driver(context())
        try:
            seen = await _observe(driver)
            _expect(seen.drift or seen.warnings, "the driver did not notice a shape that it can't know")
            for fragment in seen.fragments:
                assert_well_formed(fragment)
            _expect(seen.fragments, "one unknown shape cost the whole picture")
        finally:
            await driver.close()


async def check_nothing_there_is_no_fault(factory: Factory) -> None:
    """A system that works and has nothing to tell gives an observation, no error, to a driver that saw more
    before and to one that did not; what comes back is seen again."""
    async with factory() as system:
        enter = _way_into(system, "empty")
        if enter is None:
            return
        driver, fresh = system.driver(context()), system.driver(context())
        try:
            full = len((await _observe(driver)).fragments)
            await enter()
            for looking in (driver, fresh, driver):
                seen = await _observed_in_the_end(looking, "empty")
                for fragment in seen.fragments:
                    assert_well_formed(fragment)
                _assert_no_secret(system, [msgspec.json.encode(seen).decode()])
                _expect(
                    looking is driver or len(seen.fragments) < full, "an empty system is told like a full one"
                )
            await system.mend()
            for looking in (driver, fresh):
                await _recovered(looking, "after being empty")
        finally:
            await driver.close()
            await fresh.close()


async def check_a_clock_ahead_poisons_nothing(factory: Factory) -> None:
    """What a system says whose clock is an hour ahead is told, and with no time of the future: so what it
    says once its clock is right is newer."""
    async with factory() as system:
        enter = _way_into(system, "skewed")
        if enter is None:
            return
        driver = system.driver(context())
        try:
            await enter()
            skewed: dict[EntityKey, datetime] = {}
            for _ in range(2):
                seen = await _observed_in_the_end(driver, "skewed")
                _expect(seen.fragments, "nothing is told of a system whose clock is ahead")
                for fragment in seen.fragments:
                    assert_well_formed(fragment)
                    skewed[fragment.key] = fragment.observed_at
            await system.mend()
            await _recovered(driver, "after a clock ahead")
            for fragment in (await _observe(driver)).fragments:
                assert_well_formed(fragment)
                before = skewed.get(fragment.key)
                _expect(
                    before is None or fragment.observed_at >= before,
                    f"{fragment.key} is held by a time of the future",
                )
        finally:
            await driver.close()


async def check_a_restart_is_survived(factory: Factory) -> None:
    """A system that began anew is read on with no help: no figure falls below its bounds because a counter
    began at zero, nothing that is told is called gone."""
    async with factory() as system:
        enter = _way_into(system, "restarted")
        if enter is None:
            return
        driver = system.driver(context())
        try:
            for _ in range(2):
                await _observe(driver)
            await enter()
            for _ in range(2):
                seen = await _observed_in_the_end(driver, "restarted")
                _expect(seen.fragments, "after a restart of the system nothing is seen")
                for fragment in seen.fragments:
                    assert_well_formed(fragment)
                told = {fragment.key for fragment in seen.fragments}
                _expect(told.isdisjoint(seen.gone), "an entity is told and called gone in one look")
        finally:
            await driver.close()


async def check_a_huge_system_does_not_hold_the_loop(factory: Factory) -> None:
    """Thousands of entities are told in time, and others get their turn meanwhile."""
    async with factory() as system:
        enter = _way_into(system, "huge")
        if enter is None:
            return
        driver = system.driver(context(HUGE_TIMEOUT_S))
        clock = SystemClock()
        gc.collect()
        gc.freeze()  # what thousands of other tests left in memory is not looked through in the driver's time
        try:
            await enter()
            longest = 0.0
            async with Supervisor(clock, seeded_rng(1), name="suite") as tasks:

                async def tick() -> None:
                    nonlocal longest
                    while True:
                        before = clock.monotonic()
                        await clock.sleep(TICK_S)
                        longest = max(longest, clock.monotonic() - before - TICK_S)

                ticking = tasks.spawn("tick", tick())
                async with asyncio.timeout(2 * (HUGE_TIMEOUT_S + PATIENCE_S)):
                    await clock.sleep(TICK_S)  # it ticks before the first look, and after the last
                    first_s = clock.monotonic()
                    await driver.observe()
                    second_s = clock.monotonic()
                    seen = await driver.observe()
                    look_s = max(second_s - first_s, clock.monotonic() - second_s)
                    await clock.sleep(TICK_S)
                ticking.cancel()
                await asyncio.wait({ticking}, timeout=PATIENCE_S)
            count = len({fragment.key for fragment in seen.fragments})
            _expect(count >= HUGE_ENTITIES_MIN, f"of a huge system only {count} entities are told")
            allowed_s = max(BLOCK_MAX_S, BLOCK_SHARE_MAX * look_s)
            _expect(longest <= allowed_s, f"the event loop was held for {longest:.2f} of {look_s:.2f} s")
            for fragment in seen.fragments[:: max(1, count // 100)]:
                assert_well_formed(fragment)
        finally:
            gc.unfreeze()
            await driver.close()


DRIVER_CHECKS: tuple[Check, ...] = (
    check_observation_is_well_formed,
    check_times_do_not_go_back,
    check_cancellation_leaves_nothing,
    check_faults_are_source_errors,
    check_close_leaves_nothing,
    check_surprises_are_told,
    check_nothing_there_is_no_fault,
    check_a_clock_ahead_poisons_nothing,
    check_a_restart_is_survived,
    check_a_huge_system_does_not_hold_the_loop,
)
"""All checks; each takes the factory."""


def assert_well_formed(fragment: StateFragment) -> None:
    """One fragment of the suite's source: names, times, scope, and every declared field's type and bounds."""
    what = f"{fragment.entity_type.value}/{fragment.entity_id}"
    _expect(fragment.source == SOURCE, f"{what} names {fragment.source!r} as its source")
    _expect(fragment.labels.get(SCOPE_LABEL) == SCOPE, f"{what} is not in the scope")
    _expect(fragment.observed_at.tzinfo is UTC, f"{what} has a time without UTC")
    _expect(fragment.observed_at <= SystemClock().now() + FUTURE_MAX, f"{what} comes from the future")
    problems = check_fields(fragment.entity_type, fragment.fields)
    _expect(not problems, f"{what}: {'; '.join(str(problem) for problem in problems)}")
    for name, value in fragment.fields.items():
        _expect(not name.startswith("_"), f"{what} shows the inner value {name}")
        _expect(not _has_no_number(value), f"{what}: {name} is {value}; absent values are left out")
    again = msgspec.json.decode(msgspec.json.encode(fragment), type=StateFragment)
    _expect(again.key == fragment.key, f"{what} is another one after encoding")


def _expect(held: object, broken: str) -> None:
    if not held:
        raise AssertionError(broken)


def _has_no_number(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_no_number(item) for item in value.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any mapping
    return value is None or (isinstance(value, float) and not math.isfinite(value))


async def _observe(driver: Driver) -> Observation:
    async with asyncio.timeout(PATIENCE_S):
        return await driver.observe()


async def _observed_in_the_end(driver: Driver, state: str) -> Observation:
    """A look within a few attempts: a change of state may cost a connection, and no more."""
    clock = SystemClock()
    told = ""
    for _ in range(RECOVERY_ATTEMPTS_MAX):
        try:
            return await _observe(driver)
        except SourceError as error:
            told = error.detail
            await clock.sleep(0.05)
    raise AssertionError(f"{state}: a system that works is told as one that fails: {told}")


def _way_into(system: SystemUnderTest, state: str) -> Callable[[], Awaitable[None]] | None:
    """What puts the system into `state`; None where it can't be in it: its check has nothing to do."""
    states: tuple[str, ...] = getattr(system, "states", ())
    odd = set(states).difference(STATES)
    _expect(not odd, f"states that no check knows: {odd}")
    show: Callable[[str], Awaitable[None]] | None = getattr(system, "show", None)
    if state not in states or show is None:
        return None
    return lambda: show(state)


async def _failure(driver: Driver, fault: str) -> SourceError:
    """The `SourceError` that a look at a failing system must give."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await driver.observe()
    except SourceError as error:
        return error
    except TimeoutError:
        raise AssertionError(f"{fault}: the driver did not keep the source's time-out") from None
    raise AssertionError(f"{fault}: the driver saw nothing wrong")


async def _recovered(driver: Driver, when: str) -> None:
    """A good look, within a few attempts: the system may need a moment, the driver no help."""
    clock = SystemClock()
    for _ in range(RECOVERY_ATTEMPTS_MAX):
        try:
            if (await _observe(driver)).fragments:
                return
        except SourceError:
            await clock.sleep(0.05)
    raise AssertionError(f"{when}: the driver does not see the system that works")


def _assert_no_secret(system: SystemUnderTest, texts: Iterable[str]) -> None:
    for text in texts:
        for secret in system.secrets:
            _expect(secret not in text, f"a secret is shown in: {text.replace(secret, '***')[:500]}")


def _chain(error: BaseException) -> Iterable[str]:
    """The texts of an error's causes as a log would print them."""
    cause = error.__cause__
    while cause is not None:
        yield f"{cause!r} {cause}"
        cause = cause.__cause__


def _growing() -> Iterable[int]:
    """How many turns of the loop a look gets before it is cancelled: each of the first, then ever more."""
    yield from range(12)
    steps = 12
    while steps < 5_000:
        steps = steps * 3 // 2
        yield steps


def _resources() -> tuple[int, int, int]:
    """Tasks, threads and open descriptors now. Threads of the event loop's own pool are the loop's: how many
    there are hangs on when each was free."""
    threads = sum(not one.name.startswith(LOOP_THREAD) for one in threading.enumerate())
    return len(asyncio.all_tasks()), threads, len(os.listdir("/proc/self/fd"))


async def _assert_released(before: tuple[int, int, int]) -> None:
    """Nothing is left; closing a socket takes a few turns of the loop."""
    clock = SystemClock()
    now = before
    for _ in range(SETTLE_ATTEMPTS_MAX):
        now = _resources()
        if all(count <= earlier for count, earlier in zip(now, before, strict=True)):
            return
        await clock.sleep(0.02)
    names = [thread.name for thread in threading.enumerate()]
    raise AssertionError(f"left behind (tasks, threads, descriptors): {before} became {now}; threads {names}")
