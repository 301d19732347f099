"""A judge of recordings: what many clients did and what many watchers saw, held against the contract.

Example tests know what they expect. Here nothing is expected beforehand: clients do as they please,
everything is recorded, and afterwards the recording must be explicable by one log of commits:

- **unique**: no revision belongs to two commits.
- **order**: a commit that began after another had returned has a higher revision; a watch never goes back,
  and within a revision goes by key.
- **once**: no watch sees an event twice.
- **no gap**: a watch sees every event of its prefix, from where it began to where it was read to.
- **agreement**: two watches that saw the same key at the same revision saw the same.
- **visible**: what was acknowledged is in the log, whole; nothing is in the log that nobody wrote.
- **versions**: they count as promised, and every condition of an acknowledged commit held.
- **end**: the final list is what the log amounts to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise

from msgspec import Struct, field

from steersman.kernel.errors import InvalidInput, Refused
from steersman.store.api import Check, Condition, Event, Put, Record, Store, Write

VIOLATIONS_MAX = 50
"""A broken store breaks everything; the first ones tell."""


class Commit(Struct, frozen=True):
    """One client's commit. `began` and `ended` are places in the recording's order.

    `revision` is what the store answered; None where there was no answer (a crash, a cancelled caller), so it
    was made or not. Refused commits are not recorded.
    """

    client: str
    began: int
    ended: int
    conditions: tuple[Condition, ...]
    writes: tuple[Write, ...]
    revision: int | None


class Watched(Struct, frozen=True):
    """What one watcher saw: events under `prefix` after a revision, read at least up to `through`."""

    watcher: str
    prefix: str
    after: int
    through: int
    events: tuple[Event, ...]


class History(Struct):
    """A recording. `final` is the list of everything at `final_revision`; `ended_leases` says whether leases
    ended in it, so that deletions may be nobody's."""

    commits: list[Commit] = field(default_factory=list[Commit])
    watches: list[Watched] = field(default_factory=list[Watched])
    final: Sequence[Record] = ()
    final_revision: int = 0
    ended_leases: bool = False


class Violation(Struct, frozen=True):
    """A rule that does not hold, and where."""

    rule: str
    what: str


Log = dict[int, dict[str, Event]]
"""revision -> key -> event: what all watches together saw."""


def validate(history: History) -> list[Violation]:
    """Every rule that the recording breaks, at most `VIOLATIONS_MAX`; empty is good.

    At least one watch of everything from revision 0 (or from the compaction) makes the judgement complete.
    """
    found: list[Violation] = []
    log: Log = {}
    for watch in history.watches:
        found += _watch_itself(watch)
        found += _merge(log, watch)
    for watch in history.watches:
        found += _gaps(watch, log)
    found += _unique_and_ordered(history.commits)
    whole = min((watch.after for watch in history.watches if watch.prefix == ""), default=None)
    through = max((watch.through for watch in history.watches if watch.prefix == ""), default=0)
    if whole is not None:
        found += _visible(history, log, whole, through)
        found += _nobodys(history, log)
        found += _replayed(history, log, whole, through)
    return found[:VIOLATIONS_MAX]


def _watch_itself(watch: Watched) -> Iterable[Violation]:
    """Order, once, and only its own part."""
    for event in watch.events:
        if not event.key.startswith(watch.prefix) or event.revision <= watch.after:
            yield Violation("no gap", f"{watch.watcher} saw {_name(event)}, which it did not ask for")
        if event.record is not None and (event.record.key, event.record.revision) != (
            event.key,
            event.revision,
        ):
            yield Violation("agreement", f"{watch.watcher}: {_name(event)} carries another record")
    for before, after in pairwise(watch.events):
        left, right = (before.revision, before.key), (after.revision, after.key)
        if left == right:
            yield Violation("once", f"{watch.watcher} saw {_name(after)} twice")
        elif left > right:
            yield Violation("order", f"{watch.watcher} saw {_name(after)} after {_name(before)}")


def _merge(log: Log, watch: Watched) -> Iterable[Violation]:
    """Add what a watch saw to the log."""
    found: list[Violation] = []
    for event in watch.events:
        known = log.setdefault(event.revision, {}).setdefault(event.key, event)
        if known != event:
            found.append(Violation("agreement", f"{watch.watcher} saw {event}, another saw {known}"))
    return found


def _gaps(watch: Watched, log: Log) -> Iterable[Violation]:
    """What others saw under its prefix, it must have seen; and one of everything sees every revision."""
    seen = {(event.revision, event.key) for event in watch.events}
    for revision in sorted(log):
        if not watch.after < revision <= watch.through:
            continue
        for key in log[revision]:
            if key.startswith(watch.prefix) and (revision, key) not in seen:
                yield Violation("no gap", f"{watch.watcher} missed {key!r} at {revision}")
    if watch.prefix == "":
        revisions = {revision for revision, _ in seen}
        for revision in range(watch.after + 1, watch.through + 1):
            if revision not in revisions:
                yield Violation("no gap", f"{watch.watcher} saw nothing at revision {revision}")


def _unique_and_ordered(commits: Sequence[Commit]) -> Iterable[Violation]:
    """A revision for each commit that wrote something, in the order of real time."""
    answered = [commit for commit in commits if commit.revision is not None and _has_put(commit)]
    owners: dict[int, Commit] = {}
    for commit in answered:
        owner = owners.setdefault(commit.revision or 0, commit)
        if owner is not commit:
            yield Violation(
                "unique", f"{commit.client} and {owner.client} both got revision {commit.revision}"
            )
    by_end = sorted(answered, key=lambda commit: commit.ended)
    highest, index = 0, 0
    for commit in sorted(answered, key=lambda commit: commit.began):
        while index < len(by_end) and by_end[index].ended < commit.began:
            highest = max(highest, by_end[index].revision or 0)
            index += 1
        if (commit.revision or 0) <= highest:
            yield Violation(
                "order", f"{commit.client} got revision {commit.revision} after {highest} had been answered"
            )


