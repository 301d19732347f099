"""What is recommended and decided, over HTTP: recommendations, policies and modes, the freeze switch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar.params import QueryParameter

from steersman.api.control import Control, actor_of, control_of, tag_of, terms_of
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of, read_json
from steersman.api.managed import read_optional, shown_resource, written_answer
from steersman.api.pages import FILTERS_MAX, read_labels
from steersman.api.problems import NotReady
from steersman.api.resources import PAGE_DEFAULT, Limit, read_cursor, read_page
from steersman.api.wishes import FreezeWish, ModeWish, SnoozeWish, Why
from steersman.kinds.advice import (
    FreezeInfo,
    ModeSet,
    PolicyBook,
    PolicyInfo,
    RecommendationInfo,
)
from steersman.kinds.managed import ManagedPage
from steersman.kinds.plane_resources import FREEZE_ID, RecommendationState
from steersman.kinds.state import ResourceRef

if TYPE_CHECKING:
    from steersman.act.advice.policies import PolicyView
    from steersman.act.advice.runner import Advice

FREEZE = ResourceRef("Freeze", FREEZE_ID)


def advice_of(control: Control) -> Advice:
    """The runner of policies. Raises `NotReady` where it does not run here."""
    if control.advice is None:
        raise NotReady("policies are not run by this process", failed=["advice: not in this process"])
    return control.advice


async def list_recommendations(
    request: Asked,
    status_: Annotated[
        list[str] | None,
        QueryParameter(name="status", description="proposed, approved, ...; may repeat", max_items=16),
    ] = None,
    policy: Annotated[str | None, QueryParameter(name="policy", description="Only of this policy")] = None,
    entity: Annotated[
        str | None, QueryParameter(name="entity", description="Only about the entity with this id")
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
    """Recommendations, as resources."""
    control = control_of(request)
    from steersman.state.ledger import Selection  # what is acted with is loaded where it is used

    labels = dict(read_labels(label or []))
    if policy is not None:
        labels["policy"] = policy
    wanted = Selection(labels=labels, status=tuple(status_ or ()))
    after = read_cursor(cursor) if cursor else None

    def is_about(state: Any) -> bool:
        return entity is None or _names(state, entity)

    page: ManagedPage = await read_page(
        plane_of(request), control, "Recommendation", wanted, is_about, limit, after
    )
    return json_answer(page)


def _names(state: Any, entity: str) -> bool:
    from steersman.act.advice.standing import key_of  # what is acted with is loaded where it is used

    return isinstance(state, RecommendationState) and key_of(state).entity_id == entity


async def get_recommendation(request: Asked) -> Answer:
    """One recommendation: what was proposed, why, on what facts, and what stands in the way."""
    control = control_of(request)
    state = await control.ledger.get(_recommendation(request))
    value = state.recommendation if isinstance(state, RecommendationState) else None
    needed = 0 if value is None else advice_of(control).desk.needed(value)
    shown = shown_resource(control, state, plane_of(request).clock.now())
    return json_answer(
        RecommendationInfo(resource=shown, needed=needed), headers={"etag": tag_of(state.version)}
    )


async def approve_recommendation(request: Asked) -> Answer:
    """Agree. With enough approvals for its risk it is carried out, if its guardrails still pass."""
    control, exchange = control_of(request), exchange_of(request)
    wish = await read_optional(request, Why, Why())
    terms = terms_of(exchange, wish.reason, initiator=wish.initiator)
    name = exchange.parameters["id"]
    written = await advice_of(control).desk.approve(name, actor_of(exchange.caller), terms)
    return written_answer(request, control, written)


async def reject_recommendation(request: Asked) -> Answer:
    """Say no."""
    control, exchange = control_of(request), exchange_of(request)
    wish = await read_optional(request, Why, Why())
    terms = terms_of(exchange, wish.reason, initiator=wish.initiator)
    name = exchange.parameters["id"]
    written = await advice_of(control).desk.reject(name, actor_of(exchange.caller), terms)
    return written_answer(request, control, written)


async def snooze_recommendation(request: Asked) -> Answer:
    """Ask nobody before a moment."""
    control, exchange = control_of(request), exchange_of(request)
    wish = await read_json(exchange, SnoozeWish)
    terms = terms_of(exchange, wish.reason, initiator=wish.initiator)
    name = exchange.parameters["id"]
    written = await advice_of(control).desk.snooze(name, actor_of(exchange.caller), wish.until, terms)
    return written_answer(request, control, written)


async def list_policies(request: Asked) -> Answer:
    """Policies, their modes, and files that could not be read."""
    policies = advice_of(control_of(request)).policies
    book = PolicyBook(items=tuple(map(_policy, policies.views())), problems=tuple(policies.problems))
    return json_answer(book)


async def get_policy(request: Asked) -> Answer:
    """One policy."""
    view = advice_of(control_of(request)).policies.view(exchange_of(request).parameters["name"])
    return json_answer(_policy(view), headers={"etag": tag_of(view.state.version)})


async def set_policy_mode(request: Asked) -> Answer:
    """Say how far a policy may go; takes a reason."""
    control, exchange = control_of(request), exchange_of(request)
    wish = await read_json(exchange, ModeWish)
    policies = advice_of(control).policies
    name = exchange.parameters["name"]
    terms = terms_of(exchange, wish.reason, initiator=wish.initiator)
    written = await policies.set_mode(name, wish.mode, actor_of(exchange.caller), terms)
    answer = _policy(policies.view(name))
    if written is not None:  # the runner's own copy follows the store, and may be a moment behind
        answer = msgspec.structs.replace(answer, mode=written.state.status, version=written.state.version)
    return json_answer(
        ModeSet(policy=answer, changed=written is not None), headers={"etag": tag_of(answer.version)}
    )


async def get_freeze(request: Asked) -> Answer:
    """Whether acting is frozen."""
    return await _freeze_answer(control_of(request))


async def set_freeze(request: Asked) -> Answer:
    """Freeze all that the plane does by itself, or let it go on; takes a reason."""
    control, exchange = control_of(request), exchange_of(request)
    from steersman.act.advice.freeze import freeze, thaw  # what is acted with is loaded where it is used

    wish = await read_json(exchange, FreezeWish)
    terms = terms_of(exchange, wish.reason, initiator=wish.initiator)
    throw = freeze if wish.frozen else thaw
    await throw(
        control.ledger, actor_of(exchange.caller), terms.reason, idempotency_key=terms.idempotency_key
    )
    return await _freeze_answer(control)


async def _freeze_answer(control: Control) -> Answer:
    state = await control.ledger.get(FREEZE)
    page = await control.ledger.history(FREEZE, limit=1, newest_first=True)
    last = page.entries[0] if page.entries else None
    answer = FreezeInfo(
        frozen=state.status == "frozen",
        since=state.status_since,
        by="" if last is None else last.actor,
        reason="" if last is None else last.reason,
        version=state.version,
    )
    return json_answer(answer, headers={"etag": tag_of(state.version)})


def _recommendation(request: Asked) -> ResourceRef:
    return ResourceRef("Recommendation", exchange_of(request).parameters["id"])


def _policy(view: PolicyView) -> PolicyInfo:
    return PolicyInfo(
        name=view.name,
        mode=view.mode,
        policy=view.policy,
        carried_out=view.carried_out,
        open=view.open,
        failures=view.failures,
        place=view.state.place,
        version=view.state.version,
    )
