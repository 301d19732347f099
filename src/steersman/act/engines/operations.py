"""Steps that act on an outside system: `uses: slurm.drain` goes to a source whose driver can do that.

Several sources may have one driver (two clusters). Which one is meant is said by the step (`source: NAME`
among its inputs), else by the scope of the resource, else there is only one. What can't be told is refused
before anything happens, and never guessed.

A step names a node by the id of its entity, which the system that is to act may know by another name. It gets
the one by which its source reports that node (decision 0043).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from steersman.kernel.clock import Clock
from steersman.kernel.errors import InvalidInput, SteersmanError, Unavailable
from steersman.kernel.nearest import did_you_mean
from steersman.kinds.state import ResourceRef
from steersman.kinds.step import KeptAttempt, Later, StepCall, StepHandler, StepOutcome, StepResult

SOURCE_INPUT = "source"
"""The input that names the source; it is not handed on."""

NODE_INPUT = "node"
NODES_INPUT = "nodes"
"""The inputs that name nodes, one and a list. A text in `nodes` that is no node's name (`n[1-9]`) is the
system's own expression and is handed on as it is."""
CALLED_OUTPUT = "called"
"""The output that says which names were translated, and into what."""
HEARD_WAIT_S = 20.0
"""How long a step waits for a source's first word: a source is read at once when the process starts, and one
read takes 10 s at most by default. Less than what an engine gives an attempt on top of its time."""
HEARD_SHARE = 0.5
"""The share of a step's own time that it waits so at most."""
HEARD_LOOK_S = 0.1

ScopeOf = Callable[[ResourceRef], Awaitable[str | None]]
"""The scope of a resource; None where it is gone. Raises the store's errors."""

Called = Callable[[str, str, str], tuple[str, ...] | None]
"""By which names a source (its name, its scope) reports the node that somebody calls so, in order: none where
it reports no such node, None where the source has not been heard yet."""


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


class NameNotTold(InvalidInput):
    """A source reports one node under several names. `facts`: `source`, `name`, `names`."""

    code = "name_not_told"
    title = "No single name for a node"


class SourceNotHeard(Unavailable):
    """Which name a source has for a node can't be told before it was heard. `facts`: `source`."""

    code = "source_not_heard"
    title = "A source was not heard yet"


class _Meant(Struct, frozen=True):
    """Who is to carry out a call, and the call as they get it; `called`: the names that were translated."""

    source: str
    handler: StepHandler
    call: StepCall
    called: dict[str, str]

    def told(self, result: StepResult) -> StepResult:
        """The result with the names that were translated, so that a person sees why others were acted on."""
        if not self.called:
            return result
        names = ", ".join(f"{name} is {own}" for name, own in self.called.items())
        detail = f"to {self.source} {names}; {result.detail}"
        return replace(result, detail=detail, outputs={**result.outputs, CALLED_OUTPUT: self.called})


def source_steps(
    sources: Iterable[ActingSource], scope_of: ScopeOf, called: Called, clock: Clock
) -> dict[str, StepHandler]:
    """The handlers of all operations, by the name that a step uses (`slurm.drain`)."""
    found: dict[str, dict[str, ActingSource]] = {}
    for source in sources:
        for name in source.operations:
            found.setdefault(f"{source.driver}.{name}", {})[source.name] = source
    return {uses: SourceSteps(uses, by_name, scope_of, called, clock) for uses, by_name in found.items()}


