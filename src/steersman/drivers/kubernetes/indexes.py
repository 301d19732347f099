"""The objects of a cluster as they were last seen, and who belongs to whom.

`put` says which units are touched by a change; a unit is what facts are made of, see `picture`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from msgspec import Struct

from steersman.drivers.kubernetes.addons import ResourceClaim, ResourceSlice, Workload
from steersman.drivers.kubernetes.devices import DeviceKey, Holder, read_holders
from steersman.drivers.kubernetes.objects import Deployment, Event, Job, ResourceQuota, Service, owner_of
from steersman.drivers.kubernetes.pods import SERVING_LABEL, OwnerKey, PodFacts
from steersman.drivers.kubernetes.troubles import Warnings

UNIT_OF = {
    "nodes": "Node",
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
    "services": "Service",
    "inferenceservices": "InferenceService",
    "jobs": "Job",
    "jobsets": "JobSet",
    "clusterqueues": "ClusterQueue",
    "localqueues": "LocalQueue",
    "namespaces": "Namespace",
}
"""Kinds of resource of which each object is a unit."""
KIND_OF = {unit: kind for kind, unit in UNIT_OF.items()}
READ_OWNERS = frozenset({"Deployment", "StatefulSet", "Job", "JobSet"})


class Unit(Struct, frozen=True, order=True):
    """What facts are made of: an object, a pool of devices, a device that only pods tell of, the cluster, or
    a job of a kind that is not read (its kind and path)."""

    kind: str
    path: str


class Groups:
    """Paths by a key."""

    def __init__(self) -> None:
        self._of: dict[Any, dict[str, None]] = {}

    def add(self, key: Any, path: str) -> None:
        """Put it into the group of that key."""
        self._of.setdefault(key, {})[path] = None

    def drop(self, key: Any, path: str) -> None:
        """Take it out."""
        group = self._of.get(key)
        if group is not None:
            group.pop(path, None)
            if not group:
                del self._of[key]

    def of(self, key: Any) -> Iterable[str]:
        """Those of that key."""
        return self._of.get(key, {})


class Indexes:
    """All objects by kind and path, and groups of them."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Any]] = {}
        self.warnings = Warnings()
        self.pods_on = Groups()
        self.pods_of = Groups()
        self.pods_in = Groups()
        self.pods_serving = Groups()
        self.services_in = Groups()
        self.scaled_in = Groups()
        self.quotas_in = Groups()
        self.workloads_for = Groups()
        self.slices_of = Groups()
        self.jobs_of = Groups()
        self.slices_on = Groups()
        self.claims_for = Groups()
        """Paths of claims that are reserved for a pod, by its path."""
        self.telling = Groups()
        """Paths of pods that say something of a device, by the device's id."""
        self.holders: dict[DeviceKey, dict[str, Holder]] = {}
        """Who holds each device, by the path of the claim: a device may be shared."""
        self.pool_of: dict[str, str] = {}
        """The pool of each GPU that DRA tells of, by entity id."""

    def objects(self, kind: str) -> Mapping[str, Any]:
        """All of a kind by path."""
        return self._objects.get(kind, {})

    def get(self, kind: str, path: str) -> Any | None:
        """One object, None where it is not there."""
        return self._objects.get(kind, {}).get(path)

    def pods(self, paths: Iterable[str]) -> list[PodFacts]:
        """The pods of these paths."""
        pods = self.objects("pods")
        return [pods[path] for path in paths if path in pods]

    def put(self, kind: str, path: str, value: Any | None) -> list[Unit]:
        """Take an object in (None: out); the units whose facts may be others now."""
        kept = self._objects.setdefault(kind, {})
        old = kept.pop(path, None)
        touched: dict[Unit, None] = {}
        file = _FILES.get(kind)
        for one, filed in ((old, False), (value, True)):
            if one is not None and file is not None:
                touched |= dict.fromkeys(file(self, path, one, filed))
            if filed and one is not None:
                kept[path] = one
        if kind in UNIT_OF:
            touched[Unit(UNIT_OF[kind], path)] = None
        return list(touched)

    def top_unit(self, owner: OwnerKey | None) -> Unit | None:
        """The unit that an owner's pods count for: a Job that is part of a JobSet counts for that."""
        if owner is None or owner.kind in ("Node", "DaemonSet"):
            return None
        if owner.kind == "Job":
            job: Job | None = self.get("jobs", owner.path)
            return (
                Unit("JobSet", set_path) if job and (set_path := jobset_of(job)) else Unit("Job", owner.path)
            )
        if owner.kind in READ_OWNERS:
            return Unit(owner.kind, owner.path)
        return Unit(f"External/{owner.kind}", owner.path)

    def about(self, key: tuple[str, str] | None) -> Iterator[Unit]:
        """The units that a warning about an object is told on."""
        if key is None:
            return
        kind, path = key
        if kind != "Pod":
            yield Unit(kind, path)
            return
        pod: PodFacts | None = self.get("pods", path)
        if pod is not None:
            yield from _owners_of(self, pod)


