"""What a Prometheus says of its own sources: which scrape targets are up, and what they are.

A target that is down is a fact about a source of our source. Nothing becomes zero by it: its series end, the
entities keep what they had, and age.
"""

from __future__ import annotations

from steersman.drivers.prometheus.answers import Vector, read_labels
from steersman.drivers.prometheus.lower import EXPORTED, INSTANCE, JOB

_DOWN = ("0", "0.0", "-0")
NAMED_MAX = 5
"""Targets that one line names."""


class Targets:
    """The scrape targets of one look, as `up` shows them: whether each answered, by (job, instance)."""

    def __init__(self, vector: Vector) -> None:
        self.up: dict[tuple[str, str], bool] = {}
        pods: dict[str, set[str]] = {}
        for sample in vector.samples:
            labels = read_labels(bytes(sample.metric))
            instance = labels.get(INSTANCE, "")
            if sample.value is None or not instance:
                continue
            self.up[labels.get(JOB, ""), instance] = sample.value[1] not in _DOWN
            own = pods.setdefault(instance, set())
            if labels.get("pod"):
                own.add(labels["pod"])
        self.pods = {instance: frozenset(own) for instance, own in pods.items()}

    def problems(self, jobs: set[str]) -> list[str]:
        """What is wrong with the targets of these scrape jobs, one line for each job."""
        lines: list[str] = []
        for job in sorted(jobs):
            answers = {instance: up for (name, instance), up in self.up.items() if name == job}
            down = sorted(instance for instance, up in answers.items() if not up)
            if not answers:
                lines.append(f"no target of scrape job {job!r} is there any more")
            elif down:
                named = ", ".join(down[:NAMED_MAX]) + (", ..." if len(down) > NAMED_MAX else "")
                lines.append(f"{len(down)} of {len(answers)} targets of scrape job {job!r} are down: {named}")
        return lines


def read_variable(vector: Vector, label: str) -> tuple[dict[str, str], list[str]]:
    """A label's value on each instance, and the instances where it has more than one: those are left out."""
    found: dict[str, set[str]] = {}
    for sample in vector.samples:
        labels = read_labels(bytes(sample.metric))
        value = labels.get(EXPORTED + label) or labels.get(label)
        if value and labels.get(INSTANCE):
            found.setdefault(labels[INSTANCE], set()).add(value)
    clear = {instance: min(values) for instance, values in found.items() if len(values) == 1}
    return clear, sorted(instance for instance, values in found.items() if len(values) > 1)
