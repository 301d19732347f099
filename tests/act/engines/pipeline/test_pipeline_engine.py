"""The pipeline engine: order, retries, waits, answers, fences, and dying between any two writes."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from steersman.act.engines.pipeline import PipelineEngine, PipelineInvalid, read_progress, waiting_steps
from steersman.act.lifecycle import shipped
from steersman.drivers.process import ProcessSteps
from steersman.kernel.clock import Clock, ManualClock, SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.command import Actor, ChangeAction, Terms
from steersman.kinds.refusal import Fenced
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import StepCall, StepOutcome, StepResult
from steersman.state.ledger import Ledger
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite.store import SqliteStore
from steersman.testing.pipeline import (
    Effects,
    PipelineCase,
    die_between_writes,
    run_to_end,
    tables,
)

ALICE = Actor("user:alice", ("operator",))


def ended(outcome: str, **more: Any) -> StepResult:
    return StepResult(outcome=StepOutcome(outcome), **more)


def step(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "uses": "effect", **more}


def case(*steps: dict[str, Any], **more: Any) -> PipelineCase:
    metadata = more.pop("metadata", {})
    return PipelineCase({"steps": list(steps), **more}, metadata)


class House:
    """An engine with its journal on a store, and the world outside."""

    def __init__(self, store: Store, effects: Effects, tasks: Supervisor, clock: Clock, **more: Any) -> None:
        self.journal = Ledger(store, clock, tables())
        self.effects = effects
        self.clock = clock
        self.frozen = False
        self.woken: list[ResourceRef] = []
        self.engine = PipelineEngine(
            {"effect": effects, **more.pop("handlers", {})},
            self.journal,
            clock,
            seeded_rng(1),
            tasks,
            is_frozen=lambda: self.frozen,
            wake=self.woken.append,
            **more,
        )

    async def begin(self, pipeline: PipelineCase) -> PipelineCase:
        await pipeline.begin(self.journal)
        self.pipeline = pipeline
        return pipeline

    async def advance(self) -> Any:
        return await self.engine.advance(await self.run())

    async def run(self) -> Any:
        return self.pipeline.run(await self.journal.get(self.pipeline.ref))

    async def told(self) -> list[dict[str, Any]]:
        page = await self.journal.history(self.pipeline.ref, limit=1000)
        return [entry.data for entry in page.entries if entry.action is ChangeAction.PROGRESS_MADE]

    async def steps(self) -> dict[str, str]:
        state = await self.journal.get(self.pipeline.ref)
        progress = read_progress(state.pipeline_progress, "drain")
        assert progress is not None
        return {name: one.status for name, one in progress.steps.items()}


Make = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def house() -> Make:
    @asynccontextmanager
    async def make(ends: dict[str, StepResult] | None = None, **more: Any) -> AsyncIterator[House]:
        clock = more.pop("clock", None) or ManualClock()
        effects = more.pop("effects", None) or Effects(ends, more.pop("lost", frozenset()))
        async with (
            MemoryStore(clock=clock, rng=seeded_rng(2)) as store,
            Supervisor(SystemClock(), seeded_rng(1)) as tasks,
        ):
            yield House(store, effects, tasks, clock, **more)

    return make


async def test_steps_run_in_order_and_hand_on_what_they_found(house: Make) -> None:
    async with house() as home:
        await home.begin(
            case(
                step("a", inputs={"x": ["${resource.metadata.n}"]}),
                step("b", needs=["a"], inputs={"from_a": "${steps.a.outputs.x}"}),
                outputs={"found": "$STEPS.b.from_a", "none": "${steps.b.outputs.missing}"},
                metadata={"n": 7},
            )
        )
        report = await home.advance()
        assert report.status == "completed"
        assert report.outputs == {"found": [7], "none": None}
        assert home.effects.effects == ["op-1/a/1", "op-1/b/1"]
        again = await home.advance()
        assert again.status == "completed"
        assert home.effects.effects == ["op-1/a/1", "op-1/b/1"]


async def test_a_step_is_on_record_before_it_begins_and_after_it_ends(house: Make) -> None:
    async with house() as home:
        await home.begin(case(step("a")))
        await home.advance()
        told = [(data.get("step"), data.get("step_status")) for data in await home.told()]
        assert told[:2] == [("a", "running"), ("a", "succeeded")]


async def test_each_step_failing_in_turn(house: Make) -> None:
    names = ["a", "b", "c", "d"]
    for failing in names:
        async with house({failing: ended("permanent", detail="broken")}) as home:
            await home.begin(case(*(step(name) for name in names)))
            report = await home.advance()
            assert report.status == "failed"
            assert f"step {failing}: broken" in report.detail
            before = names[: names.index(failing)]
            expected = {name: "succeeded" if name in before else "skipped" for name in names}
            assert await home.steps() == {**expected, failing: "failed"}
            assert all(home.effects.count(name) == (name in [*before, failing]) for name in names)


async def test_an_optional_step_that_fails_makes_it_partial_and_its_dependents_run(house: Make) -> None:
    async with house({"a": ended("permanent")}) as home:
        await home.begin(case(step("a", optional=True), step("b", needs=["a"])))
        report = await home.advance()
        assert (report.status, report.detail) == ("partial", "optional steps failed: a")
        assert home.effects.count("b") == 1


async def test_a_known_failure_is_tried_again_after_its_delay_which_outlives_a_restart(house: Make) -> None:
    ends = {"a/1": ended("transient", detail="busy"), "a/2": ended("succeeded")}
    async with house(ends) as home:
        await home.begin(case(step("a", retry={"max_attempts": 3, "delay": "10s"})))
        report = await home.advance()
        assert report.status == "waiting"
        assert timedelta(seconds=7) <= report.look_again - home.clock.now() <= timedelta(seconds=10)
        assert (await home.advance()).status == "waiting", "not before its time"
        home.engine._tasks.clear()
        home.clock.advance(10)
        assert (await home.advance()).status == "completed"
        assert home.effects.effects == ["op-1/a/1", "op-1/a/2"]


async def test_attempts_are_bounded(house: Make) -> None:
    async with house({"a": ended("transient", detail="busy")}) as home:
        await home.begin(case(step("a", retry={"max_attempts": 3, "delay": 0})))
        report = await home.advance()
        assert report.status == "failed"
        assert home.effects.count("a") == 3


@pytest.mark.parametrize(("idempotent", "count"), [(False, 1), (True, 2)])
async def test_what_is_uncertain_is_repeated_only_where_that_is_declared_harmless(
    house: Make, idempotent: bool, count: int
) -> None:
    ends = {"a/1": ended("uncertain", detail="no answer")}
    async with house(ends) as home:
        await home.begin(case(step("a", idempotent=idempotent, retry={"max_attempts": 2, "delay": 0})))
        report = await home.advance()
        assert home.effects.count("a") == count
        assert report.status == ("completed" if idempotent else "failed")


async def test_a_lost_answer_is_looked_for_before_anything_else(house: Make) -> None:
    async with house(lost=frozenset({"a"})) as home:
        await home.begin(case(step("a", retry={"max_attempts": 3})))
        assert (await home.advance()).status == "completed"
        assert home.effects.count("a") == 1


async def test_skip_when(house: Make) -> None:
    async with house() as home:
        await home.begin(
            case(
                step("a", skip_when="!has(resource.metadata.command)"),
                step("b", skip_when="resource.metadata.ready == true"),
                step("c", needs=["a"], skip_when="steps.a.status == 'skipped'"),
                step("d", skip_when="resource.metadata.unheard_of == 1"),
                metadata={"ready": False},
            )
        )
        assert (await home.advance()).status == "completed"
        assert await home.steps() == {"a": "skipped", "b": "succeeded", "c": "skipped", "d": "succeeded"}
        (told,) = [data for data in await home.told() if data.get("step") == "d" and "detail" in data]
        assert "resource.metadata.unheard_of" in told["detail"]


async def test_an_input_that_is_missing_fails_its_step_without_an_effect(house: Make) -> None:
    async with house() as home:
        await home.begin(case(step("a", inputs={"argv": "${resource.metadata.command}"})))
        report = await home.advance()
        assert report.status == "failed"
        assert "resource.metadata.command is not there" in report.detail
        assert home.effects.effects == []


SUSPENDED = ended("suspended", correlation_id="job-7")


async def test_a_suspended_step_waits_for_its_answer_and_is_not_begun_again(house: Make) -> None:
    async with house({"a": SUSPENDED}) as home:
        await home.begin(case(step("a"), step("b", needs=["a"], inputs={"x": "${steps.a.outputs.y}"})))
        report = await home.advance()
        assert report.status == "waiting"
        assert report.look_again == home.clock.now() + timedelta(minutes=30)
        home.engine._tasks.clear()
        assert (await home.advance()).status == "waiting"
        (waiting,) = waiting_steps(await home.journal.get(home.pipeline.ref))
        assert (waiting.step, waiting.attempt, waiting.correlation_id) == ("a", 1, "job-7")
        await home.engine.answer(await home.run(), "a", 1, ended("succeeded", outputs={"y": 5}))
        assert home.woken
        assert (await home.advance()).status == "completed"
        assert home.effects.effects == ["op-1/a/1", "op-1/b/1"]


async def test_late_and_duplicate_answers_are_recorded_and_not_applied(house: Make) -> None:
    async with house({"a": SUSPENDED}) as home:
        await home.begin(case(step("a", retry={"max_attempts": 1})))
        await home.advance()
        good = ended("succeeded", outputs={"y": 5})
        await home.engine.answer(await home.run(), "a", 2, good)
        assert await home.steps() == {"a": "suspended"}, "an answer to another attempt"
        await home.engine.answer(await home.run(), "a", 1, good)
        await home.engine.answer(await home.run(), "a", 1, ended("permanent", detail="late"))
        assert (await home.advance()).status == "completed"
        late = [data["late_answer"] for data in await home.told() if "late_answer" in data]
        assert [(one["attempt"], one["outcome"]) for one in late] == [(2, "succeeded"), (1, "permanent")]
        for _ in range(100):
            await home.engine.answer(await home.run(), "a", 1, good)
        late = [data for data in await home.told() if "late_answer" in data]
        assert len(late) == 32


async def test_the_watchdog_ends_a_wait_after_one_last_look(house: Make) -> None:
    async with house({"a": SUSPENDED, "b": SUSPENDED}) as home:
        await home.begin(case(step("a"), step("b")))
        await home.advance()
        home.clock.advance(1800)
        home.effects.done["op-1/a/1"] = ended("succeeded")
        await home.advance()
        assert await home.steps() == {"a": "succeeded", "b": "suspended"}, "the last look found its end"
        home.clock.advance(1800)
        report = await home.advance()
        assert report.status == "failed"
        assert "no answer came in time" in report.detail


async def test_a_freeze_or_a_hold_stops_it_between_two_steps(house: Make) -> None:
    async with house({"a": SUSPENDED}) as home:
        await home.begin(case(step("a"), step("b")))
        await home.advance()
        home.frozen = True
        await home.engine.answer(await home.run(), "a", 1, ended("succeeded"))
        report = await home.advance()
        assert (report.status, report.detail) == ("held", "acting is frozen")
        home.frozen = False
        await home.journal.place_hold(home.pipeline.ref, ALICE, "look", Terms(reason="wait for me"))
        report = await home.advance()
        assert report.status == "held"
        assert "wait for me" in report.detail
        assert home.effects.count("b") == 0
        await home.journal.lift_hold(home.pipeline.ref, ALICE, "look")
        assert (await home.advance()).status == "completed"


class Slow(Effects):
    """Its steps last until they are let go; it counts how many run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()
        self.at_once = self.most = 0

    async def run(self, call: StepCall) -> StepResult:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.let_go.wait()
        finally:
            self.at_once -= 1
        return await super().run(call)


