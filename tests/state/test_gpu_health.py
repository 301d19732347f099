"""GPU health: XIDs, memory, heat and links, by architecture; the driver's own verdict stands above them."""

from __future__ import annotations

from typing import Any

import pytest
from bus_facts import GPU, NODE, START

from steersman.kinds.entity import EntityType, HealthState
from steersman.state.health.verdict import health_of

CRITICAL, DEGRADED, WARNING = HealthState.CRITICAL, HealthState.DEGRADED, HealthState.WARNING
HEALTHY = HealthState.HEALTHY

T4, A100, L40S = "Tesla T4", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S"
H100, GH200, B200, GB200 = "NVIDIA H100 80GB HBM3", "NVIDIA GH200 480GB", "NVIDIA B200", "NVIDIA GB200"


def health(model: str = H100, **signals: Any) -> HealthState:
    return health_of(GPU, {"gpu_utilization": 0.5, "model_name": model} | signals, START).health


def rules(model: str = H100, **signals: Any) -> list[str]:
    found = health_of(GPU, {"gpu_utilization": 0.5, "model_name": model} | signals, START)
    return [reason.rule for reason in found.reasons]


@pytest.mark.parametrize(
    ("codes", "model", "wanted"),
    [
        (["79"], H100, CRITICAL),
        (["48"], A100, CRITICAL),
        (["95"], H100, CRITICAL),
        (["119"], H100, CRITICAL),
        (["64"], T4, CRITICAL),
        (["74"], A100, CRITICAL),
        (["74"], B200, DEGRADED),
        (["149"], GB200, DEGRADED),
        (["94"], H100, WARNING),
        (["63"], A100, WARNING),
        (["45"], H100, HEALTHY),
        (["13", "31", "43"], H100, HEALTHY),
        (["45", "79"], H100, CRITICAL),
        (["999"], H100, DEGRADED),
        ([], H100, HEALTHY),
    ],
)
def test_an_xid_that_was_seen_to_come(codes: list[str], model: str, wanted: HealthState) -> None:
    assert health(model, xid_events=codes, xid_counts={}) is wanted


@pytest.mark.parametrize("codes", [["79"], ["48"], ["119"], ["95"], ["999"]])
def test_the_drivers_own_verdict_stands_above_the_codes(codes: list[str]) -> None:
    assert health(xid_events=codes, recovery_action="none") is HEALTHY
    assert health(xid_events=[], recovery_action="gpu_reset") is CRITICAL


def test_a_code_that_just_stands_there_is_a_warning() -> None:
    assert rules(xid=79, xid_events=[]) == ["fatal_xid"]


def test_what_comes_again_is_worse() -> None:
    assert health(xid_events=["94"], xid_counts={"94": 2.0}) is DEGRADED
    assert health(xid_events=[], xid_counts={"79": 3.0, "48": 2.0}, recovery_action="none") is CRITICAL
    assert health(xid_events=[], xid_counts={"79": 2.0, "31": 1.0}) is HEALTHY
    assert health(xid_events=[], xid_counts={"31": 2.0}) is WARNING


@pytest.mark.parametrize(
    ("model", "margin", "wanted"),
    [
        (H100, -3.0, DEGRADED),
        (H100, -2.0, WARNING),
        (B200, -3.0, WARNING),
        (B200, -4.0, DEGRADED),
        (GB200, -4.0, DEGRADED),
        (GH200, 4.0, WARNING),
        (L40S, 30.0, HEALTHY),
        (A100, -5.0, HEALTHY),
        (T4, 0.0, HEALTHY),
    ],
)
def test_heat_is_judged_by_the_margin_of_the_architecture(
    model: str, margin: float, wanted: HealthState
) -> None:
    assert health(model, temperature_margin_celsius=margin) is wanted


def test_a_gpu_at_its_power_cap_is_well_whatever_dcgm_warns_of() -> None:
    """DCGM's power watch warns where the cap held clocks down, as it does on every GPU with much to do."""
    capped = {"throttle_reasons": ["sw_power_cap"], "power_throttled": 0.9, "health_watches_failed": []}
    assert health(**capped, health_watches_warned=["POWER"]) is HEALTHY
    assert health(**capped, health_watches_warned=["POWER", "MEM"]) is WARNING
    assert health(health_watches_failed=["POWER"]) is DEGRADED


