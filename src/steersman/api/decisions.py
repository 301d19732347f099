"""What is recommended and decided, over HTTP: recommendations, policies and modes, the freeze switch."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar.params import QueryParameter
from msgspec import Struct

from steersman.api.control import Control, actor_of, control_of, tag_of, terms_of
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of, read_json
from steersman.api.managed import read_optional, shown_resource, written_answer
from steersman.api.pages import FILTERS_MAX, read_labels
from steersman.api.problems import NotReady
from steersman.api.resources import PAGE_DEFAULT, Limit, ResourceList, read_cursor, read_page
from steersman.api.wishes import FreezeWish, ModeWish, SnoozeWish, TextWish, Why
from steersman.kinds.axes import Truth
from steersman.kinds.entity import EntityType
from steersman.kinds.plane_resources import FREEZE_ID, RecommendationState
from steersman.kinds.policy import FactMissing, FactRead, Policy
from steersman.kinds.state import ResourceRef

if TYPE_CHECKING:
    from steersman.act.advice.api import Rules
    from steersman.act.advice.policies import PolicyView
    from steersman.act.advice.runner import Advice
    from steersman.api.plane import Plane
    from steersman.kinds.deciding import PolicyProblem

FREEZE = ResourceRef("Freeze", FREEZE_ID)
DRY_RUN_ENTITIES_MAX = 20_000
DRY_RUN_TOLD_MAX = 500
"""Verdicts that a dry run tells one by one; all of them are counted."""
DRY_RUN_SLICE = 256
WHYS_TOLD = 5


class RecommendationAnswer(Struct, frozen=True):
    """A recommendation as a resource, and how many people must agree to it."""

    resource: dict[str, Any]
    needed: int


class PolicyAnswer(Struct, frozen=True):
    """A policy. `policy` is null where it is no longer loaded. `carried_out`: whether its action can be.
    `open`: recommendations of it that wait; `failures`: in a row."""

    name: str
    mode: str
    policy: Policy | None
    carried_out: bool
    open: int
    failures: int
    place: str
    version: int


class PolicyFault(Struct, frozen=True):
    """Why a policy, or a file of them, was left out."""

    file: str
    detail: str
    line: int = 0
    column: int = 0
    policy: str = ""


class PolicyList(Struct, frozen=True):
    """All policies, and what could not be loaded."""

    items: list[PolicyAnswer]
    problems: list[PolicyFault]


class ModeAnswer(Struct, frozen=True):
    """A policy and its mode now. `changed`: whether it had another before."""

    policy: PolicyAnswer
    changed: bool


class FreezeAnswer(Struct, frozen=True):
    """The freeze switch: whether acting is frozen; since when, by whom and why it is as it is."""

    frozen: bool
    since: datetime
    by: str
    reason: str
    version: int


class PolicyVerdict(Struct, frozen=True):
    """What a policy says of one entity now, without its `for`."""

    policy: str
    entity_type: str
    entity_id: str
    scope: str
    truth: Truth
    why: str = ""
    reason: str = ""
    action: str = ""
    facts_read: tuple[FactRead, ...] = ()
    facts_missing: tuple[FactMissing, ...] = ()


class PolicyCount(Struct, frozen=True):
    """A policy over all entities that match it: how many it holds of, does not, and can't be told of; `whys`
    are the commonest reasons why not."""

    policy: str
    entity_type: str
    matched: int
    true: int
    false: int
    unknown: int
    for_s: float
    whys: dict[str, int]


class DryRunAnswer(Struct, frozen=True):
    """What policies would say now. Nothing is loaded and nothing is proposed. `entities`: how many were
    looked at; `verdicts`: those it holds of or that can't be told, up to a bound (`cut`)."""

    entities: int
    policies: list[PolicyCount]
    verdicts: list[PolicyVerdict]
    problems: list[PolicyFault]
    cut: bool = False


class CoverageAnswer(Struct, frozen=True):
    """What the loaded policies can see: for each, how many entities match and of how many it can tell."""

    entities: int
    policies: list[PolicyCount]


def advice_of(control: Control) -> Advice:
    """The runner of policies. Raises `NotReady` where it does not run here."""
    if control.advice is None:
        raise NotReady("policies are not run by this process", failed=["advice: not in this process"])
    return control.advice


