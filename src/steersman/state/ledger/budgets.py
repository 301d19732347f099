"""Budgets: how many may be touched at once, or within a time. Pure; `commit` reads and writes the accounts.

An account lists who has a place. A *window* place ends by itself when its time has passed (blast radius,
cooldown); a *stock* place ends when its resource comes to rest (nodes under firmware update). Places are
taken and given back in the commit of the change that they belong to, so an account is never off by one.
Ends are on the wall clock, since they must outlive a restart: a clock set back keeps places longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NoReturn

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from steersman.kernel.bounds import at_most
from steersman.kinds.command import Draw
from steersman.kinds.refusal import BudgetExhausted
from steersman.kinds.state import ResourceRef
from steersman.state.ledger.rows import canonical, damaged
from steersman.store.api import Record

PLACES_MAX = 10_000
"""Places of one account."""
HOLDERS_TOLD_MAX = 20
"""Holders that a refusal names."""


class Place(Struct, frozen=True, kw_only=True):
    """One place: who has it, for which resource, since when, and until when (None: until it rests)."""

    holder: str
    resource: str
    at: datetime
    until: datetime | None = None


class Account(Struct, frozen=True, kw_only=True):
    """A budget's places, as stored."""

    name: str
    places: tuple[Place, ...] = ()


_DECODER = msgspec.json.Decoder(Account)


def read_account(record: Record) -> Account:
    """An account from its record. Raises `RecordDamaged`."""
    try:
        return _DECODER.decode(record.value)
    except msgspec.MsgspecError as error:
        raise damaged(record.key, str(error)) from None


def encode_account(account: Account) -> bytes:
    """An account as it is stored."""
    return canonical(account)


def alive(account: Account, now: datetime) -> Account:
    """The account without the places whose time has passed."""
    places = tuple(place for place in account.places if place.until is None or place.until > now)
    return account if len(places) == len(account.places) else replace(account, places=places)


def take(account: Account, draw: Draw, ref: ResourceRef, now: datetime) -> Account:
    """The account with a place for this draw. Raises `BudgetExhausted`.

    A holder that has one already gets no second; its window starts anew, its resource is the new one.
    """
    account = alive(account, now)
    others = tuple(place for place in account.places if place.holder != draw.holder)
    if len(others) == len(account.places) and len(others) >= draw.limit:
        _refuse(account, draw, now)
    at_most(f"budget {draw.budget}", len(others) + 1, PLACES_MAX, "places")
    until = None if draw.window_s is None else now + timedelta(seconds=draw.window_s)
    place = Place(holder=draw.holder, resource=str(ref), at=now, until=until)
    return replace(account, places=(*others, place))


def give_back(account: Account, ref: ResourceRef) -> Account:
    """The account without the stock places of a resource; a window's end by themselves."""
    text = str(ref)
    places = tuple(place for place in account.places if place.until is not None or place.resource != text)
    return account if len(places) == len(account.places) else replace(account, places=places)


def _refuse(account: Account, draw: Draw, now: datetime) -> NoReturn:
    used = len(account.places)
    facts: dict[str, object] = {
        "budget": draw.budget,
        "limit": draw.limit,
        "used": used,
        "holders": [place.holder for place in account.places[:HOLDERS_TOLD_MAX]],
    }
    wait_s = _wait_s(account.places, draw.limit, now)
    if wait_s is not None:
        facts["retry_after_s"] = wait_s
        then = f"; a place is free in {wait_s:.0f} s"
    else:
        then = "; a place is free when one of its holders is done"
    raise BudgetExhausted(f"budget {draw.budget}: {used} of {draw.limit} places are taken{then}", **facts)


def _wait_s(places: Sequence[Place], limit: int, now: datetime) -> float | None:
    """Seconds until enough windows have ended; None where that does not free a place by itself."""
    if limit == 0:
        return None
    ends = sorted(place.until for place in places if place.until is not None)
    needed = len(places) - limit  # the place of this number in the order of ends is the one that counts
    return (ends[needed] - now).total_seconds() if needed < len(ends) else None
