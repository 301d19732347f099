"""Subscriptions: who is sent which events of resources, and how.

A subscription is configuration of the plane, kept at `subscriptions/<id>` with its secret. What is shown of
it (`Subscription`) has no secret in it, so none can slip into an answer, a log or a test's output.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, cast

from msgspec import UNSET, Meta, Struct, UnsetType, field

from steersman.kinds.command import ChangeAction, ResourceEvent

URL_MAX_CHARS = 2048
NAME_MAX_CHARS = 128
SECRET_MIN_CHARS = 24
"""Shorter ones can be guessed; one that is generated has 256 bits."""
SECRET_MAX_CHARS = 256
FILTER_MAX = 64
"""Kinds, actions or labels that one subscription may name."""
REPLAY_IDS_MAX = 1000
EVENT_TYPE_PREFIX = "steersman.resource."
LOST_TYPE = "steersman.events.lost.v1"
"""Tells a subscriber that events were retired before it could be sent them: it must read again."""
TEST_TYPE = "steersman.subscription.test.v1"

_Url = Annotated[str, Meta(min_length=1, max_length=URL_MAX_CHARS)]
_Name = Annotated[str, Meta(max_length=NAME_MAX_CHARS)]
_Kinds = Annotated[tuple[str, ...], Meta(max_length=FILTER_MAX)]
_Actions = Annotated[tuple[ChangeAction, ...], Meta(max_length=FILTER_MAX)]
_Labels = Annotated[dict[str, str], Meta(max_length=FILTER_MAX)]
_Secret = Annotated[str, Meta(min_length=SECRET_MIN_CHARS, max_length=SECRET_MAX_CHARS)]


class Format(StrEnum):
    """How an event is put into a request (CloudEvents 1.0, HTTP binding)."""

    STRUCTURED = "structured"  # all of it in a JSON body
    BINARY = "binary"  # attributes in `ce-` headers, the data as the body


class EventFilter(Struct, frozen=True):
    """Which events are wanted; an empty part lets everything through. `labels` must all be there."""

    kinds: frozenset[str] = frozenset()
    actions: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()

    def takes(self, kind: str, event: ResourceEvent) -> bool:
        """Whether an event about a resource of that kind is wanted."""
        if self.kinds and kind not in self.kinds:
            return False
        if self.actions and action_of(event) not in self.actions:
            return False
        if not self.labels:
            return True
        labels = cast("dict[str, str]", event.data.get("labels") or {})
        return all(labels.get(name) == value for name, value in self.labels)


EVERY_EVENT = EventFilter()


def action_of(event: ResourceEvent) -> str:
    """`steersman.resource.<action>.v1` → the action; "" for another type."""
    if not event.type.startswith(EVENT_TYPE_PREFIX):
        return ""
    return event.type.removeprefix(EVENT_TYPE_PREFIX).rpartition(".")[0]


class Subscription(Struct, frozen=True, kw_only=True):
    """A subscription as it is shown. `disabled_reason` says why one that the plane disabled is so."""

    id: str
    url: str
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

    def wanted(self) -> EventFilter:
        """What it asks for."""
        return EventFilter(
            frozenset(self.kinds), frozenset(map(str, self.actions)), frozenset(self.labels.items())
        )


class NewSubscription(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for. Without `secret` one is made; the answer to this request alone shows it."""

    url: _Url
    name: _Name = ""
    kinds: _Kinds = ()
    actions: _Actions = ()
    labels: _Labels = field(default_factory=dict[str, str])
    format: Format = Format.STRUCTURED
    secret: _Secret | None = None
    enabled: bool = True


class SubscriptionChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change: what is left out stays. A new `secret` counts from the next attempt on."""

    url: _Url | UnsetType = UNSET
    name: _Name | UnsetType = UNSET
    kinds: _Kinds | UnsetType = UNSET
    actions: _Actions | UnsetType = UNSET
    labels: _Labels | UnsetType = UNSET
    format: Format | UnsetType = UNSET
    secret: _Secret | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class IssuedSubscription(Struct, frozen=True):
    """A subscription just made. `secret` is its only appearance."""

    subscription: Subscription
    secret: str


class DeliveryStatus(Struct, frozen=True, kw_only=True):
    """How the delivery of one subscription fares.

    `cursor`: the store revision up to which everything was delivered or is a dead letter. `lag_s`: age of the
    oldest event that is being delivered. `pending`: events taken up and not done; `failing`: resources whose
    oldest event was tried and not taken. Counts are since the start
    of the process, `dead_letters` is how many are kept.
    """

    id: str
    running: bool
    cursor: int = 0
    pending: int = 0
    failing: int = 0
    lag_s: float = 0.0
    delivered: int = 0
    failed_attempts: int = 0
    dead: int = 0
    lost: int = 0
    dead_letters: int = 0
    last_error: str = ""
    last_delivered_at: datetime | None = None


class SubscriptionAnswer(Struct, frozen=True):
    """A subscription and how its delivery fares."""

    subscription: Subscription
    delivery: DeliveryStatus


class SubscriptionList(Struct, frozen=True):
    """All subscriptions, oldest first."""

    items: list[SubscriptionAnswer]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An event that could not be delivered within its attempts. `id` names it among the dead letters;
    `revision` is the store's at which the event was written."""

    id: str
    event: ResourceEvent
    revision: int
    attempts: int
    error: str
    dead_at: datetime


class DeadLetterList(Struct, frozen=True):
    """Dead letters in the order of their events; `cursor` is the next page's `after`, null at the end."""

    items: list[DeadLetter]
    cursor: str | None = None


class Replay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to send again; exactly one of the three. `dead_letters`: ids, or an empty list for all."""

    from_revision: Annotated[int, Meta(ge=0)] | None = None
    from_time: datetime | None = None
    dead_letters: Annotated[list[str], Meta(max_length=REPLAY_IDS_MAX)] | None = None


class Replayed(Struct, frozen=True):
    """What will be sent again: everything after revision `after`, or so many dead letters."""

    after: int | None = None
    dead_letters: int = 0


class TestSent(Struct, frozen=True):
    """What became of a test event: whether it was taken, the receiver's status (0 where there was none), and
    what went wrong."""

    __test__ = False  # for pytest, which would collect a class of this name

    delivered: bool
    status: int = 0
    error: str = ""
