"""The kinds that the fake serves, and what the API promises of each.

Constants: kubernetes/api and the storage strategies of kubernetes/pkg/registry; the custom resources of
JobSet, Kueue and KServe.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from steersman.drivers.kubernetes.resources import Resource


class Kind(Struct, frozen=True):
    """One kind of resource.

    `status`: it has a status subresource, so that a write of one leaves the other as it is. `generation`: the
    server counts the changes of its spec. `scale`: it has a scale subresource. `custom`: a custom resource
    (no strategic patches, an update needs a resource version). `fields`: what can be selected by, beside name
    and namespace.
    """

    resource: Resource
    kind: str
    short: tuple[str, ...] = ()
    status: bool = True
    generation: bool = False
    scale: bool = False
    custom: bool = False
    fields: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """`v1`, `apps/v1`."""
        where = self.resource
        return f"{where.group}/{where.version}" if where.group else where.version

    @property
    def subresources(self) -> tuple[str, ...]:
        """`status`, `scale`, `eviction`."""
        found = [name for name, there in (("status", self.status), ("scale", self.scale)) if there]
        return (*found, "eviction") if self.resource.plural == "pods" else tuple(found)


def _kind(group: str, version: str, plural: str, kind: str, short: str = "", /, **more: bool) -> Kind:
    namespaced = not more.pop("cluster", False)
    fields = _FIELDS.get(plural, ())
    return Kind(
        Resource(group, version, plural, namespaced), kind, tuple(short.split()), fields=fields, **more
    )


_FIELDS: Mapping[str, tuple[str, ...]] = {
    "pods": ("spec.nodeName", "status.phase", "spec.schedulerName", "spec.restartPolicy", "status.podIP"),
    "nodes": ("spec.unschedulable",),
    "events": (
        "involvedObject.kind", "involvedObject.name", "involvedObject.namespace", "involvedObject.uid",
        "reason", "type", "source", "reportingComponent",
    ),
    "namespaces": ("status.phase",),
    "jobs": ("status.successful",),
    "replicasets": ("status.replicas",),
}  # fmt: skip

_SPEC = {"generation": True}
_CUSTOM = {"generation": True, "custom": True}

CATALOGUE: tuple[Kind, ...] = (
    _kind("", "v1", "nodes", "Node", "no", cluster=True),
    _kind("", "v1", "namespaces", "Namespace", "ns", cluster=True),
    _kind("", "v1", "pods", "Pod", "po", **_SPEC),
    _kind("", "v1", "events", "Event", "ev", status=False),
    _kind("", "v1", "resourcequotas", "ResourceQuota", "quota"),
    _kind("", "v1", "configmaps", "ConfigMap", "cm", status=False),
    _kind("", "v1", "services", "Service", "svc"),
    _kind("apps", "v1", "deployments", "Deployment", "deploy", scale=True, **_SPEC),
    _kind("apps", "v1", "statefulsets", "StatefulSet", "sts", scale=True, **_SPEC),
    _kind("apps", "v1", "replicasets", "ReplicaSet", "rs", scale=True, **_SPEC),
    _kind("apps", "v1", "daemonsets", "DaemonSet", "ds", **_SPEC),
    _kind("batch", "v1", "jobs", "Job", **_SPEC),
    _kind("coordination.k8s.io", "v1", "leases", "Lease", status=False),
    _kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", "pdb", **_SPEC),
    _kind("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", status=False, cluster=True, **_SPEC),
    _kind("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim"),
    _kind("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", status=False, cluster=True, **_SPEC),
    _kind("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet", **_CUSTOM),
    _kind("kueue.x-k8s.io", "v1beta1", "clusterqueues", "ClusterQueue", "cq", cluster=True, **_CUSTOM),
    _kind("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue", "lq", **_CUSTOM),
    _kind("kueue.x-k8s.io", "v1beta1", "workloads", "Workload", "wl", **_CUSTOM),
    _kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService", "isvc", **_CUSTOM),
)
"""Everything that the fake can serve."""
