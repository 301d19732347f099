"""The scheduled window of a timed resource, and the questions that are asked of it.

Two instants frame the window: work on the resource begins `lead_time` before it starts, and nothing of the
resource may be left `teardown_buffer` after it ends. A long lead is what makes provisioning eager, a short
one just-in-time; there is no other switch.

Edges, which callers rely on to the instant:

| question         | true while                      | lower edge | upper edge |
|------------------|---------------------------------|------------|------------|
| `is_approaching` | provision_at <= now < start     | inclusive  | exclusive  |
| `is_active`      | start <= now <= end             | inclusive  | inclusive  |
| `is_in_teardown` | end < now <= cleanup_deadline   | exclusive  | inclusive  |
| `is_expired`     | end < now                       | exclusive  |            |

`is_expired` speaks of the window's end, the phase `expired` of the cleanup deadline: a slot in teardown is
expired as a window and not yet in the phase. At the very end a slot is still active; whoever acts on the end
acts at `now >= end`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from steersman.kernel.clock import TimeOutOfRange, as_utc, current_now, iso_utc
from steersman.kernel.errors import InvalidInput

LEAD_TIME = timedelta(minutes=15)
"""How long before its start a slot is provisioned, where nothing else is said."""
TEARDOWN_BUFFER = timedelta(minutes=10)
"""How long after its end a slot may take to clean up, where nothing else is said."""

SlotPhase = Literal["before", "approaching", "active", "teardown", "expired"]
"""Where an instant lies: before provision_at, up to start, up to end, up to cleanup_deadline, after it."""


class TimeslotInvalid(InvalidInput, ValueError):
    """A window that can't be: its end not after its start, a negative lead or buffer, a wrong key or value.

    Also a ValueError, so that a decoder that meets one adds the place in the document to it.
    """

    code = "timeslot_invalid"
    title = "Timeslot invalid"


class Timeslot(Struct, frozen=True):
    """A scheduled window with its lead and teardown; a value.

    Naive datetimes are read as UTC and all are kept in UTC. Raises `TimeslotInvalid`. `to_dict` is the form
    that is stored, published and sent. Each question takes an instant; without one it means the current
    clock's now (decision 0005).
    """

    start: datetime
    end: datetime
    lead_time: timedelta = LEAD_TIME
    teardown_buffer: timedelta = TEARDOWN_BUFFER

    def __post_init__(self) -> None:
        try:
            start, end = as_utc(self.start), as_utc(self.end)
            if end <= start:
                raise TimeslotInvalid(f"end ({iso_utc(end)}) must be after start ({iso_utc(start)})")
            if self.lead_time < timedelta(0):
                raise TimeslotInvalid(f"lead_time must be non-negative, it is {self.lead_time}")
            if self.teardown_buffer < timedelta(0):
                raise TimeslotInvalid(f"teardown_buffer must be non-negative, it is {self.teardown_buffer}")
            _ = start - self.lead_time, end + self.teardown_buffer  # both instants must exist
        except (OverflowError, TimeOutOfRange):
            raise TimeslotInvalid("the slot reaches outside the years 1 to 9999") from None
        force_setattr(self, "start", start)
        force_setattr(self, "end", end)

    def provision_at(self) -> datetime:
        """When work on the resource begins."""
        return self.start - self.lead_time

    def cleanup_deadline(self) -> datetime:
        """When nothing of the resource may be left."""
        return self.end + self.teardown_buffer

    def duration(self) -> timedelta:
        """How long the window is, from start to end."""
        return self.end - self.start

    def total_duration(self) -> timedelta:
        """How long the resource takes up room, from provision_at to cleanup_deadline."""
        return self.cleanup_deadline() - self.provision_at()

    def is_approaching(self, now: datetime | None = None) -> bool:
        """Whether it is time to provision and the window has not started."""
        return self.provision_at() <= _instant(now) < self.start

    def is_active(self, now: datetime | None = None) -> bool:
        """Whether the window is open; both ends belong to it."""
        return self.start <= _instant(now) <= self.end

    def is_expired(self, now: datetime | None = None) -> bool:
        """Whether the window is over; at its very end it is not."""
        return _instant(now) > self.end

    def is_in_teardown(self, now: datetime | None = None) -> bool:
        """Whether the window is over and the cleanup deadline is not; the deadline itself belongs to it."""
        return self.end < _instant(now) <= self.cleanup_deadline()

    def remaining(self, now: datetime | None = None) -> timedelta:
        """The time from now to the end, also before the start; zero once it is over."""
        return max(timedelta(0), self.end - _instant(now))

    def phase(self, now: datetime | None = None) -> SlotPhase:
        """Where now lies."""
        instant = _instant(now)
        if instant < self.provision_at():
            return "before"
        if instant < self.start:
            return "approaching"
        if instant <= self.end:
            return "active"
        return "teardown" if instant <= self.cleanup_deadline() else "expired"

    def extend(self, to: timedelta | datetime) -> Timeslot:
        """A slot that ends later: by a positive amount of time, or at an instant after the present end.

        Start, lead and buffer stay. A slot can't be made shorter. Raises `TimeslotInvalid`.
        """
        try:
            end = self.end + to if isinstance(to, timedelta) else as_utc(to)
        except (OverflowError, TimeOutOfRange):
            raise TimeslotInvalid("the slot reaches outside the years 1 to 9999") from None
        if end <= self.end:
            raise TimeslotInvalid(
                f"the new end ({iso_utc(end)}) must be after the present one ({iso_utc(self.end)})"
            )
        return Timeslot(self.start, end, self.lead_time, self.teardown_buffer)

    def to_dict(self) -> dict[str, Any]:
        """The stored form: ISO 8601 times in UTC and amounts in float seconds."""
        return {
            "start": iso_utc(self.start),
            "end": iso_utc(self.end),
            "lead_time_seconds": self.lead_time.total_seconds(),
            "teardown_buffer_seconds": self.teardown_buffer.total_seconds(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Timeslot:
        """Read the stored form; times may be datetimes, the amounts may be missing (15 and 10 minutes).

        Raises `TimeslotInvalid`, also for a key that is not known.
        """
        try:
            stored = msgspec.convert(dict(data), StoredTimeslot)
            lead, buffer = (
                timedelta(seconds=amount)
                for amount in (stored.lead_time_seconds, stored.teardown_buffer_seconds)
            )
        except msgspec.ValidationError as error:
            raise TimeslotInvalid(f"timeslot: {error}") from None
        except (ValueError, OverflowError):
            raise TimeslotInvalid("timeslot: the amounts must be finite numbers of seconds") from None
        return cls(stored.start, stored.end, lead, buffer)

    def __str__(self) -> str:
        return (
            f"Timeslot({iso_utc(self.start)} -> {iso_utc(self.end)},"
            f" lead {self.lead_time}, teardown {self.teardown_buffer})"
        )


class StoredTimeslot(Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of a timeslot in stores and messages: what `Timeslot.to_dict` gives."""

    start: Annotated[datetime, Meta(description="when the window opens; naive is UTC")]
    end: Annotated[datetime, Meta(description="when it closes; after start")]
    lead_time_seconds: Annotated[
        float, Meta(description="how long before start work begins", extra_json_schema={"minimum": 0})
    ] = LEAD_TIME.total_seconds()
    teardown_buffer_seconds: Annotated[
        float, Meta(description="how long after end cleanup may take", extra_json_schema={"minimum": 0})
    ] = TEARDOWN_BUFFER.total_seconds()


def _instant(now: datetime | None) -> datetime:
    return current_now() if now is None else as_utc(now)
