"""Series that fill a field that is a list: of the names of those that are so, or of the bits of a mask."""

from __future__ import annotations

import math
from typing import Any

from steersman.drivers.exposition.mapping import MetricRule, fill
from steersman.drivers.exposition.series import Page

ITEMS_MAX = 256
"""Items of a field that is a list."""
MASK_MAX = 1 << 53
"""Up to here every whole number is told apart by the floating point of the formats."""


class Members:
    """The keys of the series that are not zero, or that have one of the values in `among`. All others alone
    are an empty list, no series is no field. Several rules of one field are put together."""

    def __init__(self, rule: MetricRule) -> None:
        self._rule = rule
        self.names = (rule.field,)
        self.members: dict[int, str] = {}

    def take(self, index: int, _name: str, labels: dict[str, str]) -> None:
        """Let a series in; one without its key is left out."""
        key = fill(self._rule.key, labels)
        if key:
            self.members[index] = key

    def forget(self, gone: set[int]) -> bool:
        """Drop series; whether none is left."""
        for index in gone & self.members.keys():
            del self.members[index]
        return not self.members

    def fill(
        self, fields: dict[str, Any], page: Page, _at_s: float, blanks: frozenset[float], _drift: list[str]
    ) -> None:
        """Put the list of this page into `fields`, where any of its series is on it."""
        found: set[str] = set()
        known = False
        for index, key in self.members.items():
            value = page.numbers[index]
            if value is None or value in blanks or not math.isfinite(value):
                continue
            known = True
            if value in self._rule.among if self._rule.among else value:
                found.add(key)
        if known:
            before: list[str] = fields.get(self._rule.field, [])
            fields[self._rule.field] = sorted(found.union(before))[:ITEMS_MAX]


class Bits:
    """The words of the bits that are set in any series of the entity."""

    def __init__(self, rule: MetricRule) -> None:
        self._rule = rule
        self.names = (rule.field,)
        self._words = {int(bit, 0): word for bit, word in rule.words.items()}
        self.members: dict[int, None] = {}

    def take(self, index: int, _name: str, _labels: dict[str, str]) -> None:
        """Let a series in."""
        self.members[index] = None

    def forget(self, gone: set[int]) -> bool:
        """Drop series; whether none is left."""
        for index in gone & self.members.keys():
            del self.members[index]
        return not self.members

    def fill(
        self, fields: dict[str, Any], page: Page, _at_s: float, blanks: frozenset[float], drift: list[str]
    ) -> None:
        """Put the list of this page into `fields`. A value that is no mask is left out, and told."""
        mask, known = 0, False
        for index in self.members:
            value = page.numbers[index]
            if value is None or value in blanks or not math.isfinite(value):
                continue
            if not value.is_integer() or not 0 <= value < MASK_MAX:
                drift.append(f"{self._rule.metric[0]}: {value:g} is no mask of bits")
                continue
            mask |= int(value)
            known = True
        if not known:
            return
        names: list[str] = list(fields.get(self._rule.field, []))
        for bit in (1 << place for place in range(mask.bit_length()) if mask >> place & 1):
            word = self._words.get(bit)
            if word is None:
                drift.append(f"{self._rule.metric[0]}: no word for bit {bit:#x}")
                word = f"{bit:#x}"
            if word and word not in names:
                names.append(word)
        fields[self._rule.field] = names
