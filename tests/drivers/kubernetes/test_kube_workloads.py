"""Deployments, jobs, queues, tenants, ConfigMaps: their states and their traps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube_shapes import KEEP, NOW, ago, checked, cond, meta, pod_json, shaped

from steersman.drivers.kubernetes.addons import JobSet, Queue, Workload
from steersman.drivers.kubernetes.configmaps import ConfigMap, config_map_fact, content_hash
from steersman.drivers.kubernetes.jobs import job_fact, jobset_fact, workload_fact
from steersman.drivers.kubernetes.objects import Deployment, Job, Namespace, Pod, ResourceQuota
from steersman.drivers.kubernetes.pods import PodFacts, pod_facts
from steersman.drivers.kubernetes.queues import queue_fact
from steersman.drivers.kubernetes.tenants import tenant_fact
from steersman.drivers.kubernetes.workloads import deployment_fact
from steersman.kinds.entity import EntityType, HealthState
from steersman.state.health.verdict import health_of


def pods(*phases: str, **given: Any) -> list[PodFacts]:
    return [
        pod_facts(shaped(Pod, **pod_json(name=f"p{n}", phase=phase, **dict(given))))
        for n, phase in enumerate(phases)
    ]


# ---- deployments


def deployment(
    kind: str = "Deployment", *, spec: Any = None, status: Any = None, **given: Any
) -> dict[str, Any]:
    item = shaped(Deployment, metadata=meta("web", "ns", **given), spec=spec, status=status)
    fact = deployment_fact(kind, item, KEEP, NOW)
    assert fact.entity_id == ("ns/web" if kind == "Deployment" else "ns/statefulset/web")
    return checked(fact)


FULL = {
    "observedGeneration": 1,
    "replicas": 3,
    "readyReplicas": 3,
    "availableReplicas": 3,
    "updatedReplicas": 3,
}


def test_replicas_that_are_not_given_are_one() -> None:
    assert deployment(spec={})["desired_replicas"] == 1
    assert deployment(spec={"replicas": None})["desired_replicas"] == 1
    assert deployment(spec=None)["desired_replicas"] == 1


def test_counts_that_a_status_leaves_out_are_zero_and_without_status_absent() -> None:
    found = deployment(spec={"replicas": 3}, status={"observedGeneration": 1})
    assert (found["replica_count"], found["available_replicas"], found["updated_replicas"]) == (0, 0, 0)
    found = deployment(spec={"replicas": 3}, status={})
    assert "available_replicas" not in found


def test_none_asked_for_is_idle_and_not_ill() -> None:
    found = deployment(spec={"replicas": 0}, status={"observedGeneration": 1})
    assert found["desired_replicas"] == 0
    assert health_of(EntityType.DEPLOYMENT, found, NOW).health is HealthState.HEALTHY


def test_a_status_of_an_earlier_spec_is_told_as_such() -> None:
    found = deployment(spec={"replicas": 5}, status=FULL, generation=2)
    assert found["status_behind"] is True
    assert found["available_replicas"] == 3
    assert "updated_replicas" not in found
    assert found["rollout_phase"] == "progressing"
    assert deployment(spec={"replicas": 3}, status=FULL)["status_behind"] is False


@pytest.mark.parametrize(
    ("spec", "status", "phase"),
    [
        ({"replicas": 3}, FULL, "complete"),
        ({"replicas": 3}, {**FULL, "updatedReplicas": 1}, "progressing"),
        ({"replicas": 3}, {**FULL, "replicas": 4}, "progressing"),  # an old replica is still there
        ({"replicas": 3, "paused": True}, {**FULL, "updatedReplicas": 1}, "paused"),
        (
            {"replicas": 3},
            {**FULL, "conditions": [cond("Progressing", "False", reason="ProgressDeadlineExceeded")]},
            "failed",
        ),
    ],
)
def test_where_a_rollout_stands(spec: dict[str, Any], status: dict[str, Any], phase: str) -> None:
    found = deployment(spec=spec, status=status)
    assert found["rollout_phase"] == phase
    if phase == "failed":
        assert found["state_reason"] == "ProgressDeadlineExceeded"
        assert health_of(EntityType.DEPLOYMENT, found, NOW).health is HealthState.DEGRADED


def test_a_failure_to_make_replicas_is_a_problem() -> None:
    failure = cond("ReplicaFailure", "True", message="exceeded quota: gpus")
    found = deployment(spec={"replicas": 3}, status={**FULL, "conditions": [failure]})
    assert found["problems"] == ["ReplicaFailure"]
    assert found["problem_details"] == {"ReplicaFailure": "exceeded quota: gpus"}


def test_a_stateful_set_of_an_old_cluster_tells_ready_for_available() -> None:
    status = {
        "observedGeneration": 1,
        "replicas": 2,
        "readyReplicas": 2,
        "currentRevision": "a",
        "updateRevision": "a",
    }
    found = deployment("StatefulSet", spec={"replicas": 2}, status=status)
    assert (found["available_replicas"], found["rollout_phase"]) == (2, "complete")
    found = deployment("StatefulSet", spec={"replicas": 2}, status={**status, "updateRevision": "b"})
    assert found["rollout_phase"] == "progressing"


# ---- jobs


def job(
    *,
    spec: Any = None,
    status: Any = None,
    own: list[PodFacts] | None = None,
    workload: Any = None,
    **given: Any,
) -> dict[str, Any]:
    item = shaped(Job, metadata=meta("train", "ns", **given), spec=spec, status=status)
    queued = shaped(Workload, metadata=meta("w", "ns"), **workload) if workload is not None else None
    return checked(job_fact(item, KEEP, NOW, own, workload=queued))


@pytest.mark.parametrize(
    ("spec", "status", "state"),
    [
        ({}, {}, "pending"),
        ({}, None, "pending"),
        ({}, {"active": 2, "ready": 0}, "pending"),
        ({}, {"active": 2, "ready": 1}, "running"),
        ({}, {"active": 2}, "running"),  # before 1.24 nobody says how many are ready
        ({"suspend": True}, {"conditions": [cond("Suspended")]}, "suspended"),
        ({}, {"active": 1, "conditions": [cond("Suspended", "False")], "ready": 1}, "running"),
        (
            {},
            {"active": 1, "conditions": [cond("FailureTarget", reason="BackoffLimitExceeded")]},
            "completing",
        ),
        ({}, {"active": 1, "conditions": [cond("SuccessCriteriaMet")]}, "completing"),
        ({}, {"conditions": [cond("SuccessCriteriaMet"), cond("Complete")]}, "completed"),
        (
            {},
            {"failed": 1, "conditions": [cond("FailureTarget"), cond("Failed", reason="DeadlineExceeded")]},
            "failed",
        ),
        ({"suspend": True}, {"conditions": [cond("Failed")]}, "failed"),
    ],
)
def test_where_a_job_stands(spec: Any, status: Any, state: str) -> None:
    assert job(spec=spec, status=status)["job_state"] == state


def test_a_job_that_is_deleted_is_on_its_way_out() -> None:
    assert job(status={"active": 1, "ready": 1}, deletionTimestamp=ago(1))["job_state"] == "completing"


def test_why_a_job_failed_and_how_long_it_ran() -> None:
    failed = cond(
        "Failed", reason="BackoffLimitExceeded", message="it failed too often", lastTransitionTime=ago(100)
    )
    found = job(status={"startTime": ago(400), "failed": 7, "conditions": [failed]}, own=pods("Failed"))
    assert (found["state_reason"], found["state_detail"]) == ("BackoffLimitExceeded", "it failed too often")
    assert found["runtime_seconds"] == 300
    assert found["pods_failed"] == 7


def test_a_running_jobs_time_goes_on_and_a_suspended_ones_is_not_told() -> None:
    assert job(status={"active": 1, "ready": 1, "startTime": ago(60)})["runtime_seconds"] == 60
    assert "runtime_seconds" not in job(spec={"suspend": True}, status={"startTime": ago(60)})


def test_a_job_has_the_gpus_and_nodes_of_its_pods() -> None:
    own = [*pods("Running", node="n1"), *pods("Running", "Succeeded", node="n2")]
    found = job(status={"active": 2, "ready": 2}, own=own)
    assert (found["assigned_gpu_count"], found["nodes"], found["node_count"]) == (2, ["n1", "n2"], 2)
    assert "node" not in found
    assert job(status={"active": 1, "ready": 1}, own=pods("Running"))["node"] == "n1"


def test_a_job_that_waits_has_no_gpus_and_one_that_ended_gave_them_back() -> None:
    assert job(status={"active": 1, "ready": 0}, own=pods("Pending", node=""))["assigned_gpu_count"] == 0
    found = job(status={"conditions": [cond("Complete")]}, own=pods("Succeeded"))
    assert (found["assigned_gpu_count"], found["exit_code"], found["node"]) == (0, 0, "n1")
    assert "assigned_gpu_count" not in job(status={"active": 1, "ready": 1})


def test_an_exit_code_is_told_of_a_job_that_failed_and_not_of_a_pod_that_was_replaced() -> None:
    end = {"containerStatuses": [{"state": {"terminated": {"exitCode": 7}}}]}
    own = pods("Failed", status=end)
    assert job(status={"conditions": [cond("Failed")]}, own=own)["exit_code"] == 7
    assert "exit_code" not in job(status={"active": 1, "ready": 1}, own=own)


def test_what_kueue_suspends_waits_and_is_not_suspended_by_anybody() -> None:
    label: dict[str, Any] = {"labels": {"kueue.x-k8s.io/queue-name": "team-a"}}
    held: dict[str, Any] = {"spec": {"suspend": True}, "status": {"conditions": [cond("Suspended")]}}
    found = job(**held, **label)
    assert (found["job_state"], found["queue"]) == ("pending", "ns/team-a")
    waits = cond(
        "QuotaReserved", "False", reason="Pending", message="couldn't assign flavors to pod set main"
    )
    found = job(
        **held,
        **label,
        workload={"spec": {"queueName": "team-b", "priority": 5}, "status": {"conditions": [waits]}},
    )
    assert (found["job_state"], found["queue"], found["priority"]) == ("pending", "ns/team-b", 5)
    assert found["state_detail"] == "couldn't assign flavors to pod set main"
    found = job(**held, **label, workload={"spec": {"active": False}})
    assert found["job_state"] == "suspended"
    admitted = {"conditions": [cond("Admitted")], "admission": {"clusterQueue": "big"}}
    found = job(status={"active": 1, "ready": 1}, workload={"spec": {}, "status": admitted})
    assert (found["job_state"], found["cluster_queue"]) == ("running", "big")
    evicted = {"conditions": [cond("Evicted", reason="Preempted")]}
    assert job(**held, workload={"spec": {}, "status": evicted})["evicted_because"] == "Preempted"


@pytest.mark.parametrize(
    ("spec", "status", "state"),
    [
        ({}, {}, "pending"),
        ({}, {"replicatedJobsStatus": [{"name": "w", "ready": 1, "active": 4}]}, "running"),
        ({"suspend": True}, {}, "suspended"),
        ({}, {"conditions": [cond("Completed")]}, "completed"),
        ({}, {"terminalState": "Failed"}, "failed"),
        ({}, {"conditions": [cond("Failed", reason="FailedJobs")]}, "failed"),
    ],
)
def test_where_a_job_set_stands(spec: Any, status: Any, state: str) -> None:
    item = shaped(JobSet, metadata=meta("set", "ns"), spec=spec, status=status)
    fact = jobset_fact(item, KEEP, NOW, [])
    assert (checked(fact)["job_state"], fact.entity_id) == (state, "ns/jobset/set")


@pytest.mark.parametrize(
    ("conditions", "running", "state"),
    [
        ([], [], "pending"),
        ([cond("Admitted")], pods("Running"), "running"),
        ([cond("Admitted")], pods("Pending", node=""), "pending"),
        ([cond("Finished", message="Job finished successfully")], [], "completed"),
        ([cond("Finished", reason="Failed", message="it went wrong")], [], "failed"),
    ],
)
def test_a_job_of_a_kind_that_is_not_read_is_known_by_its_workload(
    conditions: list[Any], running: list[PodFacts], state: str
) -> None:
    item = shaped(
        Workload,
        metadata=meta(
            "w", "ns", ownerReferences=[{"kind": "RayJob", "name": "ray", "uid": "u1", "controller": True}]
        ),
        spec={"queueName": "q"},
        status={"conditions": conditions},
    )
    fact = workload_fact(item, KEEP, NOW, "RayJob", "ns/ray", running)
    found = checked(fact)
    assert (found["job_state"], found["uid"], fact.entity_id) == (state, "u1", "ns/rayjob/ray")


# ---- queues


def queue(kind: str = "ClusterQueue", namespace: str = "", **given: Any) -> dict[str, Any]:
    return checked(queue_fact(kind, shaped(Queue, metadata=meta("q", namespace), **given), KEEP))


def test_a_queue_counts_what_waits_and_what_was_admitted() -> None:
    status = {
        "pendingWorkloads": 4,
        "reservingWorkloads": 3,
        "admittedWorkloads": 2,
        "conditions": [cond("Active")],
    }
    usage = [{"name": "h100", "resources": [{"name": "nvidia.com/gpu", "total": "16"}]}]
    groups = [{"flavors": [{"name": "h100", "resources": [{"name": "nvidia.com/gpu", "nominalQuota": 64}]}]}]
    found = queue(status={**status, "flavorsUsage": usage}, spec={"resourceGroups": groups, "cohort": "all"})
    assert (found["pending_jobs"], found["active_jobs"], found["queue_depth"]) == (4, 2, 7)
    assert (found["queue_state"], found["cohort"]) == ("up", "all")
    assert found["resource_usage"] == {"h100/nvidia.com/gpu": 16}
    assert found["resource_quota"] == {"h100/nvidia.com/gpu": 64}
    assert queue(status={})["pending_jobs"] == 0
    assert "pending_jobs" not in queue()


@pytest.mark.parametrize(
    ("spec", "active", "state"),
    [
        ({}, cond("Active"), "up"),
        ({"stopPolicy": "None"}, cond("Active"), "up"),
        ({"stopPolicy": "Hold"}, cond("Active", "False", reason="Stopped"), "drain"),
        ({"stopPolicy": "HoldAndDrain"}, cond("Active", "False", reason="Stopped"), "inactive"),
        ({}, cond("Active", "False", reason="FlavorNotFound"), "down"),
        ({}, cond("Active", "False", reason="ClusterQueueIsInactive"), "inactive"),
        ({}, cond("Active", "Unknown"), "unknown"),
    ],
)
def test_whether_a_queue_takes_and_starts_jobs(spec: Any, active: Any, state: str) -> None:
    found = queue("LocalQueue", "ns", spec=spec, status={"conditions": [active]})
    assert found["queue_state"] == state


# ---- tenants


def quota(name: str, hard: dict[str, str], used: dict[str, str], **spec: Any) -> ResourceQuota:
    return shaped(ResourceQuota, metadata=meta(name, "ns"), spec=spec, status={"hard": hard, "used": used})


def test_a_namespace_has_its_quotas_by_their_names() -> None:
    found = tenant_fact(
        "ns",
        shaped(Namespace, metadata=meta("ns", labels={"team": "a"}), status={"phase": "Active"}),
        [
            quota(
                "q",
                {"requests.nvidia.com/gpu": "8", "limits.memory": "1Gi"},
                {"requests.nvidia.com/gpu": "3"},
            )
        ],
        2,
        KEEP,
    )
    told = checked(found)
    assert told["resource_quota"] == {"requests.nvidia.com/gpu": 8, "limits.memory": 2**30}
    assert told["resource_usage"] == {"requests.nvidia.com/gpu": 3}
    assert (told["scope_type"], told["active_workloads"], told["phase"]) == ("namespace", 2, "Active")
    assert found.labels == {"team": "a"}


def test_of_two_quotas_the_tighter_holds_and_a_scoped_one_binds_not_all() -> None:
    several = [
        quota("wide", {"pods": "100"}, {"pods": "10"}),
        quota("tight", {"pods": "20"}, {"pods": "11"}),
        quota("urgent", {"pods": "5"}, {"pods": "1"}, scopes=["PriorityClass"]),
    ]
    for order in (several, several[::-1]):
        told = checked(tenant_fact("ns", None, order, None, KEEP))
        assert told["resource_quota"] == {"pods": 20, "urgent/pods": 5}
        assert told["resource_usage"] == {"pods": 11, "urgent/pods": 1}
    assert "active_workloads" not in told
    assert "resource_quota" not in checked(tenant_fact("ns", None, [], 0, KEEP))


# ---- configuration


def test_a_config_map_is_told_by_its_hash_alone() -> None:
    item = shaped(ConfigMap, metadata=meta("c", "ns"), data={"password": "hunter2"}, binaryData={"b": "aGk="})
    fact = config_map_fact("ns/c", item)
    found = checked(fact)
    assert found["config_hash"].startswith("sha256:")
    assert found["present"] is True
    assert "hunter2" not in str(fact)
    assert (fact.entity_id, found["size_bytes"]) == ("ns/configmap/c", 11)
    assert checked(config_map_fact("ns/c", None))["present"] is False


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=5))
def test_a_config_maps_hash_is_of_its_content_and_not_of_its_order(data: dict[str, str]) -> None:
    one = ConfigMap(data=data)
    turned = ConfigMap(data=dict(reversed(data.items())))
    assert content_hash(one) == content_hash(turned)
    assert content_hash(one) != content_hash(ConfigMap(data={**data, "more": "x"}))
    assert content_hash(ConfigMap(data=data, binary_data={"k": "v"})) != content_hash(one)
