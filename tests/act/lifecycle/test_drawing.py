"""Drawings: complete, the same each time, and nothing in a table can break out of a label."""

from __future__ import annotations

import pytest

from steersman.act.lifecycle import dot, mermaid, shipped
from steersman.kinds.lifecycle import Lifecycle, LifecycleState, LifecycleTransition, UnknownState

HPC = next(loaded.lifecycle for loaded in shipped() if loaded.lifecycle.name == "hpc-default")


@pytest.mark.parametrize("draw", [mermaid, dot])
def test_every_state_and_event_is_drawn_and_always_the_same(draw):
    text = draw(HPC)
    assert text == draw(Lifecycle.from_dict(HPC.to_dict()))
    for name in (*HPC.state_names(), *(line.event for line in HPC.transitions)):
        assert name in text


def test_the_current_state_is_marked_and_must_exist():
    assert "class s4 current" in mermaid(HPC, "draining")
    assert '"draining" [' in next(line for line in dot(HPC, "draining").splitlines() if "penwidth" in line)
    with pytest.raises(UnknownState):
        mermaid(HPC, "nowhere")


def test_guards_and_time_outs_are_shown():
    table = Lifecycle(
        states=(
            LifecycleState(name="end", deadline_s=60.0, on_timeout="b"),
            LifecycleState(name="b"),
        ),
        transitions=(
            LifecycleTransition(event="go", sources=("end",), to="b", guard=('x == "]\n; --> #1"',)),
        ),
    )
    picture = mermaid(table)
    assert "s0 --> s1: timeout after 1m" in picture
    guarded = next(line for line in picture.splitlines() if "go [" in line)
    assert "#34;" in guarded
    assert "-->" not in guarded.split(": ", 1)[1]
    assert r"\"]\n; --> #1\"" in dot(table)
