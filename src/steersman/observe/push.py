"""Push: fragments that others send, judged one by one.

A body is a JSON array or newline-delimited JSON. Every fragment in it gets a verdict; a bad one (no JSON, an
unknown entity type, a value of the wrong type, a time from the future) never loses the good ones, and its
error names its place, the field, and what was expected. Fragments are merged in slices between which the
event loop serves others, so the largest body does not hold up anybody.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from steersman.kernel.bounds import MIB
from steersman.kernel.clock import Clock
from steersman.kernel.errors import SteersmanError, TooLarge
from steersman.kernel.nearest import did_you_mean
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment
from steersman.observe.inlet import SLICE_MAX, Inlet, Refusal, cleaned
from steersman.observe.split import PushMalformed, split_array
from steersman.state.outcome import REFUSED, STALE

BODY_MAX_BYTES = 8 * MIB
LINE_MAX_BYTES = MIB
"""One fragment of 256 fields and 64 labels with long texts stays under it."""
ITEMS_MAX = 250_000
"""More can't be in a body of the default size; it bounds the answer."""
RAW_SHOWN_MAX_CHARS = 60

INVALID = "invalid"
ITEM, LINE = "item", "line"
"""What errors call an item of a body, by its form."""
Results = Literal["all", "errors"]

_decode_item = msgspec.json.Decoder(StateFragment).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode
_UNKNOWN_KEY = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_PATH = re.compile(r" - at `\$(?P<path>.*)`$")
_BYTE = re.compile(r"\(byte (\d+)\)")


class PushError(Struct, frozen=True, gc=False):
    """Why a fragment was not taken: a code for programs, a sentence for people."""

    code: str
    detail: str


class PushResult(Struct, frozen=True, gc=False):
    """What became of the item at `index` (from 0): created, merged, partial, stale or invalid."""

    index: int
    verdict: str
    error: PushError | None = None


class PushAnswer(Struct, frozen=True):
    """The answer to a push. `accepted` counts created, merged and partial."""

    accepted: int
    stale: int
    invalid: int
    results: list[PushResult]


