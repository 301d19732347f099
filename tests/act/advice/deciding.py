"""The rules that these tests decide by: the real ones."""

from __future__ import annotations

from steersman.decide import PolicyRules


def rules() -> PolicyRules:
    """Reads policies and evaluates them."""
    return PolicyRules()
