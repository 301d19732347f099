"""What runs in the fleet's Kubernetes: nodes, a model that is served, a training job, queues and a quota."""

from __future__ import annotations

import os
from typing import Any

from msgspec import Struct

from steersman.drivers.kubernetes.fake import FakeApiServer
from steersman.kernel.bounds import MIB
from steersman.kernel.clock import Clock

DOMAIN = "hpc-1.example"
GPUS = 8
REVISION = "llama-predictor-00002"
Json = dict[str, Any]


class Machine(Struct, frozen=True):
    """This machine, as all that speak of the first node have to agree on it."""

    name: str
    cpus: int
    memory_mib: int
    kernel: str


def this_machine() -> Machine:
    """Read it."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    return Machine(os.uname().nodename, os.cpu_count() or 1, memory, os.uname().release)


def populate(api: FakeApiServer, clock: Clock, nodes: list[str], machine: Machine) -> None:
    """Fill an empty cluster. The first node carries the job and one pod of the model."""
    now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    for name in ("serving", "research"):
        api.create("namespaces", {"metadata": {"name": name}, "status": {"phase": "Active"}})
    for number, name in enumerate(nodes):
        api.create("nodes", _node(name, f"10.20.0.{number + 10}", now, machine))
    full = f"{nodes[0]}.{DOMAIN}"
    _serve(api, now, full)
    _train(api, now, full)
    api.create(
        "resourcequotas",
        {
            "metadata": {"name": "gpus", "namespace": "research"},
            "status": {
                "hard": {"requests.nvidia.com/gpu": "4", "pods": "20"},
                "used": {"requests.nvidia.com/gpu": "2", "pods": "1"},
            },
        },
        "research",
    )
    api.create("configmaps", {"metadata": {"name": "gateway"}, "data": {"routes": "a: b"}}, "serving")


def _condition(kind: str, now: str, status: str = "True") -> Json:
    return {"type": kind, "status": status, "lastTransitionTime": now, "reason": "AsItShould"}


def _node(name: str, address: str, now: str, machine: Machine) -> Json:
    can = {
        "cpu": f"{machine.cpus}",
        "memory": f"{machine.memory_mib}Mi",
        "nvidia.com/gpu": str(GPUS),
        "pods": "110",
    }
    return {
        "metadata": {"name": f"{name}.{DOMAIN}", "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {
            "capacity": can,
            "allocatable": can,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": [_condition("Ready", now)],
            "nodeInfo": {"kubeletVersion": "v1.35.0", "kernelVersion": machine.kernel},
        },
    }


def _pod(name: str, namespace: str, node: str, now: str, owner: Json, labels: Json, gpus: int) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [owner]},
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "name": "main",
                    "image": "example",
                    "resources": {
                        "requests": {"cpu": "500m", "memory": "1Gi"},
                        "limits": {"nvidia.com/gpu": str(gpus)},
                    },
                }
            ],
        },
        "status": {"phase": "Running", "startTime": now, "conditions": [_condition("Ready", now)]},
    }


def _serve(api: FakeApiServer, now: str, node: str) -> None:
    """An InferenceService with two revisions, and the deployment that KServe makes of the newest."""
    api.create(
        "inferenceservices",
        {
            "metadata": {"name": "llama", "namespace": "serving"},
            "spec": {
                "predictor": {"model": {"modelFormat": {"name": "huggingface"}, "storageUri": "s3://m/llama"}}
            },
            "status": {
                "url": "http://llama.serving.example",
                "conditions": [_condition("Ready", now), _condition("PredictorReady", now)],
                "components": {
                    "predictor": {
                        "latestCreatedRevision": REVISION,
                        "latestReadyRevision": REVISION,
                        "latestRolledoutRevision": REVISION,
                        "traffic": [{"revisionName": REVISION, "percent": 100, "latestRevision": True}],
                    }
                },
                "modelStatus": {
                    "transitionStatus": "UpToDate",
                    "states": {"activeModelState": "Loaded", "targetModelState": "Loaded"},
                },
            },
        },
        "serving",
    )
    labels = {"app": "llama", "serving.kserve.io/inferenceservice": "llama", "pod-template-hash": "5d7"}
    api.create(
        "deployments",
        {
            "metadata": {"name": "llama-predictor", "namespace": "serving"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "llama"}},
                "template": {"metadata": {"labels": {"app": "llama"}}},
            },
            "status": {},
        },
        "serving",
    )
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "llama-predictor-5d7",
        "uid": "8c1f",
        "controller": True,
    }
    api.create("pods", _pod("llama-predictor-5d7-x", "serving", node, now, owner, labels, 0), "serving")


def _train(api: FakeApiServer, now: str, node: str) -> None:
    """A job on one GPU, with Kueue's queues."""
    api.create(
        "jobs",
        {
            "metadata": {"name": "finetune", "namespace": "research"},
            "spec": {"parallelism": 1, "completions": 1},
            "status": {"active": 1, "ready": 1, "startTime": now},
        },
        "research",
    )
    (job,) = api.all("jobs")
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "finetune",
        "uid": job["metadata"]["uid"],
        "controller": True,
    }
    api.create(
        "pods", _pod("finetune-0", "research", node, now, owner, {"job-name": "finetune"}, 1), "research"
    )
    api.create(
        "clusterqueues",
        {
            "metadata": {"name": "shared"},
            "status": {
                "pendingWorkloads": 2,
                "admittedWorkloads": 1,
                "conditions": [_condition("Active", now)],
            },
        },
    )
    api.create(
        "localqueues",
        {
            "metadata": {"name": "team", "namespace": "research"},
            "spec": {"clusterQueue": "shared"},
            "status": {
                "pendingWorkloads": 2,
                "admittedWorkloads": 1,
                "conditions": [_condition("Active", now)],
            },
        },
        "research",
    )
