"""Guards: what they read of a resource, and that not knowing is neither yes nor no."""

from __future__ import annotations

from typing import Any

import pytest

from steersman.kinds.command import Evidence, Terms
from steersman.kinds.guards import GuardFacts, compile_guards
from steersman.kinds.lifecycle import Lifecycle, LifecycleInvalid
from steersman.kinds.state import NodeState


def ask(guard: str, state: NodeState | None = None, terms: Terms | None = None, **facts: Any) -> str:
    table = Lifecycle.from_dict(
        {"states": ["a"], "transitions": [{"event": "go", "from": "a", "to": "a", "guard": guard}]}
    )
    compiled = compile_guards(table, lambda _: ("", 1, 1))[guard]
    request = {"event": "go", "to": "a"}
    known = GuardFacts(state, terms or Terms(reason="why"), request, facts)
    return compiled.ask(known).outcome.value


def test_a_guard_reads_the_resource_the_request_and_what_is_observed():
    state = NodeState(id="n1", status="a", labels={"rack": "r1"}, metadata={"sku": "x"})
    assert ask('resource.labels.rack == "r1" && resource.metadata.sku == "x"', state) == "true"
    assert ask('request.reason == "why" && request.event == "go"', state) == "true"
    assert ask('"wiped" in request.evidence', state, Terms(evidence=(Evidence(kind="wiped"),))) == "true"
    assert ask("size(request.approvals) >= 1", state) == "false"
    assert ask("entity.jobs == 0", state, entity={"jobs": 0}) == "true"


@pytest.mark.parametrize(
    "guard", ["entity.jobs == 0", "resource.metadata.sku == 'x'", "conditions.drained == 'true'"]
)
def test_what_is_not_known_is_unknown(guard: str):
    assert ask(guard, NodeState(id="n1", status="a")) == "unknown"
    assert ask(guard) == "unknown"


def test_a_name_outside_the_vocabulary_is_refused_when_it_is_compiled():
    with pytest.raises(LifecycleInvalid, match="weather"):
        ask("weather.sunny")
