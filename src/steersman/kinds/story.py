"""The whole story of a resource: where it is, where it is going and why, what it waits for, what was done.

The API sends it and the client reads it back into the same types. It describes one moment and is never
stored.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from steersman.kinds.axes import Condition, Hold, Operation
from steersman.kinds.command import HistoryEntry
from steersman.kinds.explanation import Confidence, Freshness, HealthVerdict
from steersman.kinds.machine import PathStep
from steersman.kinds.managed import Managed
from steersman.kinds.state import Retry
from steersman.kinds.work import WorkVerdict


class StoryPlace(Struct, frozen=True, kw_only=True):
    """The first axis: its lifecycle state, since when, and what the table says of it."""

    status: str
    since: datetime
    lifecycle: str
    state_class: str = ""
    schedulable: bool = False
    stands_for: str = ""
    description: str = ""
    deadline: datetime | None = None
    on_timeout: str | None = None
    phase: str | None = None


class StoryGoing(Struct, frozen=True, kw_only=True):
    """Where it is meant to be, who said so and why, and by which path it goes there.

    `set_by` is the history row that set the intent, with the facts that were read to decide it. `no_path`
    says why there is no way.
    """

    desired_status: str | None = None
    converged: bool = True
    by: str = ""
    reason: str = ""
    path: tuple[PathStep, ...] = ()
    no_path: str = ""
    set_by: HistoryEntry | None = None


class Look(Struct, frozen=True, kw_only=True):
    """What came of the loop's last look at a resource, and what is next: why it is not moving.

    - `outcome`: done, after, failed, stuck, or "" where it was not looked at since the start.
    - `next_at`: when it is looked at again by itself; None where only a change brings that about.
    - `failures` of `budget` are used up for the present intent; `frozen`: it waits for the thaw.
    - `queued`, `working`: it waits for its turn, or is being looked at now.
    - `owned`: whether the loop of this process looks after its `shard`.
    """

    outcome: str = ""
    reason: str = ""
    needs: str = ""
    at: datetime | None = None
    next_at: datetime | None = None
    failures: int = 0
    budget: int = 0
    frozen: bool = False
    queued: bool = False
    working: bool = False
    shard: int = 0
    owned: bool = True


class StoryFrozen(Struct, frozen=True, kw_only=True):
    """Acting is frozen: since when, by whom, why."""

    since: datetime
    by: str = ""
    reason: str = ""


class StoryObserved(Struct, frozen=True, kw_only=True):
    """What is observed of it: the entity's health with its reasons, freshness and confidence."""

    entity: str
    health: HealthVerdict
    freshness: Freshness
    confidence: Confidence


class Story(Struct, frozen=True, kw_only=True):
    """The whole story. `history` is newest first; `recommendations` are those about it, newest first. `work`
    is None where its lifecycle is not loaded, `loop` where this process has no loop."""

    resource: Managed
    place: StoryPlace
    going: StoryGoing
    operation: Operation | None = None
    conditions: tuple[Condition, ...] = ()
    holds: tuple[Hold, ...] = ()
    work: WorkVerdict | None = None
    loop: Look | None = None
    retry: Retry | None = None
    frozen: StoryFrozen | None = None
    history: tuple[HistoryEntry, ...] = ()
    recommendations: tuple[Managed, ...] = ()
    observed: StoryObserved | None = None
