"""A Node's conditions, cordons, GPUs and names, as the `node` entity tells them."""

from __future__ import annotations

from typing import Any

import pytest
from kube_shapes import KEEP, NOW, checked, cond, meta, shaped

from steersman.drivers.kubernetes.marks import CORDON_MARK, REASON_MARK
from steersman.drivers.kubernetes.nodes import NodeDevices, NodeUse, instance_of, is_available, node_fact
from steersman.drivers.kubernetes.objects import Node
from steersman.kinds.entity import EntityType, HealthState
from steersman.state.health.verdict import health_of


def node(**given: Any) -> Node:
    spec: dict[str, Any] = given.pop("spec", {})
    status: dict[str, Any] = {
        "conditions": [cond("Ready"), *given.pop("conditions", [])],
        "capacity": {"cpu": "64", "memory": "1Ki", "nvidia.com/gpu": "8"},
        "allocatable": {"cpu": "63500m", "memory": "1Ki", "nvidia.com/gpu": "8"},
        **given.pop("status", {}),
    }
    return shaped(Node, metadata=meta("n1", **given), spec=spec, status=status)


def fields(found: Node, **more: Any) -> dict[str, Any]:
    return checked(node_fact(found, KEEP, NOW, **more))


def health(found: dict[str, Any]) -> HealthState:
    return health_of(EntityType.NODE, found, NOW).health


@pytest.mark.parametrize(
    ("status", "state", "verdict"),
    [
        ("True", "Ready", HealthState.HEALTHY),
        ("False", "NotReady", HealthState.CRITICAL),
        ("Unknown", "Unknown", HealthState.UNKNOWN),
        ("Perhaps", "Unknown", HealthState.UNKNOWN),
    ],
)
def test_ready_is_good_when_true_and_unknown_is_not_false(
    status: str, state: str, verdict: HealthState
) -> None:
    ready = {**cond("Ready", status), "lastTransitionTime": NOW.isoformat(), "reason": "Why"}
    found = fields(node(status={"conditions": [ready]}))
    assert found["scheduler_state"] == state
    assert health(found) is verdict
    assert ("state_reason" in found) == (state != "Ready")


def test_a_node_that_never_reported_is_unknown() -> None:
    found = fields(node(status={"conditions": None}))
    assert found["scheduler_state"] == "Unknown"
    assert "heartbeat_at" not in found


def test_a_node_that_is_unknown_for_long_is_lost() -> None:
    ready = {**cond("Ready", "Unknown"), "lastTransitionTime": "2031-05-06T07:02:00Z"}
    found = fields(node(status={"conditions": [ready]}))
    assert found["scheduler_flags"] == ["Lost"]
    assert health(found) is HealthState.CRITICAL


def test_an_old_transition_says_nothing_of_a_node_that_is_ready() -> None:
    ready = {**cond("Ready"), "lastTransitionTime": "2020-01-01T00:00:00Z"}
    found = fields(node(status={"conditions": [ready]}))
    assert health(found) is HealthState.HEALTHY
    assert "scheduler_flags" not in found


def test_conditions_are_judged_by_their_polarity() -> None:
    conditions = [
        cond("MemoryPressure", "False"),
        cond("DiskPressure", "True", reason="KubeletHasDiskPressure", message="disk is full"),
        cond("KernelDeadlock", "Unknown"),
        cond("AcceleratedHardwareReady", "False"),
        cond("NetworkingReady", "True"),
        cond("EtcdIsVoter", "True"),
    ]
    found = fields(node(conditions=conditions))
    assert found["problems"] == ["DiskPressure", "AcceleratedHardwareReady"]
    assert found["node_conditions"] == ["Ready", "DiskPressure", "NetworkingReady", "EtcdIsVoter"]
    assert found["node_conditions_unknown"] == ["KernelDeadlock"]
    assert found["problem_details"]["DiskPressure"] == "KubeletHasDiskPressure: disk is full"


def test_nvsentinels_messages_are_taken_apart() -> None:
    message = "[79] GPU has fallen off the bus GPU:0 - RecommendedAction: RESTART_BM;"
    found = fields(node(conditions=[cond("SysLogsXIDError", "True", message=message)]))
    assert found["error_codes"] == ["79"]
    assert found["recommended_actions"] == ["RESTART_BM"]
    assert health(found) is HealthState.CRITICAL


