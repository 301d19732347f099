"""Reading lifecycles as people write them, with errors that name the line.

Two forms are read. The full one:

    name: hpc-default
    version: "1"
    initial: discovered
    states:
      in_service: {schedulable: true}
      firmware_update: {class: active, deadline: 2h, on_timeout: failed, phase: flash}
      retired: {class: terminal}
    transitions:
      - {event: begin_update, from: in_service, to: firmware_update, by: [operator], require: {reason: true}}
      - {event: fail, from: "*", to: failed}

(`name`, `version` and `initial` may also stand under `lifecycle:`, states may be a list, `transitions` may be
a map of state to next states, and a single name may stand where a list is meant.) And the short one, a map of
each state to the states that may follow:

    in_service: [maintenance]
    maintenance: [firmware_update, in_service]
    firmware_update: [in_service]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean
from steersman.kernel.quantity import Duration
from steersman.kernel.yamltext import DEPTH_MAX, Located, parse
from steersman.kinds.lifecycle import (
    Lifecycle,
    LifecycleBudget,
    LifecycleInvalid,
    LifecycleState,
    LifecycleTransition,
    StateClass,
    TransitionRequirements,
)
from steersman.kinds.phase import LifecyclePhase, PhaseInvalid

_Read = TypeVar("_Read")

_HEAD_KEYS = ("name", "version", "initial", "override")
_MAP_KEYS = ("phases", "budgets", "guards", "migrate")
_TOP_KEYS = (*_HEAD_KEYS, "lifecycle", "states", "transitions", *_MAP_KEYS)
_STATE_KEYS = (
    "name",
    "class",
    "is_a",
    "schedulable",
    "deadline",
    "deadline_s",
    "on_timeout",
    "phase",
    "on_success",
    "on_failure",
    "description",
)
_PHASE_KEYS = (
    "name", "engine", "trigger_on_status", "pipeline_def", "workflow_ref", "is_required",
    "steps", "outputs", "max_parallel", "max_duration", "description",
)  # fmt: skip
_PIPELINE_KEYS = ("steps", "outputs", "max_parallel", "max_duration", "description")
_BUDGET_KEYS = ("limit", "share", "per")
_TRANSITION_KEYS = ("event", "from", "to", "by", "guard", "require", "budget", "description")
_REQUIRE_KEYS = ("reason", "evidence", "approvals")


def read_text(text: str, file: str) -> Lifecycle:
    """A lifecycle from YAML. Raises `LifecycleInvalid` or `YamlInvalid`, with file and line."""
    return _read(parse(text, file))[0]


def read_placed(text: str, file: str) -> tuple[Lifecycle, LifecyclePlaces]:
    """The same, with the place of each of its parts."""
    return _read(parse(text, file))


def read_data(data: Mapping[str, Any]) -> Lifecycle:
    """A lifecycle from plain data of the same shape. Raises `LifecycleInvalid` with the path."""
    return _read(_located(data, 0))[0]


class LifecyclePlaces:
    """Where each state and transition was written, to find the line of what the table itself refuses."""

    def __init__(self, root: Located) -> None:
        self._root = root
        self.states: dict[str, Located] = {}
        self.transitions: list[Located] = []

    def of(self, path: Sequence[str | int]) -> Located:
        """The most exact place that is known for a path into the table: as far as the text goes along."""
        here, rest = self._root, path
        if len(path) > 1 and path[0] == "states" and path[1] in self.states:
            here, rest = self.states[str(path[1])], path[2:]
        elif len(path) > 1 and path[0] == "transitions" and isinstance(path[1], int):
            here, rest = self.transitions[path[1]], path[2:]
        elif path[:1] == ["initial"]:
            here = self._root.find("lifecycle") or self._root
        for step in rest:
            inner = here.find(step)
            if inner is None:
                break
            here = inner
        return here


def _read(root: Located) -> tuple[Lifecycle, LifecyclePlaces]:
    top = _mapping(root, "a lifecycle", None)
    places = LifecyclePlaces(root)
    if "states" not in top and "transitions" not in top and "lifecycle" not in top:
        return _checked(places, lambda: _read_map(root, top, places)), places
    _mapping(root, "a lifecycle", _TOP_KEYS)
    head = _mapping(top["lifecycle"], "lifecycle", _HEAD_KEYS) if "lifecycle" in top else top
    if head is not top:
        for key in _HEAD_KEYS:
            if key in top:
                raise _wrong(top[key], f"{key} stands under lifecycle, or beside states, not in both")
    states = _read_states(top.get("states"), places)
    transitions = _read_transitions(top.get("transitions"), places)
    if top.get("states") is None:
        # A table that names no states has those that its transitions name.
        names = (name for line in transitions for name in (*line.sources, line.to) if name != "*")
        leaves = {name for line in transitions for name in line.sources}
        states = [_bare_state(name, name in leaves) for name in dict.fromkeys(names)]
    table = _checked(
        places,
        lambda: Lifecycle(
            name=_text(head["name"], "name") if "name" in head else "lifecycle",
            version=_version(head["version"]) if "version" in head else "1",
            initial=_text(head["initial"], "initial") if "initial" in head else "",
            states=tuple(states),
            transitions=tuple(transitions),
            override=_flag(head["override"], "override") if "override" in head else False,
            phases=_read_each(top.get("phases"), "phases", _read_phase),
            budgets=_read_each(top.get("budgets"), "budgets", _read_budget),
            guards=_read_each(top.get("guards"), "guards", lambda _, node: _text(node, "a guard")),
            migrate=_read_each(top.get("migrate"), "migrate", lambda _, node: _text(node, "migrate")),
        ),
    )
    return table, places


def _read_each(node: Located | None, what: str, read: Callable[[str, Located], _Read]) -> dict[str, _Read]:
    if node is None or node.value is None:
        return {}
    return {name: read(name, item) for name, item in _mapping(node, what, None).items()}


def _read_phase(name: str, node: Located) -> LifecyclePhase:
    """A phase: its pipeline's keys may stand in it directly, or under `pipeline_def`."""
    if node.sequence is not None:
        plain: dict[str, Any] = {"pipeline_def": {"steps": node.plain()}}
    else:
        body = _mapping(node, f"phase {name}", _PHASE_KEYS)
        plain = {key: item.plain() for key, item in body.items()}
        direct = {key: plain.pop(key) for key in _PIPELINE_KEYS if key in plain}
        if direct and "pipeline_def" in plain:
            raise _wrong(body["pipeline_def"], f"phase {name} has {next(iter(direct))} and pipeline_def; one")
        if direct:
            plain["pipeline_def"] = direct
        if "workflow_ref" in plain and "engine" not in plain:
            plain["engine"] = "workflow"
    try:
        return LifecyclePhase.from_dict({"name": name, **plain})
    except PhaseInvalid as error:
        raise _wrong(node, error.detail) from None


