"""Checks of the store's contract: values, versions, commits, pages of a snapshot, compaction."""

from __future__ import annotations

import asyncio

from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import InvalidInput, TooLarge
from steersman.store.api import (
    COMMIT_CONDITIONS_MAX,
    COMMIT_MAX_BYTES,
    COMMIT_WRITES_MAX,
    KEY_MAX_CHARS,
    PAGE_MAX,
    PAGE_MAX_BYTES,
    VALUE_MAX_BYTES,
    Check,
    Compacted,
    Conflict,
    Delete,
    FutureRevision,
    Page,
    Put,
    Record,
    Store,
    StoreClosed,
)
from steersman.testing.store_expect import MakeStore, equal, keys, put, refused, true

WRITERS = 64


async def check_an_empty_store(make: MakeStore) -> None:
    """Nothing is there, at revision 0, and asking changes nothing."""
    async with make(ManualClock()) as store:
        equal(await store.revision(), 0, "the revision")
        equal(await store.get("a"), None, "an absent key")
        equal(await store.list(""), Page(records=(), revision=0, after=None), "the list of everything")
        await store.compact(0)
        equal(await store.revision(), 0, "the revision")


async def check_a_key_from_creation_to_recreation(make: MakeStore) -> None:
    """Versions count the writes of a key since it was last made; revisions count the store's commits."""
    async with make(ManualClock()) as store:
        equal(await put(store, "a", b"1"), 1, "the first revision")
        equal(await put(store, "a", b"2"), 2, "the second")
        equal(await store.get("a"), Record("a", b"2", 2, 2), "after an update")
        equal(await store.commit([Check("a", 2)], [Delete("a")]), 3, "the deletion's revision")
        equal(await store.get("a"), None, "after the deletion")
        equal(await store.commit([Check("a", 0)], [Put("a", b"3")]), 4, "the recreation's revision")
        equal(await store.get("a"), Record("a", b"3", 1, 4), "a key made again starts at version 1")


async def check_values_are_kept_to_the_byte(make: MakeStore) -> None:
    """Any bytes, none and the largest; keys with any characters, in code point order."""
    odd = ["a", "a\n", "a b", 'a"\\', "a'b", "aé", "a\ue000", "a\ufffd", "a😀", "b%", "b_", "\x01"]
    values = [bytes(range(256)), b"", b"\0", b"x" * VALUE_MAX_BYTES]
    async with make(ManualClock()) as store:
        for index, key in enumerate(odd):
            await put(store, key, values[index % 3])
        for index, key in enumerate(odd):
            record = await store.get(key)
            equal(record and record.value, values[index % 3], f"the value of {key!r}")
        equal(await keys(store), sorted(odd), "keys in code point order")
        equal(await keys(store, "a"), sorted(key for key in odd if key[0] == "a"), "keys under a")
        equal(
            await keys(store, "a\ufffd"), ["a\ufffd"], "keys under the last character before the surrogates"
        )
        await put(store, "big", values[3])
        record = await store.get("big")
        true(record is not None and record.value == values[3], "the largest value came back different")


async def check_a_commit_is_all_or_nothing(make: MakeStore) -> None:
    """One failed check and nothing is written; the refusal names the key, what was expected and what is."""
    async with make(ManualClock()) as store:
        await put(store, "a")
        with refused(Conflict, key="b", expected=3, current=0):
            await store.commit(
                [Check("a", 1), Check("b", 3), Check("c", 9)], [Put("a", b"x"), Put("b", b"x")]
            )
        with refused(Conflict, key="a", expected=0, current=1):
            await store.commit([Check("a", 0)], [Put("z", b"")])
        equal(await store.revision(), 1, "the revision after refusals")
        equal(await keys(store), ["a"], "the keys after refusals")
        revision = await store.commit(
            [Check("a", 1), Check("z", 0)], [Put("z", b"1"), Delete("a"), Put("m", b"2")]
        )
        equal(revision, 2, "one revision for the commit")
        page = await store.list("")
        equal([(r.key, r.revision) for r in page.records], [("m", 2), ("z", 2)], "what the commit wrote")


async def check_a_commit_that_changes_nothing(make: MakeStore) -> None:
    """No writes, or deletions of absent keys: conditions are checked, and no revision is used up."""
    async with make(ManualClock()) as store:
        await put(store, "a")
        equal(await store.commit([], []), 1, "no writes")
        equal(await store.commit([Check("a", 1)], [Delete("nope")]), 1, "a deletion of nothing")
        with refused(Conflict, key="a"):
            await store.commit([Check("a", 7)], [Delete("nope")])
        equal(await put(store, "a", b""), 2, "the same value again is a change")