@pytest.mark.parametrize("parallel", [1, 3])
async def test_no_more_run_at_once_than_is_said(house: Make, parallel: int) -> None:
    slow = Slow()
    async with house(effects=slow, patience_s=0.01) as home:
        await home.begin(case(*(step(f"s{n}") for n in range(5)), max_parallel=parallel))
        report = await home.advance()
        assert (report.status, report.step) == ("running", "s0")
        assert slow.most == parallel
        slow.let_go.set()
        assert (
            await run_to_end(home.engine, home.journal, home.pipeline, SystemClock())
        ).status == "completed"
        assert slow.most == parallel


async def test_fenced_off_by_another_hand_it_stops_and_leaves_the_effect_alone(house: Make) -> None:
    slow = Slow()
    async with house(effects=slow, patience_s=0.01) as home:
        await home.begin(case(step("a"), step("b")))
        await home.advance()
        old = await home.run()
        await home.journal.claim(home.pipeline.ref, ALICE)
        slow.let_go.set()
        await asyncio.sleep(0.01)
        with pytest.raises(Fenced):
            await home.engine.advance(old)
        assert slow.cancelled == []
        assert slow.count("b") == 0


async def test_fenced_off_because_the_operation_is_over_it_ends_the_effect(house: Make) -> None:
    slow = Slow()
    async with house({"a": SUSPENDED}, effects=slow, patience_s=0.01) as home:
        await home.begin(case(step("a"), step("b"), max_parallel=2, max_duration="10s"))
        await home.advance()
        old = await home.run()

        await home.journal.claim(home.pipeline.ref, ALICE)
        await home.journal.set_operation(home.pipeline.ref, ALICE, None)
        home.clock.advance(11)
        with pytest.raises(Fenced):
            await home.engine.advance(old)
        assert set(slow.cancelled) == {"op-1/a/1", "op-1/b/1"}


