"""The client against the fake: logins, renewed tokens, evictions, statuses, grace, refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from steersman.drivers.kubernetes.access import KubernetesAccess
from steersman.drivers.kubernetes.client import KubeClient, KubernetesRefused
from steersman.drivers.kubernetes.fake import FakeApiServer, count_disruptions
from steersman.drivers.kubernetes.resources import DEPLOYMENTS, NODES, PODS
from steersman.kernel.clock import SystemClock
from steersman.kernel.secret import Secret

T: dict[str, Any] = {"timeout_s": 10.0}
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
CHOICE = {"matchLabels": {"app": "a"}}


@asynccontextmanager
async def served(server: FakeApiServer, **access: Any) -> AsyncIterator[KubeClient]:
    await server.start()
    client = KubeClient(KubernetesAccess(url=server.url, **access), SystemClock())
    try:
        yield client
    finally:
        await client.close()
        await server.stop()


def pod(server: FakeApiServer, name: str, status: Mapping[str, Any] = READY) -> dict[str, Any]:
    meta = {"name": name, "labels": {"app": "a"}}
    return server.create("pods", {"metadata": meta, "spec": {"nodeName": "n"}, "status": dict(status)})


async def test_a_token_that_was_renewed_on_disk_is_used_at_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    server = FakeApiServer(tokens={"old": "robot"})
    async with served(server, token_file=str(token)) as client:
        server.denied.add(("get", "nodes"))
        with pytest.raises(KubernetesRefused, match=r'403 Forbidden: nodes is forbidden: User "robot"'):
            await client.get(NODES, "n", **T)
        server.tokens = {"new": "robot"}
        with pytest.raises(KubernetesRefused, match="401 Unauthorized"):
            await client.get(PODS, "p", namespace="default", **T)
        token.write_text("new")
        pod(server, "p")
        assert (await client.get(PODS, "p", namespace="default", **T))["metadata"]["name"] == "p"


async def test_a_wrong_token_is_shown_nowhere() -> None:
    async with served(FakeApiServer(tokens={"t": "robot"}), token=Secret("hunter2")) as client:
        with pytest.raises(KubernetesRefused) as refused:
            await client.get(NODES, "n", **T)
    assert refused.value.forbidden
    assert "hunter2" not in f"{refused.value!r} {refused.value.problem()}"


async def test_an_eviction_keeps_to_its_budget() -> None:
    server = FakeApiServer()
    evicted = {"namespace": "default", **T}
    async with served(server) as client:
        pods = [pod(server, name) for name in "abc"]
        spec = {"minAvailable": 2, "selector": CHOICE}
        server.create("poddisruptionbudgets", {"metadata": {"name": "b"}, "spec": spec})
        with pytest.raises(KubernetesRefused, match="429") as refused:
            await client.evict("a", **evicted)
        assert (refused.value.throttled, refused.value.retry_after_s) == (True, 10.0)
        server.controllers.append(count_disruptions)
        server.settle()
        await client.evict("a", dry_run=True, **evicted)
        with pytest.raises(KubernetesRefused) as other:
            await client.evict("a", uid="another", **evicted)
        assert other.value.conflict
        await client.evict("a", uid=pods[0]["metadata"]["uid"], **evicted)
        marked = await client.get(PODS, "a", **evicted)
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
        with pytest.raises(KubernetesRefused) as second:
            await client.evict("b", **evicted)
        assert second.value.retry_after_s is None
        assert [cause.reason for cause in second.value.causes] == ["DisruptionBudget"]
        with pytest.raises(KubernetesRefused) as gone:
            await client.evict("z", **evicted)
        assert gone.value.not_found


async def test_status_and_spec_are_written_apart_and_the_spec_is_counted() -> None:
    server = FakeApiServer()
    here: dict[str, Any] = {"namespace": "default", **T}
    async with served(server) as client:
        body = {"metadata": {"name": "d"}, "spec": {"replicas": 1}}
        await client.create(DEPLOYMENTS, body, **here)
        both = {"spec": {"replicas": 2}, "status": {"replicas": 9}}
        made = await client.patch(DEPLOYMENTS, "d", both, **here)
        assert (made["spec"], made["metadata"]["generation"], made.get("status")) == (
            {"replicas": 2},
            2,
            None,
        )
        made = await client.patch(DEPLOYMENTS, "d", {**both, "spec": {}}, subresource="status", **here)
        assert (made["spec"], made["metadata"]["generation"]) == ({"replicas": 2}, 2)
        assert made["status"] == {"replicas": 9}
        scale = await client.patch(DEPLOYMENTS, "d", {"spec": {"replicas": 5}}, subresource="scale", **here)
        assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 5})


async def test_what_has_finalizers_is_marked_until_they_are_done() -> None:
    server = FakeApiServer()
    here: dict[str, Any] = {"namespace": "default", **T}
    async with served(server) as client:
        meta = {"name": "d", "finalizers": ["x/y"]}
        await client.create(DEPLOYMENTS, {"metadata": meta, "spec": {}}, **here)
        await client.delete(DEPLOYMENTS, "d", **here)
        assert (await client.get(DEPLOYMENTS, "d", **here))["metadata"]["deletionTimestamp"]
        await client.patch(DEPLOYMENTS, "d", {"metadata": {"finalizers": None}}, **here)
        with pytest.raises(KubernetesRefused) as gone:
            await client.get(DEPLOYMENTS, "d", **here)
        assert gone.value.not_found
