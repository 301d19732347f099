"""The options of drivers that read metrics."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from steersman.drivers.exposition.mapping import Mapping, open_mapping
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


class TableOptions(ExpositionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a source that names its mapping tables, beside those of an endpoint and of access.

    - `mappings`: shipped mappings by name, or paths of YAML files. `mapping`: one written in place.

    Mapping files are read here, when the configuration is, so that a mistake in one is a mistake in the
    configuration, and a driver is made without reading files.
    """

    mappings: Annotated[list[str], Meta(max_length=32)] = msgspec.field(default_factory=list[str])
    mapping: Mapping | None = None

    def __post_init__(self) -> None:
        tables = [open_mapping(name) for name in self.mappings]
        tables += [self.mapping] if self.mapping is not None else []
        cast("dict[str, Any]", self.__dict__)["_tables"] = tables  # kept beside the fields: no key of its own
        super().__post_init__()
        if not tables:
            raise ValueError("a source needs mappings (names or files) or a mapping of its own")
        names = [table.name for table in tables]
        if len(set(names)) < len(names):
            raise ValueError("two mappings have one name")

    @property
    def tables(self) -> list[Mapping]:
        """All mappings of this source."""
        return self.__dict__["_tables"]
