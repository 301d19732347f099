"""What every backend checks before it looks at its data, and the contract's errors in one wording.

Backends differ in where they keep things. What they accept and how they refuse must not differ, so it is
here once.
"""

from __future__ import annotations

from collections.abc import Sequence

from steersman.kernel.bounds import at_most, within
from steersman.kernel.errors import InvalidInput, TooMany
from steersman.store.api import (
    COMMIT_CONDITIONS_MAX,
    COMMIT_MAX_BYTES,
    COMMIT_WRITES_MAX,
    KEY_MAX_CHARS,
    LEASE_KEYS_MAX,
    LEASE_TTL_MAX_S,
    LEASE_TTL_MIN_S,
    LEASES_MAX,
    PAGE_MAX,
    VALUE_MAX_BYTES,
    Check,
    Compacted,
    Condition,
    Conflict,
    FutureRevision,
    LeaseExpired,
    Put,
    StoreClosed,
    Write,
)

US_PER_S = 1_000_000
_LAST_CHAR = 0x10FFFF


def check_key(key: str) -> None:
    """Refuse a key that is empty, too long, or that not every backend could keep."""
    if not key:
        raise InvalidInput("a key is empty; expected at least one character")
    if len(key) > KEY_MAX_CHARS:
        at_most(f"the key {key[:40]!r}...", len(key), KEY_MAX_CHARS, "characters")
    check_text("key", key)


def check_text(what: str, text: str) -> None:
    """Refuse NUL (it ends a string in C) and lone surrogates (they have no UTF-8)."""
    if "\0" in text:
        raise InvalidInput(f"the {what} {text[:40]!r} holds a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"the {what} {text[:40]!r} holds half a surrogate pair") from None


def _is_plain(key: str) -> bool:
    """Whether a key is of the usual kind, which needs no closer look: this is on the way of every commit."""
    return key.isascii() and 0 < len(key) <= KEY_MAX_CHARS and "\0" not in key


def check_commit(conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
    """Refuse a commit that breaks a rule; its size in bytes, keys and values together."""
    if len(conditions) > COMMIT_CONDITIONS_MAX:
        at_most("a commit", len(conditions), COMMIT_CONDITIONS_MAX, "conditions")
    if len(writes) > COMMIT_WRITES_MAX:
        at_most("a commit", len(writes), COMMIT_WRITES_MAX, "writes")
    for condition in conditions:
        if isinstance(condition, Check):
            if not _is_plain(condition.key):
                check_key(condition.key)
            if condition.version < 0:
                raise InvalidInput(f"the check of {condition.key!r} expects version {condition.version}")
    size_bytes = 0
    for write in writes:
        if not _is_plain(write.key):
            check_key(write.key)
        size_bytes += len(write.key)
        if isinstance(write, Put):
            if not isinstance(write.value, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may not be checked
                raise InvalidInput(f"the value of {write.key!r} is {type(write.value).__name__}, not bytes")
            if len(write.value) > VALUE_MAX_BYTES:
                at_most(f"the value of {write.key!r}", len(write.value), VALUE_MAX_BYTES, "bytes")
            size_bytes += len(write.value)
    if len(writes) > 1:
        seen: set[str] = set()
        for write in writes:
            if write.key in seen:
                raise InvalidInput(f"the commit writes {write.key!r} twice; expected each key once at most")
            seen.add(write.key)
    if size_bytes > COMMIT_MAX_BYTES:
        at_most("a commit", size_bytes, COMMIT_MAX_BYTES, "bytes")
    return size_bytes


def check_page(prefix: str, limit: int, after: str | None, revision: int | None) -> None:
    """Refuse a page that nobody could answer."""
    check_text("prefix", prefix)
    if after is not None:
        check_text("place to go on after", after)
    if revision is not None:
        check_revision(revision)
    within("limit", limit, 1, PAGE_MAX)


def check_revision(revision: int) -> None:
    """Refuse a revision that no store ever has."""
    if revision < 0:
        raise InvalidInput(f"revision {revision} is negative; expected 0 or more")


def check_ttl_us(ttl_s: float) -> int:
    """The time to live in whole microseconds, the unit in which backends count."""
    return round(within("ttl_s", ttl_s, LEASE_TTL_MIN_S, LEASE_TTL_MAX_S) * US_PER_S)


def prefix_end(prefix: str) -> str | None:
    """The first string behind all that start with `prefix`; None where there is none.

    Strings compare by code point, which is also the order of their UTF-8 bytes.
    """
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if code > _LAST_CHAR:
            continue
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000  # surrogates are no characters
        return prefix[: end - 1] + chr(code)
    return None


def conflict(key: str, expected: int, current: int) -> Conflict:
    """A check that failed."""
    now = f"is at version {current}" if current else "does not exist"
    wanted = f"version {expected}" if expected else "no such key"
    return Conflict(
        f"{key!r} {now}; the commit expected {wanted}: read it again and decide anew",
        key=key,
        expected=expected,
        current=current,
    )


def compacted(asked: int, oldest: int) -> Compacted:
    """History that is gone. `oldest` is the oldest revision that can still be read."""
    return Compacted(
        f"history at revision {asked} is gone, the oldest kept is {oldest}: list again, and watch from there",
        compacted=oldest,
    )


def future_revision(asked: int, revision: int) -> FutureRevision:
    """A revision that was never given."""
    return FutureRevision(
        f"revision {asked} was not reached yet, the store is at {revision}: it is another store's number, or "
        "the store was restored from an older copy; list again",
        revision=revision,
    )


def lease_expired(lease: str) -> LeaseExpired:
    """A lease that is not alive."""
    return LeaseExpired(f"lease {lease!r} is not alive: take a new one and read again", lease=lease)


def leases_full() -> TooMany:
    """As many leases as there may be."""
    return TooMany(f"{LEASES_MAX} leases are alive, which is the bound: revoke some", limit=LEASES_MAX)


def lease_keys_full(lease: str) -> TooMany:
    """As many keys on one lease as may hang there."""
    return TooMany(
        f"{LEASE_KEYS_MAX} keys hang on lease {lease!r}, which is the bound: spread them over several leases",
        limit=LEASE_KEYS_MAX,
    )


def closed(what: str) -> StoreClosed:
    """A call outside the store's `async with`."""
    return StoreClosed(f"{what} is closed (or not open yet): nothing was read or written", outcome="not_done")
