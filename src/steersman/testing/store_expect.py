"""The words in which the store suite states what it expects. No test runner is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from typing import Any

from steersman.kernel.clock import ManualClock, SystemClock
from steersman.kernel.errors import SteersmanError
from steersman.store.api import Event, Put, Store

MakeStore = Callable[[ManualClock], Store]
"""Gives an unopened store that runs on the clock. Every call within one check names the same place, which is
empty at the check's start; a store without a disk is empty each time."""

PATIENCE_S = 30.0
"""Real seconds after which something that should have come counts as never coming."""

UNTIL_STEP_S = 0.002
"""How often `until` looks: not at every turn of the loop, which would starve the store's threads."""


def equal(actual: object, expected: object, what: str) -> None:
    """Fail with both sides where they differ."""
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def true(condition: bool, what: str) -> None:
    """Fail where the condition does not hold."""
    if not condition:
        raise AssertionError(what)


@contextmanager
def refused(kind: type[SteersmanError], **facts: Any) -> Generator[None, None, None]:
    """Fail unless the body raises exactly this error with these facts."""
    try:
        yield
    except SteersmanError as error:
        equal(type(error), kind, "the kind of refusal")
        for name, value in facts.items():
            equal(error.facts.get(name), value, f"the refusal's fact {name}")
        true(bool(error.detail), "a refusal says something")
        return
    raise AssertionError(f"expected {kind.__name__}, and nothing was refused")


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    """The next events of a watch; fails where they do not come."""
    taken: list[Event] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while len(taken) < count:
                taken.append(await anext(events))
    except TimeoutError:
        raise AssertionError(f"the watch gave {len(taken)} of {count} events: {taken[-3:]}") from None
    except StopAsyncIteration:
        raise AssertionError(f"the watch ended after {len(taken)} of {count} events") from None
    return taken


async def ended(events: AsyncIterator[Event]) -> None:
    """Fail unless the watch is over."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            event = await anext(events)
    except StopAsyncIteration:
        return
    except TimeoutError:
        raise AssertionError("the watch should have ended, and waits") from None
    raise AssertionError(f"the watch should have ended, and gave {event}")


async def put(store: Store, key: str, value: bytes = b"", lease: str | None = None) -> int:
    """Set one key, whatever it was; the revision."""
    return await store.commit([], [Put(key=key, value=value, lease=lease)])


async def keys(store: Store, prefix: str = "", revision: int | None = None) -> list[str]:
    """All keys under a prefix."""
    return [record.key for record in (await store.list(prefix, revision=revision)).records]


async def until(condition: Callable[[], bool], what: str) -> None:
    """Let the event loop and the store's threads run until the condition holds."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await SystemClock().sleep(UNTIL_STEP_S)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None
