"""The driver suite on the mlflow driver: the server in a box, and MLflow's own server for real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from servers.mlflow import LOG_SOME, MlflowServer
from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.mlflow import MlflowDriver, MlflowOptions
from steersman.drivers.mlflow.fake import FakeMlflow
from steersman.drivers.web.fake import FAULTS
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, STATES, Check, SystemUnderTest, context

SECRET = "hunter2-very-secret"


def fill(fake: FakeMlflow, runs: int = 3) -> None:
    experiment = fake.add_experiment("pretraining")
    for number in range(runs):
        run = fake.add_run(experiment, ago_s=60.0, SLURM_JOB_ID=str(number))
        fake.log_metric(run, "loss", 0.5, ago_s=5.0)
        fake.log_param(run, "password", SECRET)
        if number % 3 == 2:
            fake.end_run(run, "FAILED", ago_s=1.0)
    fake.add_version("chat")


class Server:
    """The server in a box, behind basic authentication."""

    secrets = (SECRET,)
    faults = FAULTS
    states = STATES

    def __init__(self, fake: FakeMlflow) -> None:
        self.fake = fake

    def driver(self, context: DriverContext) -> Driver:
        options = MlflowOptions(url=self.fake.url, username="u", password=Secret(SECRET))
        self.fake.authorization = options.headers()["Authorization"]
        return MlflowDriver(options, context)

    async def fail(self, fault: str) -> None:
        await self.fake.web.fail(fault)

    async def mend(self) -> None:
        await self.fake.web.mend()
        self._begin_anew(runs=3)

    async def surprise(self) -> bool:
        run = self.fake.add_run("1")
        self.fake.runs[run]["info"]["status"] = "PAUSED"
        odd = self.fake.add_run("1")
        self.fake.runs[odd]["info"]["status"] = {"code": 3}
        return True

    async def show(self, state: str) -> None:
        if state == "restarted":
            await self.fake.stop()
            await self.fake.start()
            return
        self.fake.ahead_s = 3600.0 if state == "skewed" else 0.0
        self._begin_anew(runs={"empty": 0, "skewed": 3, "huge": 1800}[state])

    def _begin_anew(self, runs: int) -> None:
        for kept in (self.fake.experiments, self.fake.runs, self.fake.models, self.fake.versions):
            kept.clear()
        if runs:
            fill(self.fake, runs)
        self.fake.ahead_s = 0.0


@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_fake_mlflow(check: Check) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        fake = await FakeMlflow(SystemClock(), seeded_rng(1)).start()
        fill(fake)
        try:
            yield Server(fake)
        finally:
            await fake.stop()

    await check(system)


@pytest.fixture(scope="module")
def server(
    real_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    made = MlflowServer(real_program("mlflow"), tmp_path_factory.mktemp("mlflow"))
    made.start()
    try:
        made.run_ids = made.run(LOG_SOME).split()[-3:]
        yield made
    finally:
        made.stop()


class RealServer:
    """MLflow's own server."""

    secrets = (SECRET, "hunter2-param")
    faults = ("hang", "refuse")

    def __init__(self, server: MlflowServer) -> None:
        self._server = server

    def driver(self, context: DriverContext) -> Driver:
        return MlflowDriver(MlflowOptions(url=self._server.url, token=Secret(SECRET)), context)

    async def fail(self, fault: str) -> None:
        await asyncio.to_thread(self._server.hang if fault == "hang" else self._server.stop)

    async def mend(self) -> None:
        await asyncio.to_thread(self._server.mend)

    async def surprise(self) -> bool:
        return False


@pytest.mark.real
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_real_mlflow(check: Check, server: MlflowServer) -> None:
    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        try:
            yield RealServer(server)
        finally:
            await asyncio.to_thread(server.mend)

    await check(system)


@pytest.mark.real
async def test_what_a_real_client_logged_is_told(server: MlflowServer) -> None:
    big, done, failed = server.run_ids
    driver = MlflowDriver(MlflowOptions(url=server.url, params=["lr"]), context())
    try:
        seen = await driver.observe()
        told = {fragment.entity_id: fragment for fragment in seen.fragments}
        assert seen.complete, seen.warnings
        assert told[big].fields["run_state"] == "RUNNING"
        assert told[big].fields["metrics"] == {"loss": 1 / 3}
        assert told[big].fields["metrics_not_finite"] == ["gradient", "ppl"]
        assert told[big].fields["job_id"] == "4711"
        assert told[big].fields["params"] == {"lr": "0.1"}
        assert told[big].fields["run_name"] == "big"
        assert told[big].fields["experiment"] == told[big].labels["experiment"] == "pretraining"
        assert told[big].fields["heartbeat_at"] >= told[big].fields["started_at"]
        assert told[done].fields["run_state"] == "FINISHED"
        assert told[failed].fields["run_state"] == "FAILED"
        assert told[failed].fields["ended_at"] >= told[failed].fields["started_at"]
        first, second = told["chat/1"].fields, told["chat/2"].fields
        assert (first["revision_state"], first["aliases"], first["run_id"]) == ("READY", ["champion"], done)
        assert (second["rollout_phase"], second["aliases"]) == ("Archived", [])
        assert "hunter2-param" not in repr(seen)

        server.run(
            "import sys; from mlflow import MlflowClient; client = MlflowClient(sys.argv[1])\n"
            "for run in sys.argv[2:]: client.delete_run(run)\n"
            "client.delete_model_version('chat', '1')",
            big,
            done,
        )
        gone: set[str] = set()
        for _ in range(4):  # the registry is read with every fourth look
            gone |= {key.entity_id for key in (await driver.observe()).gone}
        assert gone == {big, done, "chat/1"}
    finally:
        await driver.close()
