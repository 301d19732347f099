"""The openmetrics driver: one exposition endpoint, read through mapping tables."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation
from steersman.drivers.exposition import EndpointReader
from steersman.drivers.openmetrics.options import OpenMetricsOptions


class OpenMetricsDriver:
    """Observes what an exporter shows. See docs/reference/drivers/openmetrics.md."""

    name: ClassVar[str] = "openmetrics"
    Options: ClassVar[type[Struct]] = OpenMetricsOptions
    default_interval_s: ClassVar[float] = 15.0

    def __init__(self, options: OpenMetricsOptions, context: DriverContext) -> None:
        self._reader = EndpointReader(options, options.tables, context)

    async def observe(self) -> Observation:
        """Read the page once. Raises `SourceError`."""
        return await self._reader.read()

    async def close(self) -> None:
        """Close the connection and the thread. Repeating it does nothing."""
        await self._reader.close()
