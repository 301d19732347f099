"""Delivery to real receivers on loopback: order, at least once, slow ones apart, dead letters, replay."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from receiver import Answer, Got, in_order, receiving, row, verified, write_rows

from steersman.act.delivery.deliveries import SUBSCRIPTIONS_MAX, Deliveries
from steersman.act.delivery.records import (
    SubscriptionDisabled,
    SubscriptionNotFound,
    TooManySubscriptions,
    subscription_key,
)
from steersman.act.delivery.worker import Pace
from steersman.drivers.webhook.message import SecretInvalid
from steersman.drivers.webhook.targets import TargetRefused, Targets, UrlInvalid
from steersman.kernel.clock import Clock, SystemClock
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import SortableIds, seeded_rng
from steersman.kernel.retry import Backoff
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.command import ChangeAction
from steersman.kinds.subscription import Format, NewSubscription, Replay, SubscriptionChange
from steersman.state.tail import RETIRED_KEY, Tail, write_retired
from steersman.store.api import Delete, Put, Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore

QUICK = Pace(attempts_max=4, backoff=Backoff(first_s=0.01, max_s=0.02), timeout_s=5.0, cursor_s=0.0)
LOOPBACK = Targets(["127.0.0.0/8"])


@asynccontextmanager
async def delivering(
    store: Store, *, pace: Pace = QUICK, targets: Targets = LOOPBACK, clock: Clock | None = None
) -> AsyncIterator[Deliveries]:
    clock = clock or SystemClock()
    rng = seeded_rng(5)
    async with Supervisor(clock, rng) as tasks:
        tail = Tail(store, clock)
        tasks.start("tail", tail.run, ALWAYS)
        ids = SortableIds(clock, rng)
        made = Deliveries(store, tail, clock=clock, rng=rng, ids=ids, tasks=tasks, targets=targets, pace=pace)
        await made.load()
        made.start()
        yield made


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore(clock=SystemClock(), rng=seeded_rng(1)) as made:
        yield made


async def settled(deliveries: Deliveries, subscription_id: str, done: Callable[[], bool]) -> None:
    """Until `done`, and nothing of the subscription is under way."""
    async with asyncio.timeout(6):
        while not done() or deliveries.status(subscription_id).pending:
            await asyncio.sleep(0.005)


async def test_what_happens_after_the_subscription_is_sent_signed_and_in_order(store: Store) -> None:
    await write_rows(store, "a")
    async with receiving() as receiver, delivering(store) as deliveries:
        issued = await deliveries.create(NewSubscription(url=receiver.url))
        ids = await write_rows(store, "abab", start=2)
        await receiver.until(lambda: len(receiver.taken) == 4)
        assert sorted(receiver.taken) == sorted(ids), "nothing from before it subscribed"
        assert in_order(["Node/a/1", "Node/b/1", *receiver.taken])
        got = receiver.got[0]
        assert verified(got, issued.secret)
        assert got.method == "POST"
        assert got.event["specversion"] == "1.0"
        assert got.event["type"] == "steersman.resource.transitioned.v1"
        assert got.event["source"] == "urn:steersman:plane"
        assert got.event["sequence"] == f"{int(got.id.rpartition('/')[2]):012d}"
        assert got.headers["webhook-id"] == got.id
        got.body += b" "
        assert not verified(got, issued.secret)


async def test_the_binary_mode(store: Store) -> None:
    async with receiving() as receiver, delivering(store) as deliveries:
        issued = await deliveries.create(NewSubscription(url=receiver.url, format=Format.BINARY))
        await store.commit([], [row("größe 1%", 1, note="ü")])
        await receiver.until(lambda: len(receiver.taken) == 1)
        got = receiver.got[0]
        assert got.headers["content-type"] == "application/json"
        assert got.headers["ce-specversion"] == "1.0"
        assert got.headers["ce-subject"] == "Node/gr%C3%B6%C3%9Fe%201%25", "as the HTTP binding says"
        assert got.event["data"]["note"] == "ü"
        assert verified(got, issued.secret)


async def test_the_order_of_each_resource_holds_while_requests_fail_at_random(store: Store) -> None:
    """Goal: however a receiver fails, each resource's events are taken once or more, in order."""
    chance = random.Random(3)

    async def unreliable(_: Got) -> Answer:
        await asyncio.sleep(chance.random() * 0.003)
        return (500 if chance.random() < 0.4 else 200), {}

    pace = Pace(attempts_max=50, backoff=Backoff(first_s=0.001, max_s=0.005), cursor_s=0.0)
    async with receiving(unreliable) as receiver, delivering(store, pace=pace) as deliveries:
        await deliveries.create(NewSubscription(url=receiver.url))
        ids = await write_rows(store, "abcdefgh" * 12)
        await receiver.until(lambda: set(receiver.taken) == set(ids))
        assert in_order(receiver.taken)
        assert len(receiver.taken) == len(ids), "taken once each: no attempt was repeated after its 200"


