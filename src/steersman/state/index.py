"""Finding cells: by type, scope and id, in a steady order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from steersman.kinds.entity import EntityKey, EntityType
from steersman.state.cell import Cell
from steersman.state.limits import AmbiguousScope


class Index:
    """Cells of live entities and of tombstones. `tables` is open to the bus's write path, which reads it
    directly; only `add` and `remove` change it."""

    __slots__ = ("_new", "_orders", "_removed", "count", "tables")

    def __init__(self) -> None:
        self.tables: dict[EntityType, dict[str, dict[str, Cell]]] = {t: {} for t in EntityType}
        self.count = 0
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
        """Let a cell go."""
        entity_type, scope, entity_id = cell.entity_type, cell.scope, cell.entity_id
        cells = self.tables[entity_type][scope]
        del cells[entity_id]
        if not cells:
            del self.tables[entity_type][scope]
            self._orders.pop((entity_type, scope), None)
            self._new.pop((entity_type, scope), None)
        elif (entity_type, scope) in self._orders:
            self._removed.add((entity_type, scope))
        self.count -= 1

    def find(self, entity_type: EntityType, entity_id: str, scope: str | None) -> Cell | None:
        """The cell; without a scope, the only one of that id. A live one goes before tombstones. Raises
        `AmbiguousScope`."""
        scopes = self.tables[entity_type]
        if scope is not None:
            return scopes.get(scope, {}).get(entity_id)
        found = [cells[entity_id] for cells in scopes.values() if entity_id in cells]
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
                    if cell is not None:
                        yield cell

    def cells(self) -> Iterator[Cell]:
        """All of them, in order of creation within each type and scope; not to be changed meanwhile."""
        for scopes in self.tables.values():
            for cells in scopes.values():
                yield from cells.values()

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
