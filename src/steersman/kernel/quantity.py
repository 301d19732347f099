"""Durations and sizes as people write them: `15s`, `1h30m`, `8MiB`.

`Duration` is a float of seconds and `ByteSize` an int of bytes, so code that takes a number takes these;
`str()` gives back the short form. Configuration decodes into them by `from_text`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from steersman.kernel.errors import InvalidInput

DURATION_MAX_S = 100 * 365 * 86_400.0
"""A century: longer is a mistake in the unit."""

_DURATION_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(?:\d{1,15}(?:\.\d{1,9})?(?:ms|s|m|h|d|w)\s*){1,6}")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")

_SIZE_UNITS = {
    "": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "TIB": 1024**4,
}  # fmt: skip
_SIZE = re.compile(r"(\d{1,19}(?:\.\d{1,9})?)\s*([A-Za-z]{0,3})")
SIZE_MAX_BYTES = 2**60


class QuantityInvalid(InvalidInput):
    """A text is no duration or size; `detail` says how one is written."""

    code = "quantity_invalid"
    title = "Not a duration or size"


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a quantity, as an annotation: `Annotated[Duration, Between(Duration(1), Duration(3600))]`.

    msgspec's own `Meta` bounds plain numbers only.
    """

    low: Duration | ByteSize
    high: Duration | ByteSize

    def __str__(self) -> str:
        return f"from {self.low} to {self.high}"


class Duration(float):
    """A time span in seconds. Written `15s`, `5m`, `1h30m`, `250ms`; a bare number is in seconds."""

    EXPECTED = "a duration such as 15s, 5m or 1h30m"

    @classmethod
    def from_text(cls, text: str | float) -> Duration:
        """Read one. Raises `QuantityInvalid`."""
        seconds = _seconds(text)
        if seconds is None or not 0 <= seconds <= DURATION_MAX_S:
            raise QuantityInvalid(f"{_shown(text)} is not {cls.EXPECTED} (units ms, s, m, h, d, w)")
        return cls(seconds)

    def __str__(self) -> str:
        if self < 1:
            return f"{self * 1000:g}ms" if self else "0s"
        rest, parts = float(self), ""
        for unit in ("d", "h", "m"):
            count, rest = divmod(rest, _DURATION_UNITS_S[unit])
            parts += f"{count:g}{unit}" if count else ""
        rest = round(rest, 3)
        return parts + (f"{rest:g}s" if rest or not parts else "")

    def __repr__(self) -> str:
        return f"Duration({float(self)!r})"


class ByteSize(int):
    """A number of bytes. Written `8MiB`, `512KiB`, `1GB`; a bare number is in bytes."""

    EXPECTED = "a size such as 8MiB, 512KiB or a number of bytes"

    @classmethod
    def from_text(cls, text: str | float) -> ByteSize:
        """Read one. Raises `QuantityInvalid`."""
        size = _bytes(text)
        if size is None or not 0 <= size <= SIZE_MAX_BYTES:
            raise QuantityInvalid(f"{_shown(text)} is not {cls.EXPECTED}")
        return cls(size)

    def __str__(self) -> str:
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            scale = _SIZE_UNITS[unit.upper()]
            if self >= scale and self % scale == 0:
                return f"{self // scale}{unit}"
        return f"{int(self)}B"

    def __repr__(self) -> str:
        return f"ByteSize({int(self)!r})"


def _seconds(text: str | float) -> float | None:
    if isinstance(text, bool):
        return None
    if isinstance(text, int | float):
        return float(text) if math.isfinite(text) else None
    text = text.strip()
    if re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text):
        return float(text)
    if _DURATION.fullmatch(text) is None:
        return None
    parts: list[tuple[str, str]] = _DURATION_PART.findall(text)
    return sum(float(number) * _DURATION_UNITS_S[unit] for number, unit in parts)


def _bytes(text: str | float) -> int | None:
    if isinstance(text, bool):
        return None
    if isinstance(text, int | float):
        return int(text) if math.isfinite(text) and text == int(text) else None
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].upper() not in _SIZE_UNITS:
        return None
    unit = _SIZE_UNITS[match[2].upper()]
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def _shown(text: str | float) -> str:
    return repr(text if len(str(text)) <= 40 else str(text)[:40] + "...")
