"""Pages one after another, of which a reader remembers the lines, against each page read afresh."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.drivers.exposition import layout, series
from steersman.drivers.exposition.layout import Layout
from steersman.drivers.exposition.parse import (
    LineInvalid,
    read_series,
    read_stamp,
    read_value,
    split_line,
)
from steersman.drivers.exposition.series import Page, SeriesCache

Sample = tuple[str, tuple[tuple[str, str], ...], str, float | None]
"""Name, labels, value as Python prints it (so that NaN is NaN), timestamp."""


class Remembering:
    """One reader for all pages. It wants what has an even number of letters, or everything."""

    def __init__(self, *, everything: bool = True) -> None:
        self.series: dict[int, tuple[str, tuple[tuple[str, str], ...]]] = {}
        self.everything = everything
        self.cache = SeriesCache(self._want, self._forget)

    def _want(self, index: int, name: str, labels: dict[str, str]) -> bool:
        if not (self.everything or wanted(name)):
            return False
        self.series[index] = (name, tuple(sorted(labels.items())))
        return True

    def _forget(self, gone: set[int]) -> None:
        for index in gone:
            del self.series[index]

    def read(self, text: str, *, openmetrics: bool = False) -> tuple[list[Sample], Page]:
        page = self.cache.read(text, openmetrics=openmetrics)
        found = [
            (*self.series[index], repr(value), page.stamps.get(index))
            for index, value in enumerate(page.numbers)
            if value is not None
        ]
        return sorted(found, key=repr), page


def wanted(name: str) -> bool:
    return len(name) % 2 == 0


def exactly(text: str, *, openmetrics: bool = False) -> tuple[list[Sample], list[str], bool, bool]:
    """Samples, problems, whether it ended, whether it is no exposition: by `parse` alone, line by line."""
    last: dict[str, Sample] = {}
    problems: list[str] = []
    ended, lines = False, 0
    for number, line in enumerate(text.split("\n"), 1):
        if line[:1] == "#" or not line.strip():
            ended = ended or line.rstrip() == "# EOF"
            continue
        lines += 1
        try:
            found = split_line(line)
            value = read_value(found.value)
            name, labels = read_series(found.series)
            stamp = read_stamp(found.stamp, seconds=openmetrics) if found.stamp is not None else None
        except LineInvalid as error:
            problems.append(f"line {number}: {error}")
            continue
        last[found.series] = (name, tuple(sorted(labels.items())), repr(value), stamp)
    return sorted(last.values(), key=repr), problems, ended, bool(problems) and lines == len(problems)


NAMES = ["a", "bb", "dcgm_gpu_temp", "up", "x:y"]
LABELS = ["", "{}", '{gpu="0"}', '{gpu="1",pod="a b"}', '{gpu="1", pod="a} {b"}', '{p="#\\"\\n"}', '{o="ö"}']
ONE_SPELLING = [labels for labels in LABELS if labels != "{}"]
SERIES = st.builds(
    lambda name, labels, before, after: f"{before}{name}{after if labels else ''}{labels}",
    st.sampled_from(NAMES),
    st.sampled_from(LABELS),
    st.sampled_from(["", "", "", "", " ", "\t"]),
    st.sampled_from(["", "", "", "", " "]),
)
GAPS = st.sampled_from([" ", " ", " ", " ", " ", " ", "  ", "\t", " \t", ""])
PLAIN = st.sampled_from(
    ["0", "1", "2.5", "-3", "+4", "1e3", "NaN", "+Inf", "-Inf", "1e999", "nan", "00012345678"]
)
ODD = st.sampled_from(
    [
        "1_0",
        "\u0663",
        "x",
        "",
        "1 2 3",
        "1 -5",
        "1.",
        "0x1",
        "1\x0b",
        "\x1c1",
        "1\x85",
        "\xa01",
        "1\r",
        "1 1700000000",
        "1 1700000000000",
        '1 # {t="1"} 0.4',
        "1 #",
        "1 ",
        "1\t",
        "1\udcff",
        "{",
        '"',
        "1 # EOF",
        "\x00",
        "1\x00",
    ]
)
VALUES = st.one_of(PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, ODD)
COMMENTS = st.sampled_from(
    ["# HELP up whether {it} is", "# HELP bb \udcff d", "# TYPE up gauge", "# UNIT bb s"]
)
OTHERS = st.sampled_from(
    [
        "# HELP up whether",
        "# TYPE up gauge",
        "# UNIT up s",
        "# a comment",
        "#",
        "# EOF",
        "# EOF ",
        "# EOF x",
        "",
        " ",
        "\r",
        "\t",
        "# HELP up a {b} c",
        "# HELP up \udcff d",
        "no sample at all",
        "up",
        'bb{gpu="0',
        "1abc 2",
        "\udcff 1",
        'bb{o="\udcfc"} 1',
        "# TYPE up",
        "# HELP ",
        "# HELP  ",
    ]
)

Line = tuple[str, str] | str
"""A series and the gap before its value, or a line of another kind."""


@st.composite
def pages(draw: st.DrawFn) -> list[str]:
    """Pages of one exporter: mostly the same lines with other values, and every change that may come."""
    lines: list[Line] = []
    for _ in range(draw(st.integers(0, 10))):
        lines.append(draw(st.tuples(SERIES, GAPS)) if draw(st.integers(0, 6)) else draw(OTHERS))
    if draw(st.booleans()):
        lines.append("# EOF")
    found: list[str] = []
    for _ in range(draw(st.integers(2, 7))):
        shown = draw(changed(lines, OTHERS, st.tuples(SERIES, GAPS)))
        if draw(st.booleans()):
            lines = shown  # it stays so
        end = draw(st.sampled_from(["\n", "\n", "\n", "\n", "\r\n", "\r\r\n", "\n\n", ""]))
        inner = draw(st.sampled_from(["\n", "\n", "\n", end])) or "\n"
        texts = [draw(written(line, VALUES)) for line in shown]
        found.append(inner.join(texts) + (end if texts else ""))
    return found


@st.composite
def steady_pages(draw: st.DrawFn) -> list[str]:
    """As `pages`, of an exporter without fault, whose series stand there once: its lines get known."""
    names = st.builds("{}{}".format, st.sampled_from(["bb", "up", "upp"]), st.sampled_from(ONE_SPELLING))
    lines: list[Line] = [
        draw(COMMENTS) if name.startswith("upp{") else (name, " ")
        for name in draw(st.lists(names, unique=True, min_size=1, max_size=8))
    ]
    if draw(st.booleans()):
        lines.append("# EOF")
    found: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(1, 3))):
            found.append("".join(f"{draw(written(line, PLAIN))}\n" for line in lines))
        shown = draw(changed(lines, COMMENTS, st.tuples(names, st.just(" "))))
        values = draw(st.sampled_from([PLAIN, PLAIN, VALUES]))
        found.append("".join(f"{draw(written(line, values))}\n" for line in shown))
        if draw(st.booleans()):
            lines = shown
    return found


@st.composite
def changed(
    draw: st.DrawFn,
    lines: list[Line],
    others: st.SearchStrategy[str],
    series: st.SearchStrategy[tuple[str, str]],
) -> list[Line]:
    """These lines, or in another order, with one more, less, another or twice, or none of them."""
    shown = list(lines)
    place = draw(st.integers(0, len(lines)))
    match draw(st.sampled_from(["", "", "order", "less", "more", "another", "twice", "other", "empty"])):
        case "order":
            return draw(st.permutations(lines))
        case "less":
            del shown[place : place + 1]
        case "more":
            shown.insert(place, draw(series))
        case "another":
            shown[place : place + 1] = [draw(series)]
        case "twice" if lines:
            shown.insert(place, draw(st.sampled_from(lines)))
        case "other":
            shown.insert(place, draw(others))
        case "empty":
            return []
        case _:
            pass
    return shown


@st.composite
def written(draw: st.DrawFn, line: Line, values: st.SearchStrategy[str]) -> str:
    """The line with a value."""
    return line if isinstance(line, str) else f"{line[0]}{line[1]}{draw(values)}"


@pytest.fixture
def block_chars() -> Iterator[None]:
    before = layout.BLOCK_CHARS
    yield
    layout.BLOCK_CHARS = before


@pytest.mark.usefixtures("block_chars")
@settings(max_examples=500, deadline=None)
@given(st.one_of(pages(), steady_pages()), st.sampled_from([0, 9, 40, 64 * 1024]), st.booleans())
def test_pages_one_after_another_are_read_as_each_alone(
    found: list[str], block_chars: int, openmetrics: bool
) -> None:
    layout.BLOCK_CHARS = block_chars
    reader = Remembering()
    for text in found:
        samples, page = reader.read(text, openmetrics=openmetrics)
        told = samples, page.problems, page.ended, page.senseless
        assert told == exactly(text, openmetrics=openmetrics)
        assert (page.malformed, page.samples) == (len(page.problems), len(samples))


@pytest.mark.usefixtures("block_chars")
@settings(max_examples=300, deadline=None)
@given(st.one_of(pages(), steady_pages()), st.sampled_from([0, 9, 64 * 1024]))
def test_what_nobody_wants_changes_nothing_of_what_is_wanted(found: list[str], block_chars: int) -> None:
    layout.BLOCK_CHARS = block_chars
    reader = Remembering(everything=False)
    for text in found:
        samples, page = reader.read(text)
        exact, _, ended, _ = exactly(text)
        assert (samples, page.ended) == ([sample for sample in exact if wanted(sample[0])], ended)


@settings(max_examples=100, deadline=None)
@given(steady_pages())
def test_a_series_keeps_its_number_whatever_becomes_of_the_lines_around_it(found: list[str]) -> None:
    reader = Remembering()
    for text in found:
        reader.read(text)
    assert len(set(reader.series.values())) == len(reader.series)


@pytest.mark.parametrize(
    ("lines", "other"),
    [
        ("aa 1|bb 1", "ab 1|bb 1"),
        ("aa 1|bb 1", "bb 1|aa 1"),
        ('a{gpu="0"} 1|a{gpu="1"} 1', 'a{gpu="1"} 1|a{gpu="0"} 2'),
        ("aa 1|bb 1|cc 1", "aa 1|bb 1"),
        ("aa 1|bb 1|# EOF", "aa 1|bb 1"),
        ("aa 1|bb 1|# EOF", "aa 1|bb 1|# EOG"),
        ("aa 1|bb 1|# EOF", "aa 1|bb 1|# EOF 1"),
        ("aa 1|bb 1|# EOF", "aa 1|bb 1|# EOF |# EOF"),
        ("aa 1|bb 1", "aa 1|bb 1|# EOF"),
        ("aa 1|bb 1", "aa 1|bb 1 1700000000000"),
        ("aa 1|bb 1", "aa 1|aa 2 1700000000000|aa 3\x0b|bb 1"),
        ("aa 1|bb 1", "aa 1|bb 1|"),
        ("# HELP aa x|aa 1|bb 1", "# HELP aa y|aa 1|bb 1"),
        ("# HELP aa x|aa 1|bb 1", "# HELP aa x bb 1|aa 1|aa 3"),
    ],
)
@pytest.mark.parametrize("everything", [True, False])
def test_a_line_that_is_another_one_is_noticed(lines: str, other: str, everything: bool) -> None:
    reader = Remembering(everything=everything)
    for text in (lines, lines, lines, other, lines, other, other, other, lines):
        text = text.replace("|", "\n") + "\n"
        samples, page = reader.read(text)
        exact, problems, ended, _ = exactly(text)
        assert samples == [sample for sample in exact if everything or wanted(sample[0])]
        assert page.ended == ended
        assert page.problems == problems or not everything


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each page so far was read by its lines' places."""
    told: list[bool] = []
    read = Layout.read

    def watched(self: Layout, page: str, count: int) -> list[float | None] | None:
        numbers = read(self, page, count)
        told.append(numbers is not None)
        return numbers

    monkeypatch.setattr(Layout, "read", watched)
    return told


