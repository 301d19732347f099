"""The pipelines driver: what Airflow and Dagster say of their pipelines, and of their schedulers."""

from steersman.drivers.pipelines.observe import PipelinesDriver
from steersman.drivers.pipelines.options import PipelinesOptions

__all__ = ["PipelinesDriver", "PipelinesOptions"]
