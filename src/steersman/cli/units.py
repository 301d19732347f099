"""Values as people read them: 62.7 GiB, 23%, 3m12s. For tables only; json and yaml carry the plain values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

ABSENT = "-"
"""Stands for a value that no source has reported. Zero is shown as 0, which is another thing."""

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SUFFIX = {"Cel": " °C", "W": " W", "MHz": " MHz", "1/s": "/s", "ms": " ms", "%": "%", "B/s": "/s"}


def show_value(value: Any, unit: str, now: datetime) -> str:
    """A field's value with its unit. A moment is shown as its age at `now`."""
    if value is None or value in ("", [], {}):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{show_age((now - value).total_seconds())} ago"
    if isinstance(value, int | float):
        return _show_number(value, unit)
    if isinstance(value, Mapping):
        pairs = sorted(cast("Mapping[str, Any]", value).items())
        return ", ".join(f"{name} {show_value(item, unit, now)}" for name, item in pairs)
    if isinstance(value, list | tuple):
        return ", ".join(show_value(item, unit, now) for item in cast("list[Any]", value))
    return one_line(str(value))


def show_age(seconds: float) -> str:
    """An age or length of time in kubectl's habit: 0s, 45s, 3m12s, 47m, 5h10m, 2d4h, 12d.

    A moment in the future (clocks differ) is 0s: an age is never negative.
    """
    whole = max(0, int(seconds))
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{s}s" if s else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 10:
        return f"{hours}h{m}m" if m else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{h}h" if days < 8 and h else f"{days}d"


def show_size(n_bytes: float) -> str:
    """A size in binary units: 512 B, 62.7 GiB."""
    size = float(n_bytes)
    for unit in _BINARY[:-1]:
        if abs(size) < 1024:
            return f"{_short(size)} {unit}"
        size /= 1024
    return f"{_short(size)} {_BINARY[-1]}"


def one_line(text: str) -> str:
    """Text that a source gave, safe in one line of a terminal: control characters are shown, not sent."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _show_number(value: float, unit: str) -> str:
    if unit == "B":
        return show_size(value)
    if unit == "B/s":
        return f"{show_size(value)}/s"
    if unit == "1":
        return f"{_short(value * 100)}%"
    if unit == "s":
        return show_age(value) if value >= 1 else f"{value * 1000:.3g} ms"
    return f"{_short(value)}{_SUFFIX.get(unit, f' {unit}' if unit else '')}"


def _short(number: float) -> str:
    """At most three digits that matter, never an exponent: 0.0421, 3.5, 142, 1234."""
    if number == int(number):
        return str(int(number))
    if abs(number) >= 100:
        return f"{number:.0f}"
    text = f"{number:.3g}"
    return text if "e" not in text else f"{number:.6f}".rstrip("0").rstrip(".")
