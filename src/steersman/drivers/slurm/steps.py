"""The frame of every operation: inputs, time, and what a failure means for the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from steersman.drivers.api import SourceError
from steersman.drivers.inputs import Inputs, OperationInputs, check_inputs, read_inputs
from steersman.drivers.program import ProgramNotBegun
from steersman.drivers.slurm.changes import Changes, NoWay, Unanswered
from steersman.drivers.slurm.client import SlurmRefused
from steersman.kernel.clock import Clock
from steersman.kinds.command import Evidence
from steersman.kinds.step import KeptAttempt, StepCall, StepOutcome, StepResult

ASK_TIMEOUT_S = 15.0
"""For one request or command; less where the step has less left. slurmctld answers in ms, under load in s."""
LAST_SHARE = 0.9
"""Share of the step's time after which no more is waited for, so that the answer is in time."""
LOOK_FIRST_S = 0.25
LOOK_MAX_S = 10.0
"""Between two looks at what is waited for, growing: slurmctld works on one request at a time."""
LOOK_GROWTH = 1.6


class Site(Struct, frozen=True):
    """What an operation works with: the cluster, the clock, its call, and when it must have ended."""

    cluster: Changes
    clock: Clock
    call: StepCall
    until_s: float

    @property
    def ask_s(self) -> float:
        """How long the next request may take."""
        return min(ASK_TIMEOUT_S, max(0.1, self.until_s - self.clock.monotonic()))

    async def wait(self, turn: int) -> bool:
        """Wait until the next look (`turn` counts from 0); False where no time is left for one."""
        wait_s = min(LOOK_MAX_S, LOOK_FIRST_S * LOOK_GROWTH ** min(turn, 32))
        if self.clock.monotonic() + wait_s >= self.until_s:
            return False
        await self.clock.sleep(wait_s)
        return True


class Operation(Protocol):
    """What an operation is."""

    Inputs: ClassVar[type[Inputs]]

    async def make(self, site: Site, inputs: Any) -> StepResult:
        """Do it, or find that it is done. Raises `SourceError`; where that leaves open whether it was done,
        `Unanswered`."""
        ...

    async def find(self, site: Site, inputs: Any) -> StepResult | None:
        """What became of an attempt whose end nobody saw; None where it may be begun anew. Raises
        `SourceError`."""
        ...


class SlurmSteps:
    """The handler of an operation. See `kinds.step.StepHandler`."""

    def __init__(self, cluster: Changes, clock: Clock, operation: Operation) -> None:
        self._cluster = cluster
        self._clock = clock
        self._operation = operation

    async def site(self) -> str:
        """No matter: whoever asks the cluster sees the same."""
        return ""

    def check(self, inputs: dict[str, Any]) -> None:
        """Raises `OperationInputs`."""
        check_inputs(self._operation.Inputs, inputs)

    async def run(self, call: StepCall) -> StepResult:
        """Do it within the step's time."""
        try:
            inputs = read_inputs(self._operation.Inputs, call.inputs)
        except OperationInputs as error:
            return StepResult(outcome=StepOutcome.PERMANENT, detail=error.detail)
        try:
            return await self._operation.make(self._for(call), inputs)
        except SourceError as error:
            return StepResult(outcome=outcome_of(error), detail=error.detail)

    async def observe(self, call: StepCall) -> StepResult | None:
        """Look for it in the cluster."""
        try:
            inputs = read_inputs(self._operation.Inputs, call.inputs)
        except OperationInputs:
            return None  # it was refused before it began
        try:
            return await self._operation.find(self._for(call), inputs)
        except SourceError as error:
            return StepResult(outcome=StepOutcome.UNCERTAIN, detail=error.detail)

    async def cancel(self, call: StepCall) -> None:
        """Nothing goes on by itself."""

    async def settle(self, call: StepCall) -> None:
        """Nothing is kept here."""

    async def kept(self) -> Sequence[KeptAttempt]:
        """Nothing: what was begun is seen in the cluster."""
        return ()

    def _for(self, call: StepCall) -> Site:
        return Site(self._cluster, self._clock, call, self._clock.monotonic() + LAST_SHARE * call.timeout_s)


def outcome_of(error: SourceError) -> StepOutcome:
    """What a failure means for the attempt."""
    if isinstance(error, Unanswered):
        return StepOutcome.UNCERTAIN
    if isinstance(error, NoWay | ProgramNotBegun):
        return StepOutcome.PERMANENT
    if isinstance(error, SlurmRefused):
        return StepOutcome.TRANSIENT if error.passing or error.lost else StepOutcome.PERMANENT
    return StepOutcome.TRANSIENT  # nothing was changed yet


def done(what: str, detail: str, *, changed: bool, outputs: dict[str, Any] | None = None) -> StepResult:
    """The answer of an operation that is as it should be."""
    return StepResult(
        outcome=StepOutcome.SUCCEEDED,
        detail=f"{what}: {detail}",
        outputs={**(outputs or {}), "changed": changed, "dry_run": False},
        evidence=(Evidence(kind="slurm", ref=what, detail=detail[:1000], data=dict(outputs or {})),),
    )


def rehearsed(what: str, detail: str, outputs: dict[str, Any] | None = None) -> StepResult:
    """The answer to a dry run."""
    return StepResult(
        outcome=StepOutcome.SUCCEEDED,
        detail=f"{what}: {detail}",
        outputs={**(outputs or {}), "changed": False, "dry_run": True},
    )


def refused(what: str, why: str) -> StepResult:
    """It must not be done, now or later."""
    return StepResult(outcome=StepOutcome.PERMANENT, detail=f"{what}: {why}")


def overtaken(what: str) -> StepResult:
    """A newer epoch of the same resource was here."""
    detail = f"{what} was changed by a newer operation on the same resource"
    return StepResult(outcome=StepOutcome.SUPERSEDED, detail=detail)


def later(what: str, why: str, outputs: dict[str, Any] | None = None) -> StepResult:
    """It could not be ended in this attempt; another one may."""
    return StepResult(outcome=StepOutcome.TRANSIENT, detail=f"{what}: {why}", outputs=outputs or {})
