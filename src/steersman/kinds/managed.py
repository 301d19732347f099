"""What the API answers about managed things: resources as they are shown, changes, lists, histories.

The API sends these and the client reads them back into the same types. A later version may say more: what may
be missing from an older one's answer has a default.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from steersman.kinds.command import HistoryEntry
from steersman.kinds.machine import Option, PathStep
from steersman.kinds.plane_resources import KINDS
from steersman.kinds.state import ResourceState
from steersman.kinds.work import WorkVerdict

T = TypeVar("T")


class Managed:
    """A resource as it is shown: the state's members, and `work`, whether it may take work.

    `state` is of the class of its kind, `ResourceState` for a kind that the reader does not know. `work` is
    None where its lifecycle is not loaded.
    """

    __slots__ = ("state", "work")

    def __init__(self, state: ResourceState, work: WorkVerdict | None = None) -> None:
        self.state = state
        self.work = work

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Managed) and (self.state, self.work) == (other.state, other.work)

    def __repr__(self) -> str:
        return f"Managed({self.state.resource_type}/{self.state.id}, {self.state.status})"

    def to_dict(self) -> dict[str, Any]:
        """As it is sent: one object."""
        plain: dict[str, Any] = msgspec.to_builtins(self.state)
        return plain if self.work is None else {**plain, "work": msgspec.to_builtins(self.work)}

    @classmethod
    def from_dict(cls, plain: Any) -> Managed:
        """As it was sent. Raises `msgspec.ValidationError`, and what the state's own rules raise."""
        head = msgspec.convert(plain, _Head)
        known = KINDS.get(head.resource_type)
        return cls(msgspec.convert(plain, ResourceState if known is None else known.STATE), head.work)


class _Head(Struct):
    resource_type: str = ""
    work: WorkVerdict | None = None


class Changed(Struct, frozen=True, kw_only=True):
    """What came of a change: the resource after it and its history row. `unchanged`: there was nothing to do,
    and `entry` is an earlier one. `revision` is the store's."""

    resource: Managed
    entry: HistoryEntry
    revision: int = 0
    replayed: bool = False
    dry_run: bool = False
    unchanged: bool = False


class Applied(Struct, frozen=True, kw_only=True):
    """What applying came to. `outcome`: created, changed or unchanged; `changed` names what differed;
    `entries` are the history rows that it made."""

    resource: Managed
    outcome: str
    changed: tuple[str, ...] = ()
    entries: tuple[HistoryEntry, ...] = ()
    dry_run: bool = False


class KindCount(Struct, frozen=True, kw_only=True):
    """A kind of resource and how many there are; `more`: at least so many, counting stopped there.
    `plane_owned`: the plane keeps them itself."""

    kind: str
    count: int
    more: bool = False
    plane_owned: bool = False


class KindCounts(Struct, frozen=True):
    """All kinds of resources."""

    items: tuple[KindCount, ...]


class ManagedPage(Struct, frozen=True, kw_only=True):
    """One page of resources. `cursor` continues the list (None: this was the last page); a page may be short
    and yet have one. `revision` is the store's; `problems` are records that could not be read."""

    items: tuple[Managed, ...]
    cursor: str | None = None
    revision: int = 0
    problems: tuple[str, ...] = ()


class HistoryPage(Struct, frozen=True, kw_only=True):
    """A page of history rows. `problems` are rows that could not be read."""

    items: tuple[HistoryEntry, ...]
    cursor: str | None = None
    problems: tuple[str, ...] = ()


class Allowed(Struct, frozen=True, kw_only=True):
    """What the caller could ask now: `status` is where the resource is."""

    status: str
    items: tuple[Option, ...] = ()


class Way(Struct, frozen=True, kw_only=True):
    """The way from where a resource is to a state; no steps where it is there."""

    status: str
    to: str
    steps: tuple[PathStep, ...] = ()


class StepTaken(Struct, frozen=True, kw_only=True):
    """How far the phase is, with an outside system's answer taken in."""

    resource: str
    phase: str | None = None
    status: str = ""
    detail: str = ""
    step: str | None = None


def plain_answer(value: Any) -> Any:
    """An answer as plain data, for JSON and YAML."""
    return msgspec.to_builtins(value, enc_hook=send_managed)


def send_managed(value: Any) -> Any:
    """The hook of an encoder: a resource as it is sent. Raises `TypeError` for another type."""
    if isinstance(value, Managed):
        return value.to_dict()
    raise TypeError(f"{type(value).__name__} is not sent")


def read_managed(kind: type[T], value: Any) -> T | Managed:
    """The hook of a decoder: a resource as it was sent. Raises `TypeError` for another type."""
    if kind is Managed:
        return Managed.from_dict(value)
    raise TypeError(f"{kind.__name__} is not read")
