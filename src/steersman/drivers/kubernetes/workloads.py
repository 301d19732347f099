"""From a Deployment or StatefulSet to the `deployment` entity. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from steersman.drivers.kubernetes.fact import Fact, Keep, common, present, shown
from steersman.drivers.kubernetes.objects import Deployment, ScaleSpec, ScaleStatus, condition, holds, path_of
from steersman.drivers.kubernetes.pods import PodFacts
from steersman.drivers.kubernetes.troubles import problem_fields
from steersman.kinds.entity import EntityType

STATEFUL = "StatefulSet"


def deployment_id(kind: str, path: str) -> str:
    """`namespace/name` of a Deployment; a StatefulSet may have the same name, so its kind stands between."""
    if kind == "Deployment":
        return path
    namespace, _, name = path.partition("/")
    return f"{namespace}/{kind.lower()}/{name}"


def desired(item: Deployment) -> int:
    """Replicas that are asked for; not saying is asking for one."""
    replicas = item.spec.replicas if item.spec is not None else None
    return 1 if replicas is None else replicas


def is_behind(item: Deployment) -> bool:
    """Whether the status speaks of an earlier spec than the one that is shown."""
    observed = item.status.observed_generation if item.status is not None else None
    return item.metadata.generation > (observed or 0)


def deployment_fact(
    kind: str, item: Deployment, keep: Keep, now: datetime, pods: Iterable[PodFacts] | None = None
) -> Fact:
    """The deployment's fields. Absent counts of a status are zero: that is how the API writes zero. Where the
    controller has not seen the newest spec yet, its counts are told with `status_behind`, and what they say
    of that spec (updated replicas, a finished rollout) is not."""
    status = item.status or ScaleStatus()
    behind = is_behind(item)
    seen = item.status is not None and status.observed_generation is not None
    fields: dict[str, Any] = {
        **common(item.metadata),
        "desired_replicas": desired(item),
        "replica_count": status.replicas or 0 if seen else None,
        "available_replicas": _available(kind, status) if seen else None,
        "updated_replicas": status.updated_replicas or 0 if seen and not behind else None,
        "status_behind": behind,
        "paused": True if item.spec is not None and item.spec.paused else None,
        **_rollout(kind, item.spec or ScaleSpec(), status, behind),
        "kind": kind,
    }
    if pods is not None:
        pods = list(pods)
        fields |= problem_fields(pods, now)
        fields["restarts"] = sum(pod.restarts for pod in pods)
    if holds(status.conditions, "ReplicaFailure"):
        failure = condition(status.conditions, "ReplicaFailure")
        fields["problems"] = ["ReplicaFailure", *fields.get("problems", [])]
        said = shown(failure.message) if failure is not None else None
        fields["problem_details"] = {
            **fields.get("problem_details", {}),
            **({"ReplicaFailure": said} if said else {}),
        }
    labels = {**keep.of(item.metadata), "kind": kind}
    return Fact(EntityType.DEPLOYMENT, deployment_id(kind, path_of(item.metadata)), present(fields), labels)


def _available(kind: str, status: ScaleStatus) -> int:
    """A StatefulSet of before 1.22 does not say how many are available, only how many are ready."""
    if kind == STATEFUL and status.available_replicas is None:
        return status.ready_replicas or 0
    return status.available_replicas or 0


def _rollout(kind: str, spec: ScaleSpec, status: ScaleStatus, behind: bool) -> dict[str, Any]:
    """Where the rollout stands: progressing, complete, failed or paused."""
    if behind:
        return {"rollout_phase": "progressing"}
    if spec.paused:
        return {"rollout_phase": "paused"}
    progressing = condition(status.conditions, "Progressing")
    if progressing is not None and progressing.status == "False":
        return {
            "rollout_phase": "failed",
            "state_reason": progressing.reason,
            "rollout_detail": shown(progressing.message),
        }
    wanted = 1 if spec.replicas is None else spec.replicas
    if kind == STATEFUL:
        done = status.update_revision == status.current_revision and (status.ready_replicas or 0) >= wanted
        return {"rollout_phase": "complete" if done else "progressing"}
    done = (status.updated_replicas or 0) >= wanted and (status.available_replicas or 0) >= wanted
    old = (status.replicas or 0) > (status.updated_replicas or 0)
    return {"rollout_phase": "complete" if done and not old else "progressing"}
