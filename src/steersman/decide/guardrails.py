"""What can stop an action, as pure functions of the facts of this moment.

A guardrail that can't tell stops like one that says no. The counts here tell early why something will not
pass; what makes the bounds hold under any number of faults at once are the draws that the Ledger counts in
the acting commit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from steersman.decide.rules import Judgement
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Seen, Standing
from steersman.kinds.policy import (
    Guardrail,
    GuardrailVerdict,
    Policy,
    Verdict,
    approvals_needed,
    places_of,
)

Answer = tuple[Verdict, str]

STANDING = ("conditions", "labels", "resource")
"""Words that are said once and hold until they are taken back: their age is no staleness. What is observed is
said again and again."""


def check(
    policy: Policy, judged: Judgement, seen: Seen | None, standing: Standing
) -> tuple[GuardrailVerdict, ...]:
    """Every guardrail's verdict, in the order of `Guardrail`."""
    return tuple(
        GuardrailVerdict(guardrail=guardrail, verdict=verdict, detail=detail, checked_at=standing.now)
        for guardrail in Guardrail
        for verdict, detail in (CHECKS[guardrail](policy, judged, seen, standing),)
    )


def _min_confidence(policy: Policy, _judged: Judgement, seen: Seen | None, _standing: Standing) -> Answer:
    if seen is None:
        return Verdict.UNKNOWN, "the entity is not known any more"
    score = seen.entity.confidence_score
    return _held(
        score >= policy.min_confidence, f"confidence {score:.2f}, at least {policy.min_confidence:.2f}"
    )


def _max_staleness(policy: Policy, judged: Judgement, _seen: Seen | None, _standing: Standing) -> Answer:
    if judged.truth is Truth.UNKNOWN:
        lacks = ", ".join(f"{fact.field} is {fact.why}" for fact in judged.facts_missing[:3])
        return Verdict.UNKNOWN, lacks or judged.why
    observed = [fact for fact in judged.facts_read if fact.field.split(".")[0] not in STANDING]
    oldest = max((fact.age_s for fact in observed), default=0.0)
    if policy.max_staleness_s is None:
        return Verdict.PASSED, f"the oldest fact is {oldest:.0f} s old"
    return _held(
        oldest <= policy.max_staleness_s,
        f"the oldest fact is {oldest:.0f} s old, at most {policy.max_staleness_s:g} s",
    )


def _cooldown(policy: Policy, _judged: Judgement, _seen: Seen | None, standing: Standing) -> Answer:
    pause_s = policy.limits.cooldown_s
    if pause_s is None or standing.acted_at is None:
        return Verdict.PASSED, "it has not acted on this entity" if pause_s is not None else "no cooldown"
    since_s = (standing.now - standing.acted_at).total_seconds()
    return _held(since_s >= pause_s, f"it acted {since_s:.0f} s ago, at least {pause_s:g} s apart")


def _blast_radius(policy: Policy, _judged: Judgement, _seen: Seen | None, standing: Standing) -> Answer:
    places = places_of(policy, standing.domain_size)
    if places is None:
        return Verdict.PASSED, "no bound of its own"
    where = f" in {standing.domain}" if standing.domain else ""
    return _held(
        standing.domain_acted < places,
        f"{standing.domain_acted} of {places} places{where} are taken in {policy.limits.window_s or 0:g} s",
    )


def _capacity_floor(policy: Policy, _judged: Judgement, _seen: Seen | None, standing: Standing) -> Answer:
    floor = policy.limits.capacity_floor
    if floor is None:
        return Verdict.PASSED, "no floor"
    if standing.domain_size == 0:
        return Verdict.UNKNOWN, "nobody knows how many there are in its failure domain"
    if not standing.domain_leaving:
        return Verdict.PASSED, "it takes nothing out of service"
    left, least = standing.domain_serving - 1, math.ceil(floor * standing.domain_size - 1e-9)
    return _held(left >= least, f"{left} of {standing.domain_size} would stay in service, at least {least}")


def _circuit_breaker(policy: Policy, _judged: Judgement, _seen: Seen | None, standing: Standing) -> Answer:
    limit = policy.limits.breaker_failures
    if limit is None:
        return Verdict.PASSED, "no breaker"
    return _held(standing.failures < limit, f"{standing.failures} failed in a row, {limit} open the circuit")


def _freeze_window(_policy: Policy, _judged: Judgement, _seen: Seen | None, standing: Standing) -> Answer:
    return _held(not standing.frozen, standing.frozen or "acting is not frozen")


def _approval(policy: Policy, _judged: Judgement, _seen: Seen | None, standing: Standing) -> Answer:
    needed = approvals_needed(policy)
    return _held(standing.approvals >= needed, f"{standing.approvals} of {needed} approvals")


def _held(holds: bool, detail: str) -> Answer:
    return (Verdict.PASSED if holds else Verdict.STOPPED), detail


CHECKS: Mapping[Guardrail, Callable[[Policy, Judgement, Seen | None, Standing], Answer]] = {
    Guardrail.MIN_CONFIDENCE: _min_confidence,
    Guardrail.MAX_STALENESS: _max_staleness,
    Guardrail.COOLDOWN: _cooldown,
    Guardrail.BLAST_RADIUS: _blast_radius,
    Guardrail.CAPACITY_FLOOR: _capacity_floor,
    Guardrail.CIRCUIT_BREAKER: _circuit_breaker,
    Guardrail.FREEZE_WINDOW: _freeze_window,
    Guardrail.APPROVAL: _approval,
}
