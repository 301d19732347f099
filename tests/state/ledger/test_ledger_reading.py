"""Pages of resources and of history; and a damaged record does not hide the others."""

from __future__ import annotations

import pytest
from ledger_house import ALICE, NODE, node, ref

from steersman.kernel.errors import InvalidInput
from steersman.kinds.plane_resources import FreezeState
from steersman.kinds.refusal import ResourceNotFound, UnknownResourceKind
from steersman.kinds.state import RefInvalid, ResourceRef
from steersman.state.ledger import Ledger, ResourcePage, Selection, keys
from steersman.state.ledger.reading import PAGE_MAX, Reading
from steersman.state.ledger.rows import RecordDamaged
from steersman.store.api import Compacted, Put, Store


async def ids(page: ResourcePage) -> list[str]:
    return [state.id for state in page.items]


async def fleet(ledger: Ledger, count: int) -> list[str]:
    for number in range(count):
        await ledger.create(node(f"n{number:03d}", labels={"rack": f"r{number % 2}"}), ALICE)
    return [f"n{number:03d}" for number in range(count)]


async def test_pages_are_of_one_revision(ledger: Ledger) -> None:
    names = await fleet(ledger, 25)
    page = await ledger.list("Node", limit=10)
    read = await ids(page)
    await ledger.create(node("n005x"), ALICE)
    await ledger.create(node("zzz"), ALICE)
    await ledger.delete(ref("n020"), ALICE)
    while page.after is not None:
        before = page.revision
        page = await ledger.list("Node", limit=10, after=page.after)
        assert page.revision == before
        read += await ids(page)
    assert read == names


async def test_the_last_page_ends(ledger: Ledger) -> None:
    await fleet(ledger, 10)
    assert (await ledger.list("Node", limit=10)).after is None
    assert (await ledger.list("Node", limit=9)).after is not None
    assert (await ledger.list("Session")).items == ()


async def test_a_selection_narrows(store: Store, ledger: Ledger) -> None:
    await fleet(ledger, 25)
    await ledger.transition(ref("n004"), ALICE, event="start")
    await ledger.set_desired(ref("n007"), ALICE, "busy")
    await ledger.change_spec(ref("n008"), ALICE, owner_id="team")
    few_at_a_time = Reading(store, scan_step=4)

    async def found(selection: Selection) -> list[str]:
        return await ids(await few_at_a_time.list("Node", 100, None, selection))

    assert await found(Selection(status=("busy",))) == ["n004"]
    assert await found(Selection(desired=("busy",), labels={"rack": "r1"})) == ["n007"]
    assert await found(Selection(desired=("busy",), labels={"rack": "r0"})) == []
    assert await found(Selection(converged=False)) == ["n007"]
    assert await found(Selection(owner_id="team")) == ["n008"]
    page = await few_at_a_time.list("Node", 5, None, Selection(labels={"rack": "r0"}))
    rest = await few_at_a_time.list("Node", 50, page.after, Selection(labels={"rack": "r0"}))
    assert await ids(page) + await ids(rest) == [f"n{number:03d}" for number in range(0, 25, 2)]
    bounded = Reading(store, scan_step=4, scan_max=8)
    last = Selection(labels={"rack": "r0"}, owner_id="team")
    short = await bounded.list("Node", 100, None, last)
    assert short.items == ()
    assert short.after is not None, "it looked at as much as it may"
    assert await ids(await bounded.list("Node", 100, short.after, last)) == ["n008"]


