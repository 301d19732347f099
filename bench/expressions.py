"""Evaluating a policy's condition, against the evaluators of two CEL libraries.

All three evaluate the same condition on the same node of twenty fields, compiled once before. Ours also
records what it read, which the others do not; they are native code (Rust, C++) and ours is Python.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import cel
from cel_expr_python import cel as reference

from bench.figure import Figure
from steersman.kernel.cel import MappingLookup, compile_expression

WHEN = 'health in ["degraded", "critical"] && (disk >= 0.9 || memory >= 0.98) && load < 100.0'
ROUNDS = 2_000
TURNS = 7
NODE: dict[str, object] = {
    "health": "degraded",
    "disk": 0.5,
    "memory": 0.99,
    "load": 12.5,
    **{f"field_{n}": n / 7 for n in range(16)},
}
DETAIL = "CPU per evaluation, one condition of four clauses on a node of 20 fields, compiled once"


def cpu_us(work: Callable[[], object]) -> float:
    """The best turn's CPU time of one evaluation."""
    gc.collect()
    best = float("inf")
    for _ in range(TURNS):
        began = time.process_time()
        for _ in range(ROUNDS):
            work()
        best = min(best, time.process_time() - began)
    return best / ROUNDS * 1e6


async def measure() -> list[Figure]:
    """Ours, and the ratios of the two libraries to it."""
    ours = compile_expression(WHEN)
    rust = cel.compile(WHEN)
    kinds = {name: reference.Type.STRING if name == "health" else reference.Type.DOUBLE for name in NODE}
    cpp = reference.NewEnv(variables=kinds).compile(WHEN)
    answers = (
        ours.evaluate(MappingLookup(NODE)).value,
        rust.execute(NODE),
        cpp.eval(data=NODE).plain_value(),
    )
    if answers != (True, True, True):
        raise RuntimeError(f"the three do not agree: {answers}")
    our_us = cpu_us(lambda: ours.evaluate(MappingLookup(NODE)))
    rust_us = cpu_us(lambda: rust.execute(NODE))
    cpp_us = cpu_us(lambda: cpp.eval(data=NODE))
    return [
        Figure("expression: common-expression-language / ours", rust_us / our_us, "x", ">=1", DETAIL),
        Figure("expression: cel-expr-python / ours", cpp_us / our_us, "x", ">=0.5", DETAIL),
        Figure("expression: ours, per evaluation", our_us, "us"),
    ]
