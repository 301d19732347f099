"""What a checkpoint's bucket looks like as bytes: a format number, then compressed MessagePack.

Ages are saved as lengths of time, measured on the monotonic clock; over the restart the wall clock's
difference is added, and never less than nothing. So an age is true after a restart, and a clock that was set
back meanwhile makes it too small by that much at most, never negative.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct, field

from steersman.kernel.bounds import MIB
from steersman.kernel.errors import SteersmanError
from steersman.kinds.drift import DriftSignal
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.explanation import LifeChange
from steersman.kinds.fragment import StateFragment
from steersman.state.cell import Cell, Moved
from steersman.state.history import History
from steersman.state.layer import Arrival, Layer, Stamp
from steersman.state.links import Tie
from steersman.state.lives import Life
from steersman.state.past import HEALTH, Change, Past, states_of
from steersman.state.sources import Source
from steersman.state.view import snapshot_of

BUCKET_FORMAT = 1
COMPRESSION = 1
"""zlib's fastest: a checkpoint is written often and read seldom."""
UNPACKED_MAX_BYTES = 256 * MIB
"""What a bucket may unpack to: a damaged one must not fill the memory."""


class BucketDamaged(SteersmanError):
    """A checkpoint bucket can't be read: damaged, or of a format that this version does not know."""

    code = "checkpoint_bucket_damaged"
    title = "Checkpoint bucket damaged"


class SavedStamp(Struct, frozen=True, array_like=True):
    """A stamp: when observed, when received, how long it was held at the save, its revision."""

    observed_at: datetime
    received_at: datetime
    held_s: float
    revision: int


class SavedLayer(Struct, frozen=True, array_like=True):
    """A layer: whose, when, what; `name` where the source calls the entity so, and not by its id."""

    source: str
    source_type: str
    stamp: SavedStamp
    fields: dict[str, Any]
    labels: dict[str, str]
    clear: tuple[str, ...]
    stamps: dict[str, SavedStamp] | None
    label_stamps: dict[str, SavedStamp] | None
    name: str = ""


class SavedTie(Struct, frozen=True, array_like=True):
    """A further name of an entity."""

    scope: str
    entity_id: str
    rule: str
    evidence: str
    since: datetime


class SavedMove(Struct, frozen=True, array_like=True):
    """Which entity a tombstone's name leads to."""

    scope: str
    entity_id: str
    stamp: SavedStamp


class SavedLife(Struct, frozen=True, array_like=True):
    """What is known of the lives of one of an entity's names."""

    scope: str
    entity_id: str
    begun: SavedStamp | None
    ended: list[tuple[str, Any]]
    changes: list[LifeChange]


class SavedCell(Struct, frozen=True, array_like=True):
    """An entity or tombstone. `ghost` is a tombstone's last layers."""

    entity_type: str
    scope: str
    entity_id: str
    revision: int
    layers: list[SavedLayer]
    ghost: list[SavedLayer]
    floor: SavedStamp | None
    tombstone_left_s: float
    moved: SavedMove | None = None
    ties: list[SavedTie] = field(default_factory=list[SavedTie])
    past: list[Change] = field(default_factory=list[Change])
    lives: list[SavedLife] = field(default_factory=list[SavedLife])


class SavedBucket(Struct, frozen=True, array_like=True):
    """A part of a bucket."""

    saved_at: datetime
    cells: list[SavedCell]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(SavedBucket)


def pack(saved_at: datetime, cells: list[SavedCell]) -> bytes:
    """The bytes of a part. zlib's checksum guards them."""
    return bytes([BUCKET_FORMAT]) + zlib.compress(_ENCODER.encode(SavedBucket(saved_at, cells)), COMPRESSION)


