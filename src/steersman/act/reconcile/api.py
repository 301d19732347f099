"""What a manager promises the loop, and what it answers.

A manager looks at one resource and does what is to be done next, a little at a time; it is called again until
it says `Done`. It is level-triggered: it is told *that* something may have changed, never what, so a call too
many does no harm and a converged resource causes no write. One key is never worked on twice at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Protocol

from msgspec import Struct

from steersman.kinds.state import ResourceRef, ResourceState
from steersman.store.api import Held


class Done(Struct, frozen=True):
    """It is where it is meant to be; look again when something changes, or at `due`."""


class After(Struct, frozen=True):
    """Look again in `seconds` (0: at once, behind the others). `reason` says what it waits for."""

    seconds: float
    reason: str = ""


class Failed(Struct, frozen=True):
    """It did not work. The loop counts it durably against the resource's retry budget and backs off; with
    the budget used up its operation is `failed` and its parent decides. `permanent`: no retry helps."""

    reason: str
    permanent: bool = False


class Stuck(Struct, frozen=True):
    """Nothing more can be done by itself, and it is nobody's failure: no path, a hold, a guard, a freeze.

    `needs` says who must do what. The loop looks again when the resource or a relative changes, and every
    `STUCK_RECHECK_S` besides; nothing is counted."""

    reason: str
    needs: str = ""


Outcome = Done | After | Failed | Stuck


class Turn(Struct, frozen=True):
    """One call of a manager.

    - `held`: the shard's lease; every write of this turn passes it on, so that a replica that lost its shard
      can write nothing.
    - `now`: when the turn began.
    - `pause`: the retry budget says "not now", or "no more": the manager does only what time demands (a
      deadline that passed), else it answers with this.
    """

    state: ResourceState
    held: Held | None
    now: datetime
    pause: After | Stuck | None = None


class Manager(Protocol):
    """What the loop needs of one kind of resource."""

    kind: ClassVar[str]

    async def reconcile(self, turn: Turn) -> Outcome:
        """Do what is to be done next. What it raises counts as `Failed`, except refusals that mean that the
        picture is old (version conflict, fenced), which are looked at again at once."""
        ...

    def settled(self, state: ResourceState, now: datetime) -> bool:
        """Whether a look would certainly do nothing now, from the state alone. It is what makes a hundred
        thousand idle resources cheap: they are seen, and no turn is spent. `due` counts all the same."""
        ...

    def due(self, state: ResourceState, now: datetime) -> datetime | None:
        """The earliest time after `now` at which it must be looked at although nothing changed: a deadline, a
        window's edge, a wait's end."""
        ...

    def relatives(self, state: ResourceState) -> Sequence[ResourceRef]:
        """Whom to look at again when this one changed: its parent, its children."""
        ...
