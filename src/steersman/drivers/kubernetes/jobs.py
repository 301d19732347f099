"""From a Job, a JobSet or a Kueue Workload to the `job` entity. Pure.

A Kueue Workload stands for a job of some kind. Where that kind is read itself, the Workload only says where
in the queue it is; where it is not (RayJob, PyTorchJob, MPIJob), the Workload is all that is known of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from steersman.drivers.kubernetes.accelerators import gpus_in, slices_in
from steersman.drivers.kubernetes.addons import (
    JobSet,
    JobSetStatus,
    Workload,
    WorkloadSpec,
    WorkloadStatus,
)
from steersman.drivers.kubernetes.fact import Fact, Keep, common, present, shown, when
from steersman.drivers.kubernetes.objects import (
    Condition,
    Job,
    JobSpec,
    JobStatus,
    condition,
    holds,
    path_of,
)
from steersman.drivers.kubernetes.pods import PodFacts
from steersman.drivers.kubernetes.shapes import Meta
from steersman.drivers.kubernetes.troubles import problem_fields
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import ITEMS_MAX

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
READ_KINDS = ("Job", "JobSet")
"""Kinds of job that are read themselves."""
ENDED_STATES = ("completed", "failed")
ENDED_WORDS = {"Completed": "completed", "Failed": "failed"}


def job_id(kind: str, path: str) -> str:
    """`namespace/name` of a Job; other kinds may have the same names, so the kind stands between."""
    if kind == "Job":
        return path
    namespace, _, name = path.partition("/")
    return f"{namespace}/{kind.lower()}/{name}"


def job_fact(
    item: Job,
    keep: Keep,
    now: datetime,
    pods: Iterable[PodFacts] | None = None,
    *,
    workload: Workload | None = None,
    devices: int = 0,
) -> Fact:
    """The fields of a Job. `devices` are GPUs that its pods hold by resource claims."""
    spec, status = item.spec or JobSpec(), item.status or JobStatus()
    own = None if pods is None else list(pods)
    state, because = _job_state(item, spec, status, own)
    state, because = _in_queue(state, because, item.metadata, workload)
    began, ended = when(status.start_time), _ended_at(status)
    fields: dict[str, Any] = {
        **common(item.metadata),
        "job_state": state,
        **_why(because),
        "submitted_at": when(item.metadata.creation_timestamp),
        "started_at": began,
        "ended_at": ended,
        "runtime_seconds": _runtime_s(state, began, ended, now),
        "pods_active": status.active or 0,
        "pods_succeeded": status.succeeded or 0,
        "pods_failed": status.failed or 0,
        "parallelism": spec.parallelism,
        "completions": spec.completions,
        **_queue_fields(item.metadata, workload),
        **(pod_fields(own, now, devices, ended=state in ENDED_STATES) if own is not None else {}),
    }
    if state == "completed":
        fields["exit_code"] = 0
    elif state != "failed":
        fields.pop("exit_code", None)  # a pod that failed and was replaced is not how the job ended
    labels = {**keep.of(item.metadata), "kind": "Job"}
    return Fact(EntityType.JOB, job_id("Job", path_of(item.metadata)), present(fields), labels)


def _job_state(
    item: Job, spec: JobSpec, status: JobStatus, pods: list[PodFacts] | None
) -> tuple[str, Condition | None]:
    """The state, and the condition that says why."""
    for kind, state in (("Complete", "completed"), ("Failed", "failed")):
        if holds(status.conditions, kind):
            return state, condition(status.conditions, kind)
    for kind in ("FailureTarget", "SuccessCriteriaMet"):  # decided, and its pods still have to end
        if holds(status.conditions, kind):
            return "completing", condition(status.conditions, kind)
    if item.metadata.deletion_timestamp is not None:
        return "completing", None
    if spec.suspend or holds(status.conditions, "Suspended"):
        return "suspended", condition(status.conditions, "Suspended")
    if not status.active:
        return "pending", None
    if status.ready is not None:  # absent before 1.24
        working = status.ready > 0 or _any_running(pods)
    else:
        working = _any_running(pods) or pods is None
    return ("running" if working else "pending"), None


def _any_running(pods: list[PodFacts] | None) -> bool:
    return any(pod.phase == "Running" for pod in pods or [])


def jobset_fact(
    item: JobSet,
    keep: Keep,
    now: datetime,
    pods: Iterable[PodFacts] | None = None,
    *,
    workload: Workload | None = None,
    devices: int = 0,
) -> Fact:
    """The fields of a JobSet: its jobs are its parts and are not told one by one."""
    status = item.status or JobSetStatus()
    own = None if pods is None else list(pods)
    state, because = _jobset_state(item, status, own)
    state, because = _in_queue(state, because, item.metadata, workload)
    parts = status.replicated_jobs_status or []
    fields: dict[str, Any] = {
        **common(item.metadata),
        "job_state": state,
        **_why(because),
        "submitted_at": when(item.metadata.creation_timestamp),
        "jobs_active": sum(part.active or 0 for part in parts),
        "jobs_succeeded": sum(part.succeeded or 0 for part in parts),
        "jobs_failed": sum(part.failed or 0 for part in parts),
        "restarts_of_set": status.restarts or 0,
        **_queue_fields(item.metadata, workload),
        **(pod_fields(own, now, devices, ended=state in ENDED_STATES) if own is not None else {}),
    }
    if state != "failed":
        fields.pop("exit_code", None)
    labels = {**keep.of(item.metadata), "kind": "JobSet"}
    return Fact(EntityType.JOB, job_id("JobSet", path_of(item.metadata)), present(fields), labels)


def _jobset_state(
    item: JobSet, status: JobSetStatus, pods: list[PodFacts] | None
) -> tuple[str, Condition | None]:
    for kind, state in ENDED_WORDS.items():
        if holds(status.conditions, kind) or status.terminal_state == kind:
            return state, condition(status.conditions, kind)
    if item.metadata.deletion_timestamp is not None:
        return "completing", None
    if (item.spec is not None and item.spec.suspend) or holds(status.conditions, "Suspended"):
        return "suspended", condition(status.conditions, "Suspended")
    parts = status.replicated_jobs_status or []
    working = any((part.ready or 0) > 0 for part in parts) or _any_running(pods)
    return ("running" if working else "pending"), None


def workload_fact(
    item: Workload,
    keep: Keep,
    now: datetime,
    kind: str,
    path: str,
    pods: Iterable[PodFacts],
    devices: int = 0,
) -> Fact:
    """The fields of a job of a kind that is not read, as far as its Workload and its pods tell."""
    own = list(pods)
    status = item.status or WorkloadStatus()
    state, because = "pending", None
    if holds(status.conditions, "Finished"):
        because = condition(status.conditions, "Finished")
        failed = because is not None and "fail" in f"{because.reason} {because.message}".lower()
        state = "failed" if failed else "completed"
    elif holds(status.conditions, "Admitted"):
        state = "running" if _any_running(own) else "pending"
    state, because = _in_queue(state, because, item.metadata, item)
    meta = item.metadata
    fields: dict[str, Any] = {
        **common(meta),
        "uid": next((owner.uid for owner in meta.owner_references or [] if owner.uid), None),
        "job_state": state,
        **_why(because),
        "submitted_at": when(meta.creation_timestamp),
        **_queue_fields(meta, item),
        **pod_fields(own, now, devices, ended=state in ENDED_STATES),
    }
    if state != "failed":
        fields.pop("exit_code", None)
    labels = {**keep.of(meta), "kind": kind}
    return Fact(EntityType.JOB, job_id(kind, path), present(fields), labels)


def _in_queue(
    state: str, because: Condition | None, meta: Meta, workload: Workload | None
) -> tuple[str, Condition | None]:
    """Kueue suspends what waits in its queue: that is pending, and not somebody's wish to suspend it."""
    if workload is None:
        waits = state == "suspended" and QUEUE_LABEL in (meta.labels or {})
        return ("pending", because) if waits else (state, because)
    if state not in ("suspended", "pending"):
        return state, because
    if workload.spec is not None and workload.spec.active is False:
        return "suspended", condition((workload.status or WorkloadStatus()).conditions, "Evicted")
    conditions = (workload.status or WorkloadStatus()).conditions
    if holds(conditions, "Admitted"):
        return state, because
    reserved = condition(conditions, "QuotaReserved")
    return "pending", reserved if reserved is not None and reserved.status == "False" else because