async def test_cancel_ends_what_is_under_way(house: Make) -> None:
    slow = Slow()
    async with house(effects=slow, patience_s=0.01) as home:
        await home.begin(case(step("a"), step("b")))
        await home.advance()
        report = await home.engine.cancel(await home.run(), "told to")
        assert (report.status, report.detail) == ("failed", "cancelled: told to")
        assert slow.cancelled == ["op-1/a/1"]
        assert await home.steps() == {"a": "cancelled", "b": "skipped"}
        assert (await home.advance()).status == "failed"


async def test_a_phase_that_takes_too_long_is_ended(house: Make) -> None:
    async with house({"a": SUSPENDED}) as home:
        await home.begin(case(step("a"), max_duration="1m"))
        report = await home.advance()
        assert report.look_again == home.clock.now() + timedelta(minutes=1)
        home.clock.advance(60)
        report = await home.advance()
        assert report.status == "failed"
        assert "took longer than 60 s" in report.detail
        assert home.effects.cancelled == ["op-1/a/1"]


async def test_a_change_by_somebody_else_in_between_is_kept_and_so_is_the_progress(house: Make) -> None:
    slow = Slow()
    async with house(effects=slow, patience_s=0.01) as home:
        await home.begin(case(step("a"), step("b")))
        await home.advance()
        old = await home.run()
        await home.journal.change_spec(home.pipeline.ref, ALICE, labels={"x": "y"})
        slow.let_go.set()
        await asyncio.sleep(0)
        report = await home.engine.advance(old)
        while report.status == "running":
            report = await home.engine.advance(old)
        assert report.status == "completed"
        assert (await home.journal.get(home.pipeline.ref)).labels == {"x": "y"}
        assert home.effects.count("a") == home.effects.count("b") == 1


