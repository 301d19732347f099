"""A page of an exposition to values by series number, fast: a series' text is looked up, not parsed.

A scrape repeats the series of the last one with other values. So the raw text of name and labels, with the
space behind it, is a key: what stands before a line's value is looked up, and a known series costs one dict
access. Lines that are not known (new series, comments, timestamps, exemplars, mistakes) take the exact path
in `parse`. Where a page has the same lines in the same order as the last one, not even that is needed: the
`Layout` knows them by their place, and keeps far less text.

Number 0 is for what nobody wants: comments and series that no mapping names. The memory follows the pages:
series that left are forgotten, so an exporter whose labels change for ever does not fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from steersman.drivers.exposition.layout import END_MARK, Layout, blocks
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
SPARE_SERIES = 1000
"""Series that may be remembered beyond twice those of the last page."""
PAUSE_MAX_PAGES = 64
"""How long the lines' places are not relied on where they always change: a layout takes time to make."""

Want = Callable[[int, str, dict[str, str]], bool]
"""Called once for each new series with its number, name and labels; whether its values are wanted."""


class Page(Struct):
    """One page.

    `numbers[n]` is the value of series n, None where it was not on the page. `stamps` has the timestamps, in
    seconds, of those that had one. `samples` counts the values. `senseless`: some lines are malformed, and
    none is a sample, wanted or not. `ended`: an end mark was seen.
    """

    numbers: list[float | None]
    stamps: dict[int, float] = field(default_factory=dict[int, float])
    problems: list[str] = field(default_factory=list[str])
    malformed: int = 0
    samples: int = 0
    senseless: bool = False
    ended: bool = False