def _read_budget(name: str, node: Located) -> LifecycleBudget:
    body = _mapping(node, f"budget {name}", _BUDGET_KEYS)
    limit, share = (body[key].value if key in body else None for key in ("limit", "share"))
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise _wrong(body["limit"], f"limit is a whole number, not {_shown(body['limit'])}")
    if share is not None and (not isinstance(share, (int, float)) or isinstance(share, bool)):
        raise _wrong(body["share"], f"share is a number above 0 and at most 1, not {_shown(body['share'])}")
    try:
        return LifecycleBudget(
            limit=limit,
            share=None if share is None else float(share),
            per=_optional_text(body, "per") or "",
        )
    except LifecycleInvalid as error:
        raise _wrong(node, f"budget {name}: {error.detail}") from None


def _checked(places: LifecyclePlaces, build: Callable[[], Lifecycle]) -> Lifecycle:
    try:
        return build()
    except LifecycleInvalid as error:
        if "line" in error.facts:
            raise
        raise _wrong(places.of(error.facts.get("path", [])), error.detail, **error.facts) from None


def _read_map(root: Located, top: Mapping[str, Located], places: LifecyclePlaces) -> Lifecycle:
    table: dict[str, list[str]] = {}
    for state, following in top.items():
        if following.value is not None and following.sequence is None:
            raise _wrong(
                following,
                f"{state} is neither a key of a lifecycle ({', '.join(_TOP_KEYS)}) nor a state with the list"
                f" of states that may follow{did_you_mean(state, _TOP_KEYS)}",
            )
        table[state] = _texts(following, state) if following.value is not None else []
        places.states[state] = following
        places.transitions += following.sequence or []
    if not table:
        raise _wrong(root, "a lifecycle has states; this document is empty")
    return Lifecycle.from_map(table)


