"""What an entity looked like at a moment, and how its state changed: `describe --at`, `history gpu/...`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from steersman.cli.exits import WrongUsage
from steersman.kernel.clock import as_utc, iso_utc

if TYPE_CHECKING:
    from steersman.kinds.explanation import EntityAt, EntityHistory

_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?Z?")


def read_moment(text: str, now: datetime) -> datetime:
    """`2026-01-01T03:10`, `03:10` (the last time that it was so late, UTC), or `2h` (so long ago).

    Raises `WrongUsage`, also for a time to come. A bare number is no time: `0310` might be so many seconds.
    """
    moment = _read(text, now)
    if moment > now:
        raise WrongUsage(
            f"--at {text[:80]!r} is a time to come: it is {iso_utc(now)} now", hint="write a time that was"
        )
    return moment


def _read(text: str, now: datetime) -> datetime:
    of_day = _OF_DAY.fullmatch(text.strip())
    if of_day is not None:
        hour, minute, second = (int(part or 0) for part in of_day.groups())
        moment = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return moment if moment <= now else moment - timedelta(days=1)
    try:
        return as_utc(datetime.fromisoformat(text.strip()))
    except ValueError:
        pass
    from steersman.kernel.quantity import Duration, QuantityInvalid

    try:
        if text.strip().isdigit():
            raise QuantityInvalid("a number without a unit")
        return now - timedelta(seconds=float(Duration.from_text(text)))
    except (QuantityInvalid, OverflowError):
        raise WrongUsage(
            f"--at {text[:80]!r} is no time",
            hint="write 2026-01-01T03:10, 03:10 (UTC), or 2h for so long ago",
        ) from None


def write_moment(seen: EntityAt, title: str, now: datetime) -> None:
    """The states and measurements of that moment."""
    from steersman.cli.screen import note, write_block, write_pairs
    from steersman.cli.units import ABSENT, one_line, show_age, show_value

    write_pairs(
        [
            ("Entity", one_line(title)),
            ("At", iso_utc(seen.at)),
            ("Known since", ABSENT if seen.known_since is None else iso_utc(seen.known_since)),
        ]
    )
    if seen.known_since is None or seen.at < seen.known_since:
        note("nothing is remembered of that time")
        return
    if not seen.fields:
        note("it was not there then")
    rows = [
        (name, one_line(show_value(value, "", now)), iso_utc(seen.since[name]))
        for name, value in sorted(seen.fields.items())
    ]
    write_block("State", ("FIELD", "VALUE", "SINCE"), rows)
    if seen.sample is not None:
        age = show_age((seen.at - seen.sample.at).total_seconds())
        numbers = [(name, show_value(value, "", now)) for name, value in sorted(seen.sample.values.items())]
        write_block(f"Measured {age} before", ("FIELD", "VALUE"), numbers)


def write_states(history: EntityHistory, now: datetime) -> None:
    """Every change of state, oldest first."""
    from steersman.cli.screen import write_table
    from steersman.cli.units import one_line, show_value

    rows = [
        (
            iso_utc(change.at),
            ", ".join(
                f"{name}={'(gone)' if value is None else one_line(show_value(value, '', now))}"
                for name, value in sorted(change.fields.items())
            ),
        )
        for change in history.states
    ]
    write_table(("AT", "BECAME"), rows)
