"""What is read of Kubernetes' own objects, as Structs. Names are the API's; what is not here is ignored.

Every field may be missing or null, because versions and vendors differ and an empty list is often null. A
quantity is a text or a number (see `quantity`). Times are RFC 3339 texts (see `fact.when`).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from steersman.drivers.kubernetes.shapes import Meta, Owner, Thing

Quantities = dict[str, Any]


class Shape(Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """A part of an object. Plain data can't form cycles, so a cluster's objects are not walked by each full
    garbage collection."""


def path_of(meta: Meta) -> str:
    """`namespace/name`, or the name alone where it has no namespace."""
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


def owner_of(meta: Meta) -> Owner | None:
    """Its controller; the first owner where none says that it is that."""
    owners = meta.owner_references or []
    return next((one for one in owners if one.controller), owners[0] if owners else None)


class Condition(Shape, frozen=True):
    """A condition; `status` is True, False or Unknown, as a text."""

    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_heartbeat_time: str | None = None
    last_transition_time: str | None = None


def condition(conditions: list[Condition] | None, kind: str) -> Condition | None:
    """The condition of that type."""
    return next((one for one in conditions or [] if one.type == kind), None)


def holds(conditions: list[Condition] | None, kind: str) -> bool:
    """Whether the condition of that type is there and True."""
    found = condition(conditions, kind)
    return found is not None and found.status == "True"


# ---- nodes


class FieldsOwned(Shape, frozen=True, rename={"spec": "f:spec"}):
    """Of `fieldsV1`, what a manager set in the spec."""

    spec: dict[str, Any] | None = None


class FieldManager(Shape, frozen=True, rename={"fields": "fieldsV1"}):
    """Who set which fields."""

    manager: str = ""
    fields: FieldsOwned | None = None


class NodeMeta(Meta, frozen=True, rename="camel"):
    """A node's: who cordoned it is told in the managed fields."""

    managed_fields: list[FieldManager] | None = None


class Taint(Shape, frozen=True):
    """A taint of a node or a device."""

    key: str = ""
    value: str | None = None
    effect: str | None = None


class NodeSpec(Shape, frozen=True):
    """`spec` of a Node."""

    unschedulable: bool | None = None
    taints: list[Taint] | None = None
    provider_id: str | None = field(default=None, name="providerID")


class Address(Shape, frozen=True):
    """One of a node's addresses."""

    type: str = ""
    address: str = ""


class NodeInfo(Shape, frozen=True):
    """`status.nodeInfo`."""

    boot_id: str | None = field(default=None, name="bootID")
    system_uuid: str | None = field(default=None, name="systemUUID")
    machine_id: str | None = field(default=None, name="machineID")
    kernel_version: str | None = None
    os_image: str | None = None
    kubelet_version: str | None = None
    container_runtime_version: str | None = None
    architecture: str | None = None


class NodeStatus(Shape, frozen=True):
    """`status` of a Node."""

    conditions: list[Condition] | None = None
    capacity: Quantities | None = None
    allocatable: Quantities | None = None
    addresses: list[Address] | None = None
    node_info: NodeInfo | None = None


class Node(Thing, frozen=True, rename="camel"):
    """v1 Node."""

    metadata: NodeMeta = NodeMeta()
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


# ---- pods


class Resources(Shape, frozen=True):
    """Requests and limits of a container."""

    requests: Quantities | None = None
    limits: Quantities | None = None


class Container(Shape, frozen=True):
    """A container of the spec; a sidecar is an init container with `restartPolicy: Always`."""

    name: str = ""
    resources: Resources | None = None
    restart_policy: str | None = None


class ClaimUse(Shape, frozen=True):
    """A resource claim that a pod uses: `name` within the pod."""

    name: str = ""
    resource_claim_name: str | None = None


class PodSpec(Shape, frozen=True):
    """`spec` of a Pod; of its containers no command, argument or variable is read."""

    node_name: str | None = None
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    overhead: Quantities | None = None
    resources: Resources | None = None
    priority: int | None = None


class Waiting(Shape, frozen=True):
    """Why a container does not run yet."""

    reason: str | None = None
    message: str | None = None


class Terminated(Shape, frozen=True):
    """How a container ended."""

    reason: str | None = None
    exit_code: int | None = None
    finished_at: str | None = None


class ContainerState(Shape, frozen=True):
    """One of the three is there."""

    waiting: Waiting | None = None
    running: dict[str, Any] | None = None
    terminated: Terminated | None = None


