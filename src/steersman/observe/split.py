"""Cutting a JSON array into its items although some of them are no JSON.

Only looked at when a body is malformed: then each item is judged alone, so that one bad item does not lose
the good ones. What counts for cutting is brackets and strings; whatever else an item holds is its decoder's
to refuse. One pass, no backtracking: the time grows with the length, whatever the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from steersman.kernel.errors import InvalidInput

TOKENS_MAX = 2_000_000
"""Brackets, commas and quotes that are looked at: about a second of work, done in breaths."""
BREATH_TOKENS = 5_000
"""After so many the splitter pauses, so that the event loop can serve others."""

_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')
_SPACE = b" \t\r\n"


class PushMalformed(InvalidInput):
    """A pushed body is not what its content type says, and can't be cut into items either.

    Nothing of it was taken in. `facts`: `byte`, where known.
    """

    code = "push_malformed"
    title = "Body malformed"


def split_array(body: bytes) -> Iterator[bytes | None]:
    """The texts of the items in order, and None whenever it is time to breathe. Raises `PushMalformed`."""
    position = _skip_space(body, 0)
    if body[position : position + 1] != b"[":
        raise PushMalformed(
            "expected a JSON array of fragments; send newline-delimited JSON as application/x-ndjson",
            byte=position,
        )
    position += 1
    start, depth, tokens = position, 1, 0
    while depth:
        match = _OUTSIDE.search(body, position)
        if match is None:
            raise PushMalformed(f"the array is not closed: the body ends at byte {len(body)}", byte=len(body))
        tokens += 1
        if tokens % BREATH_TOKENS == 0:
            yield None
            if tokens > TOKENS_MAX:
                raise PushMalformed(
                    f"not JSON, and too long to find its good items (byte {position}); send it as "
                    "application/x-ndjson, where each line is judged alone",
                    byte=position,
                )
        token = match[0]
        position = match.end()
        if token == b'"':
            position, seen = _end_of_string(body, position)
            tokens += seen
        elif token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
            if not depth:
                yield from _item(body, start, position - 1, last=True)
        elif depth == 1:
            yield from _item(body, start, position - 1)
            start = position
    rest = _skip_space(body, position)
    if rest != len(body):
        raise PushMalformed(f"more follows after the end of the array, at byte {rest}", byte=rest)


def _item(body: bytes, start: int, end: int, *, last: bool = False) -> Iterator[bytes]:
    text = body[start:end].strip(_SPACE)
    # Nothing between the brackets is an empty array, not an empty item; nothing after a comma is an item.
    if text or not last or body[start - 1 : start] == b",":
        yield text


def _end_of_string(body: bytes, position: int) -> tuple[int, int]:
    """Behind the closing quote, and how many quotes and escapes were passed."""
    seen = 0
    while True:
        match = _INSIDE.search(body, position)
        if match is None:
            raise PushMalformed("a string is not closed before the end of the body", byte=len(body))
        seen += 1
        if match[0] == b'"':
            return match.end(), seen
        position = match.end() + 1  # the escaped character, whatever it is


def _skip_space(body: bytes, position: int) -> int:
    while position < len(body) and body[position] in _SPACE:
        position += 1
    return position
