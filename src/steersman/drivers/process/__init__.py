"""Commands on this machine: steps of a pipeline."""

from steersman.drivers.process.command import Command, CommandInvalid, read_command
from steersman.drivers.process.steps import ProcessSteps

__all__ = ["Command", "CommandInvalid", "ProcessSteps", "read_command"]
