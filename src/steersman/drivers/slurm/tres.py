"""Generic and trackable resources as Slurm writes them: GRES (`gpu:h100:8(S:0-1)`) and TRES (`gres/gpu=8`).

Typed and untyped counts of one resource stand side by side in TRES and mean the same things: they are never
added; the untyped one counts, else the sum of the typed ones. A type may hold dots (a MIG profile). Counts of
MIG slices are slices, not GPUs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from steersman.drivers.slurm.values import memory_bytes, text_of

ITEMS_MAX = 256
"""Entries of one text; a node has a handful."""
COUNT_MAX = 2**40
_INDEXES_MAX = 4096

_ITEM = re.compile(
    r"(?P<name>[A-Za-z][\w.+-]*)(?::(?P<type>[A-Za-z0-9][\w.+-]*?))?(?::(?P<count>\d{1,12})(?P<unit>[kKmMgGtT]?))?"
    r"(?P<more>\([^()]*\))?"
)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_MIG = re.compile(r"\d+g\.\d+gb.*", re.IGNORECASE)
_PREFIX = re.compile(r"gres[/:]")


class Gres(Struct, frozen=True):
    """One entry. `type` is empty where none is given; `indexes` are None where none are told."""

    name: str
    type: str
    count: int
    indexes: tuple[int, ...] | None = None

    @property
    def is_slice(self) -> bool:
        """Whether its type is a MIG profile, so that it counts parts of GPUs."""
        return _MIG.fullmatch(self.type) is not None


class Parsed(Struct, frozen=True):
    """What was read of a text, and what could not be."""

    entries: tuple[Gres, ...] = ()
    odd: tuple[str, ...] = ()


def parse_gres(text: object) -> Parsed:
    """`gpu:a100:4(IDX:0-1,3),shard:8`, with or without `gres:` or `gres/` in front."""
    said = text_of(text)
    if said is None:
        return Parsed()
    entries: list[Gres] = []
    odd: list[str] = []
    for item in _split(said)[:ITEMS_MAX]:
        bare = _PREFIX.sub("", item, count=1)
        entry = _entry(bare.replace("=", ":", 1))
        if entry is None:
            odd.append(item[:80])
        else:
            entries.append(entry)
    return Parsed(tuple(entries), tuple(odd))


def parse_tres(text: object) -> dict[str, int]:
    """`cpu=64,mem=500G,gres/gpu:h100=8`: counts by name; `mem` in bytes. What can't be read is left out."""
    said = text_of(text)
    found: dict[str, int] = {}
    for item in (said.split(",") if said is not None else ())[:ITEMS_MAX]:
        name, mark, amount = item.strip().partition("=")
        if not mark or not name:
            continue
        count = memory_bytes(amount) if name == "mem" else _count(amount)
        if count is not None:
            found[name] = count
    return found


def gpus_of(entries: Iterable[Gres]) -> int | None:
    """How many GPUs these are; None where no entry speaks of GPUs. Slices of MIG are not among them."""
    return _together([entry for entry in entries if entry.name == "gpu"], slices=False)


def slices_of(entries: Iterable[Gres]) -> int | None:
    """How many MIG slices these are; None where none are told."""
    return _together([entry for entry in entries if entry.name == "gpu" and entry.is_slice], slices=True)


def gpus_of_tres(tres: dict[str, int]) -> int | None:
    """GPUs of a TRES: the untyped count less the slices, else the sum of the typed ones."""
    entries = [
        Gres("gpu", name.partition(":")[2], count)
        for name, count in tres.items()
        if name == "gres/gpu" or name.startswith("gres/gpu:")
    ]
    return _together(entries, slices=False)


def _together(entries: list[Gres], *, slices: bool) -> int | None:
    typed = [entry for entry in entries if entry.type]
    plain = [entry for entry in entries if not entry.type]
    if slices:
        return sum(entry.count for entry in typed) if typed else None
    sliced = sum(entry.count for entry in typed if entry.is_slice)
    if plain:
        return max(0, sum(entry.count for entry in plain) - sliced)
    if typed:
        return sum(entry.count for entry in typed if not entry.is_slice)
    return None


def _entry(item: str) -> Gres | None:
    match = _ITEM.fullmatch(item)
    if match is None:
        return None
    kind, count = match["type"] or "", match["count"]
    if count is None and kind.isdigit():  # gpu:8
        kind, count = "", kind
    number = int(count) * _UNITS[(match["unit"] or "").upper()] if count is not None else 1
    if number > COUNT_MAX:
        return None
    return Gres(match["name"], kind, number, _indexes(match["more"] or ""))


def _indexes(more: str) -> tuple[int, ...] | None:
    """`(IDX:0-2,5)`; `(S:0-1)` names sockets and is none."""
    found = re.search(r"IDX:([\d,\-]+)", more)
    if found is None:
        return None
    numbers: list[int] = []
    for part in found.group(1).split(","):
        low, _, high = part.partition("-")
        if not low.isdigit() or (high and not high.isdigit()):
            return None
        first, last = int(low[:6]), int((high or low)[:6])
        if last < first or len(numbers) + last - first >= _INDEXES_MAX:
            return None
        numbers += range(first, last + 1)
    return tuple(numbers)


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no parentheses."""
    parts: list[str] = []
    depth = start = 0
    for index, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth = max(0, depth - 1)
        elif char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def _count(amount: str) -> int | None:
    match = re.fullmatch(r"(\d{1,12})(?:\.\d+)?([KMGT]?)", amount.strip(), re.IGNORECASE)
    if match is None:
        return None
    number = int(match.group(1)) * _UNITS[match.group(2).upper()]
    return number if number <= COUNT_MAX else None
