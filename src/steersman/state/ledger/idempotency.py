"""Answers that are kept: the same key and request give the same answer, also after a restart.

The answer is written in the commit that it answers for, on the condition that none is there yet: of two first
uses at once one is executed, and the other finds its answer. Answers hang on a store lease that many share.
So expiry costs one deletion for thousands of them, and nobody has to look for what is old; and only time in
which the store is open counts, so a plane that was down overnight still knows what it answered before.
Refusals are not kept: they changed nothing, and asking again may fare better.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import msgspec
from msgspec import Struct

from steersman.kernel.clock import Clock, iso_utc
from steersman.kinds.command import HistoryEntry, Terms, Written
from steersman.kinds.refusal import IdempotencyMismatch
from steersman.kinds.state import ResourceRef
from steersman.state.ledger.rows import canonical, damaged, decode_state, sha256
from steersman.store.api import LEASE_KEYS_MAX, LEASE_TTL_MAX_S, Lease, Record, Store

LEASE_S = LEASE_TTL_MAX_S
ANSWER_KEPT_S = LEASE_S / 2
"""An answer is kept at least this long (12 h), and at most twice as long."""
ANSWERS_PER_LEASE = LEASE_KEYS_MAX // 4
"""A lease is full at this many: they all are deleted in one commit."""


class Answer(Struct, frozen=True, kw_only=True):
    """A kept answer, as stored. Its revision is its record's: they were written in one commit."""

    fingerprint: str
    at: datetime
    unchanged: bool = False
    state: msgspec.Raw
    entry: HistoryEntry


_DECODER = msgspec.json.Decoder(Answer)


def fingerprint(method: str, ref: ResourceRef, body: object, terms: Terms) -> str:
    """What makes two requests the same: what is asked, of what, and why.

    Not part of it: `expected_version`, `fence`, `facts` and `draws`. They say under which circumstances it
    may happen, and an asker that repeats itself after a restart may have read them anew.
    """
    said = (terms.reason, terms.cause, terms.operation, terms.evidence, terms.approvals, terms.acting)
    return sha256(canonical((method, ref.kind, ref.id, body, said)))


def encode_answer(printed: str, at: datetime, state: bytes, entry: HistoryEntry, unchanged: bool) -> bytes:
    """An answer as it is stored."""
    answer = Answer(fingerprint=printed, at=at, state=msgspec.Raw(state), entry=entry, unchanged=unchanged)
    return canonical(answer)


def replay(record: Record, printed: str, key: str) -> Written:
    """The kept answer. Raises `IdempotencyMismatch` where it is one to another request."""
    try:
        answer = _DECODER.decode(record.value)
        if answer.fingerprint == printed:
            state = decode_state(answer.entry.kind, answer.state)
            return Written(state, answer.entry, record.revision, replayed=True, unchanged=answer.unchanged)
    except msgspec.MsgspecError as error:
        raise damaged(record.key, str(error)) from None
    raise IdempotencyMismatch(
        f"idempotency key {key[:80]!r} was used for another request at {iso_utc(answer.at)};"
        " a new request needs a new key",
        idempotency_key=key,
        first_used_at=iso_utc(answer.at),
    )


class AnswerLeases:
    """The lease that new answers hang on; a new one when `answers_max` hang on it or half its time has
    passed."""

    def __init__(self, store: Store, clock: Clock, *, answers_max: int = ANSWERS_PER_LEASE) -> None:
        self._store = store
        self._clock = clock
        self._answers_max = answers_max
        self._lease: Lease | None = None
        self._since_s = 0.0
        self._used = 0
        self._turn = asyncio.Lock()

    async def next(self) -> str:
        """The id of a lease that the next answer can hang on."""
        async with self._turn:
            if self._lease is None or self._is_used_up():
                self._lease = await self._store.lease(LEASE_S)
                self._since_s = self._clock.monotonic()
                self._used = 0
            self._used += 1
            return self._lease.id

    def drop(self, lease: str) -> None:
        """Take no more of a lease that turned out to be dead."""
        if self._lease is not None and self._lease.id == lease:
            self._lease = None

    def _is_used_up(self) -> bool:
        old = self._clock.monotonic() - self._since_s >= LEASE_S - ANSWER_KEPT_S
        return old or self._used >= self._answers_max
