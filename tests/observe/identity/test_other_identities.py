"""GPUs, MIG instances, jobs, services and tenants across sources; lives of one name; restarts; bounds."""

from __future__ import annotations

import pytest
from identity_facts import BEGIN, GPU, JOB, NODE, SERVICE, TENANT, at, door, ids, key, said
from msgspec import structs

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.settings import IdentitySettings
from steersman.observe.identity.joining import TOKEN_NAMES_MAX
from steersman.observe.inlet import Inlet
from steersman.state.bus import StateBus
from steersman.state.checkpoint import Checkpoint
from steersman.store.memory import MemoryStore


def gpu(source: str, name: str, second: float = 0.0, **fields: object) -> StateFragment:
    return said(source, name, second, GPU, **fields)


def test_a_gpu_without_a_uuid_is_found_by_its_pci_address_in_any_spelling() -> None:
    inlet = door()
    inlet.take([gpu("dcgm", "GPU-1", node="n1", pci_bus_id="00000000:3B:00.0", gpu_utilization=0.5)])
    inlet.take([gpu("kubernetes", "drv/n1/gpu-0", node="n1", pci_bus_id="0000:3b:00.0", assigned_job_id="7")])
    assert ids(inlet, GPU) == ["GPU-1"]
    one = inlet.bus.get(GPU, "drv/n1/gpu-0", "prod")
    assert one is not None
    assert (one.gpu_utilization, one.assigned_job_id) == (0.5, "7")


def test_a_device_of_an_allocator_is_the_gpu_whose_uuid_it_tells() -> None:
    inlet = door()
    inlet.take(
        [gpu("kubernetes", "drv/pool/gpu-0", gpu_uuid="GPU-ABC"), gpu("dcgm", "GPU-abc", gpu_utilization=0.1)]
    )
    assert ids(inlet, GPU) == ["GPU-abc"]


def test_index_zero_of_two_nodes_is_two_gpus_and_of_one_node_one_by_any_name_of_the_node() -> None:
    inlet = door()
    inlet.take(
        [gpu("dcgm", "GPU-1", node="n1.hpc", gpu_index=0), gpu("dcgm", "GPU-2", node="n2", gpu_index=0)]
    )
    inlet.take([gpu("slurm", "n1/0", node="n1", gpu_index=0)])
    assert ids(inlet, GPU) == ["GPU-1", "GPU-2", "n1/0"]
    inlet.take([said("kubernetes", "n1.hpc"), said("slurm", "n1")])
    assert ids(inlet, GPU) == ["GPU-1", "GPU-2"]


def test_an_index_holds_within_one_boot_only() -> None:
    inlet = door()
    inlet.take([said("host", "n1", boot_id="b1")])
    inlet.take([gpu("dcgm", "GPU-1", node="n1", gpu_index=0), gpu("slurm", "n1/0", node="n1", gpu_index=0)])
    why = inlet.bus.explain(GPU, "GPU-1", "prod")
    assert why is not None
    assert why.identity.aliases[0].evidence == "index 0 of n1 since boot b1"
    inlet.take([said("host", "n1", 5, boot_id="b2")])
    assert ids(inlet, GPU) == ["GPU-1", "n1/0"]  # nobody has said since what index 0 is now
    inlet.take(
        [gpu("dcgm", "GPU-9", 6, node="n1", gpu_index=0), gpu("slurm", "n1/0", 6, node="n1", gpu_index=0)]
    )
    assert ids(inlet, GPU) == ["GPU-1", "GPU-9"]


def test_a_mig_instance_is_one_by_uuid_and_by_parent_and_never_its_gpu() -> None:
    inlet = door()
    inlet.take(
        [
            gpu("dcgm", "GPU-1", node="n1", pci_bus_id="0000:3b:00.0", gpu_index=0),
            gpu("dcgm", "GPU-1/7", node="n1", pci_bus_id="0000:3b:00.0", gpu_index=0, gpu_utilization=0.2),
            gpu("kubernetes", "MIG-u", parent_gpu="GPU-1", mig_instance=7, assigned_job_id="j"),
        ]
    )
    assert ids(inlet, GPU) == ["GPU-1", "GPU-1/7"]
    one = inlet.bus.get(GPU, "MIG-u", "prod")
    assert one is not None
    assert (one.entity_id, one.gpu_utilization, one.assigned_job_id) == ("GPU-1/7", 0.2, "j")


