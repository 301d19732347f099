"""The options of drivers that read one exposition endpoint."""

from __future__ import annotations

import msgspec

from steersman.drivers.web.access import WebAccess
from steersman.kinds.fragment import SCOPE_LABEL


class ExpositionOptions(WebAccess, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a source that is one endpoint, beside those of access.

    - `variables`: more variables for the mappings' templates, e.g. `{service: my-model}` for `{@service}`.
    - `labels`: labels for every entity of this source.
    """

    variables: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        super().__post_init__()
        if SCOPE_LABEL in self.labels:
            raise ValueError(f"the label {SCOPE_LABEL} is the scope: give it as scope")
