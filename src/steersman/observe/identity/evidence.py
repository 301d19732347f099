"""What a fragment says of the name of its entity: tokens that two names must share to be one thing.

A token belongs to a rule; rules are tried in the order of `RULES`. What can't identify (loopback addresses,
firmware UUIDs that vendors left at a default) gives no token. `proper` tells whether the id is a name that an
inventory would give, and so whether one source would ever give two of them to one thing.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from msgspec import Struct

from steersman.kinds.entity import EntityType

MANUAL, NAME, ADDRESS, SYSTEM, SHORT = "manual", "name", "address", "system_id", "short_name"
RULES = (NAME, ADDRESS, SYSTEM, SHORT)
"""In order: an exact name, else an address, else an id of the machine or of its cloud, else a short name."""

Token = tuple[str, str]
"""Rule and text."""

_NODE_FIELDS = ("hostname", "addresses", "system_uuid", "provider_id", "instance_id", "boot_id", "uid")
_GPU_FIELDS = (
    "gpu_uuid",
    "mig_uuid",
    "parent_gpu",
    "mig_instance",
    "device",
    "node",
    "pci_bus_id",
    "gpu_index",
)
FIELDS_READ: dict[EntityType, tuple[str, ...]] = {
    EntityType.NODE: _NODE_FIELDS,
    EntityType.GPU: _GPU_FIELDS,
    EntityType.JOB: ("uid", "submitted_at", "scheduler_job_id"),
    EntityType.SERVICE: ("uid",),
    EntityType.DEPLOYMENT: ("uid",),
    EntityType.TENANT_SCOPE: ("uid", "scope_type"),
    EntityType.QUEUE: ("uid",),
    EntityType.MODEL_REVISION: ("uid",),
    EntityType.SCHEDULER_DOMAIN: ("uid",),
    EntityType.EXPERIMENT_TRACKER: ("uid",),
    EntityType.DATA_PIPELINE_STAGE: ("uid",),
}
"""Fields that say what a thing is called, or which one of that name it is."""

LABELS_READ: dict[EntityType, tuple[str, ...]] = {
    EntityType.NODE: (
        "hostname",
        "Hostname",
        "nodename",
        "node",
        "instance",
        "internal_ip",
        "system_uuid",
        "provider_id",
    ),
    EntityType.JOB: ("hpc_job", "SLURM_JOB_ID", "slurm_job_id"),
    EntityType.SERVICE: ("namespace", "service"),
    EntityType.DEPLOYMENT: ("namespace", "deployment"),
}
"""Labels that exporters use for the same."""

JOINED = frozenset(
    {
        EntityType.NODE,
        EntityType.GPU,
        EntityType.JOB,
        EntityType.SERVICE,
        EntityType.DEPLOYMENT,
        EntityType.TENANT_SCOPE,
    }
)
"""Types of which two names may be one thing."""

LIFE_FIELDS: dict[EntityType, tuple[str, ...]] = {
    entity_type: ("uid",) for entity_type in FIELDS_READ if entity_type is not EntityType.GPU
} | {
    EntityType.NODE: ("uid", "system_uuid", "instance_id", "provider_id"),
    EntityType.JOB: ("uid", "submitted_at"),
}
"""Fields of which another value means another thing of the same name. A new `boot_id` is not among them: the
machine that booted is the same, and what schedulers said of it holds."""

LIVED_ONCE = ("uid", "submitted_at")
"""Those of them that no other life ever has again. A machine's ids come back: it registers anew, or returns
from repair to the name that a spare had meanwhile."""

_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "localhost4", "localhost6"})
_NO_UUIDS = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
    }
)
"""What firmware says whose vendor never set it."""
_PORT = re.compile(r"^(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\s]+):\d{1,5}$")
_GPU_UUID = re.compile(r"^(GPU|MIG)-", re.IGNORECASE)
_SLICE = re.compile(r"^(?P<parent>GPU-[0-9A-Za-z-]+)/(?P<instance>\d+)$")
_PCI = re.compile(r"^(?:(?P<domain>[0-9A-Fa-f]{4,8}):)?(?P<rest>[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])$")


class Evidence(Struct, frozen=True):
    """What is known of a name from one source.

    - `ids`: ids of the thing itself, by kind; two things that differ in one are not the same, whatever else.
    - `full`: the name in full, where it has more than a short one.
    """

    tokens: tuple[Token, ...]
    proper: bool = True
    ids: tuple[tuple[str, str], ...] = ()
    full: str = ""


Canonical = Callable[[str], str]
"""The entity id of a node's name."""


