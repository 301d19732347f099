"""A step that acts on an outside system goes to the source that is meant, and to none where none is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from steersman.act.engines.operations import (
    HEARD_WAIT_S,
    ActingSource,
    NameNotTold,
    SourceNotHeard,
    SourceNotMeant,
    source_steps,
)
from steersman.drivers.api import ActingDriver
from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import InvalidInput, Unavailable
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import KeptAttempt, Later, StepCall, StepHandler, StepOutcome, StepResult
from steersman.observe.isolate import Isolated
from steersman.testing.sources import ScriptedDriver

NODE = ResourceRef("Node", "n1")


class Drains:
    """Takes `node` alone, and keeps what it was asked."""

    def __init__(self) -> None:
        self.timeouts_s: list[float] = []
        self.found = False
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def site(self) -> str:
        return ""

    def check(self, inputs: dict[str, Any]) -> None:
        if set(inputs) != {"node"}:
            raise InvalidInput(f"expected node, got {', '.join(inputs)}")

    async def run(self, call: StepCall) -> StepResult:
        self.asked.append(("run", call.inputs))
        self.timeouts_s.append(call.timeout_s)
        return StepResult(outcome=StepOutcome.SUCCEEDED, detail="drained", outputs={"busy": False})

    async def observe(self, call: StepCall) -> StepResult | None:
        self.asked.append(("observe", call.inputs))
        return StepResult(outcome=StepOutcome.SUCCEEDED, detail="found") if self.found else None

    async def cancel(self, call: StepCall) -> None:
        self.asked.append(("cancel", call.inputs))

    async def settle(self, call: StepCall) -> None:
        self.asked.append(("settle", call.inputs))

    async def kept(self) -> Sequence[KeptAttempt]:
        return ()


def call(**inputs: Any) -> StepCall:
    return StepCall(
        key="op/drain/1",
        resource=NODE,
        operation="op",
        epoch=1,
        phase="drain",
        step="drain",
        attempt=1,
        timeout_s=10,
        inputs=inputs,
    )


class Fleet:
    """Two Slurm clusters and one more in the same scope as the second, where it is asked for."""

    def __init__(self, *scopes: str) -> None:
        self.handlers = [Drains() for _ in scopes]
        sources = [
            ActingSource(f"s{n}", "slurm", scope, {"drain": handler})
            for n, (scope, handler) in enumerate(zip(scopes, self.handlers, strict=True))
        ]
        self.scope: str | None = "a"
        self.down = False
        self.clock = ManualClock()
        self.names: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self.unheard: set[str] = set()
        self.steps = source_steps(sources, self._scope_of, self._called, self.clock)

    def _called(self, source: str, scope: str, name: str) -> tuple[str, ...] | None:
        return None if source in self.unheard else self.names.get((source, scope, name), ())

    async def after_patience(self, task: asyncio.Task[Any]) -> None:
        """Let time pass until the task has ended."""
        until_s = self.clock.monotonic() + 2 * HEARD_WAIT_S
        while not task.done():
            assert self.clock.monotonic() < until_s
            self.clock.advance(0.1)
            for _ in range(4):
                await asyncio.sleep(0)

    async def _scope_of(self, ref: ResourceRef) -> str | None:
        if self.down:
            raise Unavailable("the store is away")
        return self.scope

    @property
    def drain(self) -> StepHandler:
        return self.steps["slurm.drain"]


async def test_the_only_source_is_meant() -> None:
    fleet = Fleet("x")
    assert (await fleet.drain.run(call(node="n1"))).outcome is StepOutcome.SUCCEEDED
    assert await fleet.drain.observe(call(node="n1")) is None
    await fleet.drain.cancel(call(node="n1"))
    await fleet.drain.settle(call(node="n1"))
    assert [what for what, _ in fleet.handlers[0].asked] == ["run", "observe", "cancel", "settle"]
    assert await fleet.drain.site() == ""
    assert not await fleet.drain.kept()


async def test_of_several_the_one_of_the_resources_scope_is_meant_or_the_one_that_is_named() -> None:
    fleet = Fleet("a", "b")
    await fleet.drain.run(call(node="n1"))
    await fleet.drain.run(call(node="n1", source="s1"))
    assert [handler.asked for handler in fleet.handlers] == [[("run", {"node": "n1"})]] * 2


@pytest.mark.parametrize(
    ("scopes", "scope", "inputs", "says"),
    [
        (("a", "b"), "c", {}, "no source has the scope 'c' of Node/n1; name one by `source`: s0, s1"),
        (("a", "b"), None, {}, "no source has the scope None"),
        (("a", "a"), "a", {}, "several sources have the scope 'a'"),
        (("a",), "a", {"source": "s9"}, "no source is named 's9'"),
        (("a",), "a", {"source": 7}, "no source is named '7'"),
    ],
)
async def test_what_can_not_be_told_is_refused_and_nothing_begins(
    scopes: tuple[str, ...], scope: str | None, inputs: dict[str, Any], says: str
) -> None:
    fleet = Fleet(*scopes)
    fleet.scope = scope
    result = await fleet.drain.run(call(node="n1", **inputs))
    assert result.outcome is StepOutcome.PERMANENT
    assert says in result.detail
    seen = await fleet.drain.observe(call(node="n1", **inputs))
    assert seen is not None
    assert seen.outcome is StepOutcome.UNCERTAIN, "it may have been begun while the source was there"
    with pytest.raises(SourceNotMeant):
        await fleet.drain.cancel(call(node="n1", **inputs))
    assert not any(handler.asked for handler in fleet.handlers)


async def test_a_store_that_is_away_began_nothing() -> None:
    fleet = Fleet("a", "b")
    fleet.down = True
    assert (await fleet.drain.run(call(node="n1"))).outcome is StepOutcome.TRANSIENT
    with pytest.raises(Unavailable):
        await fleet.drain.observe(call(node="n1"))


async def test_a_node_is_named_as_the_source_that_acts_names_it_and_the_record_says_so() -> None:
    fleet = Fleet("a", "b")
    fleet.names = {("s0", "a", "gpu01.dc1.example"): ("gpu01",), ("s1", "b", "gpu01.dc1.example"): ("x",)}
    done = await fleet.drain.run(call(node="gpu01.dc1.example"))
    assert done.detail == "to s0 gpu01.dc1.example is gpu01; drained"
    assert done.outputs == {"busy": False, "called": {"gpu01.dc1.example": "gpu01"}}
    assert await fleet.drain.observe(call(node="gpu01.dc1.example")) is None
    fleet.handlers[0].found = True
    seen = await fleet.drain.observe(call(node="gpu01.dc1.example"))
    assert seen is not None
    assert seen.detail == "to s0 gpu01.dc1.example is gpu01; found"
    await fleet.drain.cancel(call(node="gpu01.dc1.example"))
    await fleet.drain.settle(call(node="gpu01.dc1.example"))
    assert fleet.handlers[0].asked == [
        (what, {"node": "gpu01"}) for what in ("run", "observe", "observe", "cancel", "settle")
    ]
    await fleet.drain.run(call(node="gpu01.dc1.example", source="s1"))
    assert fleet.handlers[1].asked == [("run", {"node": "x"})]


@pytest.mark.parametrize("names", [("n1",), ("n0", "n1"), ()])
async def test_a_name_that_the_source_uses_itself_or_that_it_does_not_know_is_kept(
    names: tuple[str, ...],
) -> None:
    fleet = Fleet("a")
    fleet.names = {("s0", "a", "n1"): names}
    done = await fleet.drain.run(call(node="n1"))
    assert (done.detail, done.outputs) == ("drained", {"busy": False})
    assert fleet.handlers[0].asked == [("run", {"node": "n1"})]


async def test_a_list_of_nodes_is_translated_one_by_one_and_none_is_named_twice() -> None:
    fleet = Fleet("a")
    fleet.names = {("s0", "a", "n1.example"): ("n1",), ("s0", "a", "n2"): ("n2",)}
    asked = ["n1.example", "n2", "n1", 7, "n1.example"]
    done = await fleet.drain.run(call(nodes=asked))
    assert done.outputs["called"] == {"n1.example": "n1"}
    await fleet.drain.run(call(nodes="n1.example"))
    await fleet.drain.run(call(nodes="n[1-2].example"))
    assert [inputs["nodes"] for _, inputs in fleet.handlers[0].asked] == [
        ["n1", "n2", 7],
        "n1",
        "n[1-2].example",
    ]
    assert asked == ["n1.example", "n2", "n1", 7, "n1.example"], "the call's own inputs stay as they are"


async def test_a_node_with_several_names_of_one_source_is_left_alone_and_the_names_are_told() -> None:
    fleet = Fleet("a")
    fleet.names = {("s0", "a", "n1.example"): ("gpu01", "n1")}
    done = await fleet.drain.run(call(node="n1.example"))
    assert done.outcome is StepOutcome.PERMANENT
    assert "s0 reports n1.example under several names, gpu01, n1; name the one that is meant" in done.detail
    seen = await fleet.drain.observe(call(node="n1.example"))
    assert seen is not None
    assert seen.outcome is StepOutcome.UNCERTAIN, "it may have been begun while the node had one name"
    with pytest.raises(NameNotTold):
        await fleet.drain.cancel(call(node="n1.example"))
    assert not fleet.handlers[0].asked


async def test_a_source_that_was_not_heard_yet_is_waited_for_and_then_nothing_begins() -> None:
    fleet = Fleet("a")
    fleet.unheard = {"s0"}
    running = asyncio.ensure_future(fleet.drain.run(call(node="n1.example")))
    await fleet.after_patience(running)
    assert fleet.clock.monotonic() == pytest.approx(5.0, abs=0.3), "half of the step's own time"
    assert running.result().outcome is StepOutcome.TRANSIENT
    assert "s0 was not heard yet" in running.result().detail
    seeing = asyncio.ensure_future(fleet.drain.observe(call(node="n1.example")))
    await fleet.after_patience(seeing)
    seen = seeing.result()
    assert seen is not None
    assert seen.outcome is StepOutcome.UNCERTAIN
    ending = asyncio.ensure_future(fleet.drain.cancel(call(node="n1.example")))
    await fleet.after_patience(ending)
    assert isinstance(ending.exception(), SourceNotHeard)
    assert not fleet.handlers[0].asked


async def test_a_source_that_is_heard_in_time_is_asked_within_the_time_that_is_left() -> None:
    fleet = Fleet("a")
    fleet.unheard = {"s0"}
    fleet.names = {("s0", "a", "n1.example"): ("n1",)}
    running = asyncio.ensure_future(fleet.drain.run(call(node="n1.example")))
    for _ in range(20):
        await asyncio.sleep(0)
        fleet.clock.advance(0.1)
    assert not running.done()
    fleet.unheard.clear()
    await fleet.after_patience(running)
    assert running.result().outputs["called"] == {"n1.example": "n1"}
    assert fleet.handlers[0].timeouts_s == [pytest.approx(8.0, abs=0.3)]


async def test_a_step_without_a_node_waits_for_no_source() -> None:
    fleet = Fleet("a")
    fleet.unheard = {"s0"}
    assert (await fleet.drain.run(call(job=7))).outcome is StepOutcome.SUCCEEDED


async def test_a_resource_whose_name_bears_its_scope_means_its_entity() -> None:
    fleet = Fleet("a")
    fleet.names = {("s0", "a", "n1"): ("ip-10-0-0-1",)}
    named = replace(call(node="n1@a"), resource=ResourceRef("Node", "n1@a"))
    done = await fleet.drain.run(named)
    assert done.outputs["called"] == {"n1@a": "ip-10-0-0-1"}
    fleet.down = True
    assert (await fleet.drain.run(named)).outcome is StepOutcome.TRANSIENT
    assert (await fleet.drain.run(call(node="n2@a"))).outcome is StepOutcome.SUCCEEDED, "another node's name"


def test_inputs_are_checked_when_the_pipeline_is_loaded() -> None:
    drain = Fleet("a", "b").drain
    drain.check({"node": "n1"})
    drain.check({"node": "n1", "source": "s1"})
    drain.check({"node": "n1", "source": Later("${resource.metadata.source}")})
    with pytest.raises(InvalidInput, match="expected node, got nod"):
        drain.check({"nod": "n1"})
    with pytest.raises(SourceNotMeant, match=r"did you mean|name one by"):
        drain.check({"node": "n1", "source": "s2"})


class Foreign(ScriptedDriver):
    """Another package's driver that can act."""

    def __init__(self) -> None:
        super().__init__()
        self.drains = Drains()
        self.threads: set[int] = set()

    def operations(self) -> Mapping[str, StepHandler]:
        return {"drain": self.drains}


async def test_a_foreign_drivers_operation_runs_over_there_beside_its_observation() -> None:
    driver = Foreign()
    isolated = Isolated(driver, "far")
    assert isinstance(isolated, ActingDriver)
    driver.script = driver.hang
    observing = asyncio.ensure_future(isolated.observe())
    (handler,) = isolated.operations().values()
    try:
        assert (await handler.run(call(node="n1"))).outcome is StepOutcome.SUCCEEDED
        assert await handler.observe(call(node="n1")) is None
        await handler.cancel(call(node="n1"))
        await handler.settle(call(node="n1"))
        assert (await handler.site(), await handler.kept()) == ("", ())
        handler.check({"node": "n1"})
    finally:
        observing.cancel()
        await asyncio.wait({observing})
        await isolated.close()
    assert [what for what, _ in driver.drains.asked] == ["run", "observe", "cancel", "settle"]


def test_a_foreign_driver_that_only_observes_has_none() -> None:
    assert Isolated(ScriptedDriver(), "far").operations() == {}