def test_a_swapped_gpu_at_the_same_address_is_another_one() -> None:
    inlet = door()
    inlet.take(
        [
            gpu("dcgm", "GPU-1", node="n1", pci_bus_id="0000:3b:00.0"),
            gpu("kubernetes", "x/0", node="n1", pci_bus_id="0000:3b:00.0", gpu_uuid="GPU-2"),
        ]
    )
    assert ids(inlet, GPU) == ["GPU-1", "x/0"]


def test_a_job_is_joined_by_the_schedulers_number_unless_it_was_submitted_at_another_time() -> None:
    inlet = door()
    inlet.take([said("slurm", "77", 0, JOB, submitted_at=BEGIN, job_state="running")])
    inlet.take([said("wandb", "run-3", 0, JOB, labels={"SLURM_JOB_ID": "77"}, gpu_utilization=0.5)])
    assert ids(inlet, JOB) == ["77"]
    inlet.take([said("ray", "old", 0, JOB, labels={"slurm_job_id": "77"}, submitted_at=at(-9e6))])
    assert ids(inlet, JOB) == ["77", "old", "run-3"]  # whose run it was is not known any more
    why = inlet.bus.explain(JOB, "run-3", "prod")
    assert why is not None
    assert why.identity.ambiguities[0].candidates == ("77", "old")


def test_a_service_joins_by_its_bare_name_only_where_one_namespace_has_it() -> None:
    inlet = door()
    inlet.take(
        [said("kubernetes", "ml/chat", 0, SERVICE), said("prometheus", "chat", 0, SERVICE, throughput=2.0)]
    )
    assert ids(inlet, SERVICE) == ["ml/chat"]
    inlet.take([said("kubernetes", "dev/chat", 0, SERVICE)])
    assert ids(inlet, SERVICE) == ["chat", "dev/chat", "ml/chat"]
    inlet.take(
        [
            said(
                "prometheus",
                "chat",
                1,
                SERVICE,
                labels={"namespace": "ml", "service": "chat"},
                throughput=3.0,
            )
        ]
    )
    assert ids(inlet, SERVICE) == ["dev/chat", "ml/chat"]


def test_model_names_join_nothing() -> None:
    inlet = door()
    inlet.take(
        [
            said("vllm", "a", 0, SERVICE, model_name="llama"),
            said("triton", "b", 0, SERVICE, model_name="llama"),
        ]
    )
    assert ids(inlet, SERVICE) == ["a", "b"]


def test_tenants_of_one_name_and_different_kinds_never_share_a_key() -> None:
    inlet = door()
    inlet.take(
        [
            said("kubernetes", "ml", 0, TENANT, scope_type="namespace", active_workloads=1),
            said("slurm", "ml", 0, TENANT, scope_type="partition", active_workloads=2),
            said("slurm", "ml", 1, TENANT, scope_type="account", active_workloads=3),
        ]
    )
    assert ids(inlet, TENANT) == ["account/ml", "namespace/ml", "partition/ml"]
    assert [t.active_workloads for t in inlet.bus.entities(TENANT)] == [3, 1, 2]
    inlet.take([said("kubernetes", "ml", 2, TENANT, active_workloads=9)])  # its source has said what it is
    tenant = inlet.bus.get(TENANT, "namespace/ml", "prod")
    assert tenant is not None
    assert tenant.active_workloads == 9
    assert inlet.forget(key("ml", TENANT), at(5), "kubernetes")
    assert ids(inlet, TENANT) == ["account/ml", "partition/ml"]


def test_slurm_and_kubernetes_of_one_scope_are_two_schedulers() -> None:
    inlet = door()
    domain = EntityType.SCHEDULER_DOMAIN
    inlet.take(
        [
            said("kubernetes", "prod", 0, domain, domain_type="kubernetes", total_nodes=3),
            said("slurm", "prod", 0, domain, domain_type="slurm", total_nodes=1),
        ]
    )
    assert ids(inlet, domain) == ["kubernetes/prod", "slurm/prod"]
    assert inlet.forget(key("prod", domain), at(5), "slurm")
    assert ids(inlet, domain) == ["kubernetes/prod"]


def test_a_tenant_that_its_source_tells_apart_by_its_kind_has_that_once_in_its_name() -> None:
    inlet = door()
    inlet.take([said("slurm", "partition:main", 0, TENANT, scope_type="partition", active_workloads=1)])
    assert ids(inlet, TENANT) == ["partition/main"]
    inlet.take([said("slurm", "partition:main", 1, TENANT, active_workloads=2)])
    assert [t.active_workloads for t in inlet.bus.entities(TENANT)] == [2]
    assert inlet.forget(key("partition:main", TENANT), at(5), "slurm")
    assert ids(inlet, TENANT) == []


