"""The whole fleet: its servers by name, what is in them, and the configuration that observes them.

A server that is installed is the real one; the others are the fakes that the tests of their drivers use.
Kubernetes, Airflow, the model server and the GPUs' exporter are always fakes: none is in Debian or PyPI.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from servers import fleet_cluster as cluster
from servers.fleet_parts import Box, BoxedPrometheus, OneProgram, Part, RealMlflow, RealSlurm, real_prometheus
from servers.prometheus import node_exporter
from servers.slurm import PROGRAMS
from steersman.drivers.dcgm.fake import FakeDcgmExporter, FakeGpu
from steersman.drivers.exposition.fake import FakeExporter
from steersman.drivers.kubernetes.fake import FakeApiServer
from steersman.drivers.kubernetes.fake.controllers import end_pods, follow_replicas
from steersman.drivers.mlflow.fake import FakeMlflow
from steersman.drivers.pipelines.fake import FakeAirflow
from steersman.drivers.prometheus.fake import FakePrometheus
from steersman.drivers.serving.fake import FakeServer
from steersman.drivers.slurm.fake import FakeJob, FakeNode, FakeSlurm
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import system_rng

ROOT = Path(__file__).parents[2]
SCOPE = "hpc-1"
NODES = ["n0", "n1", "n2"]
"""Kubernetes has all; Slurm, the exporters and this machine are the first."""
INTERVAL = "1s"
PULSE_S = 1.0
SCRAPES_KEPT = 300
"""Scrapes after which the Prometheus in a box forgets what it has: five minutes."""


class Fleet:
    """`parts` by name, in the order in which they are started. `folder` gets what the servers keep, and
    steersman.yaml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[str, Part] = {}
        self.clock = SystemClock()
        self.machine = cluster.this_machine()
        self.dcgm = FakeDcgmExporter(
            [
                FakeGpu(index=n, uuid=f"GPU-7a1e55c0-0000-4000-8000-00000000000{n}")
                for n in range(cluster.GPUS)
            ],
            hostname=NODES[0],
        )
        self.api = FakeApiServer(controllers=(follow_replicas, end_pods))
        self.kafka = FakeExporter(kafka_page(0))
        self.vllm = FakeServer("vllm", moving=True)
        self.airflow = FakeAirflow()
        self._pulses = 0

    @property
    def config(self) -> Path:
        """What `steersman up -c` is given."""
        return self.folder / "steersman.yaml"

    async def start(self) -> None:
        """Start everything, fill it, and write the configuration."""
        cluster.populate(self.api, self.clock, NODES, self.machine)
        self.vllm.load.in_flight = 3
        self.airflow.add("tokenize", "success", "success", "running")
        job = await self._slurm()
        for gpu in self.dcgm.gpus:
            gpu.hpc_job = job
        self.dcgm.render()
        for fake in (self.dcgm, self.kafka, self.api, self.vllm, self.airflow):
            await fake.start()
        self.parts["kubernetes"] = Box(self.api.web)
        await self._prometheus()
        await self._mlflow(job)
        self.parts |= {
            "kafka-exporter": Box(self.kafka.web, "/metrics"),
            "dcgm": Box(self.dcgm.web, "/metrics"),
            "vllm": Box(self.vllm.web, "/metrics"),
            "airflow": Box(self.airflow.web),
        }
        self._write()

    async def stop(self) -> None:
        """End everything."""
        for part in self.parts.values():
            await part.stop()
        slurm = self.parts.get("slurm")
        if isinstance(slurm, RealSlurm):
            await slurm.close()

    def pulse(self) -> None:
        """What goes on in the fleet in a second: numbers move, schedulers give signs of life."""
        self._pulses += 1
        self.airflow.beat()
        for gpu in self.dcgm.gpus:
            gpu.numbers["DCGM_FI_DEV_GPU_UTIL"] = 70 + (self._pulses + 7 * gpu.index) % 20
            gpu.numbers["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] += 400_000
        self.dcgm.render()
        self.kafka.page = kafka_page(self._pulses)
        prometheus = self.parts["prometheus"]
        if isinstance(prometheus, BoxedPrometheus):
            if self._pulses % SCRAPES_KEPT == 0:
                prometheus.fake.clear()
            prometheus.targets["node"].page = node_page(self.machine.name, self._pulses)
            prometheus.scrape()

    # ---- servers that may be real

    async def _slurm(self) -> str:
        """Start it with a job on its node; the job's number."""
        if os.geteuid() == 0 and all(map(shutil.which, PROGRAMS)):
            self.parts["slurm"] = real = RealSlurm(self.machine.cpus, self.machine.memory_mib)
            await real.start()
            return await asyncio.to_thread(real.submit)
        fake = FakeSlurm()
        fake.nodes = {NODES[0]: FakeNode(name=NODES[0], hostname=self.machine.name)}
        fake.jobs = {1: FakeJob(job_id=1, nodes=NODES[0], gpus=cluster.GPUS)}
        self.parts["slurm"] = Box((await fake.start()).web)
        return "1"

    async def _prometheus(self) -> None:
        path, exporter = shutil.which("prometheus"), shutil.which("prometheus-node-exporter")
        if path is None or exporter is None:
            fake = await FakePrometheus(self.clock).start()
            node_exporter_box = FakeExporter(node_page(self.machine.name, 0))
            targets = {"node": node_exporter_box, "dcgm": self.dcgm, "kafka": self.kafka}
            self.parts["prometheus"] = BoxedPrometheus(fake, targets)
            return
        node = OneProgram(node_exporter(exporter, self.folder), "/metrics")
        self.parts["node-exporter"] = node
        await node.start()
        ports = {"node": node.program.port, "dcgm": self.dcgm.web.port, "kafka": self.kafka.web.port}
        jobs = {name: [f"127.0.0.1:{port}"] for name, port in ports.items()}
        self.parts["prometheus"] = real = real_prometheus(path, self.folder, jobs)
        await real.start()

    async def _mlflow(self, job: str) -> None:
        program = shutil.which("mlflow", path=str(ROOT / ".servers" / "mlflow" / "bin"))
        if program is not None:
            self.parts["mlflow"] = real = RealMlflow(program, self.folder / "mlflow")
            await real.start()
            await real.log_run(job)
            return
        fake = await FakeMlflow(self.clock, system_rng()).start()
        run = fake.add_run(fake.add_experiment("pretraining"), SLURM_JOB_ID=job)
        fake.log_metric(run, "loss", 0.42)
        fake.add_version("chat")
        self.parts["mlflow"] = Box(fake.web)

    # ---- what observes it

    def _write(self) -> None:
        watched = self.folder / "gateway.yaml"
        watched.write_text("routes: {chat: llama}\n")
        sources: list[dict[str, Any]] = [
            {
                "name": "metrics",
                "driver": "prometheus",
                "url": self.parts["prometheus"].url,
                "mappings": ["node-exporter", "dcgm", "kafka-exporter"],
                "window": "10s",
            },
            {"name": "hpc", "driver": "slurm", "url": self.parts["slurm"].url},
            {
                "name": "k8s",
                "driver": "kubernetes",
                "url": self.parts["kubernetes"].url,
                "config_maps": ["serving/gateway"],
            },
            {"name": "tracking", "driver": "mlflow", "url": self.parts["mlflow"].url},
            {"name": "gpus", "driver": "dcgm", "url": self.parts["dcgm"].url},
            {
                "name": "llama",
                "driver": "serving",
                "flavor": "vllm",
                "url": self.parts["vllm"].url,
                "service": "llama",
            },
            {"name": "airflow", "driver": "pipelines", "flavor": "airflow", "url": self.parts["airflow"].url},
            {
                "name": "this-host",
                "driver": "host",
                "gpus": False,  # the fleet's are not of this machine, which would say that it has none
                "files": [{"path": str(watched), "name": "gateway.yaml"}],
            },
        ]
        every = {"scope": SCOPE, "interval": INTERVAL}
        lines = [f"  - {json.dumps({**source, **every})}" for source in sources]  # JSON is YAML
        self.config.write_text("\n".join(["sources:", *lines, ""]))


def node_page(nodename: str, turn: int) -> str:
    """A few lines of a node exporter's page, `turn` seconds after it began."""
    lines = [f'node_uname_info{{nodename="{nodename}",release="6.1.0",machine="x86_64"}} 1']
    for cpu in range(4):
        lines.append(f'node_cpu_seconds_total{{cpu="{cpu}",mode="idle"}} {0.9 * turn:.1f}')
        lines.append(f'node_cpu_seconds_total{{cpu="{cpu}",mode="user"}} {0.1 * turn:.1f}')
    lines += [
        "node_memory_MemTotal_bytes 16000000000",
        "node_memory_MemAvailable_bytes 12000000000",
        "node_load1 0.4",
    ]
    return "\n".join(lines) + "\n"


def kafka_page(turn: int) -> str:
    """A few lines of kafka_exporter's page: a consumer that is some messages behind."""
    labels = 'consumergroup="tokenizer",topic="documents",partition="0"'
    return (
        f"kafka_consumergroup_lag{{{labels}}} {40 + turn % 5}\n"
        f"kafka_consumergroup_current_offset{{{labels}}} {100 * turn}\n"
    )


@asynccontextmanager
async def running_fleet(folder: Path) -> AsyncIterator[Fleet]:
    """A started fleet, which lives until the block ends."""
    fleet = Fleet(folder)
    try:
        await fleet.start()
        yield fleet
    finally:
        await fleet.stop()
