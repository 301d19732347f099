"""The fake's record of who wrote which field, as a real server keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from kube_cluster import node_json

from steersman.drivers.kubernetes.fake import FakeApiServer
from steersman.drivers.kubernetes.ours import writers


def change(fake: FakeApiServer, by: str, **spec: Any) -> dict[str, Any]:
    return fake.change("nodes", {"metadata": {"name": "n1"}}, manager=by, spec=spec)


@pytest.fixture
def fake() -> FakeApiServer:
    made = FakeApiServer()
    made.create("nodes", node_json("n1"))
    return made


def test_whoever_changed_a_field_last_has_it_alone(fake: FakeApiServer) -> None:
    assert writers(change(fake, "a", unschedulable=True), "spec", "unschedulable") == ["a"]
    same = change(fake, "b", unschedulable=True, podCIDR="10.0.0.0/24")
    assert writers(same, "spec", "unschedulable") == ["a"]
    assert writers(same, "spec", "podCIDR") == ["b"]
    assert writers(change(fake, "b", podCIDR="10.0.0.0/24"), "spec", "unschedulable") == []
    again = change(fake, "c", unschedulable=True, podCIDR="10.0.0.0/24")
    assert writers(again, "spec", "unschedulable") == ["c"]
    assert writers(again, "spec", "podCIDR") == ["b"]


def test_a_list_of_taints_is_one_field(fake: FakeApiServer) -> None:
    first = {"key": "x", "effect": "NoSchedule"}
    change(fake, "a", taints=[first])
    both = change(fake, "b", taints=[first, {"key": "y", "effect": "NoSchedule"}])
    assert writers(both, "spec", "taints") == ["b"]


def test_a_manager_has_one_entry_whose_time_is_that_of_its_last_change(fake: FakeApiServer) -> None:
    change(fake, "a", unschedulable=True)
    record = change(fake, "a", unschedulable=True, podCIDR="x")["metadata"]["managedFields"]
    assert [entry["manager"] for entry in record] == ["fake", "a"]
    assert record[1]["fieldsV1"] == {"f:spec": {"f:podCIDR": {}, "f:unschedulable": {}}}
    assert {entry["operation"] for entry in record} == {"Update"}
