"""Units that a mapping may name, and the factor from one to another of the same dimension.

Nothing is guessed from a value's size: 1 in percent is 0.01, 1 as a ratio is 1, and only the exporter's own
documentation says which it is.
"""

from __future__ import annotations

_UNITS: dict[str, tuple[str, float]] = {
    "": ("count", 1.0),
    "ratio": ("share", 1.0),
    "1": ("share", 1.0),
    "percent": ("share", 0.01),
    "%": ("share", 0.01),
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "us": ("time", 1e-6),
    "ns": ("time", 1e-9),
    "B": ("data", 1.0),
    "KiB": ("data", 1024.0),
    "MiB": ("data", 1024.0**2),
    "GiB": ("data", 1024.0**3),
    "kB": ("data", 1e3),
    "MB": ("data", 1e6),
    "GB": ("data", 1e9),
    "Cel": ("temperature", 1.0),
    "W": ("power", 1.0),
    "mW": ("power", 1e-3),
    "J": ("energy", 1.0),
    "mJ": ("energy", 1e-3),
    "Hz": ("frequency", 1e-6),
    "kHz": ("frequency", 1e-3),
    "MHz": ("frequency", 1.0),
    "GHz": ("frequency", 1e3),
    "ms/s": ("share", 1e-3),
    "us/s": ("share", 1e-6),
    "ns/s": ("share", 1e-9),
    "B/s": ("data rate", 1.0),
    "1/s": ("rate", 1.0),
    "1/min": ("rate", 1 / 60),
}

UNITS = tuple(unit for unit in _UNITS if unit)
"""Every unit by its symbol; "" is a plain count."""


def factor(given: str, wanted: str) -> float | None:
    """What a number in `given` is multiplied by to be in `wanted`; None where that makes no sense."""
    if given not in _UNITS or wanted not in _UNITS:
        return None
    dimension, size = _UNITS[given]
    other, other_size = _UNITS[wanted]
    return size / other_size if dimension == other else None


def base(unit: str) -> float | None:
    """What a number in `unit` is multiplied by to be in its dimension's base (B, s, 1, W, ...)."""
    return _UNITS[unit][1] if unit in _UNITS else None


def rate_unit(unit: str) -> str | None:
    """The unit of a counter's rate: events per second, a share where time is counted per second, power where
    energy is; None where no field has such a unit."""
    return _RATES.get(unit)


_RATES = {
    "": "1/s",
    "s": "1",
    "ms": "ms/s",
    "us": "us/s",
    "ns": "ns/s",
    "B": "B/s",
    "J": "W",
    "mJ": "mW",
}
