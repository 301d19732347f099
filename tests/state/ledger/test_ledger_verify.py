"""Whatever was changed, taken away or added behind the Ledger's back is found, and named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
from ledger_house import ALICE, NODE, node, ref

from steersman.state.ledger import Ledger, keys, rows
from steersman.state.ledger.guard import GuardedStore, ReservedKey
from steersman.state.ledger.verify import verify_store
from steersman.store.api import Check, Delete, Put, Record, Store

ROW2 = keys.history_key(NODE, 2)
ROW3 = keys.history_key(NODE, 3)
HEAD = keys.resource_key(NODE)
GRAVE = keys.grave_key(ref("dead"))


async def read(store: Store, key: str) -> Record:
    record = await store.get(key)
    assert record is not None
    return record


async def change_a_row(store: Store) -> str:
    value = (await read(store, ROW2)).value
    await store.commit([], [Put(ROW2, value.replace(b"user:alice", b"user:malory"))])
    return ROW2


async def forge_a_row(store: Store) -> str:
    """A row with a hash of its own that is right: the next one does not follow it."""
    entry, _ = rows.decode_row(await read(store, ROW2))
    _, forged = rows.encode_row(msgspec.structs.replace(entry, reason="I was asked to"))
    await store.commit([], [Put(ROW2, forged)])
    return ROW3


async def forge_the_last_row(store: Store) -> str:
    entry, _ = rows.decode_row(await read(store, ROW3))
    _, forged = rows.encode_row(msgspec.structs.replace(entry, reason="I was asked to"))
    await store.commit([], [Put(ROW3, forged)])
    return HEAD


async def take_a_row_away(store: Store) -> str:
    await store.commit([], [Delete(ROW2)])
    return ROW3


async def take_the_last_row_away(store: Store) -> str:
    await store.commit([], [Delete(ROW3)])
    return HEAD


async def add_a_row(store: Store) -> str:
    value = (await read(store, ROW3)).value
    key = keys.history_key(NODE, 4)
    await store.commit([], [Put(key, value)])
    return key


async def write_a_resource(store: Store) -> str:
    value = (await read(store, HEAD)).value
    await store.commit([], [Put(HEAD, value.replace(b'"status":"busy"', b'"status":"idle"'))])
    return HEAD


async def write_nonsense(store: Store) -> str:
    await store.commit([], [Put(HEAD, b"nonsense")])
    return HEAD


async def make_a_resource(store: Store) -> str:
    value = (await read(store, HEAD)).value.replace(b'"id":"n1"', b'"id":"n9"')
    await store.commit([], [Put(keys.resource_key(ref("n9")), value)])
    return keys.resource_key(ref("n9"))


async def take_a_resource_away(store: Store) -> str:
    await store.commit([], [Delete(HEAD)])
    return ROW3


async def bring_one_back(store: Store) -> str:
    value = (await read(store, HEAD)).value.replace(b'"id":"n1"', b'"id":"dead"')
    key = keys.resource_key(ref("dead"))
    await store.commit([], [Put(key, value)])
    return key


async def open_a_grave(store: Store) -> str:
    await store.commit([], [Delete(GRAVE)])
    return keys.history_key(ref("dead"), 2)


async def change_a_grave(store: Store) -> str:
    value = (await read(store, GRAVE)).value.replace(b'"version":2', b'"version":1')
    await store.commit([], [Put(GRAVE, value)])
    return GRAVE


TAMPERING = [
    change_a_row,
    forge_a_row,
    forge_the_last_row,
    take_a_row_away,
    take_the_last_row_away,
    add_a_row,
    write_a_resource,
    write_nonsense,
    make_a_resource,
    take_a_resource_away,
    bring_one_back,
    open_a_grave,
    change_a_grave,
]


async def live(ledger: Ledger) -> None:
    await ledger.create(node("dead"), ALICE)
    await ledger.delete(ref("dead"), ALICE)
    await ledger.create(node("n0"), ALICE)
    await ledger.create(node(), ALICE)
    await ledger.claim(NODE, ALICE)
    await ledger.transition(NODE, ALICE, event="start")
    await ledger.create(node("n2"), ALICE)


async def test_a_sound_store_has_no_problems(store: Store, ledger: Ledger) -> None:
    await live(ledger)
    report = await verify_store(store)
    assert report.ok
    assert (report.resources, report.graves, report.rows) == (3, 1, 7)
    assert report.revision == await store.revision()
    assert report.problems == []


async def test_an_empty_store_is_sound(store: Store) -> None:
    assert (await verify_store(store)).ok


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__)
async def test_tampering_is_found(
    store: Store, ledger: Ledger, tamper: Callable[[Store], Awaitable[str]]
) -> None:
    await live(ledger)
    key = await tamper(store)
    report = await verify_store(store)
    assert not report.ok
    assert key in [problem.key for problem in report.problems]
    about = {keys.ref_of(problem.key) for problem in report.problems}
    assert len(about) == 1, "and the others are not suspected"


async def test_the_hash_is_of_the_stored_bytes(store: Store, ledger: Ledger) -> None:
    """The rule as the reference page says it, with nothing of ours but the bytes."""
    import hashlib
    import json

    await live(ledger)
    value = (await read(store, ROW2)).value
    kept = json.loads(value)
    row = value[value.index(b'"row":') + len(b'"row":') : -1]
    assert hashlib.sha256(row).hexdigest() == kept["hash"]
    assert json.dumps(kept["row"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == row
    assert kept["row"]["previous"] == json.loads((await read(store, keys.history_key(NODE, 1))).value)["hash"]


async def test_the_other_rooms_store_can_not_write_a_resource(store: Store, ledger: Ledger) -> None:
    await live(ledger)
    others = GuardedStore(store)
    revision = await store.revision()
    for prefix in keys.RESERVED:
        for write in (Put(prefix + "x", b""), Delete(prefix + "x")):
            with pytest.raises(ReservedKey) as refusal:
                await others.commit([], [Put("mine", b""), write])
            assert refusal.value.facts == {"key": prefix + "x"}
    assert await store.revision() == revision
    async with others:
        await others.commit([Check(HEAD, 3)], [Put("shards/1", b"")])
        assert (await others.list("resources/")).records == (await store.list("resources/")).records
        lease = await others.lease(60)
        await others.renew(lease)
        await others.revoke(lease)
        async with others.watch("resources/", revision) as events:
            await ledger.claim(NODE, ALICE)
            assert (await anext(events)).key == HEAD
        await others.compact(1)
    assert await store.get(HEAD) is not None, "closing it closed nothing"
