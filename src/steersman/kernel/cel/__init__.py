"""The expression language of policies and guards: CEL's syntax, with a third value for what is not known.

    rule = compile_expression('health == "degraded" && disk_utilization >= 0.9')
    rule.evaluate(MappingLookup({"health": "degraded"})).truth  # "unknown": disk_utilization is absent

An expression is compiled once. Evaluating it says what it came to, which names it read, and which it could
not have and why. docs/reference/policies.md describes the language.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from msgspec import Struct

from steersman.kernel.cel.compiling import Compiler, ExpressionInvalid, Node, Scope
from steersman.kernel.cel.values import Lack, Lookup, MappingLookup, Path, Reading, Unknown

__all__ = [
    "Evaluation",
    "Expression",
    "ExpressionInvalid",
    "Lack",
    "Lookup",
    "MappingLookup",
    "Path",
    "Reading",
    "compile_expression",
]


class Evaluation(Struct, frozen=True):
    """What an expression came to.

    `truth` is "true", "false" or "unknown"; a value that is no bool is unknown. `value` is None where it is
    not known, and a list without what is not known of it. `read`: names with their values. `missing`: names
    that could not be read, whether or not that decided anything. `lacks`: what the unknown answer is owed to;
    empty where it is known.
    """

    value: Any
    truth: str
    read: list[Reading]
    missing: list[Lack]
    lacks: tuple[Lack, ...] = ()


class Expression:
    """A compiled expression; a value. `paths` are all the names that it may read, `needed` those without
    which it can never be true."""

    __slots__ = ("_node", "needed", "paths", "text")

    def __init__(self, text: str, node: Node, paths: frozenset[Path], needed: frozenset[Path]) -> None:
        self.text = text
        self.paths = paths
        self.needed = needed
        self._node = node

    def evaluate(self, lookup: Lookup) -> Evaluation:
        """Evaluate it. Never raises for what the data is."""
        scope = Scope(lookup)
        value = self._node(scope)
        if isinstance(value, Unknown):
            return Evaluation(None, "unknown", scope.readings(), list(scope.missing), value.lacks)
        if isinstance(value, list):
            value = [item for item in cast("list[Any]", value) if not isinstance(item, Unknown)]
        truth = {True: "true", False: "false"}[value] if isinstance(value, bool) else "unknown"
        return Evaluation(value, truth, scope.readings(), list(scope.missing))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def compile_expression(
    text: str, *, names: Collection[str] | None = None, file: str = "", line: int = 1, column: int = 1
) -> Expression:
    """Compile an expression. `names` are the first names that it may use; None allows all.

    `file`, `line` and `column` say where the text stands, for errors. Raises `ExpressionInvalid`.
    """
    compiler = Compiler(names, file, line, column)
    node = compiler.compile(text)
    return Expression(text, node, frozenset(compiler.paths), compiler.needed)
