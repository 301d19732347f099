"""The handler `process`: one attempt is one command, run effectively once over crashes of Steersman.

The command belongs to a wrapper program (`wrapper.py`) that outlives us; everything that must be known after
a crash is in the run's folder (`folder.py`). Running the same key again takes up what is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from steersman.drivers.process.command import Command, check_inputs, read_command, user_numbers
from steersman.drivers.process.folder import (
    HEAD_BYTES,
    RUN_VARIABLE,
    TAIL_BYTES,
    RunConflict,
    RunFolder,
    Standing,
    kept_runs,
    sweep,
)
from steersman.drivers.process.site import MACHINE_ID, ForeignSite, read_site
from steersman.kernel.clock import Clock
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import Ids, SortableIds, system_rng
from steersman.kernel.logging import get_logger
from steersman.kernel.redact import redact_text, shortened_middle
from steersman.kinds.command import Evidence
from steersman.kinds.step import KeptAttempt, StepCall, StepOutcome, StepResult

POLL_FIRST_S = 0.01
POLL_MAX_S = 0.5
"""How often the end of a run is looked for: a look is one `stat`."""
OUTPUT_SHOWN_MAX_CHARS = 4000
"""What of each stream becomes an output of the step; the run's folder has more."""
KEPT_TOLD_S = 7 * 86_400.0
"""How long the folder of a run is kept once its end is on record; before that it stays."""
KEPT_EMPTY_S = 90 * 86_400.0
"""How long a place is kept where a crash came before anything was begun."""
BEGINS_MAX = 3
"""How often a run is begun that certainly never began: somebody's glance at its lock, or a wrapper that died
at once, may have been in the way."""
RUNS_MAX = 2000
SWEEP_EVERY = 100
"""Runs between two clean-ups; the first one begins with one."""

_log = get_logger("drivers.process")


