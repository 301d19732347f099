"""The mlflow driver: runs and model versions of an MLflow tracking server."""

from steersman.drivers.mlflow.observe import MlflowDriver
from steersman.drivers.mlflow.options import MlflowOptions

__all__ = ["MlflowDriver", "MlflowOptions"]