async def test_a_request_is_sent_anew_for_each_attempt_with_the_same_id(store: Store) -> None:
    async def second(got: Got) -> Answer:
        return (200 if len(receiver.got) > 1 else 503), {}

    async with receiving(second) as receiver, delivering(store) as deliveries:
        await deliveries.create(NewSubscription(url=receiver.url))
        await write_rows(store, "a")
        await receiver.until(lambda: len(receiver.taken) == 1)
        assert len({got.headers["webhook-id"] for got in receiver.got}) == 1


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_where_the_process_dies_in_the_middle(seed: int, tmp_path: Path) -> None:
    """Goal: kill it as often as you like; each event is taken at least once, in order."""
    chance = random.Random(seed)

    async def unreliable(_: Got) -> Answer:
        await asyncio.sleep(chance.random() * 0.004)
        return (500 if chance.random() < 0.2 else 200), {}

    ids: list[str] = []
    pace = Pace(attempts_max=50, backoff=Backoff(first_s=0.001, max_s=0.005), cursor_s=0.01)
    async with receiving(unreliable) as receiver:
        for life in range(6):
            store = SqliteStore(tmp_path / "s.db", clock=SystemClock(), rng=seeded_rng(1))
            async with store, delivering(store, pace=pace) as deliveries:
                if life == 0:
                    await deliveries.create(NewSubscription(url=receiver.url))
                if life < 5:
                    ids += await write_rows(store, "abcd" * 5, start=1 + 5 * life)
                    await asyncio.sleep(chance.random() * 0.03)
                else:  # leaving is dying: no worker was told to stop, and no cursor was written for it
                    await receiver.until(lambda: set(receiver.taken) == set(ids))  # noqa: B023 - awaited at once
    assert in_order(receiver.taken)


async def test_a_slow_subscriber_delays_no_other(store: Store) -> None:
    stuck = asyncio.Event()

    async def never(_: Got) -> Answer:
        await stuck.wait()
        return 200, {}

    async with receiving(never) as slow, receiving() as quick, delivering(store) as deliveries:
        slow_one = (await deliveries.create(NewSubscription(url=slow.url))).subscription.id
        await deliveries.create(NewSubscription(url=quick.url))
        ids = await write_rows(store, "abcdefghijklmnopqrstuvwxyz" * 20)
        await quick.until(lambda: len(quick.taken) == len(ids))
        assert slow.taken == []
        status = deliveries.status(slow_one)
        assert status.pending <= QUICK.queue_max
        assert len(slow.got) <= QUICK.in_flight_max
        assert deliveries.passed() < await store.revision() - len(ids), "its rows must be kept for it"
        stuck.set()
        await slow.until(lambda: len(slow.taken) == len(ids))


