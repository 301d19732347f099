"""Services and InferenceServices, and the revisions of what they serve."""

from __future__ import annotations

from typing import Any

import pytest
from kube_shapes import KEEP, NOW, checked, cond, meta, pod_json, shaped

from steersman.drivers.kubernetes.addons import InferenceService
from steersman.drivers.kubernetes.objects import Pod, Service
from steersman.drivers.kubernetes.pods import PodFacts, pod_facts
from steersman.drivers.kubernetes.serving import inference_facts, service_fact
from steersman.kinds.entity import EntityType, HealthState
from steersman.state.health.verdict import health_of


def pods(*ready: bool) -> list[PodFacts]:
    return [pod_facts(shaped(Pod, **pod_json(name=f"p{n}", ready=one))) for n, one in enumerate(ready)]


def service(own: list[PodFacts], desired: int | None, **port: Any) -> dict[str, Any]:
    item = shaped(Service, metadata=meta("api", "ns"), spec={"selector": {"app": "api"}, "ports": [port]})
    return checked(service_fact(item, KEEP, NOW, own, desired))


@pytest.mark.parametrize(
    ("own", "desired", "state"),
    [
        (pods(True, True), 2, "active"),
        (pods(True, False), 2, "degraded"),
        (pods(True), 2, "scaling"),
        ([], 2, "scaling"),
        ([], 0, "idle"),
        ([], None, "idle"),
        (pods(True), None, "active"),
    ],
)
def test_a_service_is_what_its_pods_are(own: list[PodFacts], desired: int | None, state: str) -> None:
    found = service(own, desired)
    assert found["service_state"] == state
    assert (found["replica_count"], found["available_replicas"]) == (len(own), sum(p.ready for p in own))


def test_a_pod_that_is_leaving_takes_no_requests() -> None:
    leaving = pod_facts(shaped(Pod, **pod_json(deletionTimestamp="2031-05-06T07:08:09Z")))
    assert service([leaving], 1)["available_replicas"] == 0


def test_a_service_has_a_url_where_a_port_says_that_it_speaks_http() -> None:
    assert service([], 0, name="http", port=80)["url"] == "http://api.ns.svc:80"
    assert service([], 0, name="web", appProtocol="https", port=443)["url"] == "https://api.ns.svc:443"
    assert "url" not in service([], 0, name="grpc", port=50051)
    assert "url" not in service([], 0, port=5432)


def inference(
    own: list[PodFacts] | None = None, **given: Any
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    metadata = meta("llama", "ns", **given.pop("meta", {}))
    spec = given.pop("spec", {"predictor": {"model": {"storageUri": "s3://models/llama?sig=hunter2"}}})
    item = shaped(InferenceService, metadata=metadata, spec=spec, status=given)
    first, *rest = inference_facts(item, KEEP, NOW, own)
    assert (first.entity_type, first.entity_id) == (EntityType.SERVICE, "ns/llama")
    return checked(first), {fact.entity_id.removeprefix("ns/llama/"): checked(fact) for fact in rest}


CANARY = {
    "latestCreatedRevision": "r3",
    "latestReadyRevision": "r2",
    "latestRolledoutRevision": "r1",
    "previousRolledoutRevision": "r1",
    "traffic": [{"revisionName": "r1", "percent": 90}, {"latestRevision": True, "percent": 10}],
}


def test_revisions_have_their_share_of_the_traffic() -> None:
    model = {
        "transitionStatus": "InProgress",
        "states": {"activeModelState": "Loaded", "targetModelState": "Loading"},
    }
    ready = [cond("Ready"), cond("PredictorReady")]
    found, revisions = inference(conditions=ready, components={"predictor": CANARY}, modelStatus=model)
    assert found["service_state"] == "active"
    assert {name: one["traffic_percent"] for name, one in revisions.items()} == {"r1": 90, "r2": 10, "r3": 0}
    assert [revisions[name]["rollout_phase"] for name in ("r1", "r2", "r3")] == [
        "complete",
        "canary",
        "rolling_out",
    ]
    assert [revisions[name]["revision_state"] for name in ("r1", "r2", "r3")] == ["Ready", "Ready", "Loading"]
    assert revisions["r1"]["model_name"] == "llama"
    assert revisions["r1"]["model_version"] == "r1"
    assert revisions["r1"]["model_uri"] == "s3://models/llama"


def test_a_revision_that_can_not_be_loaded_is_ill_and_the_service_goes_on() -> None:
    model = {
        "transitionStatus": "BlockedByFailedLoad",
        "states": {"activeModelState": "Loaded", "targetModelState": "FailedToLoad"},
        "lastFailureInfo": {"reason": "ModelLoadFailed", "message": "out of memory"},
    }
    found, revisions = inference(
        pods(True), conditions=[cond("Ready")], components={"predictor": CANARY}, modelStatus=model
    )
    assert revisions["r3"]["revision_state"] == "FailedToLoad"
    assert health_of(EntityType.MODEL_REVISION, revisions["r3"], NOW).health is HealthState.CRITICAL
    assert health_of(EntityType.MODEL_REVISION, revisions["r1"], NOW).health is HealthState.HEALTHY
    assert found["last_error"] == "ModelLoadFailed: out of memory"


@pytest.mark.parametrize(
    ("status", "state", "health"),
    [
        ({}, "Pending", HealthState.HEALTHY),
        ({"conditions": [cond("Ready", "Unknown")]}, "Pending", HealthState.HEALTHY),
        ({"conditions": [cond("Ready", "False")]}, "NotReady", HealthState.CRITICAL),
        ({"conditions": [cond("Ready"), cond("PredictorReady", "False")]}, "NotReady", HealthState.CRITICAL),
        (
            {"conditions": [cond("Ready")], "modelStatus": {"states": {"activeModelState": "Standby"}}},
            "Standby",
            HealthState.HEALTHY,
        ),
    ],
)
def test_a_raw_deployment_serves_one_revision(
    status: dict[str, Any], state: str, health: HealthState
) -> None:
    _, revisions = inference(**status)
    assert list(revisions) == ["predictor"]
    assert revisions["predictor"]["revision_state"] == state
    assert health_of(EntityType.MODEL_REVISION, revisions["predictor"], NOW).health is health
    assert ("traffic_percent" in revisions["predictor"]) == (state == "Standby")


def test_an_inference_service_says_what_fails_and_is_idle_at_zero() -> None:
    failing = [
        cond("Ready", "False", reason="RevisionFailed"),
        cond("IngressReady", "True"),
        cond("PredictorReady", "False"),
    ]
    found, _ = inference(pods(False), conditions=failing, url="http://llama.example/?token=hunter2")
    assert found["service_state"] == "degraded"
    assert found["conditions_failing"] == ["Ready", "PredictorReady"]
    assert found["state_reason"] == "RevisionFailed"
    assert found["url"] == "http://llama.example/"
    zero = {"predictor": {"minReplicas": 0}}
    found, _ = inference([], spec=zero, conditions=[cond("Ready")])
    assert (found["service_state"], found["desired_replicas"]) == ("idle", 0)
    found, _ = inference([], conditions=[cond("Ready", "False")])
    assert health_of(EntityType.SERVICE, found, NOW).health is HealthState.CRITICAL
    found, _ = inference(None, conditions=[cond("Ready")])
    assert "available_replicas" not in found
