"""Values as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from steersman.cli.units import one_line, show_age, show_size, show_value

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (192, "3m12s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (18_600, "5h10m"),
        (36_000, "10h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (187_200, "2d4h"),
        (86_400 * 12, "12d"),
        (86_400 * 400, "400d"),
    ],
)
def test_an_age_has_at_most_two_parts(seconds: float, text: str) -> None:
    assert show_age(seconds) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (67_300_000_000, "62.7 GiB"),
        (2**70, "1024 EiB"),
    ],
)
def test_sizes_are_binary(n_bytes: int, text: str) -> None:
    assert show_size(n_bytes) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "B", "-"),
        ([], "", "-"),
        (0, "", "0"),
        (0.0, "1", "0%"),
        (0.2345, "1", "23.4%"),
        (0.00012, "1", "0.012%"),
        (1, "1", "100%"),
        (142.04, "ms", "142 ms"),
        (61, "Cel", "61 °C"),
        (3.14159, "", "3.14"),
        (0.0000012, "", "0.000001"),
        (1234567.8, "", "1234568"),
        (12.5, "1/s", "12.5/s"),
        (50, "%", "50%"),
        (90, "s", "90s"),
        (0.25, "s", "250 ms"),
        (2048, "B/s", "2 KiB/s"),
        (7, "[foo]", "7 [foo]"),
        (True, "", "yes"),
        (False, "", "no"),
        ({"b": 0.5, "a": 0.25}, "1", "a 25%, b 50%"),
        (["x", "y"], "", "x, y"),
        ("line\nbreak\x1b[31m", "", "line\\nbreak\\x1b[31m"),
        (NOW - timedelta(minutes=5), "", "5m ago"),
    ],
)
def test_a_value_carries_its_unit(value: Any, unit: str, text: str) -> None:
    assert show_value(value, unit, NOW) == text


def test_text_from_outside_can_not_drive_a_terminal() -> None:
    assert "\x1b" not in one_line("\x1b]0;owned\x07")
    assert one_line("Grüße") == "Grüße"
