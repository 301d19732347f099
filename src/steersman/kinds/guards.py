"""Guards of lifecycle tables: compiled once, and answered with what is known of a resource.

A guard is a CEL expression, or the name of one that the table lists under `guards`. It reads

- `resource.*`: the resource's fields; `request.*`: event, to, reason, actor, evidence (kinds), approvals;
- `conditions.<type>`: "true" or "false"; a condition that is unknown, or that nobody reported, is missing;
- `holds`: the holds on it (name, owner, reason); `entity.*` and `health`: what is observed of it; `now`.

What is missing makes a guard unknown, never false, and an unknown guard does not let pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
from msgspec import Struct

from steersman.kernel.cel import Expression, ExpressionInvalid, Lack, compile_expression
from steersman.kinds.axes import Hold, Truth
from steersman.kinds.command import Terms
from steersman.kinds.lifecycle import Lifecycle, LifecycleInvalid
from steersman.kinds.state import ResourceState

GUARD_NAMES = ("resource", "request", "conditions", "holds", "entity", "health", "now")
"""What an expression may speak of."""


class GuardOutcome(Struct, frozen=True):
    """What a guard came to. `missing`: {path, why, detail} of each fact that was not to be had."""

    guard: str
    outcome: Truth
    missing: tuple[dict[str, str], ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it lets pass."""
        return self.outcome is Truth.TRUE

    def words(self) -> str:
        """For people: what stands in the way."""
        if self.outcome is Truth.FALSE:
            return f"guard {self.guard!r} does not hold"
        lacks = ", ".join(f"{lack['path']} ({lack['why']})" for lack in self.missing) or "something"
        return f"guard {self.guard!r} can't tell: missing {lacks}"


class CompiledGuard:
    """One guard of a table."""

    def __init__(self, name: str, expression: Expression) -> None:
        self.name = name
        self._expression = expression

    def ask(self, facts: GuardFacts) -> GuardOutcome:
        """Whether it holds of these facts."""
        found = self._expression.evaluate(facts)
        missing = tuple(
            {"path": ".".join(map(str, lack.path)), "why": str(lack.why), "detail": str(lack.detail)}
            for lack in found.lacks
        )
        outcome = Truth(str(found.truth))
        return GuardOutcome(self.name, outcome, missing if outcome is Truth.UNKNOWN else ())


def compile_guards(
    lifecycle: Lifecycle, place_of: Callable[[Sequence[str | int]], tuple[str, int, int]]
) -> dict[str, CompiledGuard]:
    """Every guard of the table by its text. Raises `LifecycleInvalid` with the place of the one that is none.

    `place_of` gives file, line and column of a path into the table.
    """
    compiled: dict[str, CompiledGuard] = {}
    for name, text in lifecycle.guards.items():
        compiled[name] = CompiledGuard(name, _compile(text, place_of(("guards", name))))
    for at, edge in enumerate(lifecycle.transitions):
        for index, text in enumerate(edge.guard):
            if text not in compiled:
                place = place_of(("transitions", at, "guard", index))
                compiled[text] = CompiledGuard(text, _compile(text, place))
    return compiled


def _compile(text: str, place: tuple[str, int, int]) -> Expression:
    file, line, column = place
    try:
        return compile_expression(text, names=GUARD_NAMES, file=file, line=line, column=column)
    except ExpressionInvalid as error:
        raise LifecycleInvalid(
            f"guard {text[:80]!r}: {error.detail}", **{"file": file, "line": line, **error.facts}
        ) from None


class GuardFacts:
    """What guards read, for one question: a `Lookup` over the resource, the request and what is observed."""

    def __init__(
        self,
        state: ResourceState | None,
        terms: Terms,
        request: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> None:
        self._state = state
        self._request = {
            "reason": terms.reason,
            "actor": str(facts.get("actor", "")),
            "evidence": [item.kind for item in terms.evidence],
            "approvals": list(terms.approvals),
            **request,
        }
        self._facts = facts

    def get(self, path: tuple[str, ...]) -> Any:
        """The value there, or a `Lack` that says why there is none."""
        root, rest = path[0], path[1:]
        if root == "request":
            return _descend(self._request, rest, path)
        if root in ("resource", "conditions", "holds"):
            if self._state is None:
                return Lack(path, "absent", "no resource is spoken of")
            if root == "conditions":
                return self._condition(self._state, rest, path)
            if root == "holds":
                return _descend(self._holds(self._state), rest, path)
            return _descend(self._state, rest, path)
        if root not in self._facts or self._facts[root] is None:
            return Lack(path, "absent", "nothing is observed of it")
        return _descend(self._facts[root], rest, path)

    def _holds(self, state: ResourceState) -> list[Hold]:
        """Those that still count; all of them where nobody said what time it is."""
        now = self._facts.get("now")
        return [hold for hold in state.holds if not isinstance(now, datetime) or hold.is_alive(now)]

    @staticmethod
    def _condition(state: ResourceState, rest: tuple[str, ...], path: tuple[str, ...]) -> Any:
        if not rest:
            known = [one for one in state.conditions if one.status is not Truth.UNKNOWN]
            return {one.type: one.status.value for one in known}
        condition = state.condition(rest[0])
        if condition is None:
            return Lack(path, "absent", "nobody has reported it")
        if condition.status is Truth.UNKNOWN:
            return Lack(path, "unknown", condition.message or condition.reason or condition.source)
        return _descend(condition.status.value, rest[1:], path)


def _descend(value: Any, rest: tuple[str, ...], path: tuple[str, ...]) -> Any:
    for step in rest:
        if isinstance(value, Struct) and step in value.__struct_fields__:
            value = getattr(value, step)
        elif isinstance(value, Mapping) and step in value:
            value = cast("Mapping[str, Any]", value)[step]
        else:
            return Lack(path, "absent", f"there is no {step}")
        if isinstance(value, Lack):
            return value
    if value is None:
        return Lack(path, "absent", "it has no value")
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool)):
        return str(value) if isinstance(value, str) else value
    return msgspec.to_builtins(value, builtin_types=(datetime,))