def _owners_of(indexes: Indexes, pod: PodFacts) -> Iterator[Unit]:
    """What a pod works for: its owner, its InferenceService, its Services."""
    unit = indexes.top_unit(pod.owner)
    if unit is not None:
        yield unit
    serving = pod.labels.get(SERVING_LABEL)
    if serving:
        yield Unit("InferenceService", f"{pod.namespace}/{serving}")
    for service in indexes.services_in.of(pod.namespace):
        if matches(selector_of(indexes.objects("services")[service]), pod.labels):
            yield Unit("Service", service)


def jobset_of(job: Job) -> str:
    """The path of the JobSet that a Job is part of; empty for none."""
    owner = owner_of(job.metadata)
    return f"{job.metadata.namespace}/{owner.name}" if owner is not None and owner.kind == "JobSet" else ""


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether labels are chosen; an empty selector chooses nothing here."""
    return bool(selector) and all(labels.get(name) == text for name, text in selector.items())


def selector_of(service: Service) -> Mapping[str, str]:
    """The labels that a Service's pods have."""
    return (service.spec.selector if service.spec is not None else None) or {}


def _set(groups: Groups, key: Any, path: str, filed: bool) -> None:
    (groups.add if filed else groups.drop)(key, path)


def _file_pod(indexes: Indexes, path: str, pod: PodFacts, filed: bool) -> Iterator[Unit]:
    _set(indexes.pods_in, pod.namespace, path, filed)
    if pod.node:
        _set(indexes.pods_on, pod.node, path, filed)
        yield Unit("Node", pod.node)
    if pod.owner is not None:
        _set(indexes.pods_of, pod.owner, path, filed)
    serving = pod.labels.get(SERVING_LABEL)
    if serving:
        _set(indexes.pods_serving, f"{pod.namespace}/{serving}", path, filed)
    yield from _owners_of(indexes, pod)
    for device in pod.devices:
        _set(indexes.telling, device.id, path, filed)
    yield from _devices_of(indexes, pod)


def _devices_of(indexes: Indexes, pod: PodFacts) -> Iterator[Unit]:
    """The devices that a pod tells of, and the pools of those that it holds: who holds one is told on it."""
    for device in pod.devices:
        yield Unit("Gpu", device.id)
        pool = indexes.pool_of.get(device.id) or pool_of_device(device.id)
        if pool:
            yield Unit("Pool", pool)
    for claim in {*pod.claims, *indexes.claims_for.of(pod.path)}:
        found: ResourceClaim | None = indexes.get("resourceclaims", claim)
        for key in read_holders([found]) if found is not None else ():
            yield Unit("Pool", f"{key.driver}/{key.pool}")


def pool_of_device(device_id: str) -> str:
    """The pool of a device that is named as DRA does (`driver/pool/device`); empty for another name."""
    return device_id.rpartition("/")[0] if device_id.count("/") == 2 else ""


def pool_path(one: ResourceSlice) -> str:
    """`driver/pool`."""
    return f"{one.spec.driver}/{one.spec.pool.name}"


def _file_service(indexes: Indexes, path: str, item: Service, filed: bool) -> Iterator[Unit]:
    _set(indexes.services_in, item.metadata.namespace, path, filed)
    selector = selector_of(item)
    for pod in indexes.pods(indexes.pods_in.of(item.metadata.namespace)) if selector else []:
        if (pod.devices or pod.claims) and matches(selector, pod.labels):
            yield from _devices_of(indexes, pod)  # which say what service they work for


