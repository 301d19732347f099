"""What each request does to a working copy. Pure: `commit` reads before it and writes after it.

Each function changes the state that it is given and answers with the `Change` for the history row, or None
where there was nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
from msgspec import UnsetType
from msgspec.structs import replace

from steersman.kernel.bounds import KIB, at_most
from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean
from steersman.kinds.axes import Condition, Hold, Operation, OperationPhase
from steersman.kinds.command import Actor, ChangeAction, Terms
from steersman.kinds.lifecycle import Lifecycle, StateClass
from steersman.kinds.refusal import NotAllowed, OperationUnderWay, RequirementMissing, TerminalState
from steersman.kinds.state import ResourceState, Retry
from steersman.state.ledger.commit import Change
from steersman.state.ledger.machines import Move
from steersman.state.ledger.rows import canonical, state_type

LABELS_MAX = 64
LABEL_MAX_CHARS = 1024
NESTING_MAX = 32
"""Levels of metadata. A state is copied and compared by recursion: too many would break off a commit."""
METADATA_MAX_BYTES = 64 * KIB
DATA_MAX_BYTES = 64 * KIB
"""What a request adds to its history row."""
PROGRESS_MAX_BYTES = 256 * KIB
"""The progress of all phases of a resource together."""
OVERRIDES = ("operator", "admin")
"""Who may lift another's hold, with a reason."""
FORCER = "admin"
"""Who may delete a resource while something is being done to it."""
OPEN_FIELDS = frozenset({"definition_ref", "parent_ref", "lifecycle"})
"""What `fields` may set of that which every resource has. The rest has a request of its own."""


class SpecInvalid(InvalidInput):
    """A field that can't be set like this, or not at all. `facts`: `field`."""

    code = "spec_invalid"
    title = "Resource's fields invalid"


def name_of(lifecycle: Lifecycle) -> str:
    """A table as history names it."""
    return f"{lifecycle.name}@{lifecycle.version}"


def create(state: ResourceState, now: datetime, actor: Actor, terms: Terms, table: Lifecycle) -> Change:
    """Bring it into being: clocks start now; where it names no state it is in the initial one."""
    check_labels(state.labels)
    check_metadata(getattr(state, "metadata", {}))
    state.status = table.canonical(state.status) if state.status else table.initial
    if state.desired_status is not None:
        state.desired_status = table.canonical(state.desired_status)
        state.desired_by = state.desired_by or actor.name
    _answer_if_nowhere(state)
    state.created_at = state.updated_at = state.status_since = now
    said = {"desired_status": state.desired_status, "owner_id": state.owner_id, "labels": dict(state.labels)}
    change = Change(
        action=ChangeAction.CREATED,
        to_state=state.status,
        lifecycle=name_of(table),
        data={name: value for name, value in said.items() if value},
    )
    state.record_transition(None, state.status, actor.name, terms.reason, _metadata(state, None, terms), now)
    return change


def transition(
    state: ResourceState, now: datetime, actor: Actor, terms: Terms, table: Lifecycle, move: Move
) -> Change:
    """Take it where the judged move leads. Coming to where it is meant to be answers the intent."""
    before, state.status = state.status, move.to
    state.status_since = now
    metadata = _metadata(state, move.event, terms)
    state.record_transition(before, move.to, terms.on_behalf_of or actor.name, terms.reason, metadata, now)
    if state.status == state.desired_status:
        state.observed_generation = state.generation
        state.retry = None
    return Change(
        action=ChangeAction.TRANSITIONED,
        event=move.event,
        from_state=before,
        to_state=move.to,
        lifecycle=name_of(table),
        draws=tuple(move.draws),
        rests=rests(table, move.to),
        data={"forced": True} if getattr(move, "forced", False) else {},
    )


def rests(table: Lifecycle, status: str) -> bool:
    """Whether a resource in this state gives its lasting places in budgets back."""
    place = table.state(status)
    return place.schedulable or place.state_class is StateClass.TERMINAL


