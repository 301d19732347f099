"""The driver suite itself: each check of a system's states can fail."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment
from steersman.testing import driver as suite


class Nodes:
    """A system and its driver in one: it tells of `count` nodes and makes the mistake it is told to make."""

    secrets = ()
    faults = ()
    states = suite.STATES

    def __init__(self, mistake: str) -> None:
        self.mistake = mistake
        self.state = ""

    def driver(self, context: DriverContext) -> NodesDriver:
        return NodesDriver(self, context)

    async def fail(self, fault: str) -> None:
        raise AssertionError(fault)

    async def mend(self) -> None:
        self.state = ""

    async def show(self, state: str) -> None:
        self.state = state

    async def surprise(self) -> bool:
        return False


class NodesDriver:
    def __init__(self, system: Nodes, context: DriverContext) -> None:
        self._system = system
        self._context = context
        self._at = context.clock.now()

    async def observe(self) -> Observation:
        state, mistake = self._system.state, self._system.mistake
        if state == "empty" and mistake == "empty is a fault":
            raise SourceError("nothing there")
        count = {"": 2, "empty": 2 if mistake == "empty is full" else 0, "huge": 2000}.get(state, 2)
        at = self._context.clock.now()
        if state == "skewed" and mistake == "future":
            at += timedelta(hours=1)
        if state == "huge" and mistake == "blocks":
            time.sleep(suite.BLOCK_MAX_S + 0.2)
        if state == "huge" and mistake == "cut":
            count = 500
        load = -1.0 if state == "restarted" and mistake == "negative" else 1.0
        seen = [
            StateFragment(
                "x",
                EntityType.NODE,
                f"n{number}",
                at,
                {"load_1m": load},
                {SCOPE_LABEL: self._context.scope},
                self._context.source,
            )
            for number in range(count)
        ]
        gone = [seen[0].key] if state == "restarted" and mistake == "told and gone" else []
        return Observation(seen, gone)

    async def close(self) -> None:
        pass


CHECKS = {
    "empty": suite.check_nothing_there_is_no_fault,
    "skewed": suite.check_a_clock_ahead_poisons_nothing,
    "restarted": suite.check_a_restart_is_survived,
    "huge": suite.check_a_huge_system_does_not_hold_the_loop,
}


@pytest.mark.parametrize(
    ("state", "mistake", "says"),
    [
        ("empty", "empty is a fault", "told as one that fails: nothing there"),
        ("empty", "empty is full", "told like a full one"),
        ("skewed", "future", "comes from the future"),
        ("restarted", "negative", "load_1m"),
        ("restarted", "told and gone", "told and called gone"),
        ("huge", "blocks", "the event loop was held"),
        ("huge", "cut", "only 500 entities"),
    ],
)
async def test_a_check_finds_the_mistake(state: str, mistake: str, says: str) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[Nodes]:
        yield Nodes(mistake)

    with pytest.raises(AssertionError, match=says):
        await CHECKS[state](factory)


@pytest.mark.parametrize("state", suite.STATES)
async def test_a_check_is_content_with_a_good_driver_and_with_a_system_that_has_no_such_state(
    state: str,
) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[Nodes]:
        yield Nodes("")

    await CHECKS[state](factory)

    @asynccontextmanager
    async def stateless() -> AsyncIterator[Nodes]:
        system = Nodes("future")
        system.states = ()
        yield system

    await CHECKS[state](stateless)


async def test_a_state_that_no_check_knows_is_a_mistake() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[Nodes]:
        system = Nodes("")
        system.states = ("tired",)
        yield system

    with pytest.raises(AssertionError, match="tired"):
        await suite.check_a_restart_is_survived(factory)
