"""The one loop: bring every resource to where it is meant to be, a look at a time.

A key is looked at because its resource changed (store watch), because a time has come (the timer), because a
person or an event says so (`nudge`, `reconcile`), because a relative changed, or because the loop starts: the
first sweep sees all resources, and what is settled costs neither a turn nor a write. The loop keeps nothing
that is not read again: stopped anywhere and started anywhere else, it comes to the same end.

It writes only what it counts (the retry budget); everything else is the managers', through the Ledger, each
write with the shard's lease as a condition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from msgspec import Struct, field

from steersman.act.reconcile.api import After, Done, Failed, Manager, Outcome, Stuck, Turn
from steersman.act.reconcile.budget import RetryBudget, RetryPolicy
from steersman.act.reconcile.looks import LOOKS_MAX, Looks, Seen
from steersman.act.reconcile.outcomes import AGAIN_S, is_frozen, is_old_picture, outcome_of
from steersman.act.reconcile.queue import QUEUE_KEYS_MAX, WorkQueue
from steersman.act.reconcile.shards import Shards, shard_of
from steersman.act.reconcile.tending import Tender, Tending
from steersman.act.reconcile.wheel import DELAYED_KEYS_MAX, TimerWheel
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Ids, Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.redact import error_text
from steersman.kernel.retry import Backoff
from steersman.kernel.tasks import ALWAYS, Supervisor, TaskSnapshot
from steersman.kinds.command import Actor
from steersman.kinds.plane_resources import FREEZE_ID, FROZEN
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.kinds.story import Look
from steersman.state.ledger import Ledger
from steersman.state.ledger.keys import ref_of, resources_prefix
from steersman.state.ledger.reading import read_state
from steersman.state.ledger.rows import RecordDamaged
from steersman.store.api import (
    Compacted,
    Event,
    FutureRevision,
    Held,
    LeaseExpired,
    Store,
    StoreClosed,
    StoreUnavailable,
)

CONCURRENCY_MAX = 64
"""Resources looked at at once."""
STUCK_RECHECK_S = 60.0
"""How often a stuck resource is looked at although nothing changed."""
SWEEP_PAGE = 1000
"""Resources read at a time by a sweep; between two pages others get their turn."""
WATCH_RETRY_S = 1.0

_RACE = Backoff(first_s=AGAIN_S, factor=2.0, max_s=5.0)
_FREEZE = ResourceRef("Freeze", FREEZE_ID)
_log = get_logger("act.reconcile")


class LoopLimits(Struct, frozen=True):
    """The loop's bounds and waits; the constants of its modules where nothing is said."""

    concurrency_max: int = CONCURRENCY_MAX
    queue_keys_max: int = QUEUE_KEYS_MAX
    delayed_keys_max: int = DELAYED_KEYS_MAX
    looks_max: int = LOOKS_MAX
    stuck_recheck_s: float = STUCK_RECHECK_S
    retry: RetryPolicy = field(default_factory=RetryPolicy)


class LoopSnapshot(Struct, frozen=True, kw_only=True):
    """The loop in numbers. `outcomes` counts looks since the start, `failing` and `stuck` resources now;
    `overflowed` keys did not fit into the queue (a sweep followed); `late_timers` were over a second late."""

    queued: int
    in_flight: int
    delayed: int
    oldest_wait_s: float
    longest_turn_s: float
    outcomes: dict[str, int]
    failing: int
    stuck: int
    late_timers: int
    overflowed: int
    sweeps: int
    shards_held: int