def set_desired(
    state: ResourceState,
    now: datetime,
    actor: Actor,
    terms: Terms,
    table: Lifecycle | None,
    status: str | None,
) -> Change | None:
    """Set the intent. Raises `UnknownState`, and `TerminalState` where nothing can come of it."""
    before = state.desired_status
    if table is not None and status is not None:
        status = table.canonical(status)
        place = table.state(state.status)
        if place.state_class is StateClass.TERMINAL and status != place.name and not table.edges(place.name):
            raise TerminalState(
                f"{state.id} is {place.name}, which is the end: nothing leads to {status}",
                current=place.name,
                allowed=[],
            )
    if not state.set_desired_status(status, now):
        return None
    state.desired_by, state.desired_reason = actor.name, terms.reason
    _answer_if_nowhere(state)
    data = {"desired_status": status, "before": before, "generation": state.generation}
    return Change(
        action=ChangeAction.INTENT_SET, data=data, lifecycle="" if table is None else name_of(table)
    )


def _answer_if_nowhere(state: ResourceState) -> None:
    """An intent that it be nowhere in particular is answered as soon as it is said: nothing is to be done."""
    if state.desired_status is None:
        state.observed_generation = state.generation


def acknowledge(state: ResourceState) -> Change | None:
    """The newest intent was seen, and there was nothing to do."""
    if state.observed_generation == state.generation:
        return None
    state.observed_generation = state.generation
    return Change(action=ChangeAction.INTENT_OBSERVED, data={"observed_generation": state.generation})


def change_spec(
    state: ResourceState,
    labels: Mapping[str, str] | UnsetType,
    metadata: Mapping[str, Any] | UnsetType,
    owner_id: str | UnsetType,
    fields: Mapping[str, Any],
) -> Change | None:
    """Set what people say of it. Only what differs is in the row."""
    wanted: dict[str, Any] = dict(_plain_fields(state, fields))
    if not isinstance(labels, UnsetType):
        check_labels(labels)
        wanted["labels"] = dict(labels)
    if not isinstance(metadata, UnsetType):
        if "metadata" not in state.__struct_fields__:
            raise SpecInvalid(f"a {state.resource_type} has no metadata", field="metadata")
        wanted["metadata"] = dict(metadata)
    if not isinstance(owner_id, UnsetType):
        wanted["owner_id"] = owner_id
    changed = _put(state, wanted)
    return Change(action=ChangeAction.SPEC_CHANGED, data=changed) if changed else None


