"""Small stand-ins for the cluster's controllers: what a deployment, a disruption budget and a kubelet do.

Each is called after every write, until nothing changes any more. They are simple on purpose: enough for a
status to follow its spec and for pods to come and go, no scheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from steersman.drivers.kubernetes.fake.selectors import labels_of
from steersman.drivers.kubernetes.fake.tree import Object, items, part

if TYPE_CHECKING:
    from steersman.drivers.kubernetes.fake.server import FakeApiServer

Controller = Callable[["FakeApiServer"], None]
"""Looks at the server and writes; called again after its own writes."""


def follow_replicas(server: FakeApiServer) -> None:
    """The status of deployments, stateful sets and replica sets says that their spec was done."""
    for plural in ("deployments", "statefulsets", "replicasets"):
        for thing in server.all(plural):
            wanted = part(thing, "spec").get("replicas", 1)
            status: Object = {
                "observedGeneration": thing["metadata"].get("generation", 1),
                "replicas": wanted,
                "readyReplicas": wanted,
                "availableReplicas": wanted,
                "updatedReplicas": wanted,
            }
            kept: Object = part(thing, "status")
            if {**kept, **status} != kept:
                server.set_status(plural, thing, {**kept, **status})


def end_pods(server: FakeApiServer) -> None:
    """The kubelet: a pod that is marked for deletion ends at once."""
    for pod in server.all("pods"):
        if pod["metadata"].get("deletionTimestamp") and not pod["metadata"].get("finalizers"):
            server.remove("pods", pod)


def count_disruptions(server: FakeApiServer) -> None:
    """The status of disruption budgets: how many of their pods are healthy, and how many may go."""
    pods = list(server.all("pods"))
    for budget in server.all("poddisruptionbudgets"):
        spec: Object = part(budget, "spec")
        chosen = labels_of(spec.get("selector"))
        mine = [
            pod
            for pod in pods
            if pod["metadata"].get("namespace") == budget["metadata"].get("namespace") and chosen(pod)
        ]
        healthy = sum(1 for pod in mine if _healthy(pod))
        if "minAvailable" in spec:
            desired = _count(spec["minAvailable"], len(mine))
        else:
            desired = max(0, len(mine) - _count(spec.get("maxUnavailable", 1), len(mine)))
        status: Object = {
            "observedGeneration": budget["metadata"].get("generation", 1),
            "expectedPods": len(mine),
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "disruptionsAllowed": max(0, healthy - desired),
        }
        kept: Object = part(budget, "status")
        if {**kept, **status} != kept:
            server.set_status("poddisruptionbudgets", budget, {**kept, **status})


ALL: tuple[Controller, ...] = (end_pods, count_disruptions, follow_replicas)


def _healthy(pod: Object) -> bool:
    conditions = items(part(pod, "status"), "conditions")
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def _count(value: int | str, of: int) -> int:
    """A number, or a share of the pods, rounded up."""
    if isinstance(value, str) and value.endswith("%"):
        return -(-int(value[:-1]) * of // 100)
    return int(value)
