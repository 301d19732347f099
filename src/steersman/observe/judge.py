"""A source's own health: what came of its last observations.

The figures are over the last `WINDOW` observations, so that a source read once a minute and one read each
second are judged by as many attempts.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime
from typing import Any

from msgspec import Struct

from steersman.kernel.redact import redact_text
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment

WINDOW = 100
"""Observations that percentiles and error rate are taken over."""

DETAIL_MAX_CHARS = 500
SOURCE_ID_PREFIX = "source/"

STARTING, UP, DOWN, STUCK = "starting", "up", "down", "stuck"


class SourceHealth(Struct, frozen=True):
    """A source as /readyz, /metrics and doctor show it.

    `state`: starting (not observed yet), up, down (the last observation failed) or stuck (it has not even
    ended; no new one is begun until it does). `failures` counts those in a row. `fragments` counts since the
    start. `warnings` are those of the last good observation.
    """

    name: str
    driver: str
    scope: str
    interval_s: float
    state: str
    failures: int
    observations: int
    fragments: int
    error_rate: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    last_success_at: datetime | None
    last_error: str
    next_in_s: float
    warnings: tuple[str, ...] = ()
    longest_block_s: float = 0.0


class Record:
    """The running record of one source."""

    def __init__(self) -> None:
        self.state = STARTING
        self.failures = 0
        self.observations = 0
        self.fragments = 0
        self.last_success_at: datetime | None = None
        self.last_error = ""
        self.warnings: tuple[str, ...] = ()
        self.longest_block_s = 0.0
        self._outcomes: deque[bool] = deque(maxlen=WINDOW)
        self._latencies_ms: deque[float] = deque(maxlen=WINDOW)

    def succeeded(self, at: datetime, took_s: float, fragments: int, warnings: list[str]) -> None:
        """An observation came to an end and brought something."""
        self.state = UP
        self.failures = 0
        self.observations += 1
        self.fragments += fragments
        self.last_success_at = at
        self.warnings = tuple(shortened(line) for line in warnings)
        self._outcomes.append(True)
        self._latencies_ms.append(took_s * 1000.0)

    def failed(self, why: str, *, stuck: bool = False) -> None:
        """An observation failed, or does not end."""
        self.state = STUCK if stuck else DOWN
        self.failures += 1
        self.observations += 1
        self.last_error = shortened(why)
        self._outcomes.append(False)

    @property
    def error_rate(self) -> float:
        """Share of the last observations that failed."""
        return self._outcomes.count(False) / len(self._outcomes) if self._outcomes else 0.0

    def percentile_ms(self, share: float) -> float | None:
        """The latency that a share of the last good observations kept within (nearest rank)."""
        if not self._latencies_ms:
            return None
        ordered = sorted(self._latencies_ms)
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)

    def fragment(self, name: str, driver: str, scope: str, source: str, at: datetime) -> StateFragment:
        """The record as a fact: the `service` entity `source/<name>`."""
        fields: dict[str, Any] = {
            "up": self.state == UP,
            "error_rate": round(self.error_rate, 6),
            "latency_p50_ms": self.percentile_ms(0.50),
            "latency_p95_ms": self.percentile_ms(0.95),
            "latency_p99_ms": self.percentile_ms(0.99),
            "last_success_at": self.last_success_at,
            "last_error": self.last_error or None,
        }
        labels = {"driver": driver, **({SCOPE_LABEL: scope} if scope else {})}
        return StateFragment(
            source, EntityType.SERVICE, f"{SOURCE_ID_PREFIX}{name}", at, fields, labels, source=source
        )


def shortened(text: str) -> str:
    """A line that is safe and short enough to be shown: secrets masked, one line, bounded, and of whole
    characters (a file name that is not UTF-8 has halves, which no answer can carry)."""
    text = text[: 4 * DETAIL_MAX_CHARS].encode(errors="backslashreplace").decode()
    text = " ".join(redact_text(text[: 4 * DETAIL_MAX_CHARS]).split())
    return text if len(text) <= DETAIL_MAX_CHARS else text[: DETAIL_MAX_CHARS - 3] + "..."
