"""From a Node to the `node` entity. Pure.

Ready is the one condition of Kubernetes' own that is good when True; its Unknown means that the node
controller has missed the kubelet's leases, which is not the same as False. Monitors add conditions: those of
node-problem-detector, NVSentinel and AKS are bad when True, those of EKS end in `Ready` and are bad when
False.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from steersman.drivers.kubernetes.accelerators import COUNT_LABEL, gpus_in, sharing_of, slices_in
from steersman.drivers.kubernetes.fact import Fact, Keep, common, present, shown, when
from steersman.drivers.kubernetes.marks import CORDON_MARK, FIELD_MANAGER, REASON_MARK
from steersman.drivers.kubernetes.objects import Condition, Node, NodeStatus, Taint, condition
from steersman.drivers.kubernetes.quantity import amounts, count
from steersman.kinds.entity import EntityType

CONDITIONS_MAX = 64
"""Conditions of one node; the monitors of today make about forty."""
GOOD_WHEN_TRUE = frozenset({"EtcdIsVoter"})
"""Conditions that are good when True and do not end in `Ready`."""
IP_TYPES = ("InternalIP", "ExternalIP")
BLOCKING_EFFECTS = ("NoSchedule", "NoExecute")
NOT_READY, READY, UNKNOWN = "NotReady", "Ready", "Unknown"
LOST, LOST_AFTER = "Lost", timedelta(seconds=300)
"""Of a node that is Unknown for so long Kubernetes evicts what tolerates that no longer: 300 s by default."""
DISABLED = "SchedulingDisabled"
"""kubectl's word for a cordoned node."""

