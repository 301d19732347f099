"""The State Bus: fragments in, one picture of canonical entities out (decision 0004).

Writing does the least. `put` finds the entity, holds the fragment against the last one of the same source,
keeps a reference to it and counts one revision. Everything else (merged fields, provenance, freshness,
confidence, health) is worked out from the kept fragments when somebody reads.

The bus belongs to one thread. It needs no event loop; `steersman.state.feed` turns it when there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from msgspec import structs

from steersman.kernel.clock import Clock, SystemClock, as_utc
from steersman.kernel.errors import SteersmanError
from steersman.kinds.drift import DriftSignal
from steersman.kinds.entity import CanonicalEntity, EntityKey, EntityType, HealthState
from steersman.kinds.explanation import EntityHistory, Explanation, Freshness, SourceStatus
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment
from steersman.state.cell import NEVER, Cell
from steersman.state.changes import ChangeLog
from steersman.state.drift import DriftLog
from steersman.state.feed import EntityFilter, Feed, Pump, Subscription
from steersman.state.freshness import FRESH, freshness_of
from steersman.state.health.verdict import is_timed
from steersman.state.index import Index
from steersman.state.layer import (
    Arrival,
    Layer,
    Stamp,
    age_s,
    merged_labels,
    same_names,
    since,
    stacked,
)
from steersman.state.limits import (
    BusFull,
    BusLimits,
    FutureTimestamp,
    RevisionsExhausted,
)
from steersman.state.links import Links, Tie
from steersman.state.lives import Life
from steersman.state.outcome import CREATED, MERGED, REFUSED, STALE, MergeOutcome, judge
from steersman.state.sources import Source, SourceInfo, Sources
from steersman.state.upkeep import Upkeep
from steersman.state.view import Picture, entity_of, explanation_of
from steersman.state.width import check_width, room_made

SWEEP_MAX = 500
"""Entities that one sweep looks at: a few milliseconds of work at most."""
COUNTERS: tuple[str, ...] = (
    "created",
    "partial",
    "stale",
    "stale_kept",
    "refused",
    "announced",
    "forgotten",
    "moved",
    "skewed",
    "tombstones_dropped",
)
"""What is counted as it happens. `stale_kept`: those of `stale` whose source had said nothing newer; their
words lost, and are kept beside the winners. `moved`: revisions because a name was found to be, or no longer
to be, one of an entity's. Merged fragments are not counted but worked out."""


