"""What became of a fragment."""

from __future__ import annotations

from msgspec import Struct

from steersman.kernel.errors import SteersmanError
from steersman.kinds.entity import EntityKey
from steersman.kinds.fragment import StateFragment
from steersman.state.layer import (
    CLEARED,
    Layer,
    Written,
    beats,
    names,
    said_fields,
    written_fields,
)

CREATED = "created"
MERGED = "merged"
PARTIAL = "partial"
STALE = "stale"
REFUSED = "refused"

ACCEPTED = "accepted"
UNCHANGED = "unchanged"
OLDER = "older"


class MergeOutcome(Struct, frozen=True, gc=False):
    """The bus's answer to a fragment.

    `verdict` is
    - `created`: the first fragment of its entity (or the first after a deletion);
    - `merged`: everything in it stands now;
    - `partial`: some of it lost to a newer word of another source, the rest stands;
    - `stale`: nothing of it stands: it is older than what the same source said, or all of it is older than
      what others said, or the entity was deleted later;
    - `refused`: from `put_many` only: `error` says why; nothing was changed.

    `fields` says the same of each field. `before` and `layer` are what it is worked out from when asked:
    the entity's layers as they were, and the new one (None where the fragment was rejected whole).
    """

    verdict: str
    fragment: StateFragment
    before: tuple[Layer, ...] = ()
    layer: Layer | None = None
    error: SteersmanError | None = None

    @property
    def key(self) -> EntityKey:
        """The entity."""
        return self.fragment.key

    @property
    def revision(self) -> int | None:
        """The bus revision at which it was taken in; None where it was not."""
        return self.layer.revision if self.layer is not None else None

    @property
    def fields(self) -> dict[str, str]:
        """The verdict of each field, cleared ones too: `accepted`, `unchanged` (newer, and the same value as
        before) or `older` (it lost to a newer word). Worked out on each call."""
        if self.layer is None:
            names = (
                *self.fragment.fields,
                *(n for n in self.fragment.clear if n not in self.fragment.fields),
            )
            return dict.fromkeys(names, OLDER)
        layer = self.layer
        before = written_fields(self.before)
        said = Layer(self.fragment, layer.observed_at, layer.arrival, layer.revision, layer.source)
        return {name: _judge(value, said, before.get(name)) for name, value in said_fields(said)}

    def __repr__(self) -> str:
        return f"MergeOutcome(verdict={self.verdict!r}, key={str(self.key)!r}, revision={self.revision})"


def judge(before: tuple[Layer, ...], new: Layer) -> str:
    """The verdict of an accepted fragment on an entity that has `before`."""
    lost: set[str] = set()
    lost_labels: set[str] = set()
    for rival in before:
        if rival.observed_at < new.observed_at or rival.source is new.source:
            continue
        shared = names(rival) & names(new)
        if not shared:
            continue
        rank, new_rank = rival.source.rank, new.source.rank
        if rival.stamps is None:
            if beats(rival, rank, new, new_rank):
                lost |= shared
                lost_labels |= rival.fragment.labels.keys()
            continue
        lost |= {name for name in shared if beats(rival.stamp(name), rank, new, new_rank)}
        lost_labels |= {
            name for name in rival.fragment.labels if beats(rival.label_stamp(name), rank, new, new_rank)
        }
    if not lost:
        return MERGED
    if len(lost) < len(names(new)):
        return PARTIAL
    return STALE if new.fragment.labels.keys() <= lost_labels else PARTIAL


def _judge(value: object, new: Layer, old: Written | None) -> str:
    if _is_beaten(new, old):
        return OLDER
    if old is None:
        return UNCHANGED if value is CLEARED else ACCEPTED
    return UNCHANGED if type(old.value) is type(value) and old.value == value else ACCEPTED


def _is_beaten(new: Layer, old: Written | None) -> bool:
    return old is not None and not beats(new, new.source.rank, old.stamp, old.layer.source.rank)