class ReconcileLoop:
    """The loop of one replica. Give `run` to a supervisor with restart.

    A manager that is a `Tender` too is asked to look after what it began here, beside the turns."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        managers: Iterable[Manager],
        *,
        clock: Clock,
        rng: Rng,
        ids: Ids,
        name: str = "steersman",
        limits: LoopLimits | None = None,
    ) -> None:
        self._limits = limits if limits is not None else LoopLimits()
        self._store = store
        self._ledger = ledger
        self._managers = {manager.kind: manager for manager in managers}
        tenders = (manager for manager in self._managers.values() if isinstance(manager, Tender))
        self._tending = Tending(tenders, clock)
        self._clock = clock
        self._rng = rng
        self.name = name
        self._budget = RetryBudget(ledger, clock=clock, rng=rng, ids=ids, policy=self._limits.retry)
        self._queue = WorkQueue(clock, keys_max=self._limits.queue_keys_max)
        self._wheel = TimerWheel(clock, keys_max=self._limits.delayed_keys_max)
        self._looks = Looks(self._limits.looks_max)
        self._turns: dict[ResourceRef, asyncio.Task[None]] = {}
        self._races: dict[ResourceRef, int] = {}
        self._revision: int | None = None
        self._sweep_wanted = asyncio.Event()
        self._sweeps = 0
        self._longest_turn_s = 0.0
        self._tasks: Supervisor | None = None
        self.appeared: Callable[[ResourceRef], None] = lambda _: None
        """Told of each resource that was made, by whomever; not again after a gap of the watch."""
        self._shards = self._new_shards()

    # ---- what others call

    def nudge(self, ref: ResourceRef, *, forced: bool = False) -> None:
        """Something may have changed for this resource: look at it soon; `forced` before the others."""
        if ref.kind in self._managers and self._shards.takes(ref) and not self._queue.add(ref, forced=forced):
            self._sweep_wanted.set()

    def hint(self, ref: ResourceRef) -> None:
        """Something was observed that may help the resource along, if it waits for anything: cheap enough for
        every change that the bus tells of."""
        seen = self._looks.get(ref)
        if seen is not None and isinstance(seen.outcome, After | Stuck):
            self.nudge(ref)

    async def reconcile(self, ref: ResourceRef, actor: Actor, reason: str = "") -> ResourceState:
        """A person wants it looked at now: a used up budget and a failed operation are taken away, on record,
        a claim is given back, and the resource goes before the others. Raises `ResourceNotFound`."""
        state = await self._budget.reset(ref, actor, reason)
        self._races.pop(ref, None)
        self.nudge(ref, forced=True)
        return state

    def explain(self, ref: ResourceRef) -> Look:
        """What came of the last look, what is next, and whose the resource is."""
        seen = self._looks.get(ref)
        queued, working = self._queue.waits(ref), self._queue.works(ref)
        shard, owned = shard_of(ref), self.owns(ref)
        if seen is None:
            return Look(queued=queued, working=working, shard=shard, owned=owned)
        outcome = seen.outcome
        return Look(
            outcome=seen.word,
            reason="" if isinstance(outcome, Done) else outcome.reason,
            needs=outcome.needs if isinstance(outcome, Stuck) else "",
            at=seen.at,
            next_at=seen.next_at,
            failures=seen.failures,
            budget=seen.budget,
            frozen=seen.frozen,
            queued=queued,
            working=working,
            shard=shard,
            owned=owned,
        )

    def held(self, ref: ResourceRef) -> Held | None:
        """The condition for this replica's writes of the resource; None where it is another replica's."""
        return self._shards.held(ref)

    def owns(self, ref: ResourceRef) -> bool:
        """Whether the resource is this replica's."""
        return self._shards.held(ref) is not None

    def snapshot(self) -> LoopSnapshot:
        """The loop in numbers."""
        return LoopSnapshot(
            queued=len(self._queue),
            in_flight=len(self._turns),
            delayed=len(self._wheel),
            oldest_wait_s=self._queue.oldest_wait_s(),
            longest_turn_s=self._longest_turn_s,
            outcomes=dict(self._looks.counts),
            failing=self._looks.counted("failed"),
            stuck=self._looks.counted("stuck"),
            late_timers=self._wheel.late,
            overflowed=self._queue.overflowed,
            sweeps=self._sweeps,
            shards_held=len(self._shards.mine),
        )

    def tasks(self) -> list[TaskSnapshot]:
        """How its own tasks fare; none while it does not run."""
        return [] if self._tasks is None else self._tasks.snapshot()

    async def run(self) -> None:
        """Work until cancelled; then give the shards up."""
        self._shards = self._new_shards()
        self._revision = None
        try:
            async with Supervisor(self._clock, self._rng, name=f"reconcile-{self.name}") as tasks:
                self._tasks = tasks
                tasks.start("watch", self._watch, ALWAYS)
                tasks.start("sweep", self._sweep, ALWAYS)
                tasks.start("timers", lambda: self._ring(tasks), ALWAYS)
                tasks.start("shards", self._shards.run, ALWAYS)
                tasks.start("dispatch", lambda: self._dispatch(tasks), ALWAYS)
                tasks.start("tend", lambda: self._tending.run(tasks), ALWAYS)
                await tasks.wait()
        finally:
            self._tasks = None
            await self._leave()

    # ---- what wakes it

    async def _watch(self) -> None:
        """Follow the store's changes; where they are no longer told, see everything again."""
        while True:
            if self._revision is None:
                self._revision = await self._store.revision()
                if self._shards.mine:  # else the first shards bring a sweep, and that lists after this
                    self._sweep_wanted.set()
            try:
                async with self._store.watch(resources_prefix(), self._revision) as events:
                    async for event in events:
                        self._hear(event)
                        self._revision = event.revision - 1  # the rest of its commit may still come
                return  # the store is closed
            except (Compacted, FutureRevision):
                self._revision = None
            except StoreClosed:
                return
            except StoreUnavailable as error:
                _log.warning("watch_interrupted", error=error.detail, retry_in_s=WATCH_RETRY_S)
                await self._clock.sleep(WATCH_RETRY_S)

    def _hear(self, event: Event) -> None:
        ref = ref_of(event.key)
        if event.record is None:
            self._wheel.clear(ref)
            self._looks.forget(ref)
            if ref.kind in self._managers:
                self._tending.want()  # whosever shard it was: what was begun here, is ended here
            return
        try:
            state = read_state(event.record)
        except RecordDamaged as error:
            _log.error("resource_unreadable", ref=str(ref), error=error.detail)
            return
        if event.record.version == 1:
            self.appeared(ref)
        if ref == _FREEZE and state.status != FROZEN:
            for waiting in self._looks.stuck():
                self.nudge(waiting)
        manager = self._managers.get(ref.kind)
        if manager is None:
            return
        try:
            relatives = manager.relatives(state)
        except Exception as error:  # noqa: BLE001 - a manager's error must not end the watch
            _log.error("relatives_unknown", ref=str(ref), error=error_text(error))
            relatives = ()
        for relative in relatives:
            self.nudge(relative)
        self._see(ref, state, manager)

    def _see(self, ref: ResourceRef, state: ResourceState, manager: Manager, *, newest: bool = True) -> None:
        """A resource as it is: queue it, or note when it must be looked at. What is not `newest` (a sweep's
        page is of one moment, and read for a while) takes no time away that a later look has set."""
        if not self._shards.takes(ref):
            return
        now = self._clock.now()
        try:
            settled = manager.settled(state, now)
            due = manager.due(state, now) if settled else None
        except Exception:  # noqa: BLE001 - a turn meets it again, and there it counts
            settled, due = False, None
        if not settled:
            self.nudge(ref)
            return
        if not newest and self._wheel.has(ref):
            return
        if due is None:
            self._wheel.clear(ref)
            self._looks.forget(ref)
        elif not self._wheel.set_due(ref, due):
            self.nudge(ref)

    async def _sweep(self) -> None:
        """See all resources each time that somebody wants it: at the start, with new shards, after a gap."""
        while True:
            await self._sweep_wanted.wait()
            while len(self._queue) > self._limits.queue_keys_max // 2:
                await self._clock.sleep(WATCH_RETRY_S)  # it would not fit: first what is there
            self._sweep_wanted.clear()
            try:
                for kind in self._managers:
                    await self._sweep_kind(kind)
            except StoreClosed:
                return
            except (Compacted, StoreUnavailable) as error:
                _log.warning("sweep_interrupted", error=error.detail, retry_in_s=WATCH_RETRY_S)
                self._sweep_wanted.set()
                await self._clock.sleep(WATCH_RETRY_S)
                continue
            except Exception:
                self._sweep_wanted.set()  # whoever starts this anew must find that it was not finished
                raise
            self._sweeps += 1

    async def _sweep_kind(self, kind: str) -> None:
        manager = self._managers[kind]
        after: str | None = None
        while True:
            page = await self._ledger.list(kind, limit=SWEEP_PAGE, after=after)
            if page.problems:
                _log.error("resources_unreadable", kind=kind, problems=len(page.problems))
            for state in page.items:
                while len(self._queue) >= self._limits.queue_keys_max:
                    await self._clock.sleep(WATCH_RETRY_S)  # dropped keys would need one more sweep
                self._see(ResourceRef(kind, state.id), state, manager, newest=False)
            after = page.after
            if after is None:
                return

    async def _ring(self, tasks: Supervisor) -> None:
        while True:
            self.nudge(await self._wheel.next(tasks))

    # ---- a turn

    async def _dispatch(self, tasks: Supervisor) -> None:
        """Start a turn for each key, so many at once."""
        free = asyncio.Semaphore(self._limits.concurrency_max)
        while True:
            await free.acquire()
            try:
                ref = await self._queue.next()
            except asyncio.CancelledError:
                free.release()
                raise

            def over(task: asyncio.Task[None], ref: ResourceRef = ref) -> None:
                # In a callback, because a task that is cancelled before it begins runs no `finally`.
                self._turns.pop(ref, None)
                self._queue.done(ref)
                free.release()
                if not task.cancelled() and (error := task.exception()) is not None:
                    _log.error("turn_failed", ref=str(ref), error=error_text(error))

            try:
                task = tasks.spawn(f"turn {ref}", self._turn(ref))
            except BaseException:
                self._queue.done(ref)  # else it would count as worked on for ever
                free.release()
                raise
            self._turns[ref] = task
            task.add_done_callback(over)

    async def _turn(self, ref: ResourceRef) -> None:
        manager = self._managers[ref.kind]
        held = self._shards.held(ref)
        if held is None:
            return  # its new owner sees it by itself
        began_s = self._clock.monotonic()
        now = self._clock.now()
        state: ResourceState | None = None
        frozen = False
        try:
            state = await self._ledger.find(ref)
            if state is None:
                self._wheel.clear(ref)
                self._looks.forget(ref)
                return
            state = await self._budget.settle(state, held)
            turn = Turn(state, held, now, self._budget.pause(state, now))
            outcome = await manager.reconcile(turn)
        except Exception as error:  # noqa: BLE001 - a manager's error is an outcome and never kills the loop
            outcome, frozen = self._excuse(ref, error), is_frozen(error)
        else:
            self._races.pop(ref, None)
        if state is not None:
            state, outcome = await self._account(ref, state, outcome, held)
        self._plan(ref, manager, state, outcome, now, frozen=frozen)
        self._longest_turn_s = max(self._longest_turn_s, self._clock.monotonic() - began_s)

    def _excuse(self, ref: ResourceRef, error: Exception) -> Outcome:
        if isinstance(error, LeaseExpired):
            self._shards.doubt()
        if is_old_picture(error):
            races = self._races[ref] = min(self._races.get(ref, 0) + 1, 16)
            return After(_RACE.delay_s(races, self._rng), "it changed while it was looked at")
        outcome = outcome_of(error)
        if isinstance(outcome, Failed):
            _log.warning("turn_failed", ref=str(ref), error=outcome.reason)
        return outcome

    async def _account(
        self, ref: ResourceRef, state: ResourceState, outcome: Outcome, held: Held
    ) -> tuple[ResourceState, Outcome]:
        """Write down a failure, or that there are none any more; what it comes to then."""
        try:
            if isinstance(outcome, Failed):
                # As it is now: what the turn wrote before it failed must not be judged by the old picture.
                fresh = await self._ledger.find(ref)
                state = await self._budget.count(fresh if fresh is not None else state, outcome, held)
            elif isinstance(outcome, Done) and state.retry is not None:
                await self._budget.forgive(ref, held)
        except Exception as error:  # noqa: BLE001 - what could not be counted is looked at again
            return state, self._excuse(ref, error)
        return state, outcome

    def _plan(
        self,
        ref: ResourceRef,
        manager: Manager,
        state: ResourceState | None,
        outcome: Outcome,
        now: datetime,
        *,
        frozen: bool,
    ) -> None:
        """When to look again: by the outcome, and by the resource's own next time."""
        wait_s: float | None = None
        if isinstance(outcome, After):
            wait_s = outcome.seconds
        elif isinstance(outcome, Stuck):
            wait_s = self._limits.stuck_recheck_s
        elif isinstance(outcome, Failed):
            pause = self._budget.pause(state, self._clock.now()) if state is not None else None
            wait_s = pause.seconds if isinstance(pause, After) else self._limits.stuck_recheck_s
            outcome = pause if isinstance(pause, Stuck) else outcome
        if wait_s is None:
            self._wheel.clear_after(ref)
        elif not self._wheel.set_after(ref, wait_s):
            self._queue.add(ref)
        # After the turn's own beginning: a time that came while it ran was not seen by it.
        try:
            due = manager.due(state, now) if state is not None else None
        except Exception as error:  # noqa: BLE001 - it is looked at by its outcome all the same
            _log.error("due_unknown", ref=str(ref), error=error_text(error))
            due = None
        if due is None:
            self._wheel.clear_due(ref)
        elif not self._wheel.set_due(ref, due):
            self._queue.add(ref)
        next_at = None if wait_s is None else self._clock.now() + timedelta(seconds=wait_s)
        next_at = min((when for when in (next_at, due) if when is not None), default=None)
        retry = state.retry if state is not None else None
        failures, budget = (retry.failures, retry.budget) if retry is not None else (0, 0)
        self._looks.note(ref, Seen(outcome, now, next_at, frozen, failures, budget))

    # ---- shards

    def _new_shards(self) -> Shards:
        return Shards(
            self._store,
            self.name,
            clock=self._clock,
            busy=lambda shard: any(shard_of(ref) == shard for ref in self._turns),
            lost=self._lose,
            gained=lambda _: self._sweep_wanted.set(),
        )

    def _lose(self, shards: set[int]) -> None:
        """Shards are another's now: their turns end at once, and nothing of them is kept."""

        def theirs(ref: ResourceRef) -> bool:
            return shard_of(ref) in shards

        self._queue.drop(theirs)
        for ref, task in list(self._turns.items()):
            if theirs(ref):
                task.cancel()
        for ref in filter(theirs, self._wheel.waiting()):
            self._wheel.clear(ref)

    async def _leave(self) -> None:
        self._turns.clear()
        for ref in self._queue.working():
            self._queue.done(ref)
        self._queue.drop(lambda _: True)
        for ref in self._wheel.waiting():
            self._wheel.clear(ref)
        try:
            await self._shards.release()
        except StoreUnavailable as error:
            _log.warning("shards_not_released", error=error.detail)
