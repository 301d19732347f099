"""Slurm's values in the spellings of its versions: numbers, times, durations, memory, ends of processes.

A number is a plain int up to v0.0.38 and `{set, infinite, number}` from v0.0.39 on; a plain one may be one of
the sentinels that slurm.h calls NO_VAL and INFINITE, in 32 or 64 bits. All of these are "no number" here.
Texts say `(null)`, `N/A`, `None`, `Unknown`, `UNLIMITED` and the like.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from steersman.kernel.bounds import MIB

INFINITE = float("inf")
"""What stands for "no limit" inside this driver; it is never told as a value."""

_NO_VAL = {2**32 - 2, 2**64 - 2}
_INFINITE = {2**32 - 1, 2**64 - 1}
# slurm.h: NO_VAL, NO_VAL64; INFINITE, INFINITE64. Signed twins come as negatives. Those of 16 bits are left
# alone: nothing that is read here has 16 bits, and 65534 MB is a memory that a node can have.
_NOTHING = frozenset({"", "(null)", "n/a", "n/s", "none", "unknown", "null", "not_set", "no_val"})
_WITHOUT_LIMIT = frozenset({"unlimited", "infinite"})
_DURATION = re.compile(r"(?:(\d{1,7})-)?(\d{1,7})(?::(\d{1,2}))?(?::(\d{1,2}))?(?:\.\d+)?")
_MEMORY = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGTPE]?)i?B?[nc]?", re.IGNORECASE)
_MEMORY_UNITS = {"": 1, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3, "E": 1024**4}
_LAST_S = 253_402_300_799
"""The last second of the year 9999, behind which no datetime is."""


def text_of(value: Any) -> str | None:
    """A text that says something; None for the many ways to say nothing."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    return None if text.lower() in _NOTHING else text


def number_of(value: Any) -> float | None:
    """A number of any version; `INFINITE` for no limit, None for no number."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, Mapping):
        triple = cast("Mapping[str, Any]", value)
        if triple.get("infinite") is True:
            return INFINITE
        return number_of(triple.get("number")) if triple.get("set") is True else None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _WITHOUT_LIMIT:
            return INFINITE
        try:
            return number_of(float(text) if re.search(r"[.eE]", text) else int(text[:32]))
        except ValueError:
            return None
    if isinstance(value, int):
        if value in _INFINITE or value == -1:
            return INFINITE
        return None if value in _NO_VAL or value < 0 else value
    if isinstance(value, float):
        return value if 0 <= value < 2**63 else None
    return None


def count_of(value: Any) -> int | None:
    """A whole number; None where there is none, or no limit."""
    number = number_of(value)
    return None if number is None or number == INFINITE else int(number)


def time_of(value: Any) -> datetime | None:
    """A Unix time of any version, or the text of a command that ran in UTC. 0 is Slurm's "never"."""
    if isinstance(value, str) and "-" in value:
        try:
            return datetime.fromisoformat(value.strip()).replace(tzinfo=UTC)
        except ValueError:
            return None
    seconds = number_of(value)
    if seconds is None or not 0 < seconds <= _LAST_S:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def duration_s(text: Any) -> float | None:
    """Seconds of `D-HH:MM:SS`, `D-HH:MM`, `D-HH`, `HH:MM:SS`, `MM:SS` or `MM`; `INFINITE` for UNLIMITED."""
    if not isinstance(text, str):
        return None
    word = text.strip()
    if word.lower() in _WITHOUT_LIMIT:
        return INFINITE
    match = _DURATION.fullmatch(word)
    if match is None:
        return None
    days, *rest = (int(part) if part is not None else None for part in match.groups())
    parts = [part for part in rest if part is not None]
    if days is not None:
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    if len(parts) == 1:
        return parts[0] * 60.0
    if len(parts) == 2:
        return parts[0] * 60.0 + parts[1]
    return float((parts[0] * 60 + parts[1]) * 60 + parts[2])


def minutes_s(value: Any) -> float | None:
    """Seconds of a number of minutes, as JSON has time limits."""
    minutes = number_of(value)
    return None if minutes is None else minutes * 60.0


def memory_bytes(value: Any) -> int | None:
    """Bytes of Slurm's memory: a number counts MiB (Slurm says MB), a text may have a unit of 1024."""
    if isinstance(value, str):
        match = _MEMORY.fullmatch(value.strip())
        if match is None:
            return None
        mib = float(match.group(1)) * _MEMORY_UNITS[match.group(2).upper()]
        return int(mib * MIB) if mib < 2**43 else None
    count = count_of(value)
    return None if count is None or count >= 2**43 else count * MIB


def exit_code_of(value: Any) -> int | None:
    """The exit code of any version: a wait status (up to .38), an object, or `CODE:SIGNAL`. A signal N
    counts as 128 + N, as shells say it."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,9}):(\d{1,3})", value.strip())
        if match is None:
            return None
        code, signal = int(match.group(1)), int(match.group(2))
        return code or (128 + signal if signal else 0)
    if isinstance(value, Mapping):
        shape = cast("Mapping[str, Any]", value)
        signal: Any = shape.get("signal")
        if isinstance(signal, Mapping):
            signal = cast("Mapping[str, Any]", signal).get("id", cast("Any", signal).get("signal_id"))
        code = count_of(shape.get("return_code"))
        number = count_of(signal)
        return code or (128 + number if number else code)
    status = count_of(value)
    if status is None:
        return None
    return (status >> 8) & 0xFF or (128 + (status & 0x7F) if status & 0x7F else 0)


def words_of(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text with commas (`csv_string`)."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        return ()
    found = (text_of(item) for item in cast("list[Any]", value))
    return tuple(text for text in found if text is not None)


def finite(value: float | None) -> float | None:
    """The number, unless it means no limit."""
    return None if value is None or value == INFINITE else value
