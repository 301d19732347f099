"""GPUs as DRA shows them: generations, whole pools, taints, versions of the API, holders."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kube_shapes import checked, meta, shaped

from steersman.drivers.kubernetes.addons import DeviceTaintRule, ResourceClaim, ResourceSlice
from steersman.drivers.kubernetes.devices import (
    DeviceKey,
    Gpu,
    by_node,
    gpu_fact,
    read_devices,
    read_holders,
)
from steersman.drivers.kubernetes.nodes import NodeDevices

DRIVER = "gpu.nvidia.com"


def device(name: str, **given: Any) -> dict[str, Any]:
    attributes = {
        "uuid": {"string": f"GPU-{name}"},
        "type": {"string": "gpu"},
        "productName": {"string": "NVIDIA H100"},
        "index": {"int": 3},
        "driverVersion": {"version": "570.1.2"},
        **given.pop("attributes", {}),
    }
    return {"name": name, "attributes": attributes, "capacity": {"memory": {"value": "80Gi"}}, **given}


def part(name: str, *devices: dict[str, Any], generation: int = 1, of: int = 1, **spec: Any) -> ResourceSlice:
    pool = {"name": spec.pop("pool", "n1"), "generation": generation, "resourceSliceCount": of}
    given = {"driver": DRIVER, "pool": pool, "nodeName": "n1", "devices": list(devices), **spec}
    return shaped(ResourceSlice, metadata=meta(name), spec=given)


def names(*slices: ResourceSlice) -> list[str]:
    return [gpu.key.device for gpu in read_devices(slices).gpus]


def test_only_the_newest_generation_counts_and_only_when_it_is_whole() -> None:
    old = part("a", device("d1"), device("d2"))
    half = part("b", device("d1"), generation=2, of=2)
    rest = part("c", device("d3"), generation=2, of=2)
    assert names(old) == ["d1", "d2"]
    assert read_devices([old, half]).gpus == ()
    assert read_devices([old, half]).incomplete == ("gpu.nvidia.com/n1",)
    assert names(old, half, rest) == ["d1", "d3"]
    assert read_devices([half, rest]).incomplete == ()


def test_pools_are_each_their_own_and_other_drivers_are_no_gpus() -> None:
    other = part("b", device("d1"), pool="n2", nodeName="n2")
    network = part("c", device("nic"), driver="dra.net")
    assert names(part("a", device("d1")), other, network) == ["d1", "d1"]
    assert read_devices([network], drivers=["dra.net"]).gpus != ()


@given(st.permutations([("a", 1, 1), ("b", 2, 2), ("c", 2, 2), ("d", 3, 1)]))
def test_the_order_of_slices_does_not_matter(order: list[tuple[str, int, int]]) -> None:
    slices = [part(name, device(name), generation=generation, of=of) for name, generation, of in order]
    assert names(*slices) == ["d"]


def one(**given: Any) -> Gpu:
    return read_devices([part("a", device("d1", **given))]).gpus[0]


def test_a_gpu_is_known_by_its_uuid_and_without_one_by_its_place() -> None:
    fact = gpu_fact(one(), {}, None)
    found = checked(fact)
    assert fact.entity_id == "GPU-d1"
    assert (found["device"], found["node"], found["gpu_index"]) == ("gpu.nvidia.com/n1/d1", "n1", 3)
    assert (found["model_name"], found["driver_version"]) == ("NVIDIA H100", "570.1.2")
    assert found["gpu_memory_total"] == 80 * 2**30
    assert found["schedulable"] is True
    assert gpu_fact(one(attributes={"uuid": {"string": ""}}), {}, None).entity_id == "gpu.nvidia.com/n1/d1"
    assert gpu_fact(one(attributes={"uuid": {}}), {}, None).entity_id == "gpu.nvidia.com/n1/d1"


def test_attributes_may_have_a_domain_and_an_early_version_has_them_elsewhere() -> None:
    bare = {"name": "d1", "attributes": {f"{DRIVER}/uuid": {"string": "GPU-q"}}}
    assert read_devices([part("a", bare)]).gpus[0].uuid == "GPU-q"
    basic = {"attributes": {"uuid": {"string": "GPU-b"}}, "capacity": {"memory": "40Gi"}}
    early = read_devices([part("a", {"name": "d1", "basic": basic})]).gpus[0]
    assert early.uuid == "GPU-b"
    assert checked(gpu_fact(early, {}, None))["gpu_memory_total"] == 40 * 2**30


def test_a_mig_device_is_a_part_and_no_gpu() -> None:
    attributes = {
        "type": {"string": "mig"},
        "parentUUID": {"string": "GPU-p"},
        "profile": {"string": "1g.10gb"},
    }
    gpu = one(attributes=attributes)
    found = checked(gpu_fact(gpu, {}, None))
    assert (found["parent_gpu"], found["mig_profile"], found["mig_uuid"]) == ("GPU-p", "1g.10gb", "GPU-d1")
    assert "gpu_index" not in found
    assert by_node([gpu, one()]) == {"n1": NodeDevices(gpus=1, usable=1, partitions=1)}


def test_taints_of_a_device_and_of_a_rule_keep_work_off_it() -> None:
    tainted = one(taints=[{"key": "sick", "value": "yes", "effect": "NoSchedule"}])
    found = checked(gpu_fact(tainted, {}, None))
    assert (found["schedulable"], found["taints"]) == (False, ["sick=yes:NoSchedule"])
    assert one(taints=[{"key": "told", "effect": "None"}]).usable
    rule = shaped(
        DeviceTaintRule,
        metadata=meta("r"),
        spec={
            "deviceSelector": {"driver": DRIVER, "device": "d2"},
            "taint": {"key": "rma", "effect": "NoExecute"},
        },
    )
    gpus = read_devices([part("a", device("d1"), device("d2"))], [rule]).gpus
    assert [gpu.usable for gpu in gpus] == [True, False]
    assert by_node(gpus)["n1"] == NodeDevices(gpus=2, usable=1)


def test_a_claim_leads_from_a_device_to_its_pods() -> None:
    results = [
        {"driver": DRIVER, "pool": "n1", "device": "d1", "request": "gpu"},
        {"driver": DRIVER, "pool": "n1", "device": "d2", "request": "watch", "adminAccess": True},
    ]
    status = {
        "allocation": {"devices": {"results": results}},
        "reservedFor": [{"resource": "pods", "name": "p1", "uid": "u"}, {"resource": "others", "name": "x"}],
    }
    holders = read_holders([shaped(ResourceClaim, metadata=meta("c", "ns"), status=status)])
    assert list(holders) == [DeviceKey(DRIVER, "n1", "d1")]
    holder = holders[DeviceKey(DRIVER, "n1", "d1")]
    assert (holder.claim, holder.pods) == ("ns/c", ("ns/p1",))
    assert read_holders([shaped(ResourceClaim, metadata=meta("c", "ns"), status=None)]) == {}
