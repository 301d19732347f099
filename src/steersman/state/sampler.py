"""Taking samples for history: as often as a fixed amount of work a second allows, each entity in its turn."""

from __future__ import annotations

from steersman.state.cell import Cell
from steersman.state.history import History
from steersman.state.layer import Arrival
from steersman.state.limits import BusLimits
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

    def first_at(self, entities: int, monotonic: float) -> float:
        """When the `entities`-th entity is sampled first: at once, or in its turn where there are many."""
        if entities <= self._limits.history_samples_per_s:
            return monotonic
        return monotonic + max(SPREAD_S, self.gap_s(entities)) * (entities * _GOLDEN % 1.0)

    def gap_s(self, entities: int) -> float:
        """How far apart the samples of one entity are, so that all together keep to the rate."""
        return max(GAP_MIN_S, entities / self._limits.history_samples_per_s)

    def sample(self, cell: Cell, now: Arrival, entities: int) -> None:
        """Keep its numbers and its health as they are now."""
        cell.sample_at = now.monotonic + self.gap_s(entities)
        if cell.history is None:
            cell.history = History()
        values, health = snapshot_of(cell.key.entity_type, cell.layers, now)
        share = self._limits.history_values_max // (max(1, entities) * (1 + len(values)))
        samples_max = max(SAMPLES_MIN, min(share, self._limits.history_samples_max))
        cell.history.add(now.wall, values, samples_max)
        cell.history.note_health(now.wall, health, self._limits.health_changes_max)

    def note_health(self, cell: Cell, now: Arrival) -> None:
        """Keep its health where it changed."""
        if cell.history is None:
            cell.history = History()
        _, health = snapshot_of(cell.key.entity_type, cell.layers, now)
        cell.history.note_health(now.wall, health, self._limits.health_changes_max)
