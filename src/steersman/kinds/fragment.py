"""State fragments: what a source says of one entity at one moment.

A driver, a push over HTTP and a replay all speak in fragments; the State Bus alone turns them into
entities. A fragment is a value: it is cleaned once, when it is made or decoded, and never changed or
copied after that.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field
from msgspec.structs import force_setattr

from steersman.kernel.clock import as_utc
from steersman.kernel.errors import InvalidInput
from steersman.kinds.entity import EntityKey, EntityType

SCOPE_LABEL = "cluster"
"""The label that holds an entity's scope."""

ID_MAX_CHARS = 512
LABEL_CLEAR_PREFIX = "labels."
"""`clear=("labels.pod",)` takes the label `pod` away; a field can't have this prefix among `clear`."""
FIELDS_MAX = 256
LABELS_MAX = 64
NAME_MAX_CHARS = 128
TEXT_MAX_CHARS = 4096
LABELS_MAX_CHARS = 16 * 1024
"""All label names and values of a fragment together."""
CLEAR_MAX_CHARS = 64 * 1024
"""All names to clear of a fragment together."""


class FragmentInvalid(InvalidInput):
    """A fragment breaks a rule of its shape; `detail` names the field."""

    code = "fragment_invalid"
    title = "Fragment invalid"


# Plain data can't form cycles. Untracked, a fleet's fragments are not walked by each full collection, which
# would cost as much as decoding them.
class StateFragment(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
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
        # On the path of every fragment: each attribute is read once, and what needs no change is not touched.
        source_type, entity_id, source = self.source_type, self.entity_id, self.source
        fields, labels, observed_at = self.fields, self.labels, self.observed_at
        if self.entity_type.__class__ is not EntityType:
            force_setattr(self, "entity_type", _entity_type(self.entity_type))
        if not source:
            force_setattr(self, "source", source_type)
        if not source_type or not entity_id:
            raise FragmentInvalid("source_type and entity_id must not be empty")
        if len(entity_id) > ID_MAX_CHARS or len(source_type) > NAME_MAX_CHARS or len(source) > NAME_MAX_CHARS:
            raise FragmentInvalid(
                f"entity_id has at most {ID_MAX_CHARS} characters, source_type and source {NAME_MAX_CHARS}"
            )
        if "\0" in entity_id:
            raise FragmentInvalid("entity_id holds a NUL, and no URL could name the entity")
        if len(fields) > FIELDS_MAX or len(self.clear) > FIELDS_MAX:
            raise FragmentInvalid(f"at most {FIELDS_MAX} fields, and as many names to clear, are accepted")
        if not (entity_id.isascii() and source_type.isascii() and source.isascii()):
            _check_text("entity_id, source_type and source", entity_id, source_type, source)
        if labels:
            _check_labels(labels)
        if self.clear:
            _check_clear(self.clear)
        if observed_at.tzinfo is not UTC:
            force_setattr(self, "observed_at", as_utc(observed_at))
        for value in fields.values():
            if value is None or (isinstance(value, float) and value - value != 0.0):
                force_setattr(self, "fields", _present(fields))
                break

    @property
    def key(self) -> EntityKey:
        """The entity this speaks of."""
        return EntityKey(self.entity_type, self.labels.get(SCOPE_LABEL, ""), self.entity_id)


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    # NaN is not itself; an infinity minus itself is NaN. Both are a source's way to say "no number".
    return {
        name: value
        for name, value in fields.items()
        if value is not None and not (isinstance(value, float) and value - value != 0.0)
    }


def _check_labels(labels: dict[str, str]) -> None:
    try:
        text = "".join(labels) + "".join(labels.values())
    except TypeError:
        raise FragmentInvalid("labels are a mapping of texts to texts") from None
    if not text.isascii():
        _check_text("labels", text)
    if len(labels) > LABELS_MAX or len(text) > LABELS_MAX_CHARS:
        raise FragmentInvalid(
            f"at most {LABELS_MAX} labels of {LABELS_MAX_CHARS} characters in all are accepted"
        )


def _check_clear(names: tuple[str, ...]) -> None:
    try:
        text = "".join(names)
    except TypeError:
        raise FragmentInvalid("clear is a list of field names") from None
    _check_text("clear", text)
    if len(text) > CLEAR_MAX_CHARS:
        raise FragmentInvalid(f"clear has at most {CLEAR_MAX_CHARS} characters in all")


def _check_text(what: str, *texts: str) -> None:
    for text in texts:
        if not is_whole(text):
            raise FragmentInvalid(f"{what}: half of a character (a lone surrogate) in {ascii(text)[:60]}")


def is_whole(text: str) -> bool:
    """Whether a text can be written at all: half of a surrogate pair, as Python makes of a file name that is
    not UTF-8, fits into no format, so one of them would spoil every answer and checkpoint that it is in."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _entity_type(word: str) -> EntityType:
    try:
        return EntityType(word)
    except ValueError:
        known = ", ".join(EntityType)
        raise FragmentInvalid(f"entity_type is one of {known}, not {word!r:.80}") from None
