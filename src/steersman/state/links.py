"""Names of entities: which names are one thing, as whoever resolves identities says (decision 0042).

The bus keeps what was said of each name apart, source by source, also where several names lead to one entity.
So a name can be counted to an entity, and away from it again, without loss: what moves is exactly what was
said under that name. A name that had an entity of its own before leaves a tombstone that says which entity it
is now. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from msgspec import Struct, structs

from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.explanation import Alias, Ambiguity, LifeChange
from steersman.kinds.fragment import StateFragment
from steersman.state.cell import Cell, Moved
from steersman.state.confidence import Refer
from steersman.state.index import Index
from steersman.state.layer import Arrival, Layer, Stamp, named, since
from steersman.state.lives import Life, Lives
from steersman.state.upkeep import Upkeep
from steersman.state.view import Picture


class Tie(Struct, frozen=True):
    """Why a name is one of an entity's, and since when."""

    to: EntityKey
    rule: str
    evidence: str
    since: datetime


class Links:
    """The names of one bus's entities. `arrival` gives the moment of so many revisions, `new_cell` makes a
    cell within the bus's bounds, `revise` gives a cell its next revision."""

    def __init__(
        self,
        index: Index,
        upkeep: Upkeep,
        counts: dict[str, int],
        arrival: Callable[[int], Arrival],
        new_cell: Callable[[EntityKey], Cell],
        revise: Callable[[Cell], None],
    ) -> None:
        self._index = index
        self._upkeep = upkeep
        self._counts = counts
        self._arrival = arrival
        self._new_cell = new_cell
        self._revise = revise
        self._ties: dict[EntityKey, Tie] = {}
        self._doubts: dict[EntityKey, tuple[Ambiguity, ...]] = {}
        self._hollow: list[Cell] = []
        self._refers: dict[str, Refer] = {}
        self._lives = Lives()

    # ---- what is told

    def tie(self, name: EntityKey, to: EntityKey, rule: str, evidence: str) -> bool:
        """`name` is a name of the entity `to` from now on: what was and will be said of it counts there.
        Whether that is news. Raises `BusFull`, `RevisionsExhausted`; then nothing was changed."""
        known = self._ties.get(name)
        if known is not None and known.to == to:
            if (known.rule, known.evidence) != (rule, evidence):
                self._ties[name] = structs.replace(known, rule=rule, evidence=evidence)
            return False
        self.part(to)
        arrival = self._arrival(2)
        target = self._index.own(to)
        if target is None:
            target = self._new_cell(to)
            self._hollow.append(target)
        here = self._index.place(name)
        self._ties[name] = Tie(to, rule, evidence, arrival.wall)
        self._index.lead(name, target)
        if here is not None and here is not target:
            self._carry(name, here, target, arrival)
        self._upkeep.rename(name)
        return True

    def part(self, name: EntityKey) -> bool:
        """`name` stands for itself again, with what was said of it; whether it did not. Raises as `tie`."""
        if name not in self._ties:
            return False
        arrival = self._arrival(2)
        here = self._index.place(name)
        del self._ties[name]
        self._index.unlead(name)
        if here is not None and any(named(layer, name) for layer in here.layers):
            own = self._index.own(name) or self._new_cell(name)
            self._carry(name, here, own, arrival)
        self._upkeep.rename(name)
        return True

    def doubt(self, key: EntityKey, ambiguities: tuple[Ambiguity, ...]) -> None:
        """What is in doubt about an entity; nothing, where that is empty."""
        if self._doubts.get(key, ()) == ambiguities:
            return
        if ambiguities:
            self._doubts[key] = ambiguities
        else:
            del self._doubts[key]
        cell = self._index.own(key)
        if cell is not None and cell.layers:
            self._arrival(1)
            self._revise(cell)
            self._counts["moved"] += 1

    def renew(self, name: EntityKey, when: datetime) -> None:
        """Another thing has that name since then: what was observed of its entity up to then was of the one
        before, under whatever name, and goes; what is observed later counts, though the name was deleted."""
        arrival = self._arrival(1)
        cell = self._index.place(name)
        own = self._index.own(name)
        stamp = Stamp(min(when, arrival.wall), arrival, cell.revision if cell is not None else 0)
        self._lives.begin(name, stamp)
        if own is not None:
            own.floor = stamp
        if cell is None:
            return
        cell.rebase(arrival)
        left = since(cell.layers, stamp.observed_at)
        if left == cell.layers:
            return
        if left:
            cell.layers = left
            self._upkeep.settle(cell, arrival)
        else:
            cell.ghost, cell.layers = cell.layers, ()
            cell.floor = cell.floor or stamp
            self._upkeep.bury(cell, arrival.monotonic)
        self._revise(cell)
        self._counts["forgotten"] += 1

    def note_life(self, name: EntityKey, field: str, before: str, after: str) -> None:
        """Remember that the name is another thing now: `field` told it."""
        self._lives.note(name, LifeChange(self._arrival(0).wall, name.entity_id, field, before, after))

    def end(self, name: EntityKey, field: str, value: Any) -> None:
        """The life of the name that this id tells is over, and does not come back."""
        self._lives.end(name, field, value)

    def ended(self, name: EntityKey) -> tuple[tuple[str, Any], ...]:
        """Field and value of the ids of the name's lives that are over."""
        return self._lives.ended(name)

    def lives(self, cell: Cell) -> tuple[LifeChange, ...]:
        """When one of the entity's names became another thing, oldest first."""
        return self._lives.changes(self._names(cell))

    def kept_lives(self, cell: Cell) -> list[tuple[EntityKey, Life]]:
        """What is remembered of the lives of an entity's names, for a checkpoint."""
        return self._lives.kept(self._names(cell))

    def tidy(self) -> None:
        """Let go of entities that were made to receive a name, and got nothing after all."""
        for cell in self._hollow:
            if not cell.layers and cell.revision == 0:
                for name in self._index.names.get(cell.key, ()):
                    self._ties.pop(name, None)
                self._index.remove(cell)
        self._hollow.clear()

    # ---- what is asked

    @property
    def busy(self) -> bool:
        """Whether there is anything to say at all."""
        return bool(self._ties or self._doubts or self._index.moved)

    @property
    def count(self) -> int:
        """Names that lead to an entity of another name."""
        return len(self._ties)

    @property
    def ambiguous(self) -> int:
        """Entities of which something is in doubt."""
        return len(self._doubts)

    def has(self, name: EntityKey) -> bool:
        """Whether the name leads to an entity of another name."""
        return name in self._ties

    def is_doubted(self, key: EntityKey) -> bool:
        """Whether something is in doubt about an entity."""
        return key in self._doubts

    def has_names(self, cell: Cell) -> bool:
        """Whether the entity has further names."""
        return bool(self._index.names) and cell.key in self._index.names

    def entity(self, name: EntityKey) -> EntityKey:
        """The entity that a name leads to; the name itself where it leads nowhere."""
        tie = self._ties.get(name)
        return tie.to if tie is not None else name

    def ties(self, key: EntityKey) -> list[tuple[EntityKey, Tie]]:
        """The further names of an entity, in order."""
        names = self._index.names.get(key)
        return [(name, self._ties[name]) for name in sorted(names) if name in self._ties] if names else []

    def called(self, name: EntityKey, source: str) -> set[str]:
        """The ids by which a source reports the entity that a name leads to; none where it does not."""
        cell = self._index.place(name)
        layers = cell.layers if cell is not None else ()
        return {layer.fragment.entity_id for layer in layers if layer.source.name == source}

    def picture(self, cell: Cell, layers: tuple[Layer, ...]) -> Picture:
        """What views are made from, with all that names add to it."""
        moved = cell.moved if not cell.layers else None
        return Picture(
            cell.key,
            layers,
            cell.revision,
            cell.deleted_at,
            moved.entity_id if moved is not None else "",
            (),
            self._doubts.get(cell.key, ()) if self._doubts else (),
            self._refer_in(cell.scope) if self._ties else None,
        )

    def aliases(self, cell: Cell) -> tuple[Alias, ...]:
        """The further names of an entity, and who speaks of it by them."""
        return tuple(
            Alias(
                name.entity_id,
                name.scope,
                tie.rule,
                tie.evidence,
                tie.since,
                tuple(sorted({layer.source.name for layer in cell.layers if named(layer, name)})),
            )
            for name, tie in self.ties(cell.key)
        )

    # ---- for the bus

    def floor(self, cell: Cell, fragment: StateFragment) -> Stamp | None:
        """When what a fragment names, and lands in that cell, was last deleted."""
        if not (self._ties or self._lives):
            return cell.floor
        name = fragment.key
        own = cell if cell.key == name else self._index.moved.get(name)
        floor = own.floor if own is not None else None
        begun = self._begin(cell)
        if begun is not None and (floor is None or floor.observed_at < begun.observed_at):
            return begun
        return floor

    def revive(self, cell: Cell) -> None:
        """It lives again."""
        cell.ghost, cell.moved = (), None
        self._upkeep.tombstones.dig_up(cell)

    def adopt(
        self,
        cell: Cell,
        ties: Iterable[tuple[EntityKey, Tie]] = (),
        lives: Iterable[tuple[EntityKey, Life]] = (),
    ) -> None:
        """Take in a cell from a checkpoint, with its further names and what is known of their lives."""
        for name, life in lives:
            self._lives.restore(name, life)
        if self._index.place(cell.key) is None:
            self._index.add(cell)
        else:
            self._index.add_moved(cell)
        for name, tie in ties:
            own = self._index.own(name)
            if own is None or not own.layers:
                self._index.lead(name, cell)
                self._ties[name] = tie

    # ---- inside

    def _begin(self, cell: Cell) -> Stamp | None:
        """When the entity's present life began, by the latest of its names; None where it had no other."""
        return self._lives.begun(self._names(cell)) if self._lives else None

    def _names(self, cell: Cell) -> tuple[EntityKey, ...]:
        return (cell.key, *self._index.names.get(cell.key, ()))

    def _carry(self, name: EntityKey, here: Cell, to: Cell, arrival: Arrival) -> None:
        """Take what was said of a name from one cell to another."""
        here.rebase(arrival)
        to.rebase(arrival)
        moving = tuple(layer for layer in here.layers if named(layer, name))
        if here.key == name and len(moving) == len(here.layers):
            self._upkeep.sampler.take_over(to, here, whole=True)
        if not moving:
            return
        begun = self._begin(to)
        kept = moving if begun is None else since(moving, begun.observed_at)
        here.layers = tuple(layer for layer in here.layers if not named(layer, name))
        self._upkeep.sampler.take_over(to, here, whole=False)
        if begun is not None and to.layers:
            to.layers = since(to.layers, begun.observed_at)
        if kept and not to.layers:
            self.revive(to)
        to.layers = (*to.layers, *kept)
        if to.layers:
            self._tell(to, arrival)
        if here.layers:
            self._tell(here, arrival)
            return
        here.ghost = moving
        if here.key == name or here.floor is None:
            here.moved = Moved(to.scope, to.entity_id, Stamp(arrival.wall, arrival, here.revision))
        self._upkeep.bury(here, arrival.monotonic)
        self._upkeep.sampler.note_absence(here, arrival.wall)
        self._revise(here)
        self._counts["moved"] += 1

    def _tell(self, cell: Cell, arrival: Arrival) -> None:
        self._revise(cell)
        self._counts["moved"] += 1
        if (
            cell.history is not None
        ):  # of a fleet that comes at once the first samples are spread, see sampler
            self._upkeep.sampler.note(cell, arrival)
        self._upkeep.settle(cell, arrival)

    def _refer_in(self, scope: str) -> Refer:
        refer = self._refers.get(scope)
        if refer is None:
            refer = self._refers[scope] = partial(self._refer, scope)
        return refer

    def _refer(self, scope: str, entity_type: EntityType, name: str) -> str:
        cell = self._index.tables[entity_type].get(scope, {}).get(name)
        return cell.entity_id if cell is not None else name
