"""What came of the last look at each resource that is not simply done: bounded, and not durable.

It answers "why is it not moving" without asking anything. What must outlive a restart is with the resource:
its retries, its operation, its conditions.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from steersman.act.reconcile.api import After, Done, Failed, Outcome, Stuck
from steersman.kinds.state import ResourceRef

LOOKS_MAX = 20_000
"""Resources whose last look is kept; the ones looked at longest ago are forgotten first."""

OUTCOMES = ("done", "after", "failed", "stuck")
_WORDS: dict[type[Done] | type[After] | type[Failed] | type[Stuck], str] = {
    Done: "done",
    After: "after",
    Failed: "failed",
    Stuck: "stuck",
}


class Seen(Struct, frozen=True):
    """A look: what it came to, when, and whether the freeze was the reason."""

    outcome: Outcome
    at: datetime
    next_at: datetime | None = None
    frozen: bool = False
    failures: int = 0
    budget: int = 0

    @property
    def word(self) -> str:
        """The outcome in one word."""
        return word_of(self.outcome)


def word_of(outcome: Outcome) -> str:
    """done, after, failed or stuck."""
    return _WORDS[type(outcome)]


class Looks:
    """The last look of each resource, and how many came to what."""

    def __init__(self, looks_max: int = LOOKS_MAX) -> None:
        self._max = looks_max
        self._seen: dict[ResourceRef, Seen] = {}
        self.counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)

    def note(self, ref: ResourceRef, seen: Seen) -> None:
        """Keep a look; what is done and waits for no time needs no place."""
        self.counts[seen.word] += 1
        self._seen.pop(ref, None)
        if isinstance(seen.outcome, Done) and seen.next_at is None:
            return
        self._seen[ref] = seen
        if len(self._seen) > self._max:
            del self._seen[next(iter(self._seen))]

    def get(self, ref: ResourceRef) -> Seen | None:
        """The last look; None where none is kept."""
        return self._seen.get(ref)

    def forget(self, ref: ResourceRef) -> None:
        """The resource is settled or gone."""
        self._seen.pop(ref, None)

    def stuck(self) -> list[ResourceRef]:
        """Resources that wait for somebody: a thaw may free them."""
        return [ref for ref, seen in self._seen.items() if isinstance(seen.outcome, Stuck)]

    def __len__(self) -> int:
        return len(self._seen)

    def counted(self, word: str) -> int:
        """Resources whose last look came to this, among those kept."""
        return sum(seen.word == word for seen in self._seen.values())
