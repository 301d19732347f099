"""What is kept of a subscription: itself with its secret, how far it was delivered, and its dead letters."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from steersman.kernel.errors import NotFound, Refused, Unavailable
from steersman.kernel.logging import get_logger
from steersman.kinds.command import ChangeAction
from steersman.kinds.subscription import DeadLetter, Format, Subscription

SUBSCRIPTIONS = "subscriptions/"
DELIVERIES = "deliveries/"
DEAD_LETTERS_MAX = 10_000
"""Kept for one subscription; over that the oldest is dropped, and counted as lost."""

T = TypeVar("T")

_log = get_logger("act.delivery")


class SubscriptionNotFound(NotFound):
    """No subscription has that id."""

    code = "subscription_not_found"
    title = "No such subscription"


class TooManySubscriptions(Refused):
    """The bound on subscriptions is reached. `facts`: `limit`."""

    code = "too_many_subscriptions"
    title = "Too many subscriptions"


class SubscriptionDisabled(Refused):
    """Nothing is sent to it while it is disabled, so nothing can be sent again."""

    code = "subscription_disabled"
    title = "Subscription is disabled"


class EventsUnavailable(Unavailable):
    """This process delivers no events."""

    code = "events_unavailable"
    title = "Events are not delivered here"


class StoredSubscription(Struct, frozen=True, kw_only=True):
    """A subscription as it is stored: what is shown of it, and its secret beside that."""

    id: str
    url: str
    secret: str
    name: str = ""
    kinds: tuple[str, ...] = ()
    actions: tuple[ChangeAction, ...] = ()
    labels: dict[str, str] = field(default_factory=dict[str, str])
    format: Format = Format.STRUCTURED
    enabled: bool = True
    disabled_reason: str = ""
    created_at: datetime
    created_by: str = ""
    updated_at: datetime

    def shown(self) -> Subscription:
        """Without its secret."""
        return Subscription(**{name: getattr(self, name) for name in Subscription.__struct_fields__})

    def __repr__(self) -> str:
        return f"StoredSubscription({self.id})"  # no log and no test's output may hold the secret


class Cursor(Struct, frozen=True):
    """Everything up to this store revision was delivered, or is a dead letter."""

    revision: int


def subscription_key(subscription_id: str) -> str:
    """Where a subscription is kept."""
    return SUBSCRIPTIONS + quote(subscription_id, safe="")


def deliveries_prefix(subscription_id: str) -> str:
    """Where all is kept that its delivery leaves."""
    return f"{DELIVERIES}{quote(subscription_id, safe='')}/"


def cursor_key(subscription_id: str) -> str:
    """Where its cursor is kept."""
    return deliveries_prefix(subscription_id) + "cursor"


def dead_prefix(subscription_id: str) -> str:
    """Where its dead letters are kept."""
    return deliveries_prefix(subscription_id) + "dead/"


def dead_key(subscription_id: str, letter_id: str) -> str:
    """Where that dead letter is kept. Letters are in the order of their events."""
    return dead_prefix(subscription_id) + quote(letter_id, safe="")


def letter_id(revision: int, event_id: str) -> str:
    """The name of an event among the dead letters; the same event dies under one name."""
    return f"{revision:016d}-{quote(event_id, safe='')}"


def read_record(value: bytes, kind: type[T], key: str) -> T | None:
    """A stored record; None for one that can't be read, which is logged without its content."""
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        _log.error("delivery_record_unreadable", key=key)
        return None


def read_letter(value: bytes, key: str) -> DeadLetter | None:
    """A stored dead letter."""
    return read_record(value, DeadLetter, key)