def evidence_of(
    entity_type: EntityType, entity_id: str, said: Mapping[str, Any], node: Canonical = str, boot: str = ""
) -> Evidence:
    """Read what was said: fields by name, labels under `labels.<name>`. `boot` is the boot that a GPU's node
    is in, for what is true within one boot only."""
    if entity_type is EntityType.NODE:
        return _node(entity_id, said)
    if entity_type is EntityType.GPU:
        return _gpu(entity_id, said, node, boot)
    if entity_type is EntityType.JOB:
        return _job(entity_id, said)
    return _qualified(entity_type, entity_id, said)


def _node(entity_id: str, said: Mapping[str, Any]) -> Evidence:
    tokens: list[Token] = []
    proper, full = True, ""
    host = _without_port(entity_id)
    address = address_of(host)
    system = _uuid(entity_id)
    if address is not None:
        proper = False
        tokens += [(ADDRESS, address)] if address else []
    elif system is not None:
        proper = False
        tokens += [(SYSTEM, f"system UUID {system}")] if system else []
    elif "://" in entity_id:
        proper = False
        tokens += _provider(entity_id)
    else:
        proper = host == entity_id
        full = _name(host)
        tokens += _names(host)
    for key in ("hostname", "labels.hostname", "labels.Hostname", "labels.nodename", "labels.node"):
        tokens += _host(said.get(key))
    tokens += _host(said.get("labels.instance"))
    addresses: Any = said.get("addresses") or ()
    for one in (*tuple(addresses), said.get("labels.internal_ip")):
        found = address_of(one) if isinstance(one, str) else None
        tokens += [(ADDRESS, found)] if found else []
    ids: list[tuple[str, str]] = []
    for key in ("system_uuid", "labels.system_uuid"):
        found = _uuid(said.get(key))
        if found:
            tokens.append((SYSTEM, f"system UUID {found}"))
            ids.append(("system UUID", found))
    for key in ("provider_id", "labels.provider_id"):
        value = said.get(key)
        if isinstance(value, str) and value:
            tokens += _provider(value)
            ids.append(("provider id", value))
    instance = said.get("instance_id")
    if isinstance(instance, str) and instance:
        tokens.append((SYSTEM, f"instance {instance}"))
    return Evidence(_once(tokens), proper, tuple(ids), full)


def _gpu(entity_id: str, said: Mapping[str, Any], node: Canonical, boot: str) -> Evidence:
    tokens: list[Token] = [(NAME, f"name {entity_id}")]
    ids: list[tuple[str, str]] = []
    part = _SLICE.match(entity_id)
    parent = part["parent"] if part else said.get("parent_gpu")
    instance = part["instance"] if part else said.get("mig_instance")
    is_slice = bool(part or parent or instance is not None or said.get("mig_uuid"))
    is_slice = is_slice or entity_id[:4].upper() == "MIG-"
    for value in (entity_id if not part else None, said.get("gpu_uuid"), said.get("mig_uuid")):
        if not isinstance(value, str) or not _GPU_UUID.match(value) or "/" in value:
            continue
        of_slice = value[:4].upper() == "MIG-"
        if of_slice or not is_slice:  # a slice may tell its GPU's UUID, and is not that GPU
            tokens.append((NAME, f"UUID {value.lower()}"))
            ids.append(("MIG UUID" if of_slice else "UUID", value.lower()))
    device = said.get("device")
    if isinstance(device, str) and device:
        tokens.append((NAME, f"name {device}"))
    if isinstance(parent, str) and parent and instance is not None:
        tokens.append((SYSTEM, f"MIG instance {instance} of {parent.lower()}"))
    place = said.get("node")
    if isinstance(place, str) and place and not is_slice:  # a slice's address and index are its GPU's
        pci, index = _pci(said.get("pci_bus_id")), said.get("gpu_index")
        if pci:
            tokens.append((ADDRESS, f"PCI address {pci} of {node(place)}"))
        if isinstance(index, int):
            within = f" since boot {boot}" if boot else ""
            tokens.append((SHORT, f"index {index} of {node(place)}{within}"))
    return Evidence(_once(tokens), is_gpu_id(entity_id), tuple(ids))


def is_gpu_id(entity_id: str) -> bool:
    """Whether an id of a GPU is one that is the same for all sources: its UUID, or parent and instance."""
    return _GPU_UUID.match(entity_id) is not None


