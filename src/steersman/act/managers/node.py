"""Nodes: machines of the inventory, walked through the lifecycle that their site has written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from steersman.act.managers.walking import Walker
from steersman.kinds.state import NodeState, ResourceRef, ResourceState


class NodeManager(Walker):
    """The manager of kind `Node`."""

    kind: ClassVar[str] = "Node"

    def relatives(self, state: ResourceState) -> Sequence[ResourceRef]:
        """Whatever it is part of, and the host whose machine it is."""
        host = state.host_id if isinstance(state, NodeState) else None
        return [*super().relatives(state), *([ResourceRef("Host", host)] if host else [])]