class StateBus:
    """One picture of the fleet. See the module for how it works, `docs/architecture.md` for where it stands.

    `clock` is the machine's where none is given. `first_revision`: the bus counts on from there; hand it the
    number that `state.revisions` reserved, so that no revision is ever given twice.
    """

    def __init__(
        self, clock: Clock | None = None, *, limits: BusLimits | None = None, first_revision: int = 0
    ) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._limits = limits if limits is not None else BusLimits()
        self._index = Index()
        self._tables = self._index.tables
        self._sources = Sources(self._limits, self._index.sources, self._clock.monotonic)
        self._revision = first_revision
        self._ceiling: float = NEVER
        self._log = ChangeLog(first_revision, self._limits.changes_max)
        self.drift_log = DriftLog(self._limits.drift_max)
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._upkeep = Upkeep(self._index, self._limits, self._counts, self._revise)
        self._tombstones = self._upkeep.tombstones
        self._first_revision = first_revision
        self.links = Links(
            self._index, self._upkeep, self._counts, self._arrival, self._new_cell, self._revise
        )
        """Which names are one entity; see `state.links`. Whoever resolves identities tells it."""
        self.feed = Feed(
            self._log,
            self._clock,
            lambda: self._revision,
            lambda cell: self._view(cell, self._now()),
            self._limits.subscriptions_max,
        )
        """What subscribers read; see `subscribe`."""

    # ---- writing

    def put(self, fragment: StateFragment, received_at: datetime | None = None) -> MergeOutcome:
        """Merge one fragment.

        `received_at` is now where it is not given. Raises `FutureTimestamp`, `BusFull`, `EntityTooWide`,
        `RevisionsExhausted`; a fragment that raises has changed nothing.
        """
        return self._land([fragment], self._arrival(1, received_at), tolerant=False)[0]

    def put_many(
        self, fragments: Iterable[StateFragment], received_at: datetime | None = None
    ) -> list[MergeOutcome]:
        """Merge fragments that arrived together, in their order. One that is refused never loses the others:
        its outcome has the verdict `refused` and the error. Raises only `RevisionsExhausted`, for all."""
        batch = fragments if isinstance(fragments, list) else list(fragments)
        return self._land(batch, self._arrival(len(batch), received_at), tolerant=True)

    def _land(self, batch: list[StateFragment], arrival: Arrival, *, tolerant: bool) -> list[MergeOutcome]:
        """The hot path. What it does itself is the common case: a later word of the only source, with the
        names that it had before. All else goes to `_land_beside` and `_land_slowly`."""
        tables, changed = self._tables, self._log.cells.append
        wall, monotonic = arrival.wall, arrival.monotonic
        outcomes: list[MergeOutcome] = []
        for fragment in batch:
            labels, observed_at = fragment.labels, fragment.observed_at
            try:
                cell = tables[fragment.entity_type][labels.get(SCOPE_LABEL, "")][fragment.entity_id]
            except KeyError:
                cell = None
            if cell is not None and cell.plain:
                before = cell.layers
                old = before[0]
                was, source = old.fragment, old.source
                if (
                    len(before) == 1
                    and source.name == fragment.source
                    and old.observed_at <= observed_at <= wall
                    and was.fields.keys() == fragment.fields.keys()
                    and was.entity_id == fragment.entity_id
                    and (was.labels == labels or was.labels.keys() == labels.keys())
                    and not (was.clear or fragment.clear)
                    and source.heard is not None
                    and 0.0 <= monotonic - source.heard.monotonic <= source.fresh_s
                ):
                    self._revision = revision = self._revision + 1
                    layer = Layer(fragment, observed_at, arrival, revision, source)
                    cell.layers = (layer,)
                    cell.revision = revision
                    source.heard = arrival
                    changed(cell)
                    if monotonic >= cell.sample_at:
                        self._upkeep.sample(cell, arrival)
                    outcomes.append(MergeOutcome(MERGED, fragment, before, layer))
                    continue
            try:
                outcome = (
                    self._land_beside(cell, fragment, arrival) if cell is not None and cell.plain else None
                )
                outcomes.append(outcome or self._land_slowly(cell, fragment, arrival))
            except SteersmanError as error:
                self._counts["refused"] += 1
                if not tolerant:
                    raise
                # Without its traceback, whose frame holds `outcomes`: outcomes are not tracked by the garbage
                # collector, so a ring through one would never be freed.
                outcomes.append(MergeOutcome(REFUSED, fragment, error=error.with_traceback(None)))
        return outcomes

    def _land_beside(self, cell: Cell, fragment: StateFragment, arrival: Arrival) -> MergeOutcome | None:
        """A later word of one of several sources, with the names that it had before; None where it is
        something else. A fresh entity stays fresh by it, so neither freshness nor alarm is worked out."""
        before, observed_at, name = cell.layers, fragment.observed_at, fragment.source
        found, rivalled = -1, False
        for place, layer in enumerate(before):
            if layer.source.name == name and layer.fragment.entity_id == fragment.entity_id:
                found = place
            elif layer.observed_at >= observed_at:
                if layer.observed_at > arrival.wall:
                    return None
                rivalled = True
        if found < 0:
            return None
        old = before[found]
        if not (old.observed_at <= observed_at <= arrival.wall and same_names(fragment, old.fragment)):
            return None
        self._upkeep.hear(old.source, arrival)
        new = Layer(fragment, observed_at, arrival, self._revision + 1, old.source)
        verdict = judge(before, new) if rivalled else MERGED
        cell.layers = (*before[:found], new, *before[found + 1 :])
        self._revise(cell)
        if arrival.monotonic >= cell.sample_at:
            self._upkeep.sample(cell, arrival)
        if verdict != MERGED:
            self._counts[verdict] += 1
            self._counts["stale_kept"] += verdict == STALE
        return MergeOutcome(verdict, fragment, before, new)

    def _land_slowly(self, cell: Cell | None, fragment: StateFragment, arrival: Arrival) -> MergeOutcome:
        """Every other case: a new entity or source, several sources, parts, a clock that was set back."""
        source = self._sources.of(fragment.source, fragment.source_type)
        observed_at = self._moment(fragment.observed_at, arrival, fragment)
        self._upkeep.hear(source, arrival)
        layer = Layer(fragment, observed_at, arrival, self._revision + 1, source)
        if cell is None:
            return self._create(layer, arrival)
        cell.rebase(arrival)
        before = cell.layers
        if cell.rejects(source, fragment, observed_at, self.links.floor(cell, fragment)):
            self._counts["stale"] += 1
            return MergeOutcome(STALE, fragment, before)
        kept = room_made(before, layer, self._limits, arrival)
        check_width(kept, layer, self._limits)
        layers = stacked(kept, layer)
        verdict = judge(before, layer) if before else CREATED
        if not before:
            self.links.revive(cell)
        cell.layers = layers
        self._revise(cell)
        self._upkeep.settle(cell, arrival)
        if arrival.monotonic >= cell.sample_at:
            self._upkeep.sample(cell, arrival)
        if verdict != MERGED:
            self._counts[verdict] += 1
            self._counts["stale_kept"] += verdict == STALE
        return MergeOutcome(verdict, fragment, before, layer)

    def _create(self, layer: Layer, arrival: Arrival) -> MergeOutcome:
        """The first fragment of a key. All its fields have one age, so its freshness needs no roll-up."""
        fragment, source = layer.fragment, layer.source
        check_width((), layer, self._limits)
        cell = self._new_cell(fragment.key)
        cell.layers = (layer,)
        self._revise(cell)
        left_s = source.fresh_s - age_s(layer, arrival)
        if left_s >= 0 and not is_timed(cell.entity_type):
            self._upkeep.note(cell, FRESH, FRESH, arrival.monotonic + left_s)
        else:
            self._upkeep.settle(cell, arrival)
        if arrival.monotonic >= cell.sample_at:
            self._upkeep.sample(cell, arrival)
        self._counts["created"] += 1
        return MergeOutcome(CREATED, fragment, (), layer)

    def forget(
        self,
        entity_type: EntityType,
        entity_id: str,
        scope: str | None = None,
        observed_at: datetime | None = None,
    ) -> bool:
        """The entity is gone since `observed_at` (now, where not given): what was observed up to then goes,
        and what was observed up to then and comes later does not bring it back. Newer observations do.

        True where the entity went. Without a scope: as in `get`. Raises `AmbiguousScope`, `FutureTimestamp`,
        `BusFull`.
        """
        arrival = self._arrival(1)
        when = self._moment(as_utc(observed_at), arrival) if observed_at is not None else arrival.wall
        cell = self._index.find(entity_type, entity_id, scope)
        name = EntityKey(entity_type, (cell.scope if cell and scope is None else scope) or "", entity_id)
        if cell is None:
            cell = self._new_cell(name)
        elif cell.key != name and self.links.has(name):
            # One of its names is gone, not the thing: what was said under that name goes, the rest stays.
            self.links.part(name)
            cell = self._index.own(name) or self._new_cell(name)
        cell.rebase(arrival)
        if cell.floor is not None and when <= cell.floor.observed_at:
            return False
        cell.floor = Stamp(when, arrival, self._revision + 1)
        left = since(cell.layers, when, name if self.links.has_names(cell) else None)
        gone = not left and bool(cell.layers)
        if not left:
            cell.ghost, cell.moved = cell.layers or cell.ghost, None
            self._upkeep.bury(cell, arrival.monotonic)
        changed = left != cell.layers or not left
        cell.layers = left
        if changed:
            self._revise(cell)
            self._counts["forgotten"] += 1
            if left:  # what stays may be of another class, and ages at another time
                self._upkeep.settle(cell, arrival)
        return gone

    # ---- sources

    def declare_source(self, info: SourceInfo) -> None:
        """Say what a source promises; may be repeated with other terms. Raises `BusFull`."""
        known = self._sources.get(info.name)
        before = known.info if known is not None else info
        source = self._sources.declare(info)
        if (before.cadence_s, before.lag_s, before.repeats) != (info.cadence_s, info.lag_s, info.repeats):
            self._upkeep.reconsider(source)

    def report_source(self, name: str, ok: bool, detail: str = "") -> None:
        """An attempt to read a source ended: well, or not (and why). An unknown source is taken as declared
        by this word. Raises `BusFull`."""
        source = self._sources.of(name, name)
        if ok:
            source.failures = 0
            source.detail = detail
            self._upkeep.hear(source, self._now())
        else:
            source.failures += 1
            source.detail = detail

    def source_status(self, name: str) -> SourceStatus | None:
        """One source as it stands; None where nobody ever named it."""
        source = self._sources.get(name)
        return source.status(self._now()) if source is not None else None

    def priority_of(self, name: str) -> int:
        """A source's priority; 0 where nobody ever named it."""
        source = self._sources.get(name)
        return source.rank if source is not None else 0

    def sources(self) -> list[SourceStatus]:
        """All sources, by name."""
        now = self._now()
        return [source.status(now) for source in self._sources.all()]

    # ---- reading

    @property
    def revision(self) -> int:
        """The number of the last change; later changes have larger ones, over restarts too."""
        return self._revision

    @property
    def oldest_revision(self) -> int:
        """Changes after this revision are all remembered; a reader that has reached less must read anew."""
        return self._log.base

    def __len__(self) -> int:
        """Entities, without tombstones."""
        return self._index.count - len(self._tombstones)

    def get(
        self, entity_type: EntityType, entity_id: str, scope: str | None = None, *, deleted: bool = False
    ) -> CanonicalEntity | None:
        """The entity, or None. Without a scope: the only one of that id (`AmbiguousScope` where there are
        several). A deleted one is given only with `deleted`, as it last was, with `deleted_at`."""
        cell = self._index.find(entity_type, entity_id, scope)
        if cell is None or not (cell.layers or deleted):
            return None
        return self._view(cell, self._now())

    def entities(
        self,
        entity_type: EntityType | None = None,
        health: HealthState | None = None,
        scope: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        freshness: str | None = None,
        after: EntityKey | None = None,
        deleted: bool = False,
    ) -> Iterator[CanonicalEntity]:
        """Entities that match all filters, in order of type, scope and id; `after` goes on behind a key.

        A lazy iterator: each entity is as it is when its turn comes. `health` and `freshness` have to look
        at each entity of the other filters, so a caller on an event loop should take it in slices.
        """
        for cell in self._index.ordered(entity_type, scope, after):
            layers = cell.layers
            if not layers and not deleted:
                continue
            if labels and not labels.items() <= merged_labels(layers or cell.ghost).items():
                continue
            entity = self._view(cell, self._now())
            if health is not None and entity.health_state is not health:
                continue
            if freshness is not None and entity.freshness != freshness:
                continue
            yield entity

    def freshness(
        self, entity_type: EntityType, entity_id: str, scope: str | None = None
    ) -> Freshness | None:
        """How current the entity and each of its fields is; None where there is no such entity."""
        cell = self._live(entity_type, entity_id, scope)
        return freshness_of(entity_type, cell.layers, self._now()) if cell is not None else None

    def explain(
        self, entity_type: EntityType, entity_id: str, scope: str | None = None
    ) -> Explanation | None:
        """Every field with its provenance; health and confidence with their reasons. None where there is no
        such entity."""
        cell = self._live(entity_type, entity_id, scope)
        if cell is None:
            return None
        picture = self._picture(cell)._replace(aliases=self.links.aliases(cell))
        return explanation_of(picture, self._now())

    def history(
        self, entity_type: EntityType, entity_id: str, scope: str | None = None
    ) -> EntityHistory | None:
        """Recent samples of its numbers and the changes of its health and states, also where it is deleted;
        None where it was never here. Taken more rarely the more entities there are."""
        cell = self._index.find(entity_type, entity_id, scope)
        if cell is None:
            return None
        history = cell.history.read() if cell.history is not None else EntityHistory()
        lives = self.links.lives(cell)
        return structs.replace(history, lives=lives) if lives else history

    def changed_since(self, revision: int) -> Iterator[CanonicalEntity]:
        """Entities and tombstones whose last change came after `revision`, each once, oldest change first.
        Behind `oldest_revision` the changes are no longer told apart: then everything is given."""
        if self._log.holds(revision):
            cells = self._log.after(revision)
        else:
            cells = iter(sorted(self._index.cells(), key=lambda cell: cell.revision))
        for cell in cells:
            if cell.revision >= 0:
                yield self._view(cell, self._now())

    def subscribe(self, wanted: EntityFilter | None = None, after: int | None = None) -> Subscription:
        """Be told of changes: from now on, or after a revision. Close it when done. Raises `TooMany`."""
        return self.feed.subscribe(wanted, after)

    def drift(self) -> list[DriftSignal]:
        """Values that their fields can't have, with counts: a source's shape changed."""
        return self.drift_log.read()

    def note_drift(self, entity_type: EntityType, field: str, detail: str) -> None:
        """Count a surprise that was met before the bus: whoever cleans fragments puts unknown words right."""
        self.drift_log.note(entity_type, field, detail, self._clock.now())

    def counters(self) -> dict[str, int]:
        """Numbers for metrics: what was merged, refused and dropped since the start, and what is held."""
        counts = self._counts
        written = self._revision - self._first_revision
        written -= counts["announced"] + counts["forgotten"] + counts["moved"]
        return {
            **counts,
            "merged": written - counts["created"] - counts["partial"] - counts["stale_kept"],
            "entities": len(self),
            "tombstones": len(self._tombstones),
            "names": self.links.count,
            "ambiguous": self.links.ambiguous,
            "sources": len(self._sources),
            "drift": len(self.drift_log.read()),
            "drift_dropped": self.drift_log.dropped,
            "subscriptions": len(self.feed),
            "resyncs": self.feed.resyncs,
        }

    # ---- upkeep

    def due_at(self) -> float:
        """Monotonic second at which `sweep` has something to do; infinite where nothing ages."""
        return self._upkeep.due_at(self._now())

    def sweep(self, entities_max: int = SWEEP_MAX) -> int:
        """Look at the entities that are due, at most so many; how many were looked at.

        Those whose freshness changed without a word from anybody get a new revision, so that the feed tells
        of them. Call it until it returns less than `entities_max`, then again at `due_at`.
        """
        self._log.trim()
        return self._upkeep.sweep(self._now(), entities_max)

    def flush(self) -> bool:
        """Let subscribers see all changes so far; whether there were any. `pump` calls it."""
        return self.feed.flush()

    async def pump(self) -> None:
        """Keep the bus turning (age, then flush) until cancelled: the one task that it needs on a loop."""
        pump = Pump(self.feed, self._clock, lambda: self.sweep() >= SWEEP_MAX)
        await pump.run()

    # ---- for the checkpoint

    def moment(self) -> Arrival:
        """Now, on both clocks."""
        return self._now()

    def cells(self) -> list[Cell]:
        """All entities and tombstones as the bus holds them; to be read, not changed."""
        return list(self._index.cells())

    def tombstone_left_s(self, cell: Cell) -> float:
        """How much longer a tombstone is remembered."""
        return self._tombstones.left_s(cell, self._now().monotonic)

    def source_of(self, name: str, source_type: str) -> Source:
        """The record of a source, made where it is new. Raises `BusFull`."""
        return self._sources.of(name, source_type)

    def adopt(
        self,
        cell: Cell,
        now: Arrival,
        tombstone_left_s: float,
        ties: Iterable[tuple[EntityKey, Tie]] = (),
        lives: Iterable[tuple[EntityKey, Life]] = (),
    ) -> bool:
        """Take in an entity from a checkpoint, with revision, names and lives it had; False where one is here
        already.

        For the start, before fragments come. Raises `BusFull`.
        """
        key = cell.key
        if self._index.own(key) is not None:
            return False
        if self._index.count >= self._limits.entities_max:
            raise BusFull(f"{key} does not fit in", limit=self._limits.entities_max)
        self.links.adopt(cell, ties, lives)
        cell.sample_at = self._upkeep.sampler.first_at(self._index.count)
        for layer in cell.layers:
            heard = layer.source.heard
            if heard is None or heard.monotonic < layer.arrival.monotonic:
                layer.source.heard = layer.arrival
        if cell.layers:
            self._upkeep.settle(cell, now)
        else:
            self._upkeep.bury(cell, now.monotonic, tombstone_left_s)
        return True

    def grant_revisions(self, ceiling: int) -> None:
        """Revisions up to `ceiling` are reserved in the store: further than that the bus does not count."""
        self._ceiling = ceiling

    # ---- inside

    def _now(self) -> Arrival:
        return Arrival(self._clock.now(), self._clock.monotonic())

    def _arrival(self, count: int, received_at: datetime | None = None) -> Arrival:
        """The moment at which `count` fragments come in, after the checks made once for all of them."""
        if self._revision + count > self._ceiling:
            raise RevisionsExhausted(
                f"revision {self._revision} is the last that was reserved; the store must be writable again"
            )
        self._log.trim()
        now = self._now()
        if received_at is None:
            return now
        received_at = as_utc(received_at)
        past_s = max(0.0, (now.wall - received_at).total_seconds())
        return Arrival(min(received_at, now.wall), now.monotonic - past_s)

    def _live(self, entity_type: EntityType, entity_id: str, scope: str | None) -> Cell | None:
        cell = self._index.find(entity_type, entity_id, scope)
        return cell if cell is not None and cell.layers else None

    def _moment(self, stamp: datetime, arrival: Arrival, fragment: StateFragment | None = None) -> datetime:
        """The time a stamp counts as: our own where it lies a little ahead of our clock."""
        if stamp <= arrival.wall:
            return stamp
        ahead_s = (stamp - arrival.wall).total_seconds()
        if ahead_s > self._limits.skew_max_s:
            what = (
                f"{fragment.key} from source {fragment.source!r}" if fragment is not None else "the deletion"
            )
            raise FutureTimestamp(
                f"{what}: observed_at {stamp.isoformat()} is {ahead_s:.0f} s ahead of our clock "
                f"{arrival.wall.isoformat()}; at most {self._limits.skew_max_s:.0f} s are put right. "
                "Set the clocks by NTP",
                observed_at=stamp.isoformat(),
                received_at=arrival.wall.isoformat(),
            )
        self._counts["skewed"] += 1
        return arrival.wall

    def _new_cell(self, key: EntityKey) -> Cell:
        limit = self._limits.entities_max
        if self._index.count >= limit and not self._upkeep.make_room():
            raise BusFull(
                f"{key} is one too many: the bus holds {limit} entities; raise the limit or forget some",
                limit=limit,
            )
        cell = Cell(*key)
        self._index.add(cell)
        cell.sample_at = self._upkeep.sampler.first_at(self._index.count)
        return cell

    def _revise(self, cell: Cell) -> None:
        self._revision += 1
        cell.revision = self._revision
        self._log.cells.append(cell)

    def _view(self, cell: Cell, now: Arrival) -> CanonicalEntity:
        return entity_of(self._picture(cell), now, self.note_drift)

    def _picture(self, cell: Cell) -> Picture:
        layers = cell.layers or cell.ghost
        if not self.links.busy:
            return Picture(cell.key, layers, cell.revision, cell.deleted_at)
        return self.links.picture(cell, layers)
