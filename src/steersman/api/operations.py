"""Answers of outside systems for steps that wait for them."""

from __future__ import annotations

from steersman.api.control import Control, control_of
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, read_json
from steersman.api.managed import read_resource_kind
from steersman.api.problems import NotReady, reveal
from steersman.api.wishes import StepAnswer
from steersman.kernel.errors import NotFound
from steersman.kinds.command import Evidence
from steersman.kinds.managed import StepTaken
from steersman.kinds.refusal import Fenced
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import StepOutcome, StepResult

SEARCH_PAGE = 500
SEARCH_MAX = 200_000
"""Resources that are looked at for an operation whose resource the answer does not name."""
CALLBACK = "callback"
"""The kind of the piece of evidence that an outside answer makes."""


class OperationNotFound(NotFound):
    """No resource is in that operation: it is over, or never was. `facts`: `operation`."""

    code = "operation_not_found"
    title = "No such operation"


async def answer_step(request: Asked) -> Answer:
    """Hand a suspended step its result. A late or repeated answer is recorded and changes nothing."""
    control, exchange = control_of(request), exchange_of(request)
    wish = await read_json(exchange, StepAnswer)
    operation, step = exchange.parameters["id"], exchange.parameters["step"]
    if control.answer is None:
        raise NotReady("no engine runs in this process", failed=["engines: not in this process"])
    ref = await _resource_of(control, operation, wish.resource)
    state = await control.ledger.get(ref)
    current = state.operation
    if current is None or current.id != operation:
        raise OperationNotFound(f"{ref} is not in operation {reveal(operation)!r}", operation=operation[:80])
    if current.epoch != wish.epoch:
        raise Fenced(
            f"{ref} is at epoch {current.epoch}, the answer is for {wish.epoch}",
            fence=wish.epoch,
            current=current.epoch,
            holder=state.fence_holder,
        )
    evidence = (Evidence(kind=CALLBACK, ref=operation, data=wish.evidence),) if wish.evidence else ()
    result = StepResult(
        outcome=StepOutcome(wish.outcome), detail=wish.detail, outputs=wish.outputs, evidence=evidence
    )
    report = await control.answer(ref, operation, wish.epoch, step, wish.attempt, result)
    taken = StepTaken(
        resource=str(ref),
        phase=current.lifecycle_phase,
        status=report.status,
        detail=report.detail,
        step=report.step,
    )
    return json_answer(taken)


async def _resource_of(control: Control, operation: str, named: str) -> ResourceRef:
    if named:
        ref = ResourceRef.parse(named)
        return ResourceRef(read_resource_kind(ref.kind), ref.id)
    after, looked = None, 0
    while looked < SEARCH_MAX:
        page = await control.ledger.list(None, limit=SEARCH_PAGE, after=after)
        for state in page.items:
            if state.operation is not None and state.operation.id == operation:
                return ResourceRef(state.resource_type, state.id)
        looked, after = looked + len(page.items), page.after
        if after is None:
            break
    raise OperationNotFound(f"nothing is in operation {reveal(operation)!r}", operation=operation[:80])
