"""Resources over HTTP: lists, one by one, made, applied, moved, held, deleted. The Ledger judges each change.

Each change takes `If-Match` (the version that the caller saw) and `Idempotency-Key`, and answers with the
resource after it and its history row.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
from litestar.params import QueryParameter

from steersman.api.control import Control, actor_of, control_of, tag_of, terms_of
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of, read_json
from steersman.api.managed import (
    PLANE_OWNED,
    kind_of_path,
    read_optional,
    ref_of,
    shown_entry,
    shown_resource,
    written_answer,
)
from steersman.api.pages import FILTERS_MAX, PAGE_MAX, SCAN_MAX, CursorInvalid, read_healths, read_labels
from steersman.api.problems import InvalidParameter, NotReady
from steersman.api.wishes import DesiredStatus, HoldWish, TransitionWish, Why
from steersman.kinds.entity import EntityType, HealthState
from steersman.kinds.managed import Allowed, HistoryPage, KindCount, KindCounts, Managed, ManagedPage, Way
from steersman.kinds.names import RESOURCE_FORMS
from steersman.kinds.phase import PhaseInvalid
from steersman.kinds.state import NodeState, ResourceState

if TYPE_CHECKING:
    from steersman.api.plane import Plane
    from steersman.state.ledger import Selection

PAGE_DEFAULT = 100
HISTORY_DEFAULT = 50
HISTORY_MAX = 1000
READS_MAX = 64
"""Pages of the Ledger that are read for one page of an answer; a rare match gives short pages."""
COUNT_PAGE = 1000

Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=PAGE_MAX, description="Resources on a page")]
Words = Annotated[
    list[str] | None,
    QueryParameter(name="status", description="Only in these states; may repeat", max_items=FILTERS_MAX),
]


async def list_kinds(request: Asked) -> Answer:
    """Kinds of resources, with how many there are of each."""
    ledger = control_of(request).ledger
    counts: list[KindCount] = []
    for kind in RESOURCE_FORMS:
        count, after = 0, None
        while True:
            page = await ledger.list(kind, limit=COUNT_PAGE, after=after)
            count, after = count + len(page.items), page.after
            if after is None or count >= SCAN_MAX:
                break
        counts.append(
            KindCount(kind=kind, count=count, more=after is not None, plane_owned=kind in PLANE_OWNED)
        )
    return json_answer(KindCounts(tuple(counts)))


async def list_resources(
    request: Asked,
    status_: Words = None,
    desired: Annotated[
        list[str] | None,
        QueryParameter(name="desired", description="Only with these intents; may repeat", max_items=16),
    ] = None,
    converged: Annotated[
        bool | None, QueryParameter(name="converged", description="Only where the intent is reached, or not")
    ] = None,
    owner: Annotated[str | None, QueryParameter(name="owner", description="Only of this owner")] = None,
    health: Annotated[
        list[str] | None,
        QueryParameter(name="health", description="Nodes whose observed health is one of these"),
    ] = None,
    label: Annotated[
        list[str] | None,
        QueryParameter(name="label", description="name=value; may repeat", max_items=FILTERS_MAX),
    ] = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[
        str | None,
        QueryParameter(name="cursor", description="Where to go on: a page's `cursor`", max_length=2048),
    ] = None,
) -> Answer:
    """Resources of a kind that match all filters, by id."""
    kind = kind_of_path(request)
    control, plane = control_of(request), plane_of(request)
    labels = dict(read_labels(label or []))
    healths = read_healths(health or [])
    if healths and kind != "Node":
        raise InvalidParameter("health can be asked of nodes alone: they are what is observed")
    from steersman.state.ledger import Selection  # what is acted with is loaded where it is used

    wanted = Selection(
        labels=labels,
        status=tuple(status_ or ()),
        desired=tuple(desired or ()),
        converged=converged,
        owner_id=owner,
    )
    after = read_cursor(cursor) if cursor else None

    def fits(state: ResourceState) -> bool:
        return not healths or observed_health(plane, state) in healths

    return json_answer(await read_page(plane, control, kind, wanted, fits, limit, after))


async def read_page(
    plane: Plane,
    control: Control,
    kind: str,
    wanted: Selection,
    fits: Callable[[ResourceState], bool],
    limit: int,
    after: str | None,
) -> ManagedPage:
    """Up to `limit` resources behind `after` that the selection lets through and that `fits`."""
    items: list[Managed] = []
    problems: list[str] = []
    revision, now = 0, plane.clock.now()
    for _ in range(READS_MAX):
        page = await control.ledger.list(kind, limit=limit - len(items), after=after, selection=wanted)
        revision, after = page.revision, page.after
        problems += [str(one) for one in page.problems]
        items += [shown_resource(control, one, now) for one in page.items if fits(one)]
        if after is None or len(items) >= limit:
            break
    cursor = None if after is None else _write_cursor(after)
    return ManagedPage(items=tuple(items), cursor=cursor, revision=revision, problems=tuple(problems))


def observed_health(plane: Plane, state: ResourceState) -> HealthState | None:
    """The health of the entity that observes a node; None where none does."""
    if not isinstance(state, NodeState):
        return None
    entity = plane.bus.get(EntityType.NODE, state.id, scope=state.scope)
    return None if entity is None else entity.health_state


async def get_resource(request: Asked) -> Answer:
    """One resource, with whether it may take work."""
    ref, control = ref_of(request), control_of(request)
    state = await control.ledger.get(ref)
    shown = shown_resource(control, state, plane_of(request).clock.now())
    return json_answer(shown, headers={"etag": tag_of(state.version), "cache-control": "no-cache"})


async def delete_resource(
    request: Asked,
    force: Annotated[
        bool,
        QueryParameter(name="force", description="Also while an operation is under way; takes role admin"),
    ] = False,
) -> Answer:
    """Take a resource out. Its history stays, and goes on where the id is made again. Refused while an
    operation is under way."""
    ref, control = ref_of(request, writes=True), control_of(request)
    exchange = exchange_of(request)
    wish = await read_optional(request, Why, Why())
    terms = terms_of(exchange, wish.reason, initiator=wish.initiator)
    actor = actor_of(exchange.caller)
    written = await control.ledger.delete(ref, actor, terms=terms, force=force)
    return written_answer(request, control, written)


async def set_desired_status(request: Asked) -> Answer:
    """Say where it is meant to be; the loop takes it there."""
    ref, control = ref_of(request, writes=True), control_of(request)
    exchange = exchange_of(request)
    wish = await read_json(exchange, DesiredStatus)
    terms = terms_of(exchange, wish.reason, initiator=wish.initiator, dry_run=wish.dry_run)
    written = await control.ledger.set_desired(
        ref, actor_of(exchange.caller), wish.status or None, terms=terms
    )
    return written_answer(request, control, written)


async def transition_resource(request: Asked) -> Answer:
    """Send an event, or ask for the event that leads to a state. With `dry_run` it is judged and not done."""
    ref, control = ref_of(request, writes=True), control_of(request)
    exchange = exchange_of(request)
    wish = await read_json(exchange, TransitionWish)
    if not wish.to and not wish.event:
        raise InvalidParameter("name the event, or the state that it is to lead to: `event` or `to`")
    terms = terms_of(
        exchange, wish.reason, evidence=wish.evidence, initiator=wish.initiator, dry_run=wish.dry_run
    )
    written = await control.ledger.transition(
        ref, actor_of(exchange.caller), event=wish.event or None, to=wish.to or None, terms=terms
    )
    return written_answer(request, control, written)


async def resource_history(
    request: Asked,
    limit: Annotated[
        int, QueryParameter(name="limit", ge=1, le=HISTORY_MAX, description="Rows on a page")
    ] = HISTORY_DEFAULT,
    order: Annotated[
        str, QueryParameter(name="order", description="oldest first, or newest", pattern="^(oldest|newest)$")
    ] = "oldest",
    cursor: Annotated[
        int | None,
        QueryParameter(name="cursor", ge=1, le=10**15, description="Where to go on: a page's `cursor`"),
    ] = None,
) -> Answer:
    """All that was ever done to it, row by row; each row's hash covers the one before it."""
    ref, control = ref_of(request), control_of(request)
    page = await control.ledger.history(ref, cursor or 0, limit=limit, newest_first=order == "newest")
    return json_answer(
        HistoryPage(
            items=tuple(shown_entry(one) for one in page.entries),
            cursor=None if page.after_seq is None else str(page.after_seq),
            problems=tuple(str(one) for one in page.problems),
        )
    )


