"""A page of an exposition to values by series number, fast: a series' text is looked up, not parsed.

A scrape repeats the series of the last one with other values. So the raw text of name and labels is a key:
what stands before the last space of a line is looked up, and a known series costs one dict access. Lines
that are not known (new series, comments, timestamps, exemplars, mistakes) take the exact path in `parse`.

Number 0 is for what nobody wants: comments and series that no mapping names. The memory follows the pages:
series that left are forgotten, so an exporter whose labels change for ever does not fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from steersman.drivers.openmetrics.parse import (
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
SPARE_SERIES = 1000
"""Series that may be remembered beyond twice those of the last page."""

Want = Callable[[int, str, dict[str, str]], bool]
"""Called once for each new series with its number, name and labels; whether its values are wanted."""


class Page(Struct):
    """One page. `numbers[n]` is the value of series n, None where it was not on the page (`values` has it as
    text); `stamps` has the timestamps, in seconds, of those that had one. `ended`: an end mark was seen.
    `samples` counts the wanted ones, `understood` all lines that are samples."""

    values: list[str | None]
    numbers: list[float | None] = field(default_factory=list[float | None])
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
        values: list[str | None] = [None] * self._count
        read = Page(values)
        known = self._known.get
        lines = page.split("\n")
        if len(lines) > LINES_MAX:
            read.problems.append(f"more than {LINES_MAX} lines; the rest is not read")
            read.malformed += 1
            del lines[LINES_MAX:]
        unknown: list[int] = []
        for number, line in enumerate(lines, 1):
            series, _, value = line.rpartition(" ")
            index = known(series)
            if index is not None:
                values[index] = value
            elif line:
                unknown.append(number)
        read.understood = max(0, len(lines) - len(unknown) - 1)
        for number in unknown:
            self._read_line(lines[number - 1], number, read, openmetrics)
        self._labels.clear()
        values[0] = None
        read.numbers = self._to_numbers(lines, read)
        read.samples = len(values) - values.count(None)
        self._forget_absent(read, len(lines))
        return read

    def _read_line(self, line: str, number: int, page: Page, openmetrics: bool) -> None:
        """The exact path for one line."""
        if line[:1] == "#" or not line.strip():
            page.ended = page.ended or line.rstrip() == "# EOF"
            if line.startswith(("# HELP ", "# TYPE ")):
                self._known[line.rpartition(" ")[0]] = 0
            return
        try:
            found = split_line(line)
            value = found.value
            read_value(value)
            index = self._known.get(found.series)
            if index is None:
                index = self._new(found.series, page)
            stamp_s = read_stamp(found.stamp, seconds=openmetrics) if found.stamp is not None else None
        except LineInvalid as error:
            _note(page, number, error)
            return
        page.understood += 1
        page.values[index] = value
        if index and stamp_s is not None:
            page.stamps[index] = stamp_s

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
            page.values.append(None)
        self._known[series] = index
        return index

    def _to_numbers(self, lines: list[str], page: Page) -> list[float | None]:
        """All values at once; lines whose value is no number are searched only where there is one."""
        values = page.values
        joined = "".join(filter(None, values))
        if "_" not in joined and joined.isascii():  # Python reads 1_000 and digits of other scripts
            try:
                return [None if text is None else float(text) for text in values]
            except ValueError:
                pass
        for number, line in enumerate(lines, 1):
            series, _, value = line.rpartition(" ")
            index = self._known.get(series)
            if index:
                try:
                    read_value(value)
                except LineInvalid as error:
                    values[index] = None
                    _note(page, number, error)
        return [None if text is None else float(text) for text in values]

    def _forget_absent(self, page: Page, lines: int) -> None:
        if len(self._known) <= 2 * lines + SPARE_SERIES:
            return
        gone = {index for index, value in enumerate(page.values) if index and value is None}
        fresh = gone.difference(self._free)
        self._known = {s: index for s, index in self._known.items() if index and index not in gone}
        if fresh:
            self._free.extend(fresh)
            self._forget(fresh)


def _note(page: Page, number: int, error: LineInvalid) -> None:
    page.malformed += 1
    if len(page.problems) < PROBLEMS_MAX:
        page.problems.append(f"line {number}: {error}")
