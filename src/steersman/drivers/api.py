"""The one shape of a driver.

Observing is a pull: intake calls `observe` at the source's interval, one call at a time for each source,
under the source's time-out; a driver neither retries nor schedules by itself, and sleeps only where one look
needs two readings (on the injected clock, for a named time well below the time-out). What it can't read it
raises as `SourceError` (or leaves out and says so in `warnings`); intake turns that into the source's health.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Protocol, runtime_checkable

from msgspec import Struct, field

from steersman.kernel.clock import Clock
from steersman.kernel.errors import Unavailable
from steersman.kernel.ids import Rng
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import SCOPE_LABEL, FragmentInvalid, StateFragment
from steersman.kinds.step import StepHandler

WARNINGS_TOLD_MAX = 20
"""Entities that could not be told and are named; as many as intake keeps of a look's warnings."""


class SourceError(Unavailable):
    """The outside system can't be read: down, refused, slow, or its answer makes no sense.

    `detail` names the place (URL, file, device) and what was wrong. Never holds a credential.
    """

    code = "source_error"
    title = "Source can't be read"


class Observation(Struct):
    """What one call of `observe` saw.

    - `fragments`: with true observation times (the sample's, not the call's, where the system tells).
    - `gone`: entities that the system says no longer exist; they become tombstones.
    - `whole`: entity types of which `fragments` has everything there is. What this source alone told of, also
      before a restart, and does not tell now is gone. Said once, with the first whole look, by drivers
      that tell `gone` by themselves from then on: looking through all entities has its price.
    - `complete`: False where part of the picture is missing though the rest is good; `warnings` say what.
    - `drift`: shapes that this driver did not know (an unknown state word, a renamed metric), one line each.
    """

    fragments: list[StateFragment] = field(default_factory=list[StateFragment])
    gone: list[EntityKey] = field(default_factory=list[EntityKey])
    whole: tuple[EntityType, ...] = ()
    complete: bool = True
    warnings: list[str] = field(default_factory=list[str])
    drift: list[str] = field(default_factory=list[str])

    def tell(
        self,
        context: DriverContext,
        source_type: str,
        key: tuple[EntityType, str],
        at: datetime,
        fields: dict[str, Any],
        labels: dict[str, str] | None = None,
        clear: tuple[str, ...] = (),
    ) -> None:
        """Add a fragment of the context's source and scope, about the entity of that type and id. What can't
        be one (a name with half a character in it) costs itself alone, and is a warning."""
        kind, entity_id = key
        labels = dict(labels or {})
        if context.scope:
            labels[SCOPE_LABEL] = context.scope
        try:
            fragment = StateFragment(
                source_type, kind, entity_id, at, fields, labels, context.source, clear=clear
            )
        except FragmentInvalid as error:
            self.complete = False
            if len(self.warnings) < WARNINGS_TOLD_MAX:
                self.warnings.append(f"{kind.value} {entity_id[:64]!r}: {error.detail}")
        else:
            self.fragments.append(fragment)


class DriverContext(Struct, frozen=True):
    """What a driver is handed besides its options.

    `source` is the configured name, `scope` the cluster label for its entities ("" for none), `interval_s`
    how often `observe` will be called, `timeout_s` how long one call may take.
    """

    source: str
    scope: str
    clock: Clock
    rng: Rng
    interval_s: float
    timeout_s: float


class Driver(Protocol):
    """One configured connection to one outside system.

    `name` is the driver's name in `steersman.yaml`. `Options` is the Struct (forbid_unknown_fields) of the
    keys it takes there beside the common ones; the configuration is decoded into it, so a wrong key is
    refused with its file and line. `default_interval_s` is used where the configuration names none.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Struct]]
    default_interval_s: ClassVar[float]

    def __init__(self, options: Any, context: DriverContext) -> None:
        """No I/O here: a source that is down must not stop the start."""
        ...

    async def observe(self) -> Observation:
        """Read the system once. Raises `SourceError`; may be cancelled at any await, and must then leave
        nothing half-open."""
        ...

    async def close(self) -> None:
        """Release connections and files. Repeating it does nothing."""
        ...


@runtime_checkable
class ActingDriver(Protocol):
    """A driver that can also change its system. Its operations are steps of pipelines: `uses: slurm.drain`.

    Each one is idempotent by the call's key, leaves the call's operation and epoch on what it changes and
    refuses where a newer epoch is there (the fence), reads back what it did before it says `succeeded`, and
    with `dry_run: true` among its inputs says what it would do and changes nothing.
    """

    def operations(self) -> Mapping[str, StepHandler]:
        """The handlers by name (`drain`, `resume`); a step names one as `<driver>.<name>`."""
        ...
