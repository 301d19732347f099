"""Signs that a source's shape is not the one we know, or that its names leave a doubt.

They are kept apart from entities: a driver that meets a new word goes on, but somebody should know.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from steersman.kinds.canonical import EntityType

WORD = "unknown_word"
"""A value that its field's vocabulary does not have."""
TYPE = "wrong_type"
"""A value of another type than its field's."""
WRONG_TYPE = "a value of type"
"""How the detail of such a signal begins."""
SHAPE = "shape"
"""What a driver did not know in its system's answers: a metric renamed, a label missing, another unit."""
IDENTITY = "identity"
"""A name that could be each of several things."""


class DriftSignal(Struct, frozen=True):
    """One kind of surprise, how often it was met, and when first and last.

    `kind` is unknown_word, wrong_type, shape or identity. `entity_type` and `field` are left out where the
    signal is of a source as a whole, `source` where it is not known.
    """

    kind: str
    entity_type: EntityType | None
    field: str
    source: str
    detail: str
    count: int
    first_at: datetime
    last_at: datetime


class DriftList(Struct, frozen=True):
    """All signals, the oldest kind first; `dropped` counts further kinds, for which there was no room."""

    items: list[DriftSignal]
    dropped: int = 0
