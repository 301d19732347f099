"""What kubectl sees of what we did, and what we see of what kubectl did."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kube_cluster import driver, populate

from steersman.drivers.kubernetes.fake import ALL, FakeApiServer
from steersman.kinds.entity import EntityType
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import StepCall, StepOutcome

pytestmark = pytest.mark.real


def call(key: str, **inputs: Any) -> StepCall:
    return StepCall(
        key=key, resource=ResourceRef("node", "n1"), operation="op", epoch=1, phase="p", step="s", attempt=1,
        timeout_s=30.0, inputs=inputs,
    )  # fmt: skip


async def test_kubectl_and_steersman_see_each_others_work(
    real_program: Callable[[str], str], tmp_path: Path
) -> None:
    program = real_program("kubectl")
    fake = await FakeApiServer(controllers=ALL).start()
    populate(fake)
    made = driver(fake)
    steps = made.operations()

    async def kubectl(*words: str) -> str:
        argv = [program, f"--server={fake.url}", f"--cache-dir={tmp_path}", "--kubeconfig=/dev/null", *words]
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def node() -> dict[str, Any]:
        for _ in range(200):
            for fragment in (await made.observe()).fragments:
                if (fragment.entity_type, fragment.entity_id) == (EntityType.NODE, "n1"):
                    return fragment.fields
            await asyncio.sleep(0.01)
        raise AssertionError("n1 was never told")

    try:
        assert (
            await steps["cordon"].run(call("a", node="n1", reason="disk"))
        ).outcome is StepOutcome.SUCCEEDED
        told = json.loads(await kubectl("get", "node", "n1", "-o", "json"))
        assert told["spec"]["unschedulable"] is True
        assert told["metadata"]["annotations"]["steersman.io/operation"] == "a"
        seen = await node()
        while seen["schedulable"]:
            seen = await node()
        assert (seen["drain_by"], seen["drain_intent"], seen["drain_reason"]) == (
            "steersman",
            "planned",
            "disk",
        )
        assert (
            await steps["scale"].run(call("b", namespace="ns", name="web", replicas=4))
        ).outcome is StepOutcome.SUCCEEDED
        assert await kubectl("get", "deployment", "web", "-n", "ns", "-o", "jsonpath={.spec.replicas}") == "4"
        assert (await steps["uncordon"].run(call("c", node="n1"))).outcome is StepOutcome.SUCCEEDED

        await kubectl("cordon", "n1")
        seen = await node()
        while seen["schedulable"]:
            seen = await node()
        assert seen.get("drain_by") != "steersman"  # the server in a box keeps no fields by manager
        refused = await steps["uncordon"].run(call("d", node="n1"))
        assert refused.outcome is StepOutcome.PERMANENT
    finally:
        await made.close()
        await fake.stop()
