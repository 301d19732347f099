"""Bounds, and what happens when one is reached.

Every queue, buffer, body, page and retry has a named constant next to the code that holds it. The checks
here turn an overrun into the same typed error everywhere.
"""

from __future__ import annotations

from steersman.kernel.errors import InvalidInput, TooLarge

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def at_most(what: str, size: int, limit: int, unit: str = "") -> None:
    """Raise `TooLarge` where `size` is over `limit`, naming both."""
    if size > limit:
        unit = f" {unit}" if unit else ""
        raise TooLarge(f"{what} has {size}{unit}; at most {limit}{unit} are accepted", limit=limit, size=size)


def within(what: str, value: float, low: float, high: float) -> float:
    """`value` where it lies in [low, high], else `InvalidInput`. NaN lies nowhere."""
    if not low <= value <= high:
        raise InvalidInput(f"{what} is {value}; expected a number from {low} to {high}")
    return value
