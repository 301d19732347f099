"""What looks tell: what changed, what is gone, what is only silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from kube_cluster import bare, context, driver, node_json, populate
from kube_shapes import pod_json

from steersman.drivers.api import Observation, SourceError
from steersman.drivers.kubernetes.fake import FakeApiServer
from steersman.drivers.kubernetes.observe import KubernetesDriver
from steersman.drivers.kubernetes.options import KubernetesOptions
from steersman.drivers.kubernetes.teller import LOOKS_BETWEEN
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment

LOOKS_MAX = 200


@asynccontextmanager
async def cluster(**options: Any) -> AsyncIterator[tuple[FakeApiServer, KubernetesDriver]]:
    fake = await FakeApiServer(bookmark_s=0.2).start()
    populate(fake)
    made = driver(fake, **options)
    try:
        yield fake, made
    finally:
        await made.close()
        await fake.stop()


def told(seen: Observation, kind: EntityType, entity_id: str) -> StateFragment | None:
    return next((f for f in seen.fragments if (f.entity_type, f.entity_id) == (kind, entity_id)), None)


async def until(made: KubernetesDriver, holds: Callable[[Observation], Any]) -> Observation:
    """The first look for which it holds; watches need a moment."""
    for _ in range(LOOKS_MAX):
        seen = await made.observe()
        if holds(seen):
            return seen
        await asyncio.sleep(0.01)
    raise AssertionError("it was never told")


def find(fake: FakeApiServer, plural: str, name: str) -> dict[str, Any]:
    return next(thing for thing in fake.all(plural) if thing["metadata"]["name"] == name)


async def test_the_first_look_has_everything_and_says_so_once() -> None:
    async with cluster() as (_, made):
        first = await made.observe()
        assert first.complete
        assert set(first.whole) == set(EntityType) - {
            EntityType.SCHEDULER_DOMAIN,
            EntityType.EXPERIMENT_TRACKER,
            EntityType.DATA_PIPELINE_STAGE,
            EntityType.CONFIG_SNAPSHOT,
        }
        domain = told(first, EntityType.SCHEDULER_DOMAIN, "hpc")
        assert domain is not None
        assert domain.fields["total_gpus"] == 16
        assert domain.fields["active_workloads"] == 2
        assert (await made.observe()).whole == ()


async def test_what_is_deleted_is_gone_and_what_it_counted_for_knows() -> None:
    async with cluster() as (fake, made):
        await made.observe()
        fake.remove("nodes", find(fake, "nodes", "n2"))
        seen = await until(made, lambda seen: seen.gone)
        assert seen.gone == [EntityKey(EntityType.NODE, "hpc", "n2")]
        domain = told(seen, EntityType.SCHEDULER_DOMAIN, "hpc")
        assert domain is not None
        assert (domain.fields["total_nodes"], domain.fields["total_gpus"]) == (1, 8)


async def test_a_name_that_is_taken_anew_is_another_incarnation() -> None:
    async with cluster() as (fake, made):
        first = told(await made.observe(), EntityType.NODE, "n1")
        fake.remove("nodes", find(fake, "nodes", "n1"))
        fake.create("nodes", node_json("n1"))
        assert first is not None

        def new(seen: Observation) -> bool:
            node = told(seen, EntityType.NODE, "n1")
            return node is not None and node.fields["uid"] != first.fields["uid"]

        seen = await until(made, new)
        assert EntityKey(EntityType.NODE, "hpc", "n1") not in seen.gone


async def test_what_was_deleted_while_the_server_was_away_is_gone_too() -> None:
    async with cluster() as (fake, made):
        await made.observe()
        await fake.web.fail("refuse")
        with pytest.raises(SourceError):
            await made.observe()
        fake.remove("deployments", find(fake, "deployments", "web"))
        fake.storage.expire()
        await fake.web.mend()
        seen = await until(made, lambda seen: seen.gone)
        assert seen.gone == [EntityKey(EntityType.DEPLOYMENT, "hpc", "ns/web")]


async def test_a_field_that_is_no_more_is_cleared_once() -> None:
    async with cluster() as (fake, made):
        await made.observe()
        node = find(fake, "nodes", "n1")
        fake.change("nodes", node, spec={"unschedulable": True})
        seen = await until(made, lambda seen: _cordoned(seen, True))
        fake.change("nodes", find(fake, "nodes", "n1"), spec={})
        seen = await until(made, lambda seen: _cordoned(seen, False))
        node = told(seen, EntityType.NODE, "n1")
        assert node is not None
        assert "drain_intent" in node.clear
        again = await until(made, lambda seen: told(seen, EntityType.NODE, "n1"))
        node = told(again, EntityType.NODE, "n1")
        assert node is not None
        assert node.clear == ()


def _cordoned(seen: Observation, cordoned: bool) -> bool:
    node = told(seen, EntityType.NODE, "n1")
    return node is not None and node.fields["schedulable"] is not cordoned


async def test_a_kind_that_may_not_be_read_is_told_and_costs_only_itself() -> None:
    async with cluster() as (fake, made):
        fake.denied = {("list", "pods"), ("watch", "pods")}
        seen = await made.observe()
        assert not seen.complete
        assert any(line.startswith("pods: ") for line in seen.warnings)
        node = told(seen, EntityType.NODE, "n1")
        assert node is not None
        assert "gpus_allocated" not in node.fields
        assert told(seen, EntityType.SERVICE, "ns/web") is None
        assert EntityType.NODE in seen.whole
        assert EntityType.SERVICE not in seen.whole


async def test_a_kind_that_falls_silent_is_not_taken_back_but_grows_old() -> None:
    async with cluster() as (fake, made):
        first = await made.observe()
        job = told(first, EntityType.JOB, "ns/train")
        assert job is not None
        assert job.fields["assigned_gpu_count"] == 1
        fake.denied = {("list", "pods"), ("watch", "pods")}
        fake.watches.end_all()
        seen = await until(made, lambda seen: any("pods" in line for line in seen.warnings))
        assert not seen.complete
        assert EntityKey(EntityType.JOB, "hpc", "ns/train") not in seen.gone
        job = told(seen, EntityType.JOB, "ns/train")
        assert job is not None
        assert "assigned_gpu_count" not in job.fields
        assert "assigned_gpu_count" not in job.clear
        fake.denied = set()
        back = await until(made, lambda seen: seen.complete)
        job = told(back, EntityType.JOB, "ns/train")
        assert job is not None
        assert job.fields["assigned_gpu_count"] == 1


async def test_a_node_whose_kind_is_not_heard_of_is_not_told_again_and_not_gone() -> None:
    async with cluster() as (fake, made):
        await made.observe()
        fake.denied = {("list", "nodes"), ("watch", "nodes")}
        fake.watches.end_all()
        seen = await until(made, lambda seen: any("nodes" in line for line in seen.warnings))
        for _ in range(3):
            seen = await made.observe()
            assert told(seen, EntityType.NODE, "n1") is None
            assert seen.gone == []
            assert told(seen, EntityType.SCHEDULER_DOMAIN, "hpc") is not None


async def test_what_changes_slowly_is_told_again_after_some_looks() -> None:
    async with cluster() as (_, made):
        await made.observe()
        looks = [await made.observe() for _ in range(LOOKS_BETWEEN)]
        assert sum(told(seen, EntityType.DEPLOYMENT, "ns/web") is not None for seen in looks) == 1
        assert all(told(seen, EntityType.JOB, "ns/train") is not None for seen in looks)


async def test_a_look_that_is_cancelled_loses_no_change() -> None:
    async with cluster() as (fake, made):
        await made.observe()
        fake.remove("nodes", find(fake, "nodes", "n2"))
        gone: list[EntityKey] = []
        for turns in range(40):
            task = asyncio.ensure_future(made.observe())
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                gone += task.result().gone
                continue
            task.cancel()
            await asyncio.wait({task})
        if not gone:
            gone = (await until(made, lambda seen: seen.gone)).gone
        assert gone == [EntityKey(EntityType.NODE, "hpc", "n2")]


async def test_pods_in_trouble_and_warnings_are_told_on_their_owner() -> None:
    async with cluster() as (fake, made):
        await made.observe()
        state = {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
        pod = find(fake, "pods", "web-1")
        fake.set_status("pods", pod, {**pod["status"], **state})
        about = {"kind": "Pod", "namespace": "ns", "name": "web-1"}
        fake.create(
            "events",
            {
                "metadata": {"name": "e1"},
                "type": "Warning",
                "reason": "BackOff",
                "involvedObject": about,
                "count": 3,
            },
            "ns",
        )

        def both(seen: Observation) -> bool:
            web = told(seen, EntityType.DEPLOYMENT, "ns/web")
            return web is not None and "problems" in web.fields and "warnings" in web.fields

        web = told(await until(made, both), EntityType.DEPLOYMENT, "ns/web")
        assert web is not None
        assert web.fields["problems"] == ["CrashLoopBackOff"]
        assert web.fields["warnings"] == ["BackOff ×3"]  # noqa: RUF001 - as it is shown


async def test_a_job_set_has_its_jobs_as_parts() -> None:
    async with cluster() as (fake, made):
        fake.create(
            "jobsets",
            {
                "metadata": {"name": "set", "namespace": "ns"},
                "spec": {},
                "status": {"replicatedJobsStatus": [{"name": "w", "ready": 1}]},
            },
            "ns",
        )
        owner = [
            {
                "apiVersion": "jobset.x-k8s.io/v1alpha2",
                "kind": "JobSet",
                "name": "set",
                "uid": "s",
                "controller": True,
            }
        ]
        fake.create(
            "jobs",
            {"metadata": {"name": "set-w-0", "namespace": "ns", "ownerReferences": owner}, "spec": {}},
            "ns",
        )
        part = [{"apiVersion": "batch/v1", "kind": "Job", "name": "set-w-0", "uid": "j", "controller": True}]
        fake.create("pods", bare(pod_json("set-w-0-0", "ns", node="n2", ownerReferences=part)), "ns")
        seen = await made.observe()
        whole = told(seen, EntityType.JOB, "ns/jobset/set")
        assert whole is not None
        assert (whole.fields["job_state"], whole.fields["assigned_gpu_count"], whole.fields["node"]) == (
            "running",
            1,
            "n2",
        )
        assert told(seen, EntityType.JOB, "ns/set-w-0") is None


async def test_a_service_that_kserve_made_is_told_once() -> None:
    async with cluster() as (fake, made):
        fake.create(
            "services",
            {"metadata": {"name": "llama", "namespace": "ns"}, "spec": {"selector": {"a": "b"}}},
            "ns",
        )
        seen = await made.observe()
        found = [f for f in seen.fragments if f.entity_id == "ns/llama"]
        assert [f.labels.get("kind") for f in found] == ["InferenceService"]


async def test_gpus_of_dra_are_counted_and_lead_to_their_job() -> None:
    async with cluster() as (fake, made):
        cpu = {"cpu": "4"}
        fake.create("nodes", node_json("dra", capacity=cpu, allocatable=cpu))
        devices = [{"name": f"g{n}", "attributes": {"uuid": {"string": f"GPU-{n}"}}} for n in range(2)]
        pool = {"name": "dra", "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": "gpu.nvidia.com", "nodeName": "dra", "pool": pool, "devices": devices}
        fake.create("resourceslices", {"metadata": {"name": "s1"}, "spec": spec})
        results = [{"driver": "gpu.nvidia.com", "pool": "dra", "device": "g0", "request": "r"}]
        status = {
            "allocation": {"devices": {"results": results}},
            "reservedFor": [{"resource": "pods", "name": "train-1", "uid": "p"}],
        }
        fake.create("resourceclaims", {"metadata": {"name": "c", "namespace": "ns"}, "status": status}, "ns")
        owner = [{"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "j", "controller": True}]
        claims = {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "c"}]}
        fake.create(
            "pods",
            bare(pod_json("train-1", "ns", node="dra", containers=[], ownerReferences=owner, status=claims)),
            "ns",
        )
        seen = await made.observe()
        node, gpu, free = (
            told(seen, kind, name)
            for kind, name in ((EntityType.NODE, "dra"), (EntityType.GPU, "GPU-0"), (EntityType.GPU, "GPU-1"))
        )
        job = told(seen, EntityType.JOB, "ns/train")
        assert node is not None
        assert gpu is not None
        assert free is not None
        assert job is not None
        assert (node.fields["gpu_count"], node.fields["gpu_capacity"]) == (2, 2)
        assert (gpu.fields["assigned_job_id"], gpu.fields["claim"]) == ("ns/train", "ns/c")
        assert "assigned_job_id" not in free.fields
        assert job.fields["assigned_gpu_count"] == 2  # one of the plugin's, one of DRA's
        # A pool that is being written anew keeps what it had.
        one = find(fake, "resourceslices", "s1")
        new = {**spec, "pool": {**pool, "generation": 2, "resourceSliceCount": 2}, "devices": devices[:1]}
        fake.change("resourceslices", one, spec=new)
        seen = await until(made, lambda seen: not seen.complete)
        assert any("gpu.nvidia.com/dra" in line for line in seen.warnings)
        assert seen.gone == []
        fake.create("resourceslices", {"metadata": {"name": "s2"}, "spec": {**new, "devices": []}})
        seen = await until(made, lambda seen: seen.gone)
        assert seen.gone == [EntityKey(EntityType.GPU, "hpc", "GPU-1")]


async def test_a_gpu_that_only_a_pod_tells_of_has_the_health_its_plugin_says() -> None:
    async with cluster() as (fake, made):
        devices = [{"resourceID": "GPU-7", "health": "Unhealthy", "message": "Xid 79"}]
        statuses = [
            {"name": "c", "allocatedResourcesStatus": [{"name": "nvidia.com/gpu", "resources": devices}]}
        ]
        pod = find(fake, "pods", "train-0")
        fake.set_status("pods", pod, {**pod["status"], "containerStatuses": statuses})
        gpu = told(await made.observe(), EntityType.GPU, "GPU-7")
        assert gpu is not None
        assert (gpu.fields["device_health"], gpu.fields["node"]) == ("unhealthy", "n1")
        assert gpu.fields["assigned_job_id"] == "ns/train"


async def test_config_maps_are_told_by_hash_and_never_by_content() -> None:
    async with cluster(config_maps=["ns/conf", "ns/missing"]) as (fake, made):
        fake.create(
            "configmaps", {"metadata": {"name": "conf", "namespace": "ns"}, "data": {"k": "hunter2"}}, "ns"
        )
        seen = await made.observe()
        found = told(seen, EntityType.CONFIG_SNAPSHOT, "ns/configmap/conf")
        missing = told(seen, EntityType.CONFIG_SNAPSHOT, "ns/configmap/missing")
        assert found is not None
        assert missing is not None
        assert found.fields["config_hash"].startswith("sha256:")
        assert missing.fields["present"] is False
        assert b"hunter2" not in msgspec.json.encode(seen)
        before = found.fields["config_hash"]
        fake.change("configmaps", find(fake, "configmaps", "conf"), data={"k": "other"})

        def changed(seen: Observation) -> bool:
            now = told(seen, EntityType.CONFIG_SNAPSHOT, "ns/configmap/conf")
            return now is not None and now.fields["config_hash"] != before

        await until(made, changed)


async def test_chosen_namespaces_alone_are_read() -> None:
    async with cluster(namespaces=["other", "ns"], resources=["jobs", "deployments"]) as (fake, made):
        fake.create("namespaces", {"metadata": {"name": "third"}})
        for namespace in ("other", "third"):
            fake.create("namespaces", {"metadata": {"name": namespace}}) if namespace == "other" else None
            fake.create("jobs", {"metadata": {"name": "j", "namespace": namespace}, "spec": {}}, namespace)
        seen = await made.observe()
        jobs = {f.entity_id for f in seen.fragments if f.entity_type is EntityType.JOB}
        assert jobs == {"ns/train", "other/j"}
        assert seen.complete


async def test_extensions_that_are_not_installed_are_no_fault() -> None:
    async with cluster() as (fake, made):
        for plural in (
            "jobsets",
            "workloads",
            "clusterqueues",
            "localqueues",
            "inferenceservices",
            "resourceslices",
        ):
            fake.uninstall(plural)
        seen = await made.observe()
        assert seen.complete, seen.warnings
        assert told(seen, EntityType.JOB, "ns/train") is not None
        assert EntityType.JOB in seen.whole


async def test_lists_come_by_pages_of_the_size_asked_for() -> None:
    async with cluster(page_size=1) as (fake, made):
        fake.git_version = "v1.30.0"  # without streaming lists
        seen = await made.observe()
        assert {f.entity_id for f in seen.fragments if f.entity_type is EntityType.NODE} == {"n1", "n2"}
        assert any(
            "limit=1&" in request.path or request.path.endswith("limit=1") for request in fake.web.requests
        )


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, "one of url"),
        ({"url": "http://k", "resources": ["nodez"]}, "did you mean"),
        ({"url": "http://k", "resources": ["nodes", "nodes"]}, "twice"),
        ({"url": "http://k", "labels": {"cluster": "x"}}, "scope"),
        ({"url": "http://k", "keep_labels": ["db-password"]}, "secret"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        KubernetesOptions(**given)


async def test_a_scope_is_not_needed() -> None:
    fake = await FakeApiServer().start()
    populate(fake)
    made = driver(fake, context(scope=""))
    try:
        seen = await made.observe()
        assert told(seen, EntityType.SCHEDULER_DOMAIN, "k8s") is not None
        assert all("cluster" not in f.labels for f in seen.fragments)
    finally:
        await made.close()
        await fake.stop()
