"""What `steersman.yaml` may say of a `driver: openmetrics` source, beside the keys that every source has."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from steersman.drivers.exposition import ExpositionOptions, Mapping, open_mapping


class OpenMetricsOptions(ExpositionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of an `openmetrics` source, beside those of an endpoint and of access.

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