def test_a_message_with_a_credential_is_masked_and_short() -> None:
    message = "pull from https://user:hunter2@registry failed " + "x" * 1000
    found = fields(node(conditions=[cond("Strange", "True", message=message)]))
    shown = found["problem_details"]["Strange"]
    assert "hunter2" not in shown
    assert len(shown) < 400


CORDONED: dict[str, Any] = {"unschedulable": True}
BY_KUBECTL: list[dict[str, Any]] = [
    {"manager": "kubectl-cordon", "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}
]


CORDONS: list[tuple[dict[str, Any], str | None, str, str | None]] = [
    ({"spec": CORDONED}, None, "unknown", None),
    ({"spec": CORDONED, "managedFields": BY_KUBECTL}, "kubectl-cordon", "planned", None),
    (
        {
            "spec": CORDONED,
            "managedFields": [{"manager": "robot", "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}],
        },
        "robot",
        "unknown",
        None,
    ),
    (
        {
            "spec": CORDONED,
            "labels": {
                "k8saas.nvidia.com/cordon-by": "NVSentinel",
                "k8saas.nvidia.com/cordon-reason": "GpuMemWatch",
            },
        },
        "NVSentinel",
        "automatic",
        "GpuMemWatch",
    ),
    (
        {"spec": CORDONED, "annotations": {CORDON_MARK: "op-1/drain/1", REASON_MARK: "new firmware"}},
        "steersman",
        "planned",
        "new firmware",
    ),
    (
        {
            "spec": CORDONED,
            "annotations": {CORDON_MARK: "op-1/drain/1", REASON_MARK: "new firmware"},
            "managedFields": BY_KUBECTL,
        },
        "kubectl-cordon",
        "planned",
        None,
    ),
    (
        {
            "labels": {
                "sagemaker.amazonaws.com/node-health-status": "UnschedulablePendingReboot",
                "sagemaker.amazonaws.com/fault-type": "NvidiaErrorReboot",
            }
        },
        "hyperpod",
        "automatic",
        "UnschedulablePendingReboot: NvidiaErrorReboot",
    ),
    (
        {"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}},
        "autoscaler",
        "planned",
        "ToBeDeletedByClusterAutoscaler",
    ),
    (
        {"spec": {"taints": [{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]}},
        "node controller",
        "automatic",
        "node.kubernetes.io/disk-pressure:NoSchedule",
    ),
    (
        {"spec": {"taints": [{"key": "team", "value": "a", "effect": "NoExecute"}]}},
        None,
        "unknown",
        "team=a:NoExecute",
    ),
]


@pytest.mark.parametrize(("given", "by", "intent", "reason"), CORDONS)
def test_who_took_a_node_out_and_why(
    given: dict[str, Any], by: str | None, intent: str, reason: str | None
) -> None:
    found = fields(node(**given))
    assert found["schedulable"] is False
    assert (found.get("drain_by"), found["drain_intent"], found.get("drain_reason")) == (by, intent, reason)
    assert ("SchedulingDisabled" in found["scheduler_state"]) == bool(
        given.get("spec", {}).get("unschedulable")
    )


def test_nvsentinels_cordon_is_ill_health_and_a_humans_is_planned() -> None:
    robots = {"k8saas.nvidia.com/cordon-by": "NVSentinel"}
    assert health(fields(node(spec=CORDONED, labels=robots))) is HealthState.DEGRADED
    assert health(fields(node(spec=CORDONED, managedFields=BY_KUBECTL))) is HealthState.HEALTHY


def test_a_taint_that_only_dedicates_the_node_keeps_nobody_away_who_asks_for_it() -> None:
    tainted = node(spec={"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]})
    assert fields(tainted, dedicated=["nvidia.com/gpu"])["schedulable"] is True
    assert fields(tainted)["schedulable"] is False
    assert is_available(tainted, ["nvidia.com/gpu"])
    soft = node(spec={"taints": [{"key": "x", "effect": "PreferNoSchedule"}]})
    assert fields(soft)["schedulable"] is True
    assert fields(soft)["taints"] == ["x:PreferNoSchedule"]


def test_gpus_that_the_plugin_took_back_are_missing() -> None:
    found = fields(node(status={"allocatable": {"nvidia.com/gpu": "7"}}))
    assert (found["gpu_count"], found["gpu_capacity"]) == (7, 8)
    assert health(found) is HealthState.DEGRADED


def test_a_node_without_a_device_plugin_says_nothing_of_gpus_and_one_with_none_says_zero() -> None:
    bare = fields(node(status={"capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}}))
    assert "gpu_count" not in bare
    assert "gpu_capacity" not in bare
    dead = fields(
        node(
            labels={"nvidia.com/gpu.count": "8"},
            status={"capacity": {"nvidia.com/gpu": "0"}, "allocatable": {"nvidia.com/gpu": "0"}},
        )
    )
    assert (dead["gpu_count"], dead["gpu_capacity"]) == (0, 8)
    assert health(dead) is HealthState.DEGRADED


def test_slices_are_not_gpus_and_shared_gpus_are_not_more_of_them() -> None:
    mixed = {"nvidia.com/gpu": "4", "nvidia.com/mig-1g.10gb": "14", "nvidia.com/mig-2g.20gb": "6"}
    found = fields(node(status={"capacity": mixed, "allocatable": mixed}))
    assert found["gpu_count"] == 4
    assert found["gpu_slices"] == {"1g.10gb": 14, "2g.20gb": 6}
    shared = {"nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "time-slicing"}
    sliced = fields(
        node(
            labels=shared,
            status={"capacity": {"nvidia.com/gpu": "32"}, "allocatable": {"nvidia.com/gpu": "32"}},
        )
    )
    assert sliced["gpu_count"] == 8
    single = {
        "nvidia.com/mig.strategy": "single",
        "nvidia.com/gpu.product": "NVIDIA-H100-MIG-1g.10gb",
        "nvidia.com/gpu.count": "56",
    }
    found = fields(
        node(
            labels=single,
            status={"capacity": {"nvidia.com/gpu": "56"}, "allocatable": {"nvidia.com/gpu": "56"}},
        )
    )
    assert "gpu_count" not in found
    assert found["gpu_slices"] == {"mig": 56}
    amd = fields(node(status={"capacity": {"amd.com/gpu": "8"}, "allocatable": {"amd.com/gpu": "8"}}))
    assert amd["gpu_count"] == 8


def test_with_dra_devices_are_counted_because_the_resource_is_absent() -> None:
    cpu = {"cpu": "4"}
    found = fields(node(status={"capacity": cpu, "allocatable": cpu}), devices=NodeDevices(gpus=8, usable=7))
    assert (found["gpu_count"], found["gpu_capacity"]) == (7, 8)


def test_what_pods_take_is_told_where_pods_are_read() -> None:
    assert "gpus_allocated" not in fields(node())
    use = NodeUse(requests={"cpu": 3.5, "nvidia.com/gpu": 2, "memory": 10.0}, pods=4)
    found = fields(node(), use=use)
    assert (found["gpus_allocated"], found["cpus_allocated"], found["memory_allocated"]) == (2, 3.5, 10)
    assert fields(node(), use=NodeUse())["gpus_allocated"] == 0


def test_a_node_is_found_by_its_other_names() -> None:
    found = node(
        labels={"topology.kubernetes.io/zone": "z1", "secret-label": "s"},
        spec={"providerID": "aws:///eu-west-1a/i-0abc"},
        status={
            "addresses": [
                {"type": "InternalIP", "address": "10.0.0.1"},
                {"type": "InternalIP", "address": "fd00::1"},
                {"type": "Hostname", "address": "n1.local"},
            ],
            "nodeInfo": {
                "bootID": "b1",
                "systemUUID": "4C4C-AB",
                "kernelVersion": "6.1",
                "kubeletVersion": "v1.34.0",
            },
        },
    )
    told = fields(found)
    assert told["addresses"] == ["10.0.0.1", "fd00::1"]
    assert (told["hostname"], told["boot_id"], told["system_uuid"]) == ("n1.local", "b1", "4c4c-ab")
    assert (told["provider_id"], told["instance_id"]) == ("aws:///eu-west-1a/i-0abc", "i-0abc")
    assert (told["uid"], told["agent_version"]) == ("uid-n1", "v1.34.0")
    labels = node_fact(found, KEEP, NOW).labels
    assert labels["topology.kubernetes.io/zone"] == "z1"
    assert "secret-label" not in labels
    assert instance_of("no-scheme") is None


def test_a_nulled_node_is_told_with_what_is_left() -> None:
    bare = shaped(
        Node,
        metadata={"name": "n1"},
        spec=None,
        status={"conditions": None, "addresses": None, "capacity": None},
    )
    assert checked(node_fact(bare, KEEP, NOW))["scheduler_state"] == "Unknown"