async def test_all_kinds_together(ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    await ledger.create(FreezeState(id="plane", lifecycle_table="freeze"), ALICE)
    page = await ledger.list()
    assert [state.resource_type for state in page.items] == ["Freeze", "Node"]


async def test_a_cursor_that_is_none_is_refused(ledger: Ledger, store: Store) -> None:
    await fleet(ledger, 3)
    for text in ("", "x", "1", "1:history/", "-1:resources/Node/a", "9" * 30 + ":resources/Node/a"):
        with pytest.raises(InvalidInput):
            await ledger.list("Node", after=text)
    for limit in (0, PAGE_MAX + 1):
        with pytest.raises(InvalidInput):
            await ledger.list("Node", limit=limit)
    with pytest.raises(UnknownResourceKind, match="did you mean Node"):
        await ledger.list("Noode")
    page = await ledger.list("Node", limit=1)
    await ledger.create(node("more"), ALICE)
    await store.compact(await store.revision())
    with pytest.raises(Compacted):
        await ledger.list("Node", limit=1, after=page.after)


async def test_history_pages_both_ways(ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    for _ in range(6):
        await ledger.claim(NODE, ALICE)

    async def walk(newest_first: bool) -> list[int]:
        seqs: list[int] = []
        after = 0
        while True:
            page = await ledger.history(NODE, after, limit=3, newest_first=newest_first)
            seqs += [entry.seq for entry in page.entries]
            if page.after_seq is None:
                return seqs
            after = page.after_seq

    assert await walk(False) == [1, 2, 3, 4, 5, 6, 7]
    assert await walk(True) == [7, 6, 5, 4, 3, 2, 1]
    assert (await ledger.history(NODE, 7)).entries == ()
    assert (await ledger.entry(NODE, 3)).seq == 3
    with pytest.raises(ResourceNotFound):
        await ledger.entry(NODE, 8)
    with pytest.raises(ResourceNotFound):
        await ledger.history(ref("never"))


async def test_the_history_of_a_deleted_resource_stays(ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    await ledger.delete(NODE, ALICE)
    page = await ledger.history(NODE, newest_first=True)
    assert [entry.action.value for entry in page.entries] == ["deleted", "created"]


async def test_a_damaged_record_does_not_hide_the_others(store: Store, ledger: Ledger) -> None:
    await fleet(ledger, 3)
    bad = keys.resource_key(ref("n001"))
    await store.commit([], [Put(bad, b"\xff{")])
    page = await ledger.list("Node")
    assert await ids(page) == ["n000", "n002"]
    assert [problem.key for problem in page.problems] == [bad]
    with pytest.raises(RecordDamaged) as error:
        await ledger.get(ref("n001"))
    assert error.value.facts["key"] == bad
    with pytest.raises(RecordDamaged):
        await ledger.set_desired(ref("n001"), ALICE, "busy")
    await ledger.set_desired(ref("n002"), ALICE, "busy")


async def test_a_damaged_row_does_not_hide_the_others(store: Store, ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    for _ in range(3):
        await ledger.claim(NODE, ALICE)
    record = await store.get(keys.history_key(NODE, 2))
    assert record is not None
    await store.commit([], [Put(record.key, record.value.replace(b"user:alice", b"user:mallory"))])
    page = await ledger.history(NODE)
    assert [entry.seq for entry in page.entries] == [1, 3, 4]
    assert [problem.key for problem in page.problems] == [record.key]
    with pytest.raises(RecordDamaged):
        await ledger.entry(NODE, 2)


@pytest.mark.parametrize("name", ["a/b", "../x", "%2F", "a b", "ü", "~x", "\n", ".", "n1/000000000001", "😀"])
async def test_any_id_has_keys_of_its_own(ledger: Ledger, name: str) -> None:
    await ledger.create(node(), ALICE)
    await ledger.create(node(name), ALICE)
    assert keys.ref_of(keys.history_key(ref(name), 7)) == ref(name)
    assert keys.seq_of(keys.history_key(ref(name), 7)) == 7
    assert (await ledger.get(ref(name))).id == name
    assert len((await ledger.history(NODE)).entries) == 1


def test_keys_that_are_none() -> None:
    for key in ("", "resources/Node", "resources/Node/", "shards/1/2"):
        with pytest.raises(RefInvalid):
            keys.ref_of(key)
    assert keys.seq_of("resources/Node/x") is None
    long = keys.idempotency_key("a" * 256, "\n" * 255)
    assert len(long) < 1024
    assert keys.idempotency_key("~", "x") != keys.idempotency_key("%7E", "x")
    assert ResourceRef("Node", "x") == keys.ref_of("graves/Node/x")
