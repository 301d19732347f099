"""Replay: a recording played into an empty bus on its own clock, to the byte.

Time stands still between entries and moves by what was recorded, so ages, freshness and health come out as
functions of the recording alone. The result is told by a canonical dump: each entity with its explanation,
tombstones too, one JSON object a line, keys sorted, in order of type, scope and id; and by its SHA-256.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from steersman.kernel.clock import ManualClock, using_clock
from steersman.kernel.errors import InvalidInput
from steersman.observe.entries import Batch, Entry
from steersman.observe.inlet import Inlet
from steersman.observe.recformat import Reader
from steersman.state.bus import SWEEP_MAX, StateBus

_encode = msgspec.json.Encoder(order="deterministic").encode


class ReplayUnreadable(InvalidInput):
    """The recording can't be opened. `facts`: `file`."""

    code = "replay_unreadable"
    title = "Recording can't be opened"


class ReplaySummary(Struct, frozen=True):
    """What a replay came to.

    `complete` is False where the recording was cut: then `cut_at` is the byte up to which it was good.
    `dropped` counts fragments that the recorder had to leave out. `lasted_s` is the recording's own time.
    `sha256` is of the dump.
    """

    program: str
    complete: bool
    cut_at: int | None
    entries: int
    fragments: int
    dropped: int
    verdicts: dict[str, int]
    entities: int
    tombstones: int
    lasted_s: float
    sha256: str


def replay(
    path: Path, bus: StateBus, clock: ManualClock, *, write: Callable[[bytes], object] | None = None
) -> ReplaySummary:
    """Play the recording at `path` into `bus`, which must be empty and run on `clock`.

    `write` gets the lines of the dump. A recording that was cut is played as far as it goes.
    Raises `ReplayUnreadable`, `RecordingInvalid`, `RecordingCorrupt`.
    """
    try:
        stream: BinaryIO = path.open("rb")
    except OSError as error:
        raise ReplayUnreadable(f"{path} can't be opened: {error.strerror}", file=str(path)) from error
    with stream, using_clock(clock):
        return _play(Reader(stream, str(path)), bus, clock, write)


def open_replay(path: Path, *, write: Callable[[bytes], object] | None = None) -> ReplaySummary:
    """`replay` into a bus of its own."""
    clock = ManualClock()
    return replay(path, StateBus(clock), clock, write=write)


def dump(bus: StateBus) -> Iterator[bytes]:
    """The canonical dump of a bus, a line at a time."""
    for entity in bus.entities(deleted=True):
        explanation = (
            bus.explain(entity.entity_type, entity.entity_id, entity.scope)
            if entity.deleted_at is None
            else None
        )
        yield _encode({"entity": entity, "explanation": explanation}) + b"\n"


def steps(reader: Reader, bus: StateBus, clock: ManualClock) -> Iterator[tuple[Entry, list[str]]]:
    """Play a recording entry by entry: each comes, with the verdicts on its fragments, once it is in the bus
    and the bus has aged up to it. The caller makes `clock` the current one (`using_clock`).

    For whoever looks at the picture as it was at each moment. Raises `RecordingCorrupt`.
    """
    inlet = Inlet(bus, clock)
    elapsed_s: float | None = None
    clock.set_wall(reader.header.began_at)
    for entry in reader.entries():
        if elapsed_s is None:
            elapsed_s = entry.elapsed_s
        # Monotonic time never goes back, whatever a file says.
        clock.advance(max(0.0, entry.elapsed_s - elapsed_s))
        elapsed_s = max(elapsed_s, entry.elapsed_s)
        clock.set_wall(entry.at)
        _sweep(bus)
        yield entry, _do(inlet, entry)
    _sweep(bus)


def _play(
    reader: Reader, bus: StateBus, clock: ManualClock, write: Callable[[bytes], object] | None
) -> ReplaySummary:
    verdicts: Counter[str] = Counter()
    entries = fragments = dropped = 0
    elapsed_s = began_s = None
    for entry, said in steps(reader, bus, clock):
        began_s = entry.elapsed_s if began_s is None else began_s
        elapsed_s = max(began_s if elapsed_s is None else elapsed_s, entry.elapsed_s)
        verdicts.update(said)
        entries += 1
        fragments += len(entry.fragments) if isinstance(entry, Batch) else 0
        dropped += getattr(entry, "count", 0)
    digest = hashlib.sha256()
    lines = tombstones = 0
    for line in dump(bus):
        digest.update(line)
        lines += 1
        if write is not None:
            write(line)
    tombstones = lines - len(bus)
    return ReplaySummary(
        program=reader.header.program,
        complete=reader.complete,
        cut_at=reader.cut_at,
        entries=entries,
        fragments=fragments,
        dropped=dropped,
        verdicts=dict(sorted(verdicts.items())),
        entities=len(bus),
        tombstones=tombstones,
        lasted_s=round((elapsed_s or 0.0) - (began_s or 0.0), 6),
        sha256=digest.hexdigest(),
    )


def _do(inlet: Inlet, entry: Entry) -> list[str]:
    if isinstance(entry, Batch):
        return [outcome.verdict for outcome in inlet.take(entry.fragments)]
    inlet.replay(entry)
    return []


def _sweep(bus: StateBus) -> None:
    """Let the bus age up to now, as its pump would have done."""
    while bus.sweep() >= SWEEP_MAX:
        pass