class SourceSteps:
    """The handler of one operation over all sources that have it. See `kinds.step.StepHandler`."""

    def __init__(
        self,
        uses: str,
        sources: Mapping[str, ActingSource],
        scope_of: ScopeOf,
        called: Called,
        clock: Clock,
    ) -> None:
        self._uses = uses
        self._operation = uses.partition(".")[2]
        self._sources = sources
        self._scope_of = scope_of
        self._called = called
        self._clock = clock

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
        """Have the source do it. Where no source is meant, or no node, nothing was begun."""
        try:
            meant = await self._meant(call)
        except (SourceNotMeant, NameNotTold) as error:
            return StepResult(outcome=StepOutcome.PERMANENT, detail=error.detail)
        except SteersmanError as error:  # unheard, or the store can't say the scope: nothing was begun
            return StepResult(outcome=StepOutcome.TRANSIENT, detail=error.detail)
        return meant.told(await meant.handler.run(meant.call))

    async def observe(self, call: StepCall) -> StepResult | None:
        """What became of it. Raises the store's errors."""
        try:
            meant = await self._meant(call)
        except (SourceNotMeant, NameNotTold, SourceNotHeard) as error:
            # It may have been begun while the source was still configured, or had one name for the node.
            return StepResult(outcome=StepOutcome.UNCERTAIN, detail=error.detail)
        result = await meant.handler.observe(meant.call)
        return None if result is None else meant.told(result)

    async def cancel(self, call: StepCall) -> None:
        """Raises `SourceNotMeant`, `NameNotTold`, `SourceNotHeard`, and what the source's handler raises."""
        meant = await self._meant(call)
        await meant.handler.cancel(meant.call)

    async def settle(self, call: StepCall) -> None:
        """Pass it on; raises as `cancel` does."""
        meant = await self._meant(call)
        await meant.handler.settle(meant.call)

    async def kept(self) -> Sequence[KeptAttempt]:
        """Nothing: what was begun is kept by the outside system."""
        return ()

    async def _meant(self, call: StepCall) -> _Meant:
        inputs = dict(call.inputs)
        named = inputs.pop(SOURCE_INPUT, None)
        source = self._named(named) if named is not None else await self._by_scope(call.resource)
        called: dict[str, str] = {}
        begun_s = self._clock.monotonic()
        until_s = begun_s + min(HEARD_WAIT_S, HEARD_SHARE * call.timeout_s)

        async def own(name: object) -> object:
            if not isinstance(name, str):
                return name  # the operation refuses it
            found = await self._name_for(source, await self._entity_of(call.resource, name), until_s)
            if found != name:
                called[name] = found
            return found

        if (node := inputs.get(NODE_INPUT)) is not None:
            inputs[NODE_INPUT] = await own(node)
        nodes = inputs.get(NODES_INPUT)
        if isinstance(nodes, list):
            names = [await own(one) for one in cast("list[object]", nodes)]
            inputs[NODES_INPUT] = [name for at, name in enumerate(names) if name not in names[:at]]
        elif nodes is not None:
            inputs[NODES_INPUT] = await own(nodes)
        # What was waited is no longer the operation's; the store's own time counts no more than that.
        left_s = call.timeout_s - min(self._clock.monotonic() - begun_s, HEARD_SHARE * call.timeout_s)
        passed_on = replace(call, inputs=inputs, timeout_s=left_s)
        return _Meant(source.name, source.operations[self._operation], passed_on, called)

    async def _entity_of(self, ref: ResourceRef, name: str) -> str:
        """The entity's id, where a step names the resource itself, whose id may bear its scope (`n1@west`).
        Raises the store's errors."""
        if name != ref.id or "@" not in name:
            return name
        return name.removesuffix(f"@{await self._scope_of(ref)}")

    async def _name_for(self, source: ActingSource, name: str, until_s: float) -> str:
        """What a source calls a node. Whether there is such a node is told by the system itself. Raises
        `SourceNotHeard`, `NameNotTold`."""
        names = self._called(source.name, source.scope, name)
        while names is None:
            if self._clock.monotonic() >= until_s:
                raise SourceNotHeard(
                    f"the source {source.name} was not heard yet, so what it calls {name} can't be told",
                    source=source.name,
                )
            await self._clock.sleep(HEARD_LOOK_S)
            names = self._called(source.name, source.scope, name)
        if not names or name in names:
            return name
        first, *more = names
        if more:
            raise NameNotTold(
                f"{self._uses}: the source {source.name} reports {name} under several names, "
                f"{', '.join(names)}; name the one that is meant",
                source=source.name,
                name=name,
                names=list(names),
            )
        return first

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