class ProcessSteps:
    """See `kinds.step.StepHandler`. `folder` is Steersman's state folder; runs are under `runs/` in it, and
    with this machine it is the site. `ids` name a new one; `machine_id` is the file with the machine's id."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        environment: Mapping[str, str] | None = None,
        ids: Ids | None = None,
        machine_id: Path = MACHINE_ID,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._environment = os.environ if environment is None else environment
        self._ids = SortableIds(clock, system_rng()) if ids is None else ids
        self._machine_id = machine_id
        self._site = ""
        self._begun = 0

    async def site(self) -> str:
        """This machine with this state folder."""
        if not self._site:
            self._site = await asyncio.to_thread(read_site, self._folder, self._ids, self._machine_id)
        return self._site

    def check(self, inputs: dict[str, Any]) -> None:
        """Raises `CommandInvalid`."""
        check_inputs(inputs)

    async def run(self, call: StepCall) -> StepResult:
        """Run the command, or take up the run of this key. Another site's is not run here."""
        foreign = await self._foreign(call)
        if foreign is not None:
            return foreign
        try:
            command, spec = await asyncio.to_thread(self._prepare, call)
        except InvalidInput as error:
            return StepResult(outcome=StepOutcome.PERMANENT, detail=error.detail)
        await self._sweep()
        run = RunFolder(self._folder, call.key)
        standing = Standing.NEVER
        for _ in range(BEGINS_MAX):
            try:
                standing = await asyncio.to_thread(run.begin, spec, command.digest(), whose(call))
            except RunConflict as error:
                return StepResult(outcome=StepOutcome.PERMANENT, detail=error.detail)
            except (OSError, subprocess.SubprocessError) as error:
                standing = await asyncio.to_thread(run.standing)
                if standing is not Standing.ALIVE:
                    detail = f"the command could not be begun: {error}"
                    return StepResult(outcome=StepOutcome.TRANSIENT, detail=redact_text(detail))
            standing = await self._ended(run, standing)
            if standing is not Standing.NEVER:
                break
        return await self._result(run, standing, command)

    async def observe(self, call: StepCall) -> StepResult | None:
        """What became of it; waits for a run that is alive. Of a run at another site nothing can be told."""
        foreign = await self._foreign(call)
        if foreign is not None:
            return foreign
        run = RunFolder(self._folder, call.key)
        standing = await self._ended(run, await asyncio.to_thread(run.standing))
        if standing is Standing.NEVER:
            return None
        try:
            command = await asyncio.to_thread(read_command, call.inputs, self._environment)
        except InvalidInput:  # its inputs are no longer what they were; its end is
            command = Command(argv=("?",))
        return await self._result(run, standing, command)

    async def cancel(self, call: StepCall) -> None:
        """End the command with all that it started; returns when it has ended. Raises `ForeignSite`."""
        foreign = await self._foreign(call)
        if foreign is not None:
            raise ForeignSite(foreign.detail, key=call.key, site=call.site, here=await self.site())
        run = RunFolder(self._folder, call.key)
        await asyncio.to_thread(run.refuse, whose(call))
        wait_s = POLL_FIRST_S
        asked = False
        while await asyncio.to_thread(run.standing) is Standing.ALIVE:
            asked = asked or await asyncio.to_thread(run.signal_wrapper)
            await self._clock.sleep(wait_s)
            wait_s = min(POLL_MAX_S, wait_s * 1.5)

    async def settle(self, call: StepCall) -> None:
        """Its folder may go after `KEPT_TOLD_S`. One that is alive is not touched: it is ended first."""
        await asyncio.to_thread(RunFolder(self._folder, call.key).mark_told)

    async def kept(self) -> Sequence[KeptAttempt]:
        """Runs in the state folder that are not settled."""
        runs = await asyncio.to_thread(kept_runs, self._folder)
        if not runs:
            return []  # and where nothing was ever begun, no site is named
        return await asyncio.to_thread(self._kept, runs, await self.site())

    def _kept(self, runs: Iterable[tuple[RunFolder, dict[str, Any]]], site: str) -> list[KeptAttempt]:
        found: list[KeptAttempt] = []
        for run, said in runs:
            try:
                call = msgspec.convert({**said, "timeout_s": 0, "site": site}, StepCall)
            except msgspec.ValidationError as error:
                _log.warning("run_unreadable", folder=str(run.path), error=str(error))
                continue
            found.append(KeptAttempt(call, run.standing() is Standing.ALIVE))
        return found

    async def _foreign(self, call: StepCall) -> StepResult | None:
        """What is to be said of an attempt that was begun at another site; None for one of this site."""
        if not call.site or call.site == (here := await self.site()):
            return None
        detail = f"it was begun at site {call.site}, and this is {here}: only there can be told how it ended"
        return StepResult(outcome=StepOutcome.UNCERTAIN, detail=detail)

    async def _ended(self, run: RunFolder, standing: Standing) -> Standing:
        wait_s = POLL_FIRST_S
        while standing is Standing.ALIVE:
            await self._clock.sleep(wait_s)
            wait_s = min(POLL_MAX_S, wait_s * 1.5)
            standing = await asyncio.to_thread(run.standing)
        return standing

    def _prepare(self, call: StepCall) -> tuple[Command, dict[str, Any]]:
        command = read_command(call.inputs, self._environment)
        return command, self._spec(call, command)

    def _spec(self, call: StepCall, command: Command) -> dict[str, Any]:
        env = {
            **command.env,
            "STEERSMAN_STEP_KEY": call.key,
            "STEERSMAN_RESOURCE": str(call.resource),
            "STEERSMAN_OPERATION": call.operation,
            "STEERSMAN_EPOCH": str(call.epoch),
            "STEERSMAN_ATTEMPT": str(call.attempt),
            RUN_VARIABLE: str(RunFolder(self._folder, call.key).path),
        }
        return {
            "argv": list(command.argv),
            "cwd": command.cwd,
            "env": env,
            "timeout_s": call.timeout_s,
            "grace_s": command.grace_s,
            "children": command.children,
            "head_bytes": HEAD_BYTES,
            "tail_bytes": TAIL_BYTES,
            **user_numbers(command.user),
        }

    async def _result(self, run: RunFolder, standing: Standing, command: Command) -> StepResult:
        if standing is Standing.REFUSED:
            return StepResult(outcome=StepOutcome.CANCELLED, detail="cancelled before it began")
        if standing is Standing.NEVER:
            return StepResult(
                outcome=StepOutcome.TRANSIENT, detail="the wrapper ended before the command began"
            )
        if standing is Standing.UNKNOWN:
            if command.children == "end":
                await asyncio.to_thread(run.end_leftovers)  # nobody keeps their time any more
            detail = "it was begun and nobody saw its end: its wrapper was killed, or the machine restarted"
            return StepResult(outcome=StepOutcome.UNCERTAIN, detail=detail)
        return await asyncio.to_thread(self._read_end, run, command)

    def _read_end(self, run: RunFolder, command: Command) -> StepResult:
        end = run.read("exit")
        if end is None:
            return StepResult(outcome=StepOutcome.UNCERTAIN, detail="what is known of its end can't be read")
        texts = {
            name: shortened_middle(
                command.masked(redact_text(run.stream(name, end["omitted"][name], end["tail"][name]))),
                OUTPUT_SHOWN_MAX_CHARS,
            )
            for name in ("stdout", "stderr")
        }
        outputs: dict[str, Any] = {
            "exit_code": end["code"],
            "signal": end["signal"],
            **texts,
            "stdout_bytes": end["bytes"]["stdout"],
            "stderr_bytes": end["bytes"]["stderr"],
            "duration_s": round(float(end["duration_s"]), 3),
        }
        outcome, detail = _judge(end, command, texts["stderr"])
        if outcome is StepOutcome.SUCCEEDED and command.stdout_format == "json":
            try:
                outputs["json"] = json.loads(run.stream("stdout", end["omitted"]["stdout"], 0))
            except ValueError:
                outcome, detail = StepOutcome.PERMANENT, "its standard output is not one JSON value"
        evidence = Evidence(
            kind="process_exit",
            ref=run.path.name,
            detail=detail[:1000],
            data={
                key: outputs[key]
                for key in ("exit_code", "signal", "duration_s", "stdout_bytes", "stderr_bytes")
            },
        )
        return StepResult(outcome=outcome, detail=detail, outputs=outputs, evidence=(evidence,))

    async def _sweep(self) -> None:
        if self._begun % SWEEP_EVERY == 0:
            now_s = self._clock.now().timestamp()

            def clean() -> int:
                return sweep(
                    self._folder,
                    now_s=now_s,
                    told_s=KEPT_TOLD_S,
                    empty_s=KEPT_EMPTY_S,
                    runs_max=RUNS_MAX,
                )

            gone = await asyncio.to_thread(clean)
            if gone:
                _log.info("runs_removed", count=gone)
        self._begun += 1


