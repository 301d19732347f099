"""Policies to recommendations: pure. No input or output, no clock, no chance.

`PolicyRules` reads policies and makes evaluators of them; a runner feeds an evaluator with what changed and
makes last what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files

from steersman.decide.coverage import coverage
from steersman.decide.evaluator import PolicyEvaluator
from steersman.decide.reading import read_policies
from steersman.decide.trial import try_policies
from steersman.kinds.deciding import PolicyReading
from steersman.kinds.policy import Policy

__all__ = [
    "PolicyEvaluator",
    "PolicyRules",
    "coverage",
    "read_policies",
    "shipped_policies",
    "try_policies",
]


class PolicyRules:
    """Reads policies, and makes evaluators of them."""

    def read(self, text: str, file: str) -> PolicyReading:
        """The policies of one text; what can't be read is a problem and never an error."""
        return read_policies(text, file)

    def evaluator(self, policies: Sequence[Policy], before: object = None) -> PolicyEvaluator:
        """An evaluator of these; what still means the same keeps its since-times from `before`, where that is
        one of ours."""
        return PolicyEvaluator(policies, before if isinstance(before, PolicyEvaluator) else None)


def shipped_policies() -> Mapping[str, str]:
    """The policies that come with Steersman, as texts by file name."""
    folder = files("steersman.decide") / "shipped"
    return {
        file.name: file.read_text()
        for file in sorted(folder.iterdir(), key=lambda one: one.name)
        if file.name.endswith(".yaml")
    }
