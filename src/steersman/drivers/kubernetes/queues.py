"""From Kueue's ClusterQueues and LocalQueues to the `queue` entity. Pure."""

from __future__ import annotations

from typing import Any

from steersman.drivers.kubernetes.addons import FlavorUsage, Queue, QueueSpec, QueueStatus
from steersman.drivers.kubernetes.fact import Fact, Keep, common, present, shown
from steersman.drivers.kubernetes.objects import Condition, condition, path_of
from steersman.drivers.kubernetes.quantity import amount
from steersman.kinds.entity import EntityType

STOPS = {"Hold": "drain", "HoldAndDrain": "inactive"}
"""Hold admits nothing more and lets run what runs; HoldAndDrain also evicts that."""


def queue_fact(kind: str, queue: Queue, keep: Keep) -> Fact:
    """A queue: a ClusterQueue by its name, a LocalQueue by `namespace/name`."""
    spec, status = queue.spec or QueueSpec(), queue.status or QueueStatus()
    active = condition(status.conditions, "Active")
    pending, admitted = status.pending_workloads, status.admitted_workloads
    if queue.status is not None:  # zero is left out by some versions
        pending, admitted = pending or 0, admitted or 0
    # What has its quota and waits for an admission check is in the queue, neither pending nor running.
    inside = max(status.reserving_workloads or 0, admitted or 0)
    fields: dict[str, Any] = {
        **common(queue.metadata),
        "queue_state": _state(spec, active),
        "state_reason": active.reason if active is not None and active.status != "True" else None,
        "state_detail": shown(active.message) if active is not None and active.status != "True" else None,
        "pending_jobs": pending,
        "active_jobs": admitted,
        "queue_depth": pending + inside if pending is not None else None,
        "resource_quota": _amounts(
            [f for g in spec.resource_groups or [] for f in g.flavors or []], "nominal_quota"
        ),
        "resource_usage": _amounts(status.flavors_usage or status.flavor_usage, "total"),
        "cluster_queue": spec.cluster_queue,
        "cohort": spec.cohort,
    }
    return Fact(
        EntityType.QUEUE, path_of(queue.metadata), present(fields), {**keep.of(queue.metadata), "kind": kind}
    )


def _state(spec: QueueSpec, active: Condition | None) -> str:
    stopped = STOPS.get(spec.stop_policy or "")
    if stopped is not None:
        return stopped
    if active is None or active.status == "Unknown":
        return "unknown"
    if active.status == "True":
        return "up"
    # Stopped at the queue above, or on its way out; else something that it needs is missing.
    return "inactive" if active.reason in ("Stopped", "Terminating", "ClusterQueueIsInactive") else "down"


def _amounts(flavors: list[FlavorUsage] | None, what: str) -> dict[str, float]:
    """`flavour/resource` to an amount."""
    found: dict[str, float] = {}
    for flavor in flavors or []:
        for one in flavor.resources or []:
            value = amount(getattr(one, what))
            if value is not None:
                found[f"{flavor.name}/{one.name}"] = value
    return found