class DeviceHealth(Shape, frozen=True):
    """What a device plugin or DRA driver says of one device."""

    resource_id: str = field(default="", name="resourceID")
    health: str | None = None
    message: str | None = None


class AllocatedResource(Shape, frozen=True):
    """`allocatedResourcesStatus`: the devices of one resource."""

    name: str = ""
    resources: list[DeviceHealth] | None = None


class ContainerStatus(Shape, frozen=True):
    """State of one container."""

    name: str = ""
    ready: bool | None = None
    restart_count: int | None = None
    state: ContainerState | None = None
    last_state: ContainerState | None = None
    allocated_resources_status: list[AllocatedResource] | None = None


class PodStatus(Shape, frozen=True):
    """`status` of a Pod."""

    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    start_time: str | None = None
    resource_claim_statuses: list[ClaimUse] | None = None


class Pod(Thing, frozen=True, rename="camel"):
    """v1 Pod."""

    spec: PodSpec | None = None
    status: PodStatus | None = None


# ---- workloads


class Template(Shape, frozen=True):
    """A pod template: only the labels that its pods get."""

    metadata: Meta | None = None


class Selector(Shape, frozen=True):
    """A label selector; only plain equality is read."""

    match_labels: dict[str, str] | None = None


class ScaleSpec(Shape, frozen=True):
    """`spec` of a Deployment or StatefulSet. Absent `replicas` are one."""

    replicas: int | None = None
    paused: bool | None = None
    template: Template | None = None


class ScaleStatus(Shape, frozen=True):
    """`status` of a Deployment or StatefulSet."""

    observed_generation: int | None = None
    replicas: int | None = None
    ready_replicas: int | None = None
    available_replicas: int | None = None
    updated_replicas: int | None = None
    unavailable_replicas: int | None = None
    current_revision: str | None = None
    update_revision: str | None = None
    conditions: list[Condition] | None = None


class Deployment(Thing, frozen=True, rename="camel"):
    """apps/v1 Deployment or StatefulSet."""

    spec: ScaleSpec | None = None
    status: ScaleStatus | None = None


class JobSpec(Shape, frozen=True):
    """`spec` of a batch/v1 Job."""

    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None


class JobStatus(Shape, frozen=True):
    """`status` of a batch/v1 Job."""

    active: int | None = None
    ready: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    terminating: int | None = None
    start_time: str | None = None
    completion_time: str | None = None
    conditions: list[Condition] | None = None


class Job(Thing, frozen=True, rename="camel"):
    """batch/v1 Job."""

    spec: JobSpec | None = None
    status: JobStatus | None = None


# ---- services, tenants, events


class ServicePort(Shape, frozen=True):
    """One port of a Service."""

    name: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class ServiceSpec(Shape, frozen=True):
    """`spec` of a Service."""

    selector: dict[str, str] | None = None
    ports: list[ServicePort] | None = None
    type: str | None = None


class Service(Thing, frozen=True, rename="camel"):
    """v1 Service."""

    spec: ServiceSpec | None = None


class NamespaceStatus(Shape, frozen=True):
    """`status` of a Namespace."""

    phase: str | None = None


class Namespace(Thing, frozen=True, rename="camel"):
    """v1 Namespace."""

    status: NamespaceStatus | None = None


class QuotaSpec(Shape, frozen=True):
    """`spec` of a ResourceQuota: whether it counts only some pods."""

    scopes: list[str] | None = None
    scope_selector: dict[str, Any] | None = None


class QuotaStatus(Shape, frozen=True):
    """`status` of a ResourceQuota."""

    hard: Quantities | None = None
    used: Quantities | None = None


class ResourceQuota(Thing, frozen=True, rename="camel"):
    """v1 ResourceQuota."""

    spec: QuotaSpec | None = None
    status: QuotaStatus | None = None


class ObjectReference(Shape, frozen=True):
    """What an event is about."""

    kind: str = ""
    name: str = ""
    namespace: str | None = None
    uid: str | None = None


class EventSeries(Shape, frozen=True):
    """How often an event came, where it comes often."""

    count: int | None = None
    last_observed_time: str | None = None


class Event(Thing, frozen=True, rename="camel"):
    """v1 Event."""

    type: str | None = None
    reason: str | None = None
    message: str | None = None
    count: int | None = None
    involved_object: ObjectReference | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    series: EventSeries | None = None
