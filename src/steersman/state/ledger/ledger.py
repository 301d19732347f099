"""The Ledger: the one writer of resources.

Every change, whoever asks for it, is one request here and one commit in the store: the resource, exactly one
history row and exactly one event, with the places in budgets and the kept answer where there are such. Checks
come in one order: idempotency key, fence, expected version, freeze, edge and guards, budgets. What is refused
changes nothing. docs/reference/ledger.md has the keys, the rows and the refusals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from steersman.kernel.clock import Clock
from steersman.kernel.errors import SteersmanError
from steersman.kinds.axes import Condition, Operation
from steersman.kinds.command import NO_TERMS, Actor, ChangeAction, HistoryEntry, Terms, Written
from steersman.kinds.state import ResourceRef, ResourceState, Retry
from steersman.state.ledger import changes, rows
from steersman.state.ledger.commit import Change, Commits, Request, Work
from steersman.state.ledger.machines import Machine, Machines, Move
from steersman.state.ledger.reading import EVERYTHING, HistoryPage, Reading, ResourcePage, Selection
from steersman.store.api import Held, Store

Facts = Callable[[ResourceState], Mapping[str, Any]]
"""What is known of a resource beside itself, for guards: `entity`, `health`, `totals`."""


class Ledger:
    """All requests are coroutines and answer with `Written`. `terms` says under which circumstances and why,
    `held` is the lease (of a shard) without which the asker may not write.

    Raises the refusals of `kinds.refusal`, `LeaseExpired` where `held` is lost, `Contended` where others
    wrote first too often, `StoreUnavailable`.
    """

    def __init__(self, store: Store, clock: Clock, machines: Machines, *, facts: Facts | None = None) -> None:
        self._clock = clock
        self._machines = machines
        self._facts = facts
        self._commits = Commits(store, clock)
        self._reading = Reading(store)
        self.outcomes: Counter[str] = Counter()
        """What requests came to: written, unchanged, replayed, dry_run, or an error's code."""

    async def create(
        self, state: ResourceState, actor: Actor, terms: Terms = NO_TERMS, *, held: Held | None = None
    ) -> Written:
        """Bring a resource into being, as `state` describes it; the state that is given is not changed.

        Without a status it starts in its table's initial state. Raises `ResourceExists`.
        """
        rows.state_type(state.resource_type)
        state.check()
        table = self._machines.machine(state.lifecycle_table).lifecycle
        first: dict[str, Any] = msgspec.to_builtins(state)
        body = {name: value for name, value in first.items() if name not in _CLOCKS}

        def work(made: ResourceState, now: datetime) -> Change:
            return changes.create(made, now, actor, terms, table)

        ref = ResourceRef(state.resource_type, state.id)
        return await self._ask("create", ref, actor, terms, body, work, held, made=state)

    async def transition(
        self,
        ref: ResourceRef,
        actor: Actor,
        *,
        event: str | None = None,
        to: str | None = None,
        terms: Terms = NO_TERMS,
        operation: Operation | UnsetType | None = UNSET,
        begin: bool = False,
        fields: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        held: Held | None = None,
    ) -> Written:
        """Send an event, or go to a state, where the table and its guards allow it.

        In the same commit an operation may be put in place (`begin`: a new one, with a new epoch) or taken
        away (None), and fields of the kind's own be set. `data` goes into the history row.
        """
        said = changes.check_data(data)

        def work(state: ResourceState, now: datetime) -> Change:
            machine = self._machines.machine(state.lifecycle_table)
            move = self._judge(machine, state, actor, event, to, terms, now)
            change = changes.transition(state, now, actor, terms, machine.lifecycle, move)
            change.data = {**said, **change.data}
            if fields:
                change.data["fields"] = changes.set_fields(state, fields)
            if not isinstance(operation, UnsetType):
                change.data |= changes.set_operation(state, actor, operation, begin) or {}
            return change

        done = operation.id if isinstance(operation, Operation) else operation is None
        body = [event, to, done, begin, fields, said]
        return await self._ask("transition", ref, actor, terms, body, work, held)

    async def set_desired(
        self,
        ref: ResourceRef,
        actor: Actor,
        status: str | None,
        terms: Terms = NO_TERMS,
        *,
        held: Held | None = None,
    ) -> Written:
        """Say where it is meant to be; None: nowhere. The same again is `unchanged`."""

        def work(state: ResourceState, now: datetime) -> Change | None:
            table = None if status is None else self._machines.machine(state.lifecycle_table).lifecycle
            return changes.set_desired(state, now, actor, terms, table, status)

        return await self._ask("set_desired", ref, actor, terms, status, work, held)

    async def acknowledge(
        self, ref: ResourceRef, actor: Actor, terms: Terms = NO_TERMS, *, held: Held | None = None
    ) -> Written:
        """Say that the newest intent was seen, where there was nothing to do for it."""

        def work(state: ResourceState, now: datetime) -> Change | None:
            return changes.acknowledge(state)

        return await self._ask("acknowledge", ref, actor, terms, None, work, held)

    async def change_spec(
        self,
        ref: ResourceRef,
        actor: Actor,
        *,
        labels: Mapping[str, str] | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        owner_id: str | UnsetType = UNSET,
        fields: Mapping[str, Any] | None = None,
        terms: Terms = NO_TERMS,
        held: Held | None = None,
    ) -> Written:
        """Set labels, metadata (each replaced whole), owner, or fields of the kind's own."""
        given = {"labels": labels, "metadata": metadata, "owner_id": owner_id, "fields": dict(fields or {})}
        body = {name: value for name, value in given.items() if value is not UNSET}

        def work(state: ResourceState, now: datetime) -> Change | None:
            return changes.change_spec(state, labels, metadata, owner_id, fields or {})

        return await self._ask("change_spec", ref, actor, terms, body, work, held)

    async def place_hold(
        self,
        ref: ResourceRef,
        actor: Actor,
        name: str,
        terms: Terms = NO_TERMS,
        *,
        expires_at: datetime | None = None,
        held: Held | None = None,
    ) -> Written:
        """Put a hold on it, owned by the actor, for the terms' reason. Raises `kinds.state.Held`."""

        def work(state: ResourceState, now: datetime) -> Change | None:
            return changes.place_hold(state, now, actor, terms, name, expires_at)

        return await self._ask("place_hold", ref, actor, terms, [name, expires_at], work, held)

    async def lift_hold(
        self,
        ref: ResourceRef,
        actor: Actor,
        name: str,
        terms: Terms = NO_TERMS,
        *,
        override: bool = False,
        held: Held | None = None,
    ) -> Written:
        """Take a hold off. `override`: another's, by an operator with a reason."""

        def work(state: ResourceState, now: datetime) -> Change | None:
            return changes.lift_hold(state, now, actor, terms, name, override)

        return await self._ask("lift_hold", ref, actor, terms, [name, override], work, held)

    async def report_conditions(
        self,
        ref: ResourceRef,
        actor: Actor,
        conditions: Sequence[Condition],
        terms: Terms = NO_TERMS,
        *,
        held: Held | None = None,
    ) -> Written | None:
        """Take in what was found of it. None where no status and no reason changed: nothing was written."""

        def work(state: ResourceState, now: datetime) -> Change | None:
            return changes.report_conditions(state, conditions)

        written = await self._ask("report_conditions", ref, actor, terms, list(conditions), work, held)
        return None if written.unchanged else written

    async def set_operation(
        self,
        ref: ResourceRef,
        actor: Actor,
        operation: Operation | None,
        terms: Terms = NO_TERMS,
        *,
        begin: bool = False,
        held: Held | None = None,
    ) -> Written:
        """Say what is being done to it, or that nothing is. `begin`: a new one, with a new epoch."""

        def work(state: ResourceState, now: datetime) -> Change | None:
            data = changes.set_operation(state, actor, operation, begin)
            return None if data is None else Change(action=ChangeAction.OPERATION_CHANGED, data=data)

        return await self._ask("set_operation", ref, actor, terms, [operation, begin], work, held)

    async def record_progress(
        self,
        ref: ResourceRef,
        actor: Actor,
        phase: str,
        progress: Mapping[str, Any] | None,
        terms: Terms = NO_TERMS,
        *,
        data: Mapping[str, Any] | None = None,
        held: Held | None = None,
    ) -> Written:
        """Keep what a phase's engine has finished (None: forget it). `data` goes into the history row."""

        def work(state: ResourceState, now: datetime) -> Change | None:
            return changes.record_progress(state, phase, progress, data)

        body = [phase, progress, data]
        return await self._ask("record_progress", ref, actor, terms, body, work, held)

    async def record_retry(
        self,
        ref: ResourceRef,
        actor: Actor,
        retry: Retry | None,
        terms: Terms = NO_TERMS,
        *,
        held: Held | None = None,
    ) -> Written:
        """Count a failure against its retry budget, or forget them (None)."""

        def work(state: ResourceState, now: datetime) -> Change | None:
            return changes.record_retry(state, retry)

        return await self._ask("record_retry", ref, actor, terms, retry, work, held)

    async def claim(
        self, ref: ResourceRef, actor: Actor, terms: Terms = NO_TERMS, *, held: Held | None = None
    ) -> Written:
        """Take it over: from now on only requests with the new epoch as their fence pass."""

        def work(state: ResourceState, now: datetime) -> Change:
            return changes.take_over(state, actor)

        return await self._ask("claim", ref, actor, terms, None, work, held)

    async def migrate(
        self,
        ref: ResourceRef,
        actor: Actor,
        table: str,
        to: str = "",
        terms: Terms = NO_TERMS,
        *,
        held: Held | None = None,
    ) -> Written:
        """Put it on another lifecycle table, in `to` or the state of the same name. Raises `UnknownState`."""
        lifecycle = self._machines.machine(table).lifecycle

        def work(state: ResourceState, now: datetime) -> Change:
            return changes.migrate(state, now, actor, terms, table, lifecycle, to)

        return await self._ask("migrate", ref, actor, terms, [table, to], work, held)

    async def delete(
        self,
        ref: ResourceRef,
        actor: Actor,
        terms: Terms = NO_TERMS,
        *,
        force: bool = False,
        held: Held | None = None,
    ) -> Written:
        """End it. Its history stays. Raises `OperationUnderWay`, except by `force` of an admin."""

        def work(state: ResourceState, now: datetime) -> Change:
            return changes.delete(state, actor, force)

        return await self._ask("delete", ref, actor, terms, [force] if force else None, work, held)

    async def judge(
        self,
        ref: ResourceRef,
        actor: Actor,
        *,
        event: str | None = None,
        to: str | None = None,
        terms: Terms = NO_TERMS,
    ) -> Move:
        """What `transition` would be judged to be, by table and guards; nothing is written."""
        state = await self.get(ref)
        machine = self._machines.machine(state.lifecycle_table)
        return self._judge(machine, state, actor, event, to, terms, self._clock.now())

    async def allowed(self, ref: ResourceRef, roles: Collection[str]) -> Sequence[Any]:
        """What somebody of these roles may send now; the machine's answer."""
        state = await self.get(ref)
        return self._machines.machine(state.lifecycle_table).allowed(state, roles)

    async def get(self, ref: ResourceRef) -> ResourceState:
        """The resource. Raises `ResourceNotFound`, `UnknownResourceKind`, `RecordDamaged`."""
        return await self._reading.get(ref)

    async def find(self, ref: ResourceRef) -> ResourceState | None:
        """The resource; None where it is not there."""
        return await self._reading.find(ref)

    async def list(
        self,
        kind: str | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
        selection: Selection = EVERYTHING,
    ) -> ResourcePage:
        """Resources, a page at a time, all pages at one revision."""
        return await self._reading.list(kind, limit, after, selection)

    async def history(
        self, ref: ResourceRef, after_seq: int = 0, *, limit: int = 100, newest_first: bool = False
    ) -> HistoryPage:
        """History rows behind `after_seq`; newest first, those below it (0: from the newest)."""
        return await self._reading.history(ref, after_seq, limit, newest_first)

    async def entry(self, ref: ResourceRef, seq: int) -> HistoryEntry:
        """One history row."""
        return await self._reading.entry(ref, seq)

    def _judge(
        self,
        machine: Machine,
        state: ResourceState,
        actor: Actor,
        event: str | None,
        to: str | None,
        terms: Terms,
        now: datetime,
    ) -> Move:
        known: Mapping[str, Any] = {} if self._facts is None else self._facts(state)
        facts = {**known, "actor": actor.name, "now": now}
        return machine.judge(state, actor.roles, event=event, to=to, terms=terms, facts=facts)

    async def _ask(
        self,
        method: str,
        ref: ResourceRef,
        actor: Actor,
        terms: Terms,
        body: object,
        work: Work,
        held: Held | None,
        made: ResourceState | None = None,
    ) -> Written:
        rows.state_type(ref.kind)
        request = Request(ref=ref, actor=actor, terms=terms, method=method, body=body, held=held, made=made)
        try:
            written = await self._commits.make(request, work)
        except SteersmanError as error:
            self.outcomes[error.code] += 1
            raise
        self.outcomes[_outcome_of(written)] += 1
        return written


def _outcome_of(written: Written) -> str:
    if written.dry_run:
        return "dry_run"
    if written.replayed:
        return "replayed"
    return "unchanged" if written.unchanged else "written"


_CLOCKS = frozenset({"created_at", "updated_at", "status_since"})
"""What a new resource gets from the clock, and what is therefore no part of what was asked."""
