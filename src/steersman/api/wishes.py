"""What the bodies of requests about resources and decisions hold. An unknown member is refused by name."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from steersman.kinds.command import EVIDENCE_MAX, NAME_MAX_CHARS, REASON_MAX_CHARS, Evidence

ID_MAX_CHARS = 256
LABELS_MAX = 64
METADATA_KEYS_MAX = 256
TEXT_MAX_CHARS = 512 * 1024
"""A lifecycle or policies as text, for a lint or a dry run."""

Reason = Annotated[str, Meta(max_length=REASON_MAX_CHARS)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
OptionalName = Annotated[str, Meta(max_length=NAME_MAX_CHARS)]
Labels = Annotated[dict[str, Annotated[str, Meta(max_length=1024)]], Meta(max_length=LABELS_MAX)]
Metadata = Annotated[dict[str, Any], Meta(max_length=METADATA_KEYS_MAX)]
Id = Annotated[str, Meta(min_length=1, max_length=ID_MAX_CHARS)]


class ResourceSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a resource is meant to be. What is left out stays as it is; `labels` and `metadata` replace.

    - `kind` and `id` may be left out where the address names them; else they must agree with it.
    - `lifecycle`: a table, `name` or `name@version`, needed for a new one unless its kind has one.
    - `scope`: the `cluster` label of the entity that observes a node.
    - `spec`: further fields of the kind.
    - `status`: where a new one is; refused by apply, which never moves a thing.
    """

    kind: OptionalName = ""
    id: Annotated[str, Meta(max_length=ID_MAX_CHARS)] = ""
    labels: Labels | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    owner_id: OptionalName | UnsetType = UNSET
    lifecycle: OptionalName | UnsetType = UNSET
    desired_status: OptionalName | UnsetType | None = UNSET
    scope: OptionalName | UnsetType = UNSET
    status: OptionalName | UnsetType = UNSET
    spec: Metadata = field(default_factory=dict[str, Any])
    reason: Reason = ""
    initiator: OptionalName = ""


class DesiredStatus(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a resource is meant to be; null takes the intent back."""

    status: OptionalName | None
    reason: Reason = ""
    initiator: OptionalName = ""
    dry_run: bool = False


class TransitionWish(Struct, frozen=True, forbid_unknown_fields=True):
    """A transition by its `event` or by the state it leads `to`; with both, they must agree.

    `initiator` is for whom the caller acts: kept as evidence, never taken for who asks.
    """

    to: OptionalName = ""
    event: OptionalName = ""
    reason: Reason = ""
    initiator: OptionalName = ""
    evidence: Annotated[tuple[Evidence, ...], Meta(max_length=EVIDENCE_MAX - 1)] = ()
    dry_run: bool = False


class HoldWish(Struct, frozen=True, forbid_unknown_fields=True):
    """A hold: why, and until when; without `expires_at` until it is lifted."""

    reason: Reason = ""
    expires_at: datetime | None = None
    initiator: OptionalName = ""


class Why(Struct, frozen=True, forbid_unknown_fields=True):
    """A reason, and for whom the caller acts."""

    reason: Reason = ""
    initiator: OptionalName = ""


class SnoozeWish(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask nobody before `until`; null asks again at once."""

    until: datetime | None
    reason: Reason = ""
    initiator: OptionalName = ""


class FreezeWish(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether acting is to be frozen, and why."""

    frozen: bool
    reason: Reason = ""
    initiator: OptionalName = ""


class ModeWish(Struct, frozen=True, forbid_unknown_fields=True):
    """The mode that a policy is to have, or `disabled`; and why."""

    mode: Name
    reason: Reason = ""
    initiator: OptionalName = ""


class StepAnswer(Struct, frozen=True, forbid_unknown_fields=True):
    """What an outside system says of a suspended step.

    `epoch` and `attempt` are what it was handed when the step began: answers of an earlier try are recorded,
    not applied. `resource` (`Kind/id`) saves the search for the operation.
    """

    epoch: Annotated[int, Meta(ge=0)]
    attempt: Annotated[int, Meta(ge=1)]
    outcome: Literal["succeeded", "transient", "permanent", "superseded", "cancelled", "uncertain"]
    evidence: Metadata = field(default_factory=dict[str, Any])
    outputs: Metadata = field(default_factory=dict[str, Any])
    detail: Annotated[str, Meta(max_length=4096)] = ""
    resource: Annotated[str, Meta(max_length=ID_MAX_CHARS + 64)] = ""


class TextWish(Struct, frozen=True, forbid_unknown_fields=True):
    """A text to be judged, and the name of its file for the places in the answer."""

    text: Annotated[str, Meta(max_length=TEXT_MAX_CHARS)]
    file: Annotated[str, Meta(max_length=1024)] = "<text>"
