"""Subscriptions over HTTP: operators see them, admins make and change them.

A subscription makes the plane send requests to an address, and what it is sent tells of the whole fleet: that
is an admin's decision.
"""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.params import QueryParameter

from steersman.act.delivery.deliveries import LETTERS_PAGE, LETTERS_PAGE_MAX, Deliveries
from steersman.act.delivery.records import EventsUnavailable
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of, read_json
from steersman.kinds.subscription import (
    DeadLetterList,
    NewSubscription,
    Replay,
    Subscription,
    SubscriptionAnswer,
    SubscriptionChange,
    SubscriptionList,
)


def _deliveries(request: Asked) -> Deliveries:
    deliveries = plane_of(request).deliveries
    if deliveries is None:
        raise EventsUnavailable("this process has no outbox; ask the one that writes resources")
    return deliveries


def _id(request: Asked) -> str:
    return exchange_of(request).parameters["id"]


def _answer(deliveries: Deliveries, subscription: Subscription) -> SubscriptionAnswer:
    return SubscriptionAnswer(subscription, deliveries.status(subscription.id))


async def list_subscriptions(request: Asked) -> Answer:
    """All subscriptions; never their secrets."""
    deliveries = _deliveries(request)
    return json_answer(SubscriptionList([_answer(deliveries, one) for one in deliveries.list()]))


async def create_subscription(request: Asked) -> Answer:
    """Make a subscription. The secret in the answer is shown this once."""
    deliveries = _deliveries(request)
    exchange = exchange_of(request)
    wish = await read_json(exchange, NewSubscription)
    caller = exchange.caller
    issued = await deliveries.create(wish, "" if caller is None else caller.name)
    return json_answer(issued, status=201)


async def get_subscription(request: Asked) -> Answer:
    """One subscription and how its delivery fares."""
    deliveries = _deliveries(request)
    return json_answer(_answer(deliveries, deliveries.get(_id(request))))


async def change_subscription(request: Asked) -> Answer:
    """Change what is given; the rest stays."""
    deliveries = _deliveries(request)
    deliveries.get(_id(request))
    change = await read_json(exchange_of(request), SubscriptionChange)
    return json_answer(_answer(deliveries, await deliveries.change(_id(request), change)))


async def delete_subscription(request: Asked) -> Answer:
    """Remove a subscription; nothing more is sent to it."""
    await _deliveries(request).delete(_id(request))
    return Response(b"", status_code=204)


async def list_dead_letters(
    request: Asked,
    limit: Annotated[
        int, QueryParameter(name="limit", ge=1, le=LETTERS_PAGE_MAX, description="Letters on a page")
    ] = LETTERS_PAGE,
    after: Annotated[
        str, QueryParameter(name="after", max_length=512, description="Where to go on: a page's `cursor`")
    ] = "",
) -> Answer:
    """Events that could not be delivered, oldest first."""
    letters = await _deliveries(request).dead_letters(_id(request), limit, after)
    cursor = letters[-1].id if len(letters) == limit else None
    return json_answer(DeadLetterList(letters, cursor))


async def replay_subscription(request: Asked) -> Answer:
    """Send again: from a revision or a time on, or dead letters."""
    deliveries = _deliveries(request)
    deliveries.get(_id(request))
    wish = await read_json(exchange_of(request), Replay)
    return json_answer(await deliveries.replay(_id(request), wish), status=202)


async def test_subscription(request: Asked) -> Answer:
    """Send a test event now, and say what came of it."""
    return json_answer(await _deliveries(request).test(_id(request)))
