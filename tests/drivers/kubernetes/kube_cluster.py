"""A small cluster in the fake API server, and drivers for it."""

from __future__ import annotations

from typing import Any

from kube_shapes import cond, meta, pod_json

from steersman.drivers.api import DriverContext
from steersman.drivers.kubernetes.fake import FakeApiServer
from steersman.drivers.kubernetes.observe import KubernetesDriver
from steersman.drivers.kubernetes.options import KubernetesOptions
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.secret import Secret

TOKEN = "hunter2-very-secret"


def bare(given: dict[str, Any]) -> dict[str, Any]:
    """Without what only a server sets."""
    kept = {k: v for k, v in given["metadata"].items() if k not in ("uid", "creationTimestamp", "generation")}
    return {**given, "metadata": kept}


def node_json(name: str, **given: Any) -> dict[str, Any]:
    gpus = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "8", "pods": "110"}
    status = {"conditions": [cond("Ready")], "capacity": gpus, "allocatable": gpus}
    return bare(
        {
            "metadata": meta(name, **given.pop("meta", {})),
            "spec": given.pop("spec", {}),
            "status": status | given,
        }
    )


def populate(fake: FakeApiServer, nodes: int = 2) -> None:
    """Nodes, a deployment with pods and a service, a job with a pod, a queue, a quota, a device, a model."""
    fake.create("namespaces", {"metadata": {"name": "ns"}, "status": {"phase": "Active"}})
    for number in range(1, nodes + 1):
        fake.create("nodes", node_json(f"n{number}"))
    labels = {"app": "web", "pod-template-hash": "abc"}
    fake.create(
        "deployments",
        {
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}},
            },
            "status": {
                "observedGeneration": 1,
                "replicas": 2,
                "readyReplicas": 2,
                "availableReplicas": 2,
                "updatedReplicas": 2,
            },
        },
        "ns",
    )
    fake.create(
        "services",
        {
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
        },
        "ns",
    )
    owner = [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "uid": "rs", "controller": True}
    ]
    for number in (1, 2):
        fake.create(
            "pods",
            bare(pod_json(f"web-{number}", "ns", node=f"n{number}", labels=labels, ownerReferences=owner)),
            "ns",
        )
    fake.create(
        "jobs",
        {
            "metadata": {"name": "train", "namespace": "ns"},
            "spec": {"parallelism": 1},
            "status": {"active": 1, "ready": 1},
        },
        "ns",
    )
    owner = [{"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "j", "controller": True}]
    fake.create("pods", bare(pod_json("train-0", "ns", node="n1", ownerReferences=owner)), "ns")
    fake.create(
        "localqueues",
        {
            "metadata": {"name": "q", "namespace": "ns"},
            "spec": {"clusterQueue": "big"},
            "status": {"pendingWorkloads": 1, "conditions": [cond("Active")]},
        },
        "ns",
    )
    fake.create(
        "resourcequotas",
        {
            "metadata": {"name": "quota", "namespace": "ns"},
            "status": {"hard": {"pods": "10"}, "used": {"pods": "3"}},
        },
        "ns",
    )
    fake.create(
        "inferenceservices",
        {
            "metadata": {"name": "llama", "namespace": "ns"},
            "spec": {"predictor": {"model": {"storageUri": "s3://m/llama"}}},
            "status": {"conditions": [cond("Ready")]},
        },
        "ns",
    )


def context(timeout_s: float = 5.0, scope: str = "hpc") -> DriverContext:
    return DriverContext(
        source="k8s", scope=scope, clock=SystemClock(), rng=seeded_rng(1), interval_s=1.0, timeout_s=timeout_s
    )


def driver(fake: FakeApiServer, at: DriverContext | None = None, **options: Any) -> KubernetesDriver:
    return KubernetesDriver(KubernetesOptions(url=fake.url, **options), at or context())


__all__ = ["TOKEN", "FakeApiServer", "Secret", "bare", "context", "driver", "node_json", "populate"]
