"""A thousand nodes that fail together are not taken out together, over restarts and with two planes at
once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from advice_house import House, policy

from steersman.act.advice.book import Book
from steersman.act.advice.standing import account
from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.command import HistoryEntry
from steersman.kinds.policy import Guardrail, PolicyLimits, Verdict, places_of
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore

NODES = 1000
RACKS = 10
WINDOW_S = 3600.0


def most_in_a_window(entries: list[HistoryEntry], racks: dict[str, str]) -> int:
    """The most nodes of one rack on which was acted within any window."""
    worst = 0
    for rack in set(racks.values()):
        times = sorted(entry.at for entry in entries if racks[entry.id] == rack)
        for index, first in enumerate(times):
            inside = [t for t in times[index:] if t - first < timedelta(seconds=WINDOW_S)]
            worst = max(worst, len(inside))
    return worst


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_thousand_at_once_over_restarts(kind: str, clock: ManualClock, tmp_path: Path) -> None:
    limits = "{window: 1h, max_count: 3, max_share: 0.02, failure_domain: rack}"
    text = {"p.yaml": policy("controlled_auto_act", limits=limits, expires_after="4h", **{"for": "0s"})}
    store: Store = (
        MemoryStore(clock=clock, rng=seeded_rng(1))
        if kind == "memory"
        else SqliteStore(tmp_path / "p.db", clock=clock, rng=seeded_rng(1))
    )
    async with store:
        names = [f"n{number}" for number in range(NODES)]
        racks = {name: f"r{number % RACKS}" for number, name in enumerate(names)}
        made = await House(store, clock, text).open()
        for name in names:
            await made.add_nodes(name, labels={"rack": racks[name]})
        made.disks = dict.fromkeys(names, 0.95)
        await made.pass_time(0)
        assert len(await made.recommendations()) == NODES
        acted = await made.intents(*names)
        assert Counter(racks[entry.id] for entry in acted) == dict.fromkeys(set(racks.values()), 2)
        for _ in range(2):
            made = await House(store, clock, text, bus=made.bus).open()
            made.disks = dict.fromkeys(names, 0.95)
            made.labels = {name: {"rack": rack} for name, rack in racks.items()}
            await made.pass_time(1300, 1300)
        acted = await made.intents(*names)
        assert len(acted) == 2 * RACKS, "within the hour nothing more, whoever was restarted"
        await made.pass_time(1100, 1100)
        acted = await made.intents(*names)
        assert len(acted) == 4 * RACKS
        assert most_in_a_window(acted, racks) == 2, "2% of the hundred nodes of a rack"


async def test_two_planes_at_once_share_the_bound(store: Store, clock: ManualClock) -> None:
    """Each has its own index, and neither knows what the other is about to do."""
    text = {"p.yaml": policy("controlled_auto_act", limits="{window: 1h, max_count: 2}")}
    names = [f"n{number}" for number in range(8)]
    one = await House(store, clock, text).open()
    await one.add_nodes(*names)
    one.disks = dict.fromkeys(names, 0.95)
    two = await House(store, clock, text, bus=one.bus).open()
    for _ in range(6):
        one.speak()
        for plane in (one, two):
            await plane.look()
        clock.advance(10)
    assert len(await one.intents(*names)) == 2
    assert len(await one.recommendations()) == 8, "and each meaning is told once"


async def test_the_capacity_floor_keeps_nodes_in_service(store: Store, clock: ManualClock) -> None:
    limits = "{window: 1m, max_count: 100, capacity_floor: 0.5}"
    made = await House(store, clock, {"p.yaml": policy("controlled_auto_act", limits=limits)}).open()
    names = [f"n{number}" for number in range(10)]
    await made.add_nodes(*names)
    made.disks = dict.fromkeys(names, 0.95)
    await made.pass_time(60)
    await made.walk(*names)
    await made.pass_time(300)
    serving = [name for name in names if (await made.node(name)).desired_status is None]
    assert len(serving) == 5
    stopped = (await made.recommendations("approved"))[0]
    assert Guardrail.CAPACITY_FLOOR in {
        v.guardrail for v in stopped.guardrails if v.verdict is not Verdict.PASSED
    }


def test_places_are_the_smaller_bound_rounded_down() -> None:
    from steersman.kinds.entity import EntityType
    from steersman.kinds.policy import Policy, PolicyAction, PolicyMatch

    def of(**limits: float) -> Policy:
        return Policy(
            name="p",
            match=PolicyMatch(entity_type=EntityType.NODE),
            when="true",
            action=PolicyAction(name="recommend_no_action"),
            limits=PolicyLimits(window_s=60.0, **limits),  # type: ignore[arg-type]
        )

    assert places_of(of(max_count=3, max_share=0.05), 100) == 3
    assert places_of(of(max_count=9, max_share=0.05), 100) == 5
    assert places_of(of(max_share=0.05), 19) == 0
    assert places_of(of(max_share=0.29), 100) == 29
    assert places_of(of(max_count=0), 100) == 0
    assert places_of(of(), 100) is None


def test_long_names_of_accounts_stay_apart_and_short() -> None:
    names = {account("blast", "p" * 128, f"{'r' * 300}{number}") for number in range(3)}
    assert len(names) == 3
    assert all(len(name) <= 256 for name in names)
    assert account("blast", "p", "") == "blast/p"


def test_a_book_of_nothing_knows_nothing(clock: ManualClock) -> None:
    book = Book(MemoryStore(clock=clock, rng=seeded_rng(1)), clock)
    assert book.failures_in_a_row("p") == 0
    assert book.open_of("p:node/n:x") is None
    assert book.frozen() is None
