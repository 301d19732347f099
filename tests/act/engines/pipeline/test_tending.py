"""What was begun at a site and is over on record, or awaited by another: real commands, two sites."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from steersman.act.engines.api import PhaseReport
from steersman.act.engines.pipeline import PipelineEngine, read_progress
from steersman.act.engines.pipeline.tending import Claim, claim_on
from steersman.drivers.process import ProcessSteps
from steersman.drivers.process.folder import RunFolder, Standing
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.command import Actor
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.refusal import OperationUnderWay
from steersman.kinds.state import ResourceState
from steersman.kinds.step import StepCall
from steersman.state.ledger import Ledger
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.testing.pipeline import PipelineCase, run_to_end, tables

ADMIN = Actor("user:root", ("operator", "admin"))
SECONDS_MAX = 20.0


class Wall(SystemClock):
    """The system's clock, with a wall that can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def now(self) -> Any:
        return super().now() + timedelta(seconds=self.ahead_s)


class Site:
    """A replica at a site: its engine, its folder. `async with`: its life."""

    def __init__(self, store: Store, folder: Path, pipeline: PipelineCase, clock: SystemClock) -> None:
        self.pipeline = pipeline
        self.ledger = Ledger(store, clock, tables())
        self.begins = True
        self.patience_s = 0.02
        self.folder = folder
        self.clock = clock
        self.steps = ProcessSteps(folder, clock)
        self._tasks = Supervisor(clock, seeded_rng(1))

    async def __aenter__(self) -> Site:
        await self._tasks.__aenter__()
        self.engine = PipelineEngine(
            {"process": self.steps},
            self.ledger,
            self.clock,
            seeded_rng(1),
            self._tasks,
            patience_s=self.patience_s,
        )
        if self.begins:
            await self.pipeline.begin(self.ledger)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._tasks.stop()

    async def advance(self) -> PhaseReport:
        return await self.engine.advance(self.pipeline.run(await self.ledger.get(self.pipeline.ref)))

    def phase_of(self, state: ResourceState, name: str) -> LifecyclePhase | None:
        return LifecyclePhase(name, pipeline_def=self.pipeline.definition)

    async def tend(self) -> int:
        return await self.engine.tend(self.phase_of)

    def run(self, key: str = "op-1/a/1") -> RunFolder:
        return RunFolder(self.folder, key)

    async def is_(self, standing: Standing) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while await asyncio.to_thread(self.run().standing) is not standing:
                await asyncio.sleep(0.01)

    async def step(self, name: str = "a") -> Any:
        state = await self.ledger.get(self.pipeline.ref)
        progress = read_progress(state.pipeline_progress, "drain")
        assert progress is not None
        return progress.steps[name]


@pytest.fixture
def clock() -> Wall:
    return Wall()


@pytest.fixture
async def store(clock: Wall) -> AsyncIterator[Store]:
    async with MemoryStore(clock=clock, rng=seeded_rng(2)) as opened:
        yield opened


Make = Callable[..., Site]


@pytest.fixture
def site(store: Store, tmp_path: Path, clock: Wall) -> Make:
    def make(name: str = "one", script: str = "true", **more: Any) -> Site:
        argv = ["sh", "-c", f"echo x >> {tmp_path}/effects; {script}"]
        step = {"name": "a", "uses": "process", "timeout": "60s", "inputs": {"argv": argv, "grace": "1s"}}
        return Site(store, tmp_path / name, PipelineCase({"steps": [{**step, **more}]}), clock)

    return make


async def begun(home: Site) -> None:
    """Begin it, and wait until the command does its work."""
    assert (await home.advance()).status == "running"
    async with asyncio.timeout(SECONDS_MAX):
        while not (home.folder.parent / "effects").exists():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_deleted_resources_command_is_ended_also_by_the_next_life(
    site: Make, tmp_path: Path, restart: bool
) -> None:
    async with site(script="sleep 50") as home:
        await begun(home)
        with pytest.raises(OperationUnderWay):
            await home.ledger.delete(home.pipeline.ref, ADMIN)
        assert await home.tend() == 0, "it is awaited"
        if not restart:
            await home.ledger.delete(home.pipeline.ref, ADMIN, force=True)
            assert await home.tend() == 1
            assert home.engine._tasks == {}
    if restart:
        await home.is_(Standing.ALIVE)
        await home.ledger.delete(home.pipeline.ref, ADMIN, force=True)
        after = site(script="sleep 50")
        after.begins = False
        async with after:
            assert await after.tend() == 1
    await home.is_(Standing.ENDED)
    end = await asyncio.to_thread(home.run().read, "exit")
    assert end is not None
    assert end["asked"] == "cancelled"
    assert await home.steps.kept() == [], "its folder may go"


