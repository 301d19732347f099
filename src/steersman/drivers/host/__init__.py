"""The host driver: the machine that Steersman runs on. See docs/reference/drivers/host.md."""

from steersman.drivers.host.observe import HostDriver
from steersman.drivers.host.options import HostOptions

__all__ = ["HostDriver", "HostOptions"]
