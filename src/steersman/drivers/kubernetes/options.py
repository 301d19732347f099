"""What `steersman.yaml` may say of a `driver: kubernetes` source, beside the keys that every source has."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from steersman.drivers.kubernetes.access import KubernetesAccess
from steersman.drivers.kubernetes.devices import GPU_DRIVERS
from steersman.drivers.kubernetes.kinds_read import KINDS
from steersman.kernel.nearest import did_you_mean
from steersman.kernel.redact import is_secret_key
from steersman.kinds.fragment import SCOPE_LABEL

NAMESPACES_MAX = 64
"""Each one costs a watch for each kind; who wants more reads all."""
CONFIG_MAPS_MAX = 32
"""Each is asked for with each look."""
LABELS_MAX = 32

KEPT_LABELS = (
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/rack",
    "node.kubernetes.io/instance-type",
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.clique",
    "amd.com/gpu.product-name",
    "app.kubernetes.io/name",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
)
DEDICATED_TAINTS = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/gpu", "sku", "dedicated")
"""Taints with which sites keep CPU work off GPU nodes; the cloud providers put the first ones and `sku`."""

Name = Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
ConfigMapName = Annotated[
    str, Meta(pattern="^[a-z0-9][a-z0-9-]*/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=317)
]


class KubernetesOptions(KubernetesAccess, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `kubernetes` source, beside those of access.

    - `resources`: the kinds of resource that are read, by their names in the API; all that are known where it
      is not given. `namespaces`: read only these; all where none is given.
    - `page_size`: objects of one page of a list.
    - `keep_labels`: labels of objects that are copied to entities. `labels`: labels for every entity.
    - `dedicated_taints`: keys of taints that do not make a node unschedulable.
    - `gpu_drivers`: DRA drivers whose devices are GPUs.
    - `config_maps`: `namespace/name` of ConfigMaps that are watched by hash.
    """

    resources: Annotated[list[str], Meta(min_length=1, max_length=len(KINDS))] = field(
        default_factory=lambda: [name for name in KINDS if name != "devicetaintrules"]
    )
    namespaces: Annotated[list[Name], Meta(max_length=NAMESPACES_MAX)] = field(default_factory=list[str])
    page_size: Annotated[int, Meta(ge=1, le=10_000)] = 500
    keep_labels: Annotated[list[str], Meta(max_length=LABELS_MAX)] = field(
        default_factory=lambda: list(KEPT_LABELS)
    )
    labels: Annotated[dict[str, str], Meta(max_length=LABELS_MAX)] = field(default_factory=dict[str, str])
    dedicated_taints: Annotated[list[str], Meta(max_length=64)] = field(
        default_factory=lambda: list(DEDICATED_TAINTS)
    )
    gpu_drivers: Annotated[list[Name], Meta(max_length=16)] = field(default_factory=lambda: list(GPU_DRIVERS))
    config_maps: Annotated[list[ConfigMapName], Meta(max_length=CONFIG_MAPS_MAX)] = field(
        default_factory=list[str]
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.resources:
            if name not in KINDS:
                raise ValueError(f"no resource {name!r} is read{did_you_mean(name, KINDS)}")
        for what, names in (
            ("resources", self.resources),
            ("namespaces", self.namespaces),
            ("config_maps", self.config_maps),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"{what} names one twice")
        if SCOPE_LABEL in self.labels:
            raise ValueError(f"the label {SCOPE_LABEL} is the scope: give it as scope")
        secret = [name for name in self.keep_labels if is_secret_key(name)]
        if secret:
            raise ValueError(f"keep_labels: {secret[0]} is called like a secret; those are not copied")
