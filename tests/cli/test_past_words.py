"""How people say a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from steersman.cli.exits import WrongUsage
from steersman.cli.past import read_moment

NOW = datetime(2026, 5, 2, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("03:10", NOW.replace(hour=3, minute=10)),
        ("23:10", NOW.replace(day=1, hour=23, minute=10)),
        ("03:10Z", NOW.replace(hour=3, minute=10)),
        ("3:10:05", NOW.replace(hour=3, minute=10, second=5)),
        ("2h", NOW - timedelta(hours=2)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2026-05-01T03:10", datetime(2026, 5, 1, 3, 10, tzinfo=UTC)),
        ("2026-05-01T03:10+02:00", datetime(2026, 5, 1, 3, 10, tzinfo=timezone(timedelta(hours=2)))),
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read(text: str, moment: datetime) -> None:
    assert read_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["soon", "24:10", "3:60", "", "-2h", "9" * 400 + "h", "0310", "10"])
def test_what_is_no_moment_is_refused_with_how_to_say_it(text: str) -> None:
    with pytest.raises(WrongUsage, match="is no time"):
        read_moment(text, NOW)


@pytest.mark.parametrize("text", ["2026-05-02T12:00:01", "2099-01-01", "2026-05-02T12:30+00:00"])
def test_a_time_to_come_has_no_picture_yet(text: str) -> None:
    with pytest.raises(WrongUsage, match="a time to come"):
        read_moment(text, NOW)
