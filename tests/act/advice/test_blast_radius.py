"""A thousand nodes that fail together are not taken out together, over restarts and with two planes at
once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

from advice_house import House, policy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steersman.act.advice.book import Book
from steersman.act.advice.standing import account
from steersman.act.reconcile.outcomes import is_old_picture
from steersman.kernel.clock import ManualClock, using_clock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.command import HistoryEntry
from steersman.kinds.entity import EntityType
from steersman.kinds.policy import (
    Guardrail,
    Policy,
    PolicyAction,
    PolicyLimits,
    PolicyMatch,
    Verdict,
    places_of,
)
from steersman.kinds.state import ResourceRef
from steersman.store.api import Store
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore

NODES = 1000
RACKS = 10
WINDOW_S = 3600.0


def most_in_a_window(entries: list[HistoryEntry], racks: dict[str, str], window_s: float) -> dict[str, int]:
    """For each rack, the most of its nodes on which was acted within any window."""
    worst: dict[str, int] = {}
    for rack in set(racks.values()):
        acted = sorted((entry.at, entry.id) for entry in entries if racks[entry.id] == rack)
        ends = [first + timedelta(seconds=window_s) for first, _ in acted]
        worst[rack] = max(
            (len({name for at, name in acted[index:] if at < end}) for index, end in enumerate(ends)),
            default=0,
        )
    return worst


async def settle_at_once(*planes: House) -> None:
    """Every plane looks at every open recommendation at the same moment, each with the index that it has; and
    again at those of which its picture was old."""
    names = [state.id for state in await planes[0].recommendations("proposed", "approved", "applying")]
    looks = [(plane, name) for name in names for plane in planes]
    while looks:
        answers = await asyncio.gather(
            *(plane.reconcile(name) for plane, name in looks), return_exceptions=True
        )
        again: list[tuple[House, str]] = []
        for look, answer in zip(looks, answers, strict=True):
            if isinstance(answer, BaseException):
                if not is_old_picture(answer):
                    raise answer
                again.append(look)
        looks = again


@settings(max_examples=4)
@example(racks=1, max_count=3, share=0.0, window_s=600, planes=2, gaps=[0.5, 0.6])
@given(
    racks=st.integers(1, 25),
    max_count=st.integers(0, 6),
    share=st.sampled_from([0.0, 0.01, 0.02, 0.05]),
    window_s=st.sampled_from([60, 600, 3600]),
    planes=st.integers(1, 2),
    gaps=st.lists(st.floats(0, 1.3), max_size=2),
)
async def test_a_thousand_faults_at_once_never_pass_the_bound(
    racks: int, max_count: int, share: float, window_s: int, planes: int, gaps: list[float]
) -> None:
    """Whatever the bound, however many planes with their own stale index, and whenever they are restarted."""
    limits = f"{{window: {window_s}s, max_count: {max_count}, failure_domain: rack"
    limits += f", max_share: {share}}}" if share else "}"
    text = {"p.yaml": policy("controlled_auto_act", limits=limits, expires_after="24h", **{"for": "0s"})}
    names = [f"n{number}" for number in range(NODES)]
    rack_of = {name: f"r{number % racks}" for number, name in enumerate(names)}
    sizes = Counter(rack_of.values())
    clock = ManualClock()
    with using_clock(clock):
        async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
            first = await House(store, clock, text).open()
            for name in names:
                await first.add_nodes(name, labels={"rack": rack_of[name]})
            first.disks = dict.fromkeys(names, 0.95)

            async def live() -> None:
                """Planes start, see it all, and act at the same moment."""
                lives = [await House(store, clock, text, bus=first.bus).open() for _ in range(planes)]
                first.speak()
                first.bus.flush()
                for life in lives:
                    await life.advice.tick()
                await settle_at_once(*lives)

            await live()
            places = {
                rack: min(max_count, int(share * size + 1e-9)) if share else max_count
                for rack, size in sizes.items()
            }
            acted = Counter(rack_of[entry.id] for entry in await first.intents(*names))
            assert acted == Counter({rack: min(places[rack], size) for rack, size in sizes.items()})
            for gap in gaps:
                clock.advance(gap * window_s)
                await live()
            worst = most_in_a_window(await first.intents(*names), rack_of, window_s)
            assert all(worst[rack] <= places[rack] for rack in sizes), (worst, places)


async def test_a_thousand_at_once_over_restarts(clock: ManualClock, tmp_path: Path) -> None:
    """The same on the store of an installation, with time that passes by turns."""
    limits = "{window: 1h, max_count: 3, max_share: 0.02, failure_domain: rack}"
    text = {"p.yaml": policy("controlled_auto_act", limits=limits, expires_after="4h", **{"for": "0s"})}
    async with SqliteStore(tmp_path / "p.db", clock=clock, rng=seeded_rng(1)) as store:
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
        worst = most_in_a_window(acted, racks, WINDOW_S)
        assert set(worst.values()) == {2}, "2% of the hundred nodes of a rack"


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


async def test_a_plane_that_has_heard_of_nothing_keeps_the_cooldown(store: Store, clock: ManualClock) -> None:
    text = {"p.yaml": policy("controlled_auto_act", limits="{cooldown: 1h, window: 1m, max_count: 5}")}
    one = await House(store, clock, text).open()
    await one.add_nodes("n1")
    deaf = await House(store, clock, text, bus=one.bus).open()
    one.disks["n1"] = 0.95
    await one.pass_time(60)
    await one.walk("n1")
    await one.settle()
    await one.set_desired("n1", "in_service")
    await one.walk("n1")
    deaf.advice.book.note(await one.ledger.get(ResourceRef("Node", "n1")))
    deaf.disks["n1"] = 0.95
    await deaf.pass_time(60)
    assert len(await one.intents("n1")) == 1
    (stopped,) = await one.recommendations("approved")
    assert stopped.approved_by == ["policy:full-disks"], "its index had nothing against it"
    stops = [v.guardrail for v in stopped.guardrails if v.verdict is not Verdict.PASSED]
    assert stops == [Guardrail.COOLDOWN]


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
    def of(max_count: int | None = None, max_share: float | None = None) -> Policy:
        return Policy(
            name="p",
            match=PolicyMatch(entity_type=EntityType.NODE),
            when="true",
            action=PolicyAction(name="recommend_no_action"),
            limits=PolicyLimits(window_s=60.0, max_count=max_count, max_share=max_share),
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
