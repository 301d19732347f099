"""A fleet of 100,000 GPUs on 12,500 nodes, told every 10 s, in one process: CPU, memory, merges, a relist.

Each part runs in a process of its own, on a clock that is advanced by hand, with all that a running plane
has in the path: fields are cleaned, names are resolved (`Inlet`), fragments merged in slices, entities age,
a subscriber reads every change, a checkpoint is saved once a minute.

- fragments: a round comes as JSON, as pushes bring it, and is decoded.
- exposition: a round comes as text, a dcgm-exporter's page and a node-exporter's for each node, each with the
  reader of its own that an endpoint has. Fetching is not in it.
- relist: one source that tells of all of them tells everything anew, as a Kubernetes reflector does that lost
  its place; one in a hundred is no longer there, and has to be found. It goes through `Intake`.

`python -m bench fleet` runs it in full; `python -m bench.fleet PART GPUS ROUNDS` one part as large as wanted.
CPU time is the process's own, without the making of what is read.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from bench.bus import CADENCE_S, GPUS, GPUS_PER_NODE, gpu_fields, longest_hold
from bench.exposition import GAUGES, dcgm_page
from bench.figure import Figure
from steersman.drivers.api import Observation
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.exposition.plan import Plan
from steersman.drivers.exposition.series import SeriesCache
from steersman.kernel.clock import ManualClock, SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.observe.inlet import SLICE_MAX, Inlet, salvaged, slices
from steersman.observe.intake import Intake
from steersman.observe.registry import Source
from steersman.state.bus import StateBus
from steersman.state.checkpoint import Checkpoint
from steersman.state.sources import SourceInfo
from steersman.store.memory import MemoryStore

ROUNDS: dict[str, int] = {"fragments": 12, "exposition": 6, "relist": 3}
CHUNKS = 10
"""A round comes in so many parts, a second apart, as sources spread by jitter would bring it."""
CHECKPOINT_EVERY_ROUNDS = 6
GONE_EVERY = 100
"""Of a relist, one entity in so many is no longer told of."""
PAGES = 4
"""Pages of different values that the nodes take in turn."""
STEPS: tuple[str, ...] = ("reading", "intake", "ageing", "feed", "checkpoint")


async def measure() -> list[Figure]:
    """All figures of the fleet."""
    nodes = GPUS // GPUS_PER_NODE
    fleet = f"{GPUS:,} GPUs and {nodes:,} nodes"
    figures: list[Figure] = []
    for part, what in (("fragments", "JSON fragments"), ("exposition", "exposition text")):
        told = await _apart(part)
        steps = ", ".join(f"{name} {told[name]:.3f}" for name in STEPS)
        batch = (
            f"CPU of at most {SLICE_MAX} fragments through the inlet; median {told['batch_p50_ms']:.2f} ms"
        )
        figures += [
            Figure(
                f"fleet, {what}: CPU at {CADENCE_S:g} s", told["cores"], "cores", "<=0.7", f"{fleet}; {steps}"
            ),
            Figure(
                f"fleet, {what}: memory", told["rss_gib"], "GiB", "<=2", "peak resident size of the process"
            ),
            Figure(f"fleet, {what}: merge of a batch, p99", told["batch_p99_ms"], "ms", "", batch),
            Figure(f"fleet, {what}: longest hold by a checkpoint", told["hold_ms"], "ms", "", HOLD),
        ]
    told = await _apart("relist")
    figures += [
        Figure(
            "fleet, relist: CPU", told["cpu_s"], "s", "", f"{fleet} anew, {told['gone']:,.0f} of them gone"
        ),
        Figure("fleet, relist / the same told again without `whole`", told["to_told"], "x", "", "CPU"),
        Figure("fleet, relist: longest hold of the loop", told["hold_ms"], "ms", "", HOLD),
    ]
    return figures


HOLD = "wall time between two turns of the event loop, on this machine"


async def _apart(part: str) -> dict[str, float]:
    arguments = ["-m", "bench.fleet", part, str(GPUS), str(ROUNDS[part])]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the fleet process ended with {process.returncode}")
    told: dict[str, float] = json.loads(out)
    return told


class _Plane:
    """What a running plane has between its drivers and its readers; CPU time is kept apart by step."""

    def __init__(self, store: MemoryStore, clock: ManualClock) -> None:
        self.clock = clock
        self.bus = StateBus(clock)
        self.inlet = Inlet(self.bus, clock)
        for name, source_type in (("gpus", "dcgm"), ("nodes", "node-exporter")):
            self.inlet.declare(SourceInfo(name, source_type, CADENCE_S))
        self.checkpoint = Checkpoint(self.bus, store, clock)
        self.reader = self.bus.subscribe()
        self.cpu = dict.fromkeys(STEPS, 0.0)
        self.batches_s: list[float] = []
        self.hold_s = 0.0

    def reset(self) -> None:
        """Begin to count: what came before filled the memory."""
        self.cpu, self.hold_s = dict.fromkeys(STEPS, 0.0), 0.0
        self.batches_s.clear()

    def timed(self, step: str, work: Callable[[], Any]) -> Any:
        """Do it, and count its CPU time."""
        before = time.process_time()
        done = work()
        self.cpu[step] += time.process_time() - before
        return done

    def take(self, fragments: list[StateFragment]) -> None:
        """As intake does: cleaned and merged, slice by slice."""
        for part in slices(fragments):
            clean = [salvaged(fragment, self.inlet.surprised)[0] for fragment in part]
            before = time.process_time()
            self.inlet.take(clean)
            self.batches_s.append(time.process_time() - before)

    def turn(self) -> None:
        """Age and tell, as the pump does, and let a second pass."""
        self.timed("ageing", self._age)
        self.timed("feed", self._read)
        self.clock.advance(CADENCE_S / CHUNKS)

    async def save(self) -> None:
        """A checkpoint."""
        before = time.process_time()
        self.hold_s = max(self.hold_s, await longest_hold(self.checkpoint.save()))
        self.cpu["checkpoint"] += time.process_time() - before

    def figures(self, rounds: int) -> dict[str, float]:
        """What it cost."""
        cpu = {step: seconds / (rounds * CADENCE_S) for step, seconds in self.cpu.items()}
        batches = sorted(self.batches_s) or [0.0]
        return {
            **cpu,
            "cores": sum(cpu.values()),
            "rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
            "hold_ms": self.hold_s * 1000,
            "batch_p50_ms": batches[len(batches) // 2] * 1000,
            "batch_p99_ms": batches[min(len(batches) - 1, len(batches) * 99 // 100)] * 1000,
            "entities": len(self.bus),
        }

    def _age(self) -> None:
        while self.bus.sweep() >= 500:
            pass

    def _read(self) -> None:
        self.bus.flush()
        while self.reader.poll() is not None:
            pass


def _fleet_items(gpus: int, number: int, at: datetime) -> list[dict[str, Any]]:
    """One round of the fleet, as it is pushed."""
    stamp = at.isoformat()
    items: list[dict[str, Any]] = [
        {
            "source_type": "dcgm",
            "source": "gpus",
            "entity_type": "gpu",
            "entity_id": f"GPU-{i:08x}",
            "observed_at": stamp,
            "fields": {**gpu_fields(i, number), "node": f"n{i // GPUS_PER_NODE:05d}"},
            "labels": {"cluster": "hpc-1", "hostname": f"n{i // GPUS_PER_NODE:05d}"},
        }
        for i in range(gpus)
    ]
    items += [
        {
            "source_type": "node-exporter",
            "source": "nodes",
            "entity_type": "node",
            "entity_id": f"n{i:05d}",
            "observed_at": stamp,
            "fields": {
                "cpu_utilization": (i + number) % 100 / 100,
                "memory_utilization": 0.5,
                "gpu_count": GPUS_PER_NODE,
                "load_1m": float(i % 64),
                "disk_utilization": 0.4,
                "hostname": f"n{i:05d}.hpc-1.example",
            },
            "labels": {"cluster": "hpc-1"},
        }
        for i in range(gpus // GPUS_PER_NODE)
    ]
    return items


class _Fragments:
    """A round as JSON, in chunks."""

    def __init__(self, plane: _Plane, gpus: int) -> None:
        self._plane, self._gpus = plane, gpus
        self._decoder = msgspec.json.Decoder(list[StateFragment])

    def round(self, number: int) -> None:
        plane = self._plane
        items = _fleet_items(self._gpus, number, plane.clock.now())
        size = -(-len(items) // CHUNKS)
        for chunk in [msgspec.json.encode(items[i : i + size]) for i in range(0, len(items), size)]:
            fragments = plane.timed("reading", lambda chunk=chunk: self._decoder.decode(chunk))
            plane.timed("intake", lambda fragments=fragments: plane.take(fragments))
            plane.turn()


def _node_page(seed: int) -> str:
    """A part of a node-exporter's page: 8 processors, memory, load, a file system, a network device."""
    lines = [
        f'node_cpu_seconds_total{{cpu="{cpu}",mode="{mode}"}} {1000.5 * (seed + 1) + place}'
        for cpu in range(8)
        for place, mode in enumerate(("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"))
    ]
    lines += [
        f"node_load1 {seed}.25",
        f"node_load5 {seed}.5",
        "node_memory_MemTotal_bytes 2.164e+12",
        f"node_memory_MemAvailable_bytes {1.5e12 + seed}",
        'node_filesystem_size_bytes{device="/dev/nvme0n1p1",fstype="ext4",mountpoint="/"} 1e+12',
        'node_filesystem_avail_bytes{device="/dev/nvme0n1p1",fstype="ext4",mountpoint="/"} 6e+11',
        f'node_network_receive_errs_total{{device="eth0"}} {seed}',
        f'node_network_receive_packets_total{{device="eth0"}} {seed * 10000}',
        'node_uname_info{domainname="(none)",machine="x86_64",nodename="gpu-0000",release="6.8.0"} 1',
    ]
    return "\n".join(lines) + "\n"


