"""Calls about subscriptions: as data, and what both clients make of them.

Making a subscription, sending again and testing are not repeated by themselves: each time would do it anew.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from datetime import datetime
from typing import Any

import msgspec

from steersman.client.calls import Call, path_of, read_answer
from steersman.client.transport import AsyncTransport, Transport
from steersman.kinds.subscription import (
    DeadLetter,
    DeadLetterList,
    IssuedSubscription,
    NewSubscription,
    Replay,
    Replayed,
    SubscriptionAnswer,
    SubscriptionChange,
    SubscriptionList,
    TestSent,
)

JSON = {"content-type": "application/json"}
LETTERS_PAGE = 100


def listed() -> Call[list[SubscriptionAnswer]]:
    """All subscriptions."""
    read = read_answer(SubscriptionList)
    return Call("GET", path_of("subscriptions"), lambda body: read(body).items)


def one(subscription_id: str) -> Call[SubscriptionAnswer]:
    """One subscription."""
    return Call("GET", path_of("subscriptions", subscription_id), read_answer(SubscriptionAnswer))


def create(wish: NewSubscription) -> Call[IssuedSubscription]:
    """Make one."""
    body = msgspec.json.encode(wish)
    return Call(
        "POST", path_of("subscriptions"), read_answer(IssuedSubscription), body, JSON, repeatable=False
    )


def change(subscription_id: str, wish: SubscriptionChange) -> Call[SubscriptionAnswer]:
    """Change one: what is left out stays."""
    path = path_of("subscriptions", subscription_id)
    return Call("PATCH", path, read_answer(SubscriptionAnswer), msgspec.json.encode(wish), JSON)


def delete(subscription_id: str) -> Call[None]:
    """Remove one. Not repeated by itself: the second time it would not be found."""
    path = path_of("subscriptions", subscription_id)
    return Call("DELETE", path, lambda _body: None, repeatable=False)


def letters(subscription_id: str, after: str) -> Call[DeadLetterList]:
    """One page of its dead letters."""
    query = [("limit", str(LETTERS_PAGE)), *([("after", after)] if after else [])]
    path = path_of("subscriptions", subscription_id, "dead-letters", query=query)
    return Call("GET", path, read_answer(DeadLetterList))


def replay(subscription_id: str, wish: Replay) -> Call[Replayed]:
    """Send again."""
    path = path_of("subscriptions", subscription_id, "replay")
    return Call("POST", path, read_answer(Replayed), msgspec.json.encode(wish), JSON, repeatable=False)


def test(subscription_id: str) -> Call[TestSent]:
    """Send a test event now."""
    path = path_of("subscriptions", subscription_id, "test")
    return Call("POST", path, read_answer(TestSent), repeatable=False)


class Subscribing:
    """Subscriptions, for the blocking client. Operators see them, admins make and change them."""

    _transport: Transport

    def subscriptions(self) -> list[SubscriptionAnswer]:
        """All, with how their delivery fares; never their secrets."""
        return self._transport.run(listed())

    def subscription(self, subscription_id: str) -> SubscriptionAnswer:
        """One."""
        return self._transport.run(one(subscription_id))

    def create_subscription(self, url: str, **wish: Any) -> IssuedSubscription:
        """Make one: `url` and the fields of `NewSubscription`. The answer alone shows the secret."""
        return self._transport.run(create(NewSubscription(url=url, **wish)))

    def change_subscription(self, subscription_id: str, **wish: Any) -> SubscriptionAnswer:
        """Change the fields of `SubscriptionChange` that are given."""
        return self._transport.run(change(subscription_id, SubscriptionChange(**wish)))

    def delete_subscription(self, subscription_id: str) -> None:
        """Remove one; nothing more is sent to it."""
        self._transport.run(delete(subscription_id))

    def dead_letters(self, subscription_id: str) -> Generator[DeadLetter]:
        """Events that could not be delivered, oldest first, page by page as they are taken."""
        after: str | None = ""
        while after is not None:
            page = self._transport.run(letters(subscription_id, after))
            yield from page.items
            after = page.cursor

    def replay_subscription(
        self,
        subscription_id: str,
        *,
        from_revision: int | None = None,
        from_time: datetime | None = None,
        dead_letters: list[str] | None = None,
    ) -> Replayed:
        """Send again; exactly one of the three. An empty list is all dead letters."""
        wish = Replay(from_revision=from_revision, from_time=from_time, dead_letters=dead_letters)
        return self._transport.run(replay(subscription_id, wish))

    def test_subscription(self, subscription_id: str) -> TestSent:
        """Send a test event now, and hear what came of it."""
        return self._transport.run(test(subscription_id))


class AsyncSubscribing:
    """Subscriptions, for the asynchronous client; see `Subscribing`."""

    _transport: AsyncTransport

    async def subscriptions(self) -> list[SubscriptionAnswer]:
        """All, with how their delivery fares; never their secrets."""
        return await self._transport.run(listed())

    async def subscription(self, subscription_id: str) -> SubscriptionAnswer:
        """One."""
        return await self._transport.run(one(subscription_id))

    async def create_subscription(self, url: str, **wish: Any) -> IssuedSubscription:
        """Make one: `url` and the fields of `NewSubscription`. The answer alone shows the secret."""
        return await self._transport.run(create(NewSubscription(url=url, **wish)))

    async def change_subscription(self, subscription_id: str, **wish: Any) -> SubscriptionAnswer:
        """Change the fields of `SubscriptionChange` that are given."""
        return await self._transport.run(change(subscription_id, SubscriptionChange(**wish)))

    async def delete_subscription(self, subscription_id: str) -> None:
        """Remove one; nothing more is sent to it."""
        await self._transport.run(delete(subscription_id))

    async def dead_letters(self, subscription_id: str) -> AsyncGenerator[DeadLetter]:
        """Events that could not be delivered, oldest first, page by page as they are taken."""
        after: str | None = ""
        while after is not None:
            page = await self._transport.run(letters(subscription_id, after))
            for letter in page.items:
                yield letter
            after = page.cursor

    async def replay_subscription(
        self,
        subscription_id: str,
        *,
        from_revision: int | None = None,
        from_time: datetime | None = None,
        dead_letters: list[str] | None = None,
    ) -> Replayed:
        """Send again; exactly one of the three. An empty list is all dead letters."""
        wish = Replay(from_revision=from_revision, from_time=from_time, dead_letters=dead_letters)
        return await self._transport.run(replay(subscription_id, wish))

    async def test_subscription(self, subscription_id: str) -> TestSent:
        """Send a test event now, and hear what came of it."""
        return await self._transport.run(test(subscription_id))