def _read_states(node: Located | None, places: LifecyclePlaces) -> list[LifecycleState]:
    if node is None:
        return []
    states: list[LifecycleState] = []
    if node.sequence is not None:
        for item in node.sequence:
            if isinstance(item.value, str):
                states.append(LifecycleState(name=item.value))
            else:
                body = _mapping(item, "a state", _STATE_KEYS)
                if "name" not in body:
                    raise _wrong(item, "a state in a list has a name")
                states.append(_read_state(_text(body["name"], "name"), body))
            places.states.setdefault(states[-1].name, item)
        return states
    for name, item in _mapping(node, "states", None).items():
        places.states[name] = item
        body = {} if item.value is None else _mapping(item, f"state {name}", _STATE_KEYS)
        if "name" in body and _text(body["name"], "name") != name:
            raise _wrong(body["name"], f"state {name} gives itself another name")
        states.append(_read_state(name, body))
    return states


def _read_state(name: str, body: Mapping[str, Located]) -> LifecycleState:
    if "deadline" in body and "deadline_s" in body:
        raise _wrong(body["deadline_s"], f"state {name}: deadline and deadline_s say the same; give one")
    deadline = body.get("deadline", body.get("deadline_s"))
    return LifecycleState(
        name=name,
        state_class=_state_class(body["class"]) if "class" in body else StateClass.STABLE,
        is_a=_text(body["is_a"], "is_a") if "is_a" in body else "",
        schedulable=_flag(body["schedulable"], "schedulable") if "schedulable" in body else False,
        deadline_s=_seconds(deadline) if deadline is not None and deadline.value is not None else None,
        on_timeout=_optional_text(body, "on_timeout"),
        phase=_optional_text(body, "phase"),
        on_success=_optional_text(body, "on_success"),
        on_failure=_optional_text(body, "on_failure"),
        description=_optional_text(body, "description") or "",
    )


def _read_transitions(node: Located | None, places: LifecyclePlaces) -> list[LifecycleTransition]:
    if node is None or node.value is None:
        return []
    if node.mapping is not None:
        lines: list[LifecycleTransition] = []
        for state, following in node.mapping.items():
            for item in following.sequence or ([following] if following.value is not None else []):
                target = _text(item, state)
                places.transitions.append(item)
                lines.append(LifecycleTransition(event=target, sources=(state,), to=target))
        return lines
    if node.sequence is None:
        raise _wrong(node, "transitions is a list of transitions, or a map of state to next states")
    lines = []
    for item in node.sequence:
        places.transitions.append(item)
        lines.append(_read_transition(item))
    return lines


def _read_transition(node: Located) -> LifecycleTransition:
    body = _mapping(node, "a transition", _TRANSITION_KEYS)
    for key in ("from", "to"):
        if key not in body:
            raise _wrong(node, f"a transition has {key}")
    target = _text(body["to"], "to")
    return LifecycleTransition(
        event=_text(body["event"], "event") if "event" in body else target,
        sources=tuple(_texts(body["from"], "from")),
        to=target,
        by=tuple(_texts(body["by"], "by")) if "by" in body else (),
        guard=tuple(_texts(body["guard"], "guard")) if "guard" in body else (),
        require=_requirements(body["require"]) if "require" in body else TransitionRequirements(),
        budget=_optional_text(body, "budget"),
        description=_optional_text(body, "description") or "",
    )


