"""What the Ledger needs of lifecycles: which table judges a resource, and its verdict.

`act.lifecycle` fulfils this with the tables that are loaded, and `kinds.machine` with the judging.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from steersman.kinds.command import Draw, Terms
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.state import ResourceState


class Move(Protocol):
    """A change of state that was judged and may be made."""

    @property
    def event(self) -> str:
        """The event that makes it."""
        ...

    @property
    def to(self) -> str:
        """Where it leads, as the table spells it."""
        ...

    @property
    def draws(self) -> Sequence[Draw]:
        """The places in budgets that the table asks for."""
        ...


class Machine(Protocol):
    """One version of a lifecycle, compiled."""

    @property
    def lifecycle(self) -> Lifecycle:
        """The table."""
        ...

    def judge(
        self,
        state: ResourceState,
        roles: Collection[str],
        *,
        event: str | None = None,
        to: str | None = None,
        terms: Terms,
        facts: Mapping[str, Any],
    ) -> Move:
        """Whether somebody of these roles may send the event (or take it to that state), on these terms.

        `facts` is what the Ledger was given to know of the resource, `actor` (the asker's name) and `now`.
        Raises the refusals of `kinds.refusal`.
        """
        ...

    def allowed(self, state: ResourceState, roles: Collection[str]) -> Sequence[Any]:
        """What somebody of these roles may send now; guards are not asked."""
        ...


class Machines(Protocol):
    """The lifecycles that are loaded."""

    def machine(self, table: str) -> Machine:
        """The machine of a table, `name` (the newest) or `name@version`. Raises `UnknownLifecycle`."""
        ...
