"""GPUs through NVML: absent is never zero, one lost GPU costs only itself, and who works where."""

from __future__ import annotations

from typing import Any

import pynvml
import pytest

from steersman.drivers.host.fake import FakeGpu, FakeNvmlLibrary
from steersman.drivers.host.gpu import GpuMemory, GpuPicture, without_nvml
from steersman.drivers.host.nvml import Nvml, NvmlFailed, NvmlMissing
from steersman.drivers.host.presence import Presence
from steersman.kinds.entity import EntityType
from steersman.kinds.fields import check_fields

NOBODY = Presence(known=True)


def picture(
    library: FakeNvmlLibrary, memory: GpuMemory | None = None, jobs: dict[int, str] | None = None
) -> GpuPicture:
    return (memory or GpuMemory()).picture(Nvml(library).read(), NOBODY, jobs)


def test_a_gpu_in_canonical_units() -> None:
    (gpu, _) = picture(FakeNvmlLibrary()).gpus
    assert gpu.entity_id == "GPU-0"
    assert gpu.fields["gpu_utilization"] == 0.5
    assert gpu.fields["power_draw_watts"] == 350.0
    assert gpu.fields["gpu_memory_used"] == 30 << 30
    assert gpu.fields["throttle_reasons"] == ["sw_power_cap"]
    assert gpu.fields["recovery_action"] == "none"
    assert gpu.fields["driver_version"] == "550.90.07"
    present = {name: value for name, value in gpu.fields.items() if value is not None}
    assert check_fields(EntityType.GPU, present) == []


def test_what_a_product_does_not_support_is_absent_and_no_warning() -> None:
    bare = FakeGpu(
        uuid="GPU-0", utilization=None, memory=None, temperature=None, memory_temperature=None, power_mw=None,
        limit_mw=None, clocks=None, reasons=None, ecc=None, rows=None, recovery=None, processes=None,
    )  # fmt: skip
    seen = picture(FakeNvmlLibrary([bare]))
    fields = {name for name, value in seen.gpus[0].fields.items() if value is not None}
    assert fields == {"gpu_index", "model_name", "pci_bus_id", "driver_version", "mig_enabled", "lost"}
    assert seen.warnings == []
    assert seen.count == 1


def test_an_idle_gpu_is_not_throttled() -> None:
    seen = picture(FakeNvmlLibrary([FakeGpu(uuid="GPU-0", reasons=0x1 | 0x40)]))
    assert seen.gpus[0].fields["throttle_reasons"] == ["hw_thermal_slowdown"]


def test_codes_that_nobody_knows_are_drift() -> None:
    seen = picture(FakeNvmlLibrary([FakeGpu(uuid="GPU-0", reasons=0x10000000, recovery=42)]))
    assert seen.gpus[0].fields["throttle_reasons"] == ["reason_0x10000000"]
    assert seen.gpus[0].fields["recovery_action"] == "unknown"
    assert seen.gpus[0].fields["recovery_action_name"] == "action_42"
    assert len(seen.drift) == 2


@pytest.mark.parametrize("fault", ["lost", "reset_required"])
def test_a_gpu_that_fell_off_the_bus_is_named_and_the_others_told(fault: str) -> None:
    library = FakeNvmlLibrary([FakeGpu(uuid=f"GPU-{i}", index=i) for i in range(3)])
    memory = GpuMemory()
    picture(library, memory)
    setattr(library.gpus[1], fault, True)
    seen = picture(library, memory)
    assert seen.count == 2
    assert [gpu.entity_id for gpu in seen.gpus] == ["GPU-0", "GPU-2", "GPU-1"]
    assert seen.gpus[2].fields["lost"] is True
    assert "gpu_utilization" not in seen.gpus[2].fields
    assert "GPU 1 (GPU-1 at 00000000:1C:00.0)" in seen.warnings[0]


def test_a_gpu_that_nvml_lists_no_more_is_missed() -> None:
    library = FakeNvmlLibrary()
    memory = GpuMemory()
    picture(library, memory)
    del library.gpus[1]
    seen = picture(library, memory)
    assert seen.count == 1
    assert "no longer listed" in seen.warnings[0]


def test_a_lost_gpu_stays_missed_when_the_others_move_up() -> None:
    """The driver was loaded anew: what had index 1 has index 0 now, where the lost one was."""
    library = FakeNvmlLibrary()
    memory = GpuMemory()
    picture(library, memory)
    del library.gpus[0]
    library.gpus[0].index = 0
    seen = picture(library, memory)
    assert [(gpu.entity_id, gpu.fields["lost"]) for gpu in seen.gpus] == [("GPU-1", False), ("GPU-0", True)]
    assert "GPU 0 (GPU-0" in seen.warnings[0]


