"""Intake: reads each source at its pace, and judges the sources by what comes of it.

Each source has a supervised task of its own, so nothing that one does is waited for by another:

- one observation at a time for each source, under its time-out;
- one that does not end although it was cancelled keeps its source, and only its source, out of the round
  (`stuck`) until it ends; it holds no place in the count of concurrent observations;
- failing sources share at most half of the places, so they can't crowd out the good ones;
- after a failure the next attempt waits longer, with jitter, up to `BACKOFF_MAX_S`;
- a driver that blocks the event loop is found out, named, and observed less often.

A failure changes no field: what the source said before ages, and its freshness and confidence tell so. The
source's own health is a fact like others, the `service` entity `source/<name>`. It speaks only of changes
of intake's own knowledge; a heartbeat of the source `steersman` says that intake lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from datetime import datetime
from typing import Any, cast

from msgspec import structs

from steersman.drivers.api import Observation, SourceError
from steersman.kernel.clock import Clock
from steersman.kernel.errors import SteersmanError
from steersman.kernel.ids import Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.redact import error_text
from steersman.kernel.retry import Backoff
from steersman.kernel.steps import Stepped
from steersman.kernel.tasks import ALWAYS, Supervisor, TasksLeft, ended_within
from steersman.kinds.entity import EntityKey
from steersman.kinds.fragment import StateFragment
from steersman.kinds.settings import CONCURRENCY, OWN_SOURCE
from steersman.observe.inlet import Inlet, salvaged, slices
from steersman.observe.judge import STUCK, UP, Record, SourceHealth, shortened
from steersman.observe.registry import Source
from steersman.state.outcome import REFUSED
from steersman.state.sources import SourceInfo

FIRST_SPREAD_S = 0.5
"""First observations are spread over this time: soon enough to be seen, far enough apart not to collide."""
JITTER = 0.05
"""Share of the interval by which each observation may be late, so that sources drift apart."""
BACKOFF_FACTOR_MAX = 8.0
BACKOFF_MAX_S = 120.0
"""A source that is back is noticed within this time, unless its own interval is longer."""
CANCEL_GRACE_S = 1.0
"""How long a cancelled observation may take to put its things in order."""
BLOCK_MAX_S = 0.25
"""A step longer than this holds up everybody: the driver is named for it."""
FRAGMENTS_MAX = 500_000
"""More in one observation is an error in the driver or its system."""
FORGET_SLICE = 100
SEARCH_SLICE = 5_000
"""Entities that are forgotten, or only looked at, in one go: some 2 ms, as `SLICE_MAX`."""
WARNINGS_MAX = 20
HEARTBEAT_S = 10.0
CLOSE_TIMEOUT_S = 5.0

_log = get_logger("observe.intake")


class DriverFault(SourceError):
    """A driver broke its own contract: raised what it should not, returned what is no observation."""

    code = "driver_fault"
    title = "Fault in a driver"


class Intake:
    """All sources of one process. `await run()` in a supervised task; ends when it is cancelled."""

    def __init__(
        self,
        inlet: Inlet,
        sources: Iterable[Source],
        *,
        clock: Clock,
        rng: Rng,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._inlet = inlet
        self._clock = clock
        self._rng = rng
        self._places = asyncio.Semaphore(concurrency)
        self._places_of_failing = asyncio.Semaphore(max(1, concurrency // 2))
        self._rounds = [_Round(source, self) for source in sources]
        self._running = False
        # Sources are known to the bus before the first answer, also those that never give one.
        own = SourceInfo(OWN_SOURCE, OWN_SOURCE, HEARTBEAT_S, repeats=False)
        inlet.declare(own)
        for one in self._rounds:
            source = one.source
            info = SourceInfo(source.name, source.driver_name, source.interval_s, source.priority)
            inlet.declare(info)

    async def run(self) -> None:
        """Observe until cancelled, then close the drivers. A second run continues the records."""
        self._running = True
        try:
            async with Supervisor(self._clock, self._rng, name="intake") as tasks:
                tasks.start("heartbeat", self._beat, ALWAYS)
                for one in self._rounds:
                    tasks.start(one.source.name, lambda one=one: one.run(tasks), ALWAYS)
                await tasks.wait()
        finally:
            self._running = False
            await self._close()

    def snapshot(self) -> list[SourceHealth]:
        """Every source and how it fares, in the order of the configuration."""
        return [one.health() for one in self._rounds]

    def failures(self) -> list[str]:
        """Why intake does not do its work, one line each; empty where it does. A source that is down is not
        intake's failure: it is a fact about that source."""
        if not self._running:
            return ["intake does not run"]
        return [
            f"source {one.source.name} is stuck in an observation that does not end: {one.record.last_error}"
            for one in self._rounds
            if one.record.state == STUCK
        ]

    async def _beat(self) -> None:
        while True:
            self._inlet.report(OWN_SOURCE, True)
            await self._clock.sleep(HEARTBEAT_S)

    async def _close(self) -> None:
        """Close every driver; one that hangs or fails does not keep the others open."""
        tasks = Supervisor(self._clock, self._rng, name="intake-close")
        closing = [
            (one.source.name, tasks.spawn(one.source.name, _closed(one.source))) for one in self._rounds
        ]
        deadline_s = self._clock.monotonic() + CLOSE_TIMEOUT_S
        late: list[str] = []
        for name, task in closing:
            if not await ended_within(task, deadline_s - self._clock.monotonic(), self._clock):
                late.append(name)
        try:
            await tasks.stop(CANCEL_GRACE_S)
        except TasksLeft:
            pass  # said below, in words of ours
        if late:
            _log.error("drivers_not_closed", sources=late, timeout_s=CLOSE_TIMEOUT_S)

    # ---- for the rounds

    async def place(self, *, failing: bool) -> _Place:
        """Wait for a place among the concurrent observations."""
        held = [self._places_of_failing, self._places] if failing else [self._places]
        place = _Place()
        try:
            for semaphore in held:
                await semaphore.acquire()
                place.held.append(semaphore)
        except asyncio.CancelledError:
            place.give_back()
            raise
        return place

    @property
    def clock(self) -> Clock:
        """Time."""
        return self._clock

    @property
    def rng(self) -> Rng:
        """Chance."""
        return self._rng

    @property
    def inlet(self) -> Inlet:
        """The door to the bus."""
        return self._inlet

    @property
    def spread_s(self) -> float:
        """Over what time first observations are spread."""
        return FIRST_SPREAD_S if len(self._rounds) > 1 else 0.0


