"""What `steersman.yaml` may say of a `driver: dcgm` source, beside the keys that every source has."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from steersman.drivers.exposition import ExpositionOptions
from steersman.kernel.quantity import Between, Duration

XID_WINDOW_S = 86_400.0
"""NVSentinel's rules for XIDs that come again look back for 24 hours."""
XID_HOLD_S = 3_600.0
"""The exporter's gauge keeps a code until its host engine is restarted, also after the GPU was reset. An hour
is long enough for somebody to act on it, and short enough that a mended GPU comes back by itself."""


class DcgmOptions(ExpositionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `dcgm` source, beside those of an endpoint and of access.

    - `node_name`: the entity id of the node, where the exporter's own host name is not it (`NODE_NAME` is not
      set in its pod).
    - `nodes`: whether the node is told of, with the number of GPUs that its driver shows.
    - `xid_window`: how far back XIDs that were seen to come are counted.
    - `xid_hold`: how long an XID that was seen to come stands, while nothing shows that it is over.
    """

    node_name: Annotated[str, Meta(min_length=1, max_length=253)] | None = None
    nodes: bool = True
    xid_window: Annotated[Duration, Between(Duration(60), Duration(30 * 86_400))] = Duration(XID_WINDOW_S)
    xid_hold: Annotated[Duration, Between(Duration(0), Duration(30 * 86_400))] = Duration(XID_HOLD_S)
