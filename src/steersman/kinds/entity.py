"""Canonical entities: the twelve things of a fleet that policies, gateway, API and dashboard read.

An entity is a read view that the State Bus makes from fragments; nobody constructs one to change the
fleet. A field that no source has reported is None (absent), which is not zero, not "unsupported" and not
"the source is down": those are told by provenance (`StateBus.explain`) and by the source's own health.

Each field carries its unit, its pace (how fast a true value may change, which decides what its age means)
and whether its entity type is expected to have it (which decides coverage in the confidence score); see
`steersman.kinds.fields`, which reads the annotations below and is the only reader of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from steersman.kinds.canonical import EVENT as EVENT
from steersman.kinds.canonical import SLOW as SLOW
from steersman.kinds.canonical import STATIC as STATIC
from steersman.kinds.canonical import VOLATILE as VOLATILE
from steersman.kinds.canonical import CanonicalEntity as CanonicalEntity
from steersman.kinds.canonical import EntityKey as EntityKey
from steersman.kinds.canonical import EntityType as EntityType
from steersman.kinds.canonical import HealthReason as HealthReason
from steersman.kinds.canonical import HealthState as HealthState
from steersman.kinds.canonical import SchedulerDomainType as SchedulerDomainType
from steersman.kinds.canonical import WorkloadType as WorkloadType
from steersman.kinds.canonical import meaning as _is
from steersman.kinds.gpu import RECOVERY_ACTIONS as RECOVERY_ACTIONS
from steersman.kinds.gpu import GPUEntity as GPUEntity

SERVICE_STATES = ("active", "degraded", "idle", "scaling", "unknown")
JOB_STATES = (
    "pending",
    "running",
    "completing",
    "completed",
    "failed",
    "cancelled",
    "suspended",
    "unknown",
)
QUEUE_STATES = ("up", "down", "drain", "inactive", "unknown")
DOMAIN_TYPES = tuple(member.value for member in SchedulerDomainType)
SCOPE_TYPES = ("namespace", "partition", "account", "project", "unknown")
DRAIN_INTENTS = ("planned", "automatic", "unknown")

_FAILED_NEAR = 0.005
"""Of what fails, a twentieth is much: half a percent may be a matter of when one looks."""
_LOAD_NEAR = 1.0
"""One task that runs or does not."""


class ServiceEntity(CanonicalEntity, frozen=True, kw_only=True):
    """A running endpoint that answers requests."""

    TYPE: ClassVar[EntityType] = EntityType.SERVICE

    service_state: Annotated[str | None, _is("what it says of itself", pace=SLOW, words=SERVICE_STATES)] = (
        None
    )
    url: Annotated[str | None, _is("where it is reached", pace=STATIC)] = None
    up: Annotated[bool | None, _is("whether the last probe or scrape got an answer")] = None
    probe_latency_ms: Annotated[float | None, _is("time that our own look took", "ms")] = None
    latency_p50_ms: Annotated[float | None, _is("median latency", "ms")] = None
    latency_p95_ms: Annotated[float | None, _is("95th percentile of latency", "ms", expected=True)] = None
    latency_p99_ms: Annotated[float | None, _is("99th percentile of latency", "ms")] = None
    latency_mean_ms: Annotated[float | None, _is("mean latency", "ms")] = None
    queue_time_p95_ms: Annotated[float | None, _is("95th percentile of the time waited", "ms")] = None
    queue_time_mean_ms: Annotated[float | None, _is("mean time waited", "ms")] = None
    time_to_first_token_p50_ms: Annotated[float | None, _is("median time to the first token", "ms")] = None
    time_to_first_token_p95_ms: Annotated[float | None, _is("95th percentile of the same", "ms")] = None
    inter_token_latency_p50_ms: Annotated[float | None, _is("median time between two tokens", "ms")] = None
    inter_token_latency_p95_ms: Annotated[float | None, _is("95th percentile of the same", "ms")] = None
    throughput: Annotated[float | None, _is("requests completed per second", "1/s")] = None
    prompt_tokens_per_second: Annotated[float | None, _is("tokens of prompts read per second", "1/s")] = None
    generation_tokens_per_second: Annotated[float | None, _is("tokens generated per second", "1/s")] = None
    kv_cache_utilization: Annotated[float | None, _is("KV cache in use, 0 to 1", "1", high=1)] = None
    prefix_cache_hit_rate: Annotated[
        float | None, _is("prompt tokens that were cached, 0 to 1", "1", high=1)
    ] = None
    preemptions_per_second: Annotated[float | None, _is("requests put aside for want of cache", "1/s")] = None
    queue_depth: Annotated[int | None, _is("requests that wait; not those in flight")] = None
    in_flight: Annotated[int | None, _is("requests being worked on")] = None
    error_rate: Annotated[
        float | None,
        _is("share of requests that failed, 0 to 1", "1", high=1, expected=True, near=_FAILED_NEAR),
    ] = None
    retry_rate: Annotated[
        float | None, _is("share of requests that were retries, 0 to 1", "1", high=1, near=_FAILED_NEAR)
    ] = None
    replica_count: Annotated[int | None, _is("replicas that exist", pace=SLOW)] = None
    available_replicas: Annotated[int | None, _is("replicas that can take requests", pace=SLOW)] = None
    desired_replicas: Annotated[int | None, _is("replicas that are asked for", pace=SLOW)] = None
    last_success_at: Annotated[datetime | None, _is("when a request last succeeded", pace=EVENT)] = None
    last_error: Annotated[str | None, _is("what the last failure said", pace=EVENT)] = None
    heartbeat_at: Annotated[datetime | None, _is("its last sign of life", pace=EVENT)] = None
    heartbeat_age_seconds: Annotated[float | None, _is("how old that was when it was looked at", "s")] = None
    problems: Annotated[
        list[str] | None, _is("what is wrong with it and its replicas, by its system's own words", pace=SLOW)
    ] = None
    state_reason: Annotated[str | None, _is("why it is in its state, in a word of its system", pace=SLOW)] = (
        None
    )
    uid: Annotated[str | None, _is("its system's id of this incarnation of it", pace=STATIC)] = None


class DeploymentEntity(CanonicalEntity, frozen=True, kw_only=True):
    """A set of replicas that something keeps at a number."""

    TYPE: ClassVar[EntityType] = EntityType.DEPLOYMENT

    replica_count: Annotated[int | None, _is("replicas that exist", pace=SLOW, expected=True)] = None
    available_replicas: Annotated[int | None, _is("replicas that are ready", pace=SLOW, expected=True)] = None
    desired_replicas: Annotated[int | None, _is("replicas that are asked for", pace=SLOW, expected=True)] = (
        None
    )
    updated_replicas: Annotated[int | None, _is("replicas of the newest revision", pace=SLOW)] = None
    cpu_utilization: Annotated[float | None, _is("CPU used of what is requested, 0 to 1 and above", "1")] = (
        None
    )
    memory_utilization: Annotated[
        float | None, _is("memory used of what is requested, 0 to 1 and above", "1")
    ] = None
    gpu_utilization: Annotated[
        float | None, _is("mean GPU utilisation of its replicas, 0 to 1", "1", high=1)
    ] = None
    uid: Annotated[str | None, _is("its system's id of this incarnation of it", pace=STATIC)] = None
    rollout_phase: Annotated[str | None, _is("where its rollout stands", pace=SLOW)] = None
    status_behind: Annotated[
        bool | None, _is("its counts are of an earlier version of what is asked for", pace=SLOW)
    ] = None
    problems: Annotated[
        list[str] | None, _is("what is wrong with it and its replicas, by its system's own words", pace=SLOW)
    ] = None
    state_reason: Annotated[str | None, _is("why it is in its state, in a word of its system", pace=SLOW)] = (
        None
    )


class NodeEntity(CanonicalEntity, frozen=True, kw_only=True):
    """One machine."""

    TYPE: ClassVar[EntityType] = EntityType.NODE

    cpu_utilization: Annotated[float | None, _is("CPU in use, 0 to 1", "1", high=1, expected=True)] = None
    memory_utilization: Annotated[
        float | None, _is("memory in use that can't be reclaimed, 0 to 1", "1", high=1, expected=True)
    ] = None
    gpu_count: Annotated[int | None, _is("GPUs that can be used", pace=SLOW)] = None
    cpu_count: Annotated[int | None, _is("logical CPUs", pace=STATIC)] = None
    memory_total: Annotated[int | None, _is("memory", "B", STATIC)] = None
    memory_available: Annotated[int | None, _is("memory that can be had without swapping", "B")] = None
    swap_utilization: Annotated[float | None, _is("swap in use, 0 to 1", "1", high=1)] = None
    load_1m: Annotated[float | None, _is("load average over one minute", near=_LOAD_NEAR)] = None
    load_5m: Annotated[float | None, _is("load average over five minutes", near=_LOAD_NEAR)] = None
    load_15m: Annotated[float | None, _is("load average over fifteen minutes", near=_LOAD_NEAR)] = None
    cpu_pressure: Annotated[
        float | None, _is("share of the last 10 s in which some task waited for CPU, 0 to 1", "1", high=1)
    ] = None
    memory_pressure: Annotated[
        float | None, _is("share of the last 10 s in which some task waited for memory, 0 to 1", "1", high=1)
    ] = None
    memory_pressure_full: Annotated[
        float | None, _is("share of the last 10 s in which all tasks waited for memory, 0 to 1", "1", high=1)
    ] = None
    storage_io_pressure: Annotated[
        float | None, _is("share of the last 10 s in which some task waited for I/O, 0 to 1", "1", high=1)
    ] = None
    storage_io_pressure_full: Annotated[
        float | None, _is("share of the last 10 s in which all tasks waited for I/O, 0 to 1", "1", high=1)
    ] = None
    disk_utilization: Annotated[float | None, _is("fullest local file system, 0 to 1", "1", SLOW, high=1)] = (
        None
    )
    disks: Annotated[
        dict[str, float] | None, _is("each local file system by mount point, in use 0 to 1", "1", SLOW)
    ] = None
    network_error_rate: Annotated[
        float | None,
        _is(
            "share of packets sent and received that had an error or were dropped, 0 to 1",
            "1",
            high=1,
            near=_FAILED_NEAR,
        ),
    ] = None
    boot_id: Annotated[str | None, _is("changes with each boot", pace=STATIC)] = None
    booted_at: Annotated[datetime | None, _is("when it booted", pace=STATIC)] = None
    hostname: Annotated[str | None, _is("name it gives itself", pace=STATIC)] = None
    addresses: Annotated[
        list[str] | None, _is("IP addresses at which it is reached", pace=STATIC, own=True)
    ] = None
    system_uuid: Annotated[str | None, _is("UUID that its firmware gives", pace=STATIC)] = None
    provider_id: Annotated[
        str | None, _is("id that its cloud gives, as Kubernetes writes it", pace=STATIC)
    ] = None
    instance_id: Annotated[str | None, _is("id of its instance in its cloud", pace=STATIC)] = None
    os: Annotated[str | None, _is("operating system and version", pace=STATIC, own=True)] = None
    kernel: Annotated[str | None, _is("kernel release", pace=STATIC)] = None
    schedulable: Annotated[
        bool | None, _is("whether its scheduler may place work on it", pace=SLOW, own=True)
    ] = None
    scheduler_state: Annotated[
        str | None,
        _is("its state in the words of its scheduler; several are joined by +", pace=SLOW, own=True),
    ] = None
    scheduler_flags: Annotated[
        list[str] | None,
        _is("what its scheduler says beside the base state, by its own words", pace=SLOW, own=True),
    ] = None
    drain_reason: Annotated[
        str | None, _is("why its scheduler places no work on it, as was written there", pace=SLOW, own=True)
    ] = None
    drain_by: Annotated[str | None, _is("who wrote that: a user or a component", pace=SLOW, own=True)] = None
    drain_intent: Annotated[
        str | None,
        _is(
            "whether somebody planned that or a program found a fault",
            pace=SLOW,
            words=DRAIN_INTENTS,
            own=True,
        ),
    ] = None
    drained_at: Annotated[datetime | None, _is("when that was written", pace=EVENT, own=True)] = None
    reservation: Annotated[str | None, _is("reservations that it is in, by name", pace=SLOW, own=True)] = None
    planned_reason: Annotated[
        str | None, _is("what is planned for it: maintenance or reserved", pace=SLOW, own=True)
    ] = None
    planned_at: Annotated[datetime | None, _is("when that begins", pace=SLOW, own=True)] = None
    planned_until: Annotated[datetime | None, _is("when that ends", pace=SLOW, own=True)] = None
    node_conditions: Annotated[
        list[str] | None,
        _is("conditions of its scheduler and its agents that hold, by type", pace=SLOW, own=True),
    ] = None
    node_conditions_unknown: Annotated[
        list[str] | None,
        _is("conditions of which is not known whether they hold, by type", pace=SLOW, own=True),
    ] = None
    taints: Annotated[
        list[str] | None,
        _is("what keeps work off it unless tolerated, as key=value:effect", pace=SLOW, own=True),
    ] = None
    heartbeat_at: Annotated[
        datetime | None, _is("its last sign of life to its scheduler", pace=EVENT, own=True)
    ] = None
    gpu_capacity: Annotated[int | None, _is("GPUs it has, usable or not", pace=SLOW)] = None
    gpus_visible: Annotated[int | None, _is("GPUs that its driver shows, MIG instances not counted")] = None
    gpus_allocated: Annotated[int | None, _is("GPUs that its scheduler gave to work", own=True)] = None
    cpus_allocated: Annotated[float | None, _is("CPUs that its scheduler gave to work", own=True)] = None
    memory_allocated: Annotated[int | None, _is("memory that its scheduler gave to work", "B", own=True)] = (
        None
    )
    partitions: Annotated[list[str] | None, _is("partitions or pools it belongs to", pace=SLOW, own=True)] = (
        None
    )
    agent_version: Annotated[
        str | None, _is("version of its scheduler's agent on it (slurmd, kubelet)", pace=STATIC, own=True)
    ] = None
    uid: Annotated[str | None, _is("its system's id of this incarnation of it", pace=STATIC, own=True)] = None
    problems: Annotated[
        list[str] | None, _is("what is wrong with it, by its system's own words", pace=SLOW, own=True)
    ] = None
    state_reason: Annotated[
        str | None, _is("why it is in its state, in words of its scheduler", pace=SLOW, own=True)
    ] = None
    state_since: Annotated[datetime | None, _is("when it came to that state", pace=EVENT, own=True)] = None


class JobEntity(CanonicalEntity, frozen=True, kw_only=True):
    """A piece of work that ends."""

    TYPE: ClassVar[EntityType] = EntityType.JOB

    job_state: Annotated[
        str | None,
        _is("where it stands", expected=True, words=JOB_STATES),
    ] = None
    assigned_gpu_count: Annotated[int | None, _is("GPUs given to it", pace=SLOW)] = None
    gpu_utilization: Annotated[float | None, _is("mean utilisation of its GPUs, 0 to 1", "1", high=1)] = None
    gpu_memory_used: Annotated[int | None, _is("framebuffer it uses", "B")] = None
    cpu_utilization: Annotated[float | None, _is("CPU used of the cores it has, 0 to 1 and above", "1")] = (
        None
    )
    memory_used: Annotated[int | None, _is("resident memory", "B")] = None
    process_count: Annotated[int | None, _is("processes that belong to it")] = None
    runtime_seconds: Annotated[float | None, _is("how long it has run", "s")] = None
    started_at: Annotated[datetime | None, _is("when it started", pace=STATIC)] = None
    submitted_at: Annotated[
        datetime | None, _is("when it was submitted; with its id it names one job for ever", pace=STATIC)
    ] = None
    node: Annotated[
        str | None, _is("entity id of the node it runs on", pace=SLOW, refers=EntityType.NODE)
    ] = None
    command: Annotated[str | None, _is("its program, without arguments", pace=STATIC)] = None
    exit_code: Annotated[int | None, _is("how it ended", pace=EVENT, low=None)] = None
    job_name: Annotated[str | None, _is("name that its owner gave it", pace=STATIC)] = None
    owner: Annotated[str | None, _is("user it runs as", pace=STATIC)] = None
    account: Annotated[str | None, _is("account it is charged to", pace=SLOW)] = None
    queues: Annotated[
        list[str] | None, _is("entity ids of the queues it may start in, while there are several", pace=SLOW)
    ] = None
    qos: Annotated[str | None, _is("quality of service it was given", pace=SLOW)] = None
    priority: Annotated[int | None, _is("priority; larger goes first, 0 is held")] = None
    scheduler_state: Annotated[
        str | None, _is("its state in the words of its scheduler; several are joined by +")
    ] = None
    ended_at: Annotated[datetime | None, _is("when it ended", pace=EVENT)] = None
    time_limit_seconds: Annotated[float | None, _is("how long it may run", "s", SLOW)] = None
    requested_gpu_count: Annotated[int | None, _is("GPUs that it asks for", pace=SLOW)] = None
    restart_count: Annotated[int | None, _is("how often it was begun anew", pace=SLOW)] = None
    array_job_id: Annotated[str | None, _is("id of the array that it is of", pace=STATIC)] = None
    array_tasks: Annotated[
        str | None, _is("tasks of its array that it stands for (1-5%2 while they wait)", pace=SLOW)
    ] = None
    het_job_id: Annotated[
        str | None, _is("id of the heterogeneous job that it is a part of", pace=STATIC)
    ] = None
    reservation: Annotated[str | None, _is("reservation it runs in", pace=SLOW)] = None
    uid: Annotated[str | None, _is("its system's id of this incarnation of it", pace=STATIC)] = None
    nodes: Annotated[
        list[str] | None,
        _is(
            "entity ids of the nodes it runs on; the first of them where many",
            pace=SLOW,
            refers=EntityType.NODE,
        ),
    ] = None
    node_count: Annotated[int | None, _is("nodes it runs on", pace=SLOW)] = None
    queue: Annotated[str | None, _is("entity id of the queue it is in", pace=SLOW)] = None
    state_reason: Annotated[
        str | None, _is("why it is in its state, in a word of its scheduler", pace=SLOW)
    ] = None
    problems: Annotated[
        list[str] | None, _is("what is wrong with it and its parts, by its system's own words", pace=SLOW)
    ] = None


class QueueEntity(CanonicalEntity, frozen=True, kw_only=True):
    """Where jobs wait."""

    TYPE: ClassVar[EntityType] = EntityType.QUEUE

    queue_depth: Annotated[int | None, _is("jobs in it", expected=True)] = None
    pending_jobs: Annotated[int | None, _is("jobs that wait", expected=True)] = None
    active_jobs: Annotated[int | None, _is("jobs that run", expected=True)] = None
    avg_wait_seconds: Annotated[float | None, _is("mean wait of those that started lately", "s")] = None
    queue_state: Annotated[
        str | None, _is("whether it takes and starts jobs", pace=SLOW, words=QUEUE_STATES)
    ] = None


class ModelRevisionEntity(CanonicalEntity, frozen=True, kw_only=True):
    """One version of a model that is or may be served."""

    TYPE: ClassVar[EntityType] = EntityType.MODEL_REVISION

    model_name: Annotated[str | None, _is("model", pace=STATIC, expected=True)] = None
    model_version: Annotated[str | None, _is("version", pace=STATIC, expected=True)] = None
    revision_state: Annotated[str | None, _is("serving state", pace=SLOW, expected=True)] = None
    rollout_phase: Annotated[str | None, _is("where its rollout stands", pace=SLOW)] = None
    aliases: Annotated[list[str] | None, _is("names that stand for it now", pace=SLOW)] = None
    run_id: Annotated[str | None, _is("entity id of the run that made it", pace=STATIC)] = None
    traffic_percent: Annotated[
        float | None, _is("share of traffic it gets, 0 to 100", "%", SLOW, high=100)
    ] = None
    throughput: Annotated[float | None, _is("requests completed per second", "1/s")] = None
    error_rate: Annotated[
        float | None, _is("share of requests that failed, 0 to 1", "1", high=1, near=_FAILED_NEAR)
    ] = None
    latency_p95_ms: Annotated[float | None, _is("95th percentile of latency", "ms")] = None
    latency_mean_ms: Annotated[float | None, _is("mean latency", "ms")] = None
    queue_depth: Annotated[int | None, _is("requests that wait; not those in flight")] = None
    in_flight: Annotated[int | None, _is("requests being worked on")] = None


class SchedulerDomainEntity(CanonicalEntity, frozen=True, kw_only=True):
    """A cluster, or whatever places work."""

    TYPE: ClassVar[EntityType] = EntityType.SCHEDULER_DOMAIN

    domain_type: Annotated[
        str | None, _is("what schedules here", pace=STATIC, expected=True, words=DOMAIN_TYPES)
    ] = None
    total_nodes: Annotated[int | None, _is("nodes in it", pace=SLOW, expected=True)] = None
    available_nodes: Annotated[int | None, _is("nodes that can take work", pace=SLOW)] = None
    total_gpus: Annotated[int | None, _is("GPUs in it", pace=SLOW, expected=True)] = None
    active_workloads: Annotated[int | None, _is("jobs and services that run")] = None
    version: Annotated[str | None, _is("version of the scheduler", pace=STATIC)] = None
    up: Annotated[bool | None, _is("whether the scheduler answers")] = None
    pending_workloads: Annotated[int | None, _is("jobs and services that wait")] = None
    latency_ms: Annotated[float | None, _is("how long the scheduler took to answer", "ms")] = None
    cycle_seconds: Annotated[float | None, _is("mean time of one pass of the scheduler", "s")] = None
    server_threads: Annotated[int | None, _is("requests that the scheduler works on at once")] = None
    agent_queue_size: Annotated[int | None, _is("messages that wait to be sent to nodes")] = None
    database_queue_size: Annotated[
        int | None, _is("records that wait to be sent to the accounting database")
    ] = None


class TenantScopeEntity(CanonicalEntity, frozen=True, kw_only=True):
    """Who may use how much: a namespace, partition or account."""

    TYPE: ClassVar[EntityType] = EntityType.TENANT_SCOPE

    scope_type: Annotated[
        str | None, _is("what it is in its system", pace=STATIC, expected=True, words=SCOPE_TYPES)
    ] = None
    resource_quota: Annotated[dict[str, float] | None, _is("what it may use, by resource", pace=SLOW)] = None
    resource_usage: Annotated[dict[str, float] | None, _is("what it uses, by resource")] = None
    active_workloads: Annotated[int | None, _is("jobs and services it runs")] = None
    uid: Annotated[str | None, _is("its system's id of this incarnation of it", pace=STATIC)] = None


class ExperimentTrackerEntity(CanonicalEntity, frozen=True, kw_only=True):
    """A tracked run of an experiment."""

    TYPE: ClassVar[EntityType] = EntityType.EXPERIMENT_TRACKER

    run_state: Annotated[str | None, _is("state of the run", pace=SLOW, expected=True)] = None
    experiment: Annotated[str | None, _is("experiment it belongs to", pace=STATIC)] = None
    metrics: Annotated[dict[str, float] | None, _is("latest value of each metric")] = None
    metrics_not_finite: Annotated[
        list[str] | None, _is("metrics whose latest value is no finite number, as of a loss that diverged")
    ] = None
    artifacts: Annotated[int | None, _is("artifacts stored", pace=SLOW)] = None
    started_at: Annotated[datetime | None, _is("when it started", pace=STATIC)] = None
    ended_at: Annotated[datetime | None, _is("when it ended", pace=EVENT)] = None
    heartbeat_at: Annotated[datetime | None, _is("last sign of life", pace=EVENT)] = None
    heartbeat_timeout_s: Annotated[
        float | None, _is("how long a run that works may give no sign of life", "s", STATIC)
    ] = None
    run_name: Annotated[str | None, _is("name for people", pace=STATIC)] = None
    job_id: Annotated[
        str | None, _is("id of the job it runs as, in its scheduler", pace=STATIC, refers=EntityType.JOB)
    ] = None


class DataPipelineStageEntity(CanonicalEntity, frozen=True, kw_only=True):
    """One stage of a data pipeline."""

    TYPE: ClassVar[EntityType] = EntityType.DATA_PIPELINE_STAGE

    stage_state: Annotated[str | None, _is("state of the stage", expected=True)] = None
    throughput: Annotated[float | None, _is("items per second", "1/s")] = None
    lag_messages: Annotated[int | None, _is("items not yet worked on")] = None
    lag_seconds: Annotated[float | None, _is("how far behind it is", "s")] = None
    last_success_at: Annotated[datetime | None, _is("when it last succeeded", pace=EVENT)] = None


class ConfigSnapshotEntity(CanonicalEntity, frozen=True, kw_only=True):
    """A piece of configuration as it stands, by hash; the content is never kept."""

    TYPE: ClassVar[EntityType] = EntityType.CONFIG_SNAPSHOT

    config_hash: Annotated[
        str | None, _is("hash of the content, with the name of the algorithm", pace=SLOW, expected=True)
    ] = None
    baseline_hash: Annotated[str | None, _is("hash that is held to be right", pace=SLOW)] = None
    drift: Annotated[
        bool | None, _is("whether the content differs from the baseline", pace=SLOW, expected=True)
    ] = None
    present: Annotated[bool | None, _is("whether it exists", pace=SLOW)] = None
    path: Annotated[str | None, _is("where it is", pace=STATIC)] = None
    size_bytes: Annotated[int | None, _is("size", "B", SLOW)] = None
    modified_at: Annotated[datetime | None, _is("when it was last changed", pace=EVENT)] = None
    commit: Annotated[str | None, _is("commit that is checked out", pace=SLOW)] = None
    branch: Annotated[str | None, _is("branch that is checked out", pace=SLOW)] = None
    changed_files: Annotated[int | None, _is("files that differ from that commit", pace=SLOW)] = None
    ahead: Annotated[int | None, _is("commits that its upstream does not have", pace=SLOW)] = None
    behind: Annotated[int | None, _is("commits of its upstream that it does not have", pace=SLOW)] = None
    in_progress: Annotated[str | None, _is("what was begun on it and not ended, as a rebase", pace=SLOW)] = (
        None
    )


ENTITY_CLASSES: dict[EntityType, type[CanonicalEntity]] = {
    cls.TYPE: cls
    for cls in (
        ServiceEntity,
        DeploymentEntity,
        GPUEntity,
        NodeEntity,
        JobEntity,
        QueueEntity,
        ModelRevisionEntity,
        SchedulerDomainEntity,
        TenantScopeEntity,
        ExperimentTrackerEntity,
        DataPipelineStageEntity,
        ConfigSnapshotEntity,
    )
}
"""The class of each entity type: exactly twelve."""
