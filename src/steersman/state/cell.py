"""One entity as the bus holds it."""

from __future__ import annotations

from steersman.kinds.entity import EntityKey
from steersman.state.history import History
from steersman.state.layer import Layer, Stamp

NEVER = float("inf")


class Cell:
    """An entity's layers and what belongs to them; mutable, one for each key, never shared with callers.

    - `layers`: what is known; empty for a tombstone. `ghost`: a tombstone's last layers, for display.
    - `revision`: the bus revision of its last change; -1 once it is forgotten altogether.
    - `floor`: when it was last deleted; nothing observed up to then counts any more.
    - `announced`: the freshness that subscribers were last told.
    - `plain`: one layer, announced as fresh: what the hot path takes on itself.
    - `alarm`: monotonic second at which the wheel looks at it next; NEVER where it is not on the wheel.
    - `sample_at`: monotonic second from which the next change is sampled for `history`.
    """

    __slots__ = (
        "alarm",
        "announced",
        "floor",
        "ghost",
        "history",
        "key",
        "layers",
        "plain",
        "revision",
        "sample_at",
    )

    def __init__(self, key: EntityKey) -> None:
        self.key = key
        self.layers: tuple[Layer, ...] = ()
        self.ghost: tuple[Layer, ...] = ()
        self.revision = 0
        self.floor: Stamp | None = None
        self.announced = ""
        self.plain = False
        self.alarm = NEVER
        self.sample_at = 0.0
        self.history: History | None = None
