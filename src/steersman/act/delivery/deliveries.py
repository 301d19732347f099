"""All subscriptions of a plane: made, changed, removed, and a worker for each that is enabled.

What is written here is durable when a call returns, and takes effect at once: a subscription that was
disabled or removed is sent nothing more. The secret is in the store and in the signing; nothing gives it out
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from steersman.act.delivery.records import (
    SUBSCRIPTIONS,
    Cursor,
    StoredSubscription,
    SubscriptionDisabled,
    SubscriptionNotFound,
    TooManySubscriptions,
    cursor_key,
    dead_key,
    dead_prefix,
    deliveries_prefix,
    read_letter,
    read_record,
    subscription_key,
)
from steersman.act.delivery.worker import Pace, Poster, Tools, Worker
from steersman.drivers.webhook.client import WebhookClient, WebhookFailed
from steersman.drivers.webhook.message import signing_key, write_message, write_secret
from steersman.drivers.webhook.targets import TargetRefused, Targets
from steersman.kernel.clock import Clock, as_utc
from steersman.kernel.errors import InvalidInput, SteersmanError
from steersman.kernel.ids import Ids, Rng, new_secret
from steersman.kernel.logging import get_logger
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.command import ResourceEvent
from steersman.kinds.subscription import (
    TEST_TYPE,
    DeadLetter,
    DeliveryStatus,
    IssuedSubscription,
    NewSubscription,
    Replay,
    Replayed,
    Subscription,
    SubscriptionChange,
    TestSent,
)
from steersman.state.tail import Tail
from steersman.store.api import COMMIT_WRITES_MAX, Check, Delete, Put, Record, Store, Write

SUBSCRIPTIONS_MAX = 256
"""Each has a worker, connections, and a label in the metrics."""
SOURCE = "urn:steersman:plane"
"""The CloudEvents `source` where the program gives no other."""
LETTERS_PAGE = 100
LETTERS_PAGE_MAX = 1000

_log = get_logger("act.delivery")


class Deliveries:
    """The subscriptions of one store. `load` before use; `start` once the tail runs; `stop` at the end.

    `targets` says where may be sent to; `source` is the CloudEvents source; `make_poster` is for trials.
    """

    def __init__(
        self,
        store: Store,
        tail: Tail,
        *,
        clock: Clock,
        rng: Rng,
        ids: Ids,
        tasks: Supervisor,
        targets: Targets,
        source: str = SOURCE,
        pace: Pace | None = None,
        make_poster: Callable[[], Poster] | None = None,
    ) -> None:
        self._store = store
        self._tail = tail
        self._clock = clock
        self._ids = ids
        self._tasks = tasks
        self._targets = targets
        self._make_poster = make_poster or (lambda: WebhookClient(targets, clock))
        self._tools = Tools(store, tail, clock, rng, tasks, self, source, pace or Pace())
        self._stored: dict[str, StoredSubscription] = {}
        self._versions: dict[str, int] = {}
        self._workers: dict[str, Worker] = {}
        self._running = False
        self._loaded = False
        self._lock = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._stored)

    async def load(self) -> None:
        """Read every subscription and where its delivery stands."""
        for record in await self._all(SUBSCRIPTIONS):
            stored = read_record(record.value, StoredSubscription, record.key)
            if stored is not None:
                self._stored[stored.id] = stored
                self._versions[stored.id] = record.version
                await self._seat(stored, record.revision)
        self._loaded = True

    def start(self) -> None:
        """Start a worker for each enabled subscription. Repeating it does nothing."""
        if self._running:
            return
        self._running = True
        for one in self._workers:
            self._run(one)

    async def stop(self) -> None:
        """Stop all workers and write down how far each has come."""
        self._running = False
        for one, worker in self._workers.items():
            await self._tasks.end(_task(one))
            try:
                await worker.flush()
            except SteersmanError as error:
                _log.warning("cursor_not_saved", subscription=one, error=error.detail)

    def passed(self) -> int:
        """The revision up to which every enabled subscription is done: no row up to there is needed for
        delivery any more. 0 until `load`."""
        if not self._loaded:
            return 0
        return min((worker.cursor for worker in self._workers.values()), default=self._tail.horizon)

    def list(self) -> list[Subscription]:
        """All subscriptions, oldest first."""
        return [stored.shown() for _, stored in sorted(self._stored.items())]

    def get(self, subscription_id: str) -> Subscription:
        """One subscription. Raises `SubscriptionNotFound`."""
        return self._find(subscription_id).shown()

    def status(self, subscription_id: str) -> DeliveryStatus:
        """How its delivery fares. Raises `SubscriptionNotFound`."""
        self._find(subscription_id)
        worker = self._workers.get(subscription_id)
        if worker is None:
            return DeliveryStatus(id=subscription_id, running=False)
        return worker.status(running=self._running)

    def snapshot(self) -> list[DeliveryStatus]:
        """How each delivery fares."""
        return [self.status(one) for one in sorted(self._stored)]

    async def create(self, wish: NewSubscription, created_by: str = "") -> IssuedSubscription:
        """Make a subscription: what happens from now on is sent to it.

        Raises `UrlInvalid`, `TargetRefused`, `SecretInvalid`, `TooManySubscriptions`.
        """
        self._targets.check_url(wish.url)
        secret = wish.secret or write_secret(new_secret(32))
        signing_key(secret)
        async with self._lock:
            if len(self._stored) >= SUBSCRIPTIONS_MAX:
                raise TooManySubscriptions(
                    f"{SUBSCRIPTIONS_MAX} subscriptions exist; remove some first", limit=SUBSCRIPTIONS_MAX
                )
            now = self._clock.now()
            stored = StoredSubscription(
                id=self._ids.new("sub"),
                secret=secret,
                created_at=now,
                created_by=created_by,
                updated_at=now,
                **{name: getattr(wish, name) for name in wish.__struct_fields__ if name != "secret"},
            )
            await self._write(stored)
        _log.info("subscription_created", id=stored.id)
        return IssuedSubscription(stored.shown(), secret)

    async def change(self, subscription_id: str, change: SubscriptionChange) -> Subscription:
        """Change a subscription; its delivery goes on where it stands. One that is enabled again gets what
        happened meanwhile, as far as it is kept. Raises as `create` does, and `SubscriptionNotFound`."""
        if change.url is not UNSET:
            self._targets.check_url(change.url)
        if change.secret is not UNSET:
            signing_key(change.secret)
        async with self._lock:
            stored = self._find(subscription_id)
            given: dict[str, Any] = {
                name: value
                for name in change.__struct_fields__
                if (value := getattr(change, name)) is not UNSET
            }
            if given.get("enabled"):
                given["disabled_reason"] = ""
            stored = msgspec.structs.replace(stored, updated_at=self._clock.now(), **given)
            await self._write(stored)
        _log.info("subscription_changed", id=stored.id, changed=sorted(given))
        return stored.shown()

    async def disable(self, subscription_id: str, reason: str) -> None:
        """Disable a subscription for its receiver's sake; its worker ends by itself after this."""
        async with self._lock:
            stored = self._stored.get(subscription_id)
            if stored is None or not stored.enabled:
                return
            stored = msgspec.structs.replace(
                stored, enabled=False, disabled_reason=reason, updated_at=self._clock.now()
            )
            await self._put(stored)
            worker = self._workers.pop(subscription_id, None)
            if worker is not None:
                await worker.flush()
        _log.warning("subscription_disabled", id=subscription_id, reason=reason)

    async def delete(self, subscription_id: str) -> None:
        """Remove a subscription with all that its delivery left. Raises `SubscriptionNotFound`."""
        async with self._lock:
            self._find(subscription_id)
            await self._unseat(subscription_id)
            await self._store.commit([], [Delete(subscription_key(subscription_id))])
            del self._stored[subscription_id]
            del self._versions[subscription_id]
            left: list[Write] = [
                Delete(one.key) for one in await self._all(deliveries_prefix(subscription_id))
            ]
            for start in range(0, len(left), COMMIT_WRITES_MAX):
                await self._store.commit([], left[start : start + COMMIT_WRITES_MAX])
        _log.info("subscription_deleted", id=subscription_id)

    async def dead_letters(
        self, subscription_id: str, limit: int = LETTERS_PAGE, after: str = ""
    ) -> list[DeadLetter]:
        """Its dead letters behind the one named `after`, in the order of their events. Raises
        `SubscriptionNotFound`."""
        self._find(subscription_id)
        start = dead_key(subscription_id, after) if after else None
        page = await self._store.list(dead_prefix(subscription_id), min(limit, LETTERS_PAGE_MAX), start)
        letters = (read_letter(record.value, record.key) for record in page.records)
        return [letter for letter in letters if letter is not None]

    async def replay(self, subscription_id: str, wish: Replay) -> Replayed:
        """Send again: everything from a revision or a time on, or dead letters.

        Raises `SubscriptionNotFound`, `SubscriptionDisabled`, and `InvalidInput` where not exactly one of
        the three is asked for.
        """
        self._find(subscription_id)
        asked = [one for one in (wish.from_revision, wish.from_time, wish.dead_letters) if one is not None]
        if len(asked) != 1:
            raise InvalidInput("give exactly one of from_revision, from_time and dead_letters")
        worker = self._workers.get(subscription_id)
        if worker is None:
            raise SubscriptionDisabled(f"{subscription_id} is disabled; enable it first")
        if wish.dead_letters is not None:
            letters = await self._letters(subscription_id, wish.dead_letters)
            worker.replay_letters(letters)
            return Replayed(dead_letters=len(letters))
        if wish.from_time is not None:
            after = await self._tail.place_before(as_utc(wish.from_time))
        else:
            after = max(0, (wish.from_revision or 0) - 1)
        async with self._lock:
            stored = self._find(subscription_id)
            await self._unseat(subscription_id)
            await self._store.commit(
                [], [Put(cursor_key(subscription_id), msgspec.json.encode(Cursor(after)))]
            )
            if stored.enabled:
                await self._seat(stored, after)
        return Replayed(after=after)

    async def test(self, subscription_id: str) -> TestSent:
        """Send one test event now, once. Raises `SubscriptionNotFound`."""
        stored = self._find(subscription_id)
        now = self._clock.now()
        event = ResourceEvent(
            id=f"test/{self._ids.new('test')}",
            type=TEST_TYPE,
            subject=stored.id,
            sequence=0,
            time=now,
            data={"subscription": stored.id},
        )
        message = write_message(event, self._tools.source, stored.format, stored.secret, now)
        poster = self._make_poster()
        try:
            answer = await poster.post(stored.url, message, self._tools.pace.timeout_s)
        except (WebhookFailed, TargetRefused) as error:
            return TestSent(delivered=False, error=error.detail)
        finally:
            await poster.close()
        error = "" if answer.taken else f"the receiver answered status {answer.status}"
        return TestSent(delivered=answer.taken, status=answer.status, error=error)

    def _find(self, subscription_id: str) -> StoredSubscription:
        stored = self._stored.get(subscription_id)
        if stored is None:
            raise SubscriptionNotFound(f"there is no subscription {subscription_id[:80]!r}")
        return stored

    async def _write(self, stored: StoredSubscription) -> None:
        """Write a subscription, and put a worker of its present form in place of the one there was."""
        revision = await self._put(stored)
        await self._unseat(stored.id)
        await self._seat(stored, revision)

    async def _put(self, stored: StoredSubscription) -> int:
        key, version = subscription_key(stored.id), self._versions.get(stored.id, 0)
        revision = await self._store.commit([Check(key, version)], [Put(key, msgspec.json.encode(stored))])
        self._stored[stored.id] = stored
        self._versions[stored.id] = version + 1
        return revision

    async def _seat(self, stored: StoredSubscription, made_at: int) -> None:
        """Put a worker in place. Where no cursor was written yet, it begins where its subscription did."""
        if not stored.enabled:
            return
        record = await self._store.get(cursor_key(stored.id))
        cursor = read_record(record.value, Cursor, record.key) if record is not None else None
        dead = len(await self._all(dead_prefix(stored.id)))
        revision = made_at if cursor is None else cursor.revision
        if cursor is None:
            await self._store.commit([], [Put(cursor_key(stored.id), msgspec.json.encode(Cursor(revision)))])
        self._workers[stored.id] = Worker(stored, revision, dead, self._make_poster(), self._tools)
        if self._running:
            self._run(stored.id)

    async def _unseat(self, subscription_id: str) -> None:
        worker = self._workers.pop(subscription_id, None)
        if worker is not None:
            await self._tasks.end(_task(subscription_id))
            await worker.flush()

    def _run(self, subscription_id: str) -> None:
        self._tasks.start(_task(subscription_id), self._workers[subscription_id].run, ALWAYS)

    async def _letters(self, subscription_id: str, wanted: list[str]) -> list[DeadLetter]:
        found = [read_letter(one.value, one.key) for one in await self._all(dead_prefix(subscription_id))]
        return [one for one in found if one is not None and (not wanted or one.id in wanted)]

    async def _all(self, prefix: str) -> list[Record]:
        """Every record under a prefix that bounds hold small."""
        page = await self._store.list(prefix)
        records = list(page.records)
        while page.after is not None:
            page = await self._store.list(prefix, after=page.after, revision=page.revision)
            records += page.records
        return records


def _task(subscription_id: str) -> str:
    return f"delivery.{subscription_id}"
