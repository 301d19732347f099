"""Steps of a pipeline, as an engine hands them to what carries them out, and what comes back.

A handler never raises for what it is there to do: an outcome is data. It must say `uncertain` where it can't
know whether the effect took place; the engine then asks `observe` before it tries anything again.
"""

from __future__ import annotations

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
    left in them.
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
    """What carries out the steps that name it (`uses: process`)."""

    def check(self, inputs: dict[str, Any]) -> None:
        """Refuse inputs that can't be right, when the pipeline is loaded. A `Later` at any place is right as
        far as can be told. Raises `InvalidInput`."""
        ...

    async def run(self, call: StepCall) -> StepResult:
        """Make the attempt. Repeated with the same `key`, it must not take effect twice."""
        ...

    async def observe(self, call: StepCall) -> StepResult | None:
        """Find out what became of an attempt that was begun and whose end nobody saw. None where it certainly
        never began, so that it may be run; UNCERTAIN where even that can't be told."""
        ...

    async def cancel(self, call: StepCall) -> None:
        """End what the attempt started, if anything. Repeating it does nothing."""
        ...
