"""Shipped tables, each read twice: from the exporter's page, and out of a real Prometheus that scraped it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from servers.prometheus import running_prometheus
from steersman.drivers.api import Driver, DriverContext, Observation
from steersman.drivers.exposition.fake import FakeExporter
from steersman.drivers.openmetrics import OpenMetricsDriver, OpenMetricsOptions
from steersman.drivers.prometheus import PrometheusDriver, PrometheusOptions
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.quantity import Duration
from steersman.kinds.fragment import StateFragment

RealProgram = Callable[[str], str]
CONTEXT = DriverContext("metrics", "lab", SystemClock(), seeded_rng(1), 15.0, 10.0)
OWN = {"pod": "exporter-1", "namespace": "monitoring", "node": "infra-1", "container": "exporter"}
"""What a Prometheus in Kubernetes knows of the exporter itself; each clashes with a label of some page."""

KUBE = """
kube_node_info{node="n1",kernel_version="6.1",os_image="Debian 12",kubelet_version="v1.33.1"} 1
kube_node_info{node="n2",kernel_version="6.1",os_image="Debian 12",kubelet_version="v1.33.1"} 1
kube_node_info{node="n3",kernel_version="6.1",os_image="Debian 12",kubelet_version="v1.33.1"} 1
kube_node_status_condition{node="n1",condition="Ready",status="true"} 1
kube_node_status_condition{node="n1",condition="Ready",status="false"} 0
kube_node_status_condition{node="n1",condition="Ready",status="unknown"} 0
kube_node_status_condition{node="n1",condition="KernelDeadlock",status="true"} 0
kube_node_status_condition{node="n1",condition="GpuMemWatch",status="true"} 1
kube_node_status_condition{node="n1",condition="CSPMaintenance",status="true"} 1
kube_node_status_condition{node="n2",condition="Ready",status="true"} 0
kube_node_status_condition{node="n2",condition="Ready",status="false"} 1
kube_node_status_condition{node="n2",condition="Ready",status="unknown"} 0
kube_node_status_condition{node="n2",condition="DiskPressure",status="unknown"} 1
kube_node_status_condition{node="n3",condition="Ready",status="true"} 0
kube_node_status_condition{node="n3",condition="Ready",status="false"} 0
kube_node_status_condition{node="n3",condition="Ready",status="unknown"} 1
kube_node_spec_unschedulable{node="n1"} 0
kube_node_spec_unschedulable{node="n2"} 1
kube_node_status_allocatable{node="n1",resource="nvidia_com_gpu",unit="integer"} 7
kube_node_status_capacity{node="n1",resource="nvidia_com_gpu",unit="integer"} 8
kube_node_status_capacity{node="n1",resource="nvidia_com_mig_1g_10gb",unit="integer"} 7
kube_node_status_capacity{node="n1",resource="cpu",unit="core"} 96
kube_node_status_capacity{node="n1",resource="memory",unit="byte"} 1.0e+12
kube_pod_container_resource_requests{namespace="ns",pod="a",node="n1",resource="nvidia_com_gpu"} 4
kube_pod_container_resource_requests{namespace="ns",pod="b",node="n1",resource="nvidia_com_gpu"} 2
kube_pod_container_resource_requests{namespace="ns",pod="a",container="c",node="n1",resource="cpu"} 8
kube_pod_status_phase{namespace="ns",pod="a",phase="Running"} 1
kube_pod_status_phase{namespace="ns",pod="a",phase="Succeeded"} 0
kube_pod_status_phase{namespace="ns",pod="b",phase="Running"} 0
kube_pod_status_phase{namespace="ns",pod="b",phase="Succeeded"} 1
kube_deployment_spec_replicas{namespace="ns",deployment="api"} 3
kube_deployment_status_replicas{namespace="ns",deployment="api"} 3
kube_deployment_status_replicas_available{namespace="ns",deployment="api"} 2
kube_deployment_status_replicas_updated{namespace="ns",deployment="api"} 3
kube_deployment_status_condition{namespace="ns",deployment="api",condition="ReplicaFailure",status="true"} 1
kube_deployment_status_observed_generation{namespace="ns",deployment="api"} 4
kube_deployment_metadata_generation{namespace="ns",deployment="api"} 5
kube_statefulset_replicas{namespace="ns",statefulset="api"} 2
kube_statefulset_status_replicas_ready{namespace="ns",statefulset="api"} 2
kube_statefulset_status_replicas_available{namespace="ns",statefulset="api"} 1
kube_job_info{namespace="ns",job_name="waits"} 1
kube_job_status_active{namespace="ns",job_name="waits"} 0
kube_job_info{namespace="ns",job_name="runs"} 1
kube_job_status_active{namespace="ns",job_name="runs"} 2
kube_job_status_start_time{namespace="ns",job_name="runs"} 1.7e+09
kube_job_info{namespace="ns",job_name="failed"} 1
kube_job_status_active{namespace="ns",job_name="failed"} 1
kube_job_failed{namespace="ns",job_name="failed",condition="true"} 1
kube_job_failed{namespace="ns",job_name="failed",condition="false"} 0
kube_job_status_failed{namespace="ns",job_name="failed",reason="BackoffLimitExceeded"} 3
kube_job_status_failed{namespace="ns",job_name="failed",reason="DeadlineExceeded"} 1
kube_job_info{namespace="ns",job_name="done"} 1
kube_job_status_active{namespace="ns",job_name="done"} 0
kube_job_complete{namespace="ns",job_name="done",condition="true"} 1
kube_resourcequota{namespace="ns",resourcequota="q1",resource="requests.nvidia.com/gpu",type="hard"} 16
kube_resourcequota{namespace="ns",resourcequota="q2",resource="requests.nvidia.com/gpu",type="hard"} 8
kube_resourcequota{namespace="ns",resourcequota="q1",resource="requests.nvidia.com/gpu",type="used"} 4
"""
KAFKA = """
kafka_consumergroup_lag{consumergroup="g",topic="t",partition="0"} 5
kafka_consumergroup_lag{consumergroup="g",topic="t",partition="1"} 7
kafka_consumergroup_lag{consumergroup="g",topic="lost",partition="0"} 900
kafka_consumergroup_lag{consumergroup="g",topic="lost",partition="1"} -1
kafka_consumergroup_group_lag{group="h",topic="t",partition="0",cluster_name="c"} 3
kafka_consumergroup_group_lag_seconds{group="h",topic="t",partition="0",cluster_name="c"} 1.5
kafka_consumergroup_group_lag_seconds{group="i",topic="t",partition="0",cluster_name="c"} NaN
"""
SLURM = """
slurm_node_cpus{node="n1"} 96
slurm_node_cpus_alloc{node="n1"} 48
slurm_node_memory_bytes{node="n1"} 1.0e+12
slurm_partition_jobs_pending{partition="gpu"} 3
slurm_partition_jobs_running{partition="gpu"} 2
slurm_partition_jobs_suspended{partition="gpu"} 1
slurm_partition_jobs_hold{partition="gpu"} 1
slurm_nodes 4
slurm_nodes_idle 1
slurm_jobs_running 2
slurm_jobs_pending 3
"""


async def observed(driver: Driver) -> Observation:
    try:
        return await driver.observe()
    finally:
        await driver.close()


@asynccontextmanager
async def both(
    real_program: RealProgram, folder: Path, page: str, table: str, ready: str, *, honor: bool
) -> AsyncIterator[tuple[dict[str, StateFragment], dict[str, StateFragment]]]:
    """What the page says, and what a Prometheus says that scraped it; by type and id."""
    exporter = await FakeExporter(page).start()
    scrape = {
        "honor_labels": honor,
        "static_configs": [{"targets": [f"127.0.0.1:{exporter.web.port}"], "labels": OWN}],
    }
    try:
        options = await asyncio.to_thread(lambda: OpenMetricsOptions(url=exporter.url, mappings=[table]))
        direct = await observed(OpenMetricsDriver(options, CONTEXT))
        assert direct.warnings == []
        async with running_prometheus(real_program("prometheus"), folder, {"x": scrape}) as server:
            await server.wait_for(ready)
            asked = await asyncio.to_thread(
                lambda: PrometheusOptions(url=server.url, mappings=[table], window=Duration(10))
            )
            through = await observed(PrometheusDriver(asked, CONTEXT))
            assert through.warnings == []
            yield named(direct), named(through)
    finally:
        await exporter.stop()


def named(seen: Observation) -> dict[str, StateFragment]:
    return {f"{one.entity_type.value}/{one.entity_id}": one for one in seen.fragments}


ONLY_ASKED = {"gpus_allocated", "cpus_allocated", "memory_allocated", "status_behind", "available_nodes"}
"""Fields of rules in PromQL, which no page has."""


@pytest.mark.real
@pytest.mark.parametrize("honor", [True, False], ids=["honor_labels", "exported"])
async def test_kube_state_metrics(real_program: RealProgram, tmp_path: Path, honor: bool) -> None:
    ready = "kube_node_info and on () kube_resourcequota"
    async with both(real_program, tmp_path, KUBE, "kube-state-metrics", ready, honor=honor) as (page, told):
        assert told.keys() == page.keys()
        for key, fragment in told.items():
            rest = {name: value for name, value in fragment.fields.items() if name not in ONLY_ASKED}
            assert rest == page[key].fields, key
            assert fragment.labels == page[key].labels
        fields = {key: fragment.fields for key, fragment in told.items()}
        assert fields["node/n1"]["node_conditions"] == ["CSPMaintenance", "GpuMemWatch", "Ready"]
        assert fields["node/n2"]["node_conditions"] == []
        assert fields["node/n2"]["node_conditions_unknown"] == ["DiskPressure"]
        states = [fields[f"node/{node}"]["scheduler_state"] for node in ("n1", "n2", "n3")]
        assert states == ["Ready", "NotReady", "Unknown"]
        assert [fields[f"node/{node}"].get("schedulable") for node in ("n1", "n2", "n3")] == [
            True,
            False,
            None,
        ]
        assert (fields["node/n1"]["gpu_count"], fields["node/n1"]["gpu_capacity"]) == (7, 8)
        assert fields["node/n1"]["gpus_allocated"] == 4  # what has ended holds nothing
        assert fields["node/n1"]["cpus_allocated"] == 8
        assert fields["node/n1"]["memory_total"] == 10**12
        api = fields["deployment/ns/api"]
        assert (api["desired_replicas"], api["available_replicas"], api["status_behind"]) == (3, 2, True)
        assert api["problems"] == ["ReplicaFailure"]
        assert fields["deployment/ns/statefulset/api"]["available_replicas"] == 1
        jobs = {name: fields[f"job/ns/{name}"]["job_state"] for name in ("waits", "runs", "failed", "done")}
        assert jobs == {"waits": "pending", "runs": "running", "failed": "failed", "done": "completed"}
        assert fields["job/ns/failed"]["pods_failed"] == 4
        assert fields["tenant_scope/ns"]["resource_quota"] == {"requests.nvidia.com/gpu": 8}
        assert fields["tenant_scope/ns"]["resource_usage"] == {"requests.nvidia.com/gpu": 4}
        assert fields["tenant_scope/ns"]["pods_by_phase"] == {"Running": 1, "Succeeded": 1}
        cluster = fields["scheduler_domain/lab"]
        assert (cluster["total_nodes"], cluster["available_nodes"], cluster["total_gpus"]) == (3, 1, 7)


@pytest.mark.real
async def test_consumer_lag(real_program: RealProgram, tmp_path: Path) -> None:
    ready = "kafka_consumergroup_lag and on () kafka_consumergroup_group_lag"
    async with both(real_program, tmp_path, KAFKA, "kafka-exporter", ready, honor=False) as (page, told):
        assert {key: one.fields for key, one in told.items()} == {
            key: one.fields for key, one in page.items()
        }
        assert told["data_pipeline_stage/g/t"].fields == {"lag_messages": 12, "partitions": 2}
        lost = told["data_pipeline_stage/g/lost"].fields
        assert "lag_messages" not in lost  # -1 is no lag, and 900 is not all of it
        behind = told["data_pipeline_stage/h/t"].fields
        assert (behind["lag_messages"], behind["lag_seconds"]) == (3, 1.5)
        assert "data_pipeline_stage/i/t" not in told


@pytest.mark.real
async def test_slurms_own_metrics(real_program: RealProgram, tmp_path: Path) -> None:
    ready = "slurm_nodes and on () slurm_jobs_pending"
    async with both(real_program, tmp_path, SLURM, "slurm-metrics", ready, honor=False) as (page, told):
        assert {key: one.fields for key, one in told.items()} == {
            key: one.fields for key, one in page.items()
        }
        gpu = told["queue/gpu"].fields
        assert (gpu["pending_jobs"], gpu["active_jobs"], gpu["queue_depth"]) == (3, 2, 6)
        assert told["node/n1"].fields["cpus_allocated"] == 48
        assert told["scheduler_domain/lab"].fields["total_nodes"] == 4
