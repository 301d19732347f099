"""The pipelines driver: one look at Airflow or Dagster."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation
from steersman.drivers.pipelines.airflow import Airflow
from steersman.drivers.pipelines.dagster import Dagster
from steersman.drivers.pipelines.options import PipelinesOptions
from steersman.drivers.pipelines.picture import Teller

LOOK_SHARE = 0.85
"""Share of the source's time-out that the requests of a look may take together."""


class PipelinesDriver:
    """Observes the pipelines of one system. See docs/reference/drivers/pipelines.md."""

    name: ClassVar[str] = "pipelines"
    Options: ClassVar[type[Struct]] = PipelinesOptions
    default_interval_s: ClassVar[float] = 30.0

    def __init__(self, options: PipelinesOptions, context: DriverContext) -> None:
        self._context = context
        self._client = options.open_client(context.clock)
        system = Airflow if options.flavor == "airflow" else Dagster
        self._system = system(options, self._client, context.clock)
        self._teller = Teller(context, options.labels, options.flavor, options.instance)

    async def observe(self) -> Observation:
        """Look once. Raises `SourceError`."""
        until_s = self._context.clock.monotonic() + self._context.timeout_s * LOOK_SHARE
        return self._teller.tell(await self._system.look(until_s))

    async def close(self) -> None:
        """Close the connections. Repeating it does nothing."""
        await self._client.close()