def _queue_fields(meta: Meta, workload: Workload | None) -> dict[str, Any]:
    """The queue by its entity id, and what Kueue says of the place in it."""
    local = (meta.labels or {}).get(QUEUE_LABEL)
    fields: dict[str, Any] = {"queue": f"{meta.namespace}/{local}" if local else None}
    if workload is None:
        return fields
    spec, status = workload.spec or WorkloadSpec(), workload.status or WorkloadStatus()
    if spec.queue_name:
        fields["queue"] = f"{workload.metadata.namespace}/{spec.queue_name}"
    fields["cluster_queue"] = status.admission.cluster_queue if status.admission is not None else None
    fields["priority"] = spec.priority
    evicted = condition(status.conditions, "Evicted")
    if evicted is not None and evicted.status == "True":
        fields["evicted_because"] = evicted.reason
    return fields


def pod_fields(
    pods: list[PodFacts], now: datetime, devices: int = 0, *, ended: bool = False
) -> dict[str, Any]:
    """What the pods of a job take and where. Pods that have ended take nothing any more, so an ended job has
    no GPUs; one that waits is given none yet."""
    bound = [pod for pod in pods if pod.bound]
    nodes = sorted({pod.node for pod in bound})
    requests: dict[str, float] = {}
    for pod in bound:
        for name, value in pod.requests.items():
            requests[name] = requests.get(name, 0) + value
    codes = [pod.exit_code for pod in pods if pod.exit_code is not None]
    gone = {pod.node for pod in pods if pod.node} if ended else set[str]()
    return {
        "assigned_gpu_count": 0 if ended else (gpus_in(requests) or 0) + devices,
        "assigned_gpu_slices": slices_in(requests),
        "node": (nodes or sorted(gone))[0] if len(nodes or gone) == 1 else None,
        "nodes": nodes[:ITEMS_MAX],
        "node_count": len(nodes),
        "pods_ready": sum(1 for pod in pods if pod.ready),
        "restarts": sum(pod.restarts for pod in pods),
        "exit_code": codes[0] if codes else None,
        **problem_fields(pods, now),
    }


def _why(because: Condition | None) -> dict[str, Any]:
    if because is None:
        return {}
    return {"state_reason": because.reason, "state_detail": shown(because.message)}


def _ended_at(status: JobStatus) -> datetime | None:
    """A Job that failed has no completion time; its condition has one."""
    failed = condition(status.conditions, "Failed")
    fell = when(failed.last_transition_time) if failed is not None and failed.status == "True" else None
    return when(status.completion_time) or fell


def _runtime_s(state: str, began: datetime | None, ended: datetime | None, now: datetime) -> float | None:
    if began is None or state in ("pending", "suspended"):
        return None
    return max(0.0, ((ended or now) - began).total_seconds())
