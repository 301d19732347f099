"""A pipeline as it is written, read into a plan: steps in order, names known, or refused with the place.

`docs/reference/pipelines.md` has each key. Older words are read too: `handler` for `uses`, `params` for
`inputs`, `timeout_seconds`, `delay_seconds`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct, field

from steersman.act.engines.pipeline.inputs import Path, references
from steersman.kernel.cel import Expression, ExpressionInvalid, compile_expression
from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean
from steersman.kernel.quantity import Duration
from steersman.kernel.retry import Backoff

STEPS_MAX = 64
ATTEMPTS_MAX = 100
PARALLEL_MAX = 16
TIMEOUT_DEFAULT_S = 300.0
TIMEOUT_MIN_S = 0.1
TIMEOUT_MAX_S = 7 * 86_400.0
GUARD_S = 30.0
"""How much longer than its time-out an attempt may take until the engine ends it: a handler keeps the time
itself and needs a moment to clean up."""
DELAY_MAX_S = 86_400.0
NAME_MAX_CHARS = 64

ROOTS = ("resource", "inputs", "steps", "operation")
"""What a reference or a `skip_when` may speak of."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_STEP_KEYS = (
    "name", "uses", "handler", "inputs", "params", "needs", "retry", "timeout", "timeout_seconds",
    "skip_when", "optional", "idempotent", "outputs", "description",
)  # fmt: skip
_PIPELINE_KEYS = (
    "steps",
    "description",
    "max_parallel",
    "max_duration",
    "outputs",
)
_RETRY_KEYS = ("max_attempts", "delay", "delay_seconds", "backoff", "max_delay")
_OUTPUT = re.compile(r"\$STEPS\.([a-z][a-z0-9_]*)((?:\.[A-Za-z0-9_\-]+)+)")


class PipelineInvalid(InvalidInput, ValueError):
    """A pipeline that contradicts itself. `facts`: `place`, as `steps[2].retry.delay`."""

    code = "pipeline_invalid"
    title = "Pipeline invalid"


class Step(Struct, frozen=True, kw_only=True):
    """One step of a plan. `outputs` maps a name to a path in what its handler gives; None keeps all."""

    name: str
    uses: str
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    needs: tuple[str, ...] = ()
    attempts: int = 1
    backoff: Backoff = Backoff(first_s=0.0, max_s=0.0)
    timeout_s: float = TIMEOUT_DEFAULT_S
    skip_when: Expression | None = None
    optional: bool = False
    idempotent: bool = False
    outputs: dict[str, Path] | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """A pipeline that was read: `steps` in an order in which each comes behind all that it needs. `digest`
    tells one definition from another."""

    steps: tuple[Step, ...]
    digest: str
    max_parallel: int = 1
    max_duration_s: float | None = None
    outputs: dict[str, Path] = field(default_factory=dict[str, Path])

    def step(self, name: str) -> Step | None:
        """The step of that name."""
        return next((step for step in self.steps if step.name == name), None)


def read_plan(definition: Mapping[str, Any] | None) -> Plan:
    """Read a `pipeline_def`. None is a pipeline without steps. Raises `PipelineInvalid`."""
    data = dict(definition or {})
    _known(data, _PIPELINE_KEYS, "")
    raw: Any = data.get("steps", [])
    if not isinstance(raw, list):
        raise _invalid("is a list of steps", "steps")
    items = cast("list[Any]", raw)
    if len(items) > STEPS_MAX:
        raise _invalid(f"has {len(items)} steps; at most {STEPS_MAX} are accepted", "steps")
    steps: dict[str, Step] = {}
    for at, item in enumerate(items):
        step = _read_step(item, f"steps[{at}]")
        if step.name in steps:
            raise _invalid(
                f"has step {step.name} a second time; each has a name of its own", f"steps[{at}].name"
            )
        steps[step.name] = step
    ordered = _ordered(steps)
    _check_references(ordered)
    duration: Any = data.get("max_duration")
    return Plan(
        steps=ordered,
        digest=hashlib.sha256(msgspec.json.encode(data, order="sorted", enc_hook=str)).hexdigest()[:16],
        max_parallel=_whole(data.get("max_parallel", 1), 1, PARALLEL_MAX, "max_parallel"),
        max_duration_s=None
        if duration is None
        else _seconds(duration, TIMEOUT_MIN_S, TIMEOUT_MAX_S * 4, "max_duration"),
        outputs=_read_outputs(data.get("outputs"), steps),
    )


