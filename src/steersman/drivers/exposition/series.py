"""A page of an exposition to values by series number, fast: a series' text is looked up, not parsed.

A scrape repeats the series of the last one with other values. So the raw text of name and labels is a key:
what stands before the last space of a line is looked up, and a known series costs one dict access. Lines
that are not known (new series, comments, timestamps, exemplars, mistakes) take the exact path in `parse`.

Number 0 is for what nobody wants: comments and series that no mapping names. The memory follows the pages:
series that left are forgotten, so an exporter whose labels change for ever does not fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct, field

from steersman.drivers.exposition.parse import (
    Labels,
    LineInvalid,
    read_series,
    read_stamp,
    read_value,
    split_line,
)

LINES_MAX = 2_000_000
"""Lines that one page may have; the rest is not read."""
PROBLEMS_MAX = 20
"""Malformed lines that are described; the others are counted."""
BLOCK_CHARS = 64 * 1024
SPARE_SERIES = 1000
"""Series that may be remembered beyond twice those of the last page."""

Want = Callable[[int, str, dict[str, str]], bool]
"""Called once for each new series with its number, name and labels; whether its values are wanted."""


class Page(Struct):
    """One page.

    `numbers[n]` is the value of series n, None where it was not on the page. `stamps` has the timestamps, in
    seconds, of those that had one. `samples` counts the wanted ones, `understood` all lines that are samples.
    `ended`: an end mark was seen.
    """

    numbers: list[float | None]
    stamps: dict[int, float] = field(default_factory=dict[int, float])
    problems: list[str] = field(default_factory=list[str])
    malformed: int = 0
    samples: int = 0
    understood: int = 0
    ended: bool = False


class SeriesCache:
    """Remembers series from page to page. `forget` is told the numbers that are given up."""

    def __init__(self, want: Want, forget: Callable[[set[int]], None]) -> None:
        self._want = want
        self._forget = forget
        self._known: dict[str, int] = {}
        self._count = 1
        self._free: list[int] = []
        self._labels: dict[str, Labels] = {}

    def __len__(self) -> int:
        return len(self._known)

    def read(self, page: str, *, openmetrics: bool = False) -> Page:
        """The values of a page, which was decoded with `surrogateescape`.

        Malformed lines are problems, with their number; the good ones are kept. `openmetrics` says that
        timestamps are in seconds.
        """
        numbers: list[float | None] = [None] * self._count
        read = Page(numbers)
        known = self._known.get
        plain = page.isascii()
        unknown: list[tuple[int, str]] = []
        count = 0
        for lines in _blocks(page):
            for number, line in enumerate(lines, count + 1):
                series, _, value = line.rpartition(" ")
                index = known(series)
                if index:
                    try:
                        if "_" in value or not (plain or value.isascii()):
                            raise ValueError  # Python reads these; the formats do not
                        numbers[index] = float(value)
                    except ValueError:
                        unknown.append((number, line))
                elif index is None and line:
                    unknown.append((number, line))
            count += len(lines)
            if count > LINES_MAX:
                _note(read, LINES_MAX, LineInvalid("the rest of the page is not read, it has too many lines"))
                break
        read.understood = max(0, count - len(unknown) - 1)
        twice: dict[int, int] = {}
        for number, line in unknown:
            again = self._read_line(line, number, read, openmetrics)
            if again:
                twice[again] = number
        if twice:
            self._put_in_order(page, count, twice, read)
        self._labels.clear()
        read.samples = len(numbers) - numbers.count(None)
        self._forget_absent(read, count)
        return read

    def _read_line(self, line: str, number: int, page: Page, openmetrics: bool) -> int:
        """The exact path for one line; the number of its series where it had a value before, else 0."""
        if line[:1] == "#" or not line.strip():
            page.ended = page.ended or line.rstrip() == "# EOF"
            if line.startswith(("# HELP ", "# TYPE ")):
                self._known[line.rpartition(" ")[0]] = 0
            return 0
        try:
            found = split_line(line)
            value = read_value(found.value)
            index = self._known.get(found.series)
            if index is None:
                index = self._new(found.series, page)
            stamp_s = read_stamp(found.stamp, seconds=openmetrics) if found.stamp is not None else None
        except LineInvalid as error:
            _note(page, number, error)
            return 0
        page.understood += 1
        if not index:
            return 0
        again = page.numbers[index] is not None
        page.numbers[index] = value
        page.stamps.pop(index, None)
        if stamp_s is not None:
            page.stamps[index] = stamp_s
        return index if again else 0

    def _put_in_order(self, text: str, count: int, twice: dict[int, int], page: Page) -> None:
        """Of a series that is on the page several times the last line counts. The exact path comes after the
        fast one, whatever the order of the lines was; so here the fast path's later lines are put back."""
        first = 0
        for lines in _blocks(text):
            for number, line in enumerate(lines, first + 1):
                series, _, value = line.rpartition(" ")
                index = self._known.get(series, 0)
                if number > twice.get(index, count):
                    try:
                        page.numbers[index] = read_value(value)
                    except LineInvalid:
                        continue  # it was told of
                    page.stamps.pop(index, None)
            first += len(lines)
            if first >= count:
                break

    def _new(self, series: str, page: Page) -> int:
        """A number for a series that was not known; 0 where nobody wants it."""
        name, labels = read_series(series, self._labels)
        index = self._free[-1] if self._free else self._count
        if not self._want(index, name, labels):
            self._known[series] = 0
            return 0
        if self._free:
            self._free.pop()
        else:
            self._count += 1
            page.numbers.append(None)
        self._known[series] = index
        return index

    def _forget_absent(self, page: Page, lines: int) -> None:
        if len(self._known) <= 2 * lines + SPARE_SERIES:
            return
        gone = {index for index, value in enumerate(page.numbers) if index and value is None}
        fresh = gone.difference(self._free)
        self._known = {s: index for s, index in self._known.items() if index and index not in gone}
        if fresh:
            self._free.extend(fresh)
            self._forget(fresh)


def _blocks(page: str) -> Iterator[list[str]]:
    """The lines of a page, some dozens of kilobytes at a time: a small page at once, and of a large one no
    more than a processor's cache holds."""
    start = 0
    while (end := page.find("\n", start + BLOCK_CHARS)) >= 0:
        yield page[start:end].split("\n")
        start = end + 1
    yield page[start:].split("\n")


def _note(page: Page, number: int, error: LineInvalid) -> None:
    page.malformed += 1
    if len(page.problems) < PROBLEMS_MAX:
        page.problems.append(f"line {number}: {error}")
