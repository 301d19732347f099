"""The one commit by which a resource changes: its state, one history row, one event, its budgets, its answer.

Importable in this room alone (a contract of the import linter): whoever wants a change asks the Ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from msgspec import Struct, field
from msgspec.structs import replace

from steersman.kernel.clock import Clock, iso_utc
from steersman.kernel.errors import Refused, SteersmanError
from steersman.kinds.command import Actor, ChangeAction, Draw, HistoryEntry, ResourceEvent, Terms, Written
from steersman.kinds.plane_resources import FREEZE_ID, FROZEN
from steersman.kinds.refusal import Fenced, Frozen, ResourceExists, VersionConflict
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.state.ledger import budgets, idempotency, keys, rows
from steersman.state.ledger.known import Known
from steersman.state.ledger.reading import not_found
from steersman.state.ledger.rows import Grave, Loaded
from steersman.state.tail import RETIRED_KEY, read_retired, write_retired
from steersman.store.api import (
    Check,
    Condition,
    Conflict,
    Delete,
    Held,
    LeaseExpired,
    Put,
    Record,
    Store,
    StoreUnavailable,
    Write,
)

ATTEMPTS_MAX = 64
"""So often a request is judged anew because somebody else wrote between reading and writing."""

EVENT_TYPE = "steersman.resource.{action}.v1"
FREEZE_REF = ResourceRef("Freeze", FREEZE_ID)


class Contended(Refused):
    """The resource or a budget changed under the request each time that it was tried. Nothing was
    written; try again. `facts`: `key`, `attempts`."""

    code = "contended"
    title = "Changed too often meanwhile"


class _Unsure(SteersmanError):
    """To be looked at again with what is stored; never leaves this module."""


class Change(Struct, kw_only=True):
    """What a request does, beside what it did to the working copy. `rests`: lasting places are given back."""

    action: ChangeAction
    event: str | None = None
    from_state: str | None = None
    to_state: str | None = None
    lifecycle: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    draws: tuple[Draw, ...] = ()
    rests: bool = False


Work = Callable[[ResourceState, datetime], Change | None]
"""Judge and change the working copy; None where there is nothing to do."""


class Request(Struct, kw_only=True):
    """Who asks what, as the commit needs it. `body` is what the method was given, for the fingerprint."""

    ref: ResourceRef
    actor: Actor
    terms: Terms
    method: str
    body: object = None
    held: Held | None = None
    made: ResourceState | None = None  # for create: what is to be


class _Try(Struct):
    """One attempt: what was read, and what the commit is to check."""

    loaded: Loaded
    now: datetime
    conditions: list[Condition]
    writes: list[Write] = field(default_factory=list[Write])


class Commits:
    """Executes requests, one at a time for each resource and budget of this process.

    Turns are taken so that a thousand askers do not judge in vain; that each commit is right is the store's
    doing, by the conditions in it, also with other processes on the same store.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._answers = idempotency.AnswerLeases(store, clock)
        self._known = Known()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def make(self, request: Request, work: Work) -> Written:
        """Do it. Raises the refusals of `kinds.refusal`, `LeaseExpired`, `Contended`, `StoreUnavailable`."""
        key = keys.resource_key(request.ref)
        printed = ""
        if request.terms.idempotency_key is not None:
            printed = idempotency.fingerprint(request.method, request.ref, request.body, request.terms)
        lost: Conflict | None = None
        async with self._turn(key):
            for _ in range(ATTEMPTS_MAX):
                known = key in self._known
                try:
                    return await self._attempt(request, work, printed)
                except Conflict as conflict:
                    lost = conflict
                except LeaseExpired as expired:
                    lease = str(expired.facts.get("lease", ""))
                    if request.held is not None and request.held.lease == lease:
                        raise
                    self._answers.drop(lease)  # or another request that met its end has done so
                except StoreUnavailable:
                    raise  # it may have been made: to judge it anew here could make it twice
                except SteersmanError:
                    if not known:
                        raise
                # Read it anew: others wrote meanwhile, or refused it was on a picture that may be old.
                self._known.drop(key)
        raise Contended(
            f"{request.ref}: others wrote first, {ATTEMPTS_MAX} times; nothing was written, try again",
            key=lost.facts.get("key", key) if lost is not None else key,
            attempts=ATTEMPTS_MAX,
        )

    async def _attempt(self, request: Request, work: Work, printed: str) -> Written:
        terms = request.terms
        conditions: list[Condition] = [] if request.held is None else [request.held]
        answer_key = ""
        if terms.idempotency_key is not None and not terms.dry_run:
            answer_key = keys.idempotency_key(request.actor.name, terms.idempotency_key)
            record = await self._store.get(answer_key)
            if record is not None:
                return idempotency.replay(record, printed, terms.idempotency_key)
            conditions.append(Check(answer_key, 0))
        loaded = await self._load(request, conditions)
        _check_circumstances(request, loaded)
        if terms.acting:
            await self._check_freeze(conditions)
        turn = _Try(loaded=loaded, now=self._clock.now(), conditions=conditions)
        change = work(loaded.state, turn.now)
        if change is None and loaded.known:
            raise _Unsure("there is nothing to do, as far as is known")
        if change is None:
            return await self._nothing(request, turn, answer_key, printed)
        loaded.state.version += 1
        loaded.state.updated_at = max(loaded.state.updated_at, turn.now)
        names = {draw.budget for draw in (*terms.draws, *change.draws)}
        if change.rests:
            names |= set(loaded.places)
        if not names:
            return await self._write(request, turn, change, answer_key, printed)
        async with AsyncExitStack() as turns:
            for name in sorted(names):  # in one order everywhere, so that two can't wait for each other
                await turns.enter_async_context(self._turn(keys.budget_key(name)))
            await self._settle(request, turn, change, sorted(names))
            return await self._write(request, turn, change, answer_key, printed)

    async def _load(self, request: Request, conditions: list[Condition]) -> Loaded:
        """The resource as it is; for create, as it will be. Adds the checks that hold it to that."""
        key = keys.resource_key(request.ref)
        known = None if request.made is not None or request.terms.dry_run else self._known.take(key)
        if known is not None:
            # A key that was deleted and made again counts its versions anew, so the version alone might be
            # right by chance. History never does: the next row can't be there yet.
            next_row = keys.history_key(request.ref, known.state.version + 1)
            conditions += [Check(key, known.version), Check(next_row, 0)]
            return known
        record = await self._store.get(key)
        if request.made is None:
            if record is None:
                raise await not_found(self._store, request.ref)
            conditions.append(Check(key, record.version))
            return rows.load(record)
        if record is not None:
            current = rows.load(record).state.version
            raise ResourceExists(f"{request.ref} is there already, at version {current}", current=current)
        state = rows.decode_state(request.ref.kind, rows.encode_state(request.made))
        state.version, head = 0, ""
        grave_key = keys.grave_key(request.ref)
        buried = await self._store.get(grave_key)
        if buried is not None:
            grave = rows.decode_grave(buried)
            state.version, head = grave.version, grave.head
            state.epoch = max(state.epoch, grave.epoch + 1)
        conditions += [Check(key, 0), Check(grave_key, buried.version if buried is not None else 0)]
        return Loaded(state=state, head=head, version=0, revision=0)

    async def _check_freeze(self, conditions: list[Condition]) -> None:
        """Refuse where acting is frozen, and hold the commit to the switch as it was read."""
        key = keys.resource_key(FREEZE_REF)
        record = await self._store.get(key)
        conditions[:] = [c for c in conditions if not (isinstance(c, Check) and c.key == key)]
        conditions.append(Check(key, record.version if record is not None else 0))
        if record is None:
            return
        state = rows.load(record).state
        if state.status == FROZEN:
            last = state.state_history[-1] if state.state_history else None
            by, reason = (last.triggered_by, last.reason or "") if last is not None else ("", "")
            raise Frozen(
                f"acting is frozen since {iso_utc(state.status_since)} by {by or 'nobody known'}: {reason}",
                since=iso_utc(state.status_since),
                by=by,
                reason=reason,
            )

    async def _settle(self, request: Request, turn: _Try, change: Change, names: Iterable[str]) -> None:
        """Give back and take the places in budgets. Raises `BudgetExhausted`."""
        places = set(turn.loaded.places)
        for name in names:
            key = keys.budget_key(name)
            record = await self._store.get(key)
            before = budgets.Account(name=name) if record is None else budgets.read_account(record)
            account = before
            if change.rests and name in places:
                account = budgets.give_back(account, request.ref)
                places.discard(name)
            for draw in (*request.terms.draws, *change.draws):
                if draw.budget == name:
                    account = budgets.take(account, draw, request.ref, turn.now)
                    if draw.window_s is None:
                        places.add(name)
            turn.conditions.append(Check(key, record.version if record is not None else 0))
            if account is not before:
                account = budgets.alive(account, turn.now)
                put = Put(key, budgets.encode_account(account))
                turn.writes.append(put if account.places else Delete(key))
        turn.loaded.places = sorted(places)

    async def _write(
        self, request: Request, turn: _Try, change: Change, answer_key: str, printed: str
    ) -> Written:
        """Write all of it in one commit; for a dry run, say what would be written."""
        ref, state = request.ref, turn.loaded.state
        gone = change.action is ChangeAction.DELETED
        stored = rows.encode_state(state)
        entry = _entry(request, turn, change, "" if gone else rows.sha256(stored))
        entry, row = rows.encode_row(entry)
        event = rows.encode_event(_event(entry, state))
        if request.terms.dry_run:
            return Written(state, _without_hashes(entry), turn.loaded.revision, dry_run=True)
        writes = [
            *turn.writes,
            Put(keys.history_key(ref, entry.seq), row),
            Put(keys.outbox_key(ref, entry.seq), event),
        ]
        if gone:
            self._known.drop(keys.resource_key(ref))
            grave = Grave(version=entry.seq, epoch=state.epoch, head=entry.hash, at=turn.now)
            writes.append(Delete(keys.resource_key(ref)))
            writes.append(Put(keys.grave_key(ref), rows.canonical(grave)))
        else:
            kept = rows.encode_kept(entry.hash, turn.loaded.places, stored)
            writes.append(Put(keys.resource_key(ref), kept))
        if request.made is not None and turn.loaded.head:
            writes.append(Delete(keys.grave_key(ref)))
        if answer_key:
            answer = idempotency.encode_answer(printed, turn.now, stored, entry, unchanged=False)
            writes.append(Put(answer_key, answer, lease=await self._answers.next()))
        revision = await self._store.commit(turn.conditions, writes)
        if not gone:
            loaded = turn.loaded
            after = Loaded(state, entry.hash, loaded.version + 1, revision, loaded.places, known=True)
            self._known.keep(keys.resource_key(ref), after)
        return Written(state, entry, revision)

    async def _nothing(self, request: Request, turn: _Try, answer_key: str, printed: str) -> Written:
        """The answer where there was nothing to do. With a key it is kept, so that a late repetition does not
        do then what there was no need to do now."""
        state = turn.loaded.state
        last = await self._store.get(keys.history_key(request.ref, state.version))
        if last is None:
            raise rows.damaged(keys.history_key(request.ref, state.version), "the row is missing")
        entry, _ = rows.decode_row(last)
        if answer_key:
            stored = rows.encode_state(state)
            answer = idempotency.encode_answer(printed, turn.now, stored, entry, unchanged=True)
            put = Put(answer_key, answer, lease=await self._answers.next())
            await self._store.commit(turn.conditions, [put])
        return Written(state, entry, turn.loaded.revision, dry_run=request.terms.dry_run, unchanged=True)

    def _turn(self, key: str) -> asyncio.Lock:
        lock = self._turns.get(key)
        if lock is None:
            lock = self._turns[key] = asyncio.Lock()
        return lock


