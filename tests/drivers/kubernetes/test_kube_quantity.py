"""Quantities: every suffix by its table, never by magnitude; what is none is none."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.kubernetes.quantity import AMOUNT_MAX, amount, amounts, count


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("8", 8),
        ("500m", 0.5),
        ("2000m", 2),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1G", 10**9),
        ("1Gi", 2**30),
        ("1.5Gi", 3 * 2**29),
        (".5", 0.5),
        ("5.", 5),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("12e6", 12_000_000),
        ("12E6", 12_000_000),
        ("1e-3", 0.001),
        ("100n", 1e-7),
        ("7u", 7e-6),
        ("-3", -3),
        ("+3", 3),
        ("263911740Ki", 263911740 * 1024),
        (4, 4),
        (1.5, 1.5),
    ],
)
def test_a_quantity_is_read_by_its_suffix(text: object, value: float) -> None:
    assert amount(text) == value
    assert isinstance(amount(text), int) == (value == int(value))


@pytest.mark.parametrize(
    "text",
    [
     "", " ", "1 Gi", "Gi", "1K", "1gi", "1KiB", "1Gi2", "1e",
     "1e3Ki", "1e3m", "0x10", "1_000", "NaN", "inf",
     "Inf", "--1", "1.2.3",
     "1e999", "1e99", "9" * 70, "٣", None, True, [], {}, float("nan"), float("inf"), "1E1Gi"],
)  # fmt: skip
def test_what_is_no_quantity_is_absent(text: object) -> None:
    assert amount(text) is None


def test_a_count_is_whole_and_not_negative() -> None:
    assert (count("8"), count("8000m"), count("500m"), count("-1"), count("x")) == (8, 8, None, None, None)
    assert amounts({"cpu": "2", "memory": "bad", "pods": None}) == {"cpu": 2}
    assert amounts(None) == {}


SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(1000),
    "M": Decimal(10**6), "G": Decimal(10**9), "Ki": Decimal(2**10), "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
}  # fmt: skip


@given(st.integers(-(10**6), 10**6), st.integers(0, 999), st.sampled_from(sorted(SUFFIXES)))
def test_a_written_quantity_is_read_back(whole: int, thousandths: int, suffix: str) -> None:
    number = f"{whole}.{thousandths:03}"
    expected = Decimal(number) * SUFFIXES[suffix]
    value = amount(number + suffix)
    assert value is not None
    assert value == pytest.approx(float(expected), rel=1e-12)


@given(st.text(max_size=80))
def test_any_text_is_a_bounded_number_or_none(text: str) -> None:
    value = amount(text)
    assert value is None or -AMOUNT_MAX <= value <= AMOUNT_MAX