async def test_a_dead_letter_lets_the_line_go_on_and_can_be_sent_again(store: Store) -> None:
    broken = True

    async def refuses_one(got: Got) -> Answer:
        return (500 if broken and got.id == "Node/a/2" else 200), {}

    async with receiving(refuses_one) as receiver, delivering(store) as deliveries:
        one = (await deliveries.create(NewSubscription(url=receiver.url))).subscription.id
        await write_rows(store, "aaa")
        await receiver.until(lambda: receiver.taken == ["Node/a/1", "Node/a/3"])
        (letter,) = await deliveries.dead_letters(one)
        assert (letter.event.id, letter.attempts) == ("Node/a/2", 4)
        assert "500" in letter.error
        await settled(deliveries, one, lambda: deliveries.passed() >= letter.revision)
        assert (await deliveries.replay(one, Replay(dead_letters=[]))).dead_letters == 1
        await settled(deliveries, one, lambda: deliveries.status(one).dead == 2)
        assert len(await deliveries.dead_letters(one)) == 1, "it failed again and is still there, once"
        broken = False
        await deliveries.replay(one, Replay(dead_letters=[letter.id]))
        await receiver.until(lambda: receiver.taken[-1] == "Node/a/2")
        await settled(deliveries, one, lambda: deliveries.status(one).dead_letters == 0)
        assert await deliveries.dead_letters(one) == []


async def test_a_replay_sends_everything_from_a_revision_or_time_again(store: Store) -> None:
    async with receiving() as receiver, delivering(store) as deliveries:
        one = (await deliveries.create(NewSubscription(url=receiver.url))).subscription.id
        began = SystemClock().now()
        ids = await write_rows(store, "aaaa")
        await receiver.until(lambda: receiver.taken == ids)
        third = next(r for r in (await store.list("outbox/")).records if r.key.endswith("3")).revision
        await deliveries.replay(one, Replay(from_revision=third))
        await receiver.until(lambda: receiver.taken == ids + ids[2:])
        await deliveries.replay(one, Replay(from_time=began - timedelta(seconds=1)))
        await receiver.until(lambda: receiver.taken == ids + ids[2:] + ids)
        for wrong in (Replay(), Replay(from_revision=1, dead_letters=[])):
            with pytest.raises(InvalidInput):
                await deliveries.replay(one, wrong)


async def test_a_disabled_or_removed_subscription_is_sent_nothing_more(store: Store) -> None:
    async with receiving() as receiver, delivering(store) as deliveries:
        one = (await deliveries.create(NewSubscription(url=receiver.url))).subscription.id
        await write_rows(store, "a")
        await settled(deliveries, one, lambda: deliveries.status(one).delivered == 1)
        await deliveries.change(one, SubscriptionChange(enabled=False))
        await write_rows(store, "bc")
        with pytest.raises(SubscriptionDisabled):
            await deliveries.replay(one, Replay(from_revision=0))
        await asyncio.sleep(0.05)
        assert len(receiver.got) == 1
        await deliveries.change(one, SubscriptionChange(enabled=True))
        await settled(deliveries, one, lambda: len(receiver.taken) == 3)
        await deliveries.delete(one)
        await write_rows(store, "d")
        await asyncio.sleep(0.05)
        assert len(receiver.got) == 3
        assert (await store.list("deliveries/")).records == ()
        with pytest.raises(SubscriptionNotFound):
            deliveries.get(one)


async def test_a_receiver_that_is_gone_is_disabled_for_good(store: Store) -> None:
    async def gone(_: Got) -> Answer:
        return 410, {}

    async with receiving(gone) as receiver, delivering(store) as deliveries:
        one = (await deliveries.create(NewSubscription(url=receiver.url))).subscription.id
        await write_rows(store, "a")
        await settled(deliveries, one, lambda: not deliveries.get(one).enabled)
        assert "410" in deliveries.get(one).disabled_reason
        assert not deliveries.status(one).running
    async with delivering(store) as deliveries:
        assert not deliveries.get(one).enabled
        assert len(receiver.got) == 1


