"""From Services and KServe's InferenceServices to `service` and `model_revision` entities. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from steersman.drivers.kubernetes.addons import (
    ComponentStatus,
    InferenceService,
    InferenceStatus,
    ModelStatus,
    Traffic,
)
from steersman.drivers.kubernetes.fact import Fact, Keep, common, present, shown
from steersman.drivers.kubernetes.objects import Service, ServicePort, condition, path_of
from steersman.drivers.kubernetes.pods import PodFacts
from steersman.drivers.kubernetes.troubles import problem_fields
from steersman.drivers.web.url import public_url
from steersman.kinds.entity import EntityType

PREDICTOR = "predictor"
REVISIONS_MAX = 32
"""Revisions told of one InferenceService: Knative keeps as many as get traffic, and two more."""
STATE_REASONS = {"Stopped": "idle"}


def service_fact(
    service: Service, keep: Keep, now: datetime, pods: Iterable[PodFacts], desired: int | None
) -> Fact:
    """A Service with a selector. `desired` are the replicas that the workloads behind it are asked for; None
    where nothing of that kind is behind it."""
    own = [pod for pod in pods if not pod.ended]
    ready = sum(1 for pod in own if pod.ready and not pod.leaving)
    spec = service.spec
    fields: dict[str, Any] = {
        **common(service.metadata),
        "service_state": _state(ready, len(own), desired),
        "replica_count": len(own),
        "available_replicas": ready,
        "desired_replicas": desired,
        "url": _url(service, spec.ports if spec is not None else None),
        **problem_fields(own, now),
    }
    return Fact(EntityType.SERVICE, path_of(service.metadata), present(fields), keep.of(service.metadata))


def _state(ready: int, replicas: int, desired: int | None) -> str:
    wanted = desired if desired is not None else replicas
    if wanted == 0:
        return "idle"
    if ready >= wanted:
        return "active"
    return "degraded" if replicas >= wanted else "scaling"


def _url(service: Service, ports: list[ServicePort] | None) -> str | None:
    """Where it is reached inside the cluster; None where no port says that it speaks HTTP."""
    for port in ports or []:
        spoken = f"{port.app_protocol or ''} {port.name or ''}".lower()
        if "http" in spoken:
            scheme = "https" if "https" in spoken else "http"
            return f"{scheme}://{service.metadata.name}.{service.metadata.namespace}.svc:{port.port}"
    return None


def inference_facts(
    item: InferenceService, keep: Keep, now: datetime, pods: Iterable[PodFacts] | None
) -> list[Fact]:
    """An InferenceService as a service, and each of its revisions."""
    return [_inference_service(item, keep, now, pods), *_revisions(item, keep)]


def _inference_service(
    item: InferenceService, keep: Keep, now: datetime, pods: Iterable[PodFacts] | None
) -> Fact:
    status = item.status or InferenceStatus()
    ready = condition(status.conditions, "Ready")
    predictor = item.spec.predictor if item.spec is not None else None
    own = None if pods is None else [pod for pod in pods if not pod.ended]
    able = sum(1 for pod in own if pod.ready and not pod.leaving) if own is not None else None
    least = predictor.min_replicas if predictor is not None else None
    idle = able == 0 and not own and least == 0
    fields: dict[str, Any] = {
        **common(item.metadata),
        "workload_type": common(item.metadata)["workload_type"] or "online_inference",
        "service_state": "idle" if idle else _readiness(ready.status if ready is not None else None, able),
        "replica_count": len(own) if own is not None else None,
        "available_replicas": able,
        # Between its bounds an autoscaler decides: only the floor says what is asked for at least.
        "desired_replicas": 0 if idle else max(1, least or 1) if able is not None else None,
        "url": public_url(status.url) if status.url else None,
        "conditions_failing": [c.type for c in status.conditions or [] if c.status == "False"],
        "state_reason": ready.reason if ready is not None and ready.status != "True" else None,
        "state_detail": shown(ready.message) if ready is not None and ready.status != "True" else None,
        "status_behind": item.metadata.generation > (status.observed_generation or item.metadata.generation),
        **(problem_fields(own, now) if own is not None else {}),
    }
    failure = status.model_status.last_failure_info if status.model_status is not None else None
    if failure is not None:
        fields["last_error"] = shown(": ".join(part for part in (failure.reason, failure.message) if part))
    labels = {**keep.of(item.metadata), "kind": "InferenceService"}
    return Fact(EntityType.SERVICE, path_of(item.metadata), present(fields), labels)


def _readiness(ready: str | None, able: int | None) -> str:
    """Ready=False with replicas that serve is a service that limps; without any it is one that comes or is
    down, which its replica counts tell."""
    if ready == "True":
        return "active"
    if ready == "False":
        return "degraded"
    return "scaling" if able is not None else "unknown"


def _revisions(item: InferenceService, keep: Keep) -> list[Fact]:
    """The revisions of the predictor that are ready, were made last, or get traffic. A raw deployment has no
    revisions; what it serves is one, named after its generation's model."""
    status = item.status or InferenceStatus()
    component = (status.components or {}).get(PREDICTOR) or ComponentStatus()
    latest, ready = component.latest_created_revision, component.latest_ready_revision
    shares = _shares(component.traffic, ready)
    names = [*shares, ready, latest, component.previous_rolledout_revision]
    revisions = list(dict.fromkeys(name for name in names if name))[:REVISIONS_MAX]
    if not revisions:
        return [
            _revision(
                item, keep, PREDICTOR, _model_state(status, newest=True), 100.0 if _is_ready(status) else None
            )
        ]
    facts: list[Fact] = []
    for name in revisions:
        newest = name == latest
        serves = name == ready or (name in shares and not newest)
        state = "Ready" if serves else _model_state(status, newest=newest)
        # Only where traffic is told is a revision without a share one that gets none.
        share = shares.get(name, 0.0) if component.traffic else None
        facts.append(_revision(item, keep, name, state, share, phase=_phase(component, name)))
    return facts