class _Place:
    """A place among the concurrent observations; given back once."""

    def __init__(self) -> None:
        self.held: list[asyncio.Semaphore] = []

    def give_back(self) -> None:
        while self.held:
            self.held.pop().release()


class _Round:
    """One source: its schedule and its record."""

    def __init__(self, source: Source, intake: Intake) -> None:
        self.source = source
        self.record = Record()
        self._intake = intake
        self._due_s = 0.0
        self._blocks = 0
        self._backoff = Backoff(
            first_s=source.interval_s,
            max_s=max(source.interval_s, min(BACKOFF_MAX_S, BACKOFF_FACTOR_MAX * source.interval_s)),
        )

    async def run(self, tasks: Supervisor) -> None:
        """Observe at the source's pace until cancelled."""
        clock, rng, interval_s = self._intake.clock, self._intake.rng, self.source.interval_s
        self._due_s = clock.monotonic() + rng.uniform(0.0, min(self._intake.spread_s, interval_s))
        while True:
            await clock.sleep(self._due_s - clock.monotonic())
            began_s = clock.monotonic()
            good = await self._once(tasks)
            if good:
                # On a grid: the time that an observation takes does not add up. Rounds missed are left out.
                missed = max(0.0, (clock.monotonic() - self._due_s) // interval_s)
                self._due_s += interval_s * (1.0 + missed)
                late_s = rng.uniform(0.0, JITTER * interval_s)
                await clock.sleep(max(0.0, self._due_s + late_s - clock.monotonic()))
            else:
                self._due_s = max(clock.monotonic(), began_s) + self._backoff.delay_s(
                    max(self.record.failures, self._blocks), rng
                )

    def health(self) -> SourceHealth:
        """As it stands."""
        source, record = self.source, self.record
        return SourceHealth(
            name=source.name,
            driver=source.driver_name,
            scope=source.scope,
            interval_s=source.interval_s,
            state=record.state,
            failures=record.failures,
            observations=record.observations,
            fragments=record.fragments,
            error_rate=record.error_rate,
            latency_p50_ms=record.percentile_ms(0.50),
            latency_p95_ms=record.percentile_ms(0.95),
            latency_p99_ms=record.percentile_ms(0.99),
            last_success_at=record.last_success_at,
            last_error=record.last_error,
            next_in_s=max(0.0, self._due_s - self._intake.clock.monotonic()),
            warnings=record.warnings,
            longest_block_s=record.longest_block_s,
        )

    async def _once(self, tasks: Supervisor) -> bool:
        """One observation from place to verdict; whether the pace may stay as it is."""
        clock, source = self._intake.clock, self.source
        call: asyncio.Task[Observation] | None = None
        place = await self._intake.place(failing=self.record.state not in (UP, "starting"))
        try:
            began_s, began_at = clock.monotonic(), clock.now()
            steps = Stepped(cast("Coroutine[Any, Any, Observation]", source.driver.observe()))
            call = tasks.spawn(f"{source.name}/observe", steps)
            in_time = await ended_within(call, source.timeout_s, clock)
            if not in_time:
                call.cancel()
                if not await ended_within(call, CANCEL_GRACE_S, clock):
                    place.give_back()
                    await self._sit_out(call)
                    return False
            took_s = clock.monotonic() - began_s
            blocked = self._blocked(steps.longest_step_s)
            try:
                seen = self._outcome(call, in_time)
                await self._feed(seen, began_at, took_s)
            except SourceError as error:
                self._failed(error)
                return False
            return not blocked
        finally:
            place.give_back()
            if call is not None and not call.done():
                call.cancel()  # this round was cancelled; nobody waits for the answer any more

    async def _sit_out(self, call: asyncio.Task[Observation]) -> None:
        """The call ignores that it was cancelled. Say so, and wait for its end, however long that takes."""
        why = (
            f"no answer within {self.source.timeout_s:g} s, and the driver ignores its cancellation; "
            "not asked again until that call ends"
        )
        self.record.failed(why, stuck=True)
        self._publish(why)
        _log.error("source_stuck", source=self.source.name, driver=self.source.driver_name)
        await asyncio.wait({call})
        _ = call.cancelled() or call.exception()  # looked at, so that nobody complains; it is too late for it
        _log.warning("source_unstuck", source=self.source.name)
        self.record.state = "down"

    def _outcome(self, call: asyncio.Task[Observation], in_time: bool) -> Observation:
        """What the call gave, or a `SourceError` for whatever else came of it."""
        source = self.source
        if not in_time:
            late = call.exception() if not call.cancelled() else None
            more = f" ({shortened(error_text(late))})" if late is not None else ""
            raise SourceError(f"no answer within {source.timeout_s:g} s{more}")
        if call.cancelled():
            raise DriverFault(f"driver {source.driver_name} cancelled itself")
        error = call.exception()
        if isinstance(error, SourceError):
            raise error
        if isinstance(error, SteersmanError):
            raise SourceError(error.detail) from error
        if error is not None:
            detail = f"driver {source.driver_name} failed with {error_text(error)}"
            raise DriverFault(detail) from error
        seen: Any = call.result()  # a foreign driver may return anything
        if not isinstance(seen, Observation) or len(seen.fragments) > FRAGMENTS_MAX:
            kind = f"{type(seen).__name__}" if not isinstance(seen, Observation) else "too many fragments"
            raise DriverFault(f"driver {source.driver_name} returned {kind}, not an observation")
        return seen

    async def _feed(self, seen: Observation, began_at: datetime, took_s: float) -> None:
        """Hand an observation to the bus, slice by slice, and note it."""
        inlet, clock = self._intake.inlet, self._intake.clock
        warnings = [*seen.warnings[:WARNINGS_MAX]]
        drift = [*seen.drift[:WARNINGS_MAX]]
        for line in drift:
            inlet.drifted(self.source.name, shortened(line))
        refused = 0
        self._check_kinds(seen.fragments)
        ready: list[StateFragment] = []
        for part in slices(seen.fragments):
            if ready:
                await clock.sleep(0)  # others first
            checked = self._checked(part, drift)
            ready += checked
            for outcome in inlet.take(checked):
                if outcome.verdict == REFUSED:
                    refused += 1
                    if refused == 1 and outcome.error is not None:
                        warnings.append(f"refused: {outcome.error.detail}")
        gone = [*seen.gone, *(await self._unspoken(seen, ready))]
        for count, key in enumerate(gone, 1):
            inlet.forget(key, began_at, self.source.name)
            if count % FORGET_SLICE == 0:
                await clock.sleep(0)  # others first
        if refused > 1:
            warnings.append(f"{refused} fragments were refused in all")
        for line in drift:
            _log.debug("source_drift", source=self.source.name, detail=shortened(line))
        was = self.record.state
        self.record.succeeded(clock.now(), took_s, len(ready) - refused, [*warnings, *drift][:WARNINGS_MAX])
        inlet.report(self.source.name, True, shortened("; ".join(warnings)) if warnings else "")
        self._publish("")
        if was != UP:
            _log.info("source_up", source=self.source.name, fragments=len(ready), took_s=round(took_s, 3))

    async def _unspoken(self, seen: Observation, ready: list[StateFragment]) -> list[EntityKey]:
        """What this source alone told of and, though it has told all there is of that type, does not now; in
        order. It looks at what the bus holds and makes no picture of it: the fleet is looked through."""
        if not seen.whole:
            return []
        name, scope, clock = self.source.name, self.source.scope, self._intake.clock
        told: set[EntityKey] = set()
        for part in slices(ready):
            told.update(self._intake.inlet.names.entity(fragment) for fragment in part)
            await clock.sleep(0)  # others first
        found: list[EntityKey] = []
        for count, cell in enumerate(self._intake.inlet.bus.cells(), 1):
            if count % SEARCH_SLICE == 0:
                await clock.sleep(0)
            if cell.scope != scope or cell.entity_type not in seen.whole:
                continue
            layers = cell.layers
            if layers and all(layer.source.name == name for layer in layers) and cell.key not in told:
                found.append(cell.key)
        return sorted(found)

    def _check_kinds(self, fragments: list[StateFragment]) -> None:
        """Refuse an observation with anything else among its fragments, before any of them lands."""
        for given in cast("list[Any]", fragments):  # a foreign driver may return anything
            if not isinstance(given, StateFragment):
                raise DriverFault(
                    f"driver {self.source.driver_name} returned {type(given).__name__} as a fragment"
                )

    def _checked(self, fragments: list[StateFragment], drift: list[str]) -> list[StateFragment]:
        """The fragments with clean fields and in this source's own name."""
        name = self.source.name
        checked: list[StateFragment] = []
        for fragment in fragments:
            clean, lines = salvaged(fragment, self._intake.inlet.surprised)
            if lines and len(drift) < WARNINGS_MAX:
                drift += lines
            checked.append(clean if clean.source == name else structs.replace(clean, source=name))
        return checked

    def _failed(self, error: SourceError) -> None:
        was = self.record.state
        self.record.failed(error.detail)
        self._publish(self.record.last_error)
        facts: dict[str, Any] = {"source": self.source.name, "driver": self.source.driver_name}
        if isinstance(error, DriverFault) and self.record.failures == 1:
            _log.error("driver_fault", **facts, detail=self.record.last_error, exc_info=error.__cause__)
        elif was != self.record.state or self.record.failures == 1:
            _log.warning("source_down", **facts, detail=self.record.last_error)

    def _publish(self, failure: str) -> None:
        """Tell the bus of the source: its status (where it failed) and its entity."""
        source, clock = self.source, self._intake.clock
        if failure:
            self._intake.inlet.report(source.name, False, shortened(failure))
        fact = self.record.fragment(source.name, source.driver_name, source.scope, OWN_SOURCE, clock.now())
        self._intake.inlet.take([fact])

    def _blocked(self, longest_step_s: float) -> bool:
        """Whether the driver held up the event loop; said once for each new worst."""
        if longest_step_s <= BLOCK_MAX_S:
            self._blocks = 0
            return False
        self._blocks += 1
        if longest_step_s > self.record.longest_block_s:
            self.record.longest_block_s = longest_step_s
            _log.error(
                "driver_blocks",
                source=self.source.name,
                driver=self.source.driver_name,
                blocked_s=round(longest_step_s, 3),
                hint="blocking work belongs in a thread of the driver's own",
            )
        return True


async def _closed(source: Source) -> None:
    try:
        await source.driver.close()
    except Exception as error:  # noqa: BLE001 - foreign code: whatever it raises must not stop the others
        _log.error("driver_close_failed", source=source.name, driver=source.driver_name, exc_info=error)