async def check_what_is_refused_as_input(make: MakeStore) -> None:
    """Each bound and each rule has its typed refusal, and nothing is written."""
    async with make(ManualClock()) as store:
        for key in ("", "a\0b", "a\ud800"):
            with refused(InvalidInput):
                await store.get(key)
            with refused(InvalidInput):
                await put(store, key)
        with refused(TooLarge, limit=KEY_MAX_CHARS):
            await put(store, "k" * (KEY_MAX_CHARS + 1))
        await put(store, "k" * KEY_MAX_CHARS)
        with refused(TooLarge, limit=VALUE_MAX_BYTES):
            await put(store, "a", b"x" * (VALUE_MAX_BYTES + 1))
        with refused(InvalidInput):
            await store.commit([], [Put("a", b""), Delete("a")])
        with refused(InvalidInput):
            await store.commit([Check("a", -1)], [])
        with refused(TooLarge, limit=COMMIT_WRITES_MAX):
            await store.commit([], [Delete(f"{n}") for n in range(COMMIT_WRITES_MAX + 1)])
        with refused(TooLarge, limit=COMMIT_CONDITIONS_MAX):
            await store.commit([Check("a", 0)] * (COMMIT_CONDITIONS_MAX + 1), [])
        block = bytes(VALUE_MAX_BYTES)
        with refused(TooLarge, limit=COMMIT_MAX_BYTES):
            await store.commit([], [Put(f"{n}", block) for n in range(COMMIT_MAX_BYTES // len(block) + 1)])
        for limit in (0, -1, PAGE_MAX + 1):
            with refused(InvalidInput):
                await store.list("", limit=limit)
        for prefix in ("a\0", "\udfff"):
            with refused(InvalidInput):
                await store.list(prefix)
            with refused(InvalidInput):
                store.watch(prefix, 0)
        with refused(InvalidInput):
            await store.list("", revision=-1)
        with refused(InvalidInput):
            store.watch("", -1)
        with refused(InvalidInput):
            await store.compact(-1)
        equal(await store.revision(), 1, "the revision after refusals")


async def check_the_largest_commit(make: MakeStore) -> None:
    """As many writes and conditions as are allowed, in one revision."""
    async with make(ManualClock()) as store:
        names = [f"{n:05d}" for n in range(COMMIT_WRITES_MAX)]
        await store.commit([Check(name, 0) for name in names], [Put(name, b"") for name in reversed(names)])
        equal(await keys(store), names, "all of it is there")
        equal(await store.revision(), 1, "the revision")


async def check_pages(make: MakeStore) -> None:
    """Pages are in key order, end exactly, and may start anywhere."""
    async with make(ManualClock()) as store:
        names = [f"p/{n:03d}" for n in range(10)]
        await store.commit([], [Put(name, b"v") for name in [*names, "o", "p", "p0", "q"]])
        page = await store.list("p/", limit=4)
        equal(([r.key for r in page.records], page.after), (names[:4], names[3]), "the first page")
        page = await store.list("p/", limit=4, after=page.after, revision=page.revision)
        equal(([r.key for r in page.records], page.after), (names[4:8], names[7]), "the second page")
        page = await store.list("p/", limit=4, after=page.after, revision=page.revision)
        equal(([r.key for r in page.records], page.after), (names[8:], None), "the last page")
        equal((await store.list("p/", limit=10)).after, None, "a page that holds just all")
        equal((await store.list("p/", after="p/004x", limit=1)).records[0].key, names[5], "behind a non-key")
        equal(
            (await store.list("p/", after="a", limit=1)).records[0].key, names[0], "behind a key before all"
        )
        equal((await store.list("p/", after="z")).records, (), "behind everything")
        equal(await keys(store, "p"), ["p", *names, "p0"], "a prefix that is also a key")
        equal(await keys(store, "nope/"), [], "a prefix of nothing")


async def check_a_page_is_bounded_in_bytes(make: MakeStore) -> None:
    """Large values end a page early, and no record is left out by that."""
    async with make(ManualClock()) as store:
        names = [f"{n}" for n in range(PAGE_MAX_BYTES // VALUE_MAX_BYTES + 2)]
        for name in names:
            await put(store, name, bytes(VALUE_MAX_BYTES))
        page = await store.list("")
        true(0 < len(page.records) < len(names), "the page held all the large values")
        rest = await store.list("", after=page.after, revision=page.revision)
        equal([r.key for r in (*page.records, *rest.records)], names, "both pages together")


async def check_a_snapshot_under_writes(make: MakeStore) -> None:
    """Paging sees one revision, though keys before and behind the page change, go, come and come back."""
    async with make(ManualClock()) as store:
        names = [f"s/{n:02d}" for n in range(20)]
        await store.commit([], [Put(name, b"old") for name in names])
        await store.commit([], [Delete("s/13"), Delete("s/14")])
        first = await store.list("s/", limit=7)
        expected = [name for name in names if name not in ("s/13", "s/14")]
        seen = [*first.records]
        after = first.after
        step = 0
        while after is not None:
            await store.commit([], [Put(name, b"new") for name in names[step::3]])
            await store.commit([], [Delete(name) for name in names[step::4]])
            await store.commit([], [Put("s/005", b"new"), Put("s/13", b"back"), Put(f"s/new{step}", b"new")])
            page = await store.list("s/", limit=3, after=after, revision=first.revision)
            equal(page.revision, first.revision, "a later page's revision")
            seen += page.records
            after = page.after
            step += 1
        equal([r.key for r in seen], expected, "the keys of the snapshot")
        equal(
            {(r.value, r.version, r.revision) for r in seen}, {(b"old", 1, 1)}, "the records of the snapshot"
        )
        now = await store.list("s/")
        true(now.revision > first.revision and now.records != tuple(seen), "a new list sees the newest")


async def check_revisions_that_cannot_be_read(make: MakeStore) -> None:
    """The future and what was compacted are refused, each by its own name."""
    async with make(ManualClock()) as store:
        for value in (b"1", b"2", b"3"):
            await put(store, "a", value)
        with refused(FutureRevision, revision=3):
            await store.list("", revision=4)
        with refused(FutureRevision, revision=3):
            await store.compact(4)
        await store.compact(2)
        with refused(Compacted, compacted=2):
            await store.list("", revision=1)
        equal((await store.list("", revision=2)).records, (Record("a", b"2", 2, 2),), "the oldest kept")


async def check_compaction_keeps_what_lives(make: MakeStore) -> None:
    """Values that were never touched since stay; superseded ones and old deletions go; numbers go on."""
    async with make(ManualClock()) as store:
        await store.commit([], [Put(f"keep/{n}", b"old") for n in range(5)])
        for n in range(5):
            await put(store, "busy", b"%d" % n)
        await put(store, "gone")
        await store.commit([], [Delete("gone")])
        newest = await store.revision()
        await store.compact(newest)
        await store.compact(newest)
        await store.compact(1)
        equal(await store.revision(), newest, "compaction uses no revision")
        equal(await keys(store), ["busy", *(f"keep/{n}" for n in range(5))], "the live keys")
        equal(await store.get("busy"), Record("busy", b"4", 5, 6), "the busy key")
        equal(await store.get("keep/0"), Record("keep/0", b"old", 1, 1), "a key older than the compaction")
        equal(await put(store, "gone"), newest + 1, "the next revision")
        record = await store.get("gone")
        equal(record and record.version, 1, "a key made again after its deletion was forgotten")
        await store.compact(newest + 1)
        await store.commit([], [Delete("keep/0"), Put("busy", b"9")])
        await store.compact(newest + 2)
        equal(
            await keys(store), ["busy", "gone", *(f"keep/{n}" for n in range(1, 5))], "after two compactions"
        )
        equal(await keys(store, revision=newest + 2), await keys(store), "the oldest snapshot is the newest")


async def check_one_of_many_writers_wins(make: MakeStore) -> None:
    """64 writers that all read version 1 write at once: one succeeds, the others are told the version now."""
    async with make(ManualClock()) as store:
        await put(store, "a")

        async def write(number: int) -> int | Conflict:
            try:
                return await store.commit([Check("a", 1)], [Put("a", b"%d" % number)])
            except Conflict as conflict:
                return conflict

        outcomes = await asyncio.gather(*(write(number) for number in range(WRITERS)))
        winners = [(n, outcome) for n, outcome in enumerate(outcomes) if isinstance(outcome, int)]
        equal(len(winners), 1, "how many won")
        equal(await store.get("a"), Record("a", b"%d" % winners[0][0], 2, 2), "the winner's value")
        for outcome in outcomes:
            if isinstance(outcome, Conflict):
                equal(outcome.facts["current"], 2, "what the losers were told")


async def check_concurrent_commits_each_get_their_own_answer(make: MakeStore) -> None:
    """Good commits, conflicts and invalid ones side by side: none takes another with it."""
    async with make(ManualClock()) as store:
        await put(store, "taken")

        async def write(number: int) -> int | str:
            try:
                match number % 3:
                    case 0:
                        return await put(store, f"good/{number}", b"%d" % number)
                    case 1:
                        return await store.commit([Check("taken", 0)], [Put(f"bad/{number}", b"")])
                    case _:
                        return await store.commit([], [Put("", b"")])
            except (Conflict, InvalidInput) as error:
                return error.code

        outcomes = await asyncio.gather(*(write(number) for number in range(3 * WRITERS)))
        good = [outcome for outcome in outcomes if isinstance(outcome, int)]
        equal(sorted(good), list(range(2, WRITERS + 2)), "the good ones' revisions, each once, without a gap")
        equal(outcomes.count("conflict"), WRITERS, "the conflicts")
        equal(outcomes.count("invalid_input"), WRITERS, "the invalid ones")
        page = await store.list("")
        equal(len(page.records), WRITERS + 1, "what was written")
        for record in page.records[:-1]:
            number = int(record.key.removeprefix("good/"))
            equal((record.revision, record.value), (outcomes[number], b"%d" % number), record.key)


async def check_a_counter_loses_no_increment(make: MakeStore) -> None:
    """Read, add one, write if unchanged, again on conflict: many at once never lose an increment."""
    async with make(ManualClock()) as store:
        await put(store, "n", b"0")

        async def add(times: int) -> None:
            while times:
                record = await store.get("n")
                if record is None:
                    raise AssertionError("the counter is gone")
                try:
                    await store.commit(
                        [Check("n", record.version)], [Put("n", b"%d" % (int(record.value) + 1))]
                    )
                except Conflict:
                    continue
                times -= 1

        await asyncio.gather(*(add(5) for _ in range(8)))
        equal(await store.get("n"), Record("n", b"40", 41, 41), "the counter")


async def check_cancelling_a_caller_does_not_undo(make: MakeStore) -> None:
    """A caller that gives up may find its commit made or not, but never half, and the store goes on."""
    async with make(ManualClock()) as store:

        async def write(number: int) -> None:
            await store.commit([], [Put(f"{number}/a", b"x"), Put(f"{number}/b", b"x")])

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(write(number)) for number in range(WRITERS)]
            await ManualClock().sleep(0)  # each is somewhere within its commit now
            for task in tasks[::2]:
                task.cancel()
        after = await put(store, "after")
        page = await store.list("", revision=after)
        halves = [record.key[:-2] for record in page.records if record.key != "after"]
        for number in range(WRITERS):
            true(halves.count(f"{number}") in (0, 2), f"half of commit {number} is there")
        for number in range(1, WRITERS, 2):
            equal(halves.count(f"{number}"), 2, f"commit {number}, whose caller waited")
        equal(len({r.revision for r in page.records}), after, "every revision has its commit")


async def check_a_closed_store_says_so(make: MakeStore) -> None:
    """Before it is opened and after it is closed, each call is a typed refusal; closing twice is fine."""
    store = make(ManualClock())
    with refused(StoreClosed):
        await store.get("a")
    async with store:
        await put(store, "a")
        lease = await store.lease(10)
    await store.close()
    for call in (
        lambda: store.get("a"),
        lambda: store.list(""),
        lambda: store.commit([], [Put("a", b"")]),
        lambda: store.lease(10),
        lambda: store.renew(lease),
        lambda: store.revoke(lease),
        lambda: store.compact(1),
        lambda: store.revision(),
    ):
        with refused(StoreClosed):
            await call()
    with refused(StoreClosed):
        async with store.watch("", 0):
            pass


async def check_close_finishes_what_was_handed_over(make: MakeStore) -> None:
    """Commits under way when the store is closed are answered, with their revision or a typed refusal."""
    store: Store = make(ManualClock())
    async with store:

        async def write(number: int) -> int | str:
            try:
                return await put(store, f"{number}")
            except StoreClosed as error:
                return error.code

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(write(number)) for number in range(WRITERS)]
            await ManualClock().sleep(0)
            await store.close()
        done = [task.result() for task in tasks if isinstance(task.result(), int)]
        equal(sorted(map(int, done)), list(range(1, len(done) + 1)), "the revisions of those that were done")


CHECKS = (
    check_an_empty_store,
    check_a_key_from_creation_to_recreation,
    check_values_are_kept_to_the_byte,
    check_a_commit_is_all_or_nothing,
    check_a_commit_that_changes_nothing,
    check_what_is_refused_as_input,
    check_the_largest_commit,
    check_pages,
    check_a_page_is_bounded_in_bytes,
    check_a_snapshot_under_writes,
    check_revisions_that_cannot_be_read,
    check_compaction_keeps_what_lives,
    check_one_of_many_writers_wins,
    check_concurrent_commits_each_get_their_own_answer,
    check_a_counter_loses_no_increment,
    check_cancelling_a_caller_does_not_undo,
    check_a_closed_store_says_so,
    check_close_finishes_what_was_handed_over,
)