def test_the_status_of_a_source_is_no_service_of_its_name() -> None:
    inlet = door()
    inlet.take([said("steersman", "source/llama", 0, SERVICE, up=True)])
    inlet.take([said("vllm", "llama", 0, SERVICE), said("kubernetes", "serving/llama", 0, SERVICE)])
    assert ids(inlet, SERVICE) == ["serving/llama", "source/llama"]


# ---- lives


def test_a_reused_job_id_is_another_job_without_a_word_of_the_first() -> None:
    inlet = door()
    inlet.take([said("slurm", "7", 0, JOB, submitted_at=at(0), job_state="failed", exit_code=1)])
    inlet.take([said("dcgm", "7", 1, JOB, gpu_memory_used=5)])
    inlet.take([said("slurm", "7", 20, JOB, submitted_at=at(19), job_state="running")])
    job = inlet.bus.get(JOB, "7", "prod")
    assert job is not None
    assert (job.job_state, job.exit_code, job.gpu_memory_used) == ("running", None, None)
    history = inlet.bus.history(JOB, "7", "prod")
    assert history is not None
    assert [(one.field, one.name) for one in history.lives] == [("submitted_at", "7")]
    (late,) = inlet.take([said("slurm", "7", 21, JOB, submitted_at=at(0), job_state="failed")])
    assert late.verdict == "stale"


def test_a_node_made_anew_under_its_name_has_nothing_of_the_old_one_under_any_name() -> None:
    inlet = door()
    inlet.take(
        [
            said("kubernetes", "n1", uid="u1", addresses=["10.0.0.1"], cpu_count=8),
            said("slurm", "s1", addresses=["10.0.0.1"], scheduler_state="DOWN"),
        ]
    )
    inlet.take([said("kubernetes", "n1", 10, uid="u2", addresses=["10.0.0.1"])])
    node = inlet.bus.get(NODE, "n1", "prod")
    assert node is not None
    assert (node.cpu_count, node.scheduler_state) == (None, None)
    (late,) = inlet.take([said("slurm", "s1", 9, scheduler_state="DOWN")])
    assert late.verdict == "stale"
    inlet.take([said("slurm", "s1", 11, scheduler_state="IDLE")])
    again = inlet.bus.get(NODE, "n1", "prod")
    assert again is not None
    assert again.scheduler_state == "IDLE"


def test_a_second_source_that_tells_of_the_same_swap_takes_nothing_from_the_first() -> None:
    """Two machines swap their names; a source that speaks only of changes would not repeat what it said."""
    first, second = (f"{n}1111111-0000-4000-8000-000000000001" for n in "ab")
    inlet = door()
    for source in ("kubernetes", "host"):
        inlet.take([said(source, "n1", system_uuid=first), said(source, "n2", system_uuid=second)])
    swapped = [("n1", second, 16), ("n2", first, 8)]
    inlet.take([said("kubernetes", name, 10, system_uuid=u, cpu_count=c) for name, u, c in swapped])
    inlet.take([said("host", name, 11, system_uuid=u, cpu_utilization=0.5) for name, u, _ in swapped])
    for name, _, count in swapped:
        node = inlet.bus.get(NODE, name, "prod")
        assert node is not None
        assert (node.cpu_count, node.cpu_utilization) == (count, 0.5)


def test_what_was_deleted_is_brought_back_by_a_new_uid_only() -> None:
    inlet = door()
    inlet.take([said("kubernetes", "n1", 0, uid="u1", cpu_count=8)])
    inlet.forget(key("n1"), at(30))
    old = inlet.take(
        [
            said("kubernetes", "n1", 20, uid="u1", cpu_count=8),
            said("kubernetes", "n1", 40, uid="u1", cpu_count=8),
        ]
    )
    assert [outcome.verdict for outcome in old] == ["stale", "stale"]
    assert ids(inlet) == []
    (new,) = inlet.take([said("kubernetes", "n1", 25, uid="u2", cpu_count=16)])  # made before we looked
    assert new.verdict == "created"
    assert ids(inlet) == ["n1"]


def test_a_boot_is_no_new_machine() -> None:
    inlet = door()
    inlet.take(
        [said("kubernetes", "n1", boot_id="b1", cpu_count=8), said("slurm", "n1", scheduler_state="IDLE")]
    )
    inlet.take([said("kubernetes", "n1", 9, boot_id="b2")])
    node = inlet.bus.get(NODE, "n1", "prod")
    assert node is not None
    assert (node.cpu_count, node.scheduler_state, node.boot_id) == (8, "IDLE", "b2")


