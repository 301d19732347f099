"""Bringing a resource through its lifecycle table, an event at a time: what all kinds with a table share.

In this order, each turn: what time demands (a deadline that passed), the work of the present state (its
phase, on an engine), the next event on the way to the desired status. Each is one commit, judged again by the
Ledger, so a turn that is cut off anywhere is gone on with by the next one, here or elsewhere.

Decisions that a reader would otherwise have to guess (docs/decisions/0024):

- Where the intent changes while a phase runs, the phase ends first and the way is then planned anew from
  where the resource is. Only where the table leads an engine straight back to the state that it came from
  (`cancel_drain`), and that is on the way, the phase is cancelled and left.
- A state of class `active` without a phase is left by whoever works on it, never by the loop.
- Somebody else's hold stops everything, also a deadline's event; the deadline then shows as `overdue`.
- Somebody who claimed the resource, or moved it by an override, keeps it until there is a newer intent or a
  person asks for a reconcile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from msgspec.structs import replace

from steersman.act.engines.api import PhaseEngine, PhaseReport
from steersman.act.managers.phases import PhaseRunner
from steersman.act.managers.telling import foreign_holds, overdue, overdue_condition, way_words
from steersman.act.reconcile.api import After, Done, Outcome, Stuck, Turn
from steersman.act.reconcile.budget import is_claimed
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Ids
from steersman.kinds.axes import Operation, OperationPhase
from steersman.kinds.command import LOOP, TIMER, Actor, ChangeAction, HistoryEntry, Terms
from steersman.kinds.lifecycle import Lifecycle, LifecycleState, NoPath, StateClass, UnknownState
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.refusal import UnknownLifecycle
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.kinds.step import StepResult
from steersman.state.ledger import Ledger, Machines

INTENT_PAGE = 64
INTENT_PAGES_MAX = 64
"""History rows read at a time, and how often, to find the last intent: a long phase may have written many
since."""
ENGINE_ROLE = "engine"
"""The class of initiator whose edges the loop may take."""


class Walker:
    """A manager for a kind that runs on a lifecycle table. A kind subclasses it with its name.

    `engines` by name: `pipeline`, `workflow`.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        ledger: Ledger,
        machines: Machines,
        engines: Mapping[str, PhaseEngine],
        *,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._ledger = ledger
        self._machines = machines
        self._clock = clock
        self._ids = ids
        self._phases = PhaseRunner(ledger, engines, clock=clock)

    # ---- what the loop asks

    def settled(self, state: ResourceState, now: datetime) -> bool:
        """Converged, at rest, and in time."""
        if not state.is_converged() or state.retry is not None:
            return False
        place = self._place(state)
        if place is None:
            return False
        operation = state.operation
        if place.phase is not None and not self._phases.is_over(state, place.phase):
            return False
        if place.phase is None and operation is not None:
            return False
        ends = deadline(state, place)
        return (ends is not None and now >= ends and place.on_timeout is None) == overdue(state) and not (
            ends is not None and now >= ends and place.on_timeout is not None
        )

    def due(self, state: ResourceState, now: datetime) -> datetime | None:
        """The state's deadline, the operation's wait, and the ends of holds: the next of them."""
        place = self._place(state)
        times = [hold.expires_at for hold in state.holds]
        if place is not None:
            times.append(deadline(state, place))
        if state.operation is not None:
            times.append(state.operation.waiting_until)
        return min((when for when in times if when is not None and when > now), default=None)

    def relatives(self, state: ResourceState) -> Sequence[ResourceRef]:
        """Its parent and its children."""
        parent = state.parent()
        return [*([parent] if parent is not None else []), *state.children()]

    async def reconcile(self, turn: Turn) -> Outcome:
        """One step; see the module."""
        state = turn.state
        lifecycle = self._machines.machine(state.lifecycle_table).lifecycle
        try:
            place = lifecycle.state(state.status)
        except UnknownState as error:
            return Stuck(error.detail, "an operator: migrate it to a lifecycle that has its status")
        answer = await self._keep_time(turn, lifecycle, place)
        if answer is not None:
            return answer
        if turn.pause is not None:
            return turn.pause
        operation = state.operation
        if operation is not None and not self._phases.belongs(state, operation, place):
            return await self._abandon(turn, lifecycle, operation)
        busy = place.phase is not None and not self._phases.is_over(state, place.phase)
        if not busy and self._arrived(state):
            return await self._rest(turn)
        answer = await self._may_act(turn)
        if answer is not None:
            return answer
        if busy and place.phase is not None:
            return await self._run_phase(turn, lifecycle, place, place.phase)
        return await self._walk(turn, lifecycle)

    async def answer(
        self, ref: ResourceRef, operation_id: str, epoch: int, step: str, attempt: int, result: StepResult
    ) -> PhaseReport:
        """An answer from outside for a suspended step of the operation; the engine's report.

        Raises `ResourceNotFound`, `OperationOver` where that operation is not the present one."""
        state = await self._ledger.get(ref)
        lifecycle = self._machines.machine(state.lifecycle_table).lifecycle
        return await self._phases.answer(state, lifecycle, operation_id, epoch, step, attempt, result)

    async def tend(self) -> int:
        """Look after what was begun here for resources that are gone, that have gone on, or that are another
        replica's now; how much it was."""
        return await self._phases.tend(self._phase_of)

    def _phase_of(self, state: ResourceState, name: str) -> LifecyclePhase | None:
        try:
            lifecycle = self._machines.machine(state.lifecycle_table).lifecycle
        except UnknownLifecycle:
            return None
        phase = self._phases.find(state, lifecycle, name)
        return phase if isinstance(phase, LifecyclePhase) else None

    # ---- time

    async def _keep_time(self, turn: Turn, lifecycle: Lifecycle, place: LifecycleState) -> Outcome | None:
        """Do what a deadline that passed demands; None where time demands nothing."""
        state = turn.state
        ends = deadline(state, place)
        passed = ends is not None and turn.now >= ends
        move = lifecycle.timeout(place.name) if passed else None
        held = foreign_holds(state, turn.now)
        late = passed and (move is None or bool(held))
        if late != overdue(state):
            condition = overdue_condition(late, place, turn.now, state)
            await self._ledger.report_conditions(ref_of(state), TIMER, [condition], held=turn.held)
        if move is None or held:
            return None
        if state.operation is not None:
            await self._phases.cancel(turn, lifecycle, state.operation, f"the time in {place.name} is over")
            fresh = await self._ledger.find(ref_of(state))  # cancelling may have written progress
            state = fresh if fresh is not None and fresh.status == state.status else state
        terms = Terms(
            reason=f"in {place.name} for longer than {timedelta(seconds=move.deadline_s)}",
            expected_version=state.version,
            operation=state.operation.id if state.operation is not None else "",
        )
        return await self._move(turn, state, lifecycle, move.event, move.to, TIMER, terms)

    # ---- who may act

    async def _may_act(self, turn: Turn) -> Stuck | None:
        state = turn.state
        holds = foreign_holds(state, turn.now)
        if holds:
            hold = holds[0]
            return Stuck(
                f"held by {hold.owner}: {hold.name}" + (f" ({hold.reason})" if hold.reason else ""),
                f"{hold.owner}: lift the hold {hold.name}",
            )
        if is_claimed(state) and not await self._newer_intent(state):
            holder = state.fence_holder
            return Stuck(
                f"claimed by {holder}", f"{holder}: set a new desired status, or ask for a reconcile"
            )
        return None

    async def _newer_intent(self, state: ResourceState) -> bool:
        """Whether the intent is newer than the claim or override that has the fence."""
        async for entry in self._back(state):
            if entry.action is ChangeAction.INTENT_SET:
                return True
            if entry.actor == state.fence_holder and entry.fence == state.epoch:
                return False
        return False

    async def _back(self, state: ResourceState) -> AsyncIterator[HistoryEntry]:
        """Its history, newest first, as far as is looked."""
        before = 0
        for _ in range(INTENT_PAGES_MAX):
            page = await self._ledger.history(ref_of(state), before, limit=INTENT_PAGE, newest_first=True)
            for entry in page.entries:
                yield entry
            if len(page.entries) < INTENT_PAGE:
                return
            before = page.entries[-1].seq

    # ---- the present state's work

    async def _run_phase(self, turn: Turn, lifecycle: Lifecycle, place: LifecycleState, name: str) -> Outcome:
        state = turn.state
        phase = self._phases.find(state, lifecycle, name)
        if isinstance(phase, Stuck):
            return phase
        operation = state.operation
        if operation is None:
            terms = Terms(acting=True, reason=f"{place.name} runs {name}", expected_version=state.version)
            begun = await self._ledger.set_operation(
                ref_of(state), LOOP, self._operation(phase, place), begin=True, terms=terms, held=turn.held
            )
            state = begun.state
            operation = state.operation
            if operation is None:
                return After(0.0, "the operation that was begun is over already")
        back = self._way_back(state, lifecycle, place)
        if back is not None:
            await self._phases.cancel(turn, lifecycle, operation, f"the intent is {state.desired_status} now")
            terms = await self._terms(state, acting=True, reason=self._why(state), fence=operation.epoch)
            return await self._move(turn, state, lifecycle, back, "", LOOP, terms)
        ended = await self._phases.advance(turn, state, phase, operation)
        if not isinstance(ended, str):
            return ended
        return await self._phase_over(turn, state, lifecycle, place, operation, ended)

    async def _phase_over(
        self,
        turn: Turn,
        state: ResourceState,
        lifecycle: Lifecycle,
        place: LifecycleState,
        operation: Operation,
        ended: str,
    ) -> Outcome:
        """The phase has ended: `ended` is completed, or failed with what it said behind it."""
        actor = Actor(f"engine:{self._phases.engine_of(state, lifecycle, operation)}", (ENGINE_ROLE,))
        good = ended == "completed"
        event = place.on_success if good else place.on_failure
        if event is None and not good:
            return self._phases.failure(operation, ended)
        reason = f"{operation.kind} completed" if good else ended
        terms = await self._terms(state, reason=reason, operation=operation.id, fence=operation.epoch)
        if event is not None:
            return await self._move(turn, state, lifecycle, event, "", actor, terms)
        if not self._arrived(state):
            fresh = replace(turn, state=await self._ledger.get(ref_of(state)))  # the phase wrote progress
            return await self._may_act(fresh) or await self._walk(fresh, lifecycle)
        await self._phases.rest(turn, state, operation)
        return Done()

    def _way_back(self, state: ResourceState, lifecycle: Lifecycle, place: LifecycleState) -> str | None:
        """The event that leads an engine straight back where the resource came from, if that is the way."""
        came = next((past.from_state for past in reversed(state.state_history)), None)
        way = self._way(state, lifecycle)
        if not came or not way or way[0] in (place.on_success, place.on_failure):
            return None
        edges = lifecycle.find(place.name, way[0])
        return way[0] if edges and all(edge.to == came for edge in edges) else None

    async def _abandon(self, turn: Turn, lifecycle: Lifecycle, operation: Operation) -> Outcome:
        """An operation that the state has left behind (an override, a claim, an operator's event)."""
        if operation.lifecycle_phase is None:
            return Stuck(f"operation {operation.kind} ({operation.id}) is under way", "whoever began it")
        state = turn.state
        await self._phases.cancel(turn, lifecycle, operation, f"{state.status} has taken its place")
        # Fenced: whoever took the resource over meanwhile may have begun another one, and that stays.
        terms = Terms(reason=f"{operation.kind} was left behind", operation=operation.id, fence=state.epoch)
        await self._ledger.set_operation(ref_of(state), LOOP, None, terms=terms, held=turn.held)
        return After(0.0, f"{operation.kind} was left behind")

    # ---- the way to the intent

    async def _walk(self, turn: Turn, lifecycle: Lifecycle) -> Outcome:
        state = turn.state
        if self._arrived(state):
            return await self._rest(turn)
        try:
            way = self._way(state, lifecycle)
        except NoPath as error:
            return Stuck(error.detail, "a person: choose a state that can be reached")
        except UnknownState as error:
            return Stuck(error.detail, "a person: set a desired status that the lifecycle has")
        if way is None:
            return Stuck(*way_words(lifecycle, state.status, str(state.desired_status), ENGINE_ROLE))
        place = lifecycle.state(state.status)
        if place.state_class is StateClass.ACTIVE and place.phase is None:
            # Something is being done that no engine of ours does: that it is over, and how it went, is not
            # for the loop to say. Else a node would pass its burn-in by wanting to.
            return Stuck(
                f"{place.name} is under way outside, and only whoever does it can say how it ends",
                f"whoever does it: send one of {', '.join(lifecycle.allowed(place.name))}",
            )
        # On this version alone: a hold or another intent that came meanwhile was granted, and is honoured.
        terms = await self._terms(state, acting=True, reason=self._why(state), expected_version=state.version)
        return await self._move(turn, state, lifecycle, way[0], "", LOOP, terms)

    def _way(self, state: ResourceState, lifecycle: Lifecycle) -> list[str] | None:
        """Events to the desired status that an engine may send; None where only others may. Raises `NoPath`
        where nobody can, `UnknownState`."""
        if state.desired_status is None:
            return []
        try:
            return lifecycle.path(state.status, state.desired_status, ENGINE_ROLE)
        except NoPath:
            lifecycle.path(state.status, state.desired_status)
            return None

    async def _move(
        self,
        turn: Turn,
        state: ResourceState,
        lifecycle: Lifecycle,
        event: str,
        to: str,
        actor: Actor,
        terms: Terms,
    ) -> Outcome:
        """Send the event; where it leads into a phase, its operation begins in the same commit."""
        ref = ref_of(state)
        targets = {edge.to for edge in lifecycle.find(state.status, event)} or {to}
        if len(targets) > 1:
            targets = {(await self._ledger.judge(ref, actor, event=event, terms=terms)).to}
        place = lifecycle.state(next(iter(targets)))
        phase = None if place.phase is None else self._phases.find(state, lifecycle, place.phase)
        begun = self._operation(phase, place) if isinstance(phase, LifecyclePhase) else None
        await self._ledger.transition(
            ref,
            actor,
            event=event,
            operation=begun,
            begin=begun is not None,
            terms=terms,
            held=turn.held,
        )
        return After(0.0, f"{event}: {state.status} to {place.name}")

    async def _rest(self, turn: Turn) -> Outcome:
        state = turn.state
        if state.observed_generation < state.generation:
            await self._ledger.acknowledge(ref_of(state), LOOP, held=turn.held)
        return Done()

    # ---- small things

    def _arrived(self, state: ResourceState) -> bool:
        return state.desired_status is None or state.desired_status == state.status

    def _operation(self, phase: LifecyclePhase, place: LifecycleState) -> Operation:
        now = self._clock.now()
        limit = None if place.deadline_s is None else now + timedelta(seconds=place.deadline_s)
        return Operation(
            id=self._ids.new("op"),
            kind=phase.name,
            phase=OperationPhase.RUNNING,
            lifecycle_phase=phase.name,
            started_at=now,
            deadline=limit,
        )

    def _place(self, state: ResourceState) -> LifecycleState | None:
        """Its state in the table; None where table or state are not known."""
        try:
            return self._machines.machine(state.lifecycle_table).lifecycle.state(state.status)
        except (UnknownLifecycle, UnknownState):
            return None

    def _why(self, state: ResourceState) -> str:
        return state.desired_reason or f"{state.desired_by or 'somebody'} wants {state.desired_status}"

    async def _terms(self, state: ResourceState, **more: Any) -> Terms:
        """The terms of a move towards the intent: in the name of whoever set it, caused by the history entry
        that did (`Kind/id/seq`), on the facts and evidence that they had."""
        async for entry in self._back(state):
            if entry.action in (ChangeAction.INTENT_SET, ChangeAction.CREATED):
                return Terms(
                    on_behalf_of=state.desired_by,
                    cause=f"{entry.ref}/{entry.seq}",
                    facts=entry.facts,
                    evidence=entry.evidence,
                    **more,
                )
        return Terms(on_behalf_of=state.desired_by, **more)


def ref_of(state: ResourceState) -> ResourceRef:
    """The resource that the state is of."""
    return ResourceRef(state.resource_type, state.id)


def deadline(state: ResourceState, place: LifecycleState) -> datetime | None:
    """Until when it may be in its state; None where there is no limit."""
    return None if place.deadline_s is None else state.status_since + timedelta(seconds=place.deadline_s)
