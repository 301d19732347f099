"""The lines of a page in their order, without the values: the page that comes next mostly has the same ones.

An exporter prints its series in the same order each time. So a line is not looked up by its text, which would
have to be hashed and kept in full, but held against what stood in its place. What stands before a value is
kept in two parts: *head* (the name and a brace), which readers of one kind of exporter have in common, and
*tail* (the labels), which the series of one thing have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import compress
from operator import getitem
from sys import intern
from typing import cast
from weakref import WeakValueDictionary

BLOCK_CHARS = 64 * 1024

PLACES_MAX = 64
"""Lengths of texts whose places are kept for others; a page with other ones has its places for itself."""

END_MARK = "# EOF"
"""The last line of a page of OpenMetrics."""


@lru_cache(4096)  # more lengths than a page's lines have
def _behind(width: int) -> slice:
    return slice(width, None)


class _Shape:
    """What the pages of one kind of exporter have in common, line by line.

    `heads` and how long each is (`offsets`); `wanted` has the series' number, 0 where nobody wants it.
    `places` has where the values stand, by how long the texts before them are: names of one kind are mostly
    of one length, so on many pages they stand at the same places.
    """

    __slots__ = ("__weakref__", "dense", "ended", "heads", "indices", "offsets", "places", "wanted")

    def __init__(self, heads: tuple[str, ...], wanted: tuple[int, ...]) -> None:
        self.heads = heads
        self.wanted = wanted
        self.offsets = tuple(map(len, heads))
        self.indices = tuple(index for index in wanted if index)
        self.dense = self.indices == tuple(range(1, len(self.indices) + 1))
        self.ended = heads[-1:] == (END_MARK,)
        self.places: dict[tuple[int, ...], tuple[slice, ...]] = {}

    def places_for(self, widths: tuple[int, ...]) -> tuple[slice, ...]:
        """Where the values stand behind texts of these lengths."""
        places = self.places.get(widths)
        if places is None:
            places = tuple(map(_behind, widths))
            if len(self.places) < PLACES_MAX:
                self.places[widths] = places
        return places


_shapes: WeakValueDictionary[tuple[tuple[str, ...], tuple[int, ...]], _Shape] = WeakValueDictionary()
"""The shapes that some layout has, so that readers of one kind of exporter share theirs."""


class Layout:
    """The lines of one page. `lines` are pairs of the text before the value and the series' number; each
    number but 0 is there once. `END_MARK` may be the last text."""

    __slots__ = ("_places", "_shape", "_tails")

    def __init__(self, lines: Iterable[tuple[str, int]]) -> None:
        heads: list[str] = []
        tails: list[str] = []
        wanted: list[int] = []
        widths: list[int] = []
        for text, index in lines:
            brace = text.find("{") + 1 or len(text)
            heads.append(intern(text[:brace]))
            tails.append(intern(text[brace:]))
            wanted.append(index)
            widths.append(len(text))
        key = tuple(heads), tuple(wanted)
        shape = _shapes.get(key)
        if shape is None:
            shape = _shapes[key] = _Shape(*key)
        self._shape = shape
        self._tails = tuple(tails)
        self._places = shape.places_for(tuple(widths))

    def __len__(self) -> int:
        return len(self._tails)

    @property
    def ended(self) -> bool:
        """Whether its last line is an end mark."""
        return self._shape.ended

    @property
    def samples(self) -> int:
        """How many of its lines have a series that is wanted."""
        return len(self._shape.indices)

    def items(self) -> Iterator[tuple[str, int]]:
        """The pairs that it was made of."""
        for head, tail, index in zip(self._shape.heads, self._tails, self._shape.wanted, strict=True):
            yield head + tail, index

    def read(self, page: str, count: int) -> list[float | None] | None:
        """The values of a page by series' number, `count` of them; None where a line is another one than it
        was, or has no plain value: then somebody has to look closely."""
        shape, tails, places = self._shape, self._tails, self._places
        total = len(tails)
        found: list[float | None] = []
        first = 0
        ended = not shape.ended
        for lines in blocks(page):
            last = first + len(lines)
            if last == total + 1 and not lines[-1]:
                lines.pop()  # what stands behind the last line's end
                last = total
            if last > total:
                return None
            heads, offsets, wanted = shape.heads, shape.offsets, shape.wanted
            if last - first < total:
                part = slice(first, last)
                heads, offsets, wanted = heads[part], offsets[part], wanted[part]
                tails, places = self._tails[part], self._places[part]
            if not all(map(str.startswith, lines, heads)):
                return None
            if not all(map(str.startswith, lines, tails, offsets)):
                return None
            values = list(compress(map(_cut, lines, places), wanted))
            if not is_plain("".join(values)):
                return None
            try:
                found.extend(map(float, values))
            except ValueError:
                return None
            first = last
            ended = ended or (first == total and lines[-1:] == [END_MARK])
        if first < total or not ended:
            return None
        if shape.dense:
            found.insert(0, None)
            found.extend([None] * (count - len(found)))
            return found
        numbers: list[float | None] = [None] * count
        for index, value in zip(shape.indices, found, strict=True):
            numbers[index] = value
        return numbers


_cut = cast("Callable[[str, slice], str]", getitem)
_ODD = "_ \t\r\x0b\x0c\x1c\x1d\x1e\x1f"
"""What Python reads in or around a number, and the formats do not."""


def is_plain(values: str) -> bool:
    """Whether Python reads these values as the formats do, if it reads them at all."""
    return values.isascii() and not any(map(values.__contains__, _ODD))


def blocks(page: str) -> Iterator[list[str]]:
    """The lines of a page, some dozens of kilobytes at a time: a small page at once, and of a large one no
    more than a processor's cache holds."""
    start = 0
    while (end := page.find("\n", start + BLOCK_CHARS)) >= 0:
        yield page[start:end].split("\n")
        start = end + 1
    yield page[start:].split("\n")
