"""The serving driver: model servers, each read by the table of its stack, or by the OpenAI list of models."""

from steersman.drivers.serving.observe import ServingDriver
from steersman.drivers.serving.options import ServingOptions

__all__ = ["ServingDriver", "ServingOptions"]
