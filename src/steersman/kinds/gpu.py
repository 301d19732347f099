"""The canonical GPU. Its fields are what NVML, DCGM and its exporter tell, in base units."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from steersman.kinds.canonical import EVENT, SLOW, STATIC, CanonicalEntity, EntityType
from steersman.kinds.canonical import meaning as _is

DEVICE_HEALTH = ("healthy", "unhealthy", "unknown")
RECOVERY_ACTIONS = ("none", "gpu_reset", "node_reboot", "drain_p2p", "drain_and_reset", "unknown")


class GPUEntity(CanonicalEntity, frozen=True, kw_only=True):
    """One accelerator, or one MIG instance of it; its id is the UUID.

    A MIG instance is a part of a GPU and no GPU of its own: it has `parent_gpu`, and counts of GPUs leave it
    out.
    """

    TYPE: ClassVar[EntityType] = EntityType.GPU

    gpu_utilization: Annotated[
        float | None, _is("share of time a kernel ran, 0 to 1", "1", high=1, expected=True)
    ] = None
    gpu_memory_used: Annotated[int | None, _is("framebuffer in use", "B", expected=True)] = None
    gpu_memory_total: Annotated[
        int | None, _is("framebuffer in all (used, free and reserved)", "B", STATIC)
    ] = None
    gpu_memory_reserved: Annotated[
        int | None, _is("framebuffer that the driver keeps for itself", "B", SLOW)
    ] = None
    memory_bandwidth_utilization: Annotated[
        float | None, _is("share of time memory was read or written, 0 to 1", "1", high=1)
    ] = None
    encoder_utilization: Annotated[
        float | None, _is("share of time the video encoder worked, 0 to 1", "1", high=1)
    ] = None
    decoder_utilization: Annotated[
        float | None, _is("share of time the video decoder worked, 0 to 1", "1", high=1)
    ] = None
    engine_active: Annotated[
        float | None,
        _is("share of time any engine was active, 0 to 1; not what gpu_utilization counts", "1", high=1),
    ] = None
    sm_active: Annotated[
        float | None,
        _is("share of cycles in which a multiprocessor had work, over all of them, 0 to 1", "1", high=1),
    ] = None
    sm_occupancy: Annotated[
        float | None, _is("warps resident on the multiprocessors, of those that fit, 0 to 1", "1", high=1)
    ] = None
    tensor_active: Annotated[
        float | None, _is("share of cycles in which the tensor pipes worked, 0 to 1", "1", high=1)
    ] = None
    fp64_active: Annotated[
        float | None, _is("share of cycles in which the FP64 pipes worked, 0 to 1", "1", high=1)
    ] = None
    fp32_active: Annotated[
        float | None, _is("share of cycles in which the FP32 pipes worked, 0 to 1", "1", high=1)
    ] = None
    fp16_active: Annotated[
        float | None, _is("share of cycles in which the FP16 pipes worked, 0 to 1", "1", high=1)
    ] = None
    dram_active: Annotated[
        float | None, _is("share of cycles in which device memory was read or written, 0 to 1", "1", high=1)
    ] = None
    temperature_celsius: Annotated[
        float | None, _is("core temperature", "Cel", expected=True, low=-273.15)
    ] = None
    memory_temperature_celsius: Annotated[float | None, _is("memory temperature", "Cel", low=-273.15)] = None
    temperature_margin_celsius: Annotated[
        float | None,
        _is("how far the core is below the next point at which clocks are held down", "Cel", low=-273.15),
    ] = None
    slowdown_temperature_celsius: Annotated[
        float | None, _is("core temperature at which clocks are held down", "Cel", STATIC, low=-273.15)
    ] = None
    ecc_enabled: Annotated[bool | None, _is("whether memory errors are counted and corrected", pace=SLOW)] = (
        None
    )
    ecc_errors: Annotated[
        int | None, _is("uncorrected ECC errors since the driver was loaded", pace=SLOW)
    ] = None
    ecc_errors_corrected: Annotated[
        int | None, _is("corrected ECC errors since the driver was loaded", pace=SLOW)
    ] = None
    ecc_errors_lifetime: Annotated[int | None, _is("uncorrected ECC errors of its life", pace=SLOW)] = None
    ecc_errors_corrected_lifetime: Annotated[
        int | None, _is("corrected ECC errors of its life", pace=SLOW)
    ] = None
    power_draw_watts: Annotated[float | None, _is("power drawn", "W")] = None
    power_average_watts: Annotated[
        float | None, _is("mean power since the last look, from the energy counter", "W")
    ] = None
    power_limit_watts: Annotated[float | None, _is("power allowed", "W", SLOW)] = None
    energy_joules: Annotated[float | None, _is("energy used since the driver was loaded", "J")] = None
    sm_clock_mhz: Annotated[float | None, _is("clock of the multiprocessors", "MHz")] = None
    memory_clock_mhz: Annotated[float | None, _is("clock of the memory", "MHz")] = None
    throttle_reasons: Annotated[list[str] | None, _is("why clocks are held down, by name")] = None
    clock_events: Annotated[list[str] | None, _is("what held clocks down within the exporter's window")] = (
        None
    )
    power_throttled: Annotated[
        float | None,
        _is("share of time since the last look in which power held clocks down, 0 to 1", "1", high=1),
    ] = None
    thermal_throttled: Annotated[
        float | None,
        _is("share of time since the last look in which heat held clocks down, 0 to 1", "1", high=1),
    ] = None
    reliability_throttled: Annotated[
        float | None,
        _is(
            "share of time since the last look in which the reliability voltage held clocks down", "1", high=1
        ),
    ] = None
    board_limit_throttled: Annotated[
        float | None,
        _is("share of time since the last look in which the board's limit held clocks down", "1", high=1),
    ] = None
    sync_boost_throttled: Annotated[
        float | None,
        _is("share of time since the last look in which a group's clock held clocks down", "1", high=1),
    ] = None
    low_utilization_throttled: Annotated[
        float | None,
        _is("share of time since the last look in which clocks were low for want of work", "1", high=1),
    ] = None
    recovery_action: Annotated[
        str | None, _is("what the driver says must be done", pace=SLOW, words=RECOVERY_ACTIONS)
    ] = None
    health_watches_failed: Annotated[
        list[str] | None, _is("DCGM's health watches that fail, by name", pace=SLOW)
    ] = None
    health_watches_warned: Annotated[
        list[str] | None, _is("DCGM's health watches that warn, by name", pace=SLOW)
    ] = None
    row_remap_failed: Annotated[
        bool | None, _is("a row remap failed, so the memory can no longer be mended", pace=SLOW)
    ] = None
    row_remap_pending: Annotated[bool | None, _is("a row remap waits for the next reset", pace=SLOW)] = None
    remapped_rows_correctable: Annotated[
        int | None, _is("rows remapped for errors that were corrected", pace=SLOW)
    ] = None
    remapped_rows_uncorrectable: Annotated[
        int | None, _is("rows remapped for errors that were not", pace=SLOW)
    ] = None
    memory_unrepairable: Annotated[
        bool | None, _is("the driver says that its memory can't be mended", pace=SLOW)
    ] = None
    retired_pages: Annotated[int | None, _is("memory pages retired in all (before Ampere)", pace=SLOW)] = None
    retired_pages_sbe: Annotated[
        int | None, _is("pages retired for repeated corrected errors (before Ampere)", pace=SLOW)
    ] = None
    retired_pages_dbe: Annotated[
        int | None, _is("pages retired for uncorrected errors (before Ampere)", pace=SLOW)
    ] = None
    retired_pages_pending: Annotated[
        int | None, _is("pages to be retired at the next reset (before Ampere)", pace=SLOW)
    ] = None
    xid: Annotated[
        int | None, _is("last XID code; sticky in the driver, so only a change of it is news", pace=EVENT)
    ] = None
    xid_events: Annotated[
        list[str] | None, _is("XID codes that were seen to come and are not known to be over", pace=SLOW)
    ] = None
    xid_counts: Annotated[
        dict[str, float] | None, _is("XIDs seen to come within xid_window_seconds, by code", pace=SLOW)
    ] = None
    xid_window_seconds: Annotated[float | None, _is("how far back xid_counts looks", "s", STATIC)] = None
    xid_event_at: Annotated[datetime | None, _is("when the last XID was seen to come", pace=EVENT)] = None
    pcie_link_generation: Annotated[
        int | None, _is("PCIe generation the link runs at now; low at rest to save power")
    ] = None
    pcie_link_width: Annotated[int | None, _is("PCIe lanes the link uses", pace=SLOW)] = None
    pcie_link_width_max: Annotated[int | None, _is("PCIe lanes the link could use", pace=SLOW)] = None
    pcie_tx_bytes_per_second: Annotated[float | None, _is("sent over PCIe", "B/s")] = None
    pcie_rx_bytes_per_second: Annotated[float | None, _is("received over PCIe", "B/s")] = None
    pcie_replays: Annotated[
        int | None, _is("PCIe packets sent again since the driver was loaded", pace=SLOW)
    ] = None
    pcie_replay_rate: Annotated[
        float | None, _is("PCIe packets sent again per second, since the last look", "1/s")
    ] = None
    nvlink_tx_bytes_per_second: Annotated[float | None, _is("sent over NVLink", "B/s")] = None
    nvlink_rx_bytes_per_second: Annotated[float | None, _is("received over NVLink", "B/s")] = None
    nvlink_bandwidth_total: Annotated[
        float | None, _is("NVLink traffic as DCGM counts it over all lanes; its unit differs by driver")
    ] = None
    nvlink_crc_errors: Annotated[
        int | None, _is("NVLink checksum errors (flits and data) since the driver was loaded", pace=SLOW)
    ] = None
    nvlink_crc_error_rate: Annotated[
        float | None, _is("NVLink checksum errors per second, since the last look", "1/s")
    ] = None
    nvlink_replays: Annotated[
        int | None, _is("NVLink packets sent again since the driver was loaded", pace=SLOW)
    ] = None
    nvlink_replay_rate: Annotated[
        float | None, _is("NVLink packets sent again per second, since the last look", "1/s")
    ] = None
    nvlink_recoveries: Annotated[
        int | None, _is("NVLink recoveries since the driver was loaded", pace=SLOW)
    ] = None
    nvlink_recovery_rate: Annotated[
        float | None, _is("NVLink recoveries per second, since the last look", "1/s")
    ] = None
    vgpu_license_status: Annotated[
        int | None, _is("state of the vGPU license as DCGM counts it, 1 licensed", pace=SLOW)
    ] = None
    persistence_mode: Annotated[
        bool | None, _is("the driver stays loaded while nobody uses the GPU", pace=SLOW)
    ] = None
    mig_enabled: Annotated[bool | None, _is("it may be divided into MIG instances", pace=SLOW)] = None
    lost: Annotated[bool | None, _is("its driver no longer gets an answer from it", pace=SLOW)] = None
    process_count: Annotated[int | None, _is("processes that use it")] = None
    gpu_index: Annotated[int | None, _is("index on its node, within one boot", pace=STATIC)] = None
    model_name: Annotated[str | None, _is("product name", pace=STATIC)] = None
    serial: Annotated[str | None, _is("serial number of the board", pace=STATIC)] = None
    pci_bus_id: Annotated[str | None, _is("PCI address", pace=STATIC)] = None
    driver_version: Annotated[str | None, _is("driver version", pace=STATIC)] = None
    vbios_version: Annotated[str | None, _is("version of its firmware", pace=STATIC)] = None
    node: Annotated[str | None, _is("entity id of its node", pace=STATIC, refers=EntityType.NODE)] = None
    assigned_job_id: Annotated[str | None, _is("job it works for", pace=SLOW, refers=EntityType.JOB)] = None
    assigned_service_id: Annotated[
        str | None, _is("service it works for", pace=SLOW, refers=EntityType.SERVICE)
    ] = None
    parent_gpu: Annotated[
        str | None,
        _is("entity id of the GPU that a MIG instance is part of", pace=STATIC, refers=EntityType.GPU),
    ] = None
    mig_instance: Annotated[int | None, _is("GPU instance id of a MIG instance on its GPU", pace=STATIC)] = (
        None
    )
    mig_profile: Annotated[str | None, _is("size of a MIG instance (1g.10gb)", pace=STATIC)] = None
    mig_uuid: Annotated[str | None, _is("UUID of a MIG instance (MIG-...)", pace=STATIC)] = None
    gpu_uuid: Annotated[
        str | None, _is("UUID, where the source knows it and names the GPU otherwise", pace=STATIC)
    ] = None
    device: Annotated[str | None, _is("name as an allocatable device: driver/pool/device", pace=STATIC)] = (
        None
    )
    schedulable: Annotated[bool | None, _is("whether its scheduler may give it to work", pace=SLOW)] = None
    taints: Annotated[
        list[str] | None, _is("what keeps work off it unless tolerated, as key=value:effect", pace=SLOW)
    ] = None
    device_health: Annotated[
        str | None, _is("what its device plugin says of it", pace=SLOW, words=DEVICE_HEALTH)
    ] = None