class SeriesCache:
    """Remembers series from page to page. `forget` is told the numbers that are given up.

    While pages keep to the layout, `_known` has only what is on none of its lines.
    """

    def __init__(self, want: Want, forget: Callable[[set[int]], None]) -> None:
        self._want = want
        self._forget = forget
        self._known: dict[str, int] = {}
        self._layout: Layout | None = None
        self._pause = 0
        self._pages_left = 0
        self._count = 1
        self._free: list[int] = []
        self._labels: dict[str, Labels] = {}

    def __len__(self) -> int:
        return len(self._known) + (len(self._layout) if self._layout is not None else 0)

    def read(self, page: str, *, openmetrics: bool = False) -> Page:
        """The values of a page, which was decoded with `surrogateescape`.

        Malformed lines are problems, with their number; the good ones are kept. `openmetrics` says that
        timestamps are in seconds.
        """
        if page.endswith("\r\n") and "\r\r" not in page:
            page = page.replace("\r\n", "\n")
        if self._layout is not None:
            numbers = self._layout.read(page, self._count)
            if numbers is not None:
                self._pause = 0
                return Page(numbers, samples=self._layout.samples, ended=self._layout.ended)
            self._give_up_layout()
        read, lines = self._read_lines(page, openmetrics)
        self._forget_absent(read, lines)
        return read

    def _read_lines(self, page: str, openmetrics: bool) -> tuple[Page, int]:
        """As `read`, line by line; and how many lines there are."""
        numbers: list[float | None] = [None] * self._count
        read = Page(numbers)
        known = self._known.get
        plain = page.isascii()
        unknown: list[tuple[int, str]] = []
        count = 0
        odd = False
        for lines in blocks(page):
            for number, line in enumerate(lines, count + 1):
                start = line.rfind(" ") + 1
                index = known(line[:start])
                if index:
                    value = line[start:]
                    try:
                        if "_" in value or not (plain or value.isascii()) or not value[:1] > " " < value[-1:]:
                            raise ValueError  # Python reads these; the formats do not, or only some
                        numbers[index] = float(value)
                    except ValueError:
                        odd = True  # a layout would not read it either
                        unknown.append((number, line))
                elif index is None and line:
                    unknown.append((number, line))
            count += len(lines)
            if count > LINES_MAX:
                _note(read, LINES_MAX, LineInvalid("the rest of the page is not read, it has too many lines"))
                break
        twice: dict[int, int] = {}
        for number, line in unknown:
            again = self._read_line(line, number, read, openmetrics)
            if again:
                twice[again] = number
        if twice:
            self._put_in_order(page, count, twice, read)
        self._labels.clear()
        read.samples = len(numbers) - numbers.count(None)
        if read.malformed and not read.samples:
            all_lines = (line for lines in blocks(page) for line in lines)
            read.senseless = read.malformed >= sum(1 for line in all_lines if not _is_comment(line))
        if not (odd or twice or read.malformed or read.stamps) and count <= LINES_MAX:
            self._lay_out(page, read)
        return read, count

    def _lay_out(self, page: str, read: Page) -> None:
        """Rely on the lines' places from now on, where each line is a known one by now and they do not change
        places all the time."""
        if self._pages_left:
            self._pages_left -= 1
            return
        lines = [line for part in blocks(page) for line in part]
        if not lines[-1]:
            lines.pop()
        texts = [line[: line.rfind(" ") + 1] for line in lines]
        if read.ended:
            if lines[-1].rstrip() != END_MARK:
                return
            texts[-1] = END_MARK
        known = self._known
        if not all(map(known.__contains__, texts[: len(texts) - read.ended])):
            return  # comments and empty lines, and ways to write a line that only the exact path reads
        numbers = [known.get(text, 0) for text in texts]
        wanted = [number for number in numbers if number]
        if not all(texts) or len(set(wanted)) < len(wanted):
            return  # a series that is there twice, of which the last line counts
        self._layout = Layout(zip(texts, numbers, strict=True))
        there = set(texts)
        self._known = {text: number for text, number in self._known.items() if text not in there}

    def _give_up_layout(self) -> None:
        if self._layout is not None:
            self._known.update(self._layout.items())
            self._layout = None
            self._pages_left, self._pause = self._pause, min(2 * self._pause or 1, PAUSE_MAX_PAGES)

    def _read_line(self, line: str, number: int, page: Page, openmetrics: bool) -> int:
        """The exact path for one line; the number of its series where it had a value before, else 0."""
        if _is_comment(line):
            page.ended = page.ended or line.rstrip() == END_MARK
            if line.startswith(("# HELP ", "# TYPE ", "# UNIT ")):
                self._known[line[: line.rfind(" ") + 1]] = 0
            return 0
        try:
            found = split_line(line)
            value = read_value(found.value)
            index = self._known.get(found.series + " ")
            if index is None:
                index = self._new(found.series, page)
            stamp_s = read_stamp(found.stamp, seconds=openmetrics) if found.stamp is not None else None
        except LineInvalid as error:
            _note(page, number, error)
            return 0
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
        for lines in blocks(text):
            for number, line in enumerate(lines, first + 1):
                start = line.rfind(" ") + 1
                index = self._known.get(line[:start], 0)
                if number > twice.get(index, count):
                    try:
                        page.numbers[index] = read_value(line[start:])
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
            self._known[f"{series} "] = 0
            return 0
        if self._free:
            self._free.pop()
        else:
            self._count += 1
            page.numbers.append(None)
        self._known[f"{series} "] = index
        return index

    def _forget_absent(self, page: Page, lines: int) -> None:
        if len(self) <= 2 * lines + SPARE_SERIES:
            return
        gone = {index for index, value in enumerate(page.numbers) if index and value is None}
        fresh = gone.difference(self._free)
        self._known = {s: index for s, index in self._known.items() if index and index not in gone}
        if fresh:
            self._free.extend(fresh)
            self._forget(fresh)


def _is_comment(line: str) -> bool:
    return line[:1] == "#" or not line.strip()


def _note(page: Page, number: int, error: LineInvalid) -> None:
    page.malformed += 1
    if len(page.problems) < PROBLEMS_MAX:
        page.problems.append(f"line {number}: {error}")
