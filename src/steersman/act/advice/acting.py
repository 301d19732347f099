"""Carrying recommendations out: the manager of the kind `Recommendation`, for the one reconcile loop.

It looks at one recommendation and takes the next step; what it needs to know is in the resource, so a crash
between any two commits is taken up where it was left:

    proposed ──approve──► approved ──apply (with its draws)──► applying ──succeed──► applied

- `approved → applying` is one commit: guardrails were asked again on the facts of this moment, the freeze is
  checked by the Ledger, and the places in cooldown and blast radius are taken in it.
- In `applying` the action is begun with the recommendation's id as idempotency key; that it was begun is then
  kept with the recommendation, and from there on it is only looked at.
- It is applied once the resource is where it was meant to go. It failed where it does not get there by the
  deadline. It is superseded where somebody else has set another intent since: theirs is newer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from steersman.act.advice.actions import ACTIONS, Action, Order, action_of, needs_target
from steersman.act.advice.api import Evaluator
from steersman.act.advice.book import OPEN, Book, key_of
from steersman.act.advice.recommending import actor_of
from steersman.act.advice.standing import BLAST, CAPACITY, COOLDOWN, Standings
from steersman.act.reconcile.api import After, Done, Outcome, Stuck, Turn
from steersman.kernel.errors import InvalidInput, NotFound, Refused, SteersmanError
from steersman.kinds.axes import OperationPhase, Truth
from steersman.kinds.command import LOOP, TIMER, Evidence, Terms
from steersman.kinds.deciding import Recheck, Seen
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.lifecycle import Lifecycle, StateClass
from steersman.kinds.plane_resources import DISABLED, RecommendationState
from steersman.kinds.policy import (
    APPLYING_MAX_S,
    Guardrail,
    GuardrailVerdict,
    Policy,
    PolicyMode,
    Recommendation,
    RecommendationStatus,
    Verdict,
    approvals_needed,
    may_act_alone,
)
from steersman.kinds.refusal import BudgetExhausted, Fenced, Frozen, GuardFailed, VersionConflict
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.state.ledger import Ledger
from steersman.store.api import LeaseExpired

RECHECK_S = 10.0
"""What a guardrail stopped is looked at again after so long; nothing is written where it says the same."""
IDLE_MAX_S = 3600.0
"""How long its resource may stand still before the recommendation counts as failed. In an active state it
does not: that has a deadline of its own."""
FOLLOW_S = 2.0
"""How often a resource is looked at on its way."""
PROGRESS = "apply"
"""Under this name the recommendation keeps that its action was begun."""

ACCOUNTS = {
    COOLDOWN: Guardrail.COOLDOWN,
    BLAST: Guardrail.BLAST_RADIUS,
    CAPACITY: Guardrail.CAPACITY_FLOOR,
}

_PASSING = (VersionConflict, Fenced, LeaseExpired)


class RecommendationManager:
    """The manager. `evaluator` is asked for at each look, since loading policies makes a new one; `seen`
    gives an entity as it is now; `policies` are the loaded ones by name."""

    kind: ClassVar[str] = "Recommendation"

    def __init__(
        self,
        ledger: Ledger,
        book: Book,
        standings: Standings,
        *,
        evaluator: Callable[[], Evaluator],
        seen: Callable[[EntityKey], Seen | None],
        policies: Mapping[str, Policy],
        lifecycle_of: Callable[[str], Lifecycle],
        actions: Mapping[str, Action] = ACTIONS,
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._standings = standings
        self._evaluator = evaluator
        self._seen = seen
        self._policies = policies
        self._actions = actions
        self._lifecycle_of = lifecycle_of

    async def reconcile(self, turn: Turn) -> Outcome:
        """Take the next step. Raises the Ledger's errors that mean that the picture is old, and the
        store's."""
        state = turn.state
        if not isinstance(state, RecommendationState) or state.recommendation is None:
            return Done()
        match state.status:
            case RecommendationStatus.PROPOSED | RecommendationStatus.APPROVED:
                if turn.now >= expires_at(state):
                    terms = Terms(reason="nobody acted on it in time", expected_version=state.version)
                    await self._ledger.transition(
                        _ref(state), TIMER, event="expire", terms=terms, held=turn.held
                    )
                    return Done()
                return await self._before(state, state.recommendation, turn)
            case RecommendationStatus.APPLYING:
                return await self._apply(state, state.recommendation, turn)
            case _:
                return Done()

    def settled(self, state: ResourceState, now: datetime) -> bool:
        """Decided for good: nothing is to be done any more."""
        return state.status not in OPEN

    def due(self, state: ResourceState, now: datetime) -> datetime | None:
        """When it expires, when its snooze is over, or when its action must have ended."""
        if not isinstance(state, RecommendationState) or state.recommendation is None:
            return None
        times: list[datetime] = []
        if state.status == RecommendationStatus.APPLYING:
            times = [state.status_since + timedelta(seconds=APPLYING_MAX_S)]
        elif state.status in OPEN:
            times = [expires_at(state), *([state.snoozed_until] if state.snoozed_until else [])]
        return min((when for when in times if when > now), default=None)

    def relatives(self, state: ResourceState) -> Sequence[ResourceRef]:
        """The Node that it is about."""
        target = self.target(state) if isinstance(state, RecommendationState) else None
        return () if target is None else (target,)

    def target(self, state: RecommendationState) -> ResourceRef | None:
        """The resource that its action is done to; None where the inventory has none for its entity."""
        if state.recommendation is None:
            return None
        key = key_of(state)
        if key.entity_type is not EntityType.NODE:
            return None
        node = self._book.node(key.scope, key.entity_id)
        return None if node is None else ResourceRef("Node", node.id)

    # ---- before it acts

    async def _before(self, state: RecommendationState, value: Recommendation, turn: Turn) -> Outcome:
        policy, mode = self._policies.get(value.policy), self._mode(value)
        if policy is None or mode is None:
            return Stuck("its policy is not loaded, or disabled", "somebody who enables it")
        if mode is PolicyMode.OBSERVE_ONLY:
            return Stuck("its policy only observes", "somebody who raises its mode")
        proposed = state.status == RecommendationStatus.PROPOSED
        alone = mode is PolicyMode.CONTROLLED_AUTO_ACT and may_act_alone(policy)
        if proposed and (not alone or _is_snoozed(state, turn.now)):
            return Done()  # people are asked
        checked = self._recheck(state, value, policy, auto=proposed)
        if checked.truth is Truth.FALSE:
            why = f"it no longer holds{': ' + checked.why if checked.why else ''}"
            await self._transition(state, "supersede", actor_of(policy.name), why, turn)
            return Done()
        stops = self._stops(state, checked)
        if stops:
            return await self._stopped(state, stops, turn)
        if proposed:
            return await self._approve_alone(state, policy, checked, turn)
        return await self._begin(state, value, policy, checked, turn)

    def _recheck(
        self, state: RecommendationState, value: Recommendation, policy: Policy, *, auto: bool
    ) -> Recheck:
        key = key_of(state)
        # Acting alone stands for all approvals; that it may is asked before.
        approvals = approvals_needed(policy) if auto else max(1, len(state.approved_by))
        if not auto and state.approved_by == [actor_of(policy.name).name]:
            approvals = approvals_needed(policy)
        standing = self._standings.of(policy, value, key, approvals)
        return self._evaluator().recheck(value, self._seen(key), standing)

    def _stops(self, state: RecommendationState, checked: Recheck) -> tuple[GuardrailVerdict, ...]:
        """The verdicts, where one of them is against it; else none. That the condition can't be told now is
        a stop too: of staleness."""
        verdicts = checked.verdicts
        told = any(
            v.guardrail is Guardrail.MAX_STALENESS and v.verdict is not Verdict.PASSED for v in verdicts
        )
        if checked.truth is Truth.UNKNOWN and not told:
            named = ", ".join(f"{m.field} is {m.why}" for m in checked.facts_missing) or "facts are missing"
            verdicts = (
                *(v for v in verdicts if v.guardrail is not Guardrail.MAX_STALENESS),
                GuardrailVerdict(
                    guardrail=Guardrail.MAX_STALENESS,
                    verdict=Verdict.UNKNOWN,
                    detail=f"whether it still holds can't be told: {named}",
                    checked_at=state.updated_at if not verdicts else verdicts[0].checked_at,
                ),
            )
        return verdicts if any(v.verdict is not Verdict.PASSED for v in verdicts) else ()

    async def _stopped(
        self,
        state: RecommendationState,
        verdicts: tuple[GuardrailVerdict, ...],
        turn: Turn,
        again_s: float = RECHECK_S,
    ) -> Outcome:
        """Put on record what stops it, once for as long as it is the same."""
        stops = [v for v in verdicts if v.verdict is not Verdict.PASSED]
        told = "; ".join(f"{v.guardrail.value}: {v.detail}" for v in stops)
        if _said(verdicts) != _said(state.guardrails):
            terms = Terms(reason=f"stopped by {told}"[:2048], expected_version=state.version)
            await self._ledger.change_spec(
                _ref(state), LOOP, fields={"guardrails": verdicts}, terms=terms, held=turn.held
            )
        return After(again_s, f"stopped by {told}")

    async def _approve_alone(
        self, state: RecommendationState, policy: Policy, checked: Recheck, turn: Turn
    ) -> Outcome:
        actor = actor_of(policy.name)
        terms = Terms(
            reason=f"mode {PolicyMode.CONTROLLED_AUTO_ACT.value}; every guardrail passed",
            expected_version=state.version,
            approvals=(actor.name,),
            facts=checked.facts_read,
            acting=True,
        )
        fields: dict[str, Any] = {"approved_by": [actor.name], "guardrails": checked.verdicts}
        try:
            await self._ledger.transition(
                _ref(state), actor, event="approve", fields=fields, terms=terms, held=turn.held
            )
        except Frozen as error:
            return await self._stopped(state, _against(checked, Guardrail.FREEZE_WINDOW, error, turn), turn)
        return After(0.0, "approved")

    async def _begin(
        self,
        state: RecommendationState,
        value: Recommendation,
        policy: Policy,
        checked: Recheck,
        turn: Turn,
    ) -> Outcome:
        """Take it to `applying`, with its places in the budgets, in one commit."""
        action_of(value.action, self._actions)
        if needs_target(value.action) and self.target(state) is None:
            return Stuck(f"no resource stands for {value.entity}", "somebody who puts it into the inventory")
        terms = Terms(
            reason="every guardrail passed at the moment of acting",
            expected_version=state.version,
            cause=state.id,
            facts=checked.facts_read,
            approvals=tuple(state.approved_by),
            draws=self._standings.draws(policy, value, key_of(state)),
            acting=True,
        )
        fields: dict[str, Any] = {"guardrails": checked.verdicts}
        try:
            written = await self._ledger.transition(
                _ref(state), LOOP, event="apply", fields=fields, terms=terms, held=turn.held
            )
            self._book.note(written.state)  # whoever is next counts it
        except Frozen as error:
            return await self._stopped(state, _against(checked, Guardrail.FREEZE_WINDOW, error, turn), turn)
        except BudgetExhausted as error:
            guardrail = ACCOUNTS.get(str(error.facts.get("budget", "")).split("/")[0], Guardrail.BLAST_RADIUS)
            again_s = max(RECHECK_S, float(error.facts.get("retry_after_s") or RECHECK_S))
            return await self._stopped(state, _against(checked, guardrail, error, turn), turn, again_s)
        return After(0.0, "to be carried out")

    # ---- acting

    async def _apply(self, state: RecommendationState, value: Recommendation, turn: Turn) -> Outcome:
        begun = (state.pipeline_progress or {}).get(PROGRESS)
        try:
            action = action_of(value.action, self._actions)
        except InvalidInput as error:
            return await self._fail(state, error.detail, turn)
        target = self.target(state)
        if begun is not None:
            ref = ResourceRef.parse(begun["target"]) if begun.get("target") else None
            outcome = await self._look(state, action.wanted(value.action.parameters), ref, begun, turn)
            if outcome is not None:
                return outcome
        late = self._late(state, target, turn.now)
        if late:
            terms = Terms(reason=late, expected_version=state.version)
            await self._ledger.transition(_ref(state), TIMER, event="fail", terms=terms, held=turn.held)
            return Done()
        if begun is not None:
            return After(FOLLOW_S, "the resource is on its way")
        if target is None and needs_target(value.action):
            return await self._fail(state, f"no resource stands for {value.entity}", turn)
        return await self._carry_out(state, value, action, target, turn)

    def _late(self, state: RecommendationState, target: ResourceRef | None, now: datetime) -> str:
        """Why it is too late; empty where it is not."""
        if now >= state.status_since + timedelta(seconds=APPLYING_MAX_S):
            return f"it did not come to its end within {APPLYING_MAX_S:g} s"
        since = state.status_since
        found = self._book.find(target) if target is not None else None
        if found is not None:
            try:
                here = self._lifecycle_of(found.lifecycle_table).state(found.status)
            except SteersmanError:
                return ""  # its table is not loaded: its resource can't be judged
            if here.state_class is StateClass.ACTIVE:
                return ""
            since = max(since, found.status_since)
        if now < since + timedelta(seconds=IDLE_MAX_S):
            return ""
        where = f"{target} is {found.status}" if found is not None else "nothing happened"
        return f"{where} for {IDLE_MAX_S:g} s, and it was to be taken further"

    async def _carry_out(
        self,
        state: RecommendationState,
        value: Recommendation,
        action: Action,
        target: ResourceRef | None,
        turn: Turn,
    ) -> Outcome:
        generation = 0
        if target is not None:
            try:
                after = await action.begin(_order(state, value, target, turn), self._ledger)
            except _PASSING:
                raise
            except Frozen as error:
                return After(RECHECK_S, error.detail)
            except (Refused, InvalidInput, NotFound, GuardFailed) as error:
                return await self._fail(state, f"{target} refused: {error.detail}", turn)
            if after is not None:
                self._book.note(after)
                generation = after.generation
        progress = {"target": str(target) if target is not None else "", "generation": generation}
        await self._ledger.record_progress(
            _ref(state), LOOP, PROGRESS, progress, terms=Terms(reason="the action was begun"), held=turn.held
        )
        return After(0.0, "begun")

    async def _look(
        self,
        state: RecommendationState,
        wanted: str | None,
        ref: ResourceRef | None,
        begun: Mapping[str, Any],
        turn: Turn,
    ) -> Outcome | None:
        """How far the resource is; None where it is still on its way."""
        if wanted is None or ref is None:
            return await self._end(state, "succeed", "it was carried out", turn)
        found = await self._ledger.find(ref)
        if found is None:
            return await self._end(state, "overtake", f"{ref} is gone", turn)
        if found.generation != begun["generation"]:
            who = found.desired_by or "somebody"
            why = f"{who} has set the intent of {ref} to {found.desired_status} since"
            return await self._end(state, "overtake", why, turn)
        if found.is_converged():
            return await self._end(state, "succeed", f"{ref} is {found.status}", turn)
        operation = found.operation
        if found.retry is not None and found.retry.exhausted:
            return await self._fail(state, f"{ref} does not get to {wanted}: {found.retry.error}", turn)
        if operation is not None and operation.phase is OperationPhase.FAILED:
            return await self._fail(state, f"{ref} failed on its way to {wanted}: {operation.detail}", turn)
        return None

    async def _fail(self, state: RecommendationState, reason: str, turn: Turn) -> Outcome:
        return await self._end(state, "fail", reason, turn)

    async def _end(self, state: RecommendationState, event: str, reason: str, turn: Turn) -> Outcome:
        await self._transition(state, event, LOOP, reason, turn)
        return Done()

    async def _transition(
        self, state: RecommendationState, event: str, actor: Any, reason: str, turn: Turn
    ) -> None:
        terms = Terms(reason=reason[:2048], expected_version=state.version)
        written = await self._ledger.transition(_ref(state), actor, event=event, terms=terms, held=turn.held)
        self._book.note(written.state)

    def _mode(self, value: Recommendation) -> PolicyMode | None:
        state = self._book.policy(value.policy)
        if state is None or state.status == DISABLED:
            return None
        return PolicyMode(state.status)


