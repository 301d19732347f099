"""The kinds of resource that this driver reads, by where the API serves them.

Constants: kubernetes/api types and the custom resources of Kueue, JobSet, KServe.
"""

from __future__ import annotations

from urllib.parse import quote

from msgspec import Struct


class Resource(Struct, frozen=True):
    """One kind of resource. `group` is empty for the core group; `plural` is its name in paths."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def group_path(self) -> str:
        """`/api/v1` or `/apis/<group>/<version>`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of a list (of one namespace or of all), of one object, or of its subresource.

        Names come from the API and from people: what can't stand in a path is written as %XX.
        """
        parts = [self.group_path]
        if namespace and self.namespaced:
            parts.append(f"namespaces/{quote(namespace, safe='')}")
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}/{self.version}" if self.group else f"{self.plural}/{self.version}"


NODES = Resource("", "v1", "nodes", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
PODS = Resource("", "v1", "pods")
EVENTS = Resource("", "v1", "events")
RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas")
CONFIG_MAPS = Resource("", "v1", "configmaps")
SERVICES = Resource("", "v1", "services")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets")
REPLICA_SETS = Resource("apps", "v1", "replicasets")
DAEMON_SETS = Resource("apps", "v1", "daemonsets")
JOBS = Resource("batch", "v1", "jobs")
LEASES = Resource("coordination.k8s.io", "v1", "leases")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets")
RESOURCE_SLICES = Resource("resource.k8s.io", "v1", "resourceslices", namespaced=False)
RESOURCE_CLAIMS = Resource("resource.k8s.io", "v1", "resourceclaims")
DEVICE_CLASSES = Resource("resource.k8s.io", "v1", "deviceclasses", namespaced=False)
JOB_SETS = Resource("jobset.x-k8s.io", "v1alpha2", "jobsets")
CLUSTER_QUEUES = Resource("kueue.x-k8s.io", "v1beta1", "clusterqueues", namespaced=False)
LOCAL_QUEUES = Resource("kueue.x-k8s.io", "v1beta1", "localqueues")
WORKLOADS = Resource("kueue.x-k8s.io", "v1beta1", "workloads")
INFERENCE_SERVICES = Resource("serving.kserve.io", "v1beta1", "inferenceservices")
