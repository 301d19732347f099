"""The driver suite on the serving driver: model servers in a box."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.serving import ServingDriver, ServingOptions
from steersman.drivers.serving.fake import MODEL, FakeServer, Load
from steersman.drivers.serving.options import TABLES
from steersman.drivers.web.fake import FAULTS
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, Check, SystemUnderTest

SECRET = "hunter2-very-secret"
for name in {name for names in TABLES.values() for name in names}:
    open_mapping(name)  # as the configuration does, before any loop runs

SURPRISES = {
    "vllm": 'vllm:num_requests_waiting{model_name="other"} -3\nvllm:num_requests_waiting{model_name="x" 1\n',
    "sglang": 'sglang:token_usage{model_name="other"} 44\n',
    "tgi": "tgi_batch_current_size -1\n",
    "triton": 'nv_gpu_utilization{gpu_uuid="GPU-9"} 50\n',
    "ray-serve": 'ray_serve_deployment_status{application="a",deployment="b"} 77\n',
    "knative": 'kn_revision_pods_desired{k8s_namespace_name="n",kn_service_name="s"} -1\n',
    "kserve": 'request_predict_seconds_bucket{le="1" 4\n',
    "torchserve": 'QueueTime{Level="Host",Hostname="h1",} -5\n',
}
"""What no table of the stack can know."""


class Server:
    """A model server behind a token, with its readiness beside it."""

    secrets = (SECRET,)
    faults = FAULTS

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self.models = fake.models

    def driver(self, context: DriverContext) -> Driver:
        flavor: Any = self.fake.flavor
        options = ServingOptions(
            flavor=flavor,
            url=f"{self.fake.url}?key={SECRET}",
            token=Secret(SECRET),
            health_url=f"{self.fake.health_url}?key={SECRET}",
        )
        return ServingDriver(options, context)

    @property
    def states(self) -> tuple[str, ...]:
        """TGI has one model, a queue proxy one revision; a list of models has no times."""
        many = ("huge",) if self.fake.flavor in ("vllm", "triton", "torchserve", "openai") else ()
        return ("empty", *many) if self.fake.flavor == "openai" else ("empty", "skewed", "restarted", *many)

    async def show(self, state: str) -> None:
        ahead_ms = int((time.time() + 3600) * 1000)
        if state == "restarted":
            self.fake.load = Load()
        elif state == "empty":
            self.fake.models, self.fake.shape = None, lambda page: "python_info 1\n"
        elif state == "skewed":
            self.fake.shape = lambda page: re.sub(r"(?m)^(.+)$", rf"\1 {ahead_ms}", page)
        else:
            self.fake.models = [{"id": f"{MODEL}-{n}"} for n in range(1000)]
            self.fake.shape = lambda page: "".join(page.replace(MODEL, f"{MODEL}-{n}") for n in range(1000))

    async def fail(self, fault: str) -> None:
        await self.fake.web.fail(fault)

    async def mend(self) -> None:
        self.fake.models, self.fake.shape = self.models, str
        await self.fake.web.mend()

    async def surprise(self) -> bool:
        if self.fake.flavor == "openai":
            self.fake.models += [{"object": "model"}, "a text", {"id": "odd", "status": {"value": [1]}}]
        else:
            self.fake.extra = SURPRISES[self.fake.flavor]
        return True


@pytest.mark.parametrize("flavor", [*SURPRISES, "openai"])
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake_server(check: Check, flavor: str) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        fake = await FakeServer(flavor, authorization=f"Bearer {SECRET}", moving=True).start()
        try:
            yield Server(fake)
        finally:
            await fake.stop()

    await check(system)
