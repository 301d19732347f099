"""How often bringing a resource to its intent may fail; kept with the resource, so no restart forgets it.

The count belongs to one intent (`generation`). Used up, the resource's operation is `failed` and stays so, in
everybody's sight, until the intent changes or a person asks for a new try. The two facts are two commits, the
count first: a crash between them leaves a budget that is used up, and the next look writes the rest.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct, field
from msgspec.structs import replace

from steersman.act.reconcile.api import After, Failed, Stuck
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Ids, Rng
from steersman.kernel.retry import Backoff
from steersman.kinds.axes import Operation, OperationPhase
from steersman.kinds.command import LOOP, Actor, Terms
from steersman.kinds.state import ResourceRef, ResourceState, Retry
from steersman.state.ledger import Ledger
from steersman.store.api import Held

FAILURES_MAX = 8
"""Failures in a row until a person has to look: with the waits below about four minutes."""
ERROR_MAX_CHARS = 1000
"""Of an error's text that is kept with the resource."""
NEEDS_PERSON = (
    "a person: find the cause, then set a new desired status or ask for a reconcile (it resets the budget)"
)


class RetryPolicy(Struct, frozen=True):
    """How many failures in a row, and the waits between them."""

    failures_max: int = FAILURES_MAX
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, factor=2.0, max_s=300.0))


class RetryBudget:
    """Counts failures through the Ledger."""

    def __init__(
        self, ledger: Ledger, *, clock: Clock, rng: Rng, ids: Ids, policy: RetryPolicy | None = None
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._ids = ids
        self.policy = policy if policy is not None else RetryPolicy()

    def pause(self, state: ResourceState, now: datetime) -> After | Stuck | None:
        """What the budget says to another try now; None where it may be made."""
        retry = state.retry
        if retry is None or retry.generation < state.generation:
            return None
        if retry.exhausted:
            return Stuck(f"gave up after {_times(retry.failures)}: {retry.error}", NEEDS_PERSON)
        wait_s = (retry.next_at - now).total_seconds()
        if wait_s <= 0 or wait_s > self.policy.backoff.ceiling_s(retry.failures):
            return None  # its time has come, or the wall clock was set back by more than any such wait
        return After(wait_s, f"failed {_times(retry.failures)} of {retry.budget}, last: {retry.error}")

    async def settle(self, state: ResourceState, held: Held | None) -> ResourceState:
        """Finish what a crash left half done, and forget what an earlier intent used up. Writes only where
        there is something to write; the state as it is then."""
        retry = state.retry
        if retry is None:
            return state
        ref = ResourceRef(state.resource_type, state.id)
        if retry.generation < state.generation:
            terms = Terms(reason="a new intent: its tries start anew")
            if _failed(state.operation):
                await self._ledger.set_operation(ref, LOOP, None, terms=terms, held=held)
            return (await self._ledger.record_retry(ref, LOOP, None, terms=terms, held=held)).state
        if retry.exhausted and not _failed(state.operation):
            return await self._give_up(ref, state.operation, retry, held)
        return state

    async def count(self, state: ResourceState, failed: Failed, held: Held | None) -> ResourceState:
        """Count a failure; with the budget used up the operation fails too."""
        ref = ResourceRef(state.resource_type, state.id)
        before = state.retry if state.retry and state.retry.generation >= state.generation else None
        budget = self.policy.failures_max
        failures = budget if failed.permanent else min(budget, (before.failures if before else 0) + 1)
        wait_s = self.policy.backoff.delay_s(failures, self._rng)
        error = failed.reason[:ERROR_MAX_CHARS]
        retry = Retry(
            failures=failures,
            budget=budget,
            generation=state.generation,
            next_at=self._clock.now() + timedelta(seconds=wait_s),
            error=error,
        )
        terms = Terms(reason=error)
        written = (await self._ledger.record_retry(ref, LOOP, retry, terms=terms, held=held)).state
        if retry.exhausted:
            return await self._give_up(ref, written.operation, retry, held)
        return written

    async def forgive(self, ref: ResourceRef, held: Held | None) -> None:
        """It is where it is meant to be: earlier failures no longer count."""
        state = await self._ledger.find(ref)
        if state is not None and state.retry is not None:
            await self._ledger.record_retry(ref, LOOP, None, terms=Terms(reason="arrived"), held=held)

    async def reset(self, ref: ResourceRef, actor: Actor, reason: str) -> ResourceState:
        """A person wants another try: the count and a failed operation are taken away, on record; where
        somebody had claimed the resource it is given back to the loop. Raises `ResourceNotFound`."""
        state = await self._ledger.get(ref)
        terms = Terms(reason=reason or f"{actor.name} asks for another try")
        if _failed(state.operation):
            state = (await self._ledger.set_operation(ref, actor, None, terms=terms)).state
        if state.retry is not None:
            state = (await self._ledger.record_retry(ref, actor, None, terms=terms)).state
        if state.fence_holder == actor.name or is_claimed(state):
            given = Terms(reason=f"given back by {actor.name}" + (f": {reason}" if reason else ""))
            state = (await self._ledger.claim(ref, LOOP, terms=given)).state
        return state

    async def _give_up(
        self, ref: ResourceRef, operation: Operation | None, retry: Retry, held: Held | None
    ) -> ResourceState:
        detail = f"gave up after {_times(retry.failures)}: {retry.error}"
        if operation is None:
            operation = Operation(
                id=self._ids.new("op"), kind="reconcile", started_at=self._clock.now(), detail=detail
            )
        failed = replace(
            operation, phase=OperationPhase.FAILED, detail=detail, waiting_for=None, waiting_until=None
        )
        terms = Terms(reason=detail, operation=operation.id)
        return (await self._ledger.set_operation(ref, LOOP, failed, terms=terms, held=held)).state


PLANE_ACTORS = ("", LOOP.name, "timer")
"""Holders of the fence that are the plane itself, beside engines."""


def is_claimed(state: ResourceState) -> bool:
    """Whether somebody other than the plane holds the fence."""
    return state.fence_holder not in PLANE_ACTORS and not state.fence_holder.startswith("engine:")


def _failed(operation: Operation | None) -> bool:
    return operation is not None and operation.phase is OperationPhase.FAILED


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