def _file_scaled(kind: str, indexes: Indexes, path: str, item: Deployment, filed: bool) -> Iterator[Unit]:
    _set(indexes.scaled_in, (kind, item.metadata.namespace), path, filed)
    template = item.spec.template if item.spec is not None else None
    labels = (template.metadata.labels if template and template.metadata else None) or {}
    for service in indexes.services_in.of(item.metadata.namespace):
        if matches(selector_of(indexes.objects("services")[service]), labels):
            yield Unit("Service", service)


def _file_job(indexes: Indexes, path: str, item: Job, filed: bool) -> Iterator[Unit]:
    parent = jobset_of(item)
    if parent:
        _set(indexes.jobs_of, parent, path, filed)
        yield Unit("JobSet", parent)
        for pod in indexes.pods(indexes.pods_of.of(OwnerKey("Job", path))):
            yield from _devices_of(indexes, pod)  # which work for the set, and not for its part


def _file_quota(indexes: Indexes, path: str, item: ResourceQuota, filed: bool) -> Iterator[Unit]:
    _set(indexes.quotas_in, item.metadata.namespace, path, filed)
    yield Unit("Namespace", item.metadata.namespace)


def _file_workload(indexes: Indexes, path: str, item: Workload, filed: bool) -> Iterator[Unit]:
    owner = owner_of(item.metadata)
    if owner is not None:
        key = OwnerKey(owner.kind, f"{item.metadata.namespace}/{owner.name}")
        _set(indexes.workloads_for, key, path, filed)
        unit = indexes.top_unit(key)
        if unit is not None:
            yield unit


def _file_slice(indexes: Indexes, path: str, item: ResourceSlice, filed: bool) -> Iterator[Unit]:
    pool = pool_path(item)
    _set(indexes.slices_of, pool, path, filed)
    yield Unit("Pool", pool)
    for node in {item.spec.node_name, *(device.basics.node_name for device in item.spec.devices or [])}:
        if node:
            _set(indexes.slices_on, node, path, filed)
            yield Unit("Node", node)


def _file_claim(indexes: Indexes, path: str, item: ResourceClaim, filed: bool) -> Iterator[Unit]:
    for key, holder in read_holders([item]).items():
        of_device = indexes.holders.setdefault(key, {})
        of_device.pop(path, None)
        if filed:
            of_device[path] = holder
        elif not of_device:
            del indexes.holders[key]
        yield Unit("Pool", f"{key.driver}/{key.pool}")
    for one in (item.status.reserved_for if item.status else None) or []:
        holder_path = f"{item.metadata.namespace}/{one.name}"
        _set(indexes.claims_for, holder_path, path, filed)
        pod: PodFacts | None = indexes.get("pods", holder_path)
        unit = indexes.top_unit(pod.owner) if pod is not None else None
        if unit is not None:
            yield unit


def _file_rule(indexes: Indexes, _path: str, _item: Any, _filed: bool) -> Iterator[Unit]:
    for pool in {pool_path(one) for one in indexes.objects("resourceslices").values()}:
        yield Unit("Pool", pool)
    for node in indexes.objects("nodes"):
        yield Unit("Node", node)


def _file_event(indexes: Indexes, path: str, item: Event, filed: bool) -> Iterator[Unit]:
    return indexes.about(indexes.warnings.put(path, item) if filed else indexes.warnings.drop(path))


def _file_inference(_indexes: Indexes, path: str, _item: Any, _filed: bool) -> Iterator[Unit]:
    yield Unit("Service", path)  # which is told only where nothing of KServe has its name


_FILES: dict[str, Callable[[Indexes, str, Any, bool], Iterator[Unit]]] = {
    "pods": _file_pod,
    "services": _file_service,
    "deployments": partial(_file_scaled, "deployments"),
    "statefulsets": partial(_file_scaled, "statefulsets"),
    "jobs": _file_job,
    "resourcequotas": _file_quota,
    "workloads": _file_workload,
    "resourceslices": _file_slice,
    "resourceclaims": _file_claim,
    "devicetaintrules": _file_rule,
    "events": _file_event,
    "inferenceservices": _file_inference,
}
