"""Calls of the API as data: how each is asked and how its answer is read. No socket in here.

Both clients, the synchronous and the asynchronous one, run these same calls; so a route is described once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct, field

from steersman.client import shapes
from steersman.client.errors import UNREADABLE, BadAnswer, error_of
from steersman.kernel.clock import iso_utc
from steersman.kernel.errors import InvalidInput
from steersman.kinds.drift import DriftList
from steersman.kinds.entity import ENTITY_CLASSES, CanonicalEntity, EntityType, HealthState
from steersman.kinds.explanation import EntityAt, EntityHistory, Explanation, SourceStatus
from steersman.kinds.fragment import StateFragment
from steersman.kinds.managed import read_managed

T = TypeVar("T")

API = "/api/v1"
PAGE_DEFAULT = 1000
ANSWER_TIMEOUT_S = 30.0
PATH_MAX_CHARS = 16 * 1024
"""The longest address that a server reads."""
EVENTS = "text/event-stream"
RECORDING = "application/vnd.steersman.recording"
PUSH_BATCH_MAX_BYTES = 4 * 1024 * 1024
"""A push is cut into requests of this size: half of what a server takes by default."""


class Call(Struct, Generic[T]):
    """One request. `read` makes the result from the answer's body; `repeatable`: asking twice is harmless;
    `media_type`: what the answer must be, of a stream."""

    method: str
    path: str
    read: Callable[[bytes], T]
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    timeout_s: float = ANSWER_TIMEOUT_S
    repeatable: bool = True
    media_type: str = ""


class Page(Struct, frozen=True):
    """One page of entities; `cursor` continues, None ends."""

    items: list[CanonicalEntity]
    cursor: str | None
    revision: int


class _RawPage(Struct):
    items: list[msgspec.Raw]
    cursor: str | None = None
    revision: int = 0


class _Typed(Struct):
    entity_type: EntityType


class _Items(Struct, Generic[T]):
    items: list[T]


_typed = msgspec.json.Decoder(_Typed)
_by_type = {kind: msgspec.json.Decoder(cls) for kind, cls in ENTITY_CLASSES.items()}


def check(status: int, body: bytes) -> bytes:
    """The body of a good answer; raises the error that a bad one tells of."""
    if 200 <= status < 300:
        return body
    raise error_of(status, body)


def entities(
    kinds: Iterable[EntityType] = (),
    *,
    healths: Iterable[HealthState] = (),
    scope: str | None = None,
    labels: Mapping[str, str] | None = None,
    fields: Iterable[str] = (),
    search: str = "",
    limit: int = PAGE_DEFAULT,
    cursor: str | None = None,
) -> Call[Page]:
    """One page of the list."""
    query: list[tuple[str, str]] = [("type", kind.value) for kind in kinds]
    query += [("health", health.value) for health in healths]
    query += [("label", f"{name}={value}") for name, value in (labels or {}).items()]
    query += [("field", text) for text in fields]
    query += [("limit", str(limit))]
    if scope is not None:
        query.append(("scope", scope))
    if search:
        query.append(("q", search))
    if cursor:
        query.append(("cursor", cursor))
    return Call("GET", path_of("entities", query=query), _read_page)


class Pager(Struct):
    """Walks a list page by page: `next` gives the call for the next page, `take` its entities."""

    kinds: tuple[EntityType, ...]
    healths: tuple[HealthState, ...]
    scope: str | None
    labels: dict[str, str]
    fields: tuple[str, ...]
    search: str
    limit: int
    cursor: str | None = None
    ended: bool = False

    def next(self) -> Call[Page] | None:
        """The call for the next page; None behind the last one."""
        if self.ended:
            return None
        return entities(
            self.kinds,
            healths=self.healths,
            scope=self.scope,
            labels=self.labels,
            fields=self.fields,
            search=self.search,
            limit=self.limit,
            cursor=self.cursor,
        )

    def take(self, page: Page) -> list[CanonicalEntity]:
        """The page's entities."""
        self.cursor = page.cursor
        self.ended = page.cursor is None
        return page.items


def entity(kind: EntityType, entity_id: str, scope: str | None = None) -> Call[CanonicalEntity]:
    """One entity."""
    return Call("GET", _entity_path(kind, entity_id, scope), read_entity)


def explain(kind: EntityType, entity_id: str, scope: str | None = None) -> Call[Explanation]:
    """Where an entity's values come from."""
    return Call("GET", _entity_path(kind, entity_id, scope, "explain"), read_answer(Explanation))


def history(kind: EntityType, entity_id: str, scope: str | None = None) -> Call[EntityHistory]:
    """How an entity was lately."""
    return Call("GET", _entity_path(kind, entity_id, scope, "history"), read_answer(EntityHistory))


def entity_at(kind: EntityType, entity_id: str, time: datetime, scope: str | None = None) -> Call[EntityAt]:
    """How an entity looked at a moment."""
    query = [("time", iso_utc(time)), *([("scope", scope)] if scope is not None else [])]
    return Call("GET", path_of("entities", kind.value, entity_id, "at", query=query), read_answer(EntityAt))


def push(lines: Sequence[bytes]) -> Call[shapes.PushAnswer]:
    """Fragments, each encoded as JSON. Repeating a push is safe: the bus knows what it has been told."""
    return Call(
        "POST",
        path_of("fragments"),
        read_answer(shapes.PushAnswer),
        body=b"\n".join(lines) + b"\n",
        headers={"content-type": "application/x-ndjson"},
    )


