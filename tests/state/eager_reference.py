"""The merge rules once more, as plainly as they can be written: the model that the bus is held against.

It keeps a cell for each field and decides at once, where the bus keeps fragments and decides on reading. It
shares no code with it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from steersman.kinds.fragment import StateFragment

GONE = "<cleared>"


class EagerEntity:
    """One entity. `priorities` are the sources'."""

    def __init__(self, priorities: dict[str, int]) -> None:
        self.priorities = priorities
        self.newest: dict[str, datetime] = {}
        self.fields: dict[str, tuple[tuple[datetime, int, int], str, Any]] = {}
        self.labels: dict[str, tuple[tuple[datetime, int, int], str, Any]] = {}
        self.arrivals = 0
        self.floor: datetime | None = None

    def forget(self, when: datetime) -> None:
        """The entity was deleted then."""
        if self.floor is not None and when <= self.floor:
            return
        self.floor = when
        self.newest = {source: at for source, at in self.newest.items() if at > when}
        self.fields = {name: cell for name, cell in self.fields.items() if cell[0][0] > when}
        self.labels = {name: cell for name, cell in self.labels.items() if cell[0][0] > when}

    def put(self, fragment: StateFragment) -> tuple[str, dict[str, str]]:
        """The verdict, and that of each field."""
        said: dict[str, Any] = {n: GONE for n in fragment.clear if not n.startswith("labels.")}
        said |= fragment.fields
        labels: dict[str, Any] = {n[7:]: GONE for n in fragment.clear if n.startswith("labels.")}
        labels |= fragment.labels
        newest = self.newest.get(fragment.source)
        if self.floor is not None and fragment.observed_at <= self.floor:
            return "stale", dict.fromkeys(said, "older")
        if newest is not None and fragment.observed_at < newest:
            return "stale", dict.fromkeys(said, "older")
        first = not self.newest
        self.newest[fragment.source] = fragment.observed_at
        self.arrivals += 1
        rank = (fragment.observed_at, self.priorities[fragment.source], self.arrivals)
        verdicts = {
            name: self._write(self.fields, name, value, rank, fragment) for name, value in said.items()
        }
        label_verdicts = [
            self._write(self.labels, name, value, rank, fragment) for name, value in labels.items()
        ]
        if first:
            return "created", verdicts
        older = [verdict == "older" for verdict in verdicts.values()]
        if not any(older):
            return "merged", verdicts
        if all(older) and all(v == "older" for n, v in zip(labels, label_verdicts, strict=True)):
            return "stale", verdicts
        return "partial", verdicts

    @staticmethod
    def _write(
        cells: dict[str, tuple[tuple[datetime, int, int], str, Any]],
        name: str,
        value: Any,
        rank: tuple[datetime, int, int],
        fragment: StateFragment,
    ) -> str:
        old = cells.get(name)
        if old is not None and old[0] > rank:
            return "older"
        cells[name] = (rank, fragment.source, value)
        before = old[2] if old is not None else GONE
        return "unchanged" if type(before) is type(value) and before == value else "accepted"

    def picture(self) -> dict[str, tuple[Any, str, datetime]]:
        """Each field: value (GONE where cleared), source, time."""
        return {name: (value, source, rank[0]) for name, (rank, source, value) in self.fields.items()}

    def label_picture(self) -> dict[str, tuple[str, str, datetime]]:
        """Each label that stands."""
        return {
            name: (value, source, rank[0])
            for name, (rank, source, value) in self.labels.items()
            if value is not GONE
        }