def unpack(value: bytes, bytes_max: int = UNPACKED_MAX_BYTES) -> SavedBucket:
    """The part, which may unpack to `bytes_max`. Raises `BucketDamaged`."""
    if not value or value[0] != BUCKET_FORMAT:
        found = value[0] if value else "none"
        raise BucketDamaged(f"format {found}; this version reads format {BUCKET_FORMAT}")
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(value[1:], bytes_max)
        if not inflate.eof:
            raise BucketDamaged("its end is missing, or it is too large")
        return _DECODER.decode(raw)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise BucketDamaged(str(error)) from error


def pack_drift(signals: list[DriftSignal]) -> bytes:
    """The bytes of the drift signals."""
    return bytes([BUCKET_FORMAT]) + zlib.compress(_ENCODER.encode(signals), COMPRESSION)


def unpack_drift(value: bytes) -> list[DriftSignal]:
    """The drift signals. Raises `BucketDamaged`."""
    if not value or value[0] != BUCKET_FORMAT:
        raise BucketDamaged(f"no format that this version reads; it reads format {BUCKET_FORMAT}")
    try:
        raw = zlib.decompressobj().decompress(value[1:], MIB)
        return msgspec.msgpack.decode(raw, type=list[DriftSignal])
    except (zlib.error, msgspec.MsgspecError) as error:
        raise BucketDamaged(str(error)) from error


def save_cell(
    cell: Cell,
    now: Arrival,
    tombstone_left_s: float,
    ties: Iterable[tuple[EntityKey, Tie]] = (),
    lives: Iterable[tuple[EntityKey, Life]] = (),
) -> SavedCell:
    """A cell as it stands, with its further names and what is known of their lives."""
    moved = cell.moved
    return SavedCell(
        cell.entity_type.value,
        cell.scope,
        cell.entity_id,
        cell.revision,
        [_save_layer(layer, cell.entity_id, now) for layer in cell.layers],
        [_save_layer(layer, cell.entity_id, now) for layer in cell.ghost],
        _save_stamp(cell.floor, now) if cell.floor is not None else None,
        tombstone_left_s,
        SavedMove(moved.scope, moved.entity_id, _save_stamp(moved.stamp, now)) if moved is not None else None,
        [SavedTie(name.scope, name.entity_id, t.rule, t.evidence, t.since) for name, t in ties],
        list(cell.history.past.kept()) if cell.history is not None else [],
        [
            SavedLife(
                name.scope,
                name.entity_id,
                _save_stamp(life.begun, now) if life.begun is not None else None,
                list(life.ended),
                list(life.changes),
            )
            for name, life in lives
        ],
    )


def saved_ties(saved: SavedCell) -> list[tuple[EntityKey, Tie]]:
    """The further names of a saved entity."""
    entity_type = EntityType(saved.entity_type)
    to = EntityKey(entity_type, saved.scope, saved.entity_id)
    return [
        (EntityKey(entity_type, one.scope, one.entity_id), Tie(to, one.rule, one.evidence, one.since))
        for one in saved.ties
    ]


def saved_lives(
    saved: SavedCell, now: Arrival, elapsed_s: float, newest: int
) -> list[tuple[EntityKey, Life]]:
    """What is known of the lives of a saved entity's names, `elapsed_s` after it was saved."""
    clock = _Since(now, elapsed_s, newest)
    return [
        (
            EntityKey(EntityType(saved.entity_type), one.scope, one.entity_id),
            Life(
                clock.stamp(one.begun) if one.begun is not None else None,
                tuple(one.ended),
                tuple(one.changes),
            ),
        )
        for one in saved.lives
    ]