def _read_step(item: Any, place: str) -> Step:
    if not isinstance(item, Mapping):
        raise _invalid("is a mapping with name and uses", place)
    data = dict(cast("Mapping[str, Any]", item))
    _known(data, _STEP_KEYS, place)
    name = data.get("name")
    if not isinstance(name, str) or len(name) > NAME_MAX_CHARS or _NAME.fullmatch(name) is None:
        raise _invalid(
            f"{name!r} is no name of a step: small letters, digits and _, a letter first", f"{place}.name"
        )
    uses = _either(data, "uses", "handler", place)
    if not isinstance(uses, str) or not uses:
        raise _invalid("names what carries the step out", f"{place}.uses")
    inputs = _either(data, "inputs", "params", place)
    if inputs is not None and not isinstance(inputs, Mapping):
        raise _invalid("is a mapping", f"{place}.inputs")
    attempts, backoff = _read_retry(data.get("retry"), f"{place}.retry")
    timeout = _either(data, "timeout", "timeout_seconds", place)
    return Step(
        name=name,
        uses=uses,
        inputs=dict(cast("Mapping[str, Any]", inputs or {})),
        needs=_read_needs(data.get("needs"), f"{place}.needs"),
        attempts=attempts,
        backoff=backoff,
        timeout_s=TIMEOUT_DEFAULT_S
        if timeout is None
        else _seconds(timeout, TIMEOUT_MIN_S, TIMEOUT_MAX_S, f"{place}.timeout"),
        skip_when=_read_condition(data.get("skip_when"), f"{place}.skip_when"),
        optional=_flag(data.get("optional", False), f"{place}.optional"),
        idempotent=_flag(data.get("idempotent", False), f"{place}.idempotent"),
        outputs=_read_kept(data.get("outputs"), f"{place}.outputs"),
    )


def _read_retry(raw: Any, place: str) -> tuple[int, Backoff]:
    if raw is None:
        return 1, Backoff(first_s=0.0, max_s=0.0)
    if not isinstance(raw, Mapping):
        raise _invalid("is a mapping with max_attempts and delay", place)
    data = dict(cast("Mapping[str, Any]", raw))
    _known(data, _RETRY_KEYS, place)
    attempts = _whole(data.get("max_attempts", 1), 1, ATTEMPTS_MAX, f"{place}.max_attempts")
    delay = _either(data, "delay", "delay_seconds", place)
    delay_s = _seconds(1.0 if delay is None else delay, 0.0, DELAY_MAX_S, f"{place}.delay")
    factor: Any = data.get("backoff", 1.0)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= 10:
        raise _invalid("is the factor by which the delay grows, from 1 to 10", f"{place}.backoff")
    most = data.get("max_delay")
    max_s = DELAY_MAX_S if most is None else _seconds(most, 0.0, DELAY_MAX_S, f"{place}.max_delay")
    return attempts, Backoff(first_s=delay_s, factor=float(factor), max_s=max(delay_s, max_s))


def _read_needs(raw: Any, place: str) -> tuple[str, ...]:
    names: Any = [raw] if isinstance(raw, str) else raw if raw is not None else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[Any]", names)):
        raise _invalid("is a list of names of steps", place)
    return tuple(dict.fromkeys(cast("list[str]", names)))


def _read_condition(raw: Any, place: str) -> Expression | None:
    if raw is None:
        return None
    if not isinstance(raw, str):
        raise _invalid("is an expression, as text", place)
    try:
        return compile_expression(raw, names=ROOTS)
    except ExpressionInvalid as error:
        raise _invalid(error.detail, place) from None


def _read_kept(raw: Any, place: str) -> dict[str, Path] | None:
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        raise _invalid("maps a name to a path in what the step gives", place)
    kept: dict[str, Path] = {}
    for name, path in cast("Mapping[str, Any]", raw).items():
        if not isinstance(path, str) or not path:
            raise _invalid("is a path such as json.version", f"{place}.{name}")
        kept[name] = tuple(path.split("."))
    return kept


def _read_outputs(raw: Any, steps: Mapping[str, Step]) -> dict[str, Path]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise _invalid("maps a name to $STEPS.step.output", "outputs")
    found: dict[str, Path] = {}
    for name, text in cast("Mapping[str, Any]", raw).items():
        place = f"outputs.{name}"
        path = _output_path(text, place)
        if path[0] != "steps" or len(path) < 4 or path[2] != "outputs":
            raise _invalid("is $STEPS.step.output or ${steps.step.outputs.output}", place)
        if path[1] not in steps:
            raise _invalid(f"names step {path[1]}, which is not there{did_you_mean(path[1], steps)}", place)
        found[name] = path
    return found