def expires_at(state: RecommendationState) -> datetime:
    """When it is too late to act on it: while it is snoozed it does not expire."""
    value = state.recommendation
    if value is None:
        return state.created_at
    return max(value.expires_at, state.snoozed_until or value.expires_at)


def _order(state: RecommendationState, value: Recommendation, target: ResourceRef, turn: Turn) -> Order:
    """Made of what never changes, so that a repetition is recognised as one."""
    evidence = Evidence(
        kind="recommendation",
        ref=state.id,
        detail=value.reason[:4096],
        observed_at=value.created_at,
        data={"policy": value.policy, "policy_version": value.policy_version, "entity": value.entity},
    )
    terms = Terms(
        reason=(value.reason or f"policy {value.policy}")[:2048],
        idempotency_key=state.id,
        cause=state.id,
        facts=value.facts_read,
        evidence=(evidence,),
        approvals=tuple(state.approved_by),
        acting=True,
    )
    return Order(
        target=target,
        action=value.action,
        actor=actor_of(value.policy),
        terms=terms,
        since=value.created_at,
        held=turn.held,
    )


def _against(
    checked: Recheck, guardrail: Guardrail, error: SteersmanError, turn: Turn
) -> tuple[GuardrailVerdict, ...]:
    """The verdicts, with the Ledger's word in place of the guardrail's own."""
    said = GuardrailVerdict(
        guardrail=guardrail,
        verdict=Verdict.STOPPED,
        detail=error.detail,
        checked_at=turn.now,
    )
    return (*(v for v in checked.verdicts if v.guardrail is not guardrail), said)


def _said(verdicts: Sequence[GuardrailVerdict]) -> set[tuple[str, str]]:
    return {(v.guardrail.value, v.verdict.value) for v in verdicts if v.verdict is not Verdict.PASSED}


def _is_snoozed(state: RecommendationState, now: datetime) -> bool:
    return state.snoozed_until is not None and now < state.snoozed_until


def _ref(state: RecommendationState) -> ResourceRef:
    return ResourceRef("Recommendation", state.id)
