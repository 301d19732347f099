"""Names and chance, injected so that a run can be repeated to the byte."""

from __future__ import annotations

import random
import secrets
from typing import Protocol

from steersman.kernel.clock import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case: no i, l, o, u
_TIME_CHARS = 10  # 50 bits of milliseconds: good until the year 37,000
_CHANCE_CHARS = 12  # 60 random bits: two ids of one millisecond collide once in 10^18


class Rng(Protocol):
    """Chance. `random.Random` fulfils it."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def uniform(self, a: float, b: float) -> float:
        """A number in [a, b]."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """`k` random bits as a whole number."""
        ...


class Ids(Protocol):
    """New names for things we create."""

    def new(self, prefix: str) -> str:
        """A name never given before, `prefix-...`; later names sort after earlier ones."""
        ...


def system_rng() -> Rng:
    """Chance from the operating system."""
    return random.SystemRandom()


def seeded_rng(seed: int) -> Rng:
    """The same chance for the same seed, on every machine."""
    return random.Random(seed)  # noqa: S311 - for jitter, samples and simulation; secrets use new_secret


class SortableIds:
    """Ids that sort by the time they were made: a time part, then chance."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._clock = clock
        self._rng = rng
        self._last_ms = 0

    def new(self, prefix: str) -> str:
        ms = int(self._clock.now().timestamp() * 1000)
        self._last_ms = max(self._last_ms, ms)  # a clock set back must not make a later id sort earlier
        chance = self._rng.getrandbits(5 * _CHANCE_CHARS)
        return f"{prefix}-{_base32(self._last_ms, _TIME_CHARS)}{_base32(chance, _CHANCE_CHARS)}"


class CountedIds:
    """`prefix-000001`, `prefix-000002`, ...: for tests, replay and simulation."""

    def __init__(self) -> None:
        self._count = 0

    def new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}-{self._count:06d}"


def new_secret(n_bytes: int = 32) -> str:
    """A URL-safe secret from the operating system; never from an injected Rng."""
    return secrets.token_urlsafe(n_bytes)


def _base32(number: int, width: int) -> str:
    chars: list[str] = []
    for _ in range(width):
        number, low = divmod(number, 32)
        chars.append(_ALPHABET[low])
    return "".join(reversed(chars))
