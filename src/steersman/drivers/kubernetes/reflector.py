"""One kind of resource, kept in step with the API server between looks: our own list and watch.

The list gives a picture and its resource version; the watch gives each change after it. What is promised:

- The picture is the server's, up to what the watch has told. A new list replaces all: what is not in it was
  deleted, and is told so.
- A watch is resumed from the resource version of the last event or bookmark of the stream, never from an
  object's own of another time. Whatever ends a stream (the server, a cut, silence, a broken line), it is
  resumed there, and nothing is lost. Where the server no longer has that history (410, in HTTP or as an ERROR
  event, or for a page's token), everything is listed anew; and so where it was set back to an older state.
- The server is asked again after waits that grow, with chance in them, so that a hundred of us do not come
  back at one moment. One list or watch at a time.
- Bounded: objects, bytes of one object, what waits to be drained. `keep` says what is held of an object.

It runs as a task of a supervisor; `changes` is drained by who looks. Nothing here is shared between threads,
but for `keep`, which may run in one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from steersman.drivers.api import SourceError
from steersman.drivers.kubernetes.client import PAGE_LIMIT, KubeClient, KubernetesRefused, refusal
from steersman.drivers.kubernetes.held import Changes, Held, Picture, Unreadable
from steersman.drivers.kubernetes.resources import Resource
from steersman.drivers.kubernetes.shapes import (
    INITIAL_EVENTS_END,
    Meta,
    ObjectKey,
    ObjectList,
    Thing,
    WatchLine,
)
from steersman.kernel.bounds import MIB
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Rng
from steersman.kernel.retry import Backoff
from steersman.kernel.tasks import ALWAYS, Supervisor

T = TypeVar("T", bound=Thing)

OBJECTS_MAX = 250_000
"""Objects of one kind that are held: more than the pods of the largest cluster that Kubernetes supports."""
OBJECT_MAX_BYTES = 2 * MIB
"""A larger object is not read: etcd keeps 1.5 MiB."""
LIST_TIMEOUT_S = 60.0
"""For one page; the API server itself gives up after 60 s."""
CONNECT_TIMEOUT_S = 15.0
"""Until a watch is answered; it is answered before its first event."""
IDLE_TIMEOUT_S = 150.0
"""A stream without event or bookmark for so long is taken for dead. Bookmarks come about once a minute; none
is promised, and where none comes, a quiet stream is resumed for this, which costs one request."""
WATCH_MIN_S, WATCH_MAX_S = 300.0, 600.0
"""How long a watch is asked to last: as long as client-go's, with chance, so that they don't end together."""
SHORT_WATCH_S = 1.0
"""A watch that ended earlier and told nothing is a failure: else it would be asked for in a tight loop."""
BACKOFF = Backoff(first_s=0.4, factor=2.0, max_s=30.0, jitter=0.5)
ABSENT_AGAIN_S = 60.0
"""A kind that the server does not have is asked for again after this: somebody may install it."""
LIST_RESTARTS_MAX = 3
"""Lists whose token grew too old in the middle, before one without pages is asked for."""
STREAMING_SINCE = (1, 32)
"""Streaming lists (WatchList) are on by default since then; a server before 1.27 would not refuse but ignore
what it is asked for."""
BARREN_MAX = 3
"""Streams in a row that failed at once, before everything is listed anew: an event that can't be read would
else be met for ever."""
STREAMS_FAILED_MAX = 2
"""Streaming lists that failed in a row, before the list is read by pages."""
ROOM_AGAIN = 0.9
"""Where objects did not fit, they are listed anew once so little of the room is used."""


class Timing(Struct, frozen=True):
    """The times of a reflector; the constants of this module say why they are what they are."""

    list_timeout_s: float = LIST_TIMEOUT_S
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    idle_timeout_s: float = IDLE_TIMEOUT_S
    watch_min_s: float = WATCH_MIN_S
    watch_max_s: float = WATCH_MAX_S
    absent_again_s: float = ABSENT_AGAIN_S
    backoff: Backoff = BACKOFF


class Reflector(Generic[T]):
    """Keeps one kind of resource. Made without I/O; `start` begins.

    - `shape`: what an object is decoded into. `keep`: what is held of it (None: nothing, it is not of
      interest); the whole shape where it is not given. It must be pure and quick.
    - `namespace`, `labels`, `fields`: a part of the objects, chosen by the server.
    - `streaming`: take the list as a stream where the server can; else by pages.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        shape: type[T],
        *,
        clock: Clock,
        rng: Rng,
        keep: Callable[[T], Any] | None = None,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        objects_max: int = OBJECTS_MAX,
        object_max_bytes: int = OBJECT_MAX_BYTES,
        page_limit: int = PAGE_LIMIT,
        streaming: bool = True,
        timing: Timing = Timing(),  # noqa: B008 - a frozen value
    ) -> None:
        self.resource = resource
        self._client = client
        self._shape = msgspec.json.Decoder(shape)
        self._keep: Callable[[T], Any] = keep or (lambda thing: thing)
        self._clock = clock
        self._rng = rng
        self._where = {"namespace": namespace, "labels": labels, "fields": fields}
        self._object_max_bytes = object_max_bytes
        self._page_limit = page_limit
        self._streaming = streaming
        self._timing = timing
        self._picture = Picture(objects_max)
        self._cursor: str | None = None
        self._failures = 0
        self._barren = 0
        self._answered = False
        self._cut_short = False
        self._streams_failed = 0
        self._changed = asyncio.Event()
        self.synced = False
        """Whether a whole list was read since the start."""
        self.served: bool | None = None
        """Whether the server has this kind; None as long as that is not known. Where it has not, there are
        no objects, and that is no failure."""
        self.following = False
        """Whether a watch is open now."""
        self.failure: SourceError | None = None
        """Why the last attempt failed; None since the last one that worked."""
        self.last_contact_s: float | None = None
        """The clock's monotonic time of the last page, event, bookmark or answered watch: at that time the
        picture was the server's."""
        self.last_contact_at: datetime | None = None
        """The same moment on the wall clock."""
        self.lists = 0
        """Whole lists read: the first, and each after lost history."""

    def start(self, tasks: Supervisor) -> None:
        """Begin, as a task of `tasks`, which ends it. Raises `Stopping`."""
        self._changed = asyncio.Event()
        tasks.start(f"reflect {self.resource}", self.run, ALWAYS)

    @property
    def objects(self) -> Mapping[ObjectKey, Held]:
        """What is held now, by namespace and name. Not to be changed."""
        return self._picture.objects

    @property
    def complete(self) -> bool:
        """Whether everything that the server has is held: no object was too large, unreadable or too many."""
        return not self._picture.unreadable and not self._picture.left_out

    @property
    def unreadable(self) -> Mapping[ObjectKey, Unreadable]:
        """Objects that could not be read, and why."""
        return self._picture.unreadable

    @property
    def left_out(self) -> int:
        """Objects that did not fit into `objects_max`."""
        return self._picture.left_out

    def changes(self) -> Changes:
        """What changed since the last call: each object once, with its newest state; drained by this call."""
        return self._picture.drain()

    async def ready(self, timeout_s: float) -> None:
        """Return as soon as the picture is whole and followed (or the server does not have this kind).

        Raises `SourceError`, the last failure where there is one, when that is not so within `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not (self.synced and (self.following or self.served is False)):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if self.failure is not None:
                raise SourceError(self.failure.detail, **self.failure.facts) from None
            what = "followed again" if self.synced else "read"
            raise SourceError(
                f"{self._client.place}: {self.resource} could not be {what} within {timeout_s:g} s"
            ) from None

    async def run(self) -> None:
        """The task: list, follow, and again, until it is cancelled."""
        try:
            while True:
                try:
                    await self._once()
                except KubernetesRefused as refused:
                    await self._after_refusal(refused)
                except SourceError as error:
                    await self._after_failure(error)
        finally:
            self._set_following(False)

    # ---- one round

    async def _once(self) -> None:
        """Bring the picture up to date where it has no cursor, then follow until the stream ends."""
        if self._cut_short and self._cursor is not None and await self._was_set_back():
            self._cursor = None
        if self._cursor is None and not await self._may_stream():
            await self._list()
        self._cut_short = True
        began_s = self._clock.monotonic()
        cursor = self._cursor
        listing = cursor is None
        try:
            await self._watch()
            self._cut_short = self._clock.monotonic() - began_s < self._timing.watch_min_s
            if self._cursor == cursor and self._clock.monotonic() - began_s < SHORT_WATCH_S:
                raise SourceError(f"{self._client.place} ended the watch of {self.resource} at once")
        except SourceError:
            barren = self._cursor == cursor and self._clock.monotonic() - began_s < SHORT_WATCH_S
            self._barren = self._barren + 1 if barren and self._answered else 0
            if self._barren >= BARREN_MAX:
                self._barren = 0
                self._cursor = None
            if listing and self._cursor is None:
                self._streams_failed += 1
                self._streaming = self._streams_failed < STREAMS_FAILED_MAX
            raise
        finally:
            if self._cursor != cursor or (
                self._answered and self._clock.monotonic() - began_s >= SHORT_WATCH_S
            ):
                self._failures = 0

    async def _was_set_back(self) -> bool:
        """Whether the server is at an older state than what we saw of it, as after etcd was restored from a
        backup. A watch from a version that is yet to come would be silent, and what it holds meanwhile
        untrue. Asked where a stream ended before its time: a server is not set back while it runs."""
        try:
            version = await self._client.list_page(
                self.resource,
                _version_of,
                limit=1,
                timeout_s=self._timing.list_timeout_s,
                **self._where,
            )
        except KubernetesRefused:
            return False  # what is wrong is met by the watch too
        return _is_before(version, self._cursor or "")

    async def _may_stream(self) -> bool:
        """Whether the list is asked for as a stream. Raises `SourceError` where the server is silent."""
        if not self._streaming:
            return False
        try:
            version = await self._client.version(timeout_s=self._timing.connect_timeout_s)
        except KubernetesRefused:
            return False  # it does not tell everybody its version
        return version.number >= STREAMING_SINCE

    async def _list(self) -> None:
        """Read everything by pages, and replace the picture."""
        restarts = 0
        limit = self._page_limit
        while True:
            try:
                fresh, version = await self._pages(limit)
                break
            except KubernetesRefused as refused:
                if not refused.gone or restarts >= LIST_RESTARTS_MAX:
                    raise
                restarts += 1  # a page's token was too old: the list is longer than the server's memory
                limit = 0 if restarts == LIST_RESTARTS_MAX else limit
            except SourceError as error:
                if "limit" not in error.facts or limit == 1:
                    raise
                limit = max(1, limit // 4)  # one page had more bytes than an answer may have
                self._page_limit = limit
        self._replaced(fresh, version)

    async def _pages(self, limit: int) -> tuple[_Fresh, str]:
        fresh = _Fresh(self._picture.objects_max)
        token = ""
        first: ObjectKey | None = None
        while True:
            page = await self._client.list_page(
                self.resource,
                self._fold,
                limit=limit,
                token=token,
                timeout_s=self._timing.list_timeout_s,
                **self._where,
            )
            self._touched()
            head = page.items[0].meta.key if page.items else None
            if token and (page.token == token or (head == first and head not in (None, _NAMELESS))):
                raise SourceError(f"{self._client.place} gives the first page of {self.resource} for each")
            first = first if token else head
            for item in page.items:
                fresh.put(item)
            if not page.token:
                return fresh, page.version
            token = page.token

    def _fold(self, page: ObjectList) -> _Page:
        """May run in a thread."""
        items = [self._read(raw) for raw in page.items or []]
        return _Page(items, page.metadata.continue_, page.metadata.resource_version)

    async def _watch(self) -> None:
        """Follow one stream to its end. Raises what ended it otherwise."""
        listing = self._cursor is None
        fresh = _Fresh(self._picture.objects_max)
        self._answered = False
        spread = self._timing.watch_max_s - self._timing.watch_min_s
        stream = self._client.watch(
            self.resource,
            resource_version=self._cursor or "",
            initial_events=listing,
            watch_s=self._timing.watch_min_s + spread * self._rng.random(),
            connect_timeout_s=self._timing.connect_timeout_s,
            idle_timeout_s=self._timing.idle_timeout_s,
            **self._where,
        )
        try:
            async with stream as lines:
                self._answered = True
                self._touched()
                self._set_following(not listing)
                async for line in lines:
                    self._touched()
                    if line.type == "ERROR":
                        raise refusal(line, self._client.place)
                    if listing:
                        version = self._listed(line, fresh)
                        if version is not None:
                            listing = False
                            self._replaced(fresh, version)
                            fresh = _Fresh(self._picture.objects_max)
                            self._set_following(True)
                    else:
                        self._followed(line)
        finally:
            self._set_following(False)
        if listing:
            raise SourceError(f"{self._client.place} broke off the list of {self.resource}")

    def _listed(self, line: WatchLine, fresh: _Fresh) -> str | None:
        """One event of a streaming list; the resource version at its end. What changes while the list is
        sent may come before its end."""
        if line.type == "BOOKMARK":
            meta = _head(line.object)
            ended = (meta.annotations or {}).get(INITIAL_EVENTS_END) == "true"
            return meta.resource_version if ended and meta.resource_version else None
        item = self._read_named(line)
        if line.type in ("ADDED", "MODIFIED"):
            fresh.put(item)
        elif line.type == "DELETED":
            fresh.items.pop(item.meta.key, None)
        return None

    def _followed(self, line: WatchLine) -> None:
        """One event after the list."""
        if line.type == "BOOKMARK":
            self._cursor = _head(line.object).resource_version or self._cursor
            return
        item = self._read_named(line)
        if line.type in ("ADDED", "MODIFIED"):
            self._picture.put(item.meta, item.value, item.trouble)
        elif line.type == "DELETED":
            self._picture.remove(item.meta)
            if self._picture.left_out and len(self._picture.objects) < ROOM_AGAIN * self._picture.objects_max:
                self._cursor = None
                raise SourceError(f"{self._client.place}: there is room again for all {self.resource}")
        # An event of another type changes nothing that we hold; its version is as good as any other.
        self._cursor = item.meta.resource_version or self._cursor

    def _read_named(self, line: WatchLine) -> _Item:
        """The object of an event. Raises `SourceError` where it does not say which one it is: what changed or
        was deleted is then not known, so the event must be told again."""
        item = self._read(line.object)
        if item.meta.key == _NAMELESS and line.type in ("ADDED", "MODIFIED", "DELETED"):
            raise SourceError(f"{self._client.place}: an event of {self.resource} names no object")
        return item

    def _read(self, raw: Raw) -> _Item:
        """An object as it is held. Pure: may run in a thread."""
        size = len(bytes(raw))
        if size > self._object_max_bytes:
            return _Item(_head(raw), None, f"has {size} bytes; at most {self._object_max_bytes} are read")
        try:
            thing = self._shape.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return _Item(_head(raw), None, str(error)[:200])
        try:
            return _Item(thing.metadata, self._keep(thing), "")
        except Exception as error:  # noqa: BLE001 - one odd object must cost itself alone; it is told of
            return _Item(thing.metadata, None, f"could not be kept: {type(error).__name__}")

    # ---- what was learned

    def _replaced(self, fresh: _Fresh, version: str) -> None:
        """A whole list was read."""
        if not version:
            raise SourceError(
                f"{self._client.place} gave a list of {self.resource} without a resourceVersion"
            )
        items = fresh.items.values()
        self._picture.replace(((item.meta, item.value, item.trouble) for item in items), over=fresh.over)
        self._streams_failed = 0
        self._cursor = version
        self.lists += 1
        self.served = True
        self.synced = True
        self._changed.set()

    def _touched(self) -> None:
        """The server answered as it should."""
        self.last_contact_s = self._clock.monotonic()
        self.last_contact_at = self._clock.now()
        self.failure = None

    def _set_following(self, following: bool) -> None:
        if following != self.following:
            self.following = following
            self._changed.set()

    async def _after_refusal(self, refused: KubernetesRefused) -> None:
        if refused.gone:
            self._cursor = None  # the history is lost: everything anew
            if not self._failures:
                self._failures = 1
                return  # once at once; a server that says so of each new list is left in peace
        elif refused.not_found and not await self._is_served(refused):
            self._absent()
            await self._clock.sleep(self._timing.absent_again_s * (1.0 - 0.2 * self._rng.random()))
            return
        elif refused.http_status in (400, 422) and self._cursor is None and self._streaming:
            self._streaming = False  # streaming lists are switched off there
            return
        await self._after_failure(refused)

    async def _is_served(self, refused: KubernetesRefused) -> bool:
        """Whether the server says that it has this kind, though it just said 404. True where it says
        nothing: objects are not forgotten for an answer of something in between."""
        try:
            return await self._client.serves(self.resource, timeout_s=self._timing.connect_timeout_s)
        except SourceError:
            return True

    def _absent(self) -> None:
        """The server does not have this kind (any more); with it its objects are gone."""
        self._picture.replace([])
        self._cursor = None
        self._failures = 0
        self.served = False
        self.synced = True
        self._touched()
        self._changed.set()

    async def _after_failure(self, error: SourceError) -> None:
        self.failure = error
        self._failures += 1
        self._changed.set()
        delay_s = self._timing.backoff.delay_s(self._failures, self._rng)
        if isinstance(error, KubernetesRefused) and error.retry_after_s is not None:
            delay_s = max(delay_s, error.retry_after_s)
        await self._clock.sleep(delay_s)


class _Item(Struct, frozen=True, gc=False):
    """An object as it was read: who it is, what is held of it, why it could not be read."""

    meta: Meta
    value: Any
    trouble: str


class _Fresh:
    """A list under way: at most one object more than is held, and how many there were beyond."""

    def __init__(self, objects_max: int) -> None:
        self._objects_max = objects_max
        self.items: dict[ObjectKey, _Item] = {}
        self.over = 0

    def put(self, item: _Item) -> None:
        if item.value is None and not item.trouble:
            self.items.pop(item.meta.key, None)  # of no interest
        elif len(self.items) < self._objects_max or item.meta.key in self.items:
            self.items[item.meta.key] = item
        else:
            self.over += 1


class _Page(Struct, frozen=True):
    """A page as it was read."""

    items: list[_Item]
    token: str
    version: str


_NAMELESS: ObjectKey = ("", "")


class _JustMeta(Struct, frozen=True):
    metadata: Meta = Meta()


class _Name(Struct, frozen=True, rename="camel"):
    """What tells one object from another, where the rest of its metadata is odd."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _JustName(Struct, frozen=True):
    metadata: _Name = _Name()


_HEAD = msgspec.json.Decoder(_JustMeta)
_NAME = msgspec.json.Decoder(_JustName)


def _head(raw: Raw) -> Meta:
    """Who an object is, where more of it can't or need not be read."""
    try:
        return _HEAD.decode(raw).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        name = _NAME.decode(raw).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Meta()
    return Meta(name.name, name.namespace, name.uid, name.resource_version)


def _version_of(page: ObjectList) -> str:
    return page.metadata.resource_version


def _is_before(version: str, other: str) -> bool:
    """Whether a resource version is older. The API compares them as numbers; what is none can't be."""
    numbers = [int(text) for text in (version, other) if text.isascii() and text.isdigit()]
    return len(numbers) == 2 and numbers[0] < numbers[1]
