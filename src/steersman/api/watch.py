"""`GET /api/v1/watch`: changes of the bus as Server-Sent Events.

Nothing is queued for a stream. Each has a place in the bus's change log and takes the next delta when its
reader has taken the last one, so a slow reader gets fewer and later states, never a backlog; one that falls
off the log is told to read again (`resync`), and one that takes nothing at all is cut. Streams with the same
filter get the same delta, and its bytes are made once for all of them.

An event id is a revision: everything up to it has been told. It stands on the last event of a delta only, so
a stream that is cut in the middle of one gets the whole delta again when it comes back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from steersman.api.exchange import Disconnected, Exchange
from steersman.api.metrics import ApiMetrics
from steersman.api.pages import read_kinds
from steersman.api.problems import InvalidParameter, reveal
from steersman.api.shown import shown
from steersman.kernel.errors import TooMany, Unavailable
from steersman.kernel.logging import get_logger
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import CanonicalEntity, EntityType
from steersman.state.feed import Delta, EntityFilter, Subscription

if TYPE_CHECKING:
    from steersman.state.bus import StateBus

HEARTBEAT_S = 15.0
"""A quiet stream says this often how far it has got: proxies keep it, and a dead reader is noticed."""
RETRY_MS = 2000
"""What a browser is told to wait before it comes back."""
STALL_S = 30.0
"""How long a reader may take nothing before its stream is cut."""
ENCODED_MAX = 64
"""Deltas whose bytes are kept for other streams: as many filters as are likely to be in use at once."""

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]

_log = get_logger("api.watch")
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


class Stream:
    """One reader: its place in the changes, and how it is told from outside to end."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.ending = ""
        self.gone = False
        self._waiting: asyncio.Timeout | None = None

    def end(self, reason: str) -> None:
        """End with a `bye`."""
        self.ending = self.ending or reason
        self._interrupt()

    def hang_up(self) -> None:
        """End without a word: the reader has gone."""
        self.gone = True
        self._interrupt()

    async def next(self) -> Delta | None:
        """The next delta; None where there was none for `HEARTBEAT_S`, or the stream is to end."""
        if self.gone or self.ending:
            return None
        try:
            async with asyncio.timeout(HEARTBEAT_S) as self._waiting:
                return await self.subscription.next()
        except TimeoutError:
            return None
        finally:
            self._waiting = None

    def _interrupt(self) -> None:
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())


class WatchHub:
    """All streams of one API."""

    def __init__(self, bus: StateBus, metrics: ApiMetrics, streams_max: int) -> None:
        self._bus = bus
        self._metrics = metrics
        self._streams_max = streams_max
        self._streams: set[Stream] = set()
        self._encoded: OrderedDict[int, tuple[Delta, bytes]] = OrderedDict()
        self._closing = ""

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, kinds: frozenset[EntityType], after: int | None) -> Stream:
        """A stream of what changes from now on, or has changed after a revision. Raises `TooMany`,
        `Unavailable` (closing)."""
        if self._closing:
            raise Unavailable(f"no new streams: {self._closing}")
        if len(self._streams) >= self._streams_max:
            raise TooMany(
                f"{self._streams_max} event streams are open, which is the bound (server.streams_max)",
                limit=self._streams_max,
                retry_after_s=5,
            )
        stream = Stream(self._bus.subscribe(EntityFilter(types=kinds or None), after))
        self._streams.add(stream)
        self._metrics.streams.set(len(self._streams))
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream."""
        stream.subscription.close()
        self._streams.discard(stream)
        self._metrics.streams.set(len(self._streams))

    def end_all(self, reason: str) -> None:
        """Say `bye` on every stream, and open no more."""
        self._closing = reason
        for stream in self._streams:
            stream.end(reason)

    def encoded(self, delta: Delta) -> bytes:
        """The delta's bytes; made once, for all streams that get this same delta."""
        # Deltas are compared by being the same object: the entry keeps it alive, so its id is not reused.
        entry = self._encoded.get(id(delta))
        if entry is not None:
            return entry[1]
        data = write_delta(delta)
        self._metrics.events.inc(max(1, len(delta.entities)))
        self._encoded[id(delta)] = (delta, data)
        if len(self._encoded) > ENCODED_MAX:
            self._encoded.popitem(last=False)
        return data


async def serve_watch(exchange: Exchange, hub: WatchHub, metrics: ApiMetrics, supervisor: Supervisor) -> None:
    """Answer one `GET /api/v1/watch`: hello, what changed since, then changes as they come."""
    kinds = read_kinds(exchange.values("kinds"))
    stream = hub.open(kinds, _read_after(exchange))
    try:
        # The server tells of a reader that went away only to whoever asks; a stream that waits must ask too.
        listener = supervisor.spawn("api.watch.listener", exchange.gone())
        listener.add_done_callback(lambda _: stream.hang_up())
        try:
            await exchange.start(200, STREAM_HEADERS)
            await _tell(exchange, hub, stream, metrics)
        finally:
            listener.cancel()
    except TimeoutError:
        metrics.drops.inc()
        _log.warning("watch_reader_stalled", stalled_s=STALL_S)
        raise Disconnected from None
    finally:
        hub.close(stream)


async def _tell(exchange: Exchange, hub: WatchHub, stream: Stream, metrics: ApiMetrics) -> None:
    """Send what there is, until the reader has gone or we end. Raises `TimeoutError` (stalled)."""
    begin = stream.subscription.revision
    hello = write_event("hello", _encoder.encode(Hello(begin)), begin)
    await _send(exchange, b"retry: %d\n\n" % RETRY_MS + hello)
    while True:
        delta = await stream.next()
        if delta is not None:
            if delta.resync:
                metrics.resyncs.inc()
            await _send(exchange, hub.encoded(delta))
        elif stream.gone:
            raise Disconnected
        elif stream.ending:
            revision = stream.subscription.revision
            bye = write_event("bye", _encoder.encode(Bye(revision, stream.ending)), revision)
            await _send(exchange, bye, more=False)
            return
        else:
            await _send(exchange, write_mark(stream.subscription.revision))


async def _send(exchange: Exchange, data: bytes, *, more: bool = True) -> None:
    async with asyncio.timeout(STALL_S):
        await exchange.write(data, more=more)


def _read_after(exchange: Exchange) -> int | None:
    """The revision to go on after; `Last-Event-ID` is what a browser sends, and is newer than the URL."""
    for text in (exchange.headers.get("last-event-id"), exchange.value("after")):
        if text is None:
            continue
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise InvalidParameter(f"after is {reveal(text)!r}; expected a revision, as the event ids are")
        return int(text)
    return None