def _job(entity_id: str, said: Mapping[str, Any]) -> Evidence:
    tokens: list[Token] = [(NAME, f"name {entity_id}"), *_uid(said)]
    for key in ("scheduler_job_id", "labels.hpc_job", "labels.SLURM_JOB_ID", "labels.slurm_job_id"):
        value = said.get(key)
        if value not in (None, "", "0"):
            tokens.append((NAME, f"name {value}"))
    submitted = said.get("submitted_at")
    ids = (("submit time", f"{submitted:%Y-%m-%dT%H:%M:%S%z}"),) if submitted is not None else ()
    return Evidence(_once(tokens), True, ids)


def _qualified(entity_type: EntityType, entity_id: str, said: Mapping[str, Any]) -> Evidence:
    """A service, deployment or tenant: `namespace/name`, or the name alone."""
    tokens: list[Token] = [(NAME, f"name {entity_id}"), *_uid(said)]
    space, name = said.get("labels.namespace"), said.get(f"labels.{entity_type.value}")
    if isinstance(space, str) and isinstance(name, str) and space and name:
        tokens.append((NAME, f"name {space}/{name}"))
    *_, short = entity_id.rpartition("/")
    if short:
        tokens.append((SHORT, f"short name {short}"))
    return Evidence(_once(tokens), True, (), entity_id if "/" in entity_id else "")


def _uid(said: Mapping[str, Any]) -> Iterator[Token]:
    value = said.get("uid")
    if isinstance(value, str) and value:
        yield SYSTEM, f"uid {value}"


def _names(host: str) -> Iterator[Token]:
    name = _name(host)
    if name and name not in _LOCAL_NAMES:
        yield NAME, f"name {name}"
        yield SHORT, f"short name {name.partition('.')[0]}"


def _host(value: Any) -> Iterator[Token]:
    """A name or an address, with or without a port."""
    if not isinstance(value, str) or not value:
        return
    host = _without_port(value)
    address = address_of(host)
    if address is None:
        yield from _names(host)
    elif address:
        yield ADDRESS, address


def _provider(value: str) -> Iterator[Token]:
    yield SYSTEM, f"provider id {value}"
    scheme, _, rest = value.partition("://")
    last = rest.rpartition("/")[2]
    # Elsewhere the last part is a name or a number within a group, and says nothing alone.
    if scheme == "aws" and last.startswith("i-"):
        yield SYSTEM, f"instance {last}"


def _name(host: str) -> str:
    return host.rstrip(".").lower()


def _without_port(text: str) -> str:
    match = _PORT.match(text)
    return match["host"].strip("[]") if match else text


def address_of(text: str) -> str | None:
    """The address in one spelling; empty where it identifies no machine; None where it is no address."""
    try:
        found = ip_address(text.strip("[]"))
    except ValueError:
        return None
    if found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast:
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)


def _uuid(value: Any) -> str | None:
    """A firmware UUID in one spelling; empty where it is a vendor's default; None where it is none.

    Firmware gives the first three parts in the machine's byte order, and tools differ in whether they swap
    them: the smaller of both spellings stands for both.
    """
    if not isinstance(value, str) or len(value) not in (32, 36):
        return None
    try:
        one = uuid.UUID(value)
    except ValueError:
        return None
    text = min(str(one), str(uuid.UUID(bytes_le=one.bytes)))
    return "" if str(one) in _NO_UUIDS or text in _NO_UUIDS else text


def _pci(value: Any) -> str:
    match = _PCI.match(value) if isinstance(value, str) else None
    if match is None:
        return ""
    return f"{int(match['domain'] or '0', 16):04x}:{match['rest'].lower()}"


def _once(tokens: list[Token]) -> tuple[Token, ...]:
    return tuple(dict.fromkeys(tokens))


def is_anew(
    name: str, value: Any, ended: Sequence[tuple[str, Any]], told: Iterable[Mapping[str, Any]]
) -> bool:
    """Whether an id that a source tells for the first time is of a life of which nobody told yet. `ended` are
    the ids of lives that are over, `told` is what other sources say of the name. Where they say something
    else, an id of a life before is that of a copy that lags, of hardware that was replaced."""
    if all(field != name for field, _ in ended):
        return False
    known = [said[name] for said in told if name in said]
    return value not in known and not (known and (name, value) in ended)
