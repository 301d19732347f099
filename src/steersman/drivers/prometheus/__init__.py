"""The prometheus driver: any entity, out of a Prometheus-compatible HTTP API, by mapping tables."""

from steersman.drivers.prometheus.observe import PrometheusDriver
from steersman.drivers.prometheus.options import PrometheusOptions

__all__ = ["PrometheusDriver", "PrometheusOptions"]
