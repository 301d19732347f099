"""Finding cells: by type, scope and id, in a steady order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from steersman.kinds.entity import EntityKey, EntityType
from steersman.state.cell import Cell
from steersman.state.limits import AmbiguousScope


class Index:
    """Cells of live entities and of tombstones. `tables` is open to the bus's write path, which reads it
    directly; only this class changes it.

    An entity may have further names (`lead`): these lead to its cell too, and what is said of them lands
    there. A name that had a cell of its own before keeps it, as a tombstone, in `moved`.
    """

    __slots__ = ("_new", "_orders", "_removed", "count", "moved", "names", "tables")

    def __init__(self) -> None:
        self.tables: dict[EntityType, dict[str, dict[str, Cell]]] = {t: {} for t in EntityType}
        self.count = 0
        self.moved: dict[EntityKey, Cell] = {}
        self.names: dict[EntityKey, set[EntityKey]] = {}
        """The further names of each entity that has any."""
        self._orders: dict[tuple[EntityType, str], list[str]] = {}
        self._new: dict[tuple[EntityType, str], list[str]] = {}
        self._removed: set[tuple[EntityType, str]] = set()

    def add(self, cell: Cell) -> None:
        """Take in a new cell."""
        entity_type, scope, entity_id = cell.entity_type, cell.scope, cell.entity_id
        self.tables[entity_type].setdefault(scope, {})[entity_id] = cell
        place = (entity_type, scope)
        if place in self._orders:
            self._new.setdefault(place, []).append(entity_id)
        self.count += 1

    def remove(self, cell: Cell) -> None:
        """Let a cell go, and the further names that lead to it."""
        key = cell.key
        if self.moved.get(key) is cell:
            del self.moved[key]
        else:
            for name in self.names.pop(key, ()):
                own = self.moved.pop(name, None)
                if own is None:
                    self._take_out(name)
                else:
                    self._put_in(name, own)
            if self.own(key) is cell:
                self._take_out(key)
        self.count -= 1

    def own(self, key: EntityKey) -> Cell | None:
        """The cell of that very name, whatever the name leads to."""
        cell = self.place(key)
        if cell is not None and cell.entity_id == key.entity_id and cell.scope == key.scope:
            return cell
        return self.moved.get(key)

    def place(self, name: EntityKey) -> Cell | None:
        """The cell that a name leads to."""
        return self.tables[name.entity_type].get(name.scope, {}).get(name.entity_id)

    def unlead(self, name: EntityKey) -> None:
        """Let a further name lead to its own cell again, or nowhere where it has none."""
        cell = self.place(name)
        if cell is None or cell.key == name:
            return
        names = self.names.get(cell.key, set())
        names.discard(name)
        if not names:
            self.names.pop(cell.key, None)
        own = self.moved.pop(name, None)
        if own is None:
            self._take_out(name)
        else:
            self._put_in(name, own)

    def lead(self, name: EntityKey, cell: Cell) -> None:
        """Let a name lead to a cell: a further name of it, or its own again."""
        before = self.place(name)
        if before is cell:
            return
        key = cell.key
        if before is not None:
            if before.entity_id == name.entity_id and before.scope == name.scope:
                self.moved[name] = before
            else:
                names = self.names.get(before.key, set())
                names.discard(name)
                if not names:
                    self.names.pop(before.key, None)
        self._put_in(name, cell)
        if name == key:
            self.moved.pop(name, None)
        else:
            self.names.setdefault(key, set()).add(name)
            cell.mixed = cell.mixed or name.scope != cell.scope

    def add_moved(self, cell: Cell) -> None:
        """Take in the tombstone of a name that leads elsewhere."""
        self.moved[cell.key] = cell
        self.count += 1

    def _put_in(self, name: EntityKey, cell: Cell) -> None:
        cells = self.tables[name.entity_type].setdefault(name.scope, {})
        place = (name.entity_type, name.scope)
        if name.entity_id not in cells and place in self._orders:
            self._new.setdefault(place, []).append(name.entity_id)
        cells[name.entity_id] = cell

    def _take_out(self, name: EntityKey) -> None:
        entity_type, scope, entity_id = name
        cells = self.tables[entity_type].get(scope, {})
        if cells.pop(entity_id, None) is None:
            return
        if not cells:
            del self.tables[entity_type][scope]
            self._orders.pop((entity_type, scope), None)
            self._new.pop((entity_type, scope), None)
        elif (entity_type, scope) in self._orders:
            self._removed.add((entity_type, scope))

    def find(self, entity_type: EntityType, entity_id: str, scope: str | None) -> Cell | None:
        """The cell; without a scope, the only one of that id. A live one goes before tombstones. Raises
        `AmbiguousScope`."""
        scopes = self.tables[entity_type]
        if scope is not None:
            return scopes.get(scope, {}).get(entity_id)
        found = list(
            {
                id(cells[entity_id]): cells[entity_id] for cells in scopes.values() if entity_id in cells
            }.values()
        )
        live = [cell for cell in found if cell.layers]
        if len(live) > 1:
            names = sorted(cell.scope for cell in live)
            raise AmbiguousScope(
                f"{entity_type.value} {entity_id!r} exists in {len(names)} scopes "
                f"({', '.join(repr(name) for name in names[:10])}); name one",
                scopes=names,
            )
        if live:
            return live[0]
        return max(found, key=lambda cell: cell.revision, default=None)

    def ordered(
        self, entity_type: EntityType | None = None, scope: str | None = None, after: EntityKey | None = None
    ) -> Iterator[Cell]:
        """Cells in order of type (as declared), scope and id, those behind `after`. What is added or removed
        while this is read may or may not be among them."""
        start = _place(after) if after is not None else None
        for kind in EntityType if entity_type is None else (entity_type,):
            scopes = self.tables[kind]
            for name in sorted(scopes) if scope is None else (scope,):
                if start is not None and (_PLACES[kind], name) < start[:2]:
                    continue
                ids = self._order(kind, name)
                first = 0
                if start is not None and (_PLACES[kind], name) == start[:2]:
                    first = bisect_right(ids, start[2])
                cells = scopes.get(name, {})
                for i in range(first, len(ids)):
                    cell = cells.get(ids[i])
                    if cell is None:
                        continue
                    if cell.entity_id == ids[i] and cell.scope == name:
                        yield cell
                    elif (moved := self.moved.get(EntityKey(kind, name, ids[i]))) is not None:
                        yield moved

    def cells(self) -> Iterator[Cell]:
        """All of them, in order of creation within each type and scope; not to be changed meanwhile."""
        named = bool(self.names)
        for scopes in self.tables.values():
            for scope, cells in scopes.items():
                if named:
                    yield from (c for n, c in cells.items() if c.entity_id == n and c.scope == scope)
                else:
                    yield from cells.values()
        yield from self.moved.values()

    def sources(self) -> set[str]:
        """The names of all sources that hold something."""
        return {layer.source.name for cell in self.cells() for layer in (*cell.layers, *cell.ghost)}

    def _order(self, entity_type: EntityType, scope: str) -> list[str]:
        """The ids in order. What came since the last time is sorted in, which is cheap for a list that is in
        order but for its end; a list that was handed out is never changed."""
        place = (entity_type, scope)
        ids = self._orders.get(place)
        cells = self.tables[entity_type].get(scope, {})
        new = self._new.pop(place, None)
        if ids is None:
            ids = self._orders[place] = sorted(cells)
        elif place in self._removed:
            ids = self._orders[place] = sorted(
                id for id in dict.fromkeys((*ids, *(new or ()))) if id in cells
            )
        elif new:
            ids = self._orders[place] = sorted((*ids, *new))
        self._removed.discard(place)
        return ids


_PLACES = {entity_type: place for place, entity_type in enumerate(EntityType)}


def _place(key: EntityKey) -> tuple[int, str, str]:
    return _PLACES[key.entity_type], key.scope, key.entity_id
