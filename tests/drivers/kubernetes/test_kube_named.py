"""A machine that Kubernetes knows by another name than its entity: operations act on that node."""

from __future__ import annotations

from kube_cluster import context, driver, node_json
from msgspec.structs import replace
from test_kube_act import call

from steersman.act.engines.operations import ActingSource, source_steps
from steersman.app.acting import names_of
from steersman.drivers.kubernetes.fake import FakeApiServer
from steersman.kernel.clock import SystemClock
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.settings import IdentitySettings
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import StepOutcome
from steersman.observe.inlet import Inlet
from steersman.state.bus import StateBus

ENTITY = "gpu01.dc1.example"
OTHER = "gpu02.dc1.example"


async def no_scope(ref: ResourceRef) -> str | None:
    return None


async def test_a_cordon_of_an_entity_lands_on_the_node_that_kubernetes_has_for_it() -> None:
    fake = await FakeApiServer().start()
    addresses = [{"type": "InternalIP", "address": "10.0.0.1"}]
    fake.create("nodes", node_json("ip-10-0-0-1", addresses=addresses))
    fake.create("nodes", node_json("ip-10-0-0-2"))
    clock, settings = SystemClock(), IdentitySettings()
    bus = StateBus(clock)
    inlet = Inlet(bus, clock, settings)
    made = driver(fake, context(scope="dc1"))
    source = ActingSource("kube", "kubernetes", "dc1", made.operations())
    steps = source_steps([source], no_scope, names_of(bus, settings), clock)
    cordon = steps["kubernetes.cordon"]
    try:
        early = await cordon.run(call(node=ENTITY, timeout_s=0.4))
        assert early.outcome is StepOutcome.TRANSIENT, "Kubernetes was not heard yet"
        seen = await made.observe()
        inlet.take([replace(one, source="kube") for one in seen.fragments])
        fields = {"hostname": ENTITY, "addresses": ("10.0.0.1",)}
        labels = {"cluster": "dc1"}
        host = StateFragment("host", EntityType.NODE, ENTITY, clock.now(), fields, labels, "this-host")
        inlet.take([host])

        done = await cordon.run(call(node=ENTITY))
        assert done.outcome is StepOutcome.SUCCEEDED
        assert done.detail == f"to kube {ENTITY} is ip-10-0-0-1; nodes/ip-10-0-0-1: cordoned"
        assert done.outputs["called"] == {ENTITY: "ip-10-0-0-1"}
        cordoned = [n["metadata"]["name"] for n in fake.all("nodes") if n["spec"].get("unschedulable")]
        assert cordoned == ["ip-10-0-0-1"]
        found = await cordon.observe(call(node=ENTITY))
        assert found is not None
        assert (found.outcome, found.outputs["called"]) == (StepOutcome.SUCCEEDED, {ENTITY: "ip-10-0-0-1"})

        plain = await cordon.run(call(node="ip-10-0-0-2"))
        assert (plain.outcome, plain.detail) == (StepOutcome.SUCCEEDED, "nodes/ip-10-0-0-2: cordoned")
        nobody = await cordon.run(call(node=OTHER))
        assert nobody.outcome is StepOutcome.PERMANENT, "the cluster itself says that it has no such node"
    finally:
        await made.close()
        await fake.stop()