async def test_a_handler_that_raises_is_an_uncertain_step_not_the_end_of_the_loop(house: Make) -> None:
    class Broken(Effects):
        async def run(self, call: StepCall) -> StepResult:
            self.done[call.key] = ended("uncertain", detail="who knows")
            raise RuntimeError("token=hunter2 broke")

    async with house(effects=Broken()) as home:
        await home.begin(case(step("a")))
        report = await home.advance()
        assert report.status == "failed"
        assert "RuntimeError" in report.detail
        assert "hunter2" not in report.detail


async def test_check_names_what_is_not_there(house: Make, tmp_path: Path) -> None:
    async with house(handlers={"process": ProcessSteps(tmp_path, SystemClock())}) as home:
        for steps, words in (
            ([{"name": "a", "uses": "proces"}], "did you mean process"),
            ([{"name": "a", "uses": "process", "inputs": {"argv": "rm -rf x"}}], "step a: argv is a list"),
        ):
            await home.begin(case(*steps))
            with pytest.raises(PipelineInvalid, match=words):
                home.engine.check((await home.run()).phase)


async def test_dying_between_any_two_writes_repeats_nothing(tmp_path: Path) -> None:
    pipeline = case(
        step("a"),
        step("b", needs=["a"], optional=True),
        step("c", retry={"max_attempts": 2, "delay": 0}),
        step("d", skip_when="steps.c.status == 'failed'", needs=["c"]),
        outputs={"x": "$STEPS.d.step"},
        max_parallel=2,
    )
    ends = {"b": ended("permanent"), "c/1": ended("transient")}

    async def live(store: Store, effects: Effects) -> Any:
        async with Supervisor(SystemClock(), seeded_rng(1)) as tasks:
            home = House(store, effects, tasks, SystemClock())
            await home.begin(pipeline)
            return await run_to_end(home.engine, home.journal, pipeline, SystemClock())

    numbers = itertools.count()

    @asynccontextmanager
    async def open_store() -> AsyncIterator[Store]:
        path = tmp_path / f"{next(numbers)}.db"
        async with SqliteStore(path, clock=SystemClock(), rng=seeded_rng(2)) as store:
            yield store

    deaths = await die_between_writes(open_store, pipeline, lambda: Effects(ends), live)
    assert deaths > 20


