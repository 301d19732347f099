"""Processes of this machine: as steps of a pipeline, and kept running. docs/reference/drivers/process.md."""

from steersman.drivers.process.command import Command, CommandInvalid, read_command
from steersman.drivers.process.observe import ProcessDriver
from steersman.drivers.process.options import ProcessOptions
from steersman.drivers.process.steps import ProcessSteps

__all__ = ["Command", "CommandInvalid", "ProcessDriver", "ProcessOptions", "ProcessSteps", "read_command"]
