"""`GET /api/v1/watch`: changes of the bus as Server-Sent Events.

One task reads the bus for all streams and encodes each change once; a stream only joins the pieces that its
filter lets through, and streams with the same filter share even that. What a stream has not sent yet is
bounded: a reader that falls behind loses its backlog and is told so (`resync`), and one that stalls is cut.

An event's id is a revision of the bus. Events go out in the order of their revisions, so a caller that
comes back with `Last-Event-ID` (or `?after=`) gets everything that changed since, in its latest state.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from steersman.api.exchange import Disconnected, Exchange
from steersman.api.metrics import ApiMetrics
from steersman.api.pages import read_kinds
from steersman.api.problems import InvalidParameter, reveal
from steersman.api.shown import shown
from steersman.kernel.bounds import MIB
from steersman.kernel.clock import Clock
from steersman.kernel.errors import TooMany, Unavailable
from steersman.kernel.logging import get_logger
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import CanonicalEntity, EntityType

if TYPE_CHECKING:
    from steersman.state.bus import StateBus

HEARTBEAT_S = 15.0
"""A comment is sent on a quiet stream this often, so that proxies keep it and a dead reader is noticed."""
RETRY_MS = 2000
"""What a browser is told to wait before it comes back."""
BUFFER_MAX_BYTES = 1 * MIB
"""What one stream may have waiting. Streams share chunks: a thousand do not hold it a thousand times."""
BUFFER_MAX_CHUNKS = 256
REPLAY_SLICE = 200
"""Changes encoded at a time for a caller that comes back, before others get their turn."""
STALL_S = 30.0
"""How long a reader may take nothing before its stream is cut."""

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
    """Changes were left out: read the list, then go on with this stream, which continues after `revision`."""

    revision: int
    reason: str


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


Chunk = tuple[EntityType, int, bytes]


def event(name: str, revision: int, data: bytes) -> bytes:
    """One event in the wire's format. `data` is JSON, which has no line breaks."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (revision, name.encode(), data)


HEARTBEAT = b": \n\n"


def encode_entity(entity: CanonicalEntity) -> Chunk:
    """An entity's change as an event: `entity` with its whole state, or `gone` for a tombstone."""
    if entity.deleted_at is not None:
        gone = Gone(
            entity.entity_type,
            entity.scope,
            entity.entity_id,
            entity.revision,
            entity.deleted_at.isoformat(),
        )
        return entity.entity_type, entity.revision, event("gone", entity.revision, _encoder.encode(gone))
    return (
        entity.entity_type,
        entity.revision,
        event("entity", entity.revision, _encoder.encode(shown(entity))),
    )


class Stream:
    """One reader: what waits to be sent to it, within bounds."""

    def __init__(self, kinds: frozenset[EntityType], revision: int) -> None:
        self.kinds = kinds
        self.revision = revision
        self.chunks: deque[bytes] = deque()
        self.size_bytes = 0
        self.lost = ""
        self.ending = ""
        self.gone = False
        self._wake = asyncio.Event()

    def offer(self, chunk: bytes, revision: int) -> bool:
        """Add to what waits. False where the bound is reached: the backlog is then gone, and a resync due."""
        if self.lost:
            self.revision = revision
            return True
        self.revision = revision
        if len(self.chunks) >= BUFFER_MAX_CHUNKS or self.size_bytes + len(chunk) > BUFFER_MAX_BYTES:
            self.lose("slow_reader")
            return False
        self.chunks.append(chunk)
        self.size_bytes += len(chunk)
        self._wake.set()
        return True

    def lose(self, reason: str) -> None:
        """Drop what waits; the reader is told when it can be told something again."""
        self.chunks.clear()
        self.size_bytes = 0
        self.lost = reason
        self._wake.set()

    def end(self, reason: str) -> None:
        """Send what waits, then `bye`."""
        self.ending = self.ending or reason
        self._wake.set()

    def hang_up(self) -> None:
        """The reader has gone: end without a word."""
        self.gone = True
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self.chunks and not self.lost

    async def next(self) -> bytes:
        """What to send next, joined; b"" once the stream has ended. Raises `Disconnected`."""
        while not (self.chunks or self.lost or self.ending or self.gone):
            self._wake.clear()
            await self._wake.wait()
        if self.gone:
            raise Disconnected
        data = b""
        if self.lost:
            data = event("resync", self.revision, _encoder.encode(Resync(self.revision, self.lost)))
            self.lost = ""
        elif self.chunks:
            data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
            self.chunks.clear()
            self.size_bytes = 0
        return data


