"""The judge of recordings: it accepts what good stores do, and names what broken ones did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.store.api import Check, Delete, Event, Put, Record
from steersman.store.memory import MemoryStore
from steersman.store.sqlite import SqliteStore
from steersman.testing.store_expect import MakeStore
from steersman.testing.store_history import Commit, History, Watched, validate
from steersman.testing.store_traffic import SEEDS, check_random_traffic, record_traffic


def memory(_: Path) -> MakeStore:
    return lambda clock: MemoryStore(clock=clock, rng=seeded_rng(0))


def sqlite(folder: Path) -> MakeStore:
    return lambda clock: SqliteStore(folder / "store.db", clock=clock, rng=seeded_rng(0))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("store", [memory, sqlite], ids=lambda store: store.__name__)
async def test_traffic(store: Callable[[Path], MakeStore], seed: int, tmp_path: Path) -> None:
    await check_random_traffic(store(tmp_path), seed)


def put(client: str, at: int, key: str, revision: int | None, *conditions: Check) -> Commit:
    return Commit(client, at, at + 1, conditions, (Put(key, client.encode()),), revision)


def saw(key: str, client: str, revision: int, version: int = 1) -> Event:
    return Event(key, revision, Record(key, client.encode(), version, revision))


def good() -> History:
    """Three clients, a deletion, two watches of everything and one of a part."""
    log = (
        saw("a", "x", 1),
        saw("b", "y", 2),
        saw("a", "z", 3, version=2),
        Event("b", 4, None),
        saw("b", "y", 5),
    )
    return History(
        commits=[
            put("x", 1, "a", 1),
            put("y", 3, "b", 2),
            put("z", 5, "a", 3, Check("a", 1)),
            Commit("x", 7, 8, (), (Delete("b"),), 4),
            put("y", 9, "b", 5, Check("b", 0)),
        ],
        watches=[
            Watched("whole", "", 0, 5, log),
            Watched("later", "", 2, 5, log[2:]),
            Watched("part", "b", 0, 5, (log[1], log[3], log[4])),
        ],
        final=[Record("a", b"z", 2, 3), Record("b", b"y", 1, 5)],
        final_revision=5,
    )


def without(history: History, watch: int, event: int) -> None:
    change_events(history, watch, lambda events: [e for n, e in enumerate(events) if n != event])


def change_events(history: History, watch: int, change: Callable[[list[Event]], list[Event]]) -> None:
    watched = history.watches[watch]
    history.watches[watch] = structs.replace(watched, events=tuple(change(list(watched.events))))


def test_a_good_recording_is_accepted() -> None:
    assert validate(good()) == []


def break_gap_in_one(history: History) -> None:
    without(history, 1, 1)


def break_gap_in_all(history: History) -> None:
    """Every watch misses the same commit, which was acknowledged."""
    without(history, 0, 2)
    without(history, 1, 0)


def break_gap_at_the_end(history: History) -> None:
    without(history, 2, 2)


def break_twice(history: History) -> None:
    change_events(history, 0, lambda events: [*events[:2], *events[1:]])


def break_order(history: History) -> None:
    change_events(history, 0, lambda events: [events[1], events[0], *events[2:]])


def break_key_order_in_a_commit(history: History) -> None:
    history.commits[0] = structs.replace(history.commits[0], writes=(Put("a", b"x"), Put("c", b"x")))
    change_events(history, 0, lambda events: [saw("c", "x", 1), *events])


def break_foreign_prefix(history: History) -> None:
    change_events(history, 2, lambda events: [saw("a", "x", 1), *events])


def break_before_the_start(history: History) -> None:
    change_events(history, 1, lambda events: [saw("b", "y", 2), *events])


def break_two_watches_differ(history: History) -> None:
    change_events(history, 1, lambda events: [saw("a", "other", 3, version=2), *events[1:]])


def break_wrong_record(history: History) -> None:
    change_events(history, 2, lambda events: [Event("b", 2, Record("b", b"y", 1, 1)), *events[1:]])


def break_revision_given_twice(history: History) -> None:
    history.commits.append(put("w", 11, "a", 5))


def break_revision_goes_back(history: History) -> None:
    """y's commit began after z's had been answered with 3, and got 2."""
    history.commits[1] = put("y", 20, "b", 2)


def break_lost_commit(history: History) -> None:
    """Acknowledged, and nowhere to be seen: the value in the log is another's."""
    history.commits[2] = put("lost", 5, "a", 3, Check("a", 1))


