"""The slurm driver: a Slurm cluster by slurmrestd or by its commands."""

from steersman.drivers.slurm.observe import SlurmDriver
from steersman.drivers.slurm.options import SlurmOptions

__all__ = ["SlurmDriver", "SlurmOptions"]
