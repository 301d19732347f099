"""What can be done to a Slurm cluster: the operations by name, and those on nodes. See
docs/reference/drivers/slurm.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from steersman.drivers.inputs import Inputs
from steersman.drivers.slurm.act_jobs import Cancel, Requeue
from steersman.drivers.slurm.act_reservations import CreateReservation, DeleteReservation
from steersman.drivers.slurm.changes import Changes, unanswered
from steersman.drivers.slurm.picture import NodeSeen
from steersman.drivers.slurm.steps import (
    Operation,
    Site,
    SlurmSteps,
    done,
    later,
    overtaken,
    refused,
    rehearsed,
)
from steersman.drivers.slurm.tags import ADDED, read_tag, tag_for
from steersman.kernel.clock import Clock
from steersman.kinds.step import StepCall, StepHandler, StepResult

NODE_PATTERN = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
"""One node, and no list of hosts."""
REASON_MAX_CHARS = 512

NodeName = Annotated[str, Meta(pattern=NODE_PATTERN, max_length=253)]
Reason = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=REASON_MAX_CHARS)]


class SlurmOperations:
    """The operations on one cluster."""

    def __init__(self, cluster: Changes, clock: Clock) -> None:
        operations: dict[str, Operation] = {
            "drain": Drain(),
            "resume": Resume(),
            "reservation_create": CreateReservation(),
            "reservation_delete": DeleteReservation(),
            "requeue": Requeue(),
            "cancel": Cancel(),
        }
        self._handlers = {name: SlurmSteps(cluster, clock, one) for name, one in operations.items()}

    def handlers(self) -> Mapping[str, StepHandler]:
        """By name."""
        return self._handlers


class NodeInputs(Inputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which node."""

    node: NodeName

    def __post_init__(self) -> None:
        if self.node.lower() == "all":
            raise ValueError("ALL is every node to Slurm; name one")

    @property
    def what(self) -> str:
        """The node, as results name it."""
        return f"node {self.node}"


