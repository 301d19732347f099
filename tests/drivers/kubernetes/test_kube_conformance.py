"""The fake does what a real API server does, and kubectl takes it for one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from steersman.drivers.kubernetes.access import KubernetesAccess
from steersman.drivers.kubernetes.client import KubeClient
from steersman.drivers.kubernetes.fake import ALL, FakeApiServer
from steersman.kernel.clock import SystemClock
from steersman.testing.kubernetes import KUBERNETES_CHECKS, Check


@pytest.mark.parametrize("check", KUBERNETES_CHECKS, ids=lambda check: check.__name__)
async def test_the_fake_keeps_the_apis_promises(check: Check) -> None:
    server = FakeApiServer()
    server.storage.expire()
    server.create("namespaces", {"metadata": {"name": "check"}})
    await server.start()
    client = KubeClient(KubernetesAccess(url=server.url), SystemClock())
    try:
        await check(client, "check")
    finally:
        await client.close()
        await server.stop()


class Kubectl:
    """kubectl against one fake; its home is empty, so that no kubeconfig of the machine is met."""

    def __init__(self, program: str, server: FakeApiServer, home: Path) -> None:
        self._words = (program, "--server", server.url, "--cache-dir", str(home / "cache"))
        self._environ = {"HOME": str(home), "KUBECONFIG": str(home / "none"), "PATH": os.environ["PATH"]}

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._words,
            *words,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def __call__(self, *words: str) -> str:
        process = await self.start(*words)
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()


def conditions(status: str = "True") -> list[dict[str, str]]:
    return [{"type": "Ready", "status": status}]


@asynccontextmanager
async def cluster(program: str, home: Path) -> AsyncIterator[tuple[FakeApiServer, Kubectl]]:
    """Two nodes, a deployment, a pod of it on each node."""
    server = FakeApiServer(controllers=ALL)
    for number in range(2):
        name = f"gpu-{number}"
        server.create(
            "nodes", {"metadata": {"name": name}, "spec": {}, "status": {"conditions": conditions()}}
        )
        owner = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "api-1",
            "uid": "u",
            "controller": True,
        }
        server.create(
            "pods",
            {
                "metadata": {"name": f"api-{number}", "labels": {"app": "api"}, "ownerReferences": [owner]},
                "spec": {"nodeName": name, "containers": [{"name": "m", "image": "m"}]},
                "status": {"phase": "Running", "conditions": conditions()},
            },
        )
    template = {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "m", "image": "m"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "api"}}, "template": template}
    server.create("deployments", {"metadata": {"name": "api"}, "spec": spec})
    await server.start()
    try:
        yield server, Kubectl(program, server, home)
    finally:
        await server.stop()


@pytest.mark.real
async def test_kubectl_gets_and_changes(real_program: Callable[[str], str], tmp_path: Path) -> None:
    async with cluster(real_program("kubectl"), tmp_path) as (server, kubectl):
        shown = await kubectl("get", "nodes,pods,deployments", "-o", "name")
        assert "node/gpu-0" in shown
        assert "pod/api-1" in shown
        assert "deployment.apps/api" in shown
        assert "scaled" in await kubectl("scale", "deployment", "api", "--replicas=5")
        deployment = server.storage.get("deployments", ("default", "api"))
        assert deployment is not None
        assert (deployment["spec"]["replicas"], deployment["metadata"]["generation"]) == (5, 2)
        assert deployment["status"]["observedGeneration"] == 2
        assert "cordoned" in await kubectl("cordon", "gpu-1")
        assert "uncordoned" in await kubectl("uncordon", "gpu-1")
        assert "tainted" in await kubectl("taint", "node", "gpu-1", "sick=yes:NoExecute")
        node = server.storage.get("nodes", ("", "gpu-1"))
        assert node is not None
        assert node["spec"] == {"taints": [{"key": "sick", "value": "yes", "effect": "NoExecute"}]}
        assert "restarted" in await kubectl("rollout", "restart", "deployment", "api")
        assert "deleted" in await kubectl("delete", "pod", "api-0", "--wait=false")


@pytest.mark.real
async def test_kubectl_drains_as_the_budget_allows(
    real_program: Callable[[str], str], tmp_path: Path
) -> None:
    async with cluster(real_program("kubectl"), tmp_path) as (server, kubectl):
        spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "api"}}}
        budget = server.create("poddisruptionbudgets", {"metadata": {"name": "api"}, "spec": spec})
        process = await kubectl.start("drain", "gpu-1", "--ignore-daemonsets", "--timeout=3s")
        out, _ = await process.communicate()
        assert process.returncode != 0
        assert b"disruption budget" in out
        assert server.storage.get("pods", ("default", "api-1")) is not None
        server.change("poddisruptionbudgets", budget, spec={**spec, "minAvailable": 1})
        assert "drained" in await kubectl("drain", "gpu-1", "--ignore-daemonsets", "--timeout=60s")
        assert server.storage.get("pods", ("default", "api-1")) is None
        node = server.storage.get("nodes", ("", "gpu-1"))
        assert node is not None
        assert node["spec"]["unschedulable"] is True


@pytest.mark.real
async def test_kubectl_watches(real_program: Callable[[str], str], tmp_path: Path) -> None:
    async with cluster(real_program("kubectl"), tmp_path) as (server, kubectl):
        process = await kubectl.start("get", "pods", "-w", "-o", "name")
        out = process.stdout
        assert out is not None
        try:
            async with asyncio.timeout(60):
                seen = {(await out.readline()).decode().strip() for _ in range(2)}
                assert seen == {"pod/api-0", "pod/api-1"}
                server.create("pods", {"metadata": {"name": "new"}, "spec": {}})
                assert await out.readline() == b"pod/new\n"
        finally:
            process.terminate()
            await process.wait()