def _requirements(node: Located) -> TransitionRequirements:
    body = _mapping(node, "require", _REQUIRE_KEYS)
    approvals = body["approvals"].value if "approvals" in body else 0
    if not isinstance(approvals, int) or isinstance(approvals, bool) or approvals < 0:
        raise _wrong(body["approvals"], "approvals is a number of people, 0 or more")
    return TransitionRequirements(
        reason=_flag(body["reason"], "reason") if "reason" in body else False,
        evidence=tuple(_texts(body["evidence"], "evidence")) if "evidence" in body else (),
        approvals=approvals,
    )


def _bare_state(name: str, has_exit: bool) -> LifecycleState:
    return LifecycleState(name=name, state_class=StateClass.STABLE if has_exit else StateClass.TERMINAL)


def _mapping(node: Located, what: str, keys: Iterable[str] | None) -> dict[str, Located]:
    if node.mapping is None:
        raise _wrong(node, f"{what} is a mapping, not {_shown(node)}")
    if keys is not None:
        known = tuple(keys)
        for key in node.mapping:
            if key not in known:
                hint = did_you_mean(key, known) or f"; the keys are {', '.join(known)}"
                place = node.key_places.get(key)
                at = Located(None, node.file, *place) if place else node.mapping[key]
                raise _wrong(at, f"{key!r} is not a key of {what}{hint}")
    return node.mapping


def _text(node: Located, what: str) -> str:
    if not isinstance(node.value, str) or not node.value:
        raise _wrong(node, f"{what} is a name, not {_shown(node)}")
    return node.value


def _optional_text(body: Mapping[str, Located], key: str) -> str | None:
    return _text(body[key], key) if key in body and body[key].value is not None else None


def _texts(node: Located, what: str) -> list[str]:
    return [_text(item, what) for item in (node.sequence if node.sequence is not None else [node])]


def _flag(node: Located, what: str) -> bool:
    if not isinstance(node.value, bool):
        raise _wrong(node, f"{what} is true or false, not {_shown(node)}")
    return node.value


def _version(node: Located) -> str:
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return str(node.value)
    if isinstance(node.value, float):
        raise _wrong(node, "version is text: put it in quotes, or 1.10 would be read as 1.1")
    return _text(node, "version")


def _state_class(node: Located) -> StateClass:
    word = _text(node, "class")
    try:
        return StateClass(word.lower())
    except ValueError:
        raise _wrong(node, f"class is stable, active or terminal, not {word[:40]!r}") from None


def _seconds(node: Located) -> float:
    if isinstance(node.value, (str, int, float)) and not isinstance(node.value, bool):
        try:
            seconds = float(Duration.from_text(node.value))
        except InvalidInput as error:
            raise _wrong(node, f"deadline: {error.detail}") from None
        if seconds > 0:
            return seconds
    raise _wrong(node, f"deadline is {Duration.EXPECTED}, more than zero, not {_shown(node)}")


def _shown(node: Located) -> str:
    if node.mapping is not None:
        return "a mapping"
    if node.sequence is not None:
        return "a list"
    return "nothing" if node.value is None else repr(node.value)[:60]


def _wrong(node: Located, detail: str, **facts: Any) -> LifecycleInvalid:
    if not node.file:
        return LifecycleInvalid(detail, **facts)
    return LifecycleInvalid(
        f"{node.place}: {detail}", **{**facts, "file": node.file, "line": node.line, "column": node.column}
    )


def _located(data: object, depth: int) -> Located:
    if depth > DEPTH_MAX:
        raise LifecycleInvalid(f"nested deeper than {DEPTH_MAX} levels")
    if isinstance(data, Mapping):
        items = cast("Mapping[object, object]", data)
        return Located({str(key): _located(value, depth + 1) for key, value in items.items()})
    if isinstance(data, (list, tuple)):
        return Located([_located(item, depth + 1) for item in cast("list[object]", data)])
    if data is None or isinstance(data, (str, int, float, bool)):
        return Located(str(data) if isinstance(data, str) else data)
    raise LifecycleInvalid(f"a {type(data).__name__} has no place in a lifecycle")
