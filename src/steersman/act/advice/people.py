"""What people do with recommendations: approve, reject, snooze. Each is on record with their name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from steersman.act.advice.actions import ACTIONS, Action, action_of
from steersman.act.advice.book import Book
from steersman.kernel.clock import Clock, as_utc, iso_utc
from steersman.kernel.errors import InvalidInput, Refused
from steersman.kinds.command import Actor, Terms, Written
from steersman.kinds.plane_resources import DISABLED, RecommendationState
from steersman.kinds.policy import (
    APPROVALS_BY_RISK,
    Policy,
    PolicyMode,
    Recommendation,
    RecommendationStatus,
    approvals_needed,
)
from steersman.kinds.refusal import NotAllowed, ResourceNotFound
from steersman.kinds.state import ResourceRef
from steersman.state.ledger import Ledger

SNOOZE_MAX_S = 30 * 86_400.0


class PolicyObserves(Refused):
    """The recommendation's policy only observes, or is disabled: nothing of it is carried out.
    `facts`: `policy`, `mode`."""

    code = "policy_observes"
    title = "Policy only observes"


class ApprovedAlready(Refused):
    """This person has agreed already and counts once. `facts`: `approved_by`, `needed`."""

    code = "approved_already"
    title = "Approved already"


class SnoozeInvalid(InvalidInput):
    """A snooze must end in the future, and not too far in it. `facts`: `until`."""

    code = "snooze_invalid"
    title = "Snooze invalid"


class Desk:
    """Takes people's decisions to the Ledger, which judges them once more. `policies` are the loaded ones."""

    def __init__(
        self,
        ledger: Ledger,
        book: Book,
        clock: Clock,
        policies: Mapping[str, Policy],
        actions: Mapping[str, Action] = ACTIONS,
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._clock = clock
        self._policies = policies
        self._actions = actions

    async def approve(self, name: str, actor: Actor, terms: Terms) -> Written:
        """Agree. With enough approvals for its risk it is approved; before that, it is put on record who
        agreed. `terms` brings reason, expected version and idempotency key.

        Raises `PolicyObserves`, `ApprovedAlready`, `ActionUnknown`, `ResourceNotFound`, and the Ledger's
        refusals (`NotAllowed` where it is no longer proposed).
        """
        state, value = await self._get(name)
        self._may_be_carried_out(value)
        ref = ResourceRef("Recommendation", name)
        agreed = [*(who for who in state.approved_by if who != actor.name), actor.name]
        needed = self.needed(value)
        terms = replace(terms, approvals=tuple(agreed))
        if len(agreed) >= needed:
            fields: dict[str, Any] = {"approved_by": agreed, "snoozed_until": None}
            return self._noted(
                await self._ledger.transition(ref, actor, event="approve", fields=fields, terms=terms)
            )
        if actor.name in state.approved_by and terms.idempotency_key is None:
            raise ApprovedAlready(
                f"{actor.name} has approved {name} already; {needed} different people must",
                approved_by=list(state.approved_by),
                needed=needed,
            )
        self._must_be_open(state, "approve")
        return self._noted(
            await self._ledger.change_spec(ref, actor, fields={"approved_by": agreed}, terms=terms)
        )

    async def reject(self, name: str, actor: Actor, terms: Terms) -> Written:
        """Say no. The same is not recommended again for an hour. Raises `ResourceNotFound` and the Ledger's
        refusals."""
        ref = ResourceRef("Recommendation", name)
        return self._noted(await self._ledger.transition(ref, actor, event="reject", terms=terms))

    async def snooze(self, name: str, actor: Actor, until: datetime | None, terms: Terms) -> Written:
        """Ask nobody before `until`, nor act by itself; None asks again at once. It does not expire while it
        is snoozed. Raises `SnoozeInvalid`, `ResourceNotFound`, `NotAllowed` and the Ledger's refusals."""
        state, _ = await self._get(name)
        now = self._clock.now()
        if until is not None:
            until = as_utc(until)
            if not now < until <= now + timedelta(seconds=SNOOZE_MAX_S):
                raise SnoozeInvalid(
                    f"a snooze ends in the future, within {SNOOZE_MAX_S / 86_400:g} days; {iso_utc(until)}"
                    " does not",
                    until=iso_utc(until),
                )
        self._must_be_open(state, "snooze")
        ref = ResourceRef("Recommendation", name)
        return self._noted(
            await self._ledger.change_spec(ref, actor, fields={"snoozed_until": until}, terms=terms)
        )

    def needed(self, value: Recommendation) -> int:
        """How many people must agree."""
        policy = self._policies.get(value.policy)
        return APPROVALS_BY_RISK[value.risk] if policy is None else approvals_needed(policy)

    def _noted(self, written: Written) -> Written:
        if not written.dry_run:
            self._book.note(written.state)
        return written

    async def _get(self, name: str) -> tuple[RecommendationState, Recommendation]:
        state = await self._ledger.get(ResourceRef("Recommendation", name))
        if not isinstance(state, RecommendationState) or state.recommendation is None:
            raise ResourceNotFound(f"{name} holds no recommendation", kind="Recommendation", id=name)
        return state, state.recommendation

    def _may_be_carried_out(self, value: Recommendation) -> None:
        state = self._book.policy(value.policy)
        mode = state.status if state is not None else DISABLED
        if mode in (DISABLED, PolicyMode.OBSERVE_ONLY):
            raise PolicyObserves(
                f"policy {value.policy} is in mode {mode}: its recommendations are for reading;"
                f" `steersman policy set {value.policy} recommend_with_approval` lets them be approved",
                policy=value.policy,
                mode=str(mode),
            )
        action_of(value.action, self._actions)

    def _must_be_open(self, state: RecommendationState, event: str) -> None:
        if state.status != RecommendationStatus.PROPOSED:
            raise NotAllowed(
                f"{state.id} is {state.status}; only what is proposed can be {event}d",
                current=state.status,
                event=event,
                allowed=[],
                lifecycle="recommendation",
            )
