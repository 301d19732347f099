"""What readers of one mapping have in common, and that it is let go with the last of them."""

from __future__ import annotations

import gc
from weakref import ref

import pytest

from steersman.drivers.exposition import rules
from steersman.drivers.exposition.mapping import Mapping, open_mapping
from steersman.drivers.exposition.rules import rules_of


def test_readers_of_the_same_mappings_share_their_rules() -> None:
    dcgm, nodes = open_mapping("dcgm"), open_mapping("node-exporter")
    assert rules_of([dcgm, nodes]) is rules_of((dcgm, nodes))
    assert rules_of([dcgm]) is not rules_of([nodes])


def test_rules_that_nobody_uses_are_let_go_with_their_mapping() -> None:
    made = Mapping("own", {}, [])
    kept = rules_of([made])
    assert rules_of([made]) is kept
    gone, size = ref(kept), len(rules._all_rules)
    del kept
    gc.collect()
    assert gone() is None
    assert len(rules._all_rules) < size


def test_what_is_shared_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "SHARED_MAX", 5)
    found = rules_of([open_mapping("dcgm")])
    table = found.by_metric["DCGM_FI_DEV_FB_USED"][0].entity
    for number in range(30):
        assert found.same(("x", number)) == ("x", number)
        assert table.calculations(frozenset([f"f{number}"])) == ()
        assert len(found._same) <= 5
        assert len(table._calculations) <= 5
    names = frozenset(["_used", "_free", "_reserved"])
    assert [derived.field for derived, _ in table.calculations(names)] == ["gpu_memory_total"]
    assert table.calculations(names) is table.calculations(frozenset(sorted(names)))
