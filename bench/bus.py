"""The state bus: merge rate against plain dicts.

Merge rate: the same decoded fragments of 6 fields, in the same run and process, pass by pass in turn: into
the bus (provenance, staleness by source, revisions, change log and history kept), into a per-field
last-writer-wins merge over plain dicts as a competent engineer would write it, and into the barest variant,
`dict.update`, which keeps nothing but the value.

What a fleet costs in a running plane is `bench.fleet`.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from bench.figure import Figure
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.state.bus import StateBus

GPUS = 100_000
GPUS_PER_NODE = 8
CADENCE_S = 10.0
BATCH = 1_000
PASSES = 5

Merge = Callable[[list[StateFragment]], object]


async def measure() -> list[Figure]:
    """All figures of the bus."""
    return _merge_rates()


def _merge_rates() -> list[Figure]:
    passes = [_gpu_fragments(number) for number in range(PASSES + 1)]
    gc.collect()
    gc.freeze()  # the fragments belong to the measurement, not to any of the contenders
    bus, bus_two = StateBus(), StateBus()
    other = [_renamed(fragment) for fragment in passes[0]]
    contenders: dict[str, Merge] = {
        "bus": bus.put_many,
        "last writer wins": _LastWriterWins().merge,
        "update": _Update().merge,
    }
    first = {name: _seconds(merge, passes[0]) for name, merge in contenders.items()}
    _seconds(bus_two.put_many, other)
    _seconds(bus_two.put_many, passes[0])
    contenders["bus, two sources"] = bus_two.put_many
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for fragments in passes[1:]:
        for name, merge in contenders.items():
            times[name].append(_seconds(merge, fragments))
    gc.unfreeze()
    best = {name: statistics.median(seconds) for name, seconds in times.items()}
    lww = best["last writer wins"]

    def ratio(name: str, to: str) -> float:
        """Median of the ratios of the single passes, which lie side by side in time."""
        return statistics.median(a / b for a, b in zip(times[name], times[to], strict=True))

    detail = f"bus {_ns(best['bus'])}, per-field dict merge {_ns(lww)} a fragment; median of {PASSES} passes"
    return [
        Figure(
            "bus merge rate / per-field dict merge", ratio("last writer wins", "bus"), "x", ">=0.6", detail
        ),
        Figure(
            "bus merge rate / bare dict.update",
            ratio("update", "bus"),
            "x",
            "",
            f"dict.update {_ns(best['update'])}: keeps no times, no sources, and lets old data win",
        ),
        Figure(
            "bus merge rate / per-field dict merge, first pass",
            first["last writer wins"] / first["bus"],
            "x",
            "",
            f"each one creates an entity: bus {_ns(first['bus'])}, dicts {_ns(first['last writer wins'])}",
        ),
        Figure(
            "bus merge rate / per-field dict merge, two sources",
            ratio("last writer wins", "bus, two sources"),
            "x",
            "",
            f"each entity known to two sources that share 3 fields: {_ns(best['bus, two sources'])}",
        ),
        Figure("bus merges a second", GPUS / best["bus"], "1/s", "", "one core, put_many of 1,000"),
    ]


class _LastWriterWins:
    """What the bus is held against: newest observation wins by field, with its time and source."""

    def __init__(self) -> None:
        self._state: dict[tuple[str, str, str], dict[str, tuple[Any, datetime, str]]] = {}

    def merge(self, fragments: list[StateFragment]) -> None:
        state = self._state
        for fragment in fragments:
            key = (fragment.entity_type, fragment.labels.get("cluster", ""), fragment.entity_id)
            cells = state.get(key)
            if cells is None:
                cells = state[key] = {}
            at, source = fragment.observed_at, fragment.source
            for name, value in fragment.fields.items():
                cell = cells.get(name)
                if cell is None or at >= cell[1]:
                    cells[name] = (value, at, source)


class _Update:
    """The least that could be called a merge."""

    def __init__(self) -> None:
        self._state: dict[tuple[str, str, str], dict[str, Any]] = {}

    def merge(self, fragments: list[StateFragment]) -> None:
        state = self._state
        for fragment in fragments:
            key = (fragment.entity_type, fragment.labels.get("cluster", ""), fragment.entity_id)
            fields = state.get(key)
            if fields is None:
                state[key] = dict(fragment.fields)
            else:
                fields.update(fragment.fields)


def _seconds(merge: Merge, fragments: list[StateFragment]) -> float:
    batches = [fragments[i : i + BATCH] for i in range(0, len(fragments), BATCH)]
    start = time.process_time()  # CPU time: what others do on this machine meanwhile does not count
    for batch in batches:
        merge(batch)
    return time.process_time() - start


def _ns(seconds: float) -> str:
    return f"{seconds / GPUS * 1e9:.0f} ns"


def _gpu_fragments(number: int) -> list[StateFragment]:
    at = datetime.now(UTC) - timedelta(seconds=CADENCE_S * (PASSES + 1 - number))
    return [
        StateFragment(
            source_type="dcgm",
            source="gpus",
            entity_type=EntityType.GPU,
            entity_id=f"GPU-{i:08x}",
            observed_at=at,
            fields=gpu_fields(i, number),
            labels={"cluster": "hpc-1", "node": f"n{i // GPUS_PER_NODE:05d}"},
        )
        for i in range(GPUS)
    ]


def gpu_fields(i: int, number: int) -> dict[str, Any]:
    """What a GPU says in a round."""
    return {
        "gpu_utilization": (i + number) % 100 / 100,
        "gpu_memory_used": 1_000_000_000 + i * 4096 + number,
        "temperature_celsius": 50.0 + (i + number) % 30,
        "memory_temperature_celsius": 60.0 + (i + number) % 30,
        "power_draw_watts": 300.0 + (i + number) % 400,
        "sm_clock_mhz": 1980.0 - number,
    }


def _renamed(fragment: StateFragment) -> StateFragment:
    fields = dict(list(fragment.fields.items())[:3])
    return msgspec.structs.replace(fragment, source="prometheus", source_type="prometheus", fields=fields)


async def longest_hold(save: Any) -> float:
    """Await it beside a task that does nothing but take turns; the longest wait between two of its turns."""
    longest = 0.0
    done = False

    async def take_turns() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not done:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    turns = asyncio.create_task(take_turns())
    await save
    done = True
    await turns
    return longest
