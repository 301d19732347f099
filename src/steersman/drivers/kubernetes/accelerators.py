"""GPUs as extended resources: which resource counts GPUs, which counts slices of them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

GPU_RESOURCES = frozenset({"nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe"})
"""Resources of device plugins that count GPUs."""
SHARED_RESOURCE = "nvidia.com/gpu.shared"
"""What NVIDIA's plugin calls GPUs that are time-sliced, where it is told to rename them."""
MIG_PREFIX = "nvidia.com/mig-"
AMD_PARTITION_PREFIXES = ("amd.com/cpx_", "amd.com/dpx_", "amd.com/qpx_", "amd.com/spx_")
"""AMD's plugin names the partitions of an MI300 so, by compute and memory mode."""

COUNT_LABEL = "nvidia.com/gpu.count"
REPLICAS_LABEL = "nvidia.com/gpu.replicas"
SHARING_LABEL = "nvidia.com/gpu.sharing-strategy"
PRODUCT_LABEL = "nvidia.com/gpu.product"
STRATEGY_LABEL = "nvidia.com/mig.strategy"


class Sharing(Struct, frozen=True):
    """How a node's `nvidia.com/gpu` is to be counted, by GPU feature discovery's labels.

    `replicas`: how many times each GPU is given out (time slicing, MPS). `sliced`: with the single MIG
    strategy the resource counts MIG instances.
    """

    replicas: int = 1
    sliced: bool = False


def sharing_of(labels: Mapping[str, str]) -> Sharing:
    """From a node's labels."""
    replicas = labels.get(REPLICAS_LABEL, "")
    shared = labels.get(SHARING_LABEL, "none") not in ("none", "")
    sliced = labels.get(STRATEGY_LABEL) == "single" and "-MIG-" in labels.get(PRODUCT_LABEL, "")
    return Sharing(int(replicas) if shared and replicas.isdigit() and int(replicas) > 0 else 1, sliced)


def gpus_in(amounts: Mapping[str, float], sharing: Sharing = Sharing()) -> int | None:  # noqa: B008 - a frozen value
    """Whole GPUs among resources; None where none of them counts GPUs, which is not zero."""
    found: int | None = None
    for name, value in amounts.items():
        if name not in GPU_RESOURCES and name != SHARED_RESOURCE:
            continue
        if name.startswith("nvidia.com/"):
            if sharing.sliced:
                continue
            value = value / sharing.replicas
        found = (found or 0) + int(value)
    return found


def slices_in(amounts: Mapping[str, float], sharing: Sharing = Sharing()) -> dict[str, float]:  # noqa: B008 - a frozen value
    """Slices of GPUs among resources, by profile: `1g.10gb`, `cpx_nps4`. They are no GPUs."""
    found: dict[str, float] = {}
    for name, value in amounts.items():
        if name.startswith(MIG_PREFIX):
            found[name.removeprefix(MIG_PREFIX)] = value
        elif name.startswith(AMD_PARTITION_PREFIXES):
            found[name.removeprefix("amd.com/")] = value
        elif name == "nvidia.com/gpu" and sharing.sliced:
            found["mig"] = value
    return found