async def resource_allowed(request: Asked) -> Answer:
    """What the caller could ask of it now; what they could not, with why not."""
    ref, control = ref_of(request), control_of(request)
    state = await control.ledger.get(ref)
    options = await control.ledger.allowed(ref, actor_of(exchange_of(request).caller).roles)
    return json_answer(Allowed(status=state.status, items=tuple(options)))


async def resource_path(
    request: Asked,
    to: Annotated[str, QueryParameter(name="to", description="The state to come to", min_length=1)],
) -> Answer:
    """The shortest way from where it is to a state, and what each step will ask for."""
    ref, control = ref_of(request), control_of(request)
    state = await control.ledger.get(ref)
    machine = control.lifecycles.machine(state.lifecycle_table)
    steps = machine.path(state.status, to)
    return json_answer(Way(status=state.status, to=machine.lifecycle.canonical(to), steps=tuple(steps)))


async def place_hold(request: Asked) -> Answer:
    """Hold it: nothing more is done to it until its owner lets go, or `expires_at`."""
    ref, control = ref_of(request, writes=True), control_of(request)
    exchange = exchange_of(request)
    wish = await read_optional(request, HoldWish, HoldWish())
    written = await control.ledger.place_hold(
        ref,
        actor_of(exchange.caller),
        exchange.parameters["name"],
        expires_at=wish.expires_at,
        terms=terms_of(exchange, wish.reason, initiator=wish.initiator),
    )
    return written_answer(request, control, written)


