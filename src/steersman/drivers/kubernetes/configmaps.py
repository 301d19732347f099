"""From a ConfigMap to the `config_snapshot` entity: a hash; the content is never kept. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from steersman.drivers.kubernetes.fact import Fact, present, when
from steersman.drivers.kubernetes.shapes import Thing
from steersman.kinds.entity import EntityType


class ConfigMap(Thing, frozen=True, rename="camel"):
    """v1 ConfigMap. It is hashed where it is decoded, and then dropped."""

    data: dict[str, str] | None = None
    binary_data: dict[str, str] | None = None


def config_map_fact(path: str, item: ConfigMap | None) -> Fact:
    """`path` is `namespace/name`; None stands for one that does not exist."""
    namespace, _, name = path.partition("/")
    labels = {"namespace": namespace, "name": name, "kind": "ConfigMap"}
    fields: dict[str, Any] = {
        "scheduler_domain": "kubernetes",
        "present": item is not None,
        "path": f"configmap/{path}",
    }
    if item is not None:
        fields |= {
            "config_hash": content_hash(item),
            "size_bytes": sum(
                len(v.encode()) for part in (item.data, item.binary_data) for v in (part or {}).values()
            ),
            "uid": item.metadata.uid or None,
            "created_at": when(item.metadata.creation_timestamp),
        }
    return Fact(EntityType.CONFIG_SNAPSHOT, f"{namespace}/configmap/{name}", present(fields), labels)


def content_hash(item: ConfigMap) -> str:
    """`sha256:` and the digest of data and binary data with sorted keys."""
    content = {"binaryData": item.binary_data or {}, "data": item.data or {}}
    return f"sha256:{sha256(msgspec.json.encode(content, order='sorted')).hexdigest()}"
