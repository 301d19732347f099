"""One policy compiled: does it look at this entity, does its condition hold, and what does it recommend?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from steersman.decide.signals import Signals, names_of, unknown_part
from steersman.kernel.cel import Evaluation, Expression, Lack, Path, compile_expression
from steersman.kernel.nearest import did_you_mean
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Seen
from steersman.kinds.entity import EntityType, HealthState
from steersman.kinds.policy import FactMissing, FactRead, Policy, PolicyInvalid, Recommendation

PLACE = re.compile(r"\{([^{}]*)\}")
"""A place in a reason's template."""
VALUE_MAX_CHARS = 200
REASON_MAX_CHARS = 2000

_TRUTHS = {"true": Truth.TRUE, "false": Truth.FALSE, "unknown": Truth.UNKNOWN}


class Judgement(Struct, frozen=True, kw_only=True):
    """What a policy says of an entity at one moment: whether it holds, and on what grounds. `matched`:
    whether it looks at the entity at all."""

    truth: Truth
    facts_read: tuple[FactRead, ...] = ()
    facts_missing: tuple[FactMissing, ...] = ()
    why: str = ""
    matched: bool = True


class CompiledPolicy:
    """A policy and its expressions. Raises `ExpressionInvalid` and `PolicyInvalid`, with the place."""

    def __init__(
        self,
        policy: Policy,
        *,
        file: str = "",
        line: int = 1,
        column: int = 1,
        reason_at: tuple[int, int] | None = None,
    ) -> None:
        self.policy = policy
        kind = policy.match.entity_type
        self.when: Expression = compile_expression(
            policy.when, names=names_of(kind), file=file, line=line, column=column
        )
        _check_paths(kind, self.when, (file, line, column))
        reason_line, reason_column = reason_at or (line, column)
        self.places: dict[str, Expression] = {}
        for place in PLACE.findall(policy.reason):
            if place not in ("entity", "policy"):
                self.places[place] = compile_expression(
                    place, names=names_of(kind), file=file, line=reason_line, column=reason_column
                )
                _check_paths(kind, self.places[place], (file, reason_line, reason_column))

    def judge(self, seen: Seen, now: datetime) -> Judgement:
        """Evaluate match and condition on what is seen now."""
        signals = Signals(seen, now, self.policy.max_staleness_s)
        matched, lack, read = self._matches(seen, signals)
        if matched is Truth.FALSE:
            return Judgement(truth=Truth.FALSE, why="it does not match", matched=False)
        told = self.when.evaluate(signals)
        truth = _TRUTHS[told.truth]
        if matched is Truth.UNKNOWN and truth is Truth.TRUE:
            truth = Truth.UNKNOWN
        missing = [signals.lack(one) for one in told.missing]
        if lack is not None and lack not in told.missing:
            missing.append(signals.lack(lack))
        return Judgement(
            truth=truth,
            facts_read=tuple(
                signals.fact(path, plain(value))
                for path, value in {**read, **{one.path: one.value for one in told.read}}.items()
            ),
            facts_missing=tuple(missing),
            why=self._why(truth, told, lack),
        )

    def recommend(self, seen: Seen, judged: Judgement, now: datetime) -> Recommendation:
        """The proposal. Its id and its guardrails are for the runner to fill in."""
        policy = self.policy
        return Recommendation(
            id="",
            policy=policy.name,
            policy_version=policy.version,
            entity=str(seen.entity.key),
            entity_type=seen.entity.entity_type,
            action=policy.action,
            mode=policy.mode,
            outcome=judged.truth,
            reason=self._reason(seen, now),
            facts_read=judged.facts_read,
            facts_missing=judged.facts_missing,
            confidence=seen.entity.confidence_score,
            risk=policy.risk,
            priority=policy.priority,
            bus_revision=seen.entity.revision,
            created_at=now,
            expires_at=now + timedelta(seconds=policy.expires_after_s),
        )

    def _matches(self, seen: Seen, signals: Signals) -> tuple[Truth, Lack | None, dict[Path, Any]]:
        """Whether it is one to look at; what of it can't be told, and what was read. Health ages, so it is
        read like any signal; the rest says which entity it is."""
        match, entity = self.policy.match, seen.entity
        if entity.entity_type is not match.entity_type or entity.deleted_at is not None:
            return Truth.FALSE, None, {}
        if match.scope is not None and entity.scope != match.scope:
            return Truth.FALSE, None, {}
        if any(entity.labels.get(name) != wanted for name, wanted in match.labels.items()):
            return Truth.FALSE, None, {}
        for name in ("scheduler_domain", "workload_type"):
            wanted = getattr(match, name)
            if wanted is not None and getattr(entity, name) is not wanted:
                return Truth.FALSE, None, {}
        if not match.health:
            return Truth.TRUE, None, {}
        health = signals.get(("health",))
        if isinstance(health, Lack):
            if HealthState.UNKNOWN in match.health and entity.health_state is HealthState.UNKNOWN:
                return Truth.TRUE, None, {}  # who asks for the unknown gets it
            return Truth.UNKNOWN, health, {}
        return (Truth.TRUE if health in match.health else Truth.FALSE), None, {("health",): health}

    def _why(self, truth: Truth, told: Evaluation, lack: Lack | None) -> str:
        if truth is not Truth.UNKNOWN:
            return f"when is {truth.value}"
        lacks = [*told.lacks, *([lack] if lack is not None else [])]
        named = ", ".join(f"{one.name or 'a value'} is {one.why}" for one in lacks[:5])
        return f"it can't be told: {named}" if named else "it can't be told"

    def _reason(self, seen: Seen, now: datetime) -> str:
        policy = self.policy
        if not policy.reason:
            return f"{policy.name}: {policy.when}"[:REASON_MAX_CHARS]
        signals = Signals(seen, now, None)
        known = {"entity": str(seen.entity.key), "policy": policy.name}

        def fill(found: re.Match[str]) -> str:
            name = found[1]
            return known[name] if name in known else shown(self.places[name].evaluate(signals).value)

        return PLACE.sub(fill, policy.reason)[:REASON_MAX_CHARS]


def _check_paths(kind: EntityType, expression: Expression, at: tuple[str, int, int]) -> None:
    file, line, column = at
    for path in sorted(expression.paths):
        wrong = unknown_part(kind, path)
        if wrong is not None:
            word, known = wrong
            hint = did_you_mean(word, known) or f"; the names are {', '.join(sorted(known))}"
            raise PolicyInvalid(
                f"{f'{file}:{line}:{column}: ' if file else ''}{'.'.join(path)} can't be read of a"
                f" {kind.value}{hint}",
                file=file,
                line=line,
                column=column,
            )


def plain(value: Any) -> Any:
    """A value as it may stand in a record: nothing shared, nothing endless."""
    if isinstance(value, str):
        return value[:VALUE_MAX_CHARS]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in list(value)[:VALUE_MAX_CHARS]]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - the items may be anything that a source sent
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in list(value.items())[:VALUE_MAX_CHARS]}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - the same
    return value


def shown(value: Any) -> str:
    """A value in a sentence."""
    if value is None:
        return "(not known)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)[:VALUE_MAX_CHARS]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - the same
    return str(value)[:VALUE_MAX_CHARS]
