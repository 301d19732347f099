"""What is read of objects that extensions of Kubernetes bring: JobSet, Kueue, KServe, DRA. See `objects`."""

from __future__ import annotations

from typing import Any

from msgspec import field

from steersman.drivers.kubernetes.objects import Condition, Shape, Taint
from steersman.drivers.kubernetes.shapes import Thing

# ---- JobSet (jobset.x-k8s.io/v1alpha2)


class JobSetSpec(Shape, frozen=True):
    """`spec` of a JobSet."""

    suspend: bool | None = None


class ReplicatedJobStatus(Shape, frozen=True):
    """How many of a JobSet's jobs are where."""

    name: str = ""
    ready: int | None = None
    active: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    suspended: int | None = None


class JobSetStatus(Shape, frozen=True):
    """`status` of a JobSet; `terminalState` is Completed or Failed."""

    conditions: list[Condition] | None = None
    restarts: int | None = None
    terminal_state: str | None = None
    replicated_jobs_status: list[ReplicatedJobStatus] | None = None


class JobSet(Thing, frozen=True, rename="camel"):
    """A set of jobs that run together."""

    spec: JobSetSpec | None = None
    status: JobSetStatus | None = None


# ---- Kueue (kueue.x-k8s.io/v1beta1)


class Usage(Shape, frozen=True):
    """What a flavour's resource is used to, or quota of it."""

    name: str = ""
    total: Any = None
    nominal_quota: Any = None


class FlavorUsage(Shape, frozen=True):
    """A flavour with its resources."""

    name: str = ""
    resources: list[Usage] | None = None


class ResourceGroup(Shape, frozen=True):
    """Resources that have their flavours together."""

    flavors: list[FlavorUsage] | None = None


class QueueSpec(Shape, frozen=True):
    """`spec` of a ClusterQueue or LocalQueue. `stopPolicy` is None, Hold or HoldAndDrain."""

    stop_policy: str | None = None
    cluster_queue: str | None = None
    cohort: str | None = None
    resource_groups: list[ResourceGroup] | None = None


class QueueStatus(Shape, frozen=True):
    """`status` of a ClusterQueue or LocalQueue. Older versions say `flavorUsage` in a LocalQueue."""

    conditions: list[Condition] | None = None
    pending_workloads: int | None = None
    reserving_workloads: int | None = None
    admitted_workloads: int | None = None
    flavors_usage: list[FlavorUsage] | None = None
    flavor_usage: list[FlavorUsage] | None = None


class Queue(Thing, frozen=True, rename="camel"):
    """A ClusterQueue, or a LocalQueue of a namespace."""

    spec: QueueSpec | None = None
    status: QueueStatus | None = None


class WorkloadSpec(Shape, frozen=True):
    """`spec` of a Workload."""

    queue_name: str | None = None
    active: bool | None = None
    priority: int | None = None


class Admission(Shape, frozen=True):
    """Where a Workload was admitted."""

    cluster_queue: str | None = None


class WorkloadStatus(Shape, frozen=True):
    """`status` of a Workload."""

    conditions: list[Condition] | None = None
    admission: Admission | None = None


class Workload(Thing, frozen=True, rename="camel"):
    """What Kueue queues: it stands for a job of some kind, its owner."""

    spec: WorkloadSpec | None = None
    status: WorkloadStatus | None = None


# ---- KServe (serving.kserve.io/v1beta1)


class Model(Shape, frozen=True):
    """The model of a predictor."""

    storage_uri: str | None = None
    runtime: str | None = None


class Predictor(Shape, frozen=True):
    """The predictor of an InferenceService."""

    model: Model | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None


class InferenceSpec(Shape, frozen=True):
    """`spec` of an InferenceService."""

    predictor: Predictor | None = None


class Traffic(Shape, frozen=True):
    """A share of the traffic, in percent."""

    revision_name: str | None = None
    percent: float | None = None
    latest_revision: bool | None = None
    tag: str | None = None


class ComponentStatus(Shape, frozen=True):
    """One component (predictor, transformer, explainer)."""

    latest_created_revision: str | None = None
    latest_ready_revision: str | None = None
    latest_rolledout_revision: str | None = None
    previous_rolledout_revision: str | None = None
    traffic: list[Traffic] | None = None


class LoadFailure(Shape, frozen=True):
    """Why a model could not be loaded."""

    reason: str | None = None
    message: str | None = None
    model_revision_name: str | None = None


class ModelStates(Shape, frozen=True):
    """States of the model that serves and of the one that shall."""

    active_model_state: str | None = None
    target_model_state: str | None = None


