"""Routing nouns: the published names, order and defaults."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from struct_instances import round_trips

from steersman.kinds.routing import (
    LockHandle,
    ModelState,
    PoolState,
    ProviderState,
    SyncPolicy,
    SyncStatus,
    SystemState,
)

T0 = datetime(2026, 6, 1, tzinfo=UTC)

PUBLISHED_FIELDS = {
    ModelState: "status failure_count error_rate cooldown_remaining quota_used tokens_used cost_accumulated"
    " last_request last_failure deactivation_reason",
    ProviderState: "available auth_valid last_probe availability_score active_model_count total_quota_used"
    " total_cost",
    PoolState: "active_models standby_models rotation_count last_rotation",
    SystemState: "models providers pools timestamp",
    LockHandle: "lock_id owner acquired_at expires_at",
    SyncStatus: "last_sync next_sync pending_changes locked lock_owner",
}


@pytest.mark.parametrize("cls", list(PUBLISHED_FIELDS), ids=lambda cls: cls.__name__)
def test_names_and_order_are_the_published_ones(cls: type[msgspec.Struct]):
    assert list(cls.__struct_fields__) == PUBLISHED_FIELDS[cls].split()


def test_sync_policies():
    assert {policy.name: policy.value for policy in SyncPolicy} == {
        "IN_MEMORY": "in-memory",
        "SYNC_ON_BOUNDARY": "sync-on-boundary",
        "PERIODIC": "periodic",
        "IMMEDIATE": "immediate",
    }
    assert SyncPolicy("periodic") is SyncPolicy.PERIODIC


def test_defaults_are_the_published_ones():
    model = ModelState("active", 0, 0.0, 0.0, 0, 0, 0.0)
    assert (model.last_request, model.last_failure, model.deactivation_reason) == (None, None, None)
    assert ProviderState(available=True, auth_valid=True) == ProviderState(True, True, None, 1.0, 0, 0, 0.0)
    assert PoolState() == PoolState([], [], 0, None)
    assert SystemState() == SystemState({}, {}, {}, None)
    assert LockHandle("l", "me", T0).expires_at is None
    assert SyncStatus() == SyncStatus(None, None, 0, False, None)


def test_only_the_count_carrying_ones_are_mutable():
    model = ModelState("active", 0, 0.0, 0.0, 0, 0, 0.0)
    model.failure_count += 1
    assert model.failure_count == 1
    with pytest.raises(AttributeError):
        LockHandle("l", "me", T0).owner = "you"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        SyncStatus().locked = True  # type: ignore[misc]


def test_collections_are_each_instances_own():
    one, other = SystemState(), SystemState()
    one.models["m"] = ModelState("active", 0, 0.0, 0.0, 0, 0, 0.0)
    one.pools["p"] = PoolState()
    one.pools["p"].active_models.append("m")
    assert other == SystemState()
    assert PoolState().active_models == []


def test_naive_times_are_utc():
    naive = datetime(2026, 6, 1)  # noqa: DTZ001
    assert PoolState(last_rotation=naive).last_rotation == T0
    assert LockHandle("l", "me", naive).acquired_at == T0
    assert SyncStatus(next_sync=naive).next_sync == T0
    assert SystemState(timestamp=naive).timestamp == T0
    assert ProviderState(True, True, naive).last_probe == T0
    assert ModelState("active", 0, 0.0, 0.0, 0, 0, 0.0, naive, naive).last_failure == T0


def test_a_whole_system_round_trips():
    state = SystemState(
        {"m": ModelState("standby", 3, 0.5, 12.5, 7, 1000, 0.25, T0, T0, "error_threshold")},
        {"openai": ProviderState(True, False, T0, 0.5, 1, 7, 0.25)},
        {"chat": PoolState(["a"], ["m"], 4, T0)},
        T0,
    )
    round_trips(state)


@pytest.mark.parametrize("error_rate", [-0.1, 1.1])
def test_shares_are_bounded_when_decoded(error_rate: float):
    state = ModelState("active", 0, error_rate, 0.0, 0, 0, 0.0)
    with pytest.raises(msgspec.ValidationError, match="error_rate"):
        msgspec.json.decode(msgspec.json.encode(state), type=ModelState)