def _shares(traffic: list[Traffic] | None, ready: str | None) -> dict[str, float]:
    """Percent of traffic by revision; an entry for "the latest" means the newest that is ready."""
    shares: dict[str, float] = {}
    for one in traffic or []:
        name = one.revision_name or (ready if one.latest_revision else None)
        if name:
            shares[name] = min(100.0, shares.get(name, 0.0) + max(0.0, one.percent or 0.0))
    return shares


def _phase(component: ComponentStatus, name: str) -> str:
    latest, ready = component.latest_created_revision, component.latest_ready_revision
    if name == latest != ready:
        return "rolling_out"
    rolled_out = component.latest_rolledout_revision
    if name == ready and rolled_out is not None and rolled_out != name:
        return "canary"
    return "complete" if name in (rolled_out, ready) else "previous"


def _is_ready(status: InferenceStatus) -> bool:
    ready = condition(status.conditions, "PredictorReady") or condition(status.conditions, "Ready")
    return ready is not None and ready.status == "True"


def _model_state(status: InferenceStatus, *, newest: bool) -> str:
    """In KServe's own words (Loaded, Loading, Standby, Pending, FailedToLoad), else by the conditions."""
    model = status.model_status or ModelStatus()
    if model.transition_status in ("BlockedByFailedLoad", "InvalidSpec") and newest:
        return "FailedToLoad"
    if model.states is not None:
        state = model.states.target_model_state if newest else None
        state = state or model.states.active_model_state
        if state:
            return state
    ready = condition(status.conditions, "PredictorReady") or condition(status.conditions, "Ready")
    if ready is None or ready.status == "Unknown":
        return "Pending"
    return "Ready" if ready.status == "True" else "NotReady"


def _revision(
    item: InferenceService, keep: Keep, name: str, state: str, share: float | None, phase: str | None = None
) -> Fact:
    predictor = item.spec.predictor if item.spec is not None else None
    model = predictor.model if predictor is not None else None
    uri = model.storage_uri if model is not None else None
    fields: dict[str, Any] = {
        **common(item.metadata),
        "model_name": item.metadata.name,
        "model_version": name,
        "revision_state": state,
        "rollout_phase": phase,
        "traffic_percent": share,
        "model_uri": public_url(uri) if uri and "://" in uri else None,  # a query may hold a signature
        "runtime": model.runtime if model is not None else None,
    }
    labels = {**keep.of(item.metadata), "kind": "InferenceService", "service": path_of(item.metadata)}
    return Fact(EntityType.MODEL_REVISION, f"{path_of(item.metadata)}/{name}", present(fields), labels)
