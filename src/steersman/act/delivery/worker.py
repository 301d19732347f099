"""Delivery to one subscriber: a place in the tail, a line for each resource, a few requests at a time.

The events of one resource wait in its line and are sent one after the other, so their order holds; a line
whose head fails waits for its next attempt while the other lines go on. The number of events taken up is
bounded: what is behind them waits in the outbox, where it costs nothing.

The cursor is the lowest place below which everything is done. It is written behind the deliveries, so after
a crash some are made again: at least once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Struct

from steersman.act.delivery.records import (
    DEAD_LETTERS_MAX,
    Cursor,
    StoredSubscription,
    cursor_key,
    dead_key,
    dead_prefix,
    letter_id,
)
from steersman.drivers.webhook.client import TIMEOUT_S, Answer, WebhookFailed
from steersman.drivers.webhook.message import Message, write_message
from steersman.drivers.webhook.targets import TargetRefused, UrlInvalid
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.retry import Backoff
from steersman.kernel.tasks import Supervisor
from steersman.kinds.command import ResourceEvent
from steersman.kinds.subscription import LOST_TYPE, DeadLetter, DeliveryStatus
from steersman.state.tail import Batch, Tail
from steersman.store.api import Delete, Put, Store, Write

GONE = 410
"""A receiver that answers this wants no more: its subscription is disabled."""

_log = get_logger("act.delivery")


class Pace(Struct, frozen=True):
    """How hard one subscriber is tried.

    With these values an event is tried for some two hours before it is a dead letter. `queue_max` bounds the
    events taken up, `in_flight_max` the requests at one time, `cursor_s` how often the cursor is written.
    """

    attempts_max: int = 16
    backoff: Backoff = Backoff(first_s=1.0, factor=2.0, max_s=900.0, jitter=0.3)
    queue_max: int = 256
    in_flight_max: int = 8
    timeout_s: float = TIMEOUT_S
    cursor_s: float = 2.0


class Poster(Protocol):
    """What sends: `drivers.webhook.client.WebhookClient`."""

    async def post(self, url: str, message: Message, timeout_s: float) -> Answer:
        """One attempt. Raises `WebhookFailed`, `TargetRefused`, `UrlInvalid`."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class Owner(Protocol):
    """What a worker needs of those who have it."""

    async def disable(self, subscription_id: str, reason: str) -> None:
        """Disable the subscription, durable when this returns; its worker ends by itself."""
        ...


class Pending:
    """An event on its way. `dead_id` names the dead letter that it was, which is dropped when it arrives."""

    __slots__ = ("attempts", "dead_id", "event", "failed", "revision", "since_s")

    def __init__(self, event: ResourceEvent, revision: int, since_s: float, dead_id: str = "") -> None:
        self.event = event
        self.revision = revision
        self.since_s = since_s
        self.dead_id = dead_id
        self.attempts = 0
        self.failed = False


class Tools(Struct, frozen=True):
    """What every worker is given."""

    store: Store
    tail: Tail
    clock: Clock
    rng: Rng
    tasks: Supervisor
    owner: Owner
    source: str
    pace: Pace