def set_fields(state: ResourceState, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Set a kind's own fields beside another change; what differs, as plain data. Raises `SpecInvalid`."""
    return _put(state, _plain_fields(state, fields))


def place_hold(
    state: ResourceState, now: datetime, actor: Actor, terms: Terms, name: str, expires_at: datetime | None
) -> Change | None:
    """Put a hold on it; holds that are over are swept on the way. Raises `Held`."""
    hold = Hold(name=name, owner=actor.name, placed_at=now, reason=terms.reason, expires_at=expires_at)
    if not name:
        raise SpecInvalid("a hold has a name", field="name")
    before = next((other for other in state.holds if other.name == name and other.is_alive(now)), None)
    if before is not None and replace(before, placed_at=now) == hold:
        return None
    over = [other.name for other in state.holds if not other.is_alive(now)]
    state.holds = [other for other in state.holds if other.is_alive(now)]
    state.place_hold(hold)
    return Change(action=ChangeAction.HOLD_PLACED, data={"hold": msgspec.to_builtins(hold), "over": over})


def lift_hold(
    state: ResourceState, now: datetime, actor: Actor, terms: Terms, name: str, override: bool
) -> Change | None:
    """Take a hold off: its owner, or with `override` and a reason an operator. Raises `Held`."""
    hold = next((other for other in state.holds if other.name == name), None)
    if hold is None:
        return None
    owner = actor.name
    if override and hold.owner != owner:
        if not set(OVERRIDES) & set(actor.roles):
            raise NotAllowed(
                f"hold {name} belongs to {hold.owner}; only {' or '.join(OVERRIDES)} may lift another's",
                current=state.status,
                allowed=[],
                owner=hold.owner,
            )
        if not terms.reason:
            raise RequirementMissing(f"lifting {hold.owner}'s hold {name} needs a reason", missing=["reason"])
        owner = hold.owner
    state.lift_hold(name, owner, now)
    data = {"name": name, "owner": hold.owner, "override": owner != actor.name}
    return Change(action=ChangeAction.HOLD_LIFTED, data=data)


def report_conditions(state: ResourceState, conditions: Sequence[Condition]) -> Change | None:
    """Take in what was found; only another status or reason counts, and nothing older than is there."""
    news: list[Condition] = []
    for condition in conditions:
        before = state.condition(condition.type)
        if before is not None and (
            condition.observed_at < before.observed_at
            or (condition.status, condition.reason) == (before.status, before.reason)
        ):
            continue
        state.set_condition(condition)
        news.append(cast(Condition, state.condition(condition.type)))
    if not news:
        return None
    return Change(action=ChangeAction.CONDITIONS_CHANGED, data={"conditions": msgspec.to_builtins(news)})


def set_operation(
    state: ResourceState, actor: Actor, operation: Operation | None, begin: bool
) -> dict[str, Any] | None:
    """Put an operation in place, or take it away; what the row says of it, None where it is there already.

    With `begin` it is a new one: the epoch grows, and answers of earlier ones are fenced off.
    """
    if begin and operation is None:
        raise SpecInvalid("an operation that begins is given", field="operation")
    if begin and operation is not None:
        take_over(state, actor)
        operation = replace(operation, epoch=state.epoch)
    elif operation == state.operation:
        return None
    state.operation = operation
    return {"operation": msgspec.to_builtins(operation), "epoch": state.epoch}


def take_over(state: ResourceState, actor: Actor) -> Change:
    """Fence all earlier holders off."""
    state.epoch += 1
    state.fence_holder = actor.name
    return Change(action=ChangeAction.CLAIMED, data={"epoch": state.epoch, "holder": actor.name})


def record_progress(
    state: ResourceState, phase: str, progress: Mapping[str, Any] | None, data: Mapping[str, Any] | None
) -> Change | None:
    """Keep what a phase's engine has finished. The row has `data`, not the progress, which may be big."""
    if not phase:
        raise SpecInvalid("progress belongs to a phase", field="phase")
    kept = dict(state.pipeline_progress or {})
    if progress is None:
        kept.pop(phase, None)
    else:
        kept[phase] = msgspec.to_builtins(progress)
    size = len(canonical(kept))
    at_most(f"the progress of {state.id[:80]}", size, PROGRESS_MAX_BYTES, "bytes")
    if not data and kept == (state.pipeline_progress or {}):
        return None
    state.pipeline_progress = kept or None
    return Change(action=ChangeAction.PROGRESS_MADE, data={**check_data(data), "phase": phase})


def record_retry(state: ResourceState, retry: Retry | None) -> Change | None:
    """Count a failure, or forget them."""
    if retry == state.retry:
        return None
    state.retry = retry
    return Change(action=ChangeAction.RETRY_CHANGED, data={"retry": msgspec.to_builtins(retry)})


def migrate(
    state: ResourceState, now: datetime, actor: Actor, terms: Terms, name: str, table: Lifecycle, to: str
) -> Change:
    """Put it on another table. An intent that the new table does not know is dropped, on record."""
    before, old = state.status, state.lifecycle_table
    state.status = table.canonical(to or before)
    data: dict[str, Any] = {"from_table": old, "to_table": name}
    desired = state.desired_status
    if desired is not None:
        known = next((place for place in table.state_names() if place == desired), None)
        if known is None:
            state.set_desired_status(None, now)
            _answer_if_nowhere(state)
            data["dropped_intent"] = desired
    state.lifecycle_table = name
    state.status_since = now if state.status != before else state.status_since
    state.record_transition(
        before, state.status, actor.name, terms.reason, {**_metadata(state, None, terms), **data}, now
    )
    return Change(
        action=ChangeAction.MIGRATED,
        from_state=before,
        to_state=state.status,
        lifecycle=name_of(table),
        data=data,
        rests=rests(table, state.status),
    )


def delete(state: ResourceState, actor: Actor, force: bool) -> Change:
    """End it. Its history stays, and its numbers go on should the id be made again. Raises
    `OperationUnderWay` while something is being done to it, except by `force` of an admin: only the resource
    knows what was begun."""
    data = {"last_status": state.status}
    operation = state.operation
    if operation is not None and operation.phase not in (OperationPhase.IDLE, OperationPhase.FAILED):
        if not force or FORCER not in actor.roles:
            instead = f"move it out of {state.status}, which ends the operation, or wait for its end"
            raise OperationUnderWay(
                f"{operation.kind} ({operation.id}) is under way: {instead}; an {FORCER} may force it",
                operation=operation.id,
                operation_kind=operation.kind,
                phase=operation.phase.value,
                step=operation.step,
                instead=instead,
            )
        data["cut_off"] = operation.id
    return Change(action=ChangeAction.DELETED, data=data, rests=True)


def check_data(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a request adds to its row, as plain data. Raises `TooLarge`, `InvalidInput`."""
    if not data:
        return {}
    at_most("data", len(canonical(data)), DATA_MAX_BYTES, "bytes")
    return msgspec.to_builtins(dict(data))


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises `TooLarge` where there are too many, or one is too long."""
    at_most("labels of a resource", len(labels), LABELS_MAX)
    for name, value in labels.items():
        at_most(f"label {name[:40]!r}", len(name) + len(value), LABEL_MAX_CHARS, "characters")


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raises `TooLarge` where it is nested too deep, or too long."""
    level: list[Any] = [metadata]
    for depth in range(NESTING_MAX + 1):
        level = [one for value in level for one in _inner(value)]
        if not level:
            break
        at_most("metadata", depth + 1, NESTING_MAX, "levels of nesting")
    at_most("metadata", len(canonical(metadata)), METADATA_MAX_BYTES, "bytes")


def _inner(value: Any) -> list[Any]:
    """The containers right inside a container."""
    values = cast("Mapping[Any, Any]", value).values() if isinstance(value, Mapping) else value
    return [one for one in values if isinstance(one, Mapping | list | tuple)]


def _plain_fields(state: ResourceState, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    closed = set(ResourceState.__struct_fields__) - OPEN_FIELDS
    for name in fields:
        if name in state.__struct_fields__ and name not in closed:
            continue
        own = sorted(set(state.__struct_fields__) - closed)
        detail = (
            "has a request of its own" if name in closed else "is no field of it" + did_you_mean(name, own)
        )
        raise SpecInvalid(f"{state.resource_type}: {name[:80]!r} {detail}", field=name, fields=own)
    return fields


def _put(state: ResourceState, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Set fields by reading the whole state anew, so that each is validated as if it came from outside."""
    if not wanted:
        return {}
    before: dict[str, Any] = msgspec.to_builtins(state)
    try:
        plain: dict[str, Any] = msgspec.to_builtins(dict(wanted))
        read = msgspec.convert({**before, **plain}, state_type(state.resource_type))
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise SpecInvalid(f"{state.resource_type}/{state.id[:80]}: {error}", field=sorted(wanted)) from None
    read.check()
    after: dict[str, Any] = msgspec.to_builtins(read)
    for name in state.__struct_fields__:
        setattr(state, name, getattr(read, name))
    check_metadata(getattr(state, "metadata", {}))
    return {name: after[name] for name in after if after[name] != before[name]}


def _metadata(state: ResourceState, event: str | None, terms: Terms) -> dict[str, Any]:
    """What a resource's own last transitions say beside from, to, when, who and why."""
    return {
        "event": event,
        "cause": terms.cause,
        "operation": terms.operation,
        "seq": state.version + 1,
    }
