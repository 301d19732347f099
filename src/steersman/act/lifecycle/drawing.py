"""A lifecycle table as a picture: Mermaid text and Graphviz dot. The same table gives the same text."""

from __future__ import annotations

from steersman.kernel.quantity import Duration
from steersman.kinds.lifecycle import Lifecycle, LifecycleState, LifecycleTransition, StateClass

_CLASSES = {
    StateClass.STABLE: "fill:#eef4fb,stroke:#36597d,color:#14212e",
    StateClass.ACTIVE: "fill:#fff3dc,stroke:#9a6700,color:#2e2413",
    StateClass.TERMINAL: "fill:#ececec,stroke:#5a5a5a,color:#1e1e1e",
}
_CURRENT = "fill:#d9f2e0,stroke:#116329,stroke-width:3px,color:#10261a"


def mermaid(lifecycle: Lifecycle, current: str | None = None) -> str:
    """A Mermaid state diagram. `current` is marked; raises `UnknownState` where the table has it not."""
    here = None if current is None else lifecycle.canonical(current)
    ids = _ids(lifecycle)
    lines = ["stateDiagram-v2"]
    for state in lifecycle.states:
        words = _mermaid_text("<br>".join(_state_words(state)))
        lines.append(f'    state "{words}" as {ids[state.name]}')
    lines.append(f"    [*] --> {ids[lifecycle.initial]}")
    for source, to, words in _arrows(lifecycle):
        lines.append(f"    {ids[source]} --> {ids[to]}: {_mermaid_text(words)}")
    lines += [
        f"    {ids[state.name]} --> [*]"
        for state in lifecycle.states
        if state.state_class is StateClass.TERMINAL
    ]
    lines += [f"    classDef {kind.value} {style}" for kind, style in _CLASSES.items()]
    lines.append(f"    classDef current {_CURRENT}")
    for state in lifecycle.states:
        kind = "current" if state.name == here else state.state_class.value
        lines.append(f"    class {ids[state.name]} {kind}")
    return "\n".join(lines) + "\n"


def dot(lifecycle: Lifecycle, current: str | None = None) -> str:
    """A Graphviz digraph. `current` is marked; raises `UnknownState` where the table has it not."""
    here = None if current is None else lifecycle.canonical(current)
    lines = [
        f"digraph {_quoted(str(lifecycle))} {{",
        "    rankdir=LR;",
        "    node [shape=box, style=rounded];",
    ]
    lines.append("    __start [shape=point];")
    for state in lifecycle.states:
        shape = {StateClass.ACTIVE: "box", StateClass.STABLE: "box", StateClass.TERMINAL: "doubleoctagon"}
        look = [f"label={_quoted(chr(10).join(_state_words(state)))}", f"shape={shape[state.state_class]}"]
        if state.state_class is StateClass.ACTIVE:
            look.append('style="rounded,dashed"')
        if state.name == here:
            look.append("penwidth=3")
        lines.append(f"    {_quoted(state.name)} [{', '.join(look)}];")
    lines.append(f"    __start -> {_quoted(lifecycle.initial)};")
    for source, to, words in _arrows(lifecycle):
        lines.append(f"    {_quoted(source)} -> {_quoted(to)} [label={_quoted(words)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _ids(lifecycle: Lifecycle) -> dict[str, str]:
    """A name per state that Mermaid takes: its words (`end`, `state`) and signs are not."""
    return {state.name: f"s{at}" for at, state in enumerate(lifecycle.states)}


def _state_words(state: LifecycleState) -> list[str]:
    marks = [state.state_class.value] if state.state_class is not StateClass.STABLE else []
    if state.schedulable:
        marks.append("takes work")
    if state.is_a:
        marks.append(f"is a {state.is_a}")
    if state.phase is not None:
        marks.append(f"runs {state.phase}")
    if state.deadline_s is not None:
        end = f", then {state.on_timeout}" if state.on_timeout else ", then an alarm"
        marks.append(f"at most {Duration(state.deadline_s)}{end}")
    return [state.name, *marks]


def _arrows(lifecycle: Lifecycle) -> list[tuple[str, str, str]]:
    """From, to and words of every arrow, in the order of the table; time-outs last."""
    arrows: list[tuple[str, str, str]] = []
    for state in lifecycle.states:
        arrows += [(state.name, edge.to, _edge_words(edge)) for edge in lifecycle.edges(state.name)]
    for state in lifecycle.states:
        move = lifecycle.timeout(state.name)
        if move is not None and not lifecycle.find(state.name, move.event):
            arrows.append((state.name, move.to, f"{move.event} after {Duration(move.deadline_s)}"))
    return arrows


def _edge_words(edge: LifecycleTransition) -> str:
    return edge.event + (f" [{' and '.join(edge.guard)}]" if edge.guard else "")


def _mermaid_text(words: str) -> str:
    """Mermaid reads `#code;` entities; everything that could end a label or open markup becomes one."""
    parts = words.split("<br>")
    return "<br>".join(
        "".join(sign if sign.isalnum() or sign in " _-.,!=()/[]" else f"#{ord(sign)};" for sign in part)
        for part in parts
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