async def test_a_step_that_went_to_another_site_is_not_run_there_and_its_end_is_handed_over(
    site: Make, tmp_path: Path
) -> None:
    async with site("one", script=f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done") as one:
        await begun(one)
        async with site("two") as two:
            two.pipeline = one.pipeline
            for _ in range(3):
                report = await two.advance()
                assert report.status == "running"
                assert await two.tend() == 0
            assert await one.tend() == 0
            (tmp_path / "go").touch()
            await one.is_(Standing.ENDED)
            async with asyncio.timeout(SECONDS_MAX):
                while not await one.tend():
                    await asyncio.sleep(0.01)
            assert one.engine._tasks == {}
            assert (await two.advance()).status == "completed"
    assert (tmp_path / "effects").read_text() == "x\n"
    assert await one.steps.kept() == []


async def test_an_end_is_handed_over_also_by_the_sites_next_life(site: Make, tmp_path: Path) -> None:
    one = site("one")
    one.patience_s = 0.0
    async with one:
        await begun_or_over(one)
    await one.is_(Standing.ENDED)
    async with site("two") as two, site("one") as again:
        two.pipeline = again.pipeline = one.pipeline
        assert (await two.advance()).status == "running"
        assert await again.tend() == 1
        assert (await two.advance()).status == "completed"
    assert (tmp_path / "effects").read_text() == "x\n"


async def begun_or_over(home: Site) -> None:
    """Begin it, and forget the end that the engine may have seen by then: only the folder has it."""
    assert (await home.advance()).status == "running"
    await home.is_(Standing.ENDED)


async def test_a_site_that_is_gone_leaves_an_uncertain_step_when_its_time_is_over(
    site: Make, tmp_path: Path, clock: Wall
) -> None:
    async with site("one", script="sleep 50") as one:
        await begun(one)
    async with site("two") as two:
        two.pipeline = one.pipeline
        assert (await two.advance()).status == "running"
        assert (await two.step()).site == await one.steps.site()
        clock.ahead_s = 91
        report = await run_to_end(two.engine, two.ledger, two.pipeline, clock, 0.01)
        assert report.status == "failed"
        assert "begun at site" in (await two.step()).detail
    assert (tmp_path / "effects").read_text() == "x\n", "nobody ran it a second time"
    async with site("one") as back:
        assert await back.tend() == 1, "and the site that comes back ends what nobody awaits"
    await one.is_(Standing.ENDED)
    assert await one.steps.kept() == []


async def test_an_end_on_record_settles_the_run(site: Make) -> None:
    async with site() as home:
        report = await run_to_end(home.engine, home.ledger, home.pipeline, SystemClock(), 0.01)
        assert report.status == "completed"
        assert await home.steps.kept() == []
        assert (home.run().path / "told").exists()


async def test_a_record_that_came_through_while_we_died_is_settled_by_the_next_life(site: Make) -> None:
    async with site() as home:
        await run_to_end(home.engine, home.ledger, home.pipeline, SystemClock(), 0.01)
        (home.run().path / "told").unlink()  # as if it had died just before
        assert len(await home.steps.kept()) == 1
    async with site() as after:
        after.pipeline = home.pipeline
        assert await after.tend() == 1
        assert await after.steps.kept() == []


async def test_what_is_not_on_record_yet_is_left_alone(site: Make) -> None:
    async with site() as home:
        state = await home.ledger.get(home.pipeline.ref)
        ask = StepCall(
            key="op-1/a/1",
            resource=home.pipeline.ref,
            operation="op-1",
            epoch=1,
            phase="drain",
            step="a",
            attempt=1,
            timeout_s=1,
        )
        assert claim_on(state, ask) is Claim.UNKNOWN
        assert claim_on(None, ask) is Claim.OVER
        await home.ledger.record_progress(home.pipeline.ref, ADMIN, "drain", {"version": 99})
        assert claim_on(await home.ledger.get(home.pipeline.ref), ask) is Claim.UNKNOWN
