"""Where the Ledger keeps things: the keys of resources, history, outbox and what goes with them.

Anybody may build a key, to read or to watch. Writing under these prefixes is the Ledger's alone: its one
commit is in `commit`, and `guard` refuses it to all other rooms.

Names of people's making (ids, actors, idempotency keys, budgets) are percent-encoded, so that a slash or a
newline in one can't reach into another's keys.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote

from steersman.kinds.state import RefInvalid, ResourceRef

RESOURCES = "resources/"
HISTORY = "history/"
GRAVES = "graves/"
OUTBOX = "outbox/"
IDEMPOTENCY = "idempotency/"
BUDGETS = "budgets/"
RESERVED = (RESOURCES, HISTORY, GRAVES, OUTBOX, IDEMPOTENCY, BUDGETS)
"""All that only the Ledger writes."""

SEQ_DIGITS = 12
"""Digits of a sequence number in a key, so that keys sort as the numbers do."""
SEQ_MAX = 10**SEQ_DIGITS - 1
ID_MAX_CHARS = 512
"""Characters of a resource's kind and id in their encoded form."""
PART_MAX_CHARS = 384
"""Characters of another name in its encoded form; a longer one stands in the key as its hash."""
_HASHED = "~"
"""Marks a hash in a key. The encoding of a name never holds this character."""


def encode(text: str) -> str:
    """A name as one part of a key: letters, digits, `_`, `-`, `.` as they are, the rest as %XX.

    Raises `RefInvalid` where the text holds half a surrogate pair, which has no UTF-8.
    """
    if text.isascii() and text.isalnum():
        return text
    try:
        return quote(text, safe="").replace("~", "%7E")
    except UnicodeEncodeError:
        raise RefInvalid(f"{text[:40]!a} holds half a surrogate pair") from None


def decode(text: str) -> str:
    """The name that `encode` made this of."""
    return unquote(text)


def resource_key(ref: ResourceRef) -> str:
    """Where a resource is. Raises `RefInvalid`."""
    return RESOURCES + _path(ref)


def resources_prefix(kind: str | None = None) -> str:
    """What the keys of all resources, or of those of one kind, start with."""
    return RESOURCES if kind is None else f"{RESOURCES}{encode(kind)}/"


def history_prefix(ref: ResourceRef) -> str:
    """What the keys of a resource's history rows start with."""
    return f"{HISTORY}{_path(ref)}/"


def history_key(ref: ResourceRef, seq: int) -> str:
    """Where a history row is."""
    return f"{HISTORY}{_path(ref)}/{seq:0{SEQ_DIGITS}d}"


def grave_key(ref: ResourceRef) -> str:
    """Where a deleted resource's last number and hash are."""
    return GRAVES + _path(ref)


def outbox_key(ref: ResourceRef, seq: int) -> str:
    """Where the event of a history row is."""
    return f"{OUTBOX}{_path(ref)}/{seq:0{SEQ_DIGITS}d}"


def idempotency_key(actor: str, key: str) -> str:
    """Where the answer to an actor's request of that idempotency key is kept."""
    return f"{IDEMPOTENCY}{_part(actor)}/{_part(key)}"


def budget_key(name: str) -> str:
    """Where a budget's account is."""
    return BUDGETS + _part(name)


def ref_of(key: str) -> ResourceRef:
    """The resource that a key of `resources/`, `history/`, `graves/` or `outbox/` belongs to.

    Raises `RefInvalid` for any other key.
    """
    parts = key.split("/")
    if f"{parts[0]}/" not in (RESOURCES, HISTORY, GRAVES, OUTBOX) or len(parts) < 3 or not parts[2]:
        raise RefInvalid(f"{key[:80]!r} is not the key of a resource, nor of its history")
    return ResourceRef(decode(parts[1]), decode(parts[2]))


def seq_of(key: str) -> int | None:
    """The sequence number that a history row's or an event's key ends with; None where it has none."""
    last = key.rpartition("/")[2]
    return int(last) if last.isascii() and last.isdigit() else None


def _part(text: str) -> str:
    """A name as a part of a key that nobody reads back: encoded, or hashed where it is long."""
    encoded = encode(text)
    if len(encoded) <= PART_MAX_CHARS:
        return encoded
    return _HASHED + hashlib.sha256(text.encode()).hexdigest()


def _path(ref: ResourceRef) -> str:
    if not ref.kind or not ref.id:
        raise RefInvalid("a reference to a resource has a kind and an id, neither of them empty")
    path = f"{encode(ref.kind)}/{encode(ref.id)}"
    if len(path) > ID_MAX_CHARS:
        raise RefInvalid(
            f"{ref.kind}/{ref.id[:40]}... has {len(path)} characters in its encoded form;"
            f" at most {ID_MAX_CHARS} are accepted",
            limit=ID_MAX_CHARS,
        )
    return path