def _rules(control: Control) -> Rules:
    if control.rules is None:
        raise NotReady("policies are not read by this process", failed=["policies: not in this process"])
    return control.rules


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

    page: ResourceList = await read_page(
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
    return json_answer(RecommendationAnswer(shown, needed), headers={"etag": tag_of(state.version)})


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
    problems = list(map(_problem, policies.problems))
    return json_answer(PolicyList(list(map(_policy, policies.views())), problems))


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
    return json_answer(ModeAnswer(answer, written is not None), headers={"etag": tag_of(answer.version)})


async def dry_run_policies(request: Asked) -> Answer:
    """What a text of policies would say of the fleet as it is now."""
    control = control_of(request)
    rules, advice = _rules(control), advice_of(control)
    wish = await read_json(exchange_of(request), TextWish)
    reading = rules.read(wish.text, wish.file)
    counts, verdicts, looked, cut = await _look(
        plane_of(request), advice, rules, [one.policy for one in reading.policies]
    )
    problems = list(map(_problem, reading.problems))
    return json_answer(DryRunAnswer(looked, counts, verdicts, problems, cut))


async def policy_coverage(request: Asked) -> Answer:
    """What the loaded policies can tell of the fleet as it is now."""
    control = control_of(request)
    rules, advice = _rules(control), advice_of(control)
    loaded = [view.policy for view in advice.policies.views() if view.policy is not None]
    counts, _, looked, _ = await _look(plane_of(request), advice, rules, loaded)
    return json_answer(CoverageAnswer(looked, counts))


async def _look(
    plane: Plane, advice: Advice, rules: Rules, policies: list[Policy]
) -> tuple[list[PolicyCount], list[PolicyVerdict], int, bool]:
    """Evaluate policies over what is observed now, without their `for`: there was no time to wait."""
    at_once = [msgspec.structs.replace(one, for_s=0.0) for one in policies]
    evaluator = rules.evaluator(at_once)
    kinds = {one.match.entity_type for one in policies}
    tallies = {one.name: _Tally(one) for one in policies}
    verdicts: list[PolicyVerdict] = []
    looked, cut, now = 0, False, plane.clock.now()
    for kind in (kind for kind in EntityType if kind in kinds):
        for entity in plane.bus.entities(kind):
            seen = advice.seen(entity.key)
            if seen is None:
                continue
            looked += 1
            for finding in evaluator.look([seen], now):
                tallies[finding.policy].count(finding)
                if finding.truth is Truth.FALSE:
                    continue
                cut = cut or len(verdicts) >= DRY_RUN_TOLD_MAX
                if not cut:
                    verdicts.append(_verdict(finding))
            if looked % DRY_RUN_SLICE == 0:
                await plane.clock.sleep(0)
            if looked >= DRY_RUN_ENTITIES_MAX:
                return [one.result() for one in tallies.values()], verdicts, looked, True
    return [one.result() for one in tallies.values()], verdicts, looked, cut


class _Tally:
    """Counts what one policy says."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._counts = dict.fromkeys(Truth, 0)
        self._whys: dict[str, int] = {}

    def count(self, finding: Any) -> None:
        self._counts[finding.truth] += 1
        if finding.truth is Truth.UNKNOWN and (finding.why in self._whys or len(self._whys) < 1000):
            self._whys[finding.why] = self._whys.get(finding.why, 0) + 1

    def result(self) -> PolicyCount:
        common = sorted(self._whys.items(), key=lambda one: (-one[1], one[0]))[:WHYS_TOLD]
        true, false, unknown = (self._counts[one] for one in (Truth.TRUE, Truth.FALSE, Truth.UNKNOWN))
        policy = self._policy
        return PolicyCount(
            policy=policy.name,
            entity_type=policy.match.entity_type.value,
            matched=true + false + unknown,
            true=true,
            false=false,
            unknown=unknown,
            for_s=policy.for_s,
            whys=dict(common),
        )


def _verdict(finding: Any) -> PolicyVerdict:
    key, value = finding.key, finding.recommendation
    return PolicyVerdict(
        policy=finding.policy,
        entity_type=key.entity_type.value,
        entity_id=key.entity_id,
        scope=key.scope,
        truth=finding.truth,
        why=finding.why,
        reason="" if value is None else value.reason,
        action="" if value is None else value.action.name,
        facts_read=() if value is None else value.facts_read,
        facts_missing=() if value is None else value.facts_missing,
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
    answer = FreezeAnswer(
        frozen=state.status == "frozen",
        since=state.status_since,
        by="" if last is None else last.actor,
        reason="" if last is None else last.reason,
        version=state.version,
    )
    return json_answer(answer, headers={"etag": tag_of(state.version)})


def _recommendation(request: Asked) -> ResourceRef:
    return ResourceRef("Recommendation", exchange_of(request).parameters["id"])


def _policy(view: PolicyView) -> PolicyAnswer:
    return PolicyAnswer(
        name=view.name,
        mode=view.mode,
        policy=view.policy,
        carried_out=view.carried_out,
        open=view.open,
        failures=view.failures,
        place=view.state.place,
        version=view.state.version,
    )


def _problem(one: PolicyProblem) -> PolicyFault:
    return PolicyFault(one.file, one.detail, one.line, one.column, one.policy)