class WatchHub:
    """Feeds all streams from one subscription. `run` and `heartbeat` are tasks for the supervisor."""

    def __init__(self, bus: StateBus, clock: Clock, metrics: ApiMetrics, streams_max: int) -> None:
        self._bus = bus
        self._clock = clock
        self._metrics = metrics
        self._streams_max = streams_max
        self._streams: set[Stream] = set()
        self._closing = ""

    def __len__(self) -> int:
        return len(self._streams)

    async def run(self) -> None:
        """Take changes from the bus and hand them out, until cancelled."""
        async with self._bus.subscribe() as subscription:
            while True:
                delta = await subscription.next()
                if delta.resync:
                    self._lose_all("history_lost")
                elif self._streams:
                    self.publish(delta.entities)

    async def heartbeat(self) -> None:
        """Keep quiet streams alive, until cancelled."""
        while True:
            await self._clock.sleep(HEARTBEAT_S)
            for stream in self._streams:
                if stream.idle:
                    stream.offer(HEARTBEAT, stream.revision)

    def publish(self, entities: Iterable[CanonicalEntity]) -> None:
        """Encode changes once and offer them to every stream whose filter lets them through."""
        chunks = sorted(map(encode_entity, entities), key=_revision)
        if not chunks:
            return
        self._metrics.events.inc(len(chunks))
        last = chunks[-1][1]
        joined: dict[frozenset[EntityType], bytes] = {}
        for stream in tuple(self._streams):
            if stream.revision >= chunks[0][1]:
                # It came a moment ago and was given some of these already.
                data = _join(chunks, stream.kinds, stream.revision)
            else:
                data = joined.get(stream.kinds)
                if data is None:
                    data = joined[stream.kinds] = _join(chunks, stream.kinds, 0)
            if data and not stream.offer(data, max(last, stream.revision)):
                self._metrics.resyncs.labels("slow_reader").inc()

    def open(self, kinds: frozenset[EntityType]) -> Stream:
        """A stream that gets what changes from now on. Raises `TooMany`, `Unavailable` (closing)."""
        if self._closing:
            raise Unavailable(f"no new streams: {self._closing}")
        if len(self._streams) >= self._streams_max:
            raise TooMany(
                f"{self._streams_max} event streams are open, which is the bound (server.streams_max)",
                limit=self._streams_max,
                retry_after_s=5,
            )
        stream = Stream(kinds, self._bus.revision)
        self._streams.add(stream)
        self._metrics.streams.set(len(self._streams))
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream."""
        self._streams.discard(stream)
        self._metrics.streams.set(len(self._streams))

    def end_all(self, reason: str) -> None:
        """Say `bye` on every stream, and open no more."""
        self._closing = reason
        for stream in self._streams:
            stream.end(reason)

    def remembers(self, after: int) -> bool:
        """Whether every change since that revision can still be told."""
        return self._bus.oldest_revision <= after <= self._bus.revision

    async def changes(self, after: int, until: int) -> AsyncIterator[list[CanonicalEntity]]:
        """What changed after one revision and up to another, oldest change first, in slices."""
        changed = self._bus.changed_since(after)
        while entities := list(islice(changed, REPLAY_SLICE)):
            # What changed again meanwhile has a larger revision, and comes with the stream itself.
            yield [entity for entity in entities if entity.revision <= until]
            await self._clock.sleep(0)

    def _lose_all(self, reason: str) -> None:
        for stream in self._streams:
            stream.revision = self._bus.revision
            stream.lose(reason)
            self._metrics.resyncs.labels(reason).inc()


def _revision(chunk: Chunk) -> int:
    return chunk[1]


def _join(chunks: list[Chunk], kinds: frozenset[EntityType], after: int) -> bytes:
    return b"".join(
        data for kind, revision, data in chunks if revision > after and (not kinds or kind in kinds)
    )


async def serve_watch(exchange: Exchange, hub: WatchHub, metrics: ApiMetrics, supervisor: Supervisor) -> None:
    """Answer one `GET /api/v1/watch`: hello, what changed since, then changes as they come."""
    kinds = read_kinds(exchange.values("kinds"))
    after = _read_after(exchange)
    stream = hub.open(kinds)
    # The server tells of a reader that went away only to whoever asks; a stream that waits must ask too.
    listener = supervisor.spawn("watch-listener", exchange.gone())
    listener.add_done_callback(lambda _: stream.hang_up())
    try:
        await exchange.start(200, STREAM_HEADERS)
        await _begin(exchange, hub, stream, after, metrics)
        while True:
            data = await stream.next()
            if data:
                await _send(exchange, data)
            elif stream.ending:
                bye = Bye(stream.revision, stream.ending)
                await exchange.write(event("bye", stream.revision, _encoder.encode(bye)), more=False)
                return
    except TimeoutError:
        metrics.drops.inc()
        _log.warning("watch_reader_stalled", stalled_s=STALL_S)
        raise Disconnected from None
    finally:
        listener.cancel()
        hub.close(stream)


async def _begin(
    exchange: Exchange, hub: WatchHub, stream: Stream, after: int | None, metrics: ApiMetrics
) -> None:
    """Say hello, and tell what changed since the caller was last here."""
    start = stream.revision
    complete = after is None or hub.remembers(after)
    begin = after if after is not None and complete else start
    head = b"retry: %d\n\n" % RETRY_MS + event("hello", begin, _encoder.encode(Hello(begin)))
    await _send(exchange, head)
    if after is not None and complete:
        reached = after
        async for entities in hub.changes(after, start):
            chunks = [encode_entity(entity) for entity in entities]
            data = _join(chunks, stream.kinds, reached)
            if data:
                await _send(exchange, data)
            complete = hub.remembers(reached)
            reached = chunks[-1][1] if chunks else reached
            if not complete:
                break
    if not complete:
        metrics.resyncs.labels("history_short").inc()
        resync = Resync(start, "history_short")
        await _send(exchange, event("resync", start, _encoder.encode(resync)))


async def _send(exchange: Exchange, data: bytes) -> None:
    async with asyncio.timeout(STALL_S):
        await exchange.write(data)


def _read_after(exchange: Exchange) -> int | None:
    """The revision to go on after; `Last-Event-ID` is what a browser sends, and is newer than the URL."""
    for text in (exchange.headers.get("last-event-id"), exchange.value("after")):
        if text is None:
            continue
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise InvalidParameter(f"after is {reveal(text)!r}; expected a revision, as the event ids are")
        return int(text)
    return None