HOST = """
import asyncio, sys
from pathlib import Path
from steersman.act.engines.pipeline import PipelineEngine
from steersman.act.lifecycle import shipped
from steersman.drivers.process import ProcessSteps
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import system_rng
from steersman.kernel.tasks import Supervisor
from steersman.state.ledger import Ledger
from steersman.store.sqlite.store import SqliteStore
from steersman.testing.pipeline import PipelineCase, run_to_end, tables

folder = Path(sys.argv[1])

def step(name, *needs):
    script = f"echo {name} >> {folder}/effects; sleep 0.15"
    return {"name": name, "uses": "process", "needs": list(needs), "inputs": {"argv": ["sh", "-c", script]}}

case = PipelineCase({"steps": [step("a"), step("b", "a"), step("c", "b"), step("d", "c")]})

async def main():
    clock, rng = SystemClock(), system_rng()
    store = SqliteStore(folder / "store.db", clock=clock, rng=rng)
    async with store, Supervisor(clock, rng) as tasks:
        ledger = Ledger(store, clock, tables())
        await case.begin(ledger)
        engine = PipelineEngine({"process": ProcessSteps(folder, clock)}, ledger, clock, rng, tasks)
        report = await run_to_end(engine, ledger, case, clock, 0.02)
        print(report.status, report.detail)

asyncio.run(main())
"""

KILLS = 8


async def test_killed_with_9_at_random_no_command_runs_twice_and_the_end_is_the_same(tmp_path: Path) -> None:
    """Real everything: SQLite, the Ledger, processes. The last life is left alone."""
    chance = seeded_rng(7)
    for life in range(KILLS + 1):
        host = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOST, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        if life < KILLS:
            try:
                await asyncio.wait_for(host.wait(), chance.uniform(0.25, 0.7))
            except TimeoutError:
                host.kill()
        out, _ = await host.communicate()
    assert out.decode().split() == ["completed"]
    assert (tmp_path / "effects").read_text().split() == ["a", "b", "c", "d"]


async def test_the_shipped_drain_runs_as_it_is(house: Make, tmp_path: Path) -> None:
    """With the site's own command, and without."""
    (table,) = [loaded.lifecycle for loaded in shipped() if loaded.lifecycle.name == "hpc-default"]
    phase = table.phases["drain"]
    for metadata in ({}, {"drain_command": ["sh", "-c", f"echo drained > {tmp_path}/effect"]}):
        process = ProcessSteps(tmp_path / str(len(metadata)), SystemClock())
        async with house(handlers={"process": process}, clock=SystemClock()) as home:
            home.engine.check(phase)
            assert phase.pipeline_def is not None
            await home.begin(PipelineCase(phase.pipeline_def, metadata))
            report = await run_to_end(home.engine, home.journal, home.pipeline, SystemClock(), 0.02)
            assert report.status == "completed", report
            assert (await home.steps())["site_drain"] == ("succeeded" if metadata else "skipped")
    assert (tmp_path / "effect").read_text() == "drained\n"


async def test_a_clock_set_back_does_not_stretch_the_wait_for_a_retry(house: Make) -> None:
    clock = ManualClock()
    async with house({"a": ended("transient")}, clock=clock) as home:
        await home.begin(case(step("a", retry={"max_attempts": 3, "delay": "10s"})))
        await home.advance()
        assert await home.steps() == {"a": "retrying"}
        clock.set_wall(clock.now() - timedelta(hours=6))
        await home.advance()
        told = [(data.get("step_status"), data.get("attempt")) for data in await home.told()]
        assert ("running", 2) in told


async def test_what_was_about_to_begin_when_it_died_is_not_begun_in_a_freeze(
    house: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house() as home, Supervisor(SystemClock(), seeded_rng(1)) as tasks:
        await home.begin(case(step("a")))

        def killed(*args: Any, **more: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(home.engine, "_spawn", killed)
        with pytest.raises(KeyboardInterrupt):
            await home.advance()
        assert await home.steps() == {"a": "running"}
        frozen = True
        after = PipelineEngine(
            {"effect": home.effects},
            home.journal,
            home.clock,
            seeded_rng(1),
            tasks,
            is_frozen=lambda: frozen,
        )
        assert (await after.advance(await home.run())).status == "held"
        assert home.effects.effects == []
        frozen = False
        assert (await after.advance(await home.run())).status == "completed"
        assert home.effects.effects == ["op-1/a/1"]