def _output_path(text: Any, place: str) -> Path:
    if isinstance(text, str):
        match = _OUTPUT.fullmatch(text)
        if match is not None:
            return ("steps", match[1], "outputs", *match[2][1:].split("."))
        try:
            found = list(references(text))
        except InvalidInput as error:
            raise _invalid(error.detail, place) from None
        if len(found) == 1 and text.startswith("${") and text.endswith("}"):
            return found[0]
    raise _invalid("is $STEPS.step.output or ${steps.step.outputs.output}", place)


def _ordered(steps: Mapping[str, Step]) -> tuple[Step, ...]:
    """In the written order as far as needs allow. Raises where a need is unknown or goes in a circle."""
    for at, step in enumerate(steps.values()):
        for need in step.needs:
            if need not in steps:
                raise _invalid(
                    f"of {step.name} names step {need}, which is not there{did_you_mean(need, steps)}",
                    f"steps[{at}].needs",
                )
    done: dict[str, Step] = {}
    left = dict(steps)
    while left:
        ready = next((step for step in left.values() if all(need in done for need in step.needs)), None)
        if ready is None:
            circle = " -> ".join(_circle(left))
            raise _invalid(f"go in a circle: {circle}", "steps")
        done[ready.name] = left.pop(ready.name)
    return tuple(done.values())


def _circle(left: Mapping[str, Step]) -> list[str]:
    """Members of one circle among the steps that wait for each other, the first named again at the end."""
    path = [next(iter(left))]
    while True:
        onward = next(need for need in left[path[-1]].needs if need in left)
        if onward in path:
            return [*path[path.index(onward) :], onward]
        path.append(onward)


def _check_references(steps: tuple[Step, ...]) -> None:
    before: dict[str, frozenset[str]] = {}
    for step in steps:
        before[step.name] = frozenset(step.needs).union(*(before[need] for need in step.needs))
        place = f"step {step.name}"
        try:
            paths = list(references(step.inputs))
        except InvalidInput as error:
            raise _invalid(error.detail, f"{place}.inputs") from None
        for path in paths:
            _check_path(path, before, step.name, f"{place}.inputs")
        for path in step.skip_when.paths if step.skip_when is not None else ():
            _check_path(path, before, step.name, f"{place}.skip_when")


def _check_path(path: Path, before: Mapping[str, frozenset[str]], step: str, place: str) -> None:
    name = ".".join(path)
    if path[0] not in ROOTS:
        raise _invalid(
            f"{name}: there is no {path[0]}{did_you_mean(path[0], ROOTS)}; known: {', '.join(ROOTS)}", place
        )
    if path[0] == "operation" and path[1:2] not in (("id",), ("epoch",)):
        raise _invalid(f"{name}: an operation has id and epoch", place)
    if path[0] != "steps":
        return
    other = path[1] if len(path) > 1 else ""
    if other not in before[step]:
        known = did_you_mean(other, before[step])
        raise _invalid(f"{name}: {other or 'a step'} is none of the steps that {step} needs{known}", place)
    if len(path) < 3 or path[2] not in ("outputs", "status", "outcome"):
        raise _invalid(f"{name}: a step has outputs, status and outcome", place)


def _known(data: Mapping[str, Any], keys: tuple[str, ...], place: str) -> None:
    for key in data:
        if key not in keys:
            where = place or "the pipeline"
            raise _invalid(
                f"{key!r} is not a key of {where}{did_you_mean(str(key), keys)}", place or str(key)
            )


def _either(data: Mapping[str, Any], name: str, alias: str, place: str) -> Any:
    if name in data and alias in data:
        raise _invalid(f"{name} and {alias} are one thing; give one of them", f"{place}.{alias}")
    return data.get(name, data.get(alias))


def _seconds(value: Any, low: float, high: float, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _invalid(f"is {Duration.EXPECTED}", place)
    try:
        seconds = float(Duration.from_text(value))
    except InvalidInput as error:
        raise _invalid(error.detail, place) from None
    if not low <= seconds <= high:
        raise _invalid(f"is from {Duration(low)} to {Duration(high)}, not {value}", place)
    return seconds


def _whole(value: Any, low: int, high: int, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _invalid(f"is a whole number from {low} to {high}, not {value!r}", place)
    return value


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise _invalid("is true or false", place)
    return value


def _invalid(what: str, place: str) -> PipelineInvalid:
    return PipelineInvalid(f"{place}: {what}" if place else what, place=place)