class Push:
    """Takes pushes in. One for a process; its methods may run side by side."""

    def __init__(
        self,
        inlet: Inlet,
        clock: Clock,
        *,
        body_max_bytes: int = BODY_MAX_BYTES,
        line_max_bytes: int = LINE_MAX_BYTES,
        items_max: int = ITEMS_MAX,
    ) -> None:
        self._inlet = inlet
        self._clock = clock
        self._bounds = _Bounds(body_max_bytes, line_max_bytes, items_max)

    async def take_array(self, body: bytes, *, results: Results = "all") -> PushAnswer:
        """A JSON array of fragments. Raises `TooLarge`, `PushMalformed` (nothing was taken then)."""
        if len(body) > self._bounds.body_bytes:
            raise _too_large(self._bounds.body_bytes)
        tray = _Tray(self._inlet, ITEM, results, self._bounds)
        try:
            items = _decode_array(body)
        except (
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
        ) as error:  # ValidationError is one: no array
            await self._take_malformed(body, tray, error)
            return tray.answer()
        if len(items) > self._bounds.items:
            raise _too_many(self._bounds.items)
        for start in range(0, len(items), SLICE_MAX):
            tray.put(items[start : start + SLICE_MAX])
            await self._clock.sleep(0)  # others first
        return tray.answer()

    async def take_lines(self, chunks: AsyncIterable[bytes], *, results: Results = "all") -> PushAnswer:
        """Newline-delimited JSON, taken in as it comes. Blank lines do not count.

        Raises `TooLarge` at the bound of the body or its items; what came before is taken in by then, and
        the error's `facts` say how much: `accepted`, `stale`, `invalid`.
        """
        tray = _Tray(self._inlet, LINE, results, self._bounds)
        try:
            async for lines in self._lines(chunks):
                for start in range(0, len(lines), SLICE_MAX):
                    tray.put(lines[start : start + SLICE_MAX])
                    await self._clock.sleep(0)
        except TooLarge as error:
            answer = tray.answer()
            error.facts |= {"accepted": answer.accepted, "stale": answer.stale, "invalid": answer.invalid}
            raise
        return tray.answer()

    async def _take_malformed(self, body: bytes, tray: _Tray, cause: Exception) -> None:
        """A body that is no JSON array: item by item, if its items can be told apart at all."""
        texts: list[bytes] = []
        try:
            for text in split_array(body):
                if text is None:
                    await self._clock.sleep(0)
                elif len(texts) >= self._bounds.items:
                    raise _too_many(self._bounds.items)
                else:
                    texts.append(text)
        except PushMalformed as error:
            if isinstance(cause, msgspec.ValidationError):
                raise
            byte = _BYTE.search(str(cause))
            facts = error.facts | ({"byte": int(byte[1])} if byte is not None else {})
            raise PushMalformed(f"{error.detail} ({_said(cause)})", **facts) from None
        for start in range(0, len(texts), SLICE_MAX):  # only now: a body that can't be cut is refused whole
            tray.put(texts[start : start + SLICE_MAX])
            await self._clock.sleep(0)

    async def _lines(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[list[bytes | None]]:
        """The lines of a stream without their ends, those of a chunk together; None for one that is too long,
        which is not kept."""
        size = 0
        held: list[bytes] = []  # the beginning of a line whose end has not come
        held_bytes = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._bounds.body_bytes:
                raise _too_large(self._bounds.body_bytes)
            first, *others = chunk.split(b"\n")
            held_bytes += len(first)
            if held_bytes <= self._bounds.line_bytes:
                held.append(first)
            else:
                held = []
            if not others:
                continue
            *ends, rest = others
            lines = [self._line(held, held_bytes)]
            lines += [end if len(end) <= self._bounds.line_bytes else None for end in ends]
            held, held_bytes = [rest], len(rest)
            yield lines
        if held_bytes:
            yield [self._line(held, held_bytes)]

    def _line(self, parts: list[bytes], size: int) -> bytes | None:
        if size > self._bounds.line_bytes:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _Bounds(Struct, frozen=True):
    body_bytes: int
    line_bytes: int
    items: int


class _Tray:
    """Items of one push on their way in: decoded, held to their types, merged a slice at a time."""

    def __init__(self, inlet: Inlet, word: str, results: Results, bounds: _Bounds) -> None:
        self._inlet = inlet
        self._word = word
        self._all = results == "all"
        self._bounds = bounds
        self._count = 0
        self._blank = 0
        self._accepted = self._stale = self._invalid = 0
        self._results: list[PushResult] = []

    def put(self, texts: Sequence[bytes | None]) -> None:
        """Take a slice of items in: decode and judge each, merge the good ones.

        None stands for a line that was too long; a blank line is no item. Raises `TooLarge` at the bound on
        items; those before it are in.
        """
        ready: list[StateFragment] = []
        places: list[tuple[int, int]] = []
        is_observed = self._inlet.is_observed
        try:
            for text in texts:
                if self._word == LINE and text is not None and _is_blank(text):
                    self._blank += 1
                    continue
                if self._count >= self._bounds.items:
                    raise _too_many(self._bounds.items)
                if text is None:
                    self._refuse_next("too_large", f"longer than {self._bounds.line_bytes} bytes")
                    continue
                try:
                    clean = cleaned(_decode_item(text), self._inlet.surprised)
                except (msgspec.DecodeError, UnicodeDecodeError, SteersmanError, RecursionError) as error:
                    self._refuse_next(*_explained(error, bytes(text)))
                    continue
                if isinstance(clean, Refusal):
                    self._refuse_next("fragment_invalid", "; ".join(clean.problems))
                elif is_observed(clean.source):
                    self._refuse_next("source_reserved", _RESERVED.format(clean.source))
                else:
                    ready.append(clean)
                    places.append((self._count, self._blank))
                    self._count += 1
        finally:
            self._merge(ready, places)

    def answer(self) -> PushAnswer:
        """The verdicts, in the order of the items."""
        self._results.sort(key=_index)
        return PushAnswer(self._accepted, self._stale, self._invalid, self._results)

    def _refuse_next(self, code: str, detail: str) -> None:
        self._refuse(self._count, self._blank, code, detail)
        self._count += 1

    def _refuse(self, index: int, blank: int, code: str, detail: str) -> None:
        self._invalid += 1
        # Items count from 0 like their index, lines from 1 as in any editor.
        number = index + blank + 1 if self._word == LINE else index
        self._results.append(PushResult(index, INVALID, PushError(code, f"{self._word} {number}: {detail}")))

    def _merge(self, ready: list[StateFragment], places: list[tuple[int, int]]) -> None:
        for (index, blank), outcome in zip(places, self._inlet.take(ready), strict=True):
            verdict = outcome.verdict
            if verdict == REFUSED and outcome.error is not None:
                self._refuse(index, blank, outcome.error.code, outcome.error.detail)
                continue
            if verdict == STALE:
                self._stale += 1
            else:
                self._accepted += 1
            if self._all:
                self._results.append(PushResult(index, verdict))


def _is_blank(text: bytes) -> bool:
    return not text or text.isspace()


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit} bytes; send it in parts", limit=limit)


