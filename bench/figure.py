"""What a benchmark reports."""

from __future__ import annotations

from msgspec import Struct


class Figure(Struct, frozen=True):
    """One measured figure.

    `value` in `unit` ("x" for a ratio of two measurements of this run). `goal` says what it should reach, as
    text that starts with ">=" or "<=" and a number, or "" where it is shown for context. `detail` says what
    was compared with what, so that the figure can be judged without reading the code.
    """

    name: str
    value: float
    unit: str
    goal: str = ""
    detail: str = ""

    def verdict(self) -> str:
        """ "reached", "missed", or "" where there is no goal."""
        if not self.goal:
            return ""
        bound = float(self.goal[2:].split()[0])
        reached = self.value >= bound if self.goal.startswith(">=") else self.value <= bound
        return "reached" if reached else "missed"