def _check_circumstances(request: Request, loaded: Loaded) -> None:
    """Fence, then expected version; before anything is judged, so that a late answer is told it is late."""
    terms, state = request.terms, loaded.state
    if terms.fence is not None and terms.fence != state.epoch:
        raise Fenced(
            f"{request.ref}: epoch {terms.fence} is over, it is {state.epoch} now"
            f" ({state.fence_holder or 'nobody'} took over)",
            fence=terms.fence,
            current=state.epoch,
            holder=state.fence_holder,
        )
    if terms.expected_version is not None and terms.expected_version != state.version:
        raise VersionConflict(
            f"{request.ref} is at version {state.version}, not {terms.expected_version}: read it again",
            expected=terms.expected_version,
            current=state.version,
        )


def _entry(request: Request, turn: _Try, change: Change, state_hash: str) -> HistoryEntry:
    terms, state = request.terms, turn.loaded.state
    return HistoryEntry(
        kind=request.ref.kind,
        id=request.ref.id,
        seq=state.version,
        at=turn.now,
        action=change.action,
        actor=terms.on_behalf_of or request.actor.name,
        carried_out_by=request.actor.name if terms.on_behalf_of else "",
        event=change.event,
        from_state=change.from_state,
        to_state=change.to_state,
        reason=terms.reason,
        cause=terms.cause,
        operation=terms.operation,
        fence=state.epoch,
        lifecycle=change.lifecycle or state.lifecycle_table,
        facts=terms.facts,
        evidence=terms.evidence,
        approvals=terms.approvals,
        data=change.data,
        state_hash=state_hash,
        previous=turn.loaded.head,
    )