async def test_retired_events_are_told_as_lost(store: Store) -> None:
    async with receiving() as receiver:
        async with delivering(store) as deliveries:
            one = (await deliveries.create(NewSubscription(url=receiver.url))).subscription.id
            await deliveries.change(one, SubscriptionChange(enabled=False))
        await write_rows(store, "aab")
        newest = await store.revision()
        await store.commit(
            [],
            [
                *[Delete(f"outbox/Node/a/{seq:012d}") for seq in (1, 2)],
                Put(RETIRED_KEY, write_retired(newest - 1)),
            ],
        )
        async with delivering(store) as deliveries:
            await deliveries.change(one, SubscriptionChange(enabled=True))
            await receiver.until(lambda: len(receiver.taken) == 2)
            assert {got.event["type"] for got in receiver.got} == {
                "steersman.events.lost.v1",
                "steersman.resource.transitioned.v1",
            }
            assert deliveries.status(one).lost == 1


async def test_filters_decide_what_is_sent(store: Store) -> None:
    async with receiving() as receiver, delivering(store) as deliveries:
        await deliveries.create(
            NewSubscription(
                url=receiver.url, kinds=("Session",), actions=(ChangeAction.DELETED,), labels={"site": "x"}
            )
        )
        await store.commit([], [row("n", 1)])
        await store.commit([], [row("s", 1, "Session", "created", labels={"site": "x"})])
        await store.commit([], [row("s", 2, "Session", "deleted", labels={"site": "y"})])
        await store.commit([], [row("t", 1, "Session", "deleted", labels={"site": "x"})])
        await receiver.until(lambda: len(receiver.taken) == 1)
        assert receiver.taken == ["Session/t/1"]


async def test_a_test_event_is_sent_at_once_and_says_what_came_of_it(store: Store) -> None:
    async with receiving() as receiver, delivering(store) as deliveries:
        issued = await deliveries.create(NewSubscription(url=receiver.url, enabled=False))
        sent = await deliveries.test(issued.subscription.id)
        assert (sent.delivered, sent.status) == (True, 204)
        assert verified(receiver.got[0], issued.secret)
        assert receiver.got[0].event["type"] == "steersman.subscription.test.v1"
    async with delivering(store) as deliveries:
        sent = await deliveries.test(issued.subscription.id)
        assert not sent.delivered
        assert "refused" in sent.error


async def test_a_secret_is_shown_once_and_nowhere_else(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    async with receiving() as receiver, delivering(store) as deliveries:
        issued = await deliveries.create(NewSubscription(url=receiver.url))
        one = issued.subscription.id
        own = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"
        changed = await deliveries.change(one, SubscriptionChange(secret=own))
        await write_rows(store, "a")
        await receiver.until(lambda: len(receiver.taken) == 1)
        assert verified(receiver.got[0], own), "a changed secret counts at once"
        shown = (
            repr(changed) + repr(deliveries.list()) + repr(deliveries.snapshot()) + repr(deliveries._stored)
        )
        out = capsys.readouterr()
        for secret in (issued.secret, own):
            assert secret not in shown + out.out + out.err
    assert await store.get(subscription_key(one))


async def test_what_can_not_be_a_subscription_is_refused(store: Store) -> None:
    async with delivering(store, targets=Targets()) as deliveries:
        for url, error in (
            ("http://127.0.0.1:1/x", TargetRefused),
            ("ftp://example.org/", UrlInvalid),
            ("http://user:pw@example.org/", UrlInvalid),
        ):
            with pytest.raises(error):
                await deliveries.create(NewSubscription(url=url))
        with pytest.raises(SecretInvalid):
            await deliveries.create(NewSubscription(url="http://example.org/", secret="whsec_" + "!" * 30))
        for _ in range(SUBSCRIPTIONS_MAX):
            await deliveries.create(NewSubscription(url="http://example.org/", enabled=False))
        with pytest.raises(TooManySubscriptions):
            await deliveries.create(NewSubscription(url="http://example.org/"))
