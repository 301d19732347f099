"""Each guardrail at its edges; one that can't tell stops."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from decide_house import Watched, policy

from steersman.decide import PolicyEvaluator
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Standing
from steersman.kinds.policy import Guardrail, Verdict

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HALF = {"LIMITS": "{capacity_floor: 50%}"}
PASSED, STOPPED, UNKNOWN = Verdict.PASSED, Verdict.STOPPED, Verdict.UNKNOWN


def verdict(guardrail: Guardrail, *, age_s: float = 0.0, known: bool = True, **keys: Any) -> Verdict:
    """What one guardrail says of a full disk, `age_s` old; keys in capitals are the policy's."""
    made = Watched()
    made.say(disk_utilization=0.95)
    rule = policy(**{key.lower(): value for key, value in keys.items() if key.isupper()})
    evaluator = PolicyEvaluator([rule])
    recommendation = made.look(evaluator).recommendation
    assert recommendation is not None
    made.clock.advance(age_s)
    given = {key: value for key, value in keys.items() if not key.isupper()}
    if "acted_s" in given:
        given["acted_at"] = made.clock.now() - timedelta(seconds=given.pop("acted_s"))
    told = evaluator.recheck(
        recommendation, made.seen() if known else None, Standing(now=made.clock.now(), **given)
    )
    assert [one.guardrail for one in told.verdicts] == list(Guardrail), "each speaks, in one order"
    return next(one.verdict for one in told.verdicts if one.guardrail is guardrail)


@pytest.mark.parametrize(
    ("guardrail", "keys", "expected"),
    [
        (Guardrail.MIN_CONFIDENCE, {}, PASSED),
        (Guardrail.MIN_CONFIDENCE, {"MIN_CONFIDENCE": 0.01}, PASSED),
        (Guardrail.MIN_CONFIDENCE, {"MIN_CONFIDENCE": 1.0}, STOPPED),
        (Guardrail.MIN_CONFIDENCE, {"known": False}, UNKNOWN),
        (Guardrail.MAX_STALENESS, {}, PASSED),
        (Guardrail.MAX_STALENESS, {"MAX_STALENESS": "30s", "age_s": 30}, PASSED),
        (Guardrail.MAX_STALENESS, {"MAX_STALENESS": "30s", "age_s": 30.5}, UNKNOWN),
        (Guardrail.MAX_STALENESS, {"age_s": 36000}, UNKNOWN),
        (Guardrail.MAX_STALENESS, {"known": False}, UNKNOWN),
        (Guardrail.COOLDOWN, {"acted_s": 0}, PASSED),
        (Guardrail.COOLDOWN, {"LIMITS": "{cooldown: 10m}"}, PASSED),
        (Guardrail.COOLDOWN, {"LIMITS": "{cooldown: 10m}", "acted_s": 599.9}, STOPPED),
        (Guardrail.COOLDOWN, {"LIMITS": "{cooldown: 10m}", "acted_s": 600}, PASSED),
        (Guardrail.COOLDOWN, {"LIMITS": "{cooldown: 10m}", "acted_s": -5}, STOPPED),
        (Guardrail.BLAST_RADIUS, {"domain_acted": 99}, PASSED),
        (Guardrail.BLAST_RADIUS, {"LIMITS": "{window: 1h, max_count: 2}", "domain_acted": 1}, PASSED),
        (Guardrail.BLAST_RADIUS, {"LIMITS": "{window: 1h, max_count: 2}", "domain_acted": 2}, STOPPED),
        (Guardrail.BLAST_RADIUS, {"LIMITS": "{window: 1h, max_count: 0}"}, STOPPED),
        (Guardrail.BLAST_RADIUS, {"LIMITS": "{window: 1h, max_share: 25%}", "domain_size": 4}, PASSED),
        (Guardrail.BLAST_RADIUS, {"LIMITS": "{window: 1h, max_share: 25%}", "domain_size": 3}, STOPPED),
        (
            Guardrail.BLAST_RADIUS,
            {"LIMITS": "{window: 1h, max_share: 50%, max_count: 1}", "domain_size": 9, "domain_acted": 1},
            STOPPED,
        ),
        (Guardrail.CAPACITY_FLOOR, {}, PASSED),
        (Guardrail.CAPACITY_FLOOR, {**HALF}, UNKNOWN),
        (Guardrail.CAPACITY_FLOOR, {**HALF, "domain_size": 4, "domain_serving": 3}, PASSED),
        (Guardrail.CAPACITY_FLOOR, {**HALF, "domain_size": 4, "domain_serving": 2}, STOPPED),
        (Guardrail.CAPACITY_FLOOR, {**HALF, "domain_size": 3, "domain_serving": 2}, STOPPED),
        (
            Guardrail.CAPACITY_FLOOR,
            {**HALF, "domain_size": 4, "domain_serving": 2, "domain_leaving": False},
            PASSED,
        ),
        (
            Guardrail.CAPACITY_FLOOR,
            {"LIMITS": "{capacity_floor: 0%}", "domain_size": 1, "domain_serving": 1},
            PASSED,
        ),
        (Guardrail.CIRCUIT_BREAKER, {"failures": 9}, PASSED),
        (Guardrail.CIRCUIT_BREAKER, {"LIMITS": "{breaker_failures: 3}", "failures": 2}, PASSED),
        (Guardrail.CIRCUIT_BREAKER, {"LIMITS": "{breaker_failures: 3}", "failures": 3}, STOPPED),
        (Guardrail.FREEZE_WINDOW, {}, PASSED),
        (Guardrail.FREEZE_WINDOW, {"frozen": "the site is frozen"}, STOPPED),
        (Guardrail.APPROVAL, {}, STOPPED),
        (Guardrail.APPROVAL, {"approvals": 1}, PASSED),
        (Guardrail.APPROVAL, {"APPROVALS": 2, "approvals": 1}, STOPPED),
        (Guardrail.APPROVAL, {"RISK": "critical", "approvals": 1}, STOPPED),
        (Guardrail.APPROVAL, {"RISK": "critical", "approvals": 2}, PASSED),
    ],
)  # fmt: skip
def test_each_guardrail_at_its_edge(guardrail: Guardrail, keys: dict[str, Any], expected: Verdict) -> None:
    assert verdict(guardrail, **keys) is expected


def test_what_is_said_once_does_not_grow_too_old() -> None:
    """A label or a status is not said again while it holds."""
    made = Watched()
    made.say(disk_utilization=0.95, labels={"rack": "r1"})
    made.manage()
    rule = policy('disk_utilization > 0.9 && labels.rack == "r1" && resource.status == "in_service"',
                  max_staleness="30s")  # fmt: skip
    evaluator = PolicyEvaluator([rule])
    made.clock.advance(3600)
    made.say(disk_utilization=0.95)
    recommendation = made.look(evaluator).recommendation
    assert recommendation is not None
    told = evaluator.recheck(recommendation, made.seen(), Standing(now=made.clock.now()))
    by_name = {one.guardrail: one.verdict for one in told.verdicts}
    assert by_name[Guardrail.MAX_STALENESS] is PASSED


def test_a_policy_that_is_not_there_any_more_can_not_tell() -> None:
    made = Watched()
    made.say(disk_utilization=0.95)
    recommendation = made.look(PolicyEvaluator([policy()])).recommendation
    assert recommendation is not None
    told = PolicyEvaluator([]).recheck(recommendation, made.seen(), Standing(now=made.clock.now()))
    assert (told.truth, told.verdicts) == (Truth.UNKNOWN, ())
    assert "not evaluated" in told.why
