"""One node on a real bus, and policies that look at it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from steersman.decide import PolicyEvaluator, read_policies
from steersman.decide.rules import CompiledPolicy, Judgement
from steersman.kernel.clock import ManualClock
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Finding, Seen
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.policy import Policy
from steersman.kinds.state import NodeState
from steersman.state.bus import StateBus
from steersman.state.sources import SourceInfo

CADENCE_S = 10.0


class Watched:
    """A node `n1` whose words come from the sources `host` and `slurm`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = StateBus(self.clock)
        for source in ("host", "slurm"):
            self.bus.declare_source(SourceInfo(source, source, CADENCE_S))
        self.node: NodeState | None = None

    def say(
        self,
        source: str = "host",
        labels: dict[str, str] | None = None,
        clear: tuple[str, ...] = (),
        **fields: Any,
    ) -> None:
        """A source says something of it now."""
        self.bus.put(
            StateFragment(
                source,
                EntityType.NODE,
                "n1",
                self.clock.now(),
                fields,
                labels or {},
                source=source,
                clear=clear,
            )
        )

    def pass_time(self, seconds: float, **fields: Any) -> None:
        """Time passes in steps of a cadence; `fields` is what `host` goes on saying, nothing where empty."""
        for _ in range(int(seconds // CADENCE_S)):
            self.clock.advance(CADENCE_S)
            if fields:
                self.say(**fields)
            self.bus.sweep()
            self.bus.flush()

    def manage(self, status: str = "in_service", **fields: Any) -> None:
        """Put a managed node behind it."""
        self.node = NodeState(id="n1", lifecycle_table="hpc-default", status=status, **fields)

    def seen(self) -> Seen:
        """How it is now."""
        entity = self.bus.get(EntityType.NODE, "n1")
        assert entity is not None
        return Seen(entity, self.bus.explain(EntityType.NODE, "n1"), self.node)

    def judge(self, when: str, **keys: Any) -> Judgement:
        """What a condition comes to now."""
        return CompiledPolicy(policy(when, **keys)).judge(self.seen(), self.clock.now())

    def truth(self, when: str, **keys: Any) -> Truth:
        """Only the answer."""
        return self.judge(when, **keys).truth

    def look(self, evaluator: PolicyEvaluator) -> Finding:
        """What the only policy says of it now."""
        (finding,) = evaluator.look([self.seen()], self.clock.now())
        return finding


def policies(text: str) -> Sequence[Policy]:
    """The policies of a text without a problem."""
    reading = read_policies(text, "p.yaml")
    assert reading.problems == ()
    return [loaded.policy for loaded in reading.policies]


def policy(when: str = "disk_utilization > 0.9", *, match: str = "entity_type: node", **keys: Any) -> Policy:
    """A policy; `keys` are further keys of the YAML, with _ for nothing but themselves (`for_` is `for`)."""
    more = "".join(f"{key.rstrip('_')}: {value}\n" for key, value in keys.items())
    (made,) = policies(
        f"name: p\nmatch: {{{match}}}\nwhen: '{when.replace(chr(39), chr(39) * 2)}'\naction: a\n{more}"
    )
    return made


def later(seconds: float) -> timedelta:
    """So much time."""
    return timedelta(seconds=seconds)