def _visible(history: History, log: Log, whole: int, through: int) -> Iterable[Violation]:
    """Each acknowledged commit is in the log at its revision: all of it, and nothing beside."""
    for commit in history.commits:
        revision = commit.revision
        if revision is None or not _has_put(commit) or not whole < revision <= through:
            continue
        events = log.get(revision, {})
        for write in commit.writes:
            event = events.get(write.key)
            if isinstance(write, Put) and not _is_write_of(event, write):
                yield Violation(
                    "visible", f"{commit.client}'s {write.key!r} at {revision} is {event} in the log"
                )
        strangers = set(events) - {write.key for write in commit.writes}
        if strangers:
            yield Violation("visible", f"revision {revision} of {commit.client} also has {sorted(strangers)}")


def _nobodys(history: History, log: Log) -> Iterable[Violation]:
    """Each revision of the log is somebody's: acknowledged, or begun and never answered."""
    answered = {commit.revision for commit in history.commits}
    open_commits = [commit for commit in history.commits if commit.revision is None]
    for revision, events in log.items():
        if revision in answered:
            continue
        if history.ended_leases and all(event.record is None for event in events.values()):
            continue
        for commit in open_commits:
            if _explains(commit, events):
                open_commits.remove(commit)  # it was made once, if at all
                break
        else:
            yield Violation("visible", f"nobody wrote revision {revision}: {list(events.values())[:3]}")


def _replayed(history: History, log: Log, whole: int, through: int) -> Iterable[Violation]:
    """Walk through the log: versions, conditions, and the state at the end."""
    found: list[Violation] = []
    state: dict[str, Record] = {}
    conditions = {c.revision: c for c in history.commits if c.revision is not None and _has_put(c)}
    for revision in sorted(log):
        commit = conditions.get(revision)
        if commit is not None and whole == 0:
            found += _conditions(commit, state)
        for key, event in log[revision].items():
            before = state.get(key)
            if event.record is None:
                if before is None and whole == 0:
                    found.append(
                        Violation("versions", f"{key!r} was deleted at {revision}, and was not there")
                    )
                state.pop(key, None)
                continue
            expected = before.version + 1 if before is not None else 1
            if event.record.version != expected and (before is not None or whole == 0):
                found.append(Violation("versions", f"{event.record} should be version {expected}"))
            state[key] = event.record
        if revision == history.final_revision:
            break
    if whole == 0 and history.final_revision and through >= history.final_revision:
        final = {record.key: record for record in history.final}
        for key in sorted(final.keys() | state.keys()):
            if final.get(key) != state.get(key):
                found.append(Violation("end", f"{key!r}: listed {final.get(key)}, log {state.get(key)}"))
    return found


def _conditions(commit: Commit, state: dict[str, Record]) -> Iterable[Violation]:
    for condition in commit.conditions:
        if isinstance(condition, Check):
            record = state.get(condition.key)
            version = record.version if record is not None else 0
            if version != condition.version:
                yield Violation(
                    "versions",
                    f"{commit.client} was let through at {commit.revision} expecting {condition.key!r} at "
                    f"version {condition.version}, it was {version}",
                )


def _has_put(commit: Commit) -> bool:
    """Whether it surely makes a revision: deletions alone may come to nothing."""
    return any(isinstance(write, Put) for write in commit.writes)


def _is_write_of(event: Event | None, put: Put) -> bool:
    record = event.record if event is not None else None
    return record is not None and (record.value, record.lease) == (put.value, put.lease)


def _explains(commit: Commit, events: dict[str, Event]) -> bool:
    """Whether these events are what the commit would have made."""
    writes = {write.key: write for write in commit.writes}
    if not events.keys() <= writes.keys():
        return False
    for key, write in writes.items():
        event = events.get(key)
        if isinstance(write, Put):
            if not _is_write_of(event, write):
                return False
        elif event is not None and event.record is not None:
            return False
    return True


def _name(event: Event) -> str:
    return f"{event.key!r} at {event.revision}"


class Recorder:
    """Runs clients and watchers against a store and writes down what they did and saw."""

    def __init__(self, store: Store) -> None:
        self.history = History()
        self._store = store
        self._order = 0

    async def commit(self, client: str, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        """A client's commit. Refusals are raised and not recorded; any other end is one without an answer."""
        began = self._now()
        revision: int | None = None
        refused = False
        try:
            revision = await self._store.commit(conditions, writes)
            return revision
        except (Refused, InvalidInput):
            refused = True
            raise
        finally:
            if not refused:
                self.history.commits.append(
                    Commit(client, began, self._now(), tuple(conditions), tuple(writes), revision)
                )

    async def watch(self, watcher: str, prefix: str, after: int, through: asyncio.Future[int]) -> None:
        """Watch from a revision until behind the one that `through` will name. A commit after that one, under
        every prefix that is watched, tells each watcher that it has seen all up to there."""
        events: list[Event] = []
        async with self._store.watch(prefix, after) as stream:
            async for event in stream:
                events.append(event)
                if through.done() and event.revision > through.result():
                    break
        self.history.watches.append(Watched(watcher, prefix, after, through.result(), tuple(events)))

    async def finish(self) -> History:
        """Add the final list; the recording."""
        page = await self._store.list("")
        records = [*page.records]
        while page.after is not None:
            page = await self._store.list("", after=page.after, revision=page.revision)
            records += page.records
        self.history.final = records
        self.history.final_revision = page.revision
        return self.history

    def _now(self) -> int:
        self._order += 1
        return self._order