# ---- restarts and bounds


@pytest.mark.asyncio
async def test_names_outlive_a_restart() -> None:
    clock = ManualClock(at(60))
    inlet = Inlet(StateBus(clock), clock)
    inlet.take([said("slurm", "s1", addresses=["10.0.0.1"], scheduler_state="IDLE")])
    inlet.take([said("kubernetes", "n1", addresses=["10.0.0.1"], cpu_count=8)])
    before = inlet.bus.explain(NODE, "n1", "prod")
    async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
        await Checkpoint(inlet.bus, store, clock).save()
        bus = StateBus(clock, first_revision=inlet.bus.revision)
        await Checkpoint(bus, store, clock).restore()
    again = Inlet(bus, clock)
    after = bus.explain(NODE, "s1", "prod")
    assert before is not None
    assert after is not None
    assert (after.key, after.identity) == (before.key, before.identity)
    assert [(e.entity_id, e.merged_into) for e in bus.entities(NODE, deleted=True)] == [
        ("n1", ""),
        ("s1", "n1"),
    ]
    again.take([said("slurm", "s1", 5, scheduler_state="DOWN")])
    assert ids(again) == ["n1"]
    again.take([said("slurm", "s1", 6, addresses=["10.0.0.2"])])
    assert ids(again) == ["n1", "s1"]


@pytest.mark.asyncio
async def test_a_name_that_a_resource_bears_stays_the_entitys_over_a_restart() -> None:
    """What is read back is joined anew, and by its sources alone the entity would go by another name."""
    clock = ManualClock(at(60))
    managed = {key("s1")}
    inlet = door(managed=managed)
    inlet.take([said("slurm", "s1", addresses=["10.0.0.1"], scheduler_state="IDLE")])
    inlet.take([said("kubernetes", "n1", addresses=["10.0.0.1"], cpu_count=8)])
    assert ids(inlet) == ["s1"]
    for known, name in ((managed, "s1"), (set[EntityKey](), "n1")):
        async with MemoryStore(clock=clock, rng=seeded_rng(1)) as store:
            await Checkpoint(inlet.bus, store, clock).save()
            bus = StateBus(clock, first_revision=inlet.bus.revision)
            await Checkpoint(bus, store, clock).restore()
        assert ids(door(bus=bus, managed=known)) == [name]


def test_evidence_that_too_many_share_identifies_nobody() -> None:
    inlet = door()
    for number in range(TOKEN_NAMES_MAX + 1):
        inlet.take([said(f"t{number}", f"n{number}", addresses=["10.0.0.1"])])
    assert len(ids(inlet)) == TOKEN_NAMES_MAX + 1


def test_a_source_that_tells_all_there_is_ends_nothing_that_it_told_by_another_name() -> None:
    inlet = door()
    inlet.take(
        [said("slurm", "s1", addresses=["10.0.0.1"]), said("slurm", "ml", 0, TENANT, scope_type="account")]
    )
    told = [said("slurm", "s1"), said("slurm", "ml", 0, TENANT, scope_type="account")]
    assert {inlet.names.entity(one) for one in told} == {key("s1"), key("account/ml", TENANT)}


@pytest.mark.parametrize(
    ("aliases", "scopes", "says"),
    [
        ({"nodes": "n1"}, {}, "'nodes' is no KIND/NAME"),
        ({"plane/x": "y"}, {}, "'plane/x' is no KIND/NAME"),
        ({"node/x": "gpu/y"}, {}, "a node is no gpu"),
        ({"node/x": "node/x"}, {}, "its own alias"),
        ({"node/x": "y", "node/y": "z"}, {}, "is an alias itself; name node/z"),
        ({"node/x": ""}, {}, "no name to mean"),
        ({}, {"a": "b", "b": "c"}, "is to be another one itself"),
    ],
)
def test_configuration_that_contradicts_itself_is_refused(
    aliases: dict[str, str], scopes: dict[str, str], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        IdentitySettings(aliases=aliases, scopes=scopes)


def test_recorded_fragments_are_those_that_sources_gave() -> None:
    inlet = door()
    heard: list[object] = []
    inlet.listen(heard.append)
    inlet.take([said("slurm", "ml", 0, TENANT, scope_type="account")])
    assert [f.entity_id for f in heard[0].fragments] == ["ml"]  # type: ignore[attr-defined] - a Batch
    assert structs.asdict(heard[0].fragments[0])["entity_type"] is EntityType.TENANT_SCOPE  # type: ignore[attr-defined] - as above
