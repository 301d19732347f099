"""From a unit and what belongs to it to its facts. Reads the indexes, changes nothing but its own tallies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from steersman.drivers.kubernetes.addons import InferenceService, JobSet, Queue, Workload
from steersman.drivers.kubernetes.devices import Gpu, by_node, gpu_fact, read_devices, read_holders
from steersman.drivers.kubernetes.fact import SCHEDULER_DOMAIN, Fact, Keep, present
from steersman.drivers.kubernetes.indexes import (
    KIND_OF,
    Indexes,
    Unit,
    jobset_of,
    matches,
    pool_path,
    selector_of,
)
from steersman.drivers.kubernetes.jobs import job_fact, job_id, jobset_fact, workload_fact
from steersman.drivers.kubernetes.nodes import UNKNOWN, NodeDevices, NodeUse, node_fact
from steersman.drivers.kubernetes.objects import Deployment, Job, Node, Service, owner_of
from steersman.drivers.kubernetes.pods import OwnerKey, PodFacts
from steersman.drivers.kubernetes.queues import queue_fact
from steersman.drivers.kubernetes.serving import inference_facts, service_fact
from steersman.drivers.kubernetes.tenants import tenant_fact
from steersman.drivers.kubernetes.troubles import is_timed, warning_fields
from steersman.drivers.kubernetes.workloads import deployment_fact, desired
from steersman.kinds.entity import EntityType

OF_PODS: dict[EntityType, frozenset[str]] = {
    EntityType.NODE: frozenset({"gpus_allocated", "cpus_allocated", "memory_allocated", "pod_count"}),
    EntityType.DEPLOYMENT: frozenset({"problems", "problem_details", "restarts"}),
    EntityType.JOB: frozenset(
        {
            "assigned_gpu_count", "assigned_gpu_slices", "node", "nodes", "node_count", "pods_ready",
            "restarts", "problems", "problem_details",
        }
    ),
    EntityType.SERVICE: frozenset(
        {
            "replica_count", "available_replicas", "desired_replicas", "service_state", "problems",
            "problem_details",
        }
    ),
    EntityType.GPU: frozenset({"assigned_job_id", "assigned_service_id", "device_health", "device_detail"}),
}  # fmt: skip
"""Fields that rest on pods: while pods are not heard of, they are not told anew and grow old."""
OF_EVENTS = frozenset({"warnings", "last_warning_at"})
GPU_IDS = ("GPU-", "MIG-")
"""How a device plugin's ids begin where they are NVIDIA's UUIDs."""


_WORST_FIRST = {"Unhealthy": 0, "Unknown": 1, "Healthy": 2}


class View(Struct, frozen=True):
    """Which kinds are known (read at least once), and which of these are not heard of now."""

    known: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    version: str | None = None


class Told(Struct, frozen=True):
    """A fact, the unit it comes from, and the kind of resource that it stands and falls with. `omitted` are
    fields that are missing because what they come from is silent, not because they are no more."""

    fact: Fact
    unit: Unit
    kind: str
    omitted: frozenset[str] = frozenset()


def is_active(fact: Fact) -> bool:
    """Whether it is a job or a set of replicas that runs."""
    if fact.entity_type is EntityType.JOB:
        return fact.fields.get("job_state") in ("running", "completing")
    return fact.entity_type is EntityType.DEPLOYMENT and fact.fields.get("available_replicas", 0) > 0


class Bundles:
    """Makes facts. `facts` of one unit at a time; `count` keeps the tallies of the cluster and of tenants."""

    def __init__(
        self, indexes: Indexes, keep: Keep, dedicated: frozenset[str], gpu_drivers: tuple[str, ...]
    ) -> None:
        self._indexes = indexes
        self._keep = keep
        self._dedicated = dedicated
        self._gpu_drivers = gpu_drivers
        self._pools: dict[str, tuple[Gpu, ...]] = {}
        self._ids: dict[str, frozenset[str]] = {}
        self._timed: dict[Unit, None] = {}
        self._active_in: dict[str, int] = {}
        self._tally: dict[str, int] = {}
        self.incomplete: dict[str, None] = {}
        self.touched: dict[Unit, None] = {}
        """Units whose facts are others by what was made of another one."""
        self._makers: dict[str, Callable[[Unit, datetime, View], Iterable[Fact]]] = {
            "Node": self._node,
            "Deployment": self._deployment,
            "StatefulSet": self._deployment,
            "Service": self._service,
            "InferenceService": self._inference,
            "Job": self._job,
            "JobSet": self._jobset,
            "ClusterQueue": self._queue,
            "LocalQueue": self._queue,
            "Namespace": self._namespace,
            "Pool": self._pool,
            "Gpu": self._gpu,
            "Domain": self._domain,
        }

    def facts(self, unit: Unit, now: datetime, view: View) -> list[Told]:
        """What a unit comes to; nothing where it is no more."""
        self._timed.pop(unit, None)
        make = self._makers.get(unit.kind, self._external)
        kind = _kind_of(unit)
        return [self._told(fact, unit, kind, view) for fact in make(unit, now, view)]

    def _told(self, fact: Fact, unit: Unit, kind: str, view: View) -> Told:
        omitted: frozenset[str] = frozenset()
        if "pods" in view.silent:
            omitted |= OF_PODS.get(fact.entity_type, frozenset())
        if "events" in view.silent:
            omitted |= OF_EVENTS
        if "resourceclaims" in view.silent and fact.entity_type in (EntityType.GPU, EntityType.JOB):
            omitted |= {"claim", "assigned_job_id", "assigned_service_id", "assigned_gpu_count"}
        if not omitted:
            return Told(fact, unit, kind)
        left = {name: value for name, value in fact.fields.items() if name not in omitted}
        return Told(msgspec.structs.replace(fact, fields=left), unit, kind, omitted)

    def units(self) -> Iterator[Unit]:
        """All units that there are objects of."""
        for kind, unit in ((kind, unit) for unit, kind in KIND_OF.items()):
            for path in self._indexes.objects(kind):
                yield Unit(unit, path)
        for one in self._indexes.objects("resourceslices").values():
            yield Unit("Pool", pool_path(one))
        for one in self._indexes.objects("workloads").values():
            owner = owner_of(one.metadata)
            if owner is not None:
                unit = self._indexes.top_unit(OwnerKey(owner.kind, f"{one.metadata.namespace}/{owner.name}"))
                if unit is not None:
                    yield unit

    def timed(self, now: datetime) -> list[Unit]:
        """Units whose facts may change by time alone."""
        return list(self._timed)

    # ---- tallies

    def count(self, fact: Fact, sign: int) -> None:
        """Put a fact into the tallies (+1), or take it out (-1)."""
        tally, fields = self._tally, fact.fields
        if fact.entity_type is EntityType.NODE:
            free = fields.get("schedulable") is True and fields.get("scheduler_state") == "Ready"
            gpus = fields.get("gpu_capacity", fields.get("gpu_count", 0))
            for name, amount in (("nodes", 1), ("available", int(free)), ("gpus", gpus)):
                tally[name] = tally.get(name, 0) + sign * amount
        elif is_active(fact):
            tally["active"] = tally.get("active", 0) + sign
            namespace = fact.labels.get("namespace", "")
            left = self._active_in.get(namespace, 0) + sign
            if left:
                self._active_in[namespace] = left
            else:
                self._active_in.pop(namespace, None)

    def counted_in(self, fact: Fact) -> list[Unit]:
        """The units that show a tally which this fact is in."""
        if fact.entity_type in (EntityType.JOB, EntityType.DEPLOYMENT):
            return [Unit("Namespace", fact.labels.get("namespace", ""))]
        return []

    # ---- makers

    def _node(self, unit: Unit, now: datetime, view: View) -> Iterable[Fact]:
        node: Node | None = self._indexes.get("nodes", unit.path)
        if node is None:
            return
        use = None
        if "pods" in view.known:
            requests: dict[str, float] = {}
            pods = [pod for pod in self._indexes.pods(self._indexes.pods_on.of(unit.path)) if not pod.ended]
            for pod in pods:
                for name, value in pod.requests.items():
                    requests[name] = requests.get(name, 0) + value
            use = NodeUse(requests, len(pods))
        fact = node_fact(
            node, self._keep, now, use=use, devices=self._node_devices(unit.path), dedicated=self._dedicated
        )
        state = fact.fields["scheduler_state"]
        if state.startswith(UNKNOWN) and "scheduler_flags" not in fact.fields:
            self._timed[unit] = None
        yield self._warned(fact, unit)

    def _node_devices(self, node: str) -> NodeDevices | None:
        slices = self._indexes.objects("resourceslices")
        pools = {pool_path(slices[path]) for path in self._indexes.slices_on.of(node) if path in slices}
        gpus = [gpu for pool in sorted(pools) for gpu in self._pool_gpus(pool)]
        return by_node(gpus).get(node)

    def _deployment(self, unit: Unit, now: datetime, view: View) -> Iterable[Fact]:
        item: Deployment | None = self._indexes.get(KIND_OF[unit.kind], unit.path)
        if item is None:
            return
        pods = self._pods_of(OwnerKey(unit.kind, unit.path), view)
        fact = deployment_fact(unit.kind, item, self._keep, now, pods)
        yield self._troubled(fact, unit, pods, now)

    def _service(self, unit: Unit, now: datetime, view: View) -> Iterable[Fact]:
        item: Service | None = self._indexes.get("services", unit.path)
        if item is None or "pods" not in view.known:
            return
        owner = owner_of(item.metadata)
        of_kserve = owner is not None and owner.kind == "InferenceService"
        selector = selector_of(item)
        if of_kserve or not selector or self._indexes.get("inferenceservices", unit.path) is not None:
            return  # one without selector is answered by something that we can't see
        namespace = item.metadata.namespace
        chosen = self._indexes.pods(self._indexes.pods_in.of(namespace))
        pods = [pod for pod in chosen if matches(selector, pod.labels)]
        fact = service_fact(item, self._keep, now, pods, self._desired_behind(namespace, selector))
        yield self._troubled(fact, unit, pods, now)

    def _desired_behind(self, namespace: str, selector: Any) -> int | None:
        found: int | None = None
        for kind in ("deployments", "statefulsets"):
            for path in self._indexes.scaled_in.of((kind, namespace)):
                item: Deployment | None = self._indexes.get(kind, path)
                template = item.spec.template if item is not None and item.spec is not None else None
                labels = (template.metadata.labels if template and template.metadata else None) or {}
                if item is not None and matches(selector, labels):
                    found = (found or 0) + desired(item)
        return found

    def _inference(self, unit: Unit, now: datetime, view: View) -> Iterable[Fact]:
        item: InferenceService | None = self._indexes.get("inferenceservices", unit.path)
        if item is None:
            return
        pods = None
        if "pods" in view.known:
            pods = self._indexes.pods(self._indexes.pods_serving.of(unit.path))
        first, *revisions = inference_facts(item, self._keep, now, pods)
        yield self._troubled(first, unit, pods, now)
        yield from revisions

    def _job(self, unit: Unit, now: datetime, view: View) -> Iterable[Fact]:
        item: Job | None = self._indexes.get("jobs", unit.path)
        if item is None or (jobset_of(item) and "jobsets" in view.known):
            return
        key = OwnerKey("Job", unit.path)
        pods = self._pods_of(key, view)
        fact = job_fact(
            item, self._keep, now, pods, workload=self._workload(key), devices=self._claimed(pods)
        )
        yield self._troubled(fact, unit, pods, now)

    def _jobset(self, unit: Unit, now: datetime, view: View) -> Iterable[Fact]:
        item: JobSet | None = self._indexes.get("jobsets", unit.path)
        if item is None:
            return
        pods: list[PodFacts] | None = None
        if "pods" in view.known:
            parts = [OwnerKey("Job", path) for path in self._indexes.jobs_of.of(unit.path)]
            pods = [pod for part in parts for pod in self._indexes.pods(self._indexes.pods_of.of(part))]
        workload = self._workload(OwnerKey("JobSet", unit.path))
        fact = jobset_fact(item, self._keep, now, pods, workload=workload, devices=self._claimed(pods))
        yield self._troubled(fact, unit, pods, now)

    def _external(self, unit: Unit, now: datetime, view: View) -> Iterable[Fact]:
        kind = unit.kind.removeprefix("External/")
        key = OwnerKey(kind, unit.path)
        workload = self._workload(key)
        if workload is None:
            return
        pods = self._pods_of(key, view) or []
        fact = workload_fact(workload, self._keep, now, kind, unit.path, pods, self._claimed(pods))
        yield self._troubled(fact, unit, pods, now)

    def _queue(self, unit: Unit, _now: datetime, _view: View) -> Iterable[Fact]:
        item: Queue | None = self._indexes.get(KIND_OF[unit.kind], unit.path)
        if item is not None:
            yield self._warned(queue_fact(unit.kind, item, self._keep), unit)

    def _namespace(self, unit: Unit, _now: datetime, view: View) -> Iterable[Fact]:
        indexes = self._indexes
        paths = list(indexes.quotas_in.of(unit.path))
        quotas = [
            indexes.objects("resourcequotas")[p] for p in paths if p in indexes.objects("resourcequotas")
        ]
        namespace = indexes.get("namespaces", unit.path)
        if namespace is None and not quotas:
            return
        counted = view.known & {"jobs", "deployments"}
        active = self._active_in.get(unit.path, 0) if counted else None
        yield tenant_fact(unit.path, namespace, quotas, active, self._keep)

    def _pool(self, unit: Unit, _now: datetime, _view: View) -> Iterable[Fact]:
        gpus = self._pool_gpus(unit.path)
        self._know_pool(unit.path, frozenset(gpu.entity_id for gpu in gpus))
        for gpu in gpus:
            holders = self._indexes.holders.get(gpu.key, {})
            pods = [pod for holder in holders.values() for pod in self._indexes.pods(holder.pods)]
            assigned = self._assigned(pods)
            states = [*self._states(str(gpu.key)), *(self._states(gpu.uuid) if gpu.uuid else [])]
            fact = gpu_fact(gpu, assigned, min(holders, default=None))
            yield _with(fact, states[0] if states else {})

    def _know_pool(self, pool: str, ids: frozenset[str]) -> None:
        """Which GPUs DRA tells of: of others the status of pods does."""
        before = self._ids.pop(pool, frozenset())
        if ids:
            self._ids[pool] = ids
        for gpu in before - ids:
            self._indexes.pool_of.pop(gpu, None)
        self._indexes.pool_of |= dict.fromkeys(ids - before, pool)
        self.touched |= {Unit("Gpu", gpu): None for gpu in before ^ ids}

    def _pool_gpus(self, pool: str) -> tuple[Gpu, ...]:
        """The devices of a pool; while it is written anew, what it had before."""
        slices = self._indexes.objects("resourceslices")
        parts = [slices[path] for path in self._indexes.slices_of.of(pool) if path in slices]
        if not parts:
            self._pools.pop(pool, None)
            self.incomplete.pop(pool, None)
            return ()
        rules = self._indexes.objects("devicetaintrules").values()
        found = read_devices(parts, rules, self._gpu_drivers)
        if found.incomplete:
            self.incomplete[pool] = None
            return self._pools.get(pool, ())
        self.incomplete.pop(pool, None)
        self._pools[pool] = found.gpus
        return found.gpus

    def _gpu(self, unit: Unit, _now: datetime, _view: View) -> Iterable[Fact]:
        """A GPU that only the status of pods tells of, by the id that its device plugin gives it."""
        if not unit.path.startswith(GPU_IDS) or unit.path in self._indexes.pool_of:
            return
        pods = self._indexes.pods(self._indexes.telling.of(unit.path))
        states = self._states(unit.path)
        if not pods or not states:
            return
        fields = {"scheduler_domain": SCHEDULER_DOMAIN, "node": pods[0].node or None, **self._assigned(pods)}
        yield _with(Fact(EntityType.GPU, unit.path, present(fields), {}), states[0])

    def _domain(self, _unit: Unit, _now: datetime, view: View) -> Iterable[Fact]:
        """The cluster. Its id is set by who tells it."""
        tally = self._tally
        nodes = "nodes" in view.known
        fields: dict[str, Any] = {
            "scheduler_domain": SCHEDULER_DOMAIN,
            "domain_type": SCHEDULER_DOMAIN,
            "total_nodes": tally.get("nodes", 0) if nodes else None,
            "available_nodes": tally.get("available", 0) if nodes else None,
            "total_gpus": tally.get("gpus", 0) if nodes else None,
            "active_workloads": tally.get("active", 0) if view.known & {"jobs", "deployments"} else None,
            "version": view.version,
        }
        yield Fact(EntityType.SCHEDULER_DOMAIN, "", present(fields), {})

    # ---- what belongs to it

    def _pods_of(self, key: OwnerKey, view: View) -> list[PodFacts] | None:
        if "pods" not in view.known:
            return None
        return self._indexes.pods(self._indexes.pods_of.of(key))

    def _workload(self, key: OwnerKey) -> Workload | None:
        workloads = self._indexes.objects("workloads")
        found = [workloads[path] for path in self._indexes.workloads_for.of(key) if path in workloads]
        return max(found, key=lambda one: one.metadata.creation_timestamp or "", default=None)

    def _claimed(self, pods: list[PodFacts] | None) -> int:
        """GPUs that pods hold by claims; one that several pods share counts once."""
        paths = {claim for pod in pods or [] if pod.bound for claim in pod.claims}
        claims = self._indexes.objects("resourceclaims")
        held = read_holders([claims[path] for path in paths if path in claims])
        return sum(1 for key in held if key.driver in self._gpu_drivers)

    def _assigned(self, pods: list[PodFacts]) -> dict[str, str | None]:
        """The job or the service that pods work for, where it is one."""
        units = {self._indexes.top_unit(pod.owner) for pod in pods if not pod.ended}
        unit = next(iter(units)) if len(units) == 1 else None
        if unit is None:
            return {}
        if unit.kind in ("Job", "JobSet") or unit.kind.startswith("External/"):
            return {"assigned_job_id": job_id(unit.kind.removeprefix("External/"), unit.path)}
        services = {
            path
            for pod in pods
            for path in self._indexes.services_in.of(pod.namespace)
            if matches(selector_of(self._indexes.objects("services")[path]), pod.labels)
        }
        return {"assigned_service_id": services.pop() if len(services) == 1 else None}

    def _states(self, device: str) -> list[dict[str, Any]]:
        """What pods say of a device, the worst first."""
        states = [
            state
            for pod in self._indexes.pods(self._indexes.telling.of(device))
            if not pod.ended
            for state in pod.devices
            if state.id == device
        ]
        states.sort(key=lambda state: _WORST_FIRST.get(state.health, 1))
        return [{"device_health": state.health.lower(), "device_detail": state.message} for state in states]

    def _troubled(self, fact: Fact, unit: Unit, pods: list[PodFacts] | None, now: datetime) -> Fact:
        """With the warnings about it and its pods; noted where a trouble will pass by time alone."""
        if pods and is_timed(pods, now):
            self._timed[unit] = None
        return self._warned(fact, unit, pods or [])

    def _warned(self, fact: Fact, unit: Unit, pods: Iterable[PodFacts] = ()) -> Fact:
        warnings = self._indexes.warnings
        events = warnings.events(unit.kind.removeprefix("External/"), unit.path)
        for pod in pods:
            events += warnings.events("Pod", pod.path)
        return _with(fact, warning_fields(events)) if events else fact


def _with(fact: Fact, more: dict[str, Any]) -> Fact:
    return msgspec.structs.replace(fact, fields=present({**fact.fields, **more})) if more else fact


def _kind_of(unit: Unit) -> str:
    special = {"Pool": "resourceslices", "Gpu": "pods", "Domain": ""}
    if unit.kind.startswith("External/"):
        return "workloads"
    return special.get(unit.kind) or KIND_OF.get(unit.kind, "")
