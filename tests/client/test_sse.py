"""The event parser: bytes may be cut anywhere and end lines in three ways; nothing it is fed breaks it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steersman.client.errors import BadAnswer
from steersman.client.sse import EVENT_MAX_BYTES, EventParser, ServerEvent

STREAM = (
    b"\xef\xbb\xbfretry: 2000\n\n"
    b'id: 4\nevent: hello\ndata: {"revision":4}\n\n'
    b": a comment\n\n"
    b"event:entity\ndata:first\ndata: second\nid: 7\n\n"
    b"id: 9\n\n"
    b"data\n\n"
    b"event: lost\nunknown: x\n\n"
    b"data: \xf0\x9f\x92\xa9 \xff\n\n"
    b"data: never finished\nid: 10\n"
)
EVENTS = [
    ServerEvent("hello", b'{"revision":4}', "4"),
    ServerEvent("entity", b"first\nsecond", "7"),
    ServerEvent("message", b"", None),
    ServerEvent("message", b"\xf0\x9f\x92\xa9 \xff", None),
]


def read(*chunks: bytes) -> tuple[list[ServerEvent], EventParser]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)], parser


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_stream_cut_at_every_byte_reads_the_same(ending: bytes) -> None:
    stream = STREAM.replace(b"\n", ending)
    for position in range(len(stream) + 1):
        events, parser = read(stream[:position], stream[position:])
        assert events == EVENTS, position
        assert (parser.last_id, parser.retry_ms) == ("9", 2000)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_stream_fed_byte_by_byte_reads_the_same(ending: bytes) -> None:
    stream = STREAM.replace(b"\n", ending)
    events, _ = read(*(stream[i : i + 1] for i in range(len(stream))))
    assert events == EVENTS


def test_an_id_counts_only_once_its_block_is_complete() -> None:
    """Goal: a stream cut behind `id:` goes on with the block before, so that nothing is skipped."""
    _, parser = read(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert parser.last_id == "1"
    parser.feed(b"\n")
    assert parser.last_id == "2"


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
@example(b"\r\n\r\n\n\r", [1, 2, 3])
def test_any_bytes_read_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(places)]
    assert read(*pieces)[0] == read(data)[0]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"]), min_size=1),
            st.integers(0, 10**12),
        )
    )
)
def test_what_is_written_is_read(said: list[tuple[str, int]]) -> None:
    stream = b"".join(b"id: %d\nevent: x\ndata: %s\n\n" % (n, text.encode()) for text, n in said)
    events, _ = read(stream)
    assert [(event.data.decode(), event.id) for event in events] == [(text, str(n)) for text, n in said]


def test_an_event_without_end_is_refused_at_the_bound() -> None:
    chunks = [b"x" * 1024 * 1024] * (EVENT_MAX_BYTES // 1024 // 1024 + 2)
    with pytest.raises(BadAnswer):
        read(*chunks)


@pytest.mark.parametrize(
    "line", [b"retry: -1", b"retry: soon", b"retry: 99999999999", b"id: a\0b", b":", b""]
)
def test_odd_fields_change_nothing(line: bytes) -> None:
    events, parser = read(line + b"\ndata: x\n\n")
    assert (parser.retry_ms, parser.last_id) == (None, None)
    assert [event.data for event in events][-1] == b"x"
