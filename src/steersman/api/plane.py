"""What the API reads: handed over by the program, so that the API wires nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from steersman.api.auth import Tokens
from steersman.api.settings import ApiSettings
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Ids
from steersman.kernel.tasks import Supervisor
from steersman.store.api import Store

if TYPE_CHECKING:
    from steersman.act.delivery.deliveries import Deliveries
    from steersman.api.control import Control
    from steersman.observe.inlet import Inlet
    from steersman.observe.judge import SourceHealth
    from steersman.state.bus import StateBus
    from steersman.state.tail import Tail

DASHBOARD_FOLDER = Path(__file__).parent / "dashboard"
"""Where the build puts the dashboard. The folder is missing in a checkout that was not built."""


@dataclass(slots=True)
class Plane:
    """One running plane, as the API sees it.

    - `inlet` is the door to the bus: what is pushed goes in through it, and recorders listen at it.
    - `supervisor` owns the API's own tasks (tokens, and a listener for each event stream).
    - `store_name` says what the store is, without credentials: `sqlite`, `memory`.
    - `intake_sources` answers how each configured source fares, as intake has it.
    - `intake_failures` answers why intake does not run, one line each; empty where it does.
    - `tail` and `deliveries` tell of events of resources; None where this process has no outbox.
    - `control` is the acting half: resources, decisions, lifecycles. None where this process only observes.
    """

    bus: StateBus
    inlet: Inlet
    store: Store
    clock: Clock
    ids: Ids
    supervisor: Supervisor
    tokens: Tokens
    version: str
    started_at: datetime
    settings: ApiSettings = field(default_factory=ApiSettings)
    store_name: str = "memory"
    intake_sources: Callable[[], list[SourceHealth]] = list
    intake_failures: Callable[[], list[str]] = list
    dashboard: Path = DASHBOARD_FOLDER
    control: Control | None = None
    tail: Tail | None = None
    deliveries: Deliveries | None = None
