"""State fragments: what a source says of one entity at one moment.

A driver, a push over HTTP and a replay all speak in fragments; the State Bus alone turns them into
entities. A fragment is a value: it is cleaned once, when it is made or decoded, and never changed or
copied after that.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field
from msgspec.structs import force_setattr

from steersman.kernel.clock import as_utc
from steersman.kernel.errors import InvalidInput
from steersman.kinds.entity import EntityKey, EntityType

SCOPE_LABEL = "cluster"
"""The label that holds an entity's scope."""

ID_MAX_CHARS = 512
FIELDS_MAX = 256
LABELS_MAX = 64
NAME_MAX_CHARS = 128
TEXT_MAX_CHARS = 4096


class FragmentInvalid(InvalidInput):
    """A fragment breaks a rule of its shape; `detail` names the field."""

    code = "fragment_invalid"
    title = "Fragment invalid"


class StateFragment(Struct, frozen=True):
    """Part of an entity's state, as one source saw it at `observed_at`.

    - `source_type`: the kind of source (`prometheus`, `host`, ...). `source` is its configured name, and
      what staleness is judged by; left empty it is the source_type.
    - `fields`: values by canonical name and in canonical units. None, NaN and infinities mean that the source
      has no value: they are taken out here, and they never erase what is known.
    - `clear`: names of fields that the source says are no more. This is the only way to erase one.
    - `labels`: `cluster` is the scope.

    A naive `observed_at` is read as UTC.
    """

    source_type: str
    entity_type: EntityType
    entity_id: str
    observed_at: datetime
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    labels: dict[str, str] = field(default_factory=dict[str, str])
    source: str = ""
    clear: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.source_type or not self.entity_id:
            raise FragmentInvalid("source_type and entity_id must not be empty")
        if len(self.entity_id) > ID_MAX_CHARS or len(self.source_type) > NAME_MAX_CHARS:
            raise FragmentInvalid(
                f"entity_id has at most {ID_MAX_CHARS} characters, source_type {NAME_MAX_CHARS}"
            )
        if len(self.fields) > FIELDS_MAX or len(self.labels) > LABELS_MAX:
            raise FragmentInvalid(f"at most {FIELDS_MAX} fields and {LABELS_MAX} labels are accepted")
        if self.observed_at.tzinfo is None or self.observed_at.utcoffset():
            force_setattr(self, "observed_at", as_utc(self.observed_at))
        if not self.source:
            force_setattr(self, "source", self.source_type)
        absent = [name for name, value in self.fields.items() if _is_absent(value)]
        if absent:
            kept = {name: value for name, value in self.fields.items() if name not in absent}
            force_setattr(self, "fields", kept)

    @property
    def key(self) -> EntityKey:
        """The entity this speaks of."""
        return EntityKey(self.entity_type, self.labels.get(SCOPE_LABEL, ""), self.entity_id)


def _is_absent(value: Any) -> bool:
    if value is None:
        return True
    # NaN is not itself; an infinity minus itself is NaN. Both are a source's way to say "no number".
    return isinstance(value, float) and value - value != 0.0