class DrainInputs(NodeInputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reason` is left on the node, behind our tag. `wait`: until no work is left on it."""

    reason: Reason = ""
    wait: bool = True


class Drain:
    """No new work for a node, and where wanted, wait until what runs there has ended. No job is ended. A
    node that somebody else drained stays theirs, with their reason."""

    Inputs: ClassVar[type[Inputs]] = DrainInputs

    async def make(self, site: Site, inputs: Any) -> StepResult:
        """Drain it, and wait."""
        what: str = inputs.what
        node = await site.cluster.node(inputs.node, site.ask_s)
        if node is None:
            return refused(what, "Slurm has no such node")
        if _overtaken(node, site.call):
            return overtaken(what)
        begun = is_drained(node) and not _to_take(node, site.call)
        if inputs.dry_run:
            state = f"it is {node.state.text}"
            return rehearsed(
                what,
                f"drained already, {_whose(node, site.call)}; {state}"
                if begun
                else f"would be drained; {state}",
                {"ours": _is_ours(node, site.call) or not begun, "busy": node.state.busy},
            )
        if not begun:
            reason = _reason_for(node, site.call, inputs.reason)
            with unanswered():
                await site.cluster.set_node(inputs.node, "DRAIN", reason, site.ask_s)
                node = await site.cluster.node(inputs.node, site.ask_s)
            if node is None or not is_drained(node):
                return later(what, "was drained, and somebody undid it at once")
            if _overtaken(node, site.call):
                return overtaken(what)
        return await self._empty(site, inputs, node, changed=not begun)

    async def find(self, site: Site, inputs: Any) -> StepResult | None:
        """Whether the node bears this operation's tag, and is empty. What was begun and has work left may be
        begun again: nothing goes on by itself."""
        node = await site.cluster.node(inputs.node, site.ask_s)
        if node is None:
            return None
        if _overtaken(node, site.call):
            return overtaken(inputs.what)
        tag = read_tag(node.reason)
        if tag is None or not tag.is_own(site.call):
            return None
        if not is_drained(node):
            return None
        if inputs.wait and node.state.busy:
            return later(inputs.what, f"drained, and has work yet ({node.state.text})", _left(node))
        return _drained(inputs, node, site.call, changed=True)

    async def _empty(self, site: Site, inputs: Any, node: NodeSeen, *, changed: bool) -> StepResult:
        """Wait until no work is left on it, where that is wanted."""
        turn = 0
        while inputs.wait and node.state.busy:
            if not await site.wait(turn):
                why = f"drained, and has work yet when the time is over ({node.state.text})"
                return later(inputs.what, why, _left(node))
            turn += 1
            seen = await site.cluster.node(inputs.node, site.ask_s)
            if seen is None:
                return refused(inputs.what, "somebody took it out of Slurm while it was drained")
            node = seen
            if _overtaken(node, site.call):
                return overtaken(inputs.what)
            if not is_drained(node):
                return refused(inputs.what, "somebody resumed it while it was drained")
        return _drained(inputs, node, site.call, changed=changed)


class ResumeInputs(NodeInputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`force`: also where the drain is not ours, or Slurm found a fault since."""

    force: bool = False


class Resume:
    """Work for a node again, where it was us who drained it."""

    Inputs: ClassVar[type[Inputs]] = ResumeInputs

    async def make(self, site: Site, inputs: Any) -> StepResult:
        """Read again right before it is resumed: Slurm changes nothing on a condition."""
        what: str = inputs.what
        node = await site.cluster.node(inputs.node, site.ask_s)
        if node is None:
            return refused(what, "Slurm has no such node")
        if _overtaken(node, site.call):
            return overtaken(what)
        outputs = {"ours": _is_ours(node, site.call)}
        if not _is_out(node):
            return (rehearsed if inputs.dry_run else _unchanged)(what, f"not drained ({node.state.text})")
        why = "" if inputs.force else _refusal(node, site.call)
        if why:
            return refused(what, f"{why}; force: true resumes it all the same")
        if inputs.dry_run:
            return rehearsed(what, f"would be resumed; it is {node.state.text}", outputs)
        with unanswered():
            await site.cluster.set_node(inputs.node, "RESUME", "", site.ask_s)
            node = await site.cluster.node(inputs.node, site.ask_s)
        if node is None or _is_out(node):
            state = node.state.text if node is not None else "gone"
            return later(what, f"was resumed, and is out of work again at once ({state})")
        return done(what, f"resumed ({node.state.text})", changed=True, outputs=outputs)

    async def find(self, site: Site, inputs: Any) -> StepResult | None:
        """Nothing is left on a node that was resumed: it takes work, or the attempt may be made again."""
        node = await site.cluster.node(inputs.node, site.ask_s)
        if node is None:
            return None
        if _overtaken(node, site.call):
            return overtaken(inputs.what)
        if _is_out(node):
            return None
        return done(inputs.what, f"found not drained ({node.state.text})", changed=True)


def is_drained(node: NodeSeen) -> bool:
    """Whether it takes no new work because somebody said so."""
    return "DRAIN" in node.state.flags


def _reason_for(node: NodeSeen, call: StepCall, text: str) -> str:
    """Our tag, and behind it what was found of the node: a fault must not vanish behind our drain."""
    tag = read_tag(node.reason)
    found = tag.added if tag is not None else (node.reason or "") if _is_out(node) else ""
    return f"{tag_for(call, text)}{ADDED}{found}" if found else str(tag_for(call, text))


def _is_out(node: NodeSeen) -> bool:
    """Whether RESUME would change its state."""
    return is_drained(node) or "FAIL" in node.state.flags or node.state.base in ("DOWN", "ERROR")


def _overtaken(node: NodeSeen, call: StepCall) -> bool:
    tag = read_tag(node.reason)
    return tag is not None and tag.overtakes(call)


def _is_ours(node: NodeSeen, call: StepCall) -> bool:
    """Whether an operation on the resource of the call drained it."""
    tag = read_tag(node.reason)
    return tag is not None and tag.is_of(call)


def _to_take(node: NodeSeen, call: StepCall) -> bool:
    """Whether an older operation on the same resource drained it: the drain gets the newer tag."""
    tag = read_tag(node.reason)
    return tag is not None and tag.is_of(call) and not tag.is_own(call)


def _whose(node: NodeSeen, call: StepCall) -> str:
    return "by us" if _is_ours(node, call) else "by somebody else, whose it stays"


def _refusal(node: NodeSeen, call: StepCall) -> str:
    """Why it must not be resumed; empty where it may."""
    tag = read_tag(node.reason)
    if tag is None:
        by = f" ({node.reason_by})" if node.reason_by else ""
        return f"somebody else{by} took it out: {node.reason or node.state.text}"
    if not tag.is_of(call):
        return f"an operation on {tag.resource} drained it"
    if tag.added and not tag.added.lower().startswith("reboot"):
        return f"since we drained it Slurm found: {tag.added}"
    return ""


def _left(node: NodeSeen) -> dict[str, Any]:
    return {"state": node.state.text, "cpus_allocated": node.cpus_allocated or 0}


def _drained(inputs: Any, node: NodeSeen, call: StepCall, *, changed: bool) -> StepResult:
    ours = _is_ours(node, call)
    empty = "" if node.state.busy else ", no work is left on it"
    whose = "" if ours else f" {_whose(node, call)}"
    outputs = {"ours": ours, "busy": node.state.busy, "reason": node.reason or ""}
    return done(inputs.what, f"drained{whose}{empty}", changed=changed and ours, outputs=outputs)


def _unchanged(what: str, detail: str) -> StepResult:
    return done(what, detail, changed=False)
