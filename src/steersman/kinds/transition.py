"""One change of status, as it is kept in a resource's history and shown on its timeline.

Two vocabularies name the same facts. Ours: from_state, to_state, transitioned_at, triggered_by, reason. The
inventory API's: from, to, timestamp, initiator, note. Both are read; `to_dict` writes the first and
`to_inventory` the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from steersman.kernel.clock import as_utc, iso_utc
from steersman.kernel.errors import InvalidInput

SYSTEM = "system"
"""Who triggered a transition, where nobody is named."""


class TransitionInvalid(InvalidInput, ValueError):
    """A record of a transition that can't be read; `detail` names the key."""

    code = "transition_invalid"
    title = "Transition record invalid"


class StateTransition(Struct, frozen=True):
    """A resource went from one state to another; a value.

    `from_state` is None for the first record of a resource: it came into being in `to_state`. `triggered_by`
    names who or what: a user, a policy, an engine, a timer. `metadata` is what the writer adds (evidence,
    causation id, forced); it belongs to the record and is not to be changed after it was handed over.
    A naive time is read as UTC.
    """

    from_state: str | None
    to_state: str
    transitioned_at: datetime
    triggered_by: str = SYSTEM
    reason: str | None = None
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.to_state:
            raise TransitionInvalid("to_state must not be empty")
        force_setattr(self, "transitioned_at", as_utc(self.transitioned_at))

    def to_dict(self) -> dict[str, Any]:
        """All six keys, the time as ISO 8601 in UTC; nothing in it is shared with this record."""
        return {
            "from_state": self.from_state,
            "to_state": self.to_state,
            "transitioned_at": iso_utc(self.transitioned_at),
            "triggered_by": self.triggered_by,
            "reason": self.reason,
            "metadata": deepcopy(self.metadata),
        }

    def to_inventory(self) -> dict[str, Any]:
        """The same facts as the inventory API names them; metadata is not part of that vocabulary."""
        return {
            "from": self.from_state,
            "to": self.to_state,
            "timestamp": iso_utc(self.transitioned_at),
            "initiator": self.triggered_by,
            "note": self.reason,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StateTransition:
        """Read either vocabulary; times may be ISO texts or datetimes. Raises `TransitionInvalid`.

        A record without a name says "system"; unknown keys are refused.
        """
        renamed = {_INVENTORY_NAMES.get(key, key): deepcopy(value) for key, value in data.items()}
        if len(renamed) != len(data):
            raise TransitionInvalid("transition: the same fact is given under two names")
        renamed.setdefault("from_state", None)
        unknown = sorted(set(renamed) - set(cls.__struct_fields__))
        if unknown:
            raise TransitionInvalid(f"transition: {unknown[0]!r} is not a key of a transition record")
        try:
            return msgspec.convert(renamed, cls)
        except msgspec.ValidationError as error:
            raise TransitionInvalid(f"transition: {error}") from None

    def __str__(self) -> str:
        return (
            f"{self.from_state} → {self.to_state} at {iso_utc(self.transitioned_at)} by {self.triggered_by}"
        )


_INVENTORY_NAMES = {
    "from": "from_state",
    "to": "to_state",
    "timestamp": "transitioned_at",
    "initiator": "triggered_by",
    "note": "reason",
}