def test_a_gpu_that_is_lost_while_it_is_read_is_lost_and_not_half_told() -> None:
    class LosesItsInstances(FakeNvmlLibrary):
        def nvmlDeviceGetMaxMigDeviceCount(self, _handle: Any) -> int:  # noqa: N802 - pynvml's own name
            if self.gpus[0].name == "falling":
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return super().nvmlDeviceGetMaxMigDeviceCount(_handle)

    library = LosesItsInstances([FakeGpu(uuid="GPU-0", mig={7: "1g.10gb"})])
    memory = GpuMemory()
    picture(library, memory)
    library.gpus[0].name = "falling"
    seen = picture(library, memory)
    assert [(gpu.entity_id, gpu.fields["lost"]) for gpu in seen.gpus] == [("GPU-0", True)]
    assert seen.count == 0
    assert seen.gone == []


def test_a_gpu_that_was_lost_before_we_looked_is_counted_on_the_bus() -> None:
    reading = Nvml(FakeNvmlLibrary([FakeGpu(uuid="GPU-0")])).read()
    seen = GpuMemory().picture(reading, Presence(known=True, nvidia_bound=2), None)
    assert "1 NVIDIA device(s)" in seen.warnings[0]


def test_mig_instances_belong_to_their_parent() -> None:
    seen = picture(
        FakeNvmlLibrary([FakeGpu(uuid="GPU-0", utilization=None, mig={7: "1g.10gb", 9: "1g.10gb"})])
    )
    assert [gpu.entity_id for gpu in seen.gpus] == ["GPU-0", "GPU-0/7", "GPU-0/9"]
    assert seen.count == 1, "instances are no GPUs of the node"
    part = seen.gpus[1]
    assert part.labels["mig_profile"] == "1g.10gb"
    assert part.labels["mig_uuid"] == "MIG-GPU-0-7"
    assert part.fields["parent"] == "GPU-0"
    assert part.fields["gpu_memory_used"] == 2 << 30


def test_a_mig_instance_is_gone_when_its_gpu_is_divided_anew() -> None:
    library = FakeNvmlLibrary([FakeGpu(uuid="GPU-0", mig={7: "1g.10gb", 9: "1g.10gb"})])
    memory = GpuMemory()
    assert picture(library, memory).gone == []
    library.gpus[0].lost = True
    assert picture(library, memory).gone == [], "a GPU that does not answer says nothing of its instances"
    library.gpus[0].lost = False
    library.gpus[0].mig = {9: "1g.10gb"}
    assert picture(library, memory).gone == ["GPU-0/7"]
    library.gpus[0].mig = None
    assert picture(library, memory).gone == ["GPU-0/9"]
    assert picture(library, memory).gone == [], "said once"


def test_the_job_of_a_gpu_is_told_where_there_is_one() -> None:
    library = FakeNvmlLibrary(
        [
            FakeGpu(uuid="GPU-0", processes={10: 5, 11: None}),
            FakeGpu(uuid="GPU-1", index=1, processes={10: 5, 20: 5}),
            FakeGpu(uuid="GPU-2", index=2, processes={}),
        ]
    )
    seen = picture(library, jobs={10: "n/a", 11: "n/a", 20: "n/b"})
    assert seen.gpus[0].fields["assigned_job_id"] == "n/a"
    assert seen.gpus[1].fields["assigned_job_ids"] == ["n/a", "n/b"], "two jobs share it: nobody is guessed"
    cleared = [{name for name in gpu.clear if name.startswith("assigned")} for gpu in seen.gpus]
    assert cleared == [{"assigned_job_ids"}, {"assigned_job_id"}, {"assigned_job_id", "assigned_job_ids"}]
    assert seen.of_job("n/a") == {"assigned_gpu_count": 2, "gpu_utilization": 0.5}
    assert seen.of_job("n/c")["assigned_gpu_count"] == 0


@pytest.mark.parametrize("missing", ["library", "driver"])
def test_no_nvml_is_a_normal_condition(missing: str) -> None:
    with pytest.raises(NvmlMissing):
        Nvml(FakeNvmlLibrary(missing=missing)).read()


@pytest.mark.parametrize(
    ("presence", "warned"),
    [
        (Presence(known=True), False),
        (Presence(known=True, accelerators=("/dev/nvidia0",)), True),
        (Presence(known=False), True),
    ],
)
def test_no_count_is_claimed_without_nvml(presence: Presence, warned: bool) -> None:
    seen = without_nvml(presence)
    assert (seen.count, bool(seen.warnings)) == (None, warned)


def test_a_driver_that_was_replaced_is_opened_anew() -> None:
    library = FakeNvmlLibrary()
    nvml = Nvml(library)
    nvml.read()
    library.fault = "refuse"
    with pytest.raises(NvmlFailed, match="mismatch"):
        nvml.read()
    assert library.opened == 0
    library.fault = ""
    assert len(nvml.read().gpus) == 2
    nvml.close()
    nvml.close()
    assert library.opened == 0


def test_this_machine_gives_a_reading_or_says_that_it_has_none() -> None:
    """The real library: on a machine without a GPU it is missing, and that is all."""
    nvml = Nvml()
    try:
        assert all(gpu.uuid for gpu in nvml.read().gpus)
    except NvmlMissing:
        pass  # the normal condition of most machines
    finally:
        nvml.close()
