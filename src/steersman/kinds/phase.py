"""The phases that a resource goes through, and what carries each of them out.

A phase binds to an engine: `pipeline` (built in; a DAG of steps in `pipeline_def`) or `workflow` (an outside
engine; the workflow's name in `workflow_ref`). What an engine needs may also be bound later, by the
definition; what it can't use is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, NamedTuple, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import force_setattr

from steersman.kernel.errors import InvalidInput

PHASES_MAX = 64
NAME_MAX_CHARS = 128

_REF = re.compile(r"(?:(?P<namespace>[^/@\s]+)/)?(?P<name>[^/@\s]+)(?:@(?P<version>[^/@\s]+))?")

PhaseEngine = Literal["pipeline", "workflow"]
"""What carries a phase out."""


class PhaseInvalid(InvalidInput, ValueError):
    """A phase or a lifecycle of phases that contradicts itself; `detail` names the phase."""

    code = "phase_invalid"
    title = "Lifecycle phase invalid"


class WorkflowRef(NamedTuple):
    """A workflow by name. In text: `[namespace/]name[@version]`."""

    name: str
    namespace: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        namespace = f"{self.namespace}/" if self.namespace else ""
        return f"{namespace}{self.name}{f'@{self.version}' if self.version else ''}"


class LifecyclePhase(Struct, frozen=True):
    """One phase; a value.

    - `trigger_on_status`: the status whose entering starts it; None where it follows the phase before it.
    - `pipeline_def`: for `pipeline`; has `steps`.
    - `workflow_ref`: for `workflow`; a text `[namespace/]name[@version]`. A mapping of these three keys is
      read too and kept as the text.
    - `is_required`: False where the phase may be skipped.
    """

    name: str
    engine: PhaseEngine = "pipeline"
    trigger_on_status: str | None = None
    pipeline_def: dict[str, Any] | None = None
    workflow_ref: str | None = None
    is_required: bool = True

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > NAME_MAX_CHARS:
            raise PhaseInvalid(f"a phase has a name of 1 to {NAME_MAX_CHARS} characters")
        if self.engine not in ("pipeline", "workflow"):
            raise PhaseInvalid(f"phase {self.name}: engine is pipeline or workflow, not {self.engine!r}")
        if self.workflow_ref is not None:
            force_setattr(self, "workflow_ref", str(_read_ref(self.name, self.workflow_ref)))
        if self.engine == "pipeline" and self.workflow_ref is not None:
            raise PhaseInvalid(f"phase {self.name}: engine pipeline takes pipeline_def, not workflow_ref")
        if self.engine == "workflow" and self.pipeline_def is not None:
            raise PhaseInvalid(f"phase {self.name}: engine workflow takes workflow_ref, not pipeline_def")
        if self.pipeline_def is not None and not isinstance(self.pipeline_def.get("steps", []), list):
            raise PhaseInvalid(f"phase {self.name}: pipeline_def.steps is a list")

    def workflow(self) -> WorkflowRef | None:
        """The workflow's name in parts; None where the phase names none."""
        return None if self.workflow_ref is None else _read_ref(self.name, self.workflow_ref)

    def to_dict(self) -> dict[str, Any]:
        """All six keys; nothing in it is shared with this phase."""
        return {name: deepcopy(getattr(self, name)) for name in self.__struct_fields__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LifecyclePhase:
        """Read `to_dict`'s form; only `name` is needed. Raises `PhaseInvalid`, also for an unknown key."""
        given = deepcopy(dict(data))
        unknown = sorted(set(given) - set(cls.__struct_fields__))
        if unknown:
            raise PhaseInvalid(f"phase {given.get('name', '?')}: {unknown[0]!r} is not a key of a phase")
        if given.get("workflow_ref") is not None:
            given["workflow_ref"] = str(_read_ref(str(given.get("name", "?")), given["workflow_ref"]))
        try:
            return msgspec.convert(given, cls)
        except msgspec.ValidationError as error:
            raise PhaseInvalid(f"phase {given.get('name', '?')}: {error}") from None


class ManagedLifecycle(Struct, frozen=True):
    """The ordered phases of one resource and where it stands; a value.

    `current_phase` is None before the first, else the name of one of the phases. Names are unique.
    """

    phases: tuple[LifecyclePhase, ...] = ()
    current_phase: str | None = None

    def __post_init__(self) -> None:
        phases = tuple(self.phases)
        if len(phases) > PHASES_MAX:
            raise PhaseInvalid(f"a lifecycle has at most {PHASES_MAX} phases, got {len(phases)}")
        names = [phase.name for phase in phases]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PhaseInvalid(f"phase {twice[0]} is there twice; each phase has its own name")
        if self.current_phase is not None and self.current_phase not in names:
            raise PhaseInvalid(
                f"current_phase {self.current_phase!r} is not one of the phases of this lifecycle: {names}"
            )
        force_setattr(self, "phases", phases)

    def get_phase(self, name: str) -> LifecyclePhase | None:
        """The phase of that name; None where there is none."""
        return next((phase for phase in self.phases if phase.name == name), None)

    def get_active_phases(self) -> list[LifecyclePhase]:
        """The required phases, in order. "Active" means "takes part", not "running now"."""
        return [phase for phase in self.phases if phase.is_required]

    def phase_names(self) -> list[str]:
        """All names, in order."""
        return [phase.name for phase in self.phases]

    def at(self, name: str | None) -> ManagedLifecycle:
        """The same lifecycle, standing at another phase. Raises `PhaseInvalid`."""
        return ManagedLifecycle(self.phases, name)

    def to_dict(self) -> dict[str, Any]:
        """Phases by name, with their order written out, because some stores sort the keys of a mapping."""
        return {
            "phases": {phase.name: phase.to_dict() for phase in self.phases},
            "order": self.phase_names(),
            "current_phase": self.current_phase,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ManagedLifecycle:
        """Read `to_dict`'s form, or `phases` as a list in order. Raises `PhaseInvalid`.

        In a mapping a phase takes its name from the key, unless it says its own; without `order` the order
        is the mapping's.
        """
        try:
            stored = msgspec.convert(dict(data), StoredLifecycle)
        except msgspec.ValidationError as error:
            raise PhaseInvalid(f"lifecycle: {error}") from None
        if isinstance(stored.phases, dict):
            phases = [
                LifecyclePhase.from_dict({"name": key, **(body or {})}) for key, body in stored.phases.items()
            ]
        else:
            phases = [LifecyclePhase.from_dict(body) for body in stored.phases]
        if not isinstance(stored.order, UnsetType):
            by_name = {phase.name: phase for phase in phases}
            if sorted(stored.order) != sorted(phase.name for phase in phases):
                raise PhaseInvalid("lifecycle: order must name each phase exactly once")
            phases = [by_name[name] for name in stored.order]
        return cls(tuple(phases), stored.current_phase)

    def __str__(self) -> str:
        where = f" [current: {self.current_phase}]" if self.current_phase is not None else ""
        return f"ManagedLifecycle({' -> '.join(self.phase_names())}{where})"


class StoredLifecycle(Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of a managed lifecycle in stores and messages: what `ManagedLifecycle.to_dict` gives.

    `phases` is a mapping by name or a list. `order` names all phases in order; without it the order is that
    of `phases`.
    """

    phases: dict[str, dict[str, Any] | None] | list[dict[str, Any]] = {}
    order: list[str] | UnsetType = UNSET
    current_phase: str | None = None


def _read_ref(phase: str, ref: object) -> WorkflowRef:
    if isinstance(ref, Mapping):
        parts = cast("Mapping[str, Any]", ref)
        unknown = sorted(set(parts) - {"namespace", "name", "version"})
        if unknown or not parts.get("name"):
            raise PhaseInvalid(f"phase {phase}: workflow_ref has a name and may have namespace and version")
        given = {key: str(value) for key, value in parts.items() if value is not None}
        text = str(WorkflowRef(given["name"], given.get("namespace"), given.get("version")))
    else:
        text = ref if isinstance(ref, str) else ""
    match = _REF.fullmatch(text)
    if match is None:
        raise PhaseInvalid(f"phase {phase}: workflow_ref is [namespace/]name[@version], not {text[:60]!r}")
    return WorkflowRef(match["name"], match["namespace"], match["version"])