class Worker:
    """Delivers to one subscriber. `run` is a task for the supervisor; cancelled, it stops at once."""

    def __init__(
        self, stored: StoredSubscription, cursor: int, dead: int, poster: Poster, tools: Tools
    ) -> None:
        self.stored = stored
        self._poster = poster
        self._tools = tools
        self._clock = tools.clock
        self._lines: dict[str, deque[Pending]] = {}
        self._due: list[tuple[float, int, str]] = []  # lines whose head may be sent, by time
        self._order = itertools.count()
        self._unfinished: dict[int, int] = {}  # revision: events, in the order of the tail
        self._flying: set[asyncio.Task[None]] = set()
        self._ended: list[asyncio.Task[None]] = []
        self._bell = asyncio.Event()
        self._quiet_until_s = 0.0
        self._saved = cursor
        self._saved_at_s = float("-inf")
        self._reached = cursor
        self._replays: deque[Pending] = deque()
        self._count = 0
        self._gone = ""
        self.dead_letters = dead
        self.delivered = self.failed_attempts = self.dead = self.lost = 0
        self.last_error = ""
        self.last_delivered_at: datetime | None = None

    @property
    def cursor(self) -> int:
        """The revision up to which all is done and written down as done: a crash goes on from here."""
        return self._saved

    @property
    def pending(self) -> int:
        """Events taken up and not done."""
        return self._count + len(self._replays)

    def status(self, *, running: bool) -> DeliveryStatus:
        """How it fares."""
        now_s = self._clock.monotonic()
        oldest_s = min((line[0].since_s for line in self._lines.values() if line), default=now_s)
        return DeliveryStatus(
            id=self.stored.id,
            running=running,
            cursor=self.cursor,
            pending=self.pending,
            failing=sum(line[0].failed for line in self._lines.values() if line),
            lag_s=max(0.0, now_s - oldest_s),
            delivered=self.delivered,
            failed_attempts=self.failed_attempts,
            dead=self.dead,
            lost=self.lost,
            dead_letters=self.dead_letters,
            last_error=self.last_error,
            last_delivered_at=self.last_delivered_at,
        )

    def replay_letters(self, letters: list[DeadLetter]) -> None:
        """Send dead letters again, each behind what waits of its resource."""
        waiting = {one.dead_id for line in (*self._lines.values(), self._replays) for one in line}
        for letter in letters:
            if letter.id not in waiting:
                self._replays.append(
                    Pending(letter.event, letter.revision, self._clock.monotonic(), letter.id)
                )
        self._bell.set()

    async def run(self) -> None:
        """Deliver, until cancelled or the receiver wants no more. Begun anew, it goes on from the cursor."""
        self._begin()
        tail = self._tools.tail
        reader = tail.open(self._saved, self.stored.shown().wanted())
        silence = tail.listen(self._bell.set)
        try:
            while True:
                self._bell.clear()
                self._collect()
                if self._gone:
                    await self._tools.owner.disable(self.stored.id, self._gone)
                    return
                self._take_replays()
                self._launch()
                wait_s = await self._save()
                room = self._tools.pace.queue_max - self.pending
                if room > 0 and reader.behind:
                    batch = await reader.step(room)
                    self._reached = reader.revision
                    if batch is not None:
                        self._take(batch)
                    continue
                await self._rest(wait_s)
        finally:
            silence()
            flying = list(self._flying)
            for task in flying:
                task.cancel()
            if flying:
                await asyncio.wait(flying)
            await self._poster.close()

    async def flush(self) -> None:
        """Write the cursor now, for an orderly end."""
        self._saved_at_s = float("-inf")
        await self._save()

    def _begin(self) -> None:
        self._lines.clear()
        self._due.clear()
        self._unfinished.clear()
        self._ended.clear()
        self._count = 0
        self._gone = ""
        self._reached = self._saved

    def _take(self, batch: Batch) -> None:
        if batch.lost:
            self.lost += 1
            self._saved = min(self._saved, self._reached)  # a cursor of another store is none of this one
            _log.warning("events_lost", subscription=self.stored.id, after=batch.after)
            self._line(Pending(self._lost_event(batch), batch.after, self._clock.monotonic()))
        for told in batch.events:
            self._line(Pending(told.event, told.revision, self._clock.monotonic()))

    def _take_replays(self) -> None:
        while self._replays:
            self._line(self._replays.popleft())

    def _line(self, pending: Pending) -> None:
        name = pending.event.subject
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = deque()
            heapq.heappush(self._due, (self._clock.monotonic(), next(self._order), name))
        line.append(pending)
        self._count += 1
        if not pending.dead_id:
            self._unfinished[pending.revision] = self._unfinished.get(pending.revision, 0) + 1

    def _launch(self) -> None:
        """Send the heads of the lines that are due, within the bound."""
        now_s = self._clock.monotonic()
        while self._due and self._due[0][0] <= now_s and now_s >= self._quiet_until_s:
            if len(self._flying) >= self._tools.pace.in_flight_max:
                return
            name = heapq.heappop(self._due)[2]
            task = self._tools.tasks.spawn(f"delivery.{self.stored.id}.post", self._attempt(name))
            self._flying.add(task)
            task.add_done_callback(self._land)

    def _land(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._ended.append(task)
        self._bell.set()

    def _collect(self) -> None:
        """Let the failure of a request that is none of the receiver's be this worker's own."""
        ended, self._ended = self._ended, []
        for task in ended:
            if not task.cancelled():
                task.result()

    async def _attempt(self, name: str) -> None:
        """One attempt for the head of a line, and what follows from it."""
        head = self._lines[name][0]
        head.attempts += 1
        retry_after_s = 0.0
        try:
            answer = await self._post(head.event)
        except (WebhookFailed, TargetRefused, UrlInvalid) as error:
            problem = error.detail
        else:
            if answer.taken:
                await self._arrived(head)
                self._next(name, self._clock.monotonic())
                return
            problem = f"the receiver answered status {answer.status}"
            retry_after_s = answer.retry_after_s
            if answer.status == GONE:
                self._gone = problem
                return
        self.failed_attempts += 1
        head.failed = True
        self.last_error = problem
        pace, now_s = self._tools.pace, self._clock.monotonic()
        if retry_after_s > 0:  # it asks to be left alone, not for one event's sake
            self._quiet_until_s = max(self._quiet_until_s, now_s + retry_after_s)
        if head.attempts >= pace.attempts_max:
            await self._bury(head, problem)
            self._next(name, self._clock.monotonic())
            return
        delay_s = max(pace.backoff.delay_s(head.attempts, self._tools.rng), retry_after_s)
        heapq.heappush(self._due, (now_s + delay_s, next(self._order), name))

    async def _post(self, event: ResourceEvent) -> Answer:
        stored = self.stored
        message = write_message(event, self._tools.source, stored.format, stored.secret, self._clock.now())
        return await self._poster.post(stored.url, message, self._tools.pace.timeout_s)

    async def _arrived(self, head: Pending) -> None:
        if head.dead_id:
            await self._tools.store.commit([], [Delete(dead_key(self.stored.id, head.dead_id))])
            self.dead_letters = max(0, self.dead_letters - 1)
        self.delivered += 1
        self.last_delivered_at = self._clock.now()

    async def _bury(self, head: Pending, problem: str) -> None:
        """Make a dead letter of an event, durable before the cursor passes it."""
        letter = DeadLetter(
            id=head.dead_id or letter_id(head.revision, head.event.id),
            event=head.event,
            revision=head.revision,
            attempts=head.attempts,
            error=problem,
            dead_at=self._clock.now(),
        )
        writes: list[Write] = [Put(dead_key(self.stored.id, letter.id), msgspec.json.encode(letter))]
        if not head.dead_id and self.dead_letters >= DEAD_LETTERS_MAX:
            oldest = await self._tools.store.list(dead_prefix(self.stored.id), 1)
            writes += [Delete(record.key) for record in oldest.records if record.key != writes[0].key]
            self.lost += 1
        elif not head.dead_id:
            self.dead_letters += 1
        await self._tools.store.commit([], writes)
        self.dead += 1
        _log.warning(
            "event_not_delivered", subscription=self.stored.id, letter=letter.id, attempts=head.attempts
        )

    def _next(self, name: str, now_s: float) -> None:
        """The head of a line is done: the line goes on."""
        line = self._lines[name]
        head = line.popleft()
        self._count -= 1
        if not head.dead_id:
            left = self._unfinished[head.revision] - 1
            if left:
                self._unfinished[head.revision] = left
            else:
                del self._unfinished[head.revision]
        if line:
            heapq.heappush(self._due, (now_s, next(self._order), name))
        else:
            del self._lines[name]

    async def _save(self) -> float | None:
        """Write the cursor where it has moved and it is time; seconds until it is, None where it has not
        moved."""
        first = next(iter(self._unfinished), None)
        done = self._reached if first is None else max(self._saved, min(self._reached, first - 1))
        if done <= self._saved:
            return None
        now_s = self._clock.monotonic()
        wait_s = self._saved_at_s + self._tools.pace.cursor_s - now_s
        if wait_s > 0:
            return wait_s
        await self._tools.store.commit(
            [], [Put(cursor_key(self.stored.id), msgspec.json.encode(Cursor(done)))]
        )
        self._saved, self._saved_at_s = done, now_s
        return None

    async def _rest(self, wait_s: float | None) -> None:
        """Until something happens, a line is due, or the cursor is."""
        now_s = self._clock.monotonic()
        if self._due and len(self._flying) < self._tools.pace.in_flight_max:
            due_s = max(self._due[0][0], self._quiet_until_s) - now_s
            wait_s = due_s if wait_s is None else min(wait_s, due_s)
        if wait_s is None:
            await self._bell.wait()
            return
        timer = self._tools.tasks.spawn(f"delivery.{self.stored.id}.timer", self._ring_after(wait_s))
        try:
            await self._bell.wait()
        finally:
            timer.cancel()

    async def _ring_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._bell.set()

    def _lost_event(self, batch: Batch) -> ResourceEvent:
        return ResourceEvent(
            id=f"lost/{batch.after}",
            type=LOST_TYPE,
            subject="",
            sequence=batch.after,
            time=self._clock.now(),
            data={"after": batch.after, "revision": batch.revision},
        )
