"""Tokens: made, kept hashed, checked, revoked. Who a caller is follows from the token alone.

A token reads `stm_<id>_<secret>`. The id is public and finds the record; the secret is 256 bits from the
operating system and is shown once. What is stored is its SHA-256 (decision 0017 says why that is enough).
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from steersman.api.routes import Role
from steersman.kernel.clock import Clock, as_utc
from steersman.kernel.errors import InvalidInput, NotFound, Refused, Unauthenticated
from steersman.kernel.ids import Ids, new_secret
from steersman.kernel.logging import get_logger
from steersman.store.api import Check, Compacted, Conflict, Delete, Event, FutureRevision, Put, Store

PREFIX = "auth/tokens/"
"""Where token records are in the store."""

TOKEN_WORD = "stm"  # noqa: S105 - the visible start of every token, so that scanners can find leaked ones
TOKENS_MAX = 10_000
NAME_MAX_CHARS = 128
TOKEN_MAX_CHARS = 256
LIFETIME_MAX_S = 10 * 366 * 86_400
LAST_USED_STEP_S = 3600.0
"""How exact `last_used_at` is: one small write for each token and hour at most."""
FLUSH_INTERVAL_S = 60.0
_log = get_logger("api.auth")


class TokenInvalid(Unauthenticated):
    """The token is not one of ours, was revoked, or has expired; which of these is told to nobody."""

    code = "token_invalid"
    title = "Token not accepted"


class TokenNotFound(NotFound):
    """No token has that id."""

    code = "token_not_found"
    title = "No such token"


class TooManyTokens(Refused):
    """The bound on tokens is reached. `facts`: `limit`."""

    code = "too_many_tokens"
    title = "Too many tokens"


class Caller(Struct, frozen=True):
    """Who asks. `token` is the id of the token, "" for a caller on loopback that needs none."""

    name: str
    role: str
    token: str = ""
    anonymous: bool = False

    @property
    def rank(self) -> Role:
        """The role as one can compare it."""
        return Role[self.role.upper()]


class TokenRecord(Struct, frozen=True):
    """A token as it is stored. `hash` is the SHA-256 of its secret, in hex."""

    id: str
    name: str
    role: str
    hash: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class TokenInfo(Struct, frozen=True):
    """A token as it is shown: nothing in here helps to use it."""

    id: str
    name: str
    role: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class NewToken(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for. `ttl_s`: seconds until it expires; without, it does not."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    role: Annotated[str, Meta(description="viewer, operator or admin")] = "viewer"
    ttl_s: Annotated[float, Meta(gt=0, le=LIFETIME_MAX_S)] | None = None


class IssuedToken(Struct, frozen=True):
    """A token just made. `token` is its only appearance."""

    token: str
    info: TokenInfo


class Tokens:
    """All tokens of one store, held in memory and kept in step by watching the store.

    `load` before first use; `follow` and `keep_last_used` are tasks for the supervisor.
    """

    def __init__(self, store: Store, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._records: dict[str, TokenRecord] = {}
        self._revision = 0
        self._used: dict[str, datetime] = {}
        # Revisions of our own writes that `follow` has not reached. Older news of them is past: a token that
        # was just revoked must not come back for a moment.
        self._ahead: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._records)

    async def load(self) -> None:
        """Read every token from the store."""
        records: dict[str, TokenRecord] = {}
        page = await self._store.list(PREFIX)
        while True:
            for stored in page.records:
                record = _decode(stored.value)
                if record is not None:
                    records[record.id] = record
            if page.after is None:
                break
            page = await self._store.list(PREFIX, after=page.after, revision=page.revision)
        self._records = records
        self._revision = page.revision
        self._ahead = {one: at for one, at in self._ahead.items() if at > page.revision}

    async def follow(self) -> None:
        """Take over what other processes change in the store, until cancelled."""
        while True:
            try:
                async with self._store.watch(PREFIX, self._revision) as events:
                    async for event in events:
                        self._apply(event)
            except (Compacted, FutureRevision):
                await self.load()

    async def keep_last_used(self) -> None:
        """Write down now and then when tokens were last used, until cancelled."""
        while True:
            await self._clock.sleep(FLUSH_INTERVAL_S)
            await self.flush_last_used()

    async def flush_last_used(self) -> None:
        """Write down what `authenticate` has noted. A token that changed meanwhile is left alone."""
        used, self._used = self._used, {}
        for token_id, at in used.items():
            stored = await self._store.get(PREFIX + token_id)
            record = _decode(stored.value) if stored is not None else None
            if stored is None or record is None:
                continue
            changed = msgspec.structs.replace(record, last_used_at=at)
            try:
                await self._store.commit(
                    [Check(stored.key, stored.version)], [Put(stored.key, msgspec.json.encode(changed))]
                )
            except Conflict:
                continue
            if token_id in self._records:
                self._records[token_id] = changed

    def authenticate(self, text: str) -> Caller:
        """The caller that this token makes. Raises `TokenInvalid`, always with the same words."""
        refused = TokenInvalid("the token is unknown, revoked or expired; ask an admin for a new one")
        if len(text) > TOKEN_MAX_CHARS:
            raise refused
        word, _, rest = text.partition("_")
        token_id, _, secret = rest.partition("_")
        record = self._records.get(token_id)
        # The hash is taken and compared in any case, so that a known id takes no longer than an unknown one.
        known = record.hash if record is not None else "0" * 64
        same = hmac.compare_digest(_hash(secret), known)
        now = self._clock.now()
        if record is None or not same or word != TOKEN_WORD:
            raise refused
        if _expired(record, now):
            raise refused
        last = self._used.get(token_id) or record.last_used_at
        if last is None or (now - last).total_seconds() >= LAST_USED_STEP_S:
            self._used[token_id] = now
        return Caller(name=record.name, role=record.role, token=token_id)

    def lives(self, token_id: str) -> bool:
        """Whether the token is neither revoked nor expired: what an answer without end asks as it goes on."""
        record = self._records.get(token_id)
        return record is not None and not _expired(record, self._clock.now())

    async def create(self, wish: NewToken) -> IssuedToken:
        """Make a token, durable when this returns. Raises `InvalidInput`, `TooManyTokens`."""
        role = Role.parse(wish.role)
        if role is None:
            words = [member.label for member in Role]
            raise InvalidInput(f"there is no role {wish.role[:40]!r}", allowed=words)
        if len(self._records) >= TOKENS_MAX:
            raise TooManyTokens(f"{TOKENS_MAX} tokens exist; revoke some first", limit=TOKENS_MAX)
        secret = new_secret(32)
        now = self._clock.now()
        record = TokenRecord(
            id=self._ids.new("t").replace("_", "-"),
            name=wish.name,
            role=role.label,
            hash=_hash(secret),
            created_at=now,
            expires_at=None if wish.ttl_s is None else as_utc(now + timedelta(seconds=wish.ttl_s)),
        )
        key = PREFIX + record.id
        revision = await self._store.commit([Check(key, 0)], [Put(key, msgspec.json.encode(record))])
        self._wrote(record.id, revision)
        self._records[record.id] = record
        _log.info("token_created", id=record.id, name=record.name, role=record.role)
        return IssuedToken(token=f"{TOKEN_WORD}_{record.id}_{secret}", info=_info(record))

    async def revoke(self, token_id: str) -> None:
        """End a token: it is refused from the moment this returns. Raises `TokenNotFound`."""
        if token_id not in self._records:
            raise TokenNotFound(f"there is no token {token_id[:80]!r}")
        self._wrote(token_id, await self._store.commit([], [Delete(PREFIX + token_id)]))
        self._records.pop(token_id, None)
        self._used.pop(token_id, None)
        _log.info("token_revoked", id=token_id)

    def list(self) -> list[TokenInfo]:
        """All tokens, oldest first."""
        return [_info(record) for _, record in sorted(self._records.items())]

    def _wrote(self, token_id: str, revision: int) -> None:
        if revision > self._revision:
            self._ahead[token_id] = revision

    def _apply(self, event: Event) -> None:
        self._revision = event.revision
        token_id = event.key.removeprefix(PREFIX)
        if event.revision < self._ahead.get(token_id, 0):
            return
        self._ahead.pop(token_id, None)
        record = _decode(event.record.value) if event.record is not None else None
        if record is None:
            self._records.pop(token_id, None)
            self._used.pop(token_id, None)
        else:
            self._records[token_id] = record


def _expired(record: TokenRecord, now: datetime) -> bool:
    return record.expires_at is not None and now >= record.expires_at


def _decode(value: bytes) -> TokenRecord | None:
    """A stored record; None for one we can't read, which then opens nothing."""
    try:
        return msgspec.json.decode(value, type=TokenRecord)
    except msgspec.MsgspecError:
        _log.error("token_record_unreadable")
        return None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _info(record: TokenRecord) -> TokenInfo:
    return TokenInfo(
        id=record.id,
        name=record.name,
        role=record.role,
        prefix=f"{TOKEN_WORD}_{record.id}_",
        created_at=record.created_at,
        expires_at=record.expires_at,
        last_used_at=record.last_used_at,
    )