def _event(entry: HistoryEntry, state: ResourceState) -> ResourceEvent:
    said: Mapping[str, Any] = {
        "kind": entry.kind,
        "id": entry.id,
        "action": entry.action.value,
        "event": entry.event,
        "from": entry.from_state,
        "to": entry.to_state,
        "status": state.status,
        "desired_status": state.desired_status,
        "version": entry.seq,
        "actor": entry.actor,
        "reason": entry.reason,
        "cause": entry.cause,
        "operation": entry.operation,
        "labels": state.labels,
    }
    return ResourceEvent(
        id=f"{entry.ref}/{entry.seq}",
        type=EVENT_TYPE.format(action=entry.action.value),
        subject=str(entry.ref),
        sequence=entry.seq,
        time=entry.at,
        data={**entry.data, **said},
    )


def _without_hashes(entry: HistoryEntry) -> HistoryEntry:
    return replace(entry, hash="", state_hash="", previous="")


async def delete_events(store: Store, records: Iterable[Record]) -> None:
    """Delete events, and note in the same commit how far they are gone, for readers that come back late."""
    old = list(records)
    if not old:
        return
    for _ in range(ATTEMPTS_MAX):
        noted = await store.get(RETIRED_KEY)
        before = read_retired(noted.value) if noted is not None else 0
        upto = max(before, *(record.revision for record in old))
        check = Check(RETIRED_KEY, noted.version if noted is not None else 0)
        try:
            note = Put(RETIRED_KEY, write_retired(upto))
            await store.commit([check], [note, *(Delete(record.key) for record in old)])
        except Conflict:
            continue
        return
    raise Contended(f"{RETIRED_KEY} was written by others {ATTEMPTS_MAX} times", key=RETIRED_KEY)
