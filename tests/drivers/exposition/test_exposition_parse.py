"""The exposition reader against prometheus_client's parser, and against bytes that nobody meant."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from steersman.drivers.exposition.parse import LineInvalid, read_series, read_stamp, split_line
from steersman.drivers.exposition.series import Page, SeriesCache

Key = tuple[str, tuple[tuple[str, str], ...]]


class Everything:
    """A reader that wants every series and remembers which number is which."""

    def __init__(self) -> None:
        self.series: dict[int, Key] = {}
        self.parsed = 0
        self.found: dict[Key, tuple[float, float | None]] = {}
        self.cache = SeriesCache(self._want, self._forget)

    def _want(self, index: int, name: str, labels: dict[str, str]) -> bool:
        self.parsed += 1
        self.series[index] = (name, tuple(sorted(labels.items())))
        return True

    def _forget(self, gone: set[int]) -> None:
        for index in gone:
            del self.series[index]

    def read(self, text: str, *, openmetrics: bool = False) -> dict[Key, tuple[float, float | None]]:
        page = self.cache.read(text, openmetrics=openmetrics)
        assert page.problems == []
        return self.samples(page)

    def samples(self, page: Page) -> dict[Key, tuple[float, float | None]]:
        return {
            self.series[index]: (value, page.stamps.get(index))
            for index, value in enumerate(page.numbers)
            if value is not None
        }


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,20}", fullmatch=True)
# Names that start with two underscores are reserved: prometheus_client refuses them, we keep them.
LABEL_NAMES = st.from_regex(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,12}", fullmatch=True)
LABEL_VALUES = st.text(
    alphabet=st.one_of(
        st.sampled_from('\\"\n{}=, #ab}1'), st.characters(exclude_categories=("Cs",), exclude_characters="\r")
    ),
    max_size=20,
)
VALUES = st.one_of(
    st.floats().map(lambda f: "NaN" if math.isnan(f) else repr(f).replace("inf", "Inf")),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["+Inf", "-Inf", "NaN", "1e-3", "1.5E+6", "0"]),
)


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@st.composite
def expositions(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """The raw texts of some distinct series, and comments to put between them."""
    found: dict[Key, str] = {}
    for _ in range(draw(st.integers(1, 8))):
        name = draw(NAMES)
        labels = draw(st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=4))
        gap, end = draw(st.sampled_from(["", " "])), draw(st.sampled_from(["", ","]))
        body = f",{gap}".join(f'{label}="{escape(value)}"' for label, value in labels.items())
        raw = f"{name}{{{body}{end if labels else ''}}}" if labels or gap else name
        found.setdefault((name, tuple(sorted(labels.items()))), raw)
    comments = draw(
        st.lists(st.sampled_from(["# a comment", "#", "", "# HELP up whether it is up"]), max_size=3)
    )
    return list(found.values()), comments


@settings(max_examples=150, deadline=None)
@given(expositions(), st.data())
def test_text_is_read_as_prometheus_client_reads_it(
    made: tuple[list[str], list[str]], data: st.DataObject
) -> None:
    """Three scrapes of the same series with other values, so that the remembered path is compared too."""
    series, comments = made
    reader = Everything()
    for _ in range(3):
        lines = list(comments)
        for raw in series:
            stamp = data.draw(st.one_of(st.just(""), st.integers(0, 10**13).map(lambda ms: f" {ms}")))
            lines.append(f"{raw} {data.draw(VALUES)}{stamp}")
        text = "\n".join(lines) + "\n"
        theirs = {
            (sample.name, tuple(sorted(sample.labels.items()))): (sample.value, sample.timestamp)
            for family in parse_text(text)
            for sample in family.samples
        }
        ours = reader.read(text)
        assert ours.keys() == theirs.keys()
        for key, (value, stamp_s) in ours.items():
            their_value, their_stamp = theirs[key]
            assert same(value, float(their_value))  # they keep whole numbers whole
            assert (stamp_s is None) == (their_stamp is None)
            assert stamp_s is None or stamp_s == pytest.approx(float(their_stamp), abs=1e-3)
    assert reader.parsed == len(series), "the labels of a series were read more than once"


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=3), VALUES, st.integers(0, 10**9))
def test_openmetrics_is_read_as_prometheus_client_reads_it(
    labels: dict[str, str], value: str, stamp_s: int
) -> None:
    body = ",".join(f'{label}="{escape(text)}"' for label, text in labels.items())
    text = (
        f"# TYPE temp gauge\ntemp{{{body}}} {value} {stamp_s}.25\n"
        f'# TYPE hits counter\nhits_total 3.0 # {{trace_id="a b"}} 0.5 1.5\n# EOF\n'
    )
    theirs = {
        (sample.name, tuple(sorted(sample.labels.items()))): (sample.value, sample.timestamp)
        for family in parse_openmetrics(text)
        for sample in family.samples
    }
    ours = Everything().read(text, openmetrics=True)
    assert ours.keys() == theirs.keys()
    for key, (number, stamp) in ours.items():
        assert same(number, float(theirs[key][0]))
        assert stamp is None or stamp == pytest.approx(float(theirs[key][1]))


@settings(max_examples=250, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.text(alphabet='a_:{}="\\,# \t\r\n01.eENaif-+', max_size=120).map(str.encode),
    )
)
def test_any_bytes_are_read_or_refused(page: bytes) -> None:
    """Whatever comes: no exception, every line is a sample, a comment or a problem with its number."""
    reader = Everything()
    for openmetrics in (False, True, False):
        read = reader.cache.read(page.decode("utf-8", "surrogateescape"), openmetrics=openmetrics)
        assert read.samples + read.malformed <= page.count(b"\n") + 1
        assert not (read.senseless and read.samples)
        assert all(problem.startswith("line ") for problem in read.problems)
        for index in range(1, len(read.numbers)):
            assert index in reader.series


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "no metric name"),
        ("1abc 2", "no metric name"),
        ("up", "no value"),
        ("up 1 2 3", "after the series"),
        ('up{a="1" 1', "a quote is missing"),
        ('up{a="1"', "a quote is missing"),
        ("up{} ", "expected a value"),
        ("up-x 1", "not allowed"),
        ("a\udcff 1", "UTF-8"),
        ("x" * 70_000 + " 1", "longer"),
    ],
)
def test_a_broken_line_says_what_is_wrong(line: str, reason: str) -> None:
    with pytest.raises(LineInvalid, match=reason):
        split_line(line)


@pytest.mark.parametrize(
    "series", ['up{a="1",a="2"}', "up{a}", 'up{"x"="1","y"}', '{a="1"}', '{"a","b"}', "up{=}"]
)
def test_broken_labels_are_refused(series: str) -> None:
    with pytest.raises(LineInvalid):
        read_series(series)


def test_names_in_quotes() -> None:
    """UTF-8 names stand in quotes within the braces (OpenMetrics and text format 1.0)."""
    assert read_series('{"http.server.requests","service.name"="a\\nb"}') == (
        "http.server.requests",
        {"service.name": "a\nb"},
    )
    assert read_series('{"温度",ort="außen"}') == ("温度", {"ort": "außen"})


@pytest.mark.parametrize("stamp", ["x", "1_0", "1e3", "-1", "99999999999999999", "٣"])
def test_timestamps_that_are_none(stamp: str) -> None:
    with pytest.raises(LineInvalid):
        read_stamp(stamp, seconds=False)


@pytest.mark.parametrize("value", ["1_000", "٣", "0x10", "1,5", "--1", "1.2.3"])
def test_values_that_are_no_numbers_cost_their_line_alone(value: str) -> None:
    """Python would read some of these; on a remembered series the check must be the same as on a new one."""
    reader = Everything()
    reader.read("a 1\nb 2\n")
    page = reader.cache.read(f"a {value}\nb 3\n")
    assert page.malformed == 1
    assert page.problems[0].startswith("line 1: ")
    assert list(reader.samples(page).values()) == [(3.0, None)]


def test_a_value_that_is_none_is_told_once_also_of_a_known_series() -> None:
    cache = SeriesCache(lambda *_: True, lambda _: None)
    page = "a 1\nb 2_0_x\na 1_0\n"
    for _ in range(2):
        read = cache.read(page)
        assert (read.malformed, len(read.problems)) == (2, 2)
        assert [value for value in read.numbers if value is not None] == [1.0], "the good line stands"


SAMPLES = st.builds(
    lambda name, value, rest: f"{name} {value}{rest}\n",
    st.sampled_from(["a", 'b{c="d"}', "e"]),
    st.sampled_from(["1", "2", "3.5", "NaN", "1_0", "+Inf"]),
    st.sampled_from(["", "", " 1700000000", ' # {t="1"} 0.4 1', " 1700000001 # {} 3", "\r", "  "]),
)


@given(st.lists(SAMPLES, max_size=8), st.lists(SAMPLES, max_size=8))
def test_of_a_series_twice_on_a_page_the_last_line_counts_also_when_the_series_are_known(
    before: list[str], lines: list[str]
) -> None:
    """A line with a time or an exemplar goes another way than a plain one; the order stays the page's."""
    reader, text = Everything(), "".join(lines)
    reader.cache.read("".join(before))
    known = reader.samples(reader.cache.read(text))
    again = reader.samples(reader.cache.read(text))
    fresh = Everything()
    assert repr(sorted(known.items())) == repr(sorted(again.items()))
    assert repr(sorted(known.items())) == repr(sorted(fresh.samples(fresh.cache.read(text)).items()))
    last = Everything()
    for line in lines:  # one line at a time: the last word on each
        for key, sample in last.samples(last.cache.read(line)).items():
            last.found[key] = sample
    assert repr(sorted(last.found.items())) == repr(sorted(known.items()))


def test_a_plain_line_behind_one_with_a_time_has_neither_its_value_nor_its_time() -> None:
    reader = Everything()
    page = 'a 1 1700000000000\nb 1\na 2\nb 2 # {t="x"} 1\nb 3\n'
    for _ in range(3):
        assert reader.read(page) == {("a", ()): (2.0, None), ("b", ()): (3.0, None)}


def test_series_that_leave_are_forgotten_and_their_numbers_used_again() -> None:
    """An exporter with ever new labels does not fill the memory."""
    reader = Everything()
    for turn in range(60):
        reader.read("".join(f'job{{id="{turn}-{i}"}} 1\n' for i in range(200)))
    assert len(reader.cache) < 2_000
    assert len(reader.series) < 2_000
    assert max(reader.series) < 3_000


def test_a_kept_series_keeps_its_number_while_others_leave() -> None:
    reader = Everything()
    reader.read("kept 1\n")
    (number,) = reader.series
    for turn in range(30):
        reader.read("kept 1\n" + "".join(f'job{{id="{turn}-{i}"}} 1\n' for i in range(200)))
    assert reader.series[number] == ("kept", ())
