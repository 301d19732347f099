"""The annotations that Steersman leaves on what it changes: the fence, and what is ours to take back."""

from __future__ import annotations

PREFIX = "steersman.io/"
FIELD_MANAGER = "steersman"
"""Who changed a field, as the server keeps it in managedFields."""
OPERATION_MARK = f"{PREFIX}operation"
"""The key of the attempt that changed the object last."""
EPOCH_MARK = f"{PREFIX}epoch"
"""The fence: an attempt of an older epoch than this is refused."""
RESOURCE_MARK = f"{PREFIX}resource"
"""Whose epoch that is: epochs of different resources can't be compared."""
CORDON_MARK = f"{PREFIX}cordoned"
"""On a node that we cordoned: the attempt that did. What is cordoned without it is somebody else's; what is
cordoned with it may be (`ours.why_not_our_cordon`)."""
REASON_MARK = f"{PREFIX}reason"
RESTARTED_MARK = "kubectl.kubernetes.io/restartedAt"
"""What `kubectl rollout restart` writes into the pod template, and so do we: one restart, one value."""
TAINTS_MARK = f"{PREFIX}taints"
"""On a node: the taints that we put, as `key=value:effect@time` with commas between (`ours.taint_mark`).
Others are somebody else's."""