NVSENTINEL = "k8saas.nvidia.com/cordon-"
HYPERPOD = "sagemaker.amazonaws.com/"
HYPERPOD_BAD = "Unschedulable"
SCALE_DOWN_TAINTS = ("ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "karpenter.sh/disruption")
"""Taints by which an autoscaler takes a node away on purpose."""
NODE_TAINTS = "node.kubernetes.io/"
"""Taints that the node controller makes of what the conditions say, and of a cordon."""
_CODE = re.compile(r"\[([^\[\]]{1,64})\]")
_ACTION = re.compile(r"RecommendedAction[:=]\s*([A-Z_a-z0-9]{1,64})")


class NodeUse(Struct, frozen=True):
    """What the pods on a node ask for, by resource, and how many there are that have not ended."""

    requests: dict[str, float] = {}
    pods: int = 0


class NodeDevices(Struct, frozen=True):
    """GPUs of a node that DRA drivers offer: all, and those that no taint holds back."""

    gpus: int = 0
    usable: int = 0
    partitions: int = 0


class Cordon(Struct, frozen=True):
    """Why a node takes no new work: who did that, with what intent, and the reason given."""

    by: str | None = None
    intent: str = "unknown"
    reason: str | None = None


def node_fact(
    node: Node,
    keep: Keep,
    now: datetime,
    *,
    use: NodeUse | None = None,
    devices: NodeDevices | None = None,
    dedicated: Iterable[str] = (),
) -> Fact:
    """The node's fields. `use` is None where pods are not read. `dedicated` are keys of taints that only keep
    out who does not ask for what the node has (`nvidia.com/gpu`)."""
    labels = node.metadata.labels or {}
    status = node.status or NodeStatus()
    blocking = blocking_taints(node, dedicated)
    cordon = cordon_of(node, blocking)
    state, ready = _state(node, status)
    since = when(ready.last_transition_time) if ready is not None else None
    lost = state == UNKNOWN and since is not None and now - since > LOST_AFTER
    fields: dict[str, Any] = {
        **common(node.metadata),
        "scheduler_state": f"{state}+{DISABLED}" if _cordoned(node) else state,
        "scheduler_flags": [LOST] if lost else [],
        "state_since": since,
        "state_reason": shown(_said(ready)) if ready is not None and state != READY else None,
        "heartbeat_at": when(ready.last_heartbeat_time) if ready is not None else None,
        "schedulable": cordon is None,
        **(_cordon_fields(cordon) if cordon is not None else {}),
        "taints": [_text(taint) for taint in (node.spec.taints if node.spec else None) or []][
            :CONDITIONS_MAX
        ],
        **_condition_fields(status.conditions, labels),
        **_capacity_fields(status, labels, use, devices),
        **_identity_fields(node, status),
    }
    kept = {**keep.of(node.metadata), **_identity_labels(status)}
    return Fact(EntityType.NODE, node.metadata.name, present(fields), kept)


def blocking_taints(node: Node, dedicated: Iterable[str] = ()) -> list[Taint]:
    """The taints that keep ordinary work away, without those that only dedicate the node."""
    ordinary = frozenset(dedicated)
    taints = (node.spec.taints if node.spec else None) or []
    return [taint for taint in taints if taint.effect in BLOCKING_EFFECTS and taint.key not in ordinary]


def _cordoned(node: Node) -> bool:
    return bool(node.spec and node.spec.unschedulable)


def is_available(node: Node, dedicated: Iterable[str] = ()) -> bool:
    """Whether it is Ready and may take work."""
    status = node.status or NodeStatus()
    return _state(node, status)[0] == READY and cordon_of(node, blocking_taints(node, dedicated)) is None


def cordon_of(node: Node, blocking: list[Taint]) -> Cordon | None:
    """Why it takes no new work; None where it does. A taint of the node controller for a condition (not
    ready, disk pressure) counts too, but says nothing beyond the condition."""
    labels = node.metadata.labels or {}
    annotations = node.metadata.annotations or {}
    health = labels.get(f"{HYPERPOD}node-health-status", "")
    if not (_cordoned(node) or blocking or health.startswith(HYPERPOD_BAD)):
        return None
    manager = _cordoning_manager(node)
    # The mark outlives somebody else's uncordon: another writer on record has cordoned the node since.
    if CORDON_MARK in annotations and _cordoned(node) and manager in (None, FIELD_MANAGER):
        return Cordon("steersman", "planned", shown(annotations.get(REASON_MARK)))
    if f"{NVSENTINEL}by" in labels or f"{NVSENTINEL}reason" in labels:
        return Cordon(
            labels.get(f"{NVSENTINEL}by", "NVSentinel"), "automatic", labels.get(f"{NVSENTINEL}reason")
        )
    if health.startswith(HYPERPOD_BAD):
        said = [labels.get(f"{HYPERPOD}fault-{part}") for part in ("type", "reason")]
        return Cordon("hyperpod", "automatic", ": ".join([health, *(text for text in said if text)]))
    for taint in blocking:
        if taint.key in SCALE_DOWN_TAINTS:
            return Cordon("autoscaler", "planned", taint.key)
    if _cordoned(node):
        if manager is None:
            return Cordon()
        return Cordon(manager, "planned" if manager.startswith("kubectl") else "unknown")
    ours = [taint for taint in blocking if not taint.key.startswith(NODE_TAINTS)]
    if not ours:
        return Cordon("node controller", "automatic", _text(blocking[0]))
    return Cordon(None, "unknown", _text(ours[0]))


def _cordoning_manager(node: Node) -> str | None:
    """Which client set `spec.unschedulable`, by the server's own records."""
    for manager in node.metadata.managed_fields or []:
        if manager.fields is not None and "f:unschedulable" in (manager.fields.spec or {}):
            return manager.manager or None
    return None


def _cordon_fields(cordon: Cordon) -> dict[str, Any]:
    return {"drain_by": cordon.by, "drain_intent": cordon.intent, "drain_reason": cordon.reason}


def _state(node: Node, status: NodeStatus) -> tuple[str, Condition | None]:
    """In kubectl's words. A node without a Ready condition has not reported yet: nobody knows."""
    ready = condition(status.conditions, "Ready")
    words = {"True": READY, "False": NOT_READY}
    return (words.get(ready.status, UNKNOWN) if ready is not None else UNKNOWN), ready


def is_bad(one: Condition) -> bool | None:
    """Whether a condition says that something is wrong; None where it does not know."""
    if one.status not in ("True", "False"):
        return None
    good_when_true = one.type.endswith("Ready") or one.type in GOOD_WHEN_TRUE
    return (one.status == "True") != good_when_true


def _condition_fields(conditions: list[Condition] | None, labels: Mapping[str, str]) -> dict[str, Any]:
    """What conditions beside Ready say is wrong, with their words, and what their messages recommend."""
    holding = [one.type for one in (conditions or [])[:CONDITIONS_MAX] if one.status == "True"]
    problems: list[str] = []
    unknown: list[str] = []
    details: dict[str, str] = {}
    codes: list[str] = []
    actions: list[str] = []
    for one in (conditions or [])[:CONDITIONS_MAX]:
        if one.type == "Ready":
            continue
        bad = is_bad(one)
        if bad is None:
            unknown.append(one.type)
        if not bad:
            continue
        problems.append(one.type)
        said = shown(_said(one))
        if said:
            details[one.type] = said
        codes += _CODE.findall(one.message or "")
        actions += _ACTION.findall(one.message or "")
    if labels.get(f"{HYPERPOD}deep-health-check-status") == "Failed":
        problems.append("DeepHealthCheckFailed")
    return {
        "problems": problems,
        "problem_details": details,
        "node_conditions": holding,
        "node_conditions_unknown": unknown,
        "error_codes": list(dict.fromkeys(codes))[:CONDITIONS_MAX],
        "recommended_actions": list(dict.fromkeys(actions))[:CONDITIONS_MAX],
    }


def _capacity_fields(
    status: NodeStatus, labels: Mapping[str, str], use: NodeUse | None, devices: NodeDevices | None
) -> dict[str, Any]:
    capacity, allocatable = amounts(status.capacity), amounts(status.allocatable)
    sharing = sharing_of(labels)
    total, usable = gpus_in(capacity, sharing), gpus_in(allocatable, sharing)
    if devices is not None:  # with DRA the extended resource is absent; where both are, each GPU has one way
        total, usable = (total or 0) + devices.gpus, (usable or 0) + devices.usable
    physical = count(labels.get(COUNT_LABEL))
    if physical is not None and not sharing.sliced:
        # A device plugin that died takes its capacity with it; the label of what is built in stays.
        total = max(total or 0, physical)
    cpus, memory = capacity.get("cpu"), capacity.get("memory")
    requests = use.requests if use is not None else None
    return {
        "gpu_count": usable,
        "gpu_capacity": total,
        "gpu_slices": slices_in(allocatable, sharing),
        "gpus_allocated": gpus_in(requests, sharing) or 0 if requests is not None and usable else None,
        "cpus_allocated": requests.get("cpu", 0) if requests is not None else None,
        "memory_allocated": int(requests.get("memory", 0)) if requests is not None else None,
        "cpu_count": cpus if isinstance(cpus, int) else None,
        "memory_total": memory if isinstance(memory, int) else None,
        "allocatable": allocatable,
        "pod_count": use.pods if use is not None else None,
    }


def _identity_fields(node: Node, status: NodeStatus) -> dict[str, Any]:
    """By which other systems know the same machine."""
    info = status.node_info
    ips = [one.address for one in status.addresses or [] if one.type in IP_TYPES and one.address]
    provider = node.spec.provider_id if node.spec else None
    fields: dict[str, Any] = {
        "hostname": _address(status, "Hostname"),
        "addresses": list(dict.fromkeys(ips)),
        "provider_id": provider or None,
        "instance_id": instance_of(provider) if provider else None,
    }
    if info is not None:
        fields |= {
            "boot_id": info.boot_id or None,
            "system_uuid": info.system_uuid.lower() if info.system_uuid else None,
            "kernel": info.kernel_version,
            "os": info.os_image,
            "agent_version": info.kubelet_version,
        }
    return fields


def instance_of(provider_id: str) -> str | None:
    """The instance's id in its cloud: the last part of `aws:///zone/i-0abc`; None where there is none."""
    return provider_id.rpartition("/")[2] or None if "://" in provider_id else None


def _identity_labels(status: NodeStatus) -> dict[str, str]:
    info = status.node_info
    found = {
        "hostname": _address(status, "Hostname"),
        "machine_id": info.machine_id if info else None,
        "arch": info.architecture if info else None,
        "container_runtime": info.container_runtime_version if info else None,
    }
    return {name: text for name, text in found.items() if text}


def _address(status: NodeStatus, kind: str) -> str | None:
    return next((one.address for one in status.addresses or [] if one.type == kind and one.address), None)


def _said(one: Condition | None) -> str | None:
    return ": ".join(part for part in (one.reason, one.message) if part) if one is not None else None


def _text(taint: Taint) -> str:
    return f"{taint.key}={taint.value}:{taint.effect}" if taint.value else f"{taint.key}:{taint.effect}"
