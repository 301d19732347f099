"""From a Pod to what it means for whoever owns it: what it takes, whether it works, what is wrong. Pure.

What a pod takes is what the scheduler counts: all its containers and sidecars together, or one init container
with the sidecars that were started before it, whichever is more, and the overhead of its runtime class.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct

from steersman.drivers.kubernetes.fact import shown, when
from steersman.drivers.kubernetes.objects import (
    Container,
    ContainerStatus,
    Pod,
    PodSpec,
    PodStatus,
    condition,
    owner_of,
    path_of,
)
from steersman.drivers.kubernetes.quantity import amounts

ENDED = ("Succeeded", "Failed")
ORDINARY_WAITS = frozenset({"ContainerCreating", "PodInitializing", ""})
"""Why a container waits that has nothing wrong."""
SAME_PROBLEM = {"ErrImagePull": "ImagePullBackOff"}
"""Words between which the kubelet goes to and fro while one thing is wrong."""
OOM_KILLED = "OOMKilled"
UNHEALTHY_DEVICE = "DeviceUnhealthy"
SERVING_LABEL = "serving.kserve.io/inferenceservice"
TEMPLATE_HASH_LABEL = "pod-template-hash"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


class OwnerKey(Struct, frozen=True, order=True):
    """Who a pod belongs to: kind and `namespace/name`."""

    kind: str
    path: str


class Problem(Struct, frozen=True):
    """What is wrong with a pod. `at` is set where it is over and only lately was so."""

    reason: str
    detail: str = ""
    at: datetime | None = None


class DeviceState(Struct, frozen=True):
    """What is said of one device that the pod holds; `id` is the device plugin's (a UUID with NVIDIA's)."""

    id: str
    health: str
    message: str | None = None


class PodFacts(Struct, frozen=True):
    """What is kept of a pod. `claims` are paths of resource claims; `requests` is what it takes."""

    path: str
    uid: str
    namespace: str
    node: str
    phase: str
    ready: bool
    owner: OwnerKey | None
    labels: dict[str, str]
    requests: dict[str, float]
    problems: tuple[Problem, ...] = ()
    restarts: int = 0
    exit_code: int | None = None
    devices: tuple[DeviceState, ...] = ()
    claims: tuple[str, ...] = ()
    leaving: bool = False

    @property
    def ended(self) -> bool:
        """Whether it takes nothing any more."""
        return self.phase in ENDED

    @property
    def bound(self) -> bool:
        """Whether it takes its requests from a node."""
        return bool(self.node) and not self.ended


def pod_facts(pod: Pod) -> PodFacts:
    """What a pod means."""
    meta, spec, status = pod.metadata, pod.spec or PodSpec(), pod.status or PodStatus()
    ready = condition(status.conditions, "Ready")
    containers = [*(status.init_container_statuses or []), *(status.container_statuses or [])]
    return PodFacts(
        path=path_of(meta),
        uid=meta.uid,
        namespace=meta.namespace,
        node=spec.node_name or "",
        phase=status.phase or "Unknown",
        ready=ready is not None and ready.status == "True",
        owner=_owner(pod),
        labels=meta.labels or {},
        requests=requests_of(spec),
        problems=tuple(_problems(status, containers)),
        restarts=sum(one.restart_count or 0 for one in containers),
        exit_code=_exit_code(status),
        devices=tuple(_devices(containers)),
        claims=tuple(
            f"{meta.namespace}/{one.resource_claim_name}"
            for one in status.resource_claim_statuses or []
            if one.resource_claim_name
        ),
        leaving=meta.deletion_timestamp is not None,
    )


def _owner(pod: Pod) -> OwnerKey | None:
    """A ReplicaSet stands for its Deployment: it is named after it and the hash that is on its pods, so that
    nobody need read ReplicaSets, of which a cluster keeps ten for each Deployment."""
    owner = owner_of(pod.metadata)
    if owner is None:
        return None
    name, kind = owner.name, owner.kind
    digest = (pod.metadata.labels or {}).get(TEMPLATE_HASH_LABEL)
    if kind == "ReplicaSet" and digest and name.endswith(f"-{digest}"):
        kind, name = "Deployment", name.removesuffix(f"-{digest}")
    namespace = pod.metadata.namespace
    return OwnerKey(kind, f"{namespace}/{name}" if namespace and kind != "Node" else name)


def requests_of(spec: PodSpec) -> dict[str, float]:
    """What the scheduler counts for a pod, by resource."""
    sidecars: dict[str, float] = {}
    most: dict[str, float] = {}
    for one in spec.init_containers or []:
        if one.restart_policy == "Always":
            _add(sidecars, _requests(one))
            _raise(most, sidecars)
            continue
        own = dict(sidecars)
        _add(own, _requests(one))
        _raise(most, own)
    together = dict(sidecars)
    for one in spec.containers or []:
        _add(together, _requests(one))
    _raise(most, together)
    if spec.resources is not None:  # pod-level resources stand above those of containers
        most |= amounts(spec.resources.requests)
    _add(most, amounts(spec.overhead))
    return {name: value for name, value in most.items() if value}


def _requests(container: Container) -> dict[str, int | float]:
    """Requests; where only a limit is given, it is the request."""
    if container.resources is None:
        return {}
    return amounts(container.resources.limits) | amounts(container.resources.requests)


def _add(to: dict[str, float], more: dict[str, Any]) -> None:
    for name, value in more.items():
        to[name] = to.get(name, 0) + value


def _raise(to: dict[str, float], other: dict[str, float]) -> None:
    for name, value in other.items():
        to[name] = max(to.get(name, 0), value)


def _problems(status: PodStatus, containers: Iterable[ContainerStatus]) -> Iterable[Problem]:
    if status.phase == "Failed" and status.reason:  # Evicted, NodeLost, UnexpectedAdmissionError, ...
        yield Problem(status.reason, shown(status.message) or "")
    scheduled = condition(status.conditions, "PodScheduled")
    if scheduled is not None and scheduled.status == "False" and scheduled.reason == "Unschedulable":
        yield Problem("Unschedulable", shown(scheduled.message) or "")
    for one in containers:
        waiting = one.state.waiting if one.state is not None else None
        if waiting is not None and (waiting.reason or "") not in ORDINARY_WAITS:
            reason = waiting.reason or ""
            yield Problem(SAME_PROBLEM.get(reason, reason), shown(waiting.message) or "")
        yield from _killed(one)
        for device in _devices([one]):
            if device.health == "Unhealthy":
                yield Problem(UNHEALTHY_DEVICE, device.id)


def _killed(one: ContainerStatus) -> Iterable[Problem]:
    """A container whose last end was for want of memory; the kubelet shows that until the next end."""
    for state in (one.state, one.last_state):
        ended = state.terminated if state is not None else None
        if ended is not None and ended.reason == OOM_KILLED:
            yield Problem(OOM_KILLED, one.name, when(ended.finished_at))
            return


def _exit_code(status: PodStatus) -> int | None:
    """The first exit code that is not zero, of a pod that failed."""
    if status.phase != "Failed":
        return None
    for one in status.container_statuses or []:
        ended = one.state.terminated if one.state is not None else None
        if ended is not None and ended.exit_code:
            return ended.exit_code
    return None


def _devices(containers: Iterable[ContainerStatus]) -> Iterable[DeviceState]:
    for one in containers:
        for resource in one.allocated_resources_status or []:
            for device in resource.resources or []:
                if device.resource_id:
                    yield DeviceState(device.resource_id, device.health or "Unknown", shown(device.message))