def _too_many(limit: int) -> TooLarge:
    return TooLarge(f"more than {limit} fragments in one push; send it in parts", limit=limit)


def _index(result: PushResult) -> int:
    return result.index


_RESERVED = "source: {!r} is observed by this server itself; push under another name"


def _explained(error: Exception, text: bytes) -> tuple[str, str]:
    """Code and sentence for an item that can't be decoded."""
    if isinstance(error, SteersmanError):
        return error.code, error.detail
    if isinstance(error, RecursionError):
        return "item_malformed", "nested deeper than anything that can be read"
    if isinstance(error, UnicodeDecodeError):  # msgspec checks a text only where it is read into a str
        return "item_malformed", f"not UTF-8: a text in it can't be decoded: {_shown(text)}"
    said = _said(error)
    if not isinstance(error, msgspec.ValidationError):
        if not text:
            return "item_malformed", "nothing between two commas"
        if re.search(rb"\b(NaN|-?Infinity)\b", text):
            return (
                "item_malformed",
                "NaN and Infinity are not JSON: leave the field out where it has no value",
            )
        return "item_malformed", f"{said}: {_shown(text)}"
    unknown = _UNKNOWN_KEY.fullmatch(said)
    if unknown is not None:
        return "item_invalid", _unknown_key(unknown["key"])
    match = _PATH.search(said)
    if match is None:
        return "item_invalid", said
    path, reason = match["path"].lstrip("."), said[: match.start()]
    if path == "entity_type" and reason.startswith("Invalid enum value"):
        word = reason.removeprefix("Invalid enum value").strip(" '")
        names = [kind.value for kind in EntityType]
        return (
            "item_invalid",
            f"entity_type: {word!r} is no entity type{did_you_mean(word, names)}; one of {', '.join(names)}",
        )
    if reason == "Invalid RFC3339 encoded datetime":
        reason = "expected a time as in 2026-01-31T12:00:00Z (RFC 3339)"
    return "item_invalid", f"{path}: {reason[:1].lower()}{reason[1:]}" if path else reason


def _unknown_key(key: str) -> str:
    """A key that a fragment does not have: dropped in silence, a typing error would lose what it holds."""
    if key in ("scope", SCOPE_LABEL):
        return f"{key}: unknown key; an entity's scope is its label {SCOPE_LABEL!r}"
    keys = StateFragment.__struct_fields__
    return f"{key}: unknown key{did_you_mean(key, keys)}; expected one of {', '.join(keys)}"


def _shown(text: bytes) -> str:
    """The beginning of an item that can't be read."""
    more = "..." if len(text) > RAW_SHOWN_MAX_CHARS else ""
    return text[:RAW_SHOWN_MAX_CHARS].decode(errors="replace") + more


def _said(error: Exception) -> str:
    return str(error).removesuffix(" - at `$`")
