"""The config driver: files, folders and git worktrees of this machine, by hash."""

from steersman.drivers.config.observe import ConfigDriver
from steersman.drivers.config.options import ConfigOptions

__all__ = ["ConfigDriver", "ConfigOptions"]
