"""The same key and request, the same answer: at once, later, after a restart; and not for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from ledger_house import ALICE, BOB, NODE, MeddledStore, node, ref, tables

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.command import Terms
from steersman.kinds.refusal import IdempotencyMismatch, NotAllowed
from steersman.state.ledger import Ledger, idempotency
from steersman.state.ledger.keys import IDEMPOTENCY
from steersman.store.api import Store
from steersman.store.sqlite import SqliteStore

KEY = Terms(idempotency_key="key/1", reason="because")


async def test_a_repetition_gets_the_first_answer(store: Store, ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    first = await ledger.transition(NODE, ALICE, event="start", terms=KEY)
    await ledger.transition(NODE, BOB, event="stop")
    again = await ledger.transition(NODE, ALICE, event="start", terms=KEY)
    assert again.replayed
    assert (again.state, again.entry, again.revision) == (first.state, first.entry, first.revision)
    assert (await ledger.get(NODE)).status == "idle", "it was not done again"


async def test_another_request_under_the_key_is_refused(ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    await ledger.create(node("n2"), ALICE)
    await ledger.transition(NODE, ALICE, event="start", terms=KEY)
    for asked in (
        ledger.transition(NODE, ALICE, event="stop", terms=KEY),
        ledger.transition(ref("n2"), ALICE, event="start", terms=KEY),
        ledger.set_desired(NODE, ALICE, "idle", KEY),
        ledger.transition(NODE, ALICE, event="start", terms=Terms(idempotency_key="key/1", reason="other")),
    ):
        with pytest.raises(IdempotencyMismatch) as refusal:
            await asked
        assert refusal.value.facts["idempotency_key"] == "key/1"
    written = await ledger.transition(ref("n2"), BOB, event="start", terms=KEY)
    assert not written.replayed, "another actor's key is another key"


async def test_a_repetition_may_renew_its_circumstances(ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    await ledger.transition(
        NODE, ALICE, event="start", terms=msgspec.structs.replace(KEY, expected_version=1)
    )
    later = msgspec.structs.replace(KEY, expected_version=2, fence=9)
    assert (await ledger.transition(NODE, ALICE, event="start", terms=later)).replayed


async def test_a_refusal_is_not_kept(ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    with pytest.raises(NotAllowed):
        await ledger.transition(NODE, ALICE, event="stop", terms=KEY)
    await ledger.transition(NODE, ALICE, event="start")
    assert not (await ledger.transition(NODE, ALICE, event="stop", terms=KEY)).replayed


async def test_nothing_to_do_is_an_answer_too(ledger: Ledger) -> None:
    await ledger.create(node(), ALICE)
    await ledger.set_desired(NODE, ALICE, "busy")
    assert (await ledger.set_desired(NODE, ALICE, "busy", KEY)).unchanged
    await ledger.set_desired(NODE, BOB, "idle")
    late = await ledger.set_desired(NODE, ALICE, "busy", KEY)
    assert late.replayed
    assert late.unchanged
    assert (await ledger.get(NODE)).desired_status == "idle"


async def test_of_first_uses_at_once_one_is_executed(
    store: Store, ledger: Ledger, clock: ManualClock
) -> None:
    await ledger.create(node(), ALICE)
    ledgers = [ledger, Ledger(store, clock, tables()), Ledger(store, clock, tables())]
    answers = await asyncio.gather(
        *(
            ledgers[number % 3].transition(NODE, ALICE, event="start", terms=KEY, data={"n": 1})
            for number in range(60)
        )
    )
    assert sum(not answer.replayed for answer in answers) == 1
    assert {answer.entry.hash for answer in answers} == {answers[0].entry.hash}
    assert (await ledger.get(NODE)).version == 2


async def test_answers_outlive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    clock = ManualClock()
    async with SqliteStore(path, clock=clock, rng=seeded_rng(1)) as store:
        ledger = Ledger(store, clock, tables())
        first = await ledger.create(node(), ALICE, KEY)
    async with SqliteStore(path, clock=ManualClock(), rng=seeded_rng(2)) as store:
        ledger = Ledger(store, clock, tables())
        again = await ledger.create(node(), ALICE, KEY)
        assert again.replayed
        assert again.state == first.state
        with pytest.raises(IdempotencyMismatch):
            await ledger.create(node("other"), ALICE, KEY)


async def test_answers_go_after_their_time(store: Store, ledger: Ledger, clock: ManualClock) -> None:
    await ledger.create(node(), ALICE, KEY)
    clock.advance(idempotency.ANSWER_KEPT_S - 1)
    late = Terms(idempotency_key="late")
    await ledger.set_desired(NODE, ALICE, "busy", late)
    clock.advance(idempotency.ANSWER_KEPT_S)
    assert (await ledger.set_desired(NODE, ALICE, "busy", late)).replayed
    clock.advance(idempotency.LEASE_S)
    assert (await store.list(IDEMPOTENCY)).records == ()
    assert not (await ledger.set_desired(NODE, ALICE, "busy", late)).replayed, "and a new lease is taken"


async def test_a_full_lease_is_followed_by_another(store: Store, clock: ManualClock) -> None:
    leases = idempotency.AnswerLeases(store, clock, answers_max=3)
    given = [await leases.next() for _ in range(10)]
    assert [given.count(lease) for lease in dict.fromkeys(given)] == [3, 3, 3, 1]


async def test_every_answer_hangs_on_a_lease_that_many_share(store: Store, ledger: Ledger) -> None:
    """Else it would be kept for ever."""
    for number in range(10):
        await ledger.create(node(f"n{number}"), ALICE, Terms(idempotency_key=str(number)))
    assert (await ledger.set_desired(NODE, ALICE, None, Terms(idempotency_key="nothing"))).unchanged
    leases = [record.lease for record in (await store.list(IDEMPOTENCY)).records]
    assert len(leases) == 11
    assert None not in leases
    assert len(set(leases)) == 1


async def test_one_key_for_two_resources_at_the_same_moment_is_good_for_one(
    store: Store, clock: ManualClock
) -> None:
    """Neither of two processes finds the other's answer when it looks; the commit does."""
    meddled = MeddledStore(store)
    here, there = Ledger(meddled, clock, tables()), Ledger(store, clock, tables())
    await there.create(node("n1"), ALICE)
    await there.create(node("n2"), ALICE)

    async def first() -> None:
        await there.transition(ref("n2"), ALICE, event="start", terms=KEY)

    meddled.before_commit = first
    with pytest.raises(IdempotencyMismatch):
        await here.transition(ref("n1"), ALICE, event="start", terms=KEY)
    assert [(await here.get(ref(name))).status for name in ("n1", "n2")] == ["idle", "busy"]
