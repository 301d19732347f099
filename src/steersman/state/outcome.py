"""What became of a fragment."""

from __future__ import annotations

from msgspec import Struct

from steersman.kernel.errors import SteersmanError
from steersman.kinds.entity import EntityKey
from steersman.kinds.fragment import StateFragment
from steersman.state.layer import (
    CLEARED,
    LABEL_CLEAR_PREFIX,
    Layer,
    Written,
    beats,
    names,
    said_fields,
    said_labels,
    written_fields,
    written_labels,
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
            cleared = [n for n in self.fragment.clear if not n.startswith(LABEL_CLEAR_PREFIX)]
            return dict.fromkeys((*self.fragment.fields, *cleared), OLDER)
        layer = self.layer
        before = written_fields(self.before)
        said = Layer(self.fragment, layer.observed_at, layer.arrival, layer.revision, layer.source)
        return {name: _judge(value, said, before.get(name)) for name, value in said_fields(said)}

    def __repr__(self) -> str:
        return f"MergeOutcome(verdict={self.verdict!r}, key={str(self.key)!r}, revision={self.revision})"


def judge(before: tuple[Layer, ...], new: Layer) -> str:
    """The verdict of an accepted fragment on an entity that has `before`."""
    source, observed_at = new.source, new.observed_at
    said = names(new)
    lost: set[str] = set()
    rivals = [r for r in before if r.observed_at >= observed_at and r.source is not source]
    for rival in rivals:
        shared = names(rival) & said
        if not shared:
            continue
        if rival.stamps is not None:
            lost |= {n for n in shared if beats(rival.stamp(n), rival.source.rank, new, source.rank)}
        elif beats(rival, rival.source.rank, new, source.rank):
            lost |= shared
    if not lost:
        return MERGED
    if len(lost) < len(said):
        return PARTIAL
    labels = written_labels(tuple(rivals))
    return STALE if all(_is_beaten(new, labels.get(name)) for name, _ in said_labels(new)) else PARTIAL


def _judge(value: object, new: Layer, old: Written | None) -> str:
    if _is_beaten(new, old):
        return OLDER
    if old is None:
        return UNCHANGED if value is CLEARED else ACCEPTED
    return UNCHANGED if type(old.value) is type(value) and old.value == value else ACCEPTED


def _is_beaten(new: Layer, old: Written | None) -> bool:
    return old is not None and not beats(new, new.source.rank, old.stamp, old.layer.source.rank)