class ModelCopies(Shape, frozen=True):
    """Copies of the model."""

    failed_copies: int | None = None
    total_copies: int | None = None


class ModelStatus(Shape, frozen=True):
    """`status.modelStatus`."""

    transition_status: str | None = None
    states: ModelStates | None = None
    copies: ModelCopies | None = None
    last_failure_info: LoadFailure | None = None


class InferenceStatus(Shape, frozen=True):
    """`status` of an InferenceService."""

    conditions: list[Condition] | None = None
    url: str | None = None
    components: dict[str, ComponentStatus] | None = None
    model_status: ModelStatus | None = None
    observed_generation: int | None = None


class InferenceService(Thing, frozen=True, rename="camel"):
    """A model that KServe serves."""

    spec: InferenceSpec | None = None
    status: InferenceStatus | None = None


# ---- DRA (resource.k8s.io)


class Attribute(Shape, frozen=True, rename={"whole": "int", "flag": "bool", "text": "string"}):
    """One attribute of a device; one of the four is there."""

    text: str | None = None
    whole: int | None = None
    flag: bool | None = None
    version: str | None = None

    @property
    def value(self) -> str | int | bool | None:
        """Whichever is there."""
        return next((v for v in (self.text, self.whole, self.version, self.flag) if v is not None), None)


class Capacity(Shape, frozen=True):
    """One capacity of a device."""

    value: Any = None


class DeviceBasics(Shape, frozen=True):
    """What v1beta1 says of a device under `basic`, and later versions say of it directly."""

    attributes: dict[str, Attribute] | None = None
    capacity: dict[str, Any] | None = None
    taints: list[Taint] | None = None
    node_name: str | None = None


class Device(DeviceBasics, frozen=True):
    """A device that may be allocated."""

    name: str = ""
    basic: DeviceBasics | None = None

    @property
    def basics(self) -> DeviceBasics:
        """Its attributes, wherever this version of the API has them."""
        return self.basic or self


class Pool(Shape, frozen=True):
    """The pool that a slice is a part of."""

    name: str = ""
    generation: int | None = None
    resource_slice_count: int | None = None


class SliceSpec(Shape, frozen=True):
    """`spec` of a ResourceSlice."""

    driver: str = ""
    pool: Pool = Pool()
    node_name: str | None = None
    devices: list[Device] | None = None


class ResourceSlice(Thing, frozen=True, rename="camel"):
    """A part of a pool of devices."""

    spec: SliceSpec = SliceSpec()


class AllocatedDevice(Shape, frozen=True):
    """A device that a claim got. One for administrators is shared and takes nothing from others."""

    driver: str = ""
    pool: str = ""
    device: str = ""
    request: str | None = None
    admin_access: bool | None = None


class AllocatedDevices(Shape, frozen=True):
    """All devices that a claim got."""

    results: list[AllocatedDevice] | None = None


class Allocation(Shape, frozen=True):
    """What a claim got."""

    devices: AllocatedDevices | None = None


class Consumer(Shape, frozen=True):
    """Who may use a claim."""

    resource: str = ""
    name: str = ""
    uid: str = ""


class ClaimStatus(Shape, frozen=True):
    """`status` of a ResourceClaim."""

    allocation: Allocation | None = None
    reserved_for: list[Consumer] | None = None


class ResourceClaim(Thing, frozen=True, rename="camel"):
    """Devices that pods asked for."""

    status: ClaimStatus | None = None


class DeviceSelector(Shape, frozen=True):
    """Which devices a rule taints; what is left out matches any."""

    driver: str | None = None
    pool: str | None = None
    device: str | None = None


class TaintRuleSpec(Shape, frozen=True):
    """`spec` of a DeviceTaintRule."""

    device_selector: DeviceSelector | None = None
    taint: Taint = field(default_factory=Taint)


class DeviceTaintRule(Thing, frozen=True, rename="camel"):
    """A taint that an administrator puts on devices."""

    spec: TaintRuleSpec = TaintRuleSpec()


def capacity_of(basics: DeviceBasics, name: str) -> Any:
    """A capacity as a quantity: `{value: 80Gi}` or, in early versions, `80Gi` alone."""
    found = named(basics.capacity, name)
    return found.get("value") if isinstance(found, dict) else found  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - any JSON


def named(values: dict[str, Any] | None, name: str) -> Any:
    """The value of that name, with or without a domain before it (`gpu.nvidia.com/uuid`)."""
    if not values:
        return None
    if name in values:
        return values[name]
    return next((value for key, value in values.items() if key.rpartition("/")[2] == name), None)
