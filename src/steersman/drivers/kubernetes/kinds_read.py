"""Which kinds of resource are read, in which versions, and what is kept of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from steersman.drivers.kubernetes.addons import (
    DeviceTaintRule,
    InferenceService,
    JobSet,
    Queue,
    ResourceClaim,
    ResourceSlice,
    Workload,
)
from steersman.drivers.kubernetes.objects import (
    Deployment,
    Event,
    Job,
    Namespace,
    Node,
    Pod,
    ResourceQuota,
    Service,
)
from steersman.drivers.kubernetes.pods import pod_facts
from steersman.drivers.kubernetes.resources import (
    CLUSTER_QUEUES,
    DEPLOYMENTS,
    EVENTS,
    INFERENCE_SERVICES,
    JOB_SETS,
    JOBS,
    LOCAL_QUEUES,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_QUOTAS,
    RESOURCE_SLICES,
    SERVICES,
    STATEFUL_SETS,
    WORKLOADS,
    Resource,
)
from steersman.drivers.kubernetes.shapes import Thing
from steersman.kinds.entity import EntityType


def _versions(kind: Resource, *versions: str) -> tuple[Resource, ...]:
    """One kind in several versions of its API."""
    return tuple(Resource(kind.group, version, kind.plural, kind.namespaced) for version in versions)


class KindRead(Struct, frozen=True):
    """A kind of resource. `versions` are those that are understood, the preferred one first; `keep` is what
    is held of an object; `fields` selects at the server."""

    name: str
    versions: tuple[Resource, ...]
    shape: type[Thing]
    keep: Callable[[Any], Any] | None = None
    fields: str = ""

    @property
    def namespaced(self) -> bool:
        """Whether it can be read of chosen namespaces alone."""
        return self.versions[0].namespaced


_DRA = "resource.k8s.io"
KINDS = {
    kind.name: kind
    for kind in (
        KindRead("nodes", (NODES,), Node),
        KindRead("pods", (PODS,), Pod, pod_facts),
        KindRead("events", (EVENTS,), Event, fields="type=Warning"),
        KindRead("namespaces", (NAMESPACES,), Namespace),
        KindRead("resourcequotas", (RESOURCE_QUOTAS,), ResourceQuota),
        KindRead("deployments", (DEPLOYMENTS,), Deployment),
        KindRead("statefulsets", (STATEFUL_SETS,), Deployment),
        KindRead("services", (SERVICES,), Service),
        KindRead("jobs", (JOBS,), Job),
        KindRead("jobsets", (JOB_SETS,), JobSet),
        KindRead("clusterqueues", _versions(CLUSTER_QUEUES, "v1beta2", "v1beta1"), Queue),
        KindRead("localqueues", _versions(LOCAL_QUEUES, "v1beta2", "v1beta1"), Queue),
        KindRead("workloads", _versions(WORKLOADS, "v1beta2", "v1beta1"), Workload),
        KindRead("inferenceservices", (INFERENCE_SERVICES,), InferenceService),
        KindRead(
            "resourceslices",
            (RESOURCE_SLICES, *_versions(RESOURCE_SLICES, "v1beta2", "v1beta1")[:2]),
            ResourceSlice,
        ),
        KindRead(
            "resourceclaims",
            (RESOURCE_CLAIMS, *_versions(RESOURCE_CLAIMS, "v1beta2", "v1beta1")[:2]),
            ResourceClaim,
        ),
        KindRead(
            "devicetaintrules",
            (
                Resource(_DRA, "v1beta2", "devicetaintrules", False),
                Resource(_DRA, "v1alpha3", "devicetaintrules", False),
            ),
            DeviceTaintRule,
        ),
    )
}
"""All kinds by their name in the options, which is the name in the API."""

MADE_OF: dict[EntityType, tuple[str, ...]] = {
    EntityType.NODE: ("nodes",),
    EntityType.DEPLOYMENT: ("deployments", "statefulsets"),
    EntityType.SERVICE: ("services", "inferenceservices", "pods"),
    EntityType.MODEL_REVISION: ("inferenceservices",),
    EntityType.JOB: ("jobs", "jobsets", "workloads"),
    EntityType.QUEUE: ("clusterqueues", "localqueues"),
    EntityType.TENANT_SCOPE: ("namespaces", "resourcequotas"),
    EntityType.GPU: ("resourceslices", "pods"),
}
"""The kinds that must have been read whole before all entities of a type are known. Kinds that the options
leave out, or the server does not have, have nothing to give."""