def restore_cell(
    saved: SavedCell, now: Arrival, elapsed_s: float, source_of: Callable[[str, str], Source], newest: int
) -> Cell:
    """The cell again, `elapsed_s` after it was saved. Raises ValueError for an unknown entity type.

    `newest` is the bus's revision. Saved ones are never above it, unless the record of reserved revisions was
    lost; then they are brought down to it, so that nothing seems to come from the future.
    """
    entity_type = EntityType(saved.entity_type)
    key = EntityKey(entity_type, saved.scope, saved.entity_id)
    cell = Cell(*key)
    cell.revision = min(saved.revision, newest)
    clock = _Since(now, elapsed_s, newest)
    cell.layers = tuple(_restore_layer(layer, key, clock, source_of) for layer in saved.layers)
    cell.ghost = tuple(_restore_layer(layer, key, clock, source_of) for layer in saved.ghost)
    cell.floor = clock.stamp(saved.floor) if saved.floor is not None else None
    if saved.moved is not None:
        cell.moved = Moved(saved.moved.scope, saved.moved.entity_id, clock.stamp(saved.moved.stamp))
    if saved.past:
        then = Arrival(now.wall - timedelta(seconds=elapsed_s), now.monotonic - elapsed_s)
        cell.history = History(Past.again(saved.past, lambda: _states_at(cell, then)))
    return cell


def _states_at(cell: Cell, then: Arrival) -> dict[str, Any]:
    """The states of an entity as they were, when nothing had come since."""
    if not cell.layers:
        return {}
    values, health = snapshot_of(cell.entity_type, cell.layers, then)
    return {**states_of(cell.entity_type, values), HEALTH: health.value}


class _Since:
    """Turns held times into arrivals on this process's clocks; those of one batch share one object again."""

    def __init__(self, now: Arrival, elapsed_s: float, newest: int) -> None:
        self._now = now
        self._newest = newest
        self._elapsed_s = elapsed_s
        self._arrivals: dict[tuple[datetime, float], Arrival] = {}

    def arrival(self, saved: SavedStamp) -> Arrival:
        key = (saved.received_at, saved.held_s)
        arrival = self._arrivals.get(key)
        if arrival is None:
            monotonic = self._now.monotonic - saved.held_s - self._elapsed_s
            arrival = self._arrivals[key] = Arrival(saved.received_at, monotonic)
        return arrival

    def stamp(self, saved: SavedStamp) -> Stamp:
        return Stamp(saved.observed_at, self.arrival(saved), self.revision(saved))

    def revision(self, saved: SavedStamp) -> int:
        return min(saved.revision, self._newest)


def _save_stamp(stamp: Stamp | Layer, now: Arrival) -> SavedStamp:
    held_s = max(0.0, now.monotonic - stamp.arrival.monotonic)
    return SavedStamp(stamp.observed_at, stamp.arrival.wall, held_s, stamp.revision)


def _save_layer(layer: Layer, entity_id: str, now: Arrival) -> SavedLayer:
    fragment = layer.fragment
    stamps, label_stamps = layer.stamps, layer.label_stamps
    return SavedLayer(
        fragment.source,
        fragment.source_type,
        _save_stamp(layer, now),
        fragment.fields,
        fragment.labels,
        fragment.clear,
        {n: _save_stamp(s, now) for n, s in stamps.items()} if stamps is not None else None,
        {n: _save_stamp(s, now) for n, s in label_stamps.items()} if label_stamps is not None else None,
        fragment.entity_id if fragment.entity_id != entity_id else "",
    )


def _restore_layer(
    saved: SavedLayer, key: EntityKey, clock: _Since, source_of: Callable[[str, str], Source]
) -> Layer:
    stamp = saved.stamp
    fragment = StateFragment(
        source_type=saved.source_type,
        entity_type=key.entity_type,
        entity_id=saved.name or key.entity_id,
        observed_at=stamp.observed_at,
        fields=saved.fields,
        labels=saved.labels,
        source=saved.source,
        clear=saved.clear,
    )
    stamps, label_stamps = saved.stamps, saved.label_stamps
    return Layer(
        fragment,
        fragment.observed_at,
        clock.arrival(stamp),
        clock.revision(stamp),
        source_of(saved.source, saved.source_type),
        {n: clock.stamp(s) for n, s in stamps.items()} if stamps is not None else None,
        {n: clock.stamp(s) for n, s in label_stamps.items()} if label_stamps is not None else None,
    )
