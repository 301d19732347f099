"""The wandb driver: runs of Weights & Biases, from its cloud or a server of one's own."""

from steersman.drivers.wandb.observe import WandbDriver
from steersman.drivers.wandb.options import WandbOptions

__all__ = ["WandbDriver", "WandbOptions"]
