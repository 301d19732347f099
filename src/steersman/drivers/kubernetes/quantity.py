"""Quantities as Kubernetes writes them: `500m`, `8`, `512Ki`, `1.5Gi`, `2G`, `12e6`.

A suffix is binary (`Ki` is 1024), decimal (`k` is 1000, `m` a thousandth) or an exponent (`e3`); never two of
them. `E` alone is exa, and in front of digits an exponent. Grammar: resource.Quantity of the API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

TEXT_MAX_CHARS = 64
"""A quantity is at most 2^63 with a few digits behind the point; longer is none."""
EXPONENT_MAX = 30
AMOUNT_MAX = 2**63 - 1
"""The largest amount that Kubernetes keeps; beyond it a quantity is capped there, here it is none."""
CACHED_MAX = 4096
"""A cluster uses few different texts, most of them very often."""

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE])([+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE])?)", re.ASCII
)


def amount(given: Any) -> int | float | None:
    """The amount in the unit itself (bytes, cores, pieces), whole where it is; None where it is none."""
    if isinstance(given, bool):
        return None
    if isinstance(given, int | float):
        given = repr(given)
    return _read(given) if isinstance(given, str) and len(given) <= TEXT_MAX_CHARS else None


def amounts(given: Mapping[str, Any] | None) -> dict[str, int | float]:
    """Those of a mapping (`capacity`, `hard`) that are quantities."""
    found = {name: amount(text) for name, text in (given or {}).items()}
    return {name: value for name, value in found.items() if value is not None}


def count(given: Any) -> int | None:
    """The amount where it counts things: whole and not negative, else None."""
    found = amount(given)
    return found if isinstance(found, int) and found >= 0 else None


@lru_cache(maxsize=CACHED_MAX)
def _read(text: str) -> int | float | None:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    number, exponent, power, suffix = match.groups()
    if exponent and abs(int(power)) > EXPONENT_MAX:
        return None
    if exponent:
        value = Decimal(number).scaleb(int(power))
    elif suffix in _BINARY:
        value = Decimal(number) * _BINARY[suffix]
    else:
        value = Decimal(number).scaleb(_DECIMAL[suffix or ""])
    if abs(value) > AMOUNT_MAX:
        return None
    return int(value) if value == value.to_integral_value() else float(value)
