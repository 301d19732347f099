"""Deletions that are remembered, so that late fragments do not bring back what is gone."""

from __future__ import annotations

from steersman.kinds.entity import EntityKey
from steersman.state.cell import NEVER, Cell


class Tombstones:
    """Deleted cells in order of deletion, bounded in number and time."""

    def __init__(self, tombstones_max: int, ttl_s: float) -> None:
        self._max = max(1, tombstones_max)
        self._ttl_s = ttl_s
        self._cells: dict[EntityKey, tuple[float, Cell]] = {}  # all live equally long: the first is due first

    def __len__(self) -> int:
        return len(self._cells)

    def bury(self, cell: Cell, monotonic: float, left_s: float | None = None) -> Cell | None:
        """Remember a deletion; the oldest one is handed back where there are now too many.

        `left_s` is what is left of its time where it was remembered before (over a restart).
        """
        self._cells.pop(cell.key, None)
        self._cells[cell.key] = (monotonic + (self._ttl_s if left_s is None else left_s), cell)
        return self.pop_oldest() if len(self._cells) > self._max else None

    def dig_up(self, cell: Cell) -> None:
        """It lives again."""
        self._cells.pop(cell.key, None)

    def due_at(self) -> float:
        """Monotonic second at which the oldest may be forgotten; infinite where there is none."""
        for until, _ in self._cells.values():
            return until
        return NEVER

    def pop_due(self, monotonic: float) -> Cell | None:
        """The oldest one, if its time is over."""
        return self.pop_oldest() if self.due_at() <= monotonic else None

    def pop_oldest(self) -> Cell | None:
        """The oldest one, out of memory."""
        for key in self._cells:
            return self._cells.pop(key)[1]
        return None

    def left_s(self, cell: Cell, monotonic: float) -> float:
        """How much longer it is remembered."""
        entry = self._cells.get(cell.key)
        return max(0.0, entry[0] - monotonic) if entry is not None else 0.0
