"""One server of the fleet each: it can be started, ended, and made to hang; a real one or one in a box."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from servers.mlflow import MlflowServer
from servers.program import Program
from servers.prometheus import PrometheusServer
from servers.slurm import SlurmCluster
from steersman.drivers.exposition.fake import FakeExporter
from steersman.drivers.prometheus.fake import FakePrometheus
from steersman.drivers.web.fake import WebFake

REAL, BOXED = "real", "in a box"


class Part(Protocol):
    """A server. `kind` says what it is; `start` also mends what hangs. All may be repeated."""

    kind: str

    @property
    def url(self) -> str:
        """Where it is asked."""
        ...

    async def start(self) -> None:
        """Answer (again)."""
        ...

    async def stop(self) -> None:
        """Refuse connections: its process has ended."""
        ...

    async def hang(self) -> None:
        """Take connections, and answer nothing."""
        ...


class Box:
    """A server in a box, around its `web`."""

    kind = BOXED

    def __init__(self, web: WebFake, path: str = "") -> None:
        self.web = web
        self.path = path

    @property
    def url(self) -> str:
        return f"{self.web.url}{self.path}"

    async def start(self) -> None:
        await self.web.mend()

    async def stop(self) -> None:
        await self.web.fail("refuse")

    async def hang(self) -> None:
        await self.web.fail("hang")


class OneProgram:
    """A real server of one process."""

    kind = REAL

    def __init__(self, program: Program, path: str = "") -> None:
        self.program = program
        self.path = path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.program.port}{self.path}"

    async def start(self) -> None:
        if self.program.running:
            self.program.thaw()
        else:
            await self.program.start()

    async def stop(self) -> None:
        await self.program.stop()

    async def hang(self) -> None:
        self.program.freeze()


class RealSlurm:
    """A Slurm cluster of this machine. What stops and hangs is slurmrestd, which is what is asked; the
    cluster itself ends with `close`."""

    kind = REAL

    def __init__(self, cpus: int, memory_mib: int) -> None:
        self.cluster = SlurmCluster(1, cpus=cpus, memory_mib=memory_mib)
        self.url = self.cluster.url
        self._started = False

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self.cluster.start()
        elif "slurmrestd" not in self.cluster.processes:
            self.cluster.start_rest()
        else:
            self.cluster.resume("slurmrestd")

    async def stop(self) -> None:
        if "slurmrestd" in self.cluster.processes:
            await asyncio.to_thread(self.cluster.end, "slurmrestd")

    async def hang(self) -> None:
        self.cluster.pause("slurmrestd")

    def submit(self) -> str:
        """Submit a job that runs on two GPUs; its id."""
        job = self.cluster.submit("--gres=gpu:2", "--mem=1000", "--job-name=pretrain", script="sleep 3600")
        return str(job)

    async def close(self) -> None:
        await asyncio.to_thread(self.cluster.stop)


LOG_RUN = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
experiment = client.create_experiment("pretraining")
run = client.create_run(experiment, run_name="pretrain", tags={"SLURM_JOB_ID": sys.argv[2]})
client.log_metric(run.info.run_id, "loss", 0.42)
client.create_registered_model("chat")
client.create_model_version("chat", run.info.artifact_uri, run.info.run_id)
"""


class RealMlflow:
    """MLflow's own server."""

    kind = REAL

    def __init__(self, program: str, folder: Path) -> None:
        folder.mkdir()
        self.server = MlflowServer(program, folder)
        self.url = self.server.url
        self._running = False

    async def start(self) -> None:
        if self._running:
            await asyncio.to_thread(self.server.mend)
        else:
            self._running = True
            await asyncio.to_thread(self.server.start)

    async def stop(self) -> None:
        self._running = False
        await asyncio.to_thread(self.server.stop)

    async def hang(self) -> None:
        self.server.hang()

    async def log_run(self, job: str) -> None:
        """A run that says which job it is, with a metric, and a registered model."""
        await asyncio.to_thread(self.server.run, LOG_RUN, job)


class BoxedPrometheus(Box):
    """A Prometheus in a box, which reads its targets each second as a real one does."""

    def __init__(self, fake: FakePrometheus, targets: dict[str, FakeExporter]) -> None:
        super().__init__(fake.web)
        self.fake = fake
        self.targets = targets

    def scrape(self) -> None:
        """What a scrape of every target leaves there."""
        for job, exporter in self.targets.items():
            self.fake.scrape(
                exporter.page, {"job": job, "instance": exporter.web.url.removeprefix("http://")}
            )


def real_prometheus(path: str, folder: Path, jobs: dict[str, list[str]]) -> OneProgram:
    """A real Prometheus that scrapes each second."""
    return OneProgram(PrometheusServer(path, folder, jobs).program)