def whose(call: StepCall) -> dict[str, Any]:
    """What finds the owner of a run again, as it is kept in its folder."""
    return {
        "resource": msgspec.to_builtins(call.resource),
        "operation": call.operation,
        "epoch": call.epoch,
        "phase": call.phase,
        "step": call.step,
        "attempt": call.attempt,
    }


def _judge(end: dict[str, Any], command: Command, stderr: str) -> tuple[StepOutcome, str]:
    """What the end of a command means for its step."""
    program = command.argv[0]
    said = shortened_middle(stderr.strip(), 400)
    more = f": {said}" if said else ""
    if end["fault"]:
        return StepOutcome.PERMANENT, f"{program} could not be run: {end['fault']}"
    if end["asked"] == "cancelled":
        return StepOutcome.CANCELLED, f"{program} was ended because it was cancelled"
    if end["asked"] == "timeout":
        # Ended in the middle: how much of it took effect is not known.
        return StepOutcome.UNCERTAIN, f"{program} took longer than it may and was ended{more}"
    code = cast("int | None", end["code"])
    if code is None:
        return StepOutcome.UNCERTAIN, f"{program} was ended by signal {end['signal']}{more}"
    if code in command.success_codes:
        return StepOutcome.SUCCEEDED, ""
    outcome = StepOutcome.TRANSIENT if code in command.transient_codes else StepOutcome.PERMANENT
    return outcome, f"{program} ended with exit code {code}{more}"
