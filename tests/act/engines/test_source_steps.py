"""A step that acts on an outside system goes to the source that is meant, and to none where none is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from steersman.act.engines.operations import ActingSource, SourceNotMeant, source_steps
from steersman.drivers.api import ActingDriver
from steersman.kernel.errors import InvalidInput, Unavailable
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import KeptAttempt, Later, StepCall, StepHandler, StepOutcome, StepResult
from steersman.observe.isolate import Isolated
from steersman.testing.sources import ScriptedDriver

NODE = ResourceRef("Node", "n1")


class Drains:
    """Takes `node` alone, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def site(self) -> str:
        return ""

    def check(self, inputs: dict[str, Any]) -> None:
        if set(inputs) != {"node"}:
            raise InvalidInput(f"expected node, got {', '.join(inputs)}")

    async def run(self, call: StepCall) -> StepResult:
        self.asked.append(("run", call.inputs))
        return StepResult(outcome=StepOutcome.SUCCEEDED)

    async def observe(self, call: StepCall) -> StepResult | None:
        self.asked.append(("observe", call.inputs))
        return None

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
        self.steps = source_steps(sources, self._scope_of)

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