def break_half_a_commit(history: History) -> None:
    history.commits[0] = structs.replace(history.commits[0], writes=(Put("a", b"x"), Put("c", b"x")))


def break_more_than_the_commit(history: History) -> None:
    history.commits[4] = structs.replace(history.commits[4], writes=(Put("z", b"y"),))


def break_nobodys_write(history: History) -> None:
    del history.commits[3]


def break_unanswered_commit_made_twice(history: History) -> None:
    """One commit without an answer can explain one revision, not two."""
    history.commits[0] = structs.replace(history.commits[0], revision=None)
    history.commits[2] = structs.replace(history.commits[0], writes=(Put("q", b""),))


def break_version(history: History) -> None:
    for watch in (0, 1):
        change_events(
            history,
            watch,
            lambda events: [saw("a", "z", 3, version=7) if e.revision == 3 else e for e in events],
        )
    history.final = [Record("a", b"z", 7, 3), history.final[1]]


def break_deletion_of_nothing(history: History) -> None:
    history.commits[3] = Commit("x", 7, 8, (), (Delete("zz"),), 4)
    for watch in (0, 1):
        change_events(
            history, watch, lambda events: [Event("zz", 4, None) if e.revision == 4 else e for e in events]
        )


def break_condition(history: History) -> None:
    history.commits[2] = put("z", 5, "a", 3, Check("a", 0))


def break_final_list(history: History) -> None:
    history.final = [Record("a", b"x", 1, 1), history.final[1]]


def break_final_list_lost_a_key(history: History) -> None:
    history.final = [history.final[0]]


BREAKS = {
    break_gap_in_one: "no gap",
    break_gap_in_all: "no gap",
    break_gap_at_the_end: "no gap",
    break_twice: "once",
    break_order: "order",
    break_key_order_in_a_commit: "order",
    break_foreign_prefix: "no gap",
    break_before_the_start: "no gap",
    break_two_watches_differ: "agreement",
    break_wrong_record: "agreement",
    break_revision_given_twice: "unique",
    break_revision_goes_back: "order",
    break_lost_commit: "visible",
    break_half_a_commit: "visible",
    break_more_than_the_commit: "visible",
    break_nobodys_write: "visible",
    break_unanswered_commit_made_twice: "visible",
    break_version: "versions",
    break_deletion_of_nothing: "versions",
    break_condition: "versions",
    break_final_list: "end",
    break_final_list_lost_a_key: "end",
}


@pytest.mark.parametrize("harm", BREAKS, ids=lambda harm: harm.__name__)
def test_a_broken_recording_is_found_out(harm: Callable[[History], None]) -> None:
    """Each rule can fail: a judge that accepts everything would pass every store."""
    history = good()
    harm(history)
    assert BREAKS[harm] in {violation.rule for violation in validate(history)}


async def test_every_event_of_a_real_recording_matters() -> None:
    """Take any single event out of any watch of a real recording, and the judge notices."""
    async with MemoryStore(clock=ManualClock(), rng=seeded_rng(0)) as store:
        history = await record_traffic(store, seeded_rng(42))
    assert validate(history) == []
    for number, watched in enumerate(history.watches):
        for place in range(0, len(watched.events) - 1, 17):
            if watched.events[place].revision > watched.through:
                continue
            without(history, number, place)
            assert validate(history), f"{watched.watcher} without event {place}"
            history.watches[number] = watched
