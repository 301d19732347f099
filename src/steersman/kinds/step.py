"""Steps of a pipeline, as an engine hands them to what carries them out, and what comes back.

A handler never raises for what it is there to do: an outcome is data. It must say `uncertain` where it can't
know whether the effect took place; the engine then asks `observe` before it tries anything again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct, field

from steersman.kinds.command import Evidence
from steersman.kinds.state import ResourceRef


class StepOutcome(StrEnum):
    """How an attempt ended. The words of the callback API."""

    SUCCEEDED = "succeeded"
    TRANSIENT = "transient"  # it failed, and another attempt may help
    PERMANENT = "permanent"  # it failed, and will again
    SUPERSEDED = "superseded"  # something newer took its place
    CANCELLED = "cancelled"  # it was told to stop, and did
    UNCERTAIN = "uncertain"  # nobody knows whether it took effect
    SKIPPED = "skipped"  # there was nothing to do
    SUSPENDED = "suspended"  # it waits for an answer from outside (`correlation_id`)


class StepCall(Struct, frozen=True, kw_only=True):
    """One attempt at one step.

    `key` is `operation/step/attempt`: the same for every repetition of this attempt, different for any other.
    A handler with an effect passes it on as its idempotency key. `inputs` are filled in: no expression is
    left in them. `site` is where the attempt was begun (`StepHandler.site` of then); empty where that is no
    matter, or was not kept.
    """

    key: str
    resource: ResourceRef
    operation: str
    epoch: int
    phase: str
    step: str
    attempt: int
    timeout_s: float
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    site: str = ""


class KeptAttempt(Struct, frozen=True):
    """An attempt that was begun at this site and of which something is kept here. `call` has neither inputs
    nor a time-out: what was begun is found by its key."""

    call: StepCall
    alive: bool


class StepResult(Struct, frozen=True, kw_only=True):
    """What an attempt came to.

    `outputs` are read by later steps; `detail` is a sentence for people; `evidence` goes into history.
    `correlation_id` and `waiting_until` belong to SUSPENDED.
    """

    outcome: StepOutcome
    detail: str = ""
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    evidence: tuple[Evidence, ...] = ()
    correlation_id: str = ""
    waiting_until: datetime | None = None


class Later(Struct, frozen=True):
    """Stands in `StepHandler.check`'s inputs for a value that is filled in when the step runs. `text` is the
    reference as it was written."""

    text: str


class StepHandler(Protocol):
    """What carries out the steps that name it (`uses: process`).

    A handler whose effects only this machine can see says so by `site`, and keeps what it began until
    `settle`: so that no attempt is taken for one that never began, by whom and however late it is asked.
    """

    async def site(self) -> str:
        """Where attempts that are begun now can be observed and ended: only where this says the same, over
        restarts. Empty where it is no matter who asks. Raises OSError where it can't be kept."""
        ...

    def check(self, inputs: dict[str, Any]) -> None:
        """Refuse inputs that can't be right, when the pipeline is loaded. A `Later` at any place is right as
        far as can be told. Raises `InvalidInput`."""
        ...

    async def run(self, call: StepCall) -> StepResult:
        """Make the attempt. Repeated with the same `key`, it must not take effect twice."""
        ...

    async def observe(self, call: StepCall) -> StepResult | None:
        """Find out what became of an attempt that was begun and whose end nobody saw. None where it certainly
        never began, so that it may be run; UNCERTAIN where even that can't be told, as for another site's."""
        ...

    async def cancel(self, call: StepCall) -> None:
        """End what the attempt started, if anything. Repeating it does nothing. Raises where it can't, as
        from another site."""
        ...

    async def settle(self, call: StepCall) -> None:
        """The attempt's end is on record for good: what is kept of it may go. Repeating it does nothing."""
        ...

    async def kept(self) -> Sequence[KeptAttempt]:
        """Attempts begun at this site that are not settled, under way or over."""
        ...
