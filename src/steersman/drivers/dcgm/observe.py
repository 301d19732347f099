"""The dcgm driver: one dcgm-exporter, read through the `dcgm` mapping, with what takes memory added."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation
from steersman.drivers.dcgm.options import DcgmOptions
from steersman.drivers.dcgm.picture import Page, Picture
from steersman.drivers.dcgm.xid import XidMemory
from steersman.drivers.exposition import EndpointReader, open_mapping
from steersman.kinds.fragment import StateFragment

MAPPING = open_mapping("dcgm")


class DcgmDriver:
    """Observes the GPUs of one dcgm-exporter. See docs/reference/drivers/dcgm.md."""

    name: ClassVar[str] = "dcgm"
    Options: ClassVar[type[Struct]] = DcgmOptions
    default_interval_s: ClassVar[float] = 15.0
    """The exporter collects every 30 s unless told otherwise; its Helm chart has it scraped every 15 s."""

    def __init__(self, options: DcgmOptions, context: DriverContext) -> None:
        self._clock = context.clock
        self._place = options.place
        self._reader = EndpointReader(options, [MAPPING], context, may_be_empty=True)
        self._xids = XidMemory(float(options.xid_window), float(options.xid_hold))
        self._picture = Picture(MAPPING.source_type, options.node_name, nodes=options.nodes)

    async def observe(self) -> Observation:
        """Read the page once. Raises `SourceError`."""
        read = await self._reader.read()
        seen = self._picture.take(Page(read.fragments, read.complete))
        at_s = self._clock.monotonic()
        for fragment in seen.fragments:
            self._look_for_xids(fragment, at_s)
        self._xids.forget(at_s)
        seen.warnings = [*read.warnings, *(f"{self._place}: {warning}" for warning in seen.warnings)]
        seen.complete = not seen.warnings
        seen.drift = read.drift
        return seen

    async def close(self) -> None:
        """Close the connection and the thread. Repeating it does nothing."""
        await self._reader.close()

    def _look_for_xids(self, fragment: StateFragment, at_s: float) -> None:
        """Its fields are ours alone until they are handed over, so they are filled in place."""
        if fragment.entity_type == "gpu":
            self._xids.look(fragment.entity_id, fragment.fields, fragment.observed_at, at_s)
