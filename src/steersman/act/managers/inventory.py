"""Machines become resources: the one that Steersman runs on by itself, all others by a person's word.

A source that runs on a machine (driver `host`) proves that the machine exists and is in use, so its node
becomes a resource, in service. What other sources speak of may be anything; for that `steersman apply` is
there. A resource that is there is never touched, and one that a person has deleted is not made again.

The resource is named like the entity, and the entity by all that its sources call the machine. So nothing is
made at the start until each source has had its first say, or has failed, or has had time enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from steersman.act.managers.sights import NODE, NodeSight, NodeSights, find_node, node_refs
from steersman.kernel.clock import Clock
from steersman.kernel.errors import SteersmanError
from steersman.kernel.logging import get_logger
from steersman.kinds.command import Actor, Terms
from steersman.kinds.lifecycle import UnknownState
from steersman.kinds.refusal import ResourceExists, ResourceNotFound
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.ledger import Ledger, Machines
from steersman.store.api import StoreUnavailable

IMPORTER = Actor("importer", ("importer",))
"""Who makes them."""
LIFECYCLE = "hpc-default"
IN_SERVICE = "in_service"
"""Where a machine begins that is in use; the table's initial state where it has none of that name."""
RETRY_S = 5.0
HEARD_WITHIN_S = 30.0
"""How long sources are waited for at the start: three usual cadences."""
SETTLE_S = 2.0
"""Then a source that streams may still be at its first list: so long until its names are joined too."""
_LOOK_EVERY_S = 0.5

_log = get_logger("act.inventory")


class Inventory:
    """Makes nodes. Give `run` to a supervisor with restart.

    - `proves(source)`: whether the source, by name, runs on the machine that it reports.
    - `unheard()`: sources that may name machines too and have neither spoken nor failed so far.
    """

    def __init__(
        self,
        ledger: Ledger,
        machines: Machines,
        sights: NodeSights,
        *,
        clock: Clock,
        proves: Callable[[str], bool],
        unheard: Callable[[], Collection[str]] = tuple,
        lifecycle: str = LIFECYCLE,
    ) -> None:
        self._ledger = ledger
        self._machines = machines
        self._sights = sights
        self._clock = clock
        self._proves = proves
        self._unheard = unheard
        self._lifecycle = lifecycle
        self._known: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Watch for machines until cancelled."""
        changes = self._sights.subscribe()
        try:
            await self._hear_all()
            for sight in list(self._sights.all()):
                await self._enrol_surely(sight)
            while True:
                for sight in await changes.next():
                    await self._enrol_surely(sight)
        finally:
            changes.close()

    async def _hear_all(self) -> None:
        if not self._unheard():
            return
        until = self._clock.monotonic() + HEARD_WITHIN_S
        while (silent := self._unheard()) and self._clock.monotonic() < until:
            await self._clock.sleep(_LOOK_EVERY_S)
        if silent:
            _log.warning("enrolling_without", sources=sorted(silent), waited_s=HEARD_WITHIN_S)
        await self._clock.sleep(SETTLE_S)

    async def enrol(self, sight: NodeSight) -> ResourceRef | None:
        """Make the machine's resource if it is to have one and has none; its ref where one was made."""
        key = (sight.id, sight.scope)
        if key in self._known or sight.gone or not any(self._proves(source) for source in sight.sources):
            return None
        ref = None if await find_node(self._ledger, *key) is not None else await self._free_name(sight)
        if ref is not None:
            ref = await self._make(ref, sight)
        self._known.add(key)
        return ref

    async def _free_name(self, sight: NodeSight) -> ResourceRef | None:
        """A name for it; None where the machine was a resource before and somebody has deleted it."""
        for ref in node_refs(sight.id, sight.scope):
            if await self._ledger.find(ref) is not None:
                continue  # another scope's
            try:
                past = await self._ledger.history(ref, limit=1, newest_first=True)
            except ResourceNotFound:
                return ref  # it never was
            return None if past.entries else ref
        return None

    async def _make(self, ref: ResourceRef, sight: NodeSight) -> ResourceRef | None:
        try:
            status = self._machines.machine(self._lifecycle).lifecycle.canonical(IN_SERVICE)
        except UnknownState:
            status = ""
        state = NodeState(id=ref.id, scope=sight.scope, status=status, lifecycle_table=self._lifecycle)
        terms = Terms(reason=f"seen by {', '.join(sight.sources)}, which runs on it")
        try:
            await self._ledger.create(state, IMPORTER, terms=terms)
        except ResourceExists:
            return None  # another replica was quicker
        _log.info("node_enrolled", node=ref.id, scope=sight.scope, lifecycle=self._lifecycle)
        return ResourceRef(NODE, ref.id)

    async def _enrol_surely(self, sight: NodeSight) -> None:
        while True:
            try:
                await self.enrol(sight)
                return
            except StoreUnavailable as error:
                _log.warning("node_not_enrolled", node=sight.id, error=error.detail, retry_in_s=RETRY_S)
                await self._clock.sleep(RETRY_S)
            except SteersmanError as error:
                _log.error("node_not_enrolled", node=sight.id, error=error.detail)
                return
