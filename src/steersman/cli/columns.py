"""Which fields a table shows, per entity type. Everything else is in `describe`, json and yaml."""

from __future__ import annotations

from typing import NamedTuple

from steersman.kinds.entity import EntityType


class Column(NamedTuple):
    """A column: its heading and the entity's field."""

    heading: str
    field: str


class Columns(NamedTuple):
    """The columns of a type between AGE and the end; `wide` come after `usual`."""

    usual: tuple[Column, ...]
    wide: tuple[Column, ...]


def _columns(usual: str, wide: str) -> Columns:
    """Columns from `HEADING=field` words. Headings hold no space, so that awk can count them."""
    return Columns(
        tuple(Column(*word.split("=")) for word in usual.split()),
        tuple(Column(*word.split("=")) for word in wide.split()),
    )


COLUMNS: dict[EntityType, Columns] = {
    EntityType.SERVICE: _columns(
        "UP=up P95=latency_p95_ms ERRORS=error_rate RATE=throughput QUEUE=queue_depth",
        "P50=latency_p50_ms P99=latency_p99_ms IN_FLIGHT=in_flight READY=available_replicas "
        "REPLICAS=replica_count STATE=service_state URL=url",
    ),
    EntityType.DEPLOYMENT: _columns(
        "READY=available_replicas REPLICAS=replica_count DESIRED=desired_replicas CPU=cpu_utilization",
        "UPDATED=updated_replicas MEMORY=memory_utilization GPU=gpu_utilization",
    ),
    EntityType.GPU: _columns(
        "NODE=node UTIL=gpu_utilization MEMORY=gpu_memory_used OF=gpu_memory_total TEMP=temperature_celsius "
        "POWER=power_draw_watts",
        "INDEX=gpu_index MODEL=model_name ECC=ecc_errors XID=xid CLOCK=sm_clock_mhz DRIVER=driver_version "
        "JOB=assigned_job_id",
    ),
    EntityType.NODE: _columns(
        "CPU=cpu_utilization MEMORY=memory_utilization DISK=disk_utilization LOAD=load_1m GPUS=gpu_count",
        "CPUS=cpu_count TOTAL=memory_total CPU_WAIT=cpu_pressure IO_WAIT=storage_io_pressure "
        "NET_ERRORS=network_error_rate BOOTED=booted_at KERNEL=kernel OS=os",
    ),
    EntityType.JOB: _columns(
        "STATE=job_state GPUS=assigned_gpu_count CPU=cpu_utilization MEMORY=memory_used "
        "RUNTIME=runtime_seconds",
        "NODE=node PROCESSES=process_count GPU=gpu_utilization EXIT=exit_code COMMAND=command",
    ),
    EntityType.QUEUE: _columns(
        "DEPTH=queue_depth PENDING=pending_jobs ACTIVE=active_jobs WAIT=avg_wait_seconds", "STATE=queue_state"
    ),
    EntityType.MODEL_REVISION: _columns(
        "MODEL=model_name VERSION=model_version STATE=revision_state TRAFFIC=traffic_percent",
        "ROLLOUT=rollout_phase",
    ),
    EntityType.SCHEDULER_DOMAIN: _columns(
        "DOMAIN=domain_type NODES=total_nodes AVAILABLE=available_nodes GPUS=total_gpus",
        "WORKLOADS=active_workloads VERSION=version",
    ),
    EntityType.TENANT_SCOPE: _columns(
        "KIND=scope_type WORKLOADS=active_workloads", "USAGE=resource_usage QUOTA=resource_quota"
    ),
    EntityType.EXPERIMENT_TRACKER: _columns(
        "STATE=run_state EXPERIMENT=experiment STARTED=started_at",
        "HEARTBEAT=heartbeat_at ARTIFACTS=artifacts METRICS=metrics",
    ),
    EntityType.DATA_PIPELINE_STAGE: _columns(
        "STATE=stage_state RATE=throughput LAG=lag_messages BEHIND=lag_seconds", "SUCCESS=last_success_at"
    ),
    EntityType.CONFIG_SNAPSHOT: _columns(
        "PRESENT=present DRIFT=drift MODIFIED=modified_at PATH=path",
        "SIZE=size_bytes HASH=config_hash BASELINE=baseline_hash",
    ),
}
"""The columns of each of the twelve types."""