async def lift_hold(
    request: Asked,
    override: Annotated[
        bool, QueryParameter(name="override", description="Lift another owner's hold; takes a reason")
    ] = False,
) -> Answer:
    """Let go. Another owner's hold takes `override=true` and a reason, and is on record."""
    ref, control = ref_of(request, writes=True), control_of(request)
    exchange = exchange_of(request)
    wish = await read_optional(request, Why, Why())
    written = await control.ledger.lift_hold(
        ref,
        actor_of(exchange.caller),
        exchange.parameters["name"],
        override=override,
        terms=terms_of(exchange, wish.reason, initiator=wish.initiator),
    )
    return written_answer(request, control, written)


async def reconcile_resource(request: Asked) -> Answer:
    """Look at it now; its failures so far no longer count."""
    return await _look_now(request, None)


async def retry_phase(request: Asked) -> Answer:
    """Try a phase again that failed. Steps that are done are not done again."""
    return await _look_now(request, exchange_of(request).parameters["name"])


async def _look_now(request: Asked, phase: str | None) -> Answer:
    ref, control = ref_of(request, writes=True), control_of(request)
    exchange = exchange_of(request)
    wish = await read_optional(request, Why, Why())
    if control.loop is None:
        raise NotReady("the reconcile loop does not run in this process", failed=["reconcile: not here"])
    state = await control.ledger.get(ref)
    if phase is not None:
        operation = state.operation
        current = operation.lifecycle_phase if operation is not None else None
        if current != phase:
            raise PhaseInvalid(f"{ref} is not in phase {phase[:64]!r}; it is in {current or 'none'}")
    state = await control.loop.reconcile(ref, actor_of(exchange.caller), wish.reason)
    shown = shown_resource(control, state, plane_of(request).clock.now())
    return json_answer(shown, 202, {"etag": tag_of(state.version)})


def _write_cursor(after: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(["r", after])).decode().rstrip("=")


def read_cursor(cursor: str) -> str:
    """The place in a list behind a cursor. Raises `CursorInvalid`."""
    try:
        text = base64.b64decode(
            cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        )
        word, after = msgspec.json.decode(text, type=tuple[str, str])
    except (binascii.Error, UnicodeError, msgspec.MsgspecError):
        word, after = "", ""
    if word != "r":
        raise CursorInvalid("the cursor is not one of ours; start the list again without it")
    return after
