"""One line of an exposition: Prometheus text 0.0.4 and OpenMetrics 1.0.

This is the slow, exact path; `series` remembers what it found, so that a series' labels are read once and
not at each scrape. The two formats differ in what a timestamp counts (milliseconds, seconds) and in the end
mark. UTF-8 names in quotes (`{"http.requests", code="200"} 1`) are read in both.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LINE_MAX_CHARS = 64 * 1024
LABELS_MAX = 128

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_SERIES = re.compile(r"[ \t]*(" + _NAME + r")?[ \t]*(\{(?:[^\"{}]|" + _QUOTED + r")*\})?", re.DOTALL)
_REST = re.compile(
    r"[ \t]*(?P<value>[^\s#]+)"  # a value
    r"(?:[ \t]+(?P<stamp>[^\s#]+))?"  # perhaps a timestamp
    r"[ \t]*(?:\#[ \t]*\{.*)?\r?$",  # perhaps an exemplar, which is not a sample of its own
    re.DOTALL,
)
_LABEL = re.compile(
    r"[ \t]*(?:(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)|(?P<quoted>" + _QUOTED + r"))[ \t]*"
    r"(?:=[ \t]*(?P<value>" + _QUOTED + r"))?[ \t]*(?P<end>,|$)",
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\([\\n"])')


class LineInvalid(Exception):
    """A line that is no sample; says what is wrong with it."""


class Line(NamedTuple):
    """A sample as written. `series` is the raw text of name and labels, `value` and `stamp` are raw too."""

    series: str
    value: str
    stamp: str | None


def split_line(line: str) -> Line:
    """Where series, value and timestamp of a sample are. Raises `LineInvalid`."""
    if not line.isascii() and any("\ud800" <= char <= "\udfff" for char in line):
        raise LineInvalid("not UTF-8")
    if len(line) > LINE_MAX_CHARS:
        raise LineInvalid(f"longer than {LINE_MAX_CHARS} characters")
    match = _SERIES.match(line)
    name, labels = (match[1], match[2]) if match is not None else (None, None)
    if match is None or (name is None and labels is None):
        raise LineInvalid("no metric name")
    end = match.end()
    if labels is None:
        end = match.end(1)
        if line[end : end + 1] == "{":
            raise LineInvalid("its labels do not end, or a quote is missing")
        if line[end : end + 1] not in (" ", "\t"):
            raise LineInvalid("a metric name with characters that are not allowed, or no value")
    rest = _REST.match(line, end)
    if rest is None:
        raise LineInvalid("expected a value and perhaps a timestamp after the series")
    return Line(line[:end], rest["value"], rest["stamp"])


Labels = tuple[str | None, dict[str, str]]


def read_series(series: str, known: dict[str, Labels] | None = None) -> tuple[str, dict[str, str]]:
    """Name and labels of a series' raw text. Raises `LineInvalid`.

    The series of one thing repeat its labels under many names; `known` remembers them by their text, and the
    dicts are shared: they are read, not changed.
    """
    match = _SERIES.fullmatch(series)
    if match is None:
        raise LineInvalid("no metric name")
    body = match[2][1:-1] if match[2] is not None else ""
    found = known.get(body) if known is not None else None
    if found is None:
        found = read_labels(body)
        if known is not None:
            known[body] = found
    name, labels = found
    if name is not None and match[1] is not None:
        raise LineInvalid("two metric names")
    name = match[1] if match[1] is not None else name
    if not name:
        raise LineInvalid("no metric name")
    return name, labels


def read_labels(body: str) -> Labels:
    """What stands between the braces: a metric name where it is written there, and the labels. Raises
    `LineInvalid`."""
    name: str | None = None
    labels: dict[str, str] = {}
    at = 0
    while at < len(body) and body[at:].strip(" \t"):
        item = _LABEL.match(body, at)
        if item is None:
            raise LineInvalid("its labels can't be read")
        at = item.end()
        label: str = item["name"] if item["name"] is not None else _unquote(item["quoted"])
        if item["value"] is None:  # a name in quotes stands first and alone
            if item["quoted"] is None or name is not None or labels:
                raise LineInvalid("a label without a value")
            name = label
            continue
        if label in labels:
            raise LineInvalid(f"the label {label[:64]!r} stands there twice")
        labels[label] = _unquote(item["value"])
        if len(labels) > LABELS_MAX:
            raise LineInvalid(f"more than {LABELS_MAX} labels")
    return name, labels


def read_value(text: str) -> float:
    """A value. NaN and infinities are values here; the mapping says what they mean. Raises `LineInvalid`."""
    try:
        # Python reads 1_000, digits of other scripts, and white space around a number.
        if "_" in text or not text.isascii() or not text[:1] > " " < text[-1:]:
            raise ValueError
        return float(text)
    except ValueError:
        raise LineInvalid("the value is not a number") from None


def read_stamp(text: str, *, seconds: bool) -> float:
    """A timestamp in seconds since 1970. Raises `LineInvalid`."""
    try:
        if "_" in text or not text.isascii():
            raise ValueError
        stamp_s = float(text) if seconds else int(text) / 1000
    except (ValueError, OverflowError):
        raise LineInvalid("the timestamp is not a number") from None
    if not 0 <= stamp_s < STAMP_MAX_S:
        raise LineInvalid("the timestamp is out of range")
    return stamp_s


STAMP_MAX_S = 253_402_300_799.0
"""The last second of the year 9999."""


def _unquote(quoted: str) -> str:
    text = quoted[1:-1]
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text)