def batches(fragments: Iterable[StateFragment | Mapping[str, Any]]) -> Iterable[list[bytes]]:
    """Fragments encoded and cut into pushes that a server takes. Raises `InvalidInput` where JSON can't
    hold one; what came before it may have been pushed."""
    lines: list[bytes] = []
    size = 0
    for index, fragment in enumerate(fragments):
        try:
            line = msgspec.json.encode(fragment)
        except (TypeError, UnicodeEncodeError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise InvalidInput(f"fragment {index} can't be written as JSON: {error}") from error
        if lines and size + len(line) + 1 > PUSH_BATCH_MAX_BYTES:
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield lines


def together(answers: Sequence[shapes.PushAnswer]) -> shapes.PushAnswer:
    """Answers of the parts of one push as one, with indexes that count through."""
    results: list[shapes.PushResult] = []
    offset = 0
    for answer in answers:
        results += [msgspec.structs.replace(one, index=one.index + offset) for one in answer.results]
        offset += answer.accepted + answer.stale + answer.invalid
    return shapes.PushAnswer(
        accepted=sum(answer.accepted for answer in answers),
        stale=sum(answer.stale for answer in answers),
        invalid=sum(answer.invalid for answer in answers),
        results=tuple(results),
    )


def sources() -> Call[list[SourceStatus]]:
    """Sources and how they do."""
    return Call("GET", path_of("sources"), _items(SourceStatus))


def drift() -> Call[DriftList]:
    """What sources said that the server does not know."""
    return Call("GET", path_of("drift"), read_answer(DriftList))


def status() -> Call[shapes.Status]:
    """The server about itself."""
    return Call("GET", path_of("status"), read_answer(shapes.Status))


def whoami() -> Call[shapes.WhoAmI]:
    """The caller."""
    return Call("GET", path_of("whoami"), read_answer(shapes.WhoAmI))


def tokens() -> Call[list[shapes.TokenInfo]]:
    """All tokens."""
    return Call("GET", path_of("tokens"), _items(shapes.TokenInfo))


def create_token(name: str, role: str, ttl_s: float | None) -> Call[shapes.IssuedToken]:
    """Make a token. Not repeated by itself: each time would make another one."""
    return Call(
        "POST",
        path_of("tokens"),
        read_answer(shapes.IssuedToken),
        body=msgspec.json.encode({"name": name, "role": role, "ttl_s": ttl_s}),
        headers={"content-type": "application/json"},
        repeatable=False,
    )


def revoke_token(token_id: str) -> Call[None]:
    """Revoke a token. Not repeated by itself: the second time it would not be found."""
    return Call("DELETE", path_of("tokens", token_id), _nothing, repeatable=False)


def watch(kinds: Iterable[EntityType], after: int | None) -> Call[None]:
    """The event stream; its body is read by `watching.WatchSession`."""
    query = [("kinds", kind.value) for kind in kinds] + [("resources", "none")]
    return _stream(query, None if after is None else str(after))


def watch_resources(kinds: Iterable[str], after: str | None) -> Call[None]:
    """The event stream of resources alone, of these kinds; of all without any."""
    asked = list(kinds) or ["all"]
    return _stream([("kinds", "none"), *[("resources", kind) for kind in asked]], after)


def _stream(query: list[tuple[str, str]], after: str | None) -> Call[None]:
    headers = {"accept": EVENTS, "accept-encoding": "identity", "cache-control": "no-store"}
    if after is not None:
        headers["last-event-id"] = after
    return Call("GET", path_of("watch", query=query), _nothing, headers=headers, media_type=EVENTS)


def recording(limit_s: float | None = None) -> Call[None]:
    """The stream of a recording's bytes; it ends by itself, whole, after `limit_s`."""
    query = [("seconds", f"{limit_s:g}")] if limit_s is not None else []
    headers = {"accept": RECORDING, "accept-encoding": "identity"}
    return Call("GET", path_of("recording", query=query), _nothing, headers=headers, media_type=RECORDING)


def read_entity(body: bytes | msgspec.Raw) -> CanonicalEntity:
    """An entity as the class of its type. Raises `BadAnswer`."""
    try:
        return _by_type[_typed.decode(body).entity_type].decode(body)
    except UNREADABLE as error:
        raise BadAnswer(f"an entity in the answer can't be read: {error}") from None


def _read_page(body: bytes) -> Page:
    raw = read_answer(_RawPage)(body)
    return Page([read_entity(item) for item in raw.items], raw.cursor, raw.revision)


def read_answer(kind: type[T]) -> Callable[[bytes], T]:
    """What reads an answer as `kind`, resources within it too; it raises `BadAnswer`."""
    decoder = msgspec.json.Decoder(kind, dec_hook=read_managed)

    def read(body: bytes) -> T:
        try:
            return decoder.decode(body)
        except (*UNREADABLE, ValueError) as error:
            raise BadAnswer(f"the answer is not what this client expects: {error}") from None

    return read


def _items(kind: type[T]) -> Callable[[bytes], list[T]]:
    read = read_answer(_Items[kind])  # pyright: ignore[reportInvalidTypeArguments] - a type as a value
    return lambda body: read(body).items


def _nothing(_body: bytes) -> None:
    return None


def path_of(*parts: str, query: Sequence[tuple[str, str]] = ()) -> str:
    """An address of the API. Raises `InvalidInput`."""
    try:
        path = "/".join((API, *map(_segment, parts)))
        path = f"{path}?{urlencode(query)}" if query else path
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a name holds what is no text: {error.reason}") from error
    if len(path) > PATH_MAX_CHARS:
        raise InvalidInput(f"names and filters take more than {PATH_MAX_CHARS} characters; ask in parts")
    return path


def _segment(text: str) -> str:
    # The HTTP library would take bare dots for a way up, and ask for another path.
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def _entity_path(kind: EntityType, entity_id: str, scope: str | None, *more: str) -> str:
    query = [("scope", scope)] if scope is not None else []
    return path_of("entities", kind.value, entity_id, *more, query=query)