class _Endpoint(Struct):
    """The reader of one endpoint, as `EndpointReader` has it."""

    plan: Plan
    cache: SeriesCache
    variables: dict[str, str]

    def read(self, text: str, at: datetime, at_s: float) -> list[StateFragment]:
        """The fragments of a page."""
        return self.plan.build(self.cache.read(text), at, at_s, self.variables).fragments


class _Exposition:
    """A round as pages, which are made as they are read."""

    def __init__(self, plane: _Plane, gpus: int) -> None:
        self._plane = plane
        self._pages = {
            "gpus": [dcgm_page(1, seed) for seed in range(PAGES)],
            "nodes": [_node_page(seed) for seed in range(PAGES)],
        }
        tables = {"gpus": open_mapping("dcgm"), "nodes": open_mapping("node-exporter")}
        self._nodes: list[dict[str, _Endpoint]] = []
        for node in range(gpus // GPUS_PER_NODE):
            readers: dict[str, _Endpoint] = {}
            for source, table in tables.items():
                plan = Plan([table], source, {"cluster": "hpc-1"})
                instance = {"@instance": f"10.{node >> 8}.{node & 255}.1:9100"}
                readers[source] = _Endpoint(plan, SeriesCache(plan.want, plan.forget), instance)
            self._nodes.append(readers)

    def round(self, number: int) -> None:
        size = -(-len(self._nodes) // CHUNKS)
        for first in range(0, len(self._nodes), size):
            for source in self._pages:
                self._chunk(source, range(first, min(first + size, len(self._nodes))), number)
            self._plane.turn()

    def _chunk(self, source: str, nodes: range, number: int) -> None:
        plane, pages = self._plane, self._pages[source]
        at, at_s = plane.clock.now(), plane.clock.monotonic()
        fragments: list[StateFragment] = []
        for node in nodes:
            text = pages[(node + number) % PAGES].replace("GPU-00000000-", f"GPU-{node:08x}-")
            text = text.replace("gpu-0000", f"gpu-{node:05d}")
            text = text.replace('pod="run-0-', f'pod="run-{node}-')
            endpoint = self._nodes[node][source]
            fragments += plane.timed("reading", lambda text=text, one=endpoint: one.read(text, at, at_s))
            if len(fragments) >= SLICE_MAX:
                batch, fragments = fragments[:SLICE_MAX], fragments[SLICE_MAX:]
                plane.timed("intake", lambda batch=batch: plane.take(batch))
        plane.timed("intake", lambda: plane.take(fragments))


async def _cadence(part: str, gpus: int, rounds: int) -> dict[str, float]:
    """Rounds of a fleet that is in memory already."""
    clock = ManualClock(datetime.now(UTC))
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
        plane = _Plane(store, clock)
        feed = _Fragments(plane, gpus) if part == "fragments" else _Exposition(plane, gpus)
        feed.round(0)
        gc.collect()
        gc.freeze()  # as the program does once the fleet is in memory
        plane.reset()
        for number in range(1, rounds + 1):
            feed.round(number)
            if number % CHECKPOINT_EVERY_ROUNDS == 0 or number == rounds < CHECKPOINT_EVERY_ROUNDS:
                await plane.save()
        expected = gpus + gpus // GPUS_PER_NODE
        if len(plane.bus) != expected:
            raise RuntimeError(f"{len(plane.bus)} entities instead of {expected}")
        return {**plane.figures(rounds), "samples": gpus * len(GAUGES) if part == "exposition" else 0}


class _Reflector:
    """A source that tells everything each time it is asked."""

    name: ClassVar[str] = "reflector"

    def __init__(self) -> None:
        self.told = Observation()

    async def observe(self) -> Observation:
        """What is to be told."""
        return self.told

    async def close(self) -> None:
        """Nothing is open."""


async def _relist(gpus: int, rounds: int) -> dict[str, float]:
    """The whole fleet told, told again, and told anew with some of it gone; the best of some turns."""
    clock = SystemClock()
    bus = StateBus(clock)
    driver, rng = _Reflector(), seeded_rng(1)
    source = Source("k8s", driver.name, driver, "hpc-1", 3600.0, 60.0)  # type: ignore[arg-type] - no options
    decoder = msgspec.json.Decoder(list[StateFragment])
    whole = (EntityType.GPU, EntityType.NODE)

    def fleet(number: int) -> list[StateFragment]:
        found = decoder.decode(msgspec.json.encode(_fleet_items(gpus, number, clock.now())))
        return [msgspec.structs.replace(one, source="k8s") for one in found]

    async def tell(seen: Observation, *, watched: bool) -> float:
        """CPU seconds of one observation from its answer to its end or, where watched, the longest hold."""
        driver.told = seen
        intake = Intake(Inlet(bus, clock), [source], clock=clock, rng=rng)
        async with Supervisor(clock, rng, name="fleet") as tasks:
            done = asyncio.create_task(_observed(intake))
            began_s = time.process_time()
            tasks.start("intake", intake.run)
            held_s = await longest_hold(done) if watched else 0.0
            await done
            return held_s if watched else time.process_time() - began_s

    again: list[float] = []
    anew: list[float] = []
    holds: list[float] = []
    gone = 0
    await tell(Observation(fleet(0), whole=whole), watched=False)
    gc.collect()
    gc.freeze()
    for number in range(1, rounds + 1):
        again.append(await tell(Observation(fleet(2 * number)), watched=False))
        fragments = fleet(2 * number + 1)
        left = [one for place, one in enumerate(fragments) if place % GONE_EVERY != number]
        before = len(bus)
        watched = number == rounds
        cost = await tell(Observation(left, whole=whole), watched=watched)
        gone = before - len(bus)
        if gone != len(fragments) - len(left):
            raise RuntimeError(f"{gone} were found to be gone, not {len(fragments) - len(left)}")
        (holds if watched else anew).append(cost)
    return {"cpu_s": min(anew), "to_told": min(anew) / min(again), "hold_ms": holds[0] * 1000, "gone": gone}


async def _observed(intake: Intake) -> None:
    while intake.snapshot()[0].observations == 0:
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    part, gpus, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    work = _relist(gpus, rounds) if part == "relist" else _cadence(part, gpus, rounds)
    print(json.dumps(asyncio.run(work)))
