"""Reads: one object, and lists by page, each of them the state at one version."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec
from msgspec import Struct

from steersman.drivers.kubernetes.fake.asked import Asked
from steersman.drivers.kubernetes.fake.refusal import Refusal, expired, not_found
from steersman.drivers.kubernetes.fake.storage import Storage
from steersman.drivers.kubernetes.fake.tree import Object


class _Token(Struct, frozen=True, array_like=True):
    """Where a list goes on: the version of its first page (0: the newest), and the last key told."""

    version: int
    after: tuple[str, str]


def read_one(storage: Storage, asked: Asked, lag: int) -> Object:
    """An object: the newest state, but where any will do (`resourceVersion=0`) one that lags behind."""
    plural = asked.kind.resource.plural
    version = storage.version
    if asked.version() == 0:
        version = max(storage.oldest, version - lag)
    found = storage.snapshot(plural, version).get(asked.key) if lag else storage.get(plural, asked.key)
    if found is None:
        raise not_found(plural, asked.kind.resource.group, asked.name)
    return found


def read_list(storage: Storage, asked: Asked, lag: int) -> Object:
    """A list, or a page of one. Raises `Refusal`: 400, 410 where the state of the first page is no longer
    known; then the status has a token with which the rest is read as it is now."""
    limit = _limit(asked)
    token = asked.query.get("continue", "")
    after: tuple[str, str] = ("", "")
    if token:
        if asked.query.get("resourceVersion"):
            raise Refusal("BadRequest", "specifying resource version is not allowed when using continue")
        at = _read_token(token)
        after = at.after
        version = at.version or storage.version
        if version < storage.oldest:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You can "
                "start a new list without the continue parameter, or use the continue token in this "
                "response to retrieve the remainder of the results.",
                _token(0, after),
            )
    else:
        version = _version(storage, asked, limit, lag)
    chosen = asked.chosen()
    things = storage.snapshot(asked.kind.resource.plural, version)
    keys = sorted(key for key, thing in things.items() if (not token or key > after) and chosen(thing))
    page = keys[:limit] if limit else keys
    meta: Object = {"resourceVersion": str(version)}
    if len(page) < len(keys):
        meta["continue"] = _token(version, page[-1])
        if not asked.query.get("labelSelector") and not asked.query.get("fieldSelector"):
            meta["remainingItemCount"] = len(keys) - len(page)
    return {
        "kind": f"{asked.kind.kind}List",
        "apiVersion": asked.kind.api_version,
        "metadata": meta,
        "items": [things[key] for key in page],
    }


def _version(storage: Storage, asked: Asked, limit: int, lag: int) -> int:
    """The version of the state to tell: see "Resource versions" of the API's concepts."""
    given, match = asked.version(), asked.query.get("resourceVersionMatch", "")
    if match and given is None:
        raise Refusal(
            "Invalid", "resourceVersionMatch: Forbidden: may not be set unless resourceVersion is provided"
        )
    if match not in ("", "Exact", "NotOlderThan"):
        raise Refusal("Invalid", f'resourceVersionMatch: Unsupported value: "{match}"')
    if given is None:
        return storage.version
    if given == 0:
        if match == "Exact":
            raise Refusal(
                "Invalid", 'resourceVersionMatch: Forbidden: "Exact" is forbidden for resourceVersion "0"'
            )
        return max(storage.oldest, storage.version - lag)
    if match == "Exact" or (not match and limit):
        return given
    if given > storage.version:
        storage.snapshot(asked.kind.resource.plural, given)  # refuses it
    return max(given, storage.oldest, storage.version - lag)


def _limit(asked: Asked) -> int:
    text = asked.query.get("limit", "")
    if text and not text.isdigit():
        raise Refusal("BadRequest", f'limit: Invalid value: "{text}"')
    return int(text or 0)


def _token(version: int, after: tuple[str, str]) -> str:
    return urlsafe_b64encode(msgspec.json.encode(_Token(version, after))).decode().rstrip("=")


def _read_token(text: str) -> _Token:
    try:
        return msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Token)
    except (ValueError, msgspec.MsgspecError):
        raise Refusal("BadRequest", "continue key is not valid") from None