def test_a_stage_whose_freshness_its_system_does_not_know_is_not_healthy() -> None:
    stage = EntityType.DATA_PIPELINE_STAGE
    assert health_of(stage, {"stage_state": "UNKNOWN"}, START).health is HealthState.UNKNOWN
    assert health_of(stage, {"stage_state": "HEALTHY"}, START).health is HEALTHY


def test_an_absolute_temperature_is_a_weak_signal() -> None:
    assert health(temperature_celsius=95.0) is WARNING
    assert health(temperature_celsius=95.0, temperature_margin_celsius=12.0) is HEALTHY


def test_absent_ecc_is_unknown_and_not_zero() -> None:
    found = health_of(GPU, {"gpu_utilization": 0.5}, START)
    assert found.health is HEALTHY
    assert found.unjudged["ecc_uncorrected"] == ("ecc_errors",)


@pytest.mark.parametrize(
    ("signals", "wanted"),
    [
        ({"ecc_errors": 1}, CRITICAL),
        ({"ecc_errors": 1, "recovery_action": "none"}, DEGRADED),
        ({"row_remap_failed": True}, CRITICAL),
        ({"row_remap_pending": True}, WARNING),
        ({"remapped_rows_uncorrectable": 512}, WARNING),
        ({"memory_unrepairable": True}, CRITICAL),
        ({"retired_pages": 63}, CRITICAL),
        ({"retired_pages": 11}, WARNING),
        ({"retired_pages_dbe": 16}, DEGRADED),
        ({"retired_pages_pending": 1}, WARNING),
        ({"throttle_reasons": ["hw_thermal_slowdown"]}, DEGRADED),
        ({"throttle_reasons": ["sw_power_cap"]}, HEALTHY),
        ({"thermal_throttled": 0.01}, WARNING),
        ({"nvlink_crc_error_rate": 150.0}, DEGRADED),
        ({"nvlink_crc_error_rate": 0.1}, WARNING),
        ({"nvlink_replay_rate": 0.1}, DEGRADED),
        ({"pcie_replay_rate": 0.6}, WARNING),
        ({"pcie_replay_rate": 0.5}, HEALTHY),
        ({"pcie_replay_rate": 0.5, "pcie_link_generation": 4, "pcie_link_width": 16}, WARNING),
        ({"pcie_replay_rate": 0.5, "pcie_link_generation": 5, "pcie_link_width": 16}, HEALTHY),
        ({"pcie_link_width": 8, "pcie_link_width_max": 16}, WARNING),
        ({"health_watches_failed": ["MEM"]}, CRITICAL),
        ({"health_watches_failed": ["NVLINK"]}, DEGRADED),
        ({"health_watches_warned": ["PCIE"]}, WARNING),
        ({"lost": True}, CRITICAL),
        ({"persistence_mode": False}, WARNING),
    ],
    ids=str,
)
def test_a_counter_or_a_flag(signals: dict[str, Any], wanted: HealthState) -> None:
    assert health(**signals) is wanted


@pytest.mark.parametrize(
    ("signals", "wanted"),
    [
        ({"drain_reason": "NHC: check_hw_gpu failed"}, DEGRADED),
        ({"drain_reason": "Kill task failed"}, DEGRADED),
        ({"drain_reason": "gres/gpu count reported lower than configured (7 < 8)"}, CRITICAL),
        ({"drain_reason": "Not responding"}, CRITICAL),
        ({"drain_reason": "anna: firmware"}, HEALTHY),
        ({"drain_reason": "NHC: firmware, by anna", "drain_intent": "planned"}, HEALTHY),
        ({"gpus_visible": 7, "gpu_capacity": 8}, DEGRADED),
        ({"gpus_visible": 8, "gpu_capacity": 8}, HEALTHY),
    ],
    ids=str,
)
def test_a_node_is_judged_by_why_it_was_drained_and_by_what_its_driver_shows(
    signals: dict[str, Any], wanted: HealthState
) -> None:
    found = health_of(NODE, {"scheduler_state": "IDLE+DRAIN"} | signals, START)
    assert found.health is wanted
    assert "draining" in [condition.name for condition in found.conditions]
