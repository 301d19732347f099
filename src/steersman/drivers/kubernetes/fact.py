"""What the pure translation comes to: facts of one entity, without source, scope and time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

from steersman.drivers.kubernetes.shapes import Meta
from steersman.kernel.clock import TimeOutOfRange, as_utc
from steersman.kernel.redact import redact_text, shortened_middle
from steersman.kinds.entity import EntityType

MESSAGE_MAX_CHARS = 300
"""What is kept of a message of the cluster: the first sentence tells what is wrong."""
SCHEDULER_DOMAIN = "kubernetes"
WORKLOAD_LABEL = "steersman.io/workload-type"
"""A label of any object that says what kind of work it carries; one of the words of `WorkloadType`."""


class Fact(Struct, frozen=True):
    """The fields and labels of one entity; None and empty lists are left out of what is told."""

    entity_type: EntityType
    entity_id: str
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    labels: dict[str, str] = field(default_factory=dict[str, str])


class Keep(Struct, frozen=True):
    """Which labels of objects are copied; everything else stays where it is."""

    labels: frozenset[str] = frozenset()

    def of(self, meta: Meta) -> dict[str, str]:
        """The labels of an entity: the chosen ones of its object, and its namespace."""
        kept = {name: text for name, text in (meta.labels or {}).items() if name in self.labels}
        if meta.namespace:
            kept["namespace"] = meta.namespace
        return kept


def common(meta: Meta) -> dict[str, Any]:
    """The fields that every entity made of one object has. Another uid under the same name is another
    incarnation."""
    workload = (meta.labels or {}).get(WORKLOAD_LABEL)
    return {"scheduler_domain": SCHEDULER_DOMAIN, "workload_type": workload, "uid": meta.uid or None}


def shown(message: str | None) -> str | None:
    """A message as it may be kept: short, and with what looks like a credential masked."""
    return redact_text(shortened_middle(message, MESSAGE_MAX_CHARS)) if message else None


def when(text: str | None) -> datetime | None:
    """A time of the API; None where it is none."""
    try:
        return as_utc(datetime.fromisoformat(text)) if text else None
    except (ValueError, TimeOutOfRange):
        return None


def present(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what is absent: None, and lists and mappings with nothing in them."""
    return {
        name: value for name, value in fields.items() if value is not None and value != [] and value != {}
    }


def newest(*times: datetime | None) -> datetime | None:
    """The latest of those that are known."""
    return max((time for time in times if time is not None), default=None)
