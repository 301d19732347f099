"""Durations and sizes: read, refused, written back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.kernel.quantity import DURATION_MAX_S, ByteSize, Duration, QuantityInvalid


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15s", 15), ("5m", 300), ("300s", 300), ("1h30m", 5400), ("250ms", 0.25), ("1.5h", 5400),
     ("2d", 172800), ("1w", 604800), ("20", 20), (20, 20), (0.5, 0.5),
     (" 5m ", 300), ("0s", 0), ("1m 30s", 90)],
)  # fmt: skip
def test_durations(text: str | float, seconds: float) -> None:
    assert Duration.from_text(text) == seconds


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "s",
        "5",
        "-5s",
        "5x",
        "5 apples",
        "1e3s",
        "m5",
        True,
        float("nan"),
        float("inf"),
        -1,
        "9" * 30 + "s",
    ],
)
def test_what_is_no_duration(bad: str | float) -> None:
    if bad == "5":
        assert Duration.from_text(bad) == 5
        return
    with pytest.raises(QuantityInvalid, match="is not a duration such as"):
        Duration.from_text(bad)


@given(st.integers(0, int(DURATION_MAX_S)))
def test_a_duration_reads_back_what_it_writes(seconds: int) -> None:
    assert Duration.from_text(str(Duration(seconds))) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("8MiB", 8 << 20), ("512KiB", 512 << 10), ("1GB", 10**9), ("100", 100), (4096, 4096), ("1.5KiB", 1536),
     ("10 MB", 10**7), ("7B", 7), ("1mib", 1 << 20)],
)  # fmt: skip
def test_sizes(text: str | float, size: int) -> None:
    assert ByteSize.from_text(text) == size


@pytest.mark.parametrize("bad", ["", "MiB", "-1", "1XB", 1.5, True, float("nan"), "1e3"])
def test_what_is_no_size(bad: str | float) -> None:
    with pytest.raises(QuantityInvalid, match="is not a size such as"):
        ByteSize.from_text(bad)


@given(st.integers(0, 1 << 50))
def test_a_size_reads_back_what_it_writes(size: int) -> None:
    assert ByteSize.from_text(str(ByteSize(size))) == size


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for kind in (Duration, ByteSize):
        try:
            assert kind.from_text(text) >= 0
        except QuantityInvalid:
            pass
