"""What a pod takes, whether it works, and what is wrong with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube_shapes import NOW, ago, cond, pod_json, shaped

from steersman.drivers.kubernetes.objects import Event, Pod, PodSpec
from steersman.drivers.kubernetes.pods import OwnerKey, PodFacts, pod_facts, requests_of
from steersman.drivers.kubernetes.troubles import (
    WARNINGS_PER_OBJECT_MAX,
    Warnings,
    is_timed,
    problem_fields,
)


def facts(**given: Any) -> PodFacts:
    return pod_facts(shaped(Pod, **pod_json(**given)))


def asks(gpus: int, *, name: str = "c", sidecar: bool = False) -> dict[str, Any]:
    more = {"restartPolicy": "Always"} if sidecar else {}
    return {"name": name, "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}, **more}


@pytest.mark.parametrize(
    ("init", "containers", "gpus"),
    [
        ([], [asks(2), asks(1)], 3),
        ([asks(4)], [asks(2), asks(1)], 4),  # the greatest init container
        ([asks(2), asks(3)], [asks(1)], 3),  # which run one after another
        ([asks(1, sidecar=True)], [asks(2)], 3),  # a sidecar runs on beside
        ([asks(1, sidecar=True), asks(4)], [asks(2)], 5),  # and beside the init containers after it
        ([asks(4), asks(1, sidecar=True)], [asks(2)], 4),  # not beside those before it
    ],
)
def test_a_pod_takes_what_the_scheduler_counts(
    init: list[dict[str, Any]], containers: list[dict[str, Any]], gpus: int
) -> None:
    spec = shaped(PodSpec, initContainers=init, containers=containers)
    assert requests_of(spec)["nvidia.com/gpu"] == gpus


def test_requests_stand_above_limits_and_overhead_is_added() -> None:
    resources = {"requests": {"cpu": "500m"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    spec = shaped(PodSpec, containers=[{"resources": resources}], overhead={"memory": "1Gi"})
    assert requests_of(spec) == {"cpu": 0.5, "memory": 2 * 2**30}
    pod_level = shaped(PodSpec, containers=[{"resources": resources}], resources={"requests": {"cpu": "4"}})
    assert requests_of(pod_level)["cpu"] == 4


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=5), st.lists(st.integers(0, 8), max_size=4)
)
def test_a_pod_takes_no_less_than_any_moment_of_its_life(
    init: list[tuple[int, bool]], apps: list[int]
) -> None:
    spec = shaped(
        PodSpec,
        initContainers=[asks(count, sidecar=sidecar) for count, sidecar in init],
        containers=[asks(count) for count in apps],
    )
    moments: list[int] = []
    beside = 0
    for count, sidecar in init:
        moments.append(beside + count)
        beside += count if sidecar else 0
    moments.append(beside + sum(apps))
    assert requests_of(spec).get("nvidia.com/gpu", 0) == max(moments)


def test_an_owner_is_followed_without_reading_replica_sets() -> None:
    owner = [{"kind": "ReplicaSet", "name": "web-7d9f", "uid": "r", "controller": True}]
    assert facts(ownerReferences=owner, labels={"pod-template-hash": "7d9f"}).owner == OwnerKey(
        "Deployment", "ns/web"
    )
    assert facts(ownerReferences=owner).owner == OwnerKey("ReplicaSet", "ns/web-7d9f")
    assert facts(ownerReferences=[{"kind": "Node", "name": "n1"}]).owner == OwnerKey("Node", "n1")
    assert facts().owner is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}, "CrashLoopBackOff"),
        ({"waiting": {"reason": "ErrImagePull"}}, "ImagePullBackOff"),
        ({"waiting": {"reason": "ImagePullBackOff"}}, "ImagePullBackOff"),
        ({"waiting": {"reason": "ContainerCreating"}}, None),
        ({"waiting": {}}, None),
        ({"terminated": {"reason": "OOMKilled", "exitCode": 137}}, "OOMKilled"),
        ({"terminated": {"reason": "Error", "exitCode": 1}}, None),
        ({"running": {"startedAt": "x"}}, None),
    ],
)
def test_what_a_container_says_of_itself(state: dict[str, Any], reason: str | None) -> None:
    found = facts(status={"containerStatuses": [{"name": "c", "state": state, "restartCount": 3}]})
    assert [problem.reason for problem in found.problems] == ([reason] if reason else [])
    assert found.restarts == 3


def test_a_pod_that_was_evicted_or_finds_no_place_is_in_trouble() -> None:
    evicted = facts(phase="Failed", status={"reason": "Evicted", "message": "The node was low on resource"})
    assert [problem.reason for problem in evicted.problems] == ["Evicted"]
    assert evicted.ended
    assert not evicted.bound
    waits = cond("PodScheduled", "False", reason="Unschedulable", message="0/8 nodes are available")
    lost = facts(node="", phase="Pending", status={"conditions": [waits]})
    assert [(problem.reason, problem.detail) for problem in lost.problems] == [
        ("Unschedulable", "0/8 nodes are available")
    ]
    gated = cond("PodScheduled", "False", reason="SchedulingGated")
    assert facts(phase="Pending", status={"conditions": [gated]}).problems == ()


def test_each_device_of_a_pod_has_a_health_of_its_own() -> None:
    devices = [
        {"resourceID": "GPU-1", "health": "Healthy"},
        {"resourceID": "GPU-2", "health": "Unhealthy", "message": "Xid 79"},
        {"resourceID": "GPU-3"},
        {"health": "Unhealthy"},
    ]
    statuses = [{"allocatedResourcesStatus": [{"name": "nvidia.com/gpu", "resources": devices}]}]
    found = facts(status={"containerStatuses": statuses})
    assert [(device.id, device.health) for device in found.devices] == [
        ("GPU-1", "Healthy"),
        ("GPU-2", "Unhealthy"),
        ("GPU-3", "Unknown"),
    ]
    assert [(problem.reason, problem.detail) for problem in found.problems] == [("DeviceUnhealthy", "GPU-2")]


def test_how_a_pod_failed_is_its_first_exit_code_that_is_not_zero() -> None:
    ends = [{"state": {"terminated": {"exitCode": code}}} for code in (0, 3, 4)]
    assert facts(phase="Failed", status={"containerStatuses": ends}).exit_code == 3
    assert facts(phase="Running", status={"containerStatuses": ends}).exit_code is None


def test_a_thousand_pods_with_one_problem_have_one_problem() -> None:
    crash = {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "x"}}}]}
    pods = [facts(name=f"p{n}", status=crash) for n in range(1000)]
    pods.append(facts(phase="Failed", status={"reason": "Evicted"}))
    found = problem_fields(pods, NOW)
    assert found["problems"] == ["CrashLoopBackOff", "Evicted"]
    assert found["problem_details"]["CrashLoopBackOff"] == "1000 pods: x"


def test_a_container_that_was_killed_long_ago_and_runs_is_well() -> None:
    last = {"terminated": {"reason": "OOMKilled", "finishedAt": ago(60)}}
    pod = facts(status={"containerStatuses": [{"state": {"running": {}}, "lastState": last}]})
    assert problem_fields([pod], NOW)["problems"] == ["OOMKilled"]
    assert is_timed([pod], NOW)
    later = NOW + timedelta(hours=2)
    assert problem_fields([pod], later)["problems"] == []
    assert not is_timed([pod], later)


def warning(name: str, seconds_ago: float, **more: Any) -> Event:
    about = {"kind": "Pod", "namespace": "ns", "name": "p"}
    given = {"type": "Warning", "reason": "FailedScheduling", "message": "no place", "involvedObject": about}
    return shaped(Event, metadata={"name": name}, lastTimestamp=ago(seconds_ago), **(given | more))


def test_warnings_are_kept_on_what_they_are_about_and_bounded() -> None:
    warnings = Warnings()
    for number in range(20):
        assert warnings.put(f"ns/e{number}", warning(f"e{number}", 1000 - number, count=number)) == (
            "Pod",
            "ns/p",
        )
    told = warnings.of("Pod", "ns/p")
    assert len(told["warnings"]) == WARNINGS_PER_OBJECT_MAX
    assert told["warnings"][0] == "FailedScheduling ×19: no place"  # noqa: RUF001 - as it is shown
    assert (NOW - told["last_warning_at"]).total_seconds() == 981
    assert warnings.put("ns/n", warning("n", 1, type="Normal")) is None
    assert warnings.put("ns/o", warning("o", 1, involvedObject=None)) is None
    assert warnings.drop("ns/e19") == ("Pod", "ns/p")
    assert warnings.drop("ns/e19") is None
    assert warnings.of("Pod", "ns/p")["warnings"][0].startswith("FailedScheduling ×18")  # noqa: RUF001
    assert warnings.of("Pod", "ns/other") == {"warnings": [], "last_warning_at": None}


def test_warnings_about_more_objects_than_there_is_room_for_are_not_kept() -> None:
    warnings = Warnings(objects_max=1)
    assert warnings.put("ns/a", warning("a", 1)) is not None
    other = {"kind": "Node", "name": "n1", "namespace": "default"}
    assert warnings.put("ns/b", warning("b", 1, involvedObject=other)) is None
    warnings.drop("ns/a")
    assert warnings.put("ns/b", warning("b", 1, involvedObject=other)) == ("Node", "n1")


def test_a_replica_sets_warning_is_told_on_its_deployment() -> None:
    about = {"kind": "ReplicaSet", "namespace": "ns", "name": "web-7d9f"}
    assert Warnings().put("ns/a", warning("a", 1, involvedObject=about)) == ("Deployment", "ns/web")


def test_an_event_series_counts_and_is_dated_by_itself() -> None:
    series = {"count": 7, "lastObservedTime": ago(5)}
    warnings = Warnings()
    warnings.put("ns/a", warning("a", 500, series=series, count=None))
    told = warnings.of("Pod", "ns/p")
    assert told["warnings"] == ["FailedScheduling ×7: no place"]  # noqa: RUF001
    assert (NOW - told["last_warning_at"]).total_seconds() == 5
