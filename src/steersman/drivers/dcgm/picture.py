"""From what the mapping made of a page to what is told: one fragment for each GPU, MIG instances as parts of
theirs, the node, and what is no more. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field, structs

from steersman.drivers.api import Observation
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import LABEL_CLEAR_PREFIX, StateFragment

WORKLOAD_LABELS = ("namespace", "pod", "pod_uid", "container", "vgpu", "dra_claim", "dra_claim_namespace")
"""Labels that go with the work and not with the GPU."""
WORKLOAD_FIELDS = ("assigned_job_id", "assigned_job_ids")
SPARE_GPUS = 1_000
"""GPUs and instances that may be remembered beyond twice those of the last page."""
NODES_MAX = 10_000
"""Nodes that one endpoint may speak for: an exporter speaks for one, a page of many for a fleet."""

_NO_NODE = re.compile(r"[0-9a-f]{12}|[0-9a-f]{64}|(?:nvidia-)?dcgm-exporter-\S+")
"""Host names that are the exporter's container or pod: NODE_NAME is not set there."""


class Page(Struct):
    """What one page says: fragments of GPUs as the mapping made them, and whether it was read in full."""

    gpus: list[StateFragment]
    complete: bool
    warnings: list[str] = field(default_factory=list[str])


class Picture:
    """What this exporter's GPUs were like on the last page."""

    def __init__(self, source_type: str, node_name: str | None, *, nodes: bool) -> None:
        self._source_type = source_type
        self._node_name = node_name
        self._nodes = nodes
        self._parts: dict[EntityKey, str] = {}
        self._had: dict[EntityKey, frozenset[str]] = {}

    @property
    def remembered(self) -> int:
        """How many GPUs and instances are remembered, at most."""
        return max(len(self._had), len(self._parts))

    def take(self, page: Page) -> Observation:
        """The observation of a page; its `complete` is the page's."""
        gpus = [self._placed(self._cleared(gpu), page) for gpu in merged(page.gpus)]
        seen = Observation(gpus, complete=page.complete, warnings=page.warnings)
        seen.gone = self._gone_parts(gpus, page.complete)
        if self.remembered > 2 * len(gpus) + SPARE_GPUS:
            there = {gpu.key for gpu in gpus}
            self._had = {key: has for key, has in self._had.items() if key in there}
            self._parts = {key: gpu for key, gpu in self._parts.items() if key in there}
        if self._nodes and page.complete:
            seen.fragments = gpus + self._tell_nodes(gpus)
        return seen

    def _cleared(self, gpu: StateFragment) -> StateFragment:
        """With what its work left behind taken away."""
        has = frozenset(
            [name for name in WORKLOAD_FIELDS if name in gpu.fields]
            + [f"{LABEL_CLEAR_PREFIX}{name}" for name in WORKLOAD_LABELS if name in gpu.labels]
        )
        left = tuple(sorted(self._had.get(gpu.key, frozenset()) - has))
        self._had[gpu.key] = has
        return structs.replace(gpu, clear=left) if left else gpu

    def _placed(self, gpu: StateFragment, page: Page) -> StateFragment:
        """With its node and, where it is a MIG instance, the GPU that it is part of."""
        fields = dict(gpu.fields)
        if "mig_instance" in fields:
            fields["parent_gpu"] = gpu.entity_id.partition("/")[0]
        host = fields.get("node")
        if self._node_name is not None:
            fields["node"] = self._node_name
        elif isinstance(host, str) and _NO_NODE.fullmatch(host):
            del fields["node"]
            warning = f"host name {host!r} is the exporter's own, not its node's: set NODE_NAME there, or "
            warning += "node_name here"
            if warning not in page.warnings:
                page.warnings.append(warning)
        return structs.replace(gpu, fields=fields)

    def _gone_parts(self, gpus: list[StateFragment], complete: bool) -> list[EntityKey]:
        """MIG instances whose GPU is on the page in some other shape, and they are not: it was divided anew.
        A whole GPU that is not there is lost, not gone: somebody has to go and look."""
        parts = {gpu.key: gpu.fields["parent_gpu"] for gpu in gpus if "parent_gpu" in gpu.fields}
        there = {gpu.fields.get("parent_gpu", gpu.entity_id) for gpu in gpus}
        gone: list[EntityKey] = []
        if complete:  # a line that could not be read looks like an instance that is not there
            gone = [key for key, gpu in self._parts.items() if key not in parts and gpu in there]
        self._parts = {key: gpu for key, gpu in self._parts.items() if key not in gone} | parts
        for key in gone:
            self._had.pop(key, None)
        return gone

    def _tell_nodes(self, gpus: list[StateFragment]) -> list[StateFragment]:
        """Each node with the number of GPUs that its driver shows. MIG instances count as the GPU that they
        are part of."""
        shown: dict[str, dict[str, StateFragment]] = {}
        for gpu in gpus:
            node = gpu.fields.get("node")
            if isinstance(node, str) and (node in shown or len(shown) < NODES_MAX):
                shown.setdefault(node, {})[gpu.fields.get("parent_gpu", gpu.entity_id)] = gpu
        return [
            StateFragment(
                self._source_type,
                EntityType.NODE,
                node,
                min(gpu.observed_at for gpu in whole.values()),
                {"gpus_visible": len(whole)},
                _common_labels(whole.values()),
                next(iter(whole.values())).source,
            )
            for node, whole in shown.items()
        ]


def merged(gpus: Iterable[StateFragment]) -> list[StateFragment]:
    """One fragment for each GPU. An exporter repeats the series of a shared GPU for each pod, and prints some
    metrics without the pod; the numbers are the same."""
    found: dict[EntityKey, list[StateFragment]] = {}
    for gpu in gpus:
        found.setdefault(gpu.key, []).append(gpu)
    return [same[0] if len(same) == 1 else _merge(same) for same in found.values()]


def _merge(same: list[StateFragment]) -> StateFragment:
    fields: dict[str, Any] = {}
    labels: dict[str, set[str]] = {}
    for gpu in same:
        fields.update(gpu.fields)
        for name, text in gpu.labels.items():
            labels.setdefault(name, set()).add(text)
    jobs = sorted({gpu.fields["assigned_job_id"] for gpu in same if "assigned_job_id" in gpu.fields})
    if len(jobs) > 1:  # several jobs share it: said, not guessed
        del fields["assigned_job_id"]
        fields["assigned_job_ids"] = jobs
    return structs.replace(
        same[0],
        observed_at=min(gpu.observed_at for gpu in same),
        fields=fields,
        labels={name: ",".join(sorted(texts)) for name, texts in labels.items()},
    )


def _common_labels(gpus: Iterable[StateFragment]) -> dict[str, str]:
    """The labels of the source itself: those that all GPUs have alike, without a GPU's or its work's."""
    each = [gpu.labels for gpu in gpus]
    own = {*WORKLOAD_LABELS, "gpu_index", "hostname", "mig_profile"}
    return {
        name: text
        for name, text in each[0].items()
        if name not in own and all(labels.get(name) == text for labels in each)
    }
