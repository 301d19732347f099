"""What the figures of a service say of its state and of its revisions' traffic.

Without traffic there is no latency, and no traffic since the last look is no proof that nobody uses the
service: a stream may run for minutes without a request that ends. So it is idle only where all three are told
and zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment


def state_of(fields: dict[str, Any]) -> str | None:
    """`active` where requests run, wait or ended; `idle` where it is known that none does; else None."""
    signs = [fields.get(name) for name in ("in_flight", "queue_depth", "throughput")]
    if any(signs):
        return "active"
    return "idle" if None not in signs else None


def with_states(fragments: Sequence[StateFragment]) -> list[StateFragment]:
    """The fragments, with the state of each service that does not tell one itself."""
    told: list[StateFragment] = []
    for fragment in fragments:
        state = None
        if fragment.entity_type is EntityType.SERVICE and "service_state" not in fragment.fields:
            state = state_of(fragment.fields)
        told.append(_with(fragment, {"service_state": state}) if state else fragment)
    return told


def with_readiness(fragments: Sequence[StateFragment], up: bool, error: str) -> list[StateFragment]:
    """The fragments, each service with what the probe of readiness said."""
    said: dict[str, Any] = {"up": up} if up else {"up": up, "last_error": error}
    return [_with(f, said) if f.entity_type is EntityType.SERVICE else f for f in fragments]


def with_traffic(fragments: Sequence[StateFragment]) -> list[StateFragment]:
    """The fragments, each revision of a server that shows all revisions of its models with the share of its
    model's requests since the last look; absent where there were none."""
    sums: dict[str, float] = {}
    for fragment in fragments:
        if fragment.entity_type is EntityType.MODEL_REVISION and "throughput" in fragment.fields:
            model = str(fragment.fields.get("model_name"))
            sums[model] = sums.get(model, 0.0) + fragment.fields["throughput"]
    told: list[StateFragment] = []
    for fragment in fragments:
        total = sums.get(str(fragment.fields.get("model_name")), 0.0)
        rate = fragment.fields.get("throughput")
        if fragment.entity_type is EntityType.MODEL_REVISION and total > 0 and rate is not None:
            told.append(_with(fragment, {"traffic_percent": min(100.0, 100.0 * rate / total)}))
        else:
            told.append(fragment)
    return told


def _with(fragment: StateFragment, fields: dict[str, Any]) -> StateFragment:
    return structs.replace(fragment, fields={**fragment.fields, **fields})
