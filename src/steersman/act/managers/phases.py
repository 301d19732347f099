"""A state's phase on its engine: found, advanced, cancelled, and what its report means for the resource."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from steersman.act.engines.api import PhaseEngine, PhaseReport, PhaseRun
from steersman.act.reconcile.api import After, Failed, Outcome, Stuck, Turn
from steersman.kernel.clock import Clock
from steersman.kernel.errors import Refused
from steersman.kernel.logging import get_logger
from steersman.kinds.axes import Operation, OperationPhase
from steersman.kinds.command import LOOP, Terms
from steersman.kinds.lifecycle import Lifecycle, LifecycleState
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.refusal import Fenced
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.kinds.step import StepResult
from steersman.state.ledger import Ledger

RUNNING_LOOK_S = 5.0
"""How often a phase is looked at that runs and did not say when."""
WAITING_LOOK_S = 60.0
"""The same for one that waits for something outside."""
HELD_NEEDS = "an operator: thaw the plane, or release what holds the phase"

_log = get_logger("act.phases")


class OperationOver(Refused):
    """An answer for an operation that is not the resource's present one. `facts`: `operation`, `current`."""

    code = "operation_over"
    title = "Operation over"


class PhaseRunner:
    """The engines, as a walk uses them."""

    def __init__(self, ledger: Ledger, engines: Mapping[str, PhaseEngine], *, clock: Clock) -> None:
        self._ledger = ledger
        self._engines = engines
        self._clock = clock

    def find(self, state: ResourceState, lifecycle: Lifecycle, name: str) -> LifecyclePhase | Stuck:
        """The phase's definition: the resource's own, else the table's; or why it can't run."""
        own = state.get_lifecycle()
        phase = (own.get_phase(name) if own is not None else None) or lifecycle.phases.get(name)
        if phase is None:
            return Stuck(
                f"lifecycle {lifecycle} does not say what phase {name} does", "an operator: define it"
            )
        if phase.engine not in self._engines:
            known = ", ".join(sorted(self._engines)) or "none"
            return Stuck(
                f"phase {name} runs on engine {phase.engine}, and there is {known}",
                f"an operator: configure the engine {phase.engine}",
            )
        return phase

    def belongs(self, state: ResourceState, operation: Operation, place: LifecycleState) -> bool:
        """Whether the operation is the work of the state that the resource is in."""
        return operation.lifecycle_phase == place.phase is not None and operation.epoch == state.epoch

    def is_over(self, state: ResourceState, name: str) -> bool:
        """Whether the phase has ended and the resource rests in its state."""
        operation = state.operation
        return (
            operation is not None
            and operation.lifecycle_phase == name
            and operation.phase is OperationPhase.IDLE
            and operation.epoch == state.epoch
        )

    async def advance(
        self, turn: Turn, state: ResourceState, phase: LifecyclePhase, operation: Operation
    ) -> Outcome | str:
        """Advance the phase. An outcome while it goes on; "completed", or what went wrong, at its end."""
        engine = self._engines[phase.engine]
        report = await engine.advance(PhaseRun(state, phase, operation, held=turn.held))
        if report.status in ("completed", "partial"):
            return "completed"
        if report.status == "failed":
            return report.detail or f"{phase.name} failed"
        await self._show(turn, state, operation, report)
        if report.status == "held":
            return Stuck(report.detail or f"{phase.name} is held", HELD_NEEDS)
        wait_s = RUNNING_LOOK_S if report.status == "running" else WAITING_LOOK_S
        if report.look_again is not None:
            wait_s = max(0.0, (report.look_again - self._clock.now()).total_seconds())
        what = f"{phase.name} is {report.status}" + (f" at {report.step}" if report.step else "")
        return After(wait_s, what + (f": {report.detail}" if report.detail else ""))

    async def cancel(self, turn: Turn, lifecycle: Lifecycle, operation: Operation, reason: str) -> None:
        """End what the operation's engine has under way. Where its writes are fenced off already, that is
        what was wanted: what it started outside is ended all the same."""
        name = operation.lifecycle_phase
        if name is None or operation.phase in (OperationPhase.IDLE, OperationPhase.FAILED):
            return
        phase = self.find(turn.state, lifecycle, name)
        if isinstance(phase, Stuck):
            _log.warning("phase_not_cancelled", operation=operation.id, phase=name, why=phase.reason)
            return
        try:
            run = PhaseRun(turn.state, phase, operation, held=turn.held)
            await self._engines[phase.engine].cancel(run, reason)
        except Fenced as error:
            _log.info("phase_cancelled_fenced", operation=operation.id, phase=name, detail=error.detail)

    async def tend(self, phase_of: Callable[[ResourceState, str], LifecyclePhase | None]) -> int:
        """Have each engine look after what it began here (`PhaseEngine.tend`); how much it was."""
        return sum([await engine.tend(phase_of) for engine in self._engines.values()])

    async def rest(self, turn: Turn, state: ResourceState, operation: Operation) -> None:
        """The phase has ended and the resource stays where it is."""
        idle = replace(
            operation,
            phase=OperationPhase.IDLE,
            step=None,
            waiting_for=None,
            waiting_until=None,
            detail="completed",
        )
        terms = Terms(reason=f"{operation.kind} completed", operation=operation.id, fence=operation.epoch)
        await self._ledger.set_operation(_ref(state), LOOP, idle, terms=terms, held=turn.held)

    async def answer(
        self,
        state: ResourceState,
        lifecycle: Lifecycle,
        operation_id: str,
        epoch: int,
        step: str,
        attempt: int,
        result: StepResult,
    ) -> PhaseReport:
        """Hand an answer from outside to the operation's engine. Raises `OperationOver`."""
        operation = state.operation
        name = operation.lifecycle_phase if operation is not None else None
        if operation is None or operation.id != operation_id or name is None:
            raise OperationOver(
                f"operation {operation_id} of {_ref(state)} is over",
                operation=operation_id,
                current=operation.id if operation is not None else None,
            )
        phase = self.find(state, lifecycle, name)
        if isinstance(phase, Stuck):
            raise OperationOver(phase.reason, operation=operation_id, current=operation.id)
        run = PhaseRun(state, phase, replace(operation, epoch=epoch))
        return await self._engines[phase.engine].answer(run, step, attempt, result)

    def failure(self, operation: Operation, detail: str) -> Failed:
        """What a phase that failed comes to where the table does not say: a person decides."""
        return Failed(f"{operation.kind} failed: {detail}", permanent=True)

    def engine_of(self, state: ResourceState, lifecycle: Lifecycle, operation: Operation) -> str:
        """The name of the operation's engine."""
        phase = self.find(state, lifecycle, operation.lifecycle_phase or "")
        return phase.engine if isinstance(phase, LifecyclePhase) else "none"

    async def _show(
        self, turn: Turn, state: ResourceState, operation: Operation, report: PhaseReport
    ) -> None:
        """Let the operation say that it waits or is held. Steps are told by the progress, not here."""
        waits = report.status == "waiting"
        shown = replace(
            operation,
            phase={
                "waiting": OperationPhase.WAITING,
                "held": OperationPhase.HELD,
            }.get(report.status, OperationPhase.RUNNING),
            step=report.step if report.status != "running" else operation.step,
            waiting_for=(report.detail or report.step or "an answer") if waits else None,
            waiting_until=report.look_again if waits else None,
        )
        if shown != operation:
            terms = Terms(reason=report.detail, operation=operation.id, fence=operation.epoch)
            await self._ledger.set_operation(_ref(state), LOOP, shown, terms=terms, held=turn.held)


def _ref(state: ResourceState) -> ResourceRef:
    return ResourceRef(state.resource_type, state.id)
