"""Finding cells and going through them in order, whatever came and went in between."""

from __future__ import annotations

from bus_facts import GPU, NODE
from hypothesis import given
from hypothesis import strategies as st

from steersman.kinds.entity import EntityKey, EntityType
from steersman.state.cell import Cell
from steersman.state.index import Index

keys = st.builds(
    EntityKey, st.sampled_from([NODE, GPU]), st.sampled_from(["", "a", "b"]), st.sampled_from("pqrstuvw")
)
ORDER = list(EntityType)


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "read"]), keys), max_size=80), keys)
def test_the_order_is_that_of_a_sorted_list_at_every_moment(
    steps: list[tuple[str, EntityKey]], after: EntityKey
) -> None:
    index = Index()
    model: dict[EntityKey, Cell] = {}

    def place(key: EntityKey) -> tuple[int, str, str]:
        return ORDER.index(key.entity_type), key.scope, key.entity_id

    for step, key in steps:
        if step == "add" and key not in model:
            model[key] = Cell(*key)
            index.add(model[key])
        elif step == "remove" and key in model:
            index.remove(model.pop(key))
        elif step == "read":
            expected = sorted(model, key=place)
            assert [cell.key for cell in index.ordered()] == expected
            behind = [k for k in expected if place(k) > place(after)]
            assert [cell.key for cell in index.ordered(after=after)] == behind
            scoped = [k for k in expected if k.entity_type is NODE and k.scope == "a"]
            assert [cell.key for cell in index.ordered(NODE, "a")] == scoped
    assert index.count == len(model)
    assert {cell.key for cell in index.cells()} == model.keys()
    for key, cell in model.items():
        assert index.find(key.entity_type, key.entity_id, key.scope) is cell


def test_a_reader_is_not_disturbed_by_what_comes_and_goes() -> None:
    index = Index()
    cells = {name: Cell(NODE, "", name) for name in "abcdef"}
    for name in "abdf":
        index.add(cells[name])
    seen: list[str] = []
    for cell in index.ordered(NODE):
        seen.append(cell.entity_id)
        if cell.entity_id == "a":
            index.remove(cells["b"])
            index.add(cells["e"])
            assert [c.key.entity_id for c in index.ordered(NODE)] == ["a", "d", "e", "f"]
    assert seen == ["a", "d", "f"]
