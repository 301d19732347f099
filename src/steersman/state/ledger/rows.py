"""How resources, history rows and events are kept, and how a damaged one is told.

A history row is kept as `{"hash": "<64 hex>", "row": {...}}`: `row` is the `HistoryEntry` in canonical JSON
(keys sorted at every level, no white space, UTF-8, its own `hash` empty), and `hash` is the SHA-256 of
exactly those bytes. So a chain can be checked without knowing how our numbers or times are written, and a row
stays valid when a later release adds a field.

A resource is kept as `{"head": "<hash of its last row>", "places": [...], "state": {...}}`; the row's
`state_hash` is the SHA-256 of the bytes of `state`. `places` names the budgets in which it has a
lasting place.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field
from msgspec.structs import force_setattr, replace

from steersman.kernel.bounds import KIB, MIB, at_most
from steersman.kernel.errors import InvalidInput, SteersmanError
from steersman.kernel.nearest import did_you_mean, nearest
from steersman.kinds.command import HistoryEntry, ResourceEvent
from steersman.kinds.plane_resources import KINDS
from steersman.kinds.refusal import UnknownResourceKind
from steersman.kinds.state import ResourceState
from steersman.state.ledger import keys
from steersman.store.api import Record

STATE_MAX_BYTES = MIB
"""A resource in its stored form."""
ROW_MAX_BYTES = 256 * KIB
"""A history row in its stored form: facts, evidence and data among it."""
EVENT_MAX_BYTES = 256 * KIB
"""An event in its stored form."""

T = TypeVar("T")


class RecordDamaged(SteersmanError):
    """A stored record can't be read, or does not say what its key says. `facts`: `key`, `problem`.

    The others stay readable; docs/reference/ledger.md says what to do.
    """

    code = "record_damaged"
    title = "Stored record damaged"


class Kept(Struct, frozen=True, kw_only=True):
    """A resource as it is stored. `state` is its own JSON."""

    head: str
    places: tuple[str, ...] = ()
    state: msgspec.Raw


class KeptRow(Struct, frozen=True, kw_only=True):
    """A history row as it is stored."""

    hash: str
    row: msgspec.Raw


class Grave(Struct, frozen=True, kw_only=True):
    """What is left of a deleted resource: where its numbers and its chain go on."""

    version: int
    epoch: int
    head: str
    at: datetime


class Loaded(Struct):
    """A resource that was read: a working copy, and what one commit on it must know.

    `version` is the key's version in the store, `head` the hash of its last row. `known`: it was not read,
    but is what was written last.
    """

    state: ResourceState
    head: str
    version: int
    revision: int
    places: list[str] = field(default_factory=list[str])
    known: bool = False


class Damage(Struct, frozen=True):
    """A record that can't be read: its key, and what is wrong."""

    key: str
    problem: str


_CANONICAL = msgspec.json.Encoder(order="sorted")
_ROW = msgspec.json.Decoder(KeptRow)
_ENTRY = msgspec.json.Decoder(HistoryEntry)
_KEPT = msgspec.json.Decoder(Kept)
_EVENT = msgspec.json.Decoder(ResourceEvent)
_GRAVE = msgspec.json.Decoder(Grave)


def canonical(value: Any) -> bytes:
    """A value in canonical JSON. Raises `InvalidInput` where it has none."""
    try:
        return _CANONICAL.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"this can't be kept as JSON: {error}") from None


def sha256(data: bytes | memoryview) -> str:
    """The SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def state_type(kind: str) -> type[ResourceState]:
    """The class of a kind's state. Raises `UnknownResourceKind`."""
    known = KINDS.get(kind)
    if known is None:
        raise UnknownResourceKind(
            f"there is no kind of resource named {kind[:80]!r}{did_you_mean(kind, KINDS)}",
            kind=kind[:80],
            kinds=sorted(KINDS),
            nearest=nearest(kind, KINDS),
        )
    return known.STATE


@cache
def _state_decoder(kind: str) -> msgspec.json.Decoder[ResourceState]:
    return msgspec.json.Decoder(state_type(kind))


