"""What the runner needs of whoever decides: Protocols, so that acting and deciding stay apart.

Deciding is pure. The runner brings the picture (snapshots), the time and what guardrails compare
(`Standing`); it gets findings and verdicts, and makes them last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct, field

from steersman.kinds.deciding import Finding, PolicyReading, Recheck, Seen, Standing
from steersman.kinds.entity import EntityKey
from steersman.kinds.policy import Policy, Recommendation


class Evaluator(Protocol):
    """The compiled policies, and since when what holds of whom."""

    def look(self, seen: Iterable[Seen], now: datetime) -> Sequence[Finding]:
        """Evaluate the policies that match these entities, and no others."""
        ...

    def due_at(self) -> datetime | None:
        """The next moment at which a `for` is over, or silence may change an answer; None for never."""
        ...

    def due(self, now: datetime) -> Sequence[EntityKey]:
        """The entities that are to be looked at by now although nothing changed."""
        ...

    def forget(self, key: EntityKey) -> None:
        """The entity is gone."""
        ...

    def recheck(self, recommendation: Recommendation, seen: Seen | None, standing: Standing) -> Recheck:
        """The guardrails again, and the condition, on fresh facts. Pure."""
        ...

    def save(self, now: datetime) -> Mapping[str, Any]:
        """Since when what holds, as plain data; lengths of time, not stamps."""
        ...

    def restore(self, saved: Mapping[str, Any], now: datetime) -> None:
        """Go on from what was saved: what had held for so long has held for so long now."""
        ...


class Rules(Protocol):
    """Reads policies, and makes an evaluator of them."""

    def read(self, text: str, file: str) -> PolicyReading:
        """The policies of one text; what can't be read is a problem and never an error."""
        ...

    def evaluator(self, policies: Sequence[Policy], before: Any = None) -> Evaluator:
        """An evaluator of these; what still means the same keeps its since-times from `before`,
        which is None or one that it made earlier."""
        ...


class SavedSince(Struct, frozen=True):
    """The soft checkpoint of since-times: `saved_at` by the wall clock."""

    saved_at: datetime
    data: dict[str, Any] = field(default_factory=dict[str, Any])
