"""The pipeline engine: advances a phase's steps in order, keeping its progress before each and after each.

Steps run in tasks of the supervisor's; `advance` waits for them a moment and says how far the phase is. Each
step is written down as begun before it is, so after a crash each one is either not begun, or looked at before
anything else is done (`StepHandler.observe`). docs/decisions/0025-pipelines.md has the whys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from steersman.act.engines.api import PhaseReport, PhaseRun
from steersman.act.engines.pipeline.carrying import (
    carry,
    carry_look,
    carry_observed,
    end_effect,
    missing_handler,
    settle_attempt,
)
from steersman.act.engines.pipeline.definition import PipelineInvalid, Plan, Step, read_plan
from steersman.act.engines.pipeline.folding import Ended, fold
from steersman.act.engines.pipeline.inputs import InputMissing, fill, find, with_later
from steersman.act.engines.pipeline.progress import OVER, UNDER_WAY, Progress, RunStatus, StepProgress
from steersman.act.engines.pipeline.sheet import Journal, Sheet, shown, told_of
from steersman.act.engines.pipeline.tending import Claim, PhaseOf, claim_on
from steersman.kernel.cel import MappingLookup
from steersman.kernel.clock import Clock
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.nearest import did_you_mean
from steersman.kernel.redact import error_text
from steersman.kernel.tasks import Supervisor
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.refusal import Fenced, Frozen, ResourceNotFound, VersionConflict
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.kinds.step import KeptAttempt, StepCall, StepHandler, StepOutcome, StepResult

PATIENCE_S = 0.2
"""How long `advance` waits for steps that run, so that quick ones need no second call."""
PLANS_KEPT_MAX = 256
LATE_KEPT_MAX = 32
"""Late answers that are recorded for one phase; more are dropped, for each costs a row of history."""
HELD_RECHECK_S = 30.0

_log = get_logger("act.pipeline")


def _never() -> bool:
    return False


class _Begun(Struct, frozen=True):
    """An attempt that a task of ours carries."""

    task: asyncio.Task[Ended]
    call: StepCall
    handler: StepHandler | None


class PipelineEngine:
    """See `act.engines.api.PhaseEngine`.

    `handlers` carry out steps by name. `is_frozen`: whether no step may be begun now. `wake`: told of a
    resource when one of its steps has ended.
    """

    name: ClassVar[str] = "pipeline"

    def __init__(
        self,
        handlers: Mapping[str, StepHandler],
        journal: Journal,
        clock: Clock,
        rng: Rng,
        supervisor: Supervisor,
        *,
        is_frozen: Callable[[], bool] = _never,
        wake: Callable[[ResourceRef], None] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._handlers = dict(handlers)
        self._journal = journal
        self._clock = clock
        self._rng = rng
        self._supervisor = supervisor
        self._is_frozen = is_frozen
        self._wake = wake
        self._patience_s = patience_s
        self._plans: dict[bytes, Plan] = {}
        self._tasks: dict[ResourceRef, dict[str, _Begun]] = {}
        self._locks: dict[ResourceRef, asyncio.Lock] = {}

    def check(self, phase: LifecyclePhase) -> None:
        """Raises `PipelineInvalid`, naming the place."""
        plan = self._plan(phase)
        for step in plan.steps:
            handler = self._handlers.get(step.uses)
            place = f"step {step.name}"
            if handler is None:
                known = (
                    f"{did_you_mean(step.uses, self._handlers)} (known: {', '.join(sorted(self._handlers))})"
                )
                raise PipelineInvalid(f"{place}: nothing here carries out {step.uses!r}{known}", place=place)
            try:
                handler.check(with_later(step.inputs))
            except InvalidInput as error:
                raise PipelineInvalid(f"{place}: {error.detail}", place=f"{place}.inputs") from None

    async def advance(self, run: PhaseRun) -> PhaseReport:
        """Do what can be done now. Raises `Fenced` where somebody else took over, and then leaves alone what
        is theirs."""
        async with self._lock(_ref(run)):
            sheet = self._sheet(run)
            try:
                return await self._go(sheet)
            except Frozen as error:
                return self._report(sheet, held=error.detail)
            except Fenced:
                await self._let_go(sheet)
                raise

    async def answer(self, run: PhaseRun, step: str, attempt: int, result: StepResult) -> PhaseReport:
        """An answer from outside. `run.operation.epoch` is the one that the answer was given for."""
        async with self._lock(_ref(run)):
            sheet = self._sheet(run)
            await sheet.refresh()
            if not await self._apply(sheet, step, attempt, result):
                await self._record_late(sheet, step, attempt, result)
            if self._wake is not None:
                self._wake(sheet.ref)
            return self._report(sheet)

    async def cancel(self, run: PhaseRun, reason: str) -> PhaseReport:
        """End what is under way: first the effects, then the record. Raises `Fenced` behind both."""
        async with self._lock(_ref(run)):
            sheet = self._sheet(run)
            await self._stop(sheet, f"cancelled: {reason}", "cancelled")
            return self._report(sheet)

    async def tend(self, phase_of: PhaseOf) -> int:
        """Look after what was begun at this site, whosever the resource is now: end what is over on record,
        hand over what has ended and is awaited. How many attempts that was. Raises `StoreUnavailable`."""
        attempts: dict[str, tuple[StepHandler, KeptAttempt]] = {}
        for begun in [begun for kept in self._tasks.values() for begun in kept.values()]:
            if begun.handler is not None:
                attempts[begun.call.key] = (begun.handler, KeptAttempt(begun.call, not begun.task.done()))
        for handler in {id(one): one for one in self._handlers.values()}.values():
            for kept in await handler.kept():
                attempts[kept.call.key] = (handler, kept)
        done = 0
        for handler, kept in attempts.values():
            async with self._lock(kept.call.resource):
                try:
                    done += await self._tend(handler, kept, phase_of)
                except (Fenced, VersionConflict, ResourceNotFound, InvalidInput) as error:
                    _log.info("attempt_not_tended", key=kept.call.key, error=error_text(error))
        return done

    async def _tend(self, handler: StepHandler, kept: KeptAttempt, phase_of: PhaseOf) -> bool:
        call = kept.call
        begun = self._tasks.get(call.resource, {}).get(call.key)
        try:
            state = await self._journal.get(call.resource)
        except ResourceNotFound:
            state = None
        claim = claim_on(state, call)
        if claim is Claim.OVER:
            if begun is not None:
                begun.task.cancel()
            wrong = await end_effect(handler, call)
            self._drop(call.resource, lambda key: key == call.key)
            if not wrong:
                await settle_attempt(handler, call)
                _log.info("attempt_over", key=call.key, ref=str(call.resource))
            return not wrong
        if (
            state is None
            or claim is not Claim.AWAITED
            or kept.alive
            or not (begun is None or begun.task.done())
        ):
            return False
        return await self._hand_over(state, handler, call, phase_of)

    async def _hand_over(
        self, state: ResourceState, handler: StepHandler, call: StepCall, phase_of: PhaseOf
    ) -> bool:
        """The end of an attempt, for whoever has the resource: written by whoever has seen it, like an answer
        from outside."""
        phase = phase_of(state, call.phase)
        if phase is None or state.operation is None:
            return False
        sheet = self._sheet(PhaseRun(state, phase, state.operation))
        step, now = sheet.plan.step(call.step), sheet.progress.steps.get(call.step)
        if step is None or now is None or now.status != "running":
            return False
        seen = await carry_observed(handler, self._call(sheet, step, call.attempt))
        if seen is None or not await self._write_end(sheet, step, now, seen):
            return False
        self._drop(call.resource, lambda key: key == call.key)
        if self._wake is not None:
            self._wake(call.resource)
        return True

    def _lock(self, ref: ResourceRef) -> asyncio.Lock:
        for other in [key for key, lock in self._locks.items() if not lock.locked() and key != ref]:
            if len(self._locks) <= PLANS_KEPT_MAX:
                break
            del self._locks[other]
        return self._locks.setdefault(ref, asyncio.Lock())

    def _plan(self, phase: LifecyclePhase) -> Plan:
        key = msgspec.json.encode(phase.pipeline_def, enc_hook=str)
        plan = self._plans.get(key)
        if plan is None:
            plan = read_plan(phase.pipeline_def)
            if len(self._plans) >= PLANS_KEPT_MAX:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = plan
        return plan

    def _sheet(self, run: PhaseRun) -> Sheet:
        return Sheet(self._journal, run, self._plan(run.phase), self._clock)

    async def _go(self, sheet: Sheet) -> PhaseReport:
        until_s = self._clock.monotonic() + self._patience_s
        looked = False
        while True:
            if sheet.progress.status != "running":
                self._forget(sheet)  # the answer to the last write may have been lost
                return self._report(sheet)
            strange = [
                name
                for name, step in sheet.progress.steps.items()
                if step.status in UNDER_WAY and sheet.plan.step(name) is None
            ]
            if strange:
                return await self._stop(
                    sheet, f"step {strange[0]} is under way and no longer defined", "failed"
                )
            deadline = sheet.deadline()
            if deadline is not None and self._clock.now() >= deadline:
                return await self._stop(sheet, f"took longer than {sheet.plan.max_duration_s:g} s", "failed")
            await self._fold_ended(sheet)
            await self._end_waits(sheet)
            held = self._held(sheet)
            if not held and sheet.failure() is None:
                await self._start_ready(sheet)
            if sheet.is_over():
                return await self._finish(sheet)
            if not (held and looked):
                await self._take_up(sheet, may_begin=not held)
            looked = bool(held)
            tasks = self._running(sheet)
            left_s = until_s - self._clock.monotonic()
            if not tasks or left_s <= 0:
                return self._report(sheet, held=held)
            done, _ = await asyncio.wait(tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return self._report(sheet, held=held)

    async def _fold_ended(self, sheet: Sheet) -> None:
        begun = self._tasks.get(sheet.ref, {})
        for step in sheet.plan.steps:
            now = sheet.progress.steps.get(step.name)
            if now is None or now.status != "running":
                continue
            key = sheet.key(step.name, now.attempt)
            if key not in begun or not (task := begun[key].task).done():
                continue
            if task.cancelled():
                del begun[key]  # nobody's end: it is taken up again
                continue
            await self._write_end(sheet, step, now, task.result())
            del begun[key]

    async def _write_end(self, sheet: Sheet, step: Step, before: StepProgress, ended: Ended) -> bool:
        after = fold(step, before, ended, self._clock.now(), self._rng)

        def change(progress: Progress) -> Progress | None:
            present = progress.steps.get(step.name)
            same = present is not None and (present.status, present.attempt) == (
                before.status,
                before.attempt,
            )
            return progress.with_step(step.name, after) if same else None

        made = await sheet.write(change, told_of(step.name, after), ended.result.evidence)
        if made and after.status != "suspended":
            await self._settle(sheet, step, before.attempt)
        return made

    async def _settle(self, sheet: Sheet, step: Step, attempt: int) -> None:
        handler = self._handlers.get(step.uses)
        if handler is not None:
            await settle_attempt(handler, self._call(sheet, step, attempt))

    async def _end_waits(self, sheet: Sheet) -> None:
        """The watchdog: a suspended step whose time is over is looked at once, and then given up."""
        for step in sheet.plan.steps:
            now = sheet.progress.steps.get(step.name)
            if now is None or now.status != "suspended" or now.waiting_until is None:
                continue
            if self._clock.now() < now.waiting_until:
                continue
            ended = await carry_look(self._handlers.get(step.uses), self._call(sheet, step, now.attempt))
            await self._write_end(sheet, step, now, ended)

    async def _start_ready(self, sheet: Sheet) -> None:
        for step in sheet.plan.steps:
            steps = sheet.progress.steps
            now = steps.get(step.name)
            retry = now is not None and now.status == "retrying"
            if now is not None and not (retry and self._clock.now() >= sheet.repeat_at(step, now)):
                continue
            under_way = sum(1 for name, one in steps.items() if one.status in UNDER_WAY and name != step.name)
            if under_way >= sheet.plan.max_parallel:
                return
            if not all(need in steps and steps[need].status in OVER for need in step.needs):
                continue
            await self._start(sheet, step, now)
            if sheet.failure() is not None or self._held(sheet):
                return

    async def _start(self, sheet: Sheet, step: Step, before: StepProgress | None) -> None:
        """Begin the next attempt of a step that is as `before`. What came between reading and writing (a
        hold, a freeze, another hand) is honoured: then nothing is written, and nothing begun."""
        now = self._clock.now()
        attempt = 1 if before is None else before.attempt + 1

        async def put(after: StepProgress, *, acting: bool = False) -> bool:
            def change(progress: Progress) -> Progress | None:
                if progress.status != "running" or self._held(sheet):
                    return None
                return (
                    progress.with_step(step.name, after) if progress.steps.get(step.name) == before else None
                )

            return await sheet.write(change, told_of(step.name, after), acting=acting)

        note = ""
        if step.skip_when is not None and attempt == 1:
            found = step.skip_when.evaluate(MappingLookup(sheet.names()))
            if found.truth == "true":
                await put(
                    StepProgress(status="skipped", detail=f"skip_when: {step.skip_when.text}", ended_at=now)
                )
                return
            if found.truth == "unknown":
                lacks = ", ".join(lack.name for lack in found.lacks) or "a truth"
                note = f"skip_when can't tell (missing {lacks}), so the step runs"
        try:
            call = self._call(sheet, step, attempt, strict=True)
        except InputMissing as error:
            failed = StepProgress(
                status="failed",
                attempt=attempt,
                outcome=StepOutcome.PERMANENT,
                detail=shown(error.detail),
                ended_at=now,
            )
            await put(failed)
            return
        site = await self._site(step)
        begun = StepProgress(status="running", attempt=attempt, detail=shown(note), started_at=now, site=site)
        if await put(begun, acting=True):
            self._spawn(sheet, step, replace(call, site=site), fresh=True)

    async def _site(self, step: Step) -> str:
        handler = self._handlers.get(step.uses)
        return "" if handler is None else await handler.site()

    async def _take_up(self, sheet: Sheet, *, may_begin: bool) -> None:
        """Steps that an earlier life of this program began, or was about to. One of another site is that
        site's to end and to hand over; it is given up for uncertain when its time is over."""
        begun = self._tasks.get(sheet.ref, {})
        for step in sheet.plan.steps:
            now = sheet.progress.steps.get(step.name)
            if now is None or now.status != "running" or sheet.key(step.name, now.attempt) in begun:
                continue
            if now.site and now.site != await self._site(step) and sheet.is_awaited(step, now):
                continue
            call = self._call(sheet, step, now.attempt)
            self._spawn(sheet, step, call, fresh=False, may_begin=may_begin)

    def _spawn(
        self, sheet: Sheet, step: Step, call: StepCall, *, fresh: bool, may_begin: bool = True
    ) -> None:
        handler = self._handlers.get(step.uses)
        if handler is None:
            work = missing_handler(step.uses)
        else:
            work = carry(handler, call, fresh=fresh, may_begin=may_begin)
        task = self._supervisor.spawn(f"step {call.key}", work)
        self._tasks.setdefault(sheet.ref, {})[call.key] = _Begun(task, call, handler)
        if self._wake is not None:
            wake, ref = self._wake, sheet.ref
            task.add_done_callback(lambda done: None if done.cancelled() else wake(ref))

    def _running(self, sheet: Sheet) -> list[asyncio.Task[Ended]]:
        """Tasks of this operation that run, and those whose end is still to be written."""
        wanted = {
            sheet.key(name, step.attempt)
            for name, step in sheet.progress.steps.items()
            if step.status == "running"
        }
        return [
            begun.task
            for key, begun in self._tasks.get(sheet.ref, {}).items()
            if key in wanted or (not begun.task.done() and key.startswith(f"{sheet.run.operation.id}/"))
        ]

    def _call(self, sheet: Sheet, step: Step, attempt: int, *, strict: bool = False) -> StepCall:
        """The attempt. Without `strict`, inputs that can't be filled any more are left out: what was begun is
        found by its key."""
        try:
            inputs: dict[str, Any] = fill(step.inputs, sheet.names())
        except InputMissing:
            if strict:
                raise
            inputs = {}
        known = sheet.progress.steps.get(step.name)
        return StepCall(
            key=sheet.key(step.name, attempt),
            resource=sheet.ref,
            operation=sheet.run.operation.id,
            epoch=sheet.run.operation.epoch,
            phase=sheet.run.phase.name,
            step=step.name,
            attempt=attempt,
            timeout_s=step.timeout_s,
            inputs=inputs,
            site=known.site if known is not None and known.attempt == attempt else "",
        )

    def _held(self, sheet: Sheet) -> str:
        if self._is_frozen():
            return "acting is frozen"
        now = self._clock.now()
        hold = next((hold for hold in sheet.state.holds if hold.is_alive(now)), None)
        return "" if hold is None else f"hold {hold.name} of {hold.owner}: {hold.reason or 'no reason given'}"

    async def _finish(self, sheet: Sheet) -> PhaseReport:
        failure = sheet.failure()
        if failure is not None:
            return await self._stop(sheet, failure, "failed")
        optional = [
            name for name, step in sheet.progress.steps.items() if step.status in ("failed", "cancelled")
        ]
        outputs: dict[str, Any] = {}
        for name, path in sheet.plan.outputs.items():
            try:
                outputs[name] = find(path, sheet.names())
            except InputMissing:
                outputs[name] = None
        status: RunStatus = "partial" if optional else "completed"
        detail = f"optional steps failed: {', '.join(optional)}" if optional else ""

        def change(progress: Progress) -> Progress:
            return replace(progress, status=status, detail=detail, outputs=outputs)

        await sheet.write(change, {"status": status, "detail": detail, "outputs": sorted(outputs)})
        self._forget(sheet)
        return self._report(sheet)

    async def _stop(self, sheet: Sheet, why: str, status: RunStatus) -> PhaseReport:
        """End what is under way and the phase with it: effects first, so that after a crash between them the
        ending is repeated."""
        if sheet.progress.status != "running":
            return self._report(sheet)
        await self._end_effects(sheet)
        ended = {
            name: step.attempt for name, step in sheet.progress.steps.items() if step.status in UNDER_WAY
        }
        now = self._clock.now()
        detail = shown(why)

        def change(progress: Progress) -> Progress | None:
            if progress.status != "running":
                return None
            steps = dict(progress.steps)
            for name, step in steps.items():
                if step.status in UNDER_WAY:
                    steps[name] = replace(step, status="cancelled", ended_at=now, detail=detail)
            for step in sheet.plan.steps:
                if step.name not in steps:
                    steps[step.name] = StepProgress(
                        status="skipped", detail=f"not run: {detail}", ended_at=now
                    )
            return replace(progress, status=status, detail=detail, steps=steps)

        try:
            await sheet.write(change, {"status": status, "detail": detail})
        finally:
            self._forget(sheet)
        for step in sheet.plan.steps:
            if step.name in ended:
                await self._settle(sheet, step, ended[step.name])
        return self._report(sheet)

    async def _end_effects(self, sheet: Sheet) -> None:
        for task in self._running(sheet):
            task.cancel()
        for name, step in sheet.progress.steps.items():
            defined = sheet.plan.step(name)
            if step.status not in ("running", "suspended") or defined is None:
                continue
            handler = self._handlers.get(defined.uses)
            if handler is not None:
                await end_effect(handler, self._call(sheet, defined, step.attempt))

    async def _let_go(self, sheet: Sheet) -> None:
        """Fenced off. Where the operation goes on in other hands, its effects are theirs, found by the same
        keys; where it is over, they are nobody's, and are ended."""
        try:
            await sheet.refresh()
            operation = sheet.state.operation
        except ResourceNotFound:
            operation = None
        if operation is not None and operation.id == sheet.run.operation.id:
            for task in self._running(sheet):
                task.cancel()
        else:
            await self._end_effects(sheet)
        self._forget(sheet)

    def _forget(self, sheet: Sheet) -> None:
        self._drop(sheet.ref, lambda key: key.startswith(f"{sheet.run.operation.id}/"))

    def _drop(self, ref: ResourceRef, which: Callable[[str], bool]) -> None:
        left = {key: begun for key, begun in self._tasks.pop(ref, {}).items() if not which(key)}
        if left:
            self._tasks[ref] = left

    async def _apply(self, sheet: Sheet, name: str, attempt: int, result: StepResult) -> bool:
        step, now = sheet.plan.step(name), sheet.progress.steps.get(name)
        if (
            step is None
            or now is None
            or now.attempt != attempt
            or now.status not in ("suspended", "running")  # an answer may be the faster one
            or sheet.progress.status != "running"
            or sheet.run.operation.epoch != sheet.state.epoch
        ):
            return False
        return await self._write_end(sheet, step, now, Ended(result, confirmed=True))

    async def _record_late(self, sheet: Sheet, name: str, attempt: int, result: StepResult) -> None:
        def change(progress: Progress) -> Progress | None:
            if progress.late >= LATE_KEPT_MAX:
                return None
            return replace(progress, late=progress.late + 1)

        told = {
            "step": name,
            "attempt": attempt,
            "outcome": result.outcome.value,
            "detail": shown(result.detail),
        }
        data = {"late_answer": {**told, "epoch": sheet.run.operation.epoch}}
        await sheet.write(change, data, result.evidence, fenced=False)

    def _report(self, sheet: Sheet, *, held: str = "") -> PhaseReport:
        progress = sheet.progress
        if progress.status in ("completed", "partial"):
            return PhaseReport(progress.status, progress.detail, outputs=progress.outputs)
        if progress.status != "running":
            return PhaseReport("failed", progress.detail)
        under_way = {name: step for name, step in progress.steps.items() if step.status in UNDER_WAY}
        running = [name for name, step in under_way.items() if step.status == "running"]
        looks = [at for name, step in under_way.items() if (at := sheet.due(name, step)) is not None]
        deadline = sheet.deadline()
        looks += [] if deadline is None else [deadline]
        if held and not (running and self._running(sheet)):
            looks.append(self._clock.now() + timedelta(seconds=HELD_RECHECK_S))
            return PhaseReport("held", held, next(iter(under_way), None), min(looks))
        first = running[0] if running else next(iter(under_way), None)
        detail = under_way[first].detail if first is not None else ""
        status = "running" if running or first is None else "waiting"
        return PhaseReport(status, detail, first, min(looks, default=None))


def _ref(run: PhaseRun) -> ResourceRef:
    return ResourceRef(run.state.resource_type, run.state.id)
