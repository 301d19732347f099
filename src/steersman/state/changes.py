"""Which entities changed after a revision: the log that feed, checkpoint and readers share.

Entry i is the cell that got revision `base + 1 + i`. A cell that changed again has a later entry, and the
earlier one no longer counts: reading coalesces by itself, whoever reads, from wherever. Nothing is stored for
a reader but the revision it has reached, so a slow one costs nothing and can only fall off the end.
"""

from __future__ import annotations

from collections.abc import Iterator

from steersman.state.cell import Cell


class ChangeLog:
    """The newest changes, at most `changes_max` and at least half of that."""

    __slots__ = ("_changes_max", "base", "cells")

    def __init__(self, base: int, changes_max: int) -> None:
        self._changes_max = max(2, changes_max)
        self.base = base
        """The revision before the first that is held: changes after it are all here."""
        self.cells: list[Cell] = []
        """Appended to by the bus with each revision, in step with it."""

    def trim(self) -> None:
        """Forget the older half where the log is full."""
        excess = len(self.cells) - self._changes_max
        if excess > 0:
            drop = excess + self._changes_max // 2
            del self.cells[:drop]
            self.base += drop

    def holds(self, revision: int) -> bool:
        """Whether all changes after that revision are here."""
        return revision >= self.base

    def after(self, revision: int) -> Iterator[Cell]:
        """The cells whose last change came after `revision`, oldest change first. The log may grow and be
        trimmed while this is read; what changes meanwhile may or may not be among them."""
        position = max(revision, self.base)
        while position - self.base < len(self.cells):
            if position < self.base:
                position = self.base
            cell = self.cells[position - self.base]
            position += 1
            if cell.revision == position:
                yield cell
