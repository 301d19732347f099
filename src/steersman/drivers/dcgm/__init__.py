"""The dcgm driver: dcgm-exporter, scraped directly."""

from steersman.drivers.dcgm.observe import DcgmDriver
from steersman.drivers.dcgm.options import DcgmOptions

__all__ = ["DcgmDriver", "DcgmOptions"]
