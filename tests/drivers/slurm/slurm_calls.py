"""Calls of steps, and operations of a driver, for the tests that act."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from steersman.drivers.slurm import SlurmDriver, SlurmOptions
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import StepCall, StepHandler
from steersman.testing.driver import context

NODE = ResourceRef("Node", "n1")


def call(
    *,
    by: str = "op-1",
    step: str = "drain",
    attempt: int = 1,
    epoch: int = 3,
    resource: ResourceRef = NODE,
    timeout_s: float = 30.0,
    **inputs: Any,
) -> StepCall:
    """One attempt of a step of the operation `by`."""
    return StepCall(
        key=f"{by}/{step}/{attempt}", resource=resource, operation=by, epoch=epoch, phase="work", step=step,
        attempt=attempt, timeout_s=timeout_s, inputs=inputs,
    )  # fmt: skip


@asynccontextmanager
async def operations(**options: Any) -> AsyncIterator[dict[str, StepHandler]]:
    """The operations of a driver with these options."""
    driver = SlurmDriver(SlurmOptions(**options), context())
    try:
        yield dict(driver.operations())
    finally:
        await driver.close()