def exporter(values: int, series_count: int = 100) -> str:
    text = "".join(f'temp{{gpu="{i}",node="n{i // 8}"}} {values + i}\n' for i in range(series_count))
    return f"# HELP temp degrees\n# TYPE temp gauge\n{text}# EOF\n"


@pytest.mark.parametrize("series_count", [1, 100, 5_000])
def test_the_second_page_with_the_same_lines_is_read_by_their_places(
    series_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, reader = counted(monkeypatch), Remembering()
    for turn in range(6):
        samples, page = reader.read(exporter(turn, series_count), openmetrics=True)
        assert (samples, [], True, False) == exactly(exporter(turn, series_count))
        assert page.samples == series_count
    assert told == [True] * 5


def test_a_page_with_new_series_among_its_lines_is_relied_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told, reader = counted(monkeypatch), Remembering()
    for turn, series_count in enumerate((100, 100, 101, 101)):
        assert reader.read(exporter(turn, series_count))[0] == exactly(exporter(turn, series_count))[0]
    assert told == [True, False, True]


@pytest.mark.parametrize("line", ["temp 1 1700000000", "temp  1", "temp +1", "# a note", "", "temp"])
def test_lines_that_are_read_only_closely_are_never_relied_on(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, reader = counted(monkeypatch), Remembering()
    text = f"other 2\n{line}\nlast 3\n"
    for _ in range(3):
        assert reader.read(text)[0] == exactly(text)[0]
    assert told.count(True) == (2 if line == "temp +1" else 0)


def test_lines_that_come_and_go_are_learned_again_and_what_changes_always_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, reader = counted(monkeypatch), Remembering()
    orders = random.Random(1)
    lines = exporter(0).splitlines(keepends=True)[2:-1]
    for _ in range(300):
        orders.shuffle(lines)
        assert reader.read("".join(lines))[0] == exactly("".join(lines))[0]
    assert len(told) < 20, "a layout was made for pages of which no two are alike"
    for _ in range(series.PAUSE_MAX_PAGES + 3):
        reader.read("".join(lines))
    assert told[-1]


def test_windows_line_ends_are_read_by_the_lines_places_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told, reader = counted(monkeypatch), Remembering()
    for turn in range(4):
        text = exporter(turn).replace("\n", "\r\n")
        assert (reader.read(text)[0], [], True, False) == exactly(text)
    assert told == [True, True, True]


def test_of_a_page_with_too_many_lines_the_rest_is_told_of_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "LINES_MAX", 3_000)
    reader = Remembering()
    within = exporter(1, 2_900)
    for text in (within, within, exporter(1, 9_000), exporter(2, 9_000), within):
        samples, page = reader.read(text)
        if text is within:
            assert (samples, page.problems) == (exactly(text)[0], [])
            continue
        assert len(page.problems) == page.malformed == 1
        assert page.problems[0].startswith("line 3000: the rest of the page is not read")
        assert 3_000 <= page.samples < 9_000
        assert set(samples) < set(exactly(text)[0])
        assert not page.ended


def test_readers_of_one_kind_of_exporter_share_the_texts_of_their_lines() -> None:
    """What one more reader keeps of 25 series of 8 GPUs is the GPUs' own labels, not 200 texts."""

    def text(node: int) -> str:
        lines = (
            f'metric_{i}{{gpu="{gpu}",UUID="GPU-{node:08d}-{gpu}",model="NVIDIA H100 80GB"}} 1\n'
            for i in range(25)
            for gpu in range(8)
        )
        return "".join(lines)

    numbers = range(1, 201)
    layouts = [
        Layout(zip((line[:-1] for line in text(node).splitlines()), numbers, strict=True))
        for node in range(3)
    ]
    first, second, other = layouts
    assert first._shape is second._shape is other._shape
    assert first._places is second._places
    assert len({id(tail) for tail in second._tails}) == 8
    assert [item[0] for item in second.items()] == [line[:-1] for line in text(1).splitlines()]