def encode_state(state: ResourceState) -> bytes:
    """A state as it is stored. Raises `TooLarge` over `STATE_MAX_BYTES`."""
    data = canonical(state)
    at_most(f"{state.resource_type}/{state.id[:80]}", len(data), STATE_MAX_BYTES, "bytes")
    return data


def decode_state(kind: str, data: bytes | memoryview | msgspec.Raw) -> ResourceState:
    """A state of that kind; what msgspec raises where it can't be read."""
    return _state_decoder(kind).decode(data)


def encode_kept(head: str, places: list[str], state: bytes) -> bytes:
    """The record of a resource."""
    return canonical(Kept(head=head, places=tuple(places), state=msgspec.Raw(state)))


def load(record: Record) -> Loaded:
    """A resource from its record. Raises `RecordDamaged`."""
    ref = keys.ref_of(record.key)
    kept = _read(record, _KEPT)
    try:
        state = decode_state(ref.kind, kept.state)
    except (msgspec.MsgspecError, SteersmanError, UnicodeDecodeError) as error:
        raise damaged(record.key, str(error)) from None
    if (state.resource_type, state.id) != ref:
        raise damaged(record.key, f"it holds {state.resource_type}/{state.id}")
    return Loaded(
        state=state,
        head=kept.head,
        version=record.version,
        revision=record.revision,
        places=list(kept.places),
    )


def state_bytes(record: Record) -> bytes:
    """The bytes of a record's state, which `state_hash` covers. Raises `RecordDamaged`."""
    return bytes(_read(record, _KEPT).state)


def encode_row(entry: HistoryEntry) -> tuple[HistoryEntry, bytes]:
    """The row with its hash, and as it is stored. Raises `TooLarge` over `ROW_MAX_BYTES`."""
    if entry.hash:
        entry = replace(entry, hash="")
    row = canonical(entry)
    at_most(f"the history row {entry.ref}/{entry.seq}", len(row), ROW_MAX_BYTES, "bytes")
    hashed = sha256(row)
    force_setattr(entry, "hash", hashed)
    return entry, canonical(KeptRow(hash=hashed, row=msgspec.Raw(row)))


def decode_row(record: Record) -> tuple[HistoryEntry, str]:
    """A history row, and the SHA-256 of what is stored of it: the two are the same in a sound one.

    Raises `RecordDamaged` where it can't be read, or is another row than its key says.
    """
    kept = _read(record, _ROW)
    try:
        entry = _ENTRY.decode(kept.row)
    except (msgspec.MsgspecError, SteersmanError, UnicodeDecodeError) as error:
        raise damaged(record.key, str(error)) from None
    force_setattr(entry, "hash", kept.hash)
    if (entry.kind, entry.id) != keys.ref_of(record.key) or entry.seq != keys.seq_of(record.key):
        raise damaged(record.key, f"it holds the row {entry.kind}/{entry.id}/{entry.seq}")
    return entry, sha256(memoryview(kept.row))


def encode_event(event: ResourceEvent) -> bytes:
    """An event as it is stored. Raises `TooLarge` over `EVENT_MAX_BYTES`."""
    data = canonical(event)
    at_most(f"the event {event.id[:80]}", len(data), EVENT_MAX_BYTES, "bytes")
    return data


def decode_event(record: Record) -> ResourceEvent:
    """An event of the outbox. Raises `RecordDamaged`."""
    return _read(record, _EVENT)


def decode_grave(record: Record) -> Grave:
    """What is left of a deleted resource. Raises `RecordDamaged`."""
    return _read(record, _GRAVE)


def damaged(key: str, problem: str) -> RecordDamaged:
    """A record that can't be read."""
    return RecordDamaged(
        f"the record {key!r} is damaged: {problem}; `steersman store verify` lists all that are",
        key=key,
        problem=problem,
    )


def as_damage(error: SteersmanError, key: str) -> Damage:
    """The problem as data, to stand beside the good ones."""
    return Damage(key=key, problem=str(error.facts.get("problem", error.detail)))


def _read(record: Record, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(record.value)
    except (msgspec.MsgspecError, SteersmanError, UnicodeDecodeError) as error:
        raise damaged(record.key, str(error)) from None
