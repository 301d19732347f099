"""Taking samples for history: as often as a fixed amount of work a second allows, each entity in its turn.

Few entities are sampled when they are written. Of many, that would slow the writes down, so they are sampled
when the wheel looks at them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from steersman.kinds.entity import HealthState
from steersman.state.cell import NEVER, Cell
from steersman.state.history import History
from steersman.state.layer import Arrival
from steersman.state.limits import BusLimits
from steersman.state.past import HEALTH, states_of
from steersman.state.view import snapshot_of

GAP_MIN_S = 1.0
"""Samples of one entity are at least so far apart."""
SPREAD_S = 100.0
"""Over how long the first samples are spread where very many entities come at once."""
SAMPLES_MIN = 8
"""Samples that an entity may keep, however many entities there are."""
_GOLDEN = 0.6180339887498949  # its multiples, modulo 1, are spread evenly whatever their number


class Sampler:
    """Decides when an entity is sampled next, and how many samples it keeps."""

    def __init__(self, limits: BusLimits) -> None:
        self._limits = limits

    def first_at(self, entities: int) -> float:
        """From when the `entities`-th entity is sampled by writes: at once, or never where there are many."""
        return 0.0 if entities <= self._limits.history_samples_per_s else NEVER

    def is_due(self, cell: Cell, monotonic: float) -> bool:
        """Whether a look at the entity should sample it: where there are many, writes do not."""
        if cell.sample_at != NEVER:
            return False
        if cell.history is None:  # the first samples of a fleet that came at once are spread over the gap
            cell.history = History()
            cell.history.due_at = monotonic + SPREAD_S * (cell.revision * _GOLDEN % 1.0)
        return monotonic >= cell.history.due_at

    def gap_s(self, entities: int) -> float:
        """How far apart the samples of one entity are, so that all together keep to the rate."""
        return max(GAP_MIN_S, entities / self._limits.history_samples_per_s)

    def sample(self, cell: Cell, now: Arrival, entities: int) -> None:
        """Keep its numbers and its health as they are now."""
        if cell.history is None:
            cell.history = History()
        cell.history.due_at = now.monotonic + self.gap_s(entities)
        crowded = entities > self._limits.history_samples_per_s
        cell.sample_at = NEVER if crowded else cell.history.due_at
        values, health = snapshot_of(cell.entity_type, cell.layers, now)
        width = max(len(values), cell.history.width)
        share = self._limits.history_values_max // (max(1, entities) * (1 + width))
        samples_max = max(SAMPLES_MIN, min(share, self._limits.history_samples_max))
        cell.history.add(now.wall, values, samples_max)
        self._note(cell, cell.history, now, values, health)

    def note(self, cell: Cell, now: Arrival) -> None:
        """Keep its health and its states where they changed."""
        if cell.history is None:
            cell.history = History()
        self._note(cell, cell.history, now, *snapshot_of(cell.entity_type, cell.layers, now))

    def note_absence(self, cell: Cell, at: datetime) -> None:
        """It has no state any more: it is gone."""
        if cell.history is not None:
            cell.history.past.note(at, {}, self._limits.state_changes_max)

    def take_over(self, cell: Cell, of: Cell, *, whole: bool) -> None:
        """What is remembered `of` a cell is remembered of `cell` too: with `whole`, all that it was is said
        of this one now, and both are one past. Never shared: each goes on by itself."""
        if of.history is None:
            return
        if not whole:
            cell.history = cell.history or of.history.copy()
            return
        if cell.history is None:
            cell.history = of.history
        else:
            joined = cell.history.past.joined(of.history.past, self._limits.state_changes_max)
            cell.history.past = joined
        of.history = None

    def has_news(self, cell: Cell, values: Mapping[str, Any]) -> bool:
        """Whether its states are other ones than were last kept; cheap, for looks at many."""
        history = cell.history
        return history is not None and not history.past.holds(states_of(cell.entity_type, values))

    def _note(
        self, cell: Cell, history: History, now: Arrival, values: Mapping[str, Any], health: HealthState
    ) -> None:
        history.note_health(now.wall, health, self._limits.health_changes_max)
        states = states_of(cell.entity_type, values)
        states[HEALTH] = health.value
        history.past.note(now.wall, states, self._limits.state_changes_max)
