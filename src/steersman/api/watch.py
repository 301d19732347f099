"""`GET /api/v1/watch`: changes of the bus as Server-Sent Events.

Nothing is queued for a stream. Each has a place in the bus's change log and takes the next delta when its
reader has taken the last one, so a slow reader gets fewer and later states, never a backlog; one that falls
off the log is told to read again (`resync`), and one that takes nothing at all is cut. Streams with the same
filter get the same delta, and its bytes are made once for all of them.

An event id is a revision: everything up to it has been told. It stands on the last event of a delta only, so
a stream that is cut in the middle of one gets the whole delta again when it comes back.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from steersman.api.exchange import Exchange
from steersman.api.metrics import ApiMetrics
from steersman.api.pages import read_kinds
from steersman.api.problems import InvalidParameter, reveal
from steersman.api.shown import shown
from steersman.api.streams import Line, Lines
from steersman.kinds.entity import CanonicalEntity, EntityType
from steersman.state.feed import Delta, EntityFilter, Subscription

if TYPE_CHECKING:
    from steersman.state.bus import StateBus

HEARTBEAT_S = 15.0
"""A quiet stream says this often how far it has got: proxies keep it, and a dead reader is noticed."""
RETRY_MS = 2000
"""What a browser is told to wait before it comes back."""
ENCODED_MAX = 64
"""Deltas whose bytes are kept for other streams: as many filters as are likely to be in use at once."""

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]

_encoder = msgspec.json.Encoder()


class Hello(Struct, frozen=True):
    """First event of a stream: what follows are all changes after `revision`."""

    revision: int
    heartbeat_s: float = HEARTBEAT_S


class Resync(Struct, frozen=True):
    """Changes were left out: read the list. The stream goes on behind `revision`."""

    revision: int
    reason: str = "history_lost"


class Bye(Struct, frozen=True):
    """Last event of a stream that this side ends; come back with the last id."""

    revision: int
    reason: str


class Gone(Struct, frozen=True):
    """An entity that is no more."""

    entity_type: EntityType
    scope: str
    entity_id: str
    revision: int
    deleted_at: str | None = None


def write_event(name: str, data: bytes, revision: int | None = None) -> bytes:
    """One event in the wire's format. `data` is JSON, which has no line breaks."""
    head = b"" if revision is None else b"id: %d\n" % revision
    return b"%sevent: %s\ndata: %s\n\n" % (head, name.encode(), data)


def write_mark(revision: int) -> bytes:
    """A heartbeat: moves the reader's last id on without an event."""
    return b": still here\nid: %d\n\n" % revision


def write_delta(delta: Delta) -> bytes:
    """A delta as events: `entity` with its whole state, `gone` for a tombstone, or `resync`."""
    if delta.resync:
        return write_event("resync", _encoder.encode(Resync(delta.revision)), delta.revision)
    last = len(delta.entities) - 1
    return b"".join(
        _write_change(entity, delta.revision if position == last else None)
        for position, entity in enumerate(delta.entities)
    )


def _write_change(entity: CanonicalEntity, revision: int | None) -> bytes:
    if entity.deleted_at is None:
        return write_event("entity", _encoder.encode(shown(entity)), revision)
    deleted_at = entity.deleted_at.isoformat()
    gone = Gone(entity.entity_type, entity.scope, entity.entity_id, entity.revision, deleted_at)
    return write_event("gone", _encoder.encode(gone), revision)


class Deltas:
    """Bytes of the latest deltas: made once, for all streams that get the same delta."""

    def __init__(self, metrics: ApiMetrics) -> None:
        self._metrics = metrics
        self._encoded: OrderedDict[int, tuple[Delta, bytes]] = OrderedDict()

    def encoded(self, delta: Delta) -> bytes:
        """The delta as events."""
        # The feed hands the same object to all who ask for the same: the entry keeps it alive, so that its id
        # is not given to another one.
        entry = self._encoded.get(id(delta))
        if entry is not None:
            return entry[1]
        data = write_delta(delta)
        self._metrics.events.inc(max(1, len(delta.entities)))
        self._encoded[id(delta)] = (delta, data)
        if len(self._encoded) > ENCODED_MAX:
            self._encoded.popitem(last=False)
        return data


async def serve_watch(
    exchange: Exchange, bus: StateBus, deltas: Deltas, lines: Lines, metrics: ApiMetrics
) -> None:
    """Answer one `GET /api/v1/watch`: hello, what changed since, then changes as they come."""
    kinds = read_kinds(exchange.values("kinds"))
    after = _read_after(exchange)
    async with lines.open(exchange) as line:
        with bus.subscribe(EntityFilter(types=kinds or None), after) as subscription:
            await exchange.start(200, STREAM_HEADERS)
            await _tell(line, subscription, deltas, metrics)


async def _tell(line: Line, subscription: Subscription, deltas: Deltas, metrics: ApiMetrics) -> None:
    """Send what there is, until the reader has gone or this side ends."""
    begin = subscription.revision
    hello = write_event("hello", _encoder.encode(Hello(begin)), begin)
    await line.send(b"retry: %d\n\n" % RETRY_MS + hello)
    while True:
        told = subscription.revision
        delta = await line.wait(subscription.next, HEARTBEAT_S)
        if delta is not None:
            if delta.resync:
                metrics.resyncs.inc()
            await line.send(deltas.encoded(delta))
        elif line.ending:
            bye = write_event("bye", _encoder.encode(Bye(told, line.ending)), told)
            await line.send(bye, more=False)
            return
        else:
            await line.send(write_mark(subscription.revision))


def _read_after(exchange: Exchange) -> int | None:
    """The revision to go on after; `Last-Event-ID` is what a browser sends, and is newer than the URL."""
    for text in (exchange.headers.get("last-event-id"), exchange.value("after")):
        if text is None:
            continue
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise InvalidParameter(f"after is {reveal(text)!r}; expected a revision, as the event ids are")
        return int(text)
    return None
