"""Lifecycles given in code, for tests and benchmarks that need no files: the Ledger's `Machines`."""

from __future__ import annotations

from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.machine import Machine
from steersman.kinds.plane_resources import FREEZE_LIFECYCLE, POLICY_LIFECYCLE
from steersman.kinds.refusal import UnknownLifecycle


class Tables:
    """The plane's own tables and those given, by name with or without version."""

    def __init__(self, *lifecycles: Lifecycle) -> None:
        self._machines: dict[str, Machine] = {}
        for lifecycle in (FREEZE_LIFECYCLE, POLICY_LIFECYCLE, *lifecycles):
            machine = Machine(lifecycle)
            self._machines[lifecycle.name] = self._machines[str(lifecycle)] = machine

    def machine(self, table: str) -> Machine:
        """The compiled table. Raises `UnknownLifecycle`."""
        found = self._machines.get(table)
        if found is None:
            raise UnknownLifecycle(
                f"no lifecycle {table!r}", lifecycle=table, lifecycles=list(self._machines)
            )
        return found
