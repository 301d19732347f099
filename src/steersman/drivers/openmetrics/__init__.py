"""The openmetrics driver: any Prometheus or OpenMetrics endpoint, by a mapping table."""

from steersman.drivers.openmetrics.observe import OpenMetricsDriver
from steersman.drivers.openmetrics.options import OpenMetricsOptions

__all__ = ["OpenMetricsDriver", "OpenMetricsOptions"]
