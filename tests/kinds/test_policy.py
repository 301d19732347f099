"""Policies and recommendations: rules of shape, and the recommendation's own lifecycle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from steersman.kinds.entity import EntityType
from steersman.kinds.lifecycle import NoPath, StateClass
from steersman.kinds.plane_resources import POLICY_LIFECYCLE
from steersman.kinds.policy import (
    ACTIONS,
    RECOMMENDATION_LIFECYCLE,
    Guardrail,
    GuardrailVerdict,
    Policy,
    PolicyAction,
    PolicyInvalid,
    PolicyLimits,
    PolicyMatch,
    PolicyMode,
    Recommendation,
    RecommendationStatus,
    Verdict,
)

T0 = datetime(2026, 6, 1, tzinfo=UTC)


def policy(**change: Any) -> Policy:
    return Policy(
        **{
            "name": "hot-gpu",
            "match": PolicyMatch(entity_type=EntityType.GPU),
            "when": "temperature_celsius > 90",
            "action": PolicyAction(name="quarantine_node"),
            **change,
        }
    )


def recommendation(**change: Any) -> Recommendation:
    return Recommendation(
        **{
            "id": "rec-1",
            "policy": "hot-gpu",
            "entity": "gpu/hpc/GPU-1",
            "entity_type": EntityType.GPU,
            "action": PolicyAction(name="quarantine_node"),
            "created_at": T0,
            "expires_at": T0 + timedelta(hours=1),
            **change,
        }
    )


def test_a_policy_only_observes_unless_it_says_more():
    assert policy().mode is PolicyMode.OBSERVE_ONLY
    assert policy().approvals == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": ""}, "has a name"),
        ({"name": "x" * 129}, "has a name"),
        ({"when": "  "}, "when has 1 to"),
        ({"when": "x" * 9000}, "when has 1 to"),
        ({"action": PolicyAction(name="")}, "action has a name"),
        ({"limits": PolicyLimits(max_count=1)}, "need window_s"),
        ({"limits": PolicyLimits(max_share=0.1)}, "need window_s"),
        ({"mode": PolicyMode.CONTROLLED_AUTO_ACT}, "without a bound"),
    ],
)
def test_a_policy_that_contradicts_itself_is_refused(change: dict[str, Any], says: str):
    with pytest.raises(PolicyInvalid, match=says):
        policy(**change)


def test_a_bounded_policy_may_act_by_itself():
    bounded = policy(mode=PolicyMode.CONTROLLED_AUTO_ACT, limits=PolicyLimits(max_count=1, window_s=60))
    assert bounded.mode is PolicyMode.CONTROLLED_AUTO_ACT


def test_the_fourteen_actions_of_the_canonical_model_are_known():
    assert len(set(ACTIONS)) == len(ACTIONS)
    assert set(ACTIONS) >= {
        "scale_replicas",
        "adjust_batching",
        "rebalance_traffic",
        "trigger_canary_rollback",
        "quarantine_node",
        "preempt_job",
        "enable_scale_to_zero",
        "adjust_priority_or_quota",
        "drain_and_replace_node",
        "adjust_resource_limits",
        "configure_autoscaler",
        "enable_spot_fallback",
        "adjust_checkpoint_frequency",
        "recommend_no_action",
    }


def test_a_recommendation_names_what_it_repeats():
    assert recommendation().dedup_key == "hot-gpu:gpu/hpc/GPU-1:quarantine_node"
    assert recommendation(dedup_key="own").dedup_key == "own"


def test_a_recommendation_expires_at_its_instant():
    assert not recommendation().is_expired(T0 + timedelta(hours=1) - timedelta(microseconds=1))
    assert recommendation().is_expired(T0 + timedelta(hours=1))


def test_a_guardrail_that_can_not_tell_stops_like_one_that_says_no():
    verdicts = tuple(
        GuardrailVerdict(guardrail=rail, verdict=verdict, detail="", checked_at=T0)
        for rail, verdict in zip(Guardrail, (Verdict.PASSED, Verdict.STOPPED, Verdict.UNKNOWN), strict=False)
    )
    assert recommendation(guardrails=verdicts).stopped_by() == verdicts[1:]
    assert recommendation().stopped_by() == ()


def test_the_recommendations_lifecycle():
    machine = RECOMMENDATION_LIFECYCLE
    assert machine.state_names() == [status.value for status in RecommendationStatus]
    assert machine.initial == "proposed"
    assert machine.path("proposed", "applied") == ["approve", "apply", "succeed"]
    assert machine.targets("applying") == ["applied", "failed", "superseded"]
    terminal = {state.name for state in machine.states if state.state_class is StateClass.TERMINAL}
    assert terminal == {"applied", "failed", "rejected", "expired", "superseded"}
    for state in terminal:
        assert machine.allowed(state) == []
    with pytest.raises(NoPath):
        machine.path("applying", "rejected")


def test_no_one_can_be_left_applying_for_ever():
    move = RECOMMENDATION_LIFECYCLE.timeout("applying")
    assert move is not None
    assert (move.event, move.to) == ("fail", "failed")


def test_what_somebody_else_overtook_is_no_failure_and_only_the_engine_says_so():
    assert RECOMMENDATION_LIFECYCLE.allowed("applying", "engine") == ["succeed", "fail", "overtake"]
    assert "overtake" not in RECOMMENDATION_LIFECYCLE.allowed("applying", "operator")
    assert RECOMMENDATION_LIFECYCLE.find("applying", "overtake")[0].to == "superseded"


def test_a_policys_mode_is_a_persons_and_loading_only_disables_and_gives_it_back():
    for mode in PolicyMode:
        assert POLICY_LIFECYCLE.allowed(mode, "importer") == ["unload"]
        assert POLICY_LIFECYCLE.find(mode, "unload")[0].to == "disabled"
        assert POLICY_LIFECYCLE.find("disabled", f"reload_{mode}")[0].by == ("importer",)
        for other in {*PolicyMode} - {mode}:
            assert f"set_{other}" in POLICY_LIFECYCLE.allowed(mode, "operator")
