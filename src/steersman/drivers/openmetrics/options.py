"""What `steersman.yaml` may say of a `driver: openmetrics` source, beside the keys that every source has."""

from __future__ import annotations

from steersman.drivers.exposition import TableOptions


class OpenMetricsOptions(TableOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of an `openmetrics` source: those of mapping tables, of an endpoint and of access."""
