"""Steps that act on an outside system: `uses: slurm.drain` goes to a source whose driver can do that.

Several sources may have one driver (two clusters). Which one is meant is said by the step (`source: NAME`
among its inputs), else by the scope of the resource, else there is only one. What can't be told is refused
before anything happens, and never guessed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from steersman.kernel.errors import InvalidInput, SteersmanError
from steersman.kernel.nearest import did_you_mean
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import KeptAttempt, Later, StepCall, StepHandler, StepOutcome, StepResult

SOURCE_INPUT = "source"
"""The input that names the source; it is not handed on."""

ScopeOf = Callable[[ResourceRef], Awaitable[str | None]]
"""The scope of a resource; None where it is gone. Raises the store's errors."""


class ActingSource(Struct, frozen=True):
    """A configured source that can act: its name, its driver's, its scope, its operations by name."""

    name: str
    driver: str
    scope: str
    operations: Mapping[str, StepHandler]


class SourceNotMeant(InvalidInput):
    """No source, or no single one, is meant by a step. `facts`: `uses`, `sources`."""

    code = "source_not_meant"
    title = "No source for a step"


def source_steps(sources: Iterable[ActingSource], scope_of: ScopeOf) -> dict[str, StepHandler]:
    """The handlers of all operations, by the name that a step uses (`slurm.drain`)."""
    found: dict[str, dict[str, ActingSource]] = {}
    for source in sources:
        for name in source.operations:
            found.setdefault(f"{source.driver}.{name}", {})[source.name] = source
    return {uses: SourceSteps(uses, by_name, scope_of) for uses, by_name in found.items()}


class SourceSteps:
    """The handler of one operation over all sources that have it. See `kinds.step.StepHandler`."""

    def __init__(self, uses: str, sources: Mapping[str, ActingSource], scope_of: ScopeOf) -> None:
        self._uses = uses
        self._operation = uses.partition(".")[2]
        self._sources = sources
        self._scope_of = scope_of

    async def site(self) -> str:
        """No matter: whoever asks the outside system sees the same."""
        return ""

    def check(self, inputs: dict[str, Any]) -> None:
        """Raises `InvalidInput` where no source of that name is there, or every one refuses the inputs."""
        rest = {name: value for name, value in inputs.items() if name != SOURCE_INPUT}
        named = inputs.get(SOURCE_INPUT)
        meant = [self._named(named)] if named is not None and not isinstance(named, Later) else None
        for source in meant or self._sources.values():
            source.operations[self._operation].check(rest)

    async def run(self, call: StepCall) -> StepResult:
        """Have the source do it. Where no source is meant nothing was begun."""
        try:
            handler, own = await self._meant(call)
        except SourceNotMeant as error:
            return StepResult(outcome=StepOutcome.PERMANENT, detail=error.detail)
        except SteersmanError as error:  # the store can't say what scope the resource has: nothing was begun
            return StepResult(outcome=StepOutcome.TRANSIENT, detail=error.detail)
        return await handler.run(own)

    async def observe(self, call: StepCall) -> StepResult | None:
        """What became of it. Raises the store's errors."""
        try:
            handler, own = await self._meant(call)
        except SourceNotMeant as error:
            # It may have been begun while the source was still configured.
            return StepResult(outcome=StepOutcome.UNCERTAIN, detail=error.detail)
        return await handler.observe(own)

    async def cancel(self, call: StepCall) -> None:
        """Raises `SourceNotMeant`, and what the source's handler raises."""
        handler, own = await self._meant(call)
        await handler.cancel(own)

    async def settle(self, call: StepCall) -> None:
        """Pass it on; raises as `cancel` does."""
        handler, own = await self._meant(call)
        await handler.settle(own)

    async def kept(self) -> Sequence[KeptAttempt]:
        """Nothing: what was begun is kept by the outside system."""
        return ()

    async def _meant(self, call: StepCall) -> tuple[StepHandler, StepCall]:
        inputs = dict(call.inputs)
        named = inputs.pop(SOURCE_INPUT, None)
        source = self._named(named) if named is not None else await self._by_scope(call.resource)
        return source.operations[self._operation], replace(call, inputs=inputs)

    def _named(self, name: object) -> ActingSource:
        found = self._sources.get(name) if isinstance(name, str) else None
        if found is None:
            raise self._refusal(
                f"no source is named {str(name)[:80]!r}{did_you_mean(str(name), self._sources)}"
            )
        return found

    async def _by_scope(self, ref: ResourceRef) -> ActingSource:
        if len(self._sources) == 1:
            return next(iter(self._sources.values()))
        scope = await self._scope_of(ref)
        found = [source for source in self._sources.values() if source.scope == scope]
        if len(found) != 1:
            count = "several sources have" if found else "no source has"
            raise self._refusal(f"{count} the scope {scope!r} of {ref}")
        return found[0]

    def _refusal(self, why: str) -> SourceNotMeant:
        known = sorted(self._sources)
        return SourceNotMeant(
            f"{self._uses}: {why}; name one by `{SOURCE_INPUT}`: {', '.join(known)}",
            uses=self._uses,
            sources=known,
        )
