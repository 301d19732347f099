"""From text to closures: parsed once by the language's own grammar, compiled once, evaluated as often as
wanted.

Nothing here is evaluated as Python. The tree that cel-python's grammar gives is turned into nested functions;
its own evaluator is not used, because it knows no third value (decision 0026).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from steersman.kernel.cel import operations
from steersman.kernel.cel.trees import (
    MACROS,
    WRAPPERS,
    arguments_of,
    as_tree,
    first_token,
    needed_paths,
    static_path,
)
from steersman.kernel.cel.values import Lack, Lookup, Path, Reading, Unknown, merged, senseless
from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean

if TYPE_CHECKING:
    from lark import Token, Tree

EXPRESSION_MAX_CHARS = 8192
NODES_MAX = 2_000
"""Operators, names and literals of one expression."""
DEPTH_MAX = 40
"""Brackets within brackets."""
ROUNDS_MAX = 100_000
"""Items that the macros of one evaluation may visit in all."""


class ExpressionInvalid(InvalidInput, ValueError):
    """An expression that can't be read, or uses a name that there is not. `facts`: `file`, `line`,
    `column`."""

    code = "expression_invalid"
    title = "Expression invalid"


class Scope:
    """One evaluation: where names are found, what was read, what was missing."""

    __slots__ = ("_found", "lookup", "missing", "read", "rounds", "variables")

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.variables: dict[str, Any] = {}
        self.read: dict[Path, Any] = {}
        self.missing: dict[Lack, None] = {}
        self.rounds = 0
        self._found: dict[Path, Any] = {}

    def find(self, path: Path) -> Any:
        """The value of a name; Unknown where it can't be had. Each name is looked up once."""
        if path in self._found:
            value = self._found[path]
            if isinstance(value, Unknown):  # `has` may have asked first, to whom it is no lack
                self.missing.update(dict.fromkeys(value.lacks))
            return value
        value = self._found[path] = self._taken(path, self.lookup.get(path))
        return value

    def _taken(self, path: Path, value: Any) -> Any:
        if isinstance(value, Lack):
            self.missing[value] = None
            return Unknown((value,))
        if isinstance(value, list):
            items = cast("list[Any]", value)
            if any(isinstance(item, Lack) for item in items):
                return self._open_list(path, items)
        self.read[path] = value
        return cast("Any", value)

    def _open_list(self, path: Path, items: list[Any]) -> list[Any]:
        """A list that may have more: each `Lack` in it as an unknown item."""
        lacks = [item for item in items if isinstance(item, Lack)]
        known: list[Any] = [item for item in items if not isinstance(item, Lack)]
        self.missing.update(dict.fromkeys(lacks))
        self.read[path] = known
        return known + [Unknown((lack,)) for lack in lacks]

    def readings(self) -> list[Reading]:
        """What was read, in order."""
        return [Reading(path, value) for path, value in self.read.items()]


Node = Callable[[Scope], Any]


class Compiler:
    """Compiles one expression; `paths` are the names that it may read, `needed` those without which it can
    never be true."""

    def __init__(self, names: Collection[str] | None, file: str, line: int, column: int) -> None:
        self._names = names
        self._place = (file, line, column)
        self._locals: list[str] = []
        self._count = 0
        self._depth = 0
        self.paths: set[Path] = set()
        self.needed: frozenset[Path] = frozenset()

    def compile(self, text: str) -> Node:
        """The closure of a whole expression. Raises `ExpressionInvalid`."""
        if not text.strip() or len(text) > EXPRESSION_MAX_CHARS:
            raise self.wrong(f"an expression has 1 to {EXPRESSION_MAX_CHARS} characters")
        try:
            tree = _parse(text, self.wrong)
            node = self._node(tree)
            self.needed = needed_paths(tree)
            return node
        except RecursionError:
            raise self.wrong(f"too many parts in a row, or nested deeper than {DEPTH_MAX} levels") from None

    def wrong(self, detail: str, line: int = 1, column: int = 1) -> ExpressionInvalid:
        """The error for a place in the text, told as a place in the file that it stands in."""
        file, first_line, first_column = self._place
        at_line = first_line + line - 1
        at_column = column + first_column - 1 if line == 1 else column
        where = f"{file}:{at_line}:{at_column}: " if file else f"line {line}, column {column}: "
        return ExpressionInvalid(where + detail, file=file, line=at_line, column=at_column)

    def _node(self, tree: Tree[Token]) -> Node:
        self._count += 1
        # Each level of brackets is some ten nodes of the grammar; only real ones are counted.
        if self._count > NODES_MAX * 12:
            raise self._at(tree, f"an expression has at most {NODES_MAX} parts")
        name = str(tree.data)
        if len(tree.children) == 1 and name in WRAPPERS and name != "expr":  # an expr counts its depth
            return self._node(as_tree(tree.children[0]))
        build: Callable[[Tree[Token]], Node] | None = getattr(self, f"_{name}", None)
        if build is None:
            raise self._at(tree, f"{name.replace('_', ' ')} has no meaning here")
        return build(tree)

    def _expr(self, tree: Tree[Token]) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._at(tree, f"nested deeper than {DEPTH_MAX} levels")
        try:
            if len(tree.children) == 1:
                return self._node(as_tree(tree.children[0]))
            condition, yes, no = (self._node(as_tree(child)) for child in tree.children)
        finally:
            self._depth -= 1

        def choose(scope: Scope) -> Any:
            truth = condition(scope)
            if isinstance(truth, bool):
                return yes(scope) if truth else no(scope)
            return truth if isinstance(truth, Unknown) else _no_bool("?:", truth)

        return choose

    def _conditionalor(self, tree: Tree[Token]) -> Node:
        return self._kleene(tree, "||", decides=True)

    def _conditionaland(self, tree: Tree[Token]) -> Node:
        return self._kleene(tree, "&&", decides=False)

    def _kleene(self, tree: Tree[Token], sign: str, *, decides: bool) -> Node:
        left, right = (self._node(as_tree(child)) for child in tree.children)

        def both(scope: Scope) -> Any:
            one = left(scope)
            if one is decides:
                return decides
            other = right(scope)
            if other is decides:
                return decides
            if isinstance(one, bool) and isinstance(other, bool):
                return not decides
            return merged(*(v if isinstance(v, (bool, Unknown)) else _no_bool(sign, v) for v in (one, other)))

        return both

    def _relation(self, tree: Tree[Token]) -> Node:
        return self._binary(tree)

    def _addition(self, tree: Tree[Token]) -> Node:
        return self._binary(tree)

    def _multiplication(self, tree: Tree[Token]) -> Node:
        return self._binary(tree)

    def _binary(self, tree: Tree[Token]) -> Node:
        first, last = (as_tree(child) for child in tree.children)
        operate = operations.BINARY[str(first.data)]
        left, right = self._node(as_tree(first.children[0])), self._node(last)

        def apply(scope: Scope) -> Any:
            one, other = left(scope), right(scope)
            if isinstance(one, Unknown) or isinstance(other, Unknown):
                return merged(one, other)
            try:
                return operate(one, other)
            except (OverflowError, TypeError) as error:  # a huge number, a time without a zone
                return senseless(str(error))

        return apply

    def _unary(self, tree: Tree[Token]) -> Node:
        sign, value = str(as_tree(tree.children[0]).data), self._node(as_tree(tree.children[1]))

        def oppose(scope: Scope) -> Any:
            given = value(scope)
            if isinstance(given, Unknown):
                return given
            if sign == "unary_neg":
                return operations.negate(given)
            return not given if isinstance(given, bool) else _no_bool("!", given)

        return oppose

    def _literal(self, tree: Tree[Token]) -> Node:
        value = self._literal_value(cast("Token", tree.children[0]))
        return lambda _scope: value

    def _literal_value(self, token: Token) -> Any:
        text = str(token)
        match token.type:
            case "BOOL_LIT":
                return text == "true"
            case "NULL_LIT":
                return None
            case "FLOAT_LIT":
                return float(text)
            case "INT_LIT" | "UINT_LIT":
                value = operations.bounded(int(text.rstrip("uU"), 0 if "x" in text else 10))
                if isinstance(value, Unknown):
                    raise self._at(token, "a whole number has 64 bits")
                return value
            case "STRING_LIT" | "MLSTRING_LIT":
                raw = text[:1] in "rR"
                body = text[1:] if raw else text
                quotes = 3 if token.type == "MLSTRING_LIT" else 1
                content = body[quotes:-quotes]
                if not raw and operations.has_unknown_escape(content):
                    raise self._at(token, "a backslash that begins no escape; write it twice, or r'...'")
                return content if raw else operations.unescaped(content)
            case _:
                raise self._at(token, "bytes have no place in an expression")

    def _ident(self, tree: Tree[Token]) -> Node:
        return self._name((str(tree.children[0]),), cast("Token", tree.children[0]))

    def _dot_ident(self, tree: Tree[Token]) -> Node:
        return self._ident(tree)

    def _member_dot(self, tree: Tree[Token]) -> Node:
        path = static_path(tree)
        if path is not None:
            return self._name(path, first_token(tree))
        return self._indexed(self._node(as_tree(tree.children[0])), lambda _scope: str(tree.children[1]))

    def _member_index(self, tree: Tree[Token]) -> Node:
        path = static_path(tree)
        if path is not None:
            return self._name(path, first_token(tree))
        return self._indexed(self._node(as_tree(tree.children[0])), self._node(as_tree(tree.children[1])))

    def _indexed(self, whole: Node, at: Node) -> Node:
        def item(scope: Scope) -> Any:
            given, key = whole(scope), at(scope)
            if isinstance(given, Unknown) or isinstance(key, Unknown):
                return merged(given, key)
            return operations.index(given, key)

        return item

    def _name(self, path: Path, token: Token) -> Node:
        root = path[0]
        if root in self._locals:
            rest = path[1:]

            def local(scope: Scope) -> Any:
                value = scope.variables[root]
                for part in rest:
                    value = value if isinstance(value, Unknown) else operations.index(value, part)
                return value

            return local
        if self._names is not None and root not in self._names:
            hint = did_you_mean(root, self._names) or f"; the names are {', '.join(sorted(self._names))}"
            raise self._at(token, f"{root} is not a name that can be read here{hint}")
        self.paths.add(path)
        return lambda scope: scope.find(path)

    def _paren_expr(self, tree: Tree[Token]) -> Node:
        return self._node(as_tree(tree.children[0]))

    def _list_lit(self, tree: Tree[Token]) -> Node:
        items = [self._node(item) for item in arguments_of(tree.children)]

        def build(scope: Scope) -> Any:
            values = [item(scope) for item in items]
            return merged(*values) if any(isinstance(value, Unknown) for value in values) else values

        return build

    def _map_lit(self, tree: Tree[Token]) -> Node:
        inits = (
            [as_tree(child) for child in as_tree(tree.children[0]).children]
            if tree.children[:1] != [None]
            else []
        )
        nodes = [self._node(init) for init in inits]

        def build(scope: Scope) -> Any:
            values = [node(scope) for node in nodes]
            if any(isinstance(value, Unknown) for value in values):
                return merged(*values)
            if not all(isinstance(key, (str, int, bool)) for key in values[::2]):
                return senseless("a map's keys are texts, whole numbers or bools")
            return dict(zip(values[::2], values[1::2], strict=True))

        return build

    def _ident_arg(self, tree: Tree[Token]) -> Node:
        name, arguments = str(tree.children[0]), arguments_of(tree.children[1:])
        if name == "has":
            return self._has(tree, arguments)
        return self._call(tree, name, operations.FUNCTIONS, [self._node(argument) for argument in arguments])

    def _member_dot_arg(self, tree: Tree[Token]) -> Node:
        name, arguments = str(tree.children[1]), arguments_of(tree.children[2:])
        subject = self._node(as_tree(tree.children[0]))
        if name in MACROS:
            return self._macro(tree, name, subject, arguments)
        return self._call(
            tree, name, operations.METHODS, [subject, *(self._node(argument) for argument in arguments)]
        )

    def _call(
        self,
        tree: Tree[Token],
        name: str,
        table: Mapping[str, tuple[int, Callable[..., Any]]],
        arguments: list[Node],
    ) -> Node:
        if name not in table:
            known = [*table, *(MACROS if table is operations.METHODS else ("has",))]
            raise self._at(tree, f"there is no function {name}{did_you_mean(name, known)}")
        count, function = table[name]
        if len(arguments) != count:
            raise self._at(tree, f"{name} takes {count} values, not {len(arguments)}")

        def call(scope: Scope) -> Any:
            values = [argument(scope) for argument in arguments]
            return merged(*values) if any(isinstance(v, Unknown) for v in values) else function(*values)

        return call

    def _has(self, tree: Tree[Token], arguments: list[Tree[Token]]) -> Node:
        path = static_path(arguments[0]) if len(arguments) == 1 else None
        if path is None or len(path) < 2:
            raise self._at(tree, "has takes one field, as in has(labels.rack)")
        read = self._name(path, first_token(arguments[0]))

        def present(scope: Scope) -> Any:
            before = dict(scope.missing)
            value = read(scope)
            if not isinstance(value, Unknown):
                return True
            # What is not there is an answer; what merely can't be read now is none.
            if all(lack.why in ("absent", "unsupported", "error") for lack in value.lacks):
                scope.missing = before
                return False
            return value

        return present

    def _macro(self, tree: Tree[Token], name: str, subject: Node, arguments: list[Tree[Token]]) -> Node:
        variable = static_path(arguments[0]) if len(arguments) == 2 else None
        if variable is None or len(variable) != 1:
            raise self._at(tree, f"{name} takes a name and an expression, as in list.{name}(x, x > 1)")
        self._locals.append(variable[0])
        try:
            body = self._node(arguments[1])
        finally:
            self._locals.pop()
        collect = _COLLECT[name]

        def over(scope: Scope) -> Any:
            whole = subject(scope)
            if isinstance(whole, Unknown):
                return whole
            if not isinstance(whole, (list, tuple, Mapping)):
                return senseless(f"{name} wants a list or a map, not {operations.kind_of(whole)}")
            items = list(cast("Sequence[Any]", whole))
            scope.rounds += len(items)
            if scope.rounds > ROUNDS_MAX:
                return senseless(f"more than {ROUNDS_MAX} items to look at")
            return collect(items, _answers(scope, variable[0], items, body))

        return over

    def _at(self, place: Tree[Token] | Token, detail: str) -> ExpressionInvalid:
        meta = place if not hasattr(place, "meta") else cast("Tree[Token]", place).meta
        return self.wrong(detail, getattr(meta, "line", None) or 1, getattr(meta, "column", None) or 1)


def _answers(scope: Scope, variable: str, items: list[Any], body: Node) -> list[Any]:
    kept = variable in scope.variables
    before = scope.variables.get(variable)
    answers: list[Any] = []
    for item in items:
        scope.variables[variable] = item
        answers.append(body(scope))
    if kept:
        scope.variables[variable] = before
    else:
        scope.variables.pop(variable, None)
    return answers


def _all(_items: list[Any], answers: list[Any]) -> Any:
    if any(answer is False for answer in answers):
        return False
    return True if all(answer is True for answer in answers) else _unclear("all", answers)


def _exists(_items: list[Any], answers: list[Any]) -> Any:
    if any(answer is True for answer in answers):
        return True
    return False if all(answer is False for answer in answers) else _unclear("exists", answers)


def _exists_one(_items: list[Any], answers: list[Any]) -> Any:
    if sum(answer is True for answer in answers) > 1:
        return False
    if all(isinstance(answer, bool) for answer in answers):
        return sum(answers) == 1
    return _unclear("exists_one", answers)


def _filter(items: list[Any], answers: list[Any]) -> Any:
    if all(isinstance(answer, bool) for answer in answers):
        return [item for item, answer in zip(items, answers, strict=True) if answer]
    return _unclear("filter", answers)


def _map(_items: list[Any], answers: list[Any]) -> Any:
    return merged(*answers) if any(isinstance(answer, Unknown) for answer in answers) else answers


def _unclear(name: str, answers: list[Any]) -> Unknown:
    return merged(*(a if isinstance(a, (bool, Unknown)) else _no_bool(name, a) for a in answers))


_COLLECT: Mapping[str, Callable[[list[Any], list[Any]], Any]] = {
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _map,
}


def _no_bool(sign: str, value: Any) -> Unknown:
    return senseless(f"{sign} wants a bool, not {operations.kind_of(value)}")


def _parse(text: str, wrong: Callable[[str, int, int], ExpressionInvalid]) -> Tree[Token]:
    from celpy.celparser import (
        CELParseError,  # some 0.3 s to load: only those who use expressions wait for it
    )

    try:
        return cast("Tree[Token]", _parser().parse(text))
    except CELParseError as error:
        raise wrong(
            "expected an expression; it can't be read from here on", error.line or 1, error.column or 1
        ) from None
    except RecursionError:
        raise wrong(f"nested deeper than {DEPTH_MAX} levels", 1, 1) from None


@lru_cache(maxsize=1)
def _parser() -> Any:
    from celpy.celparser import CELParser

    return CELParser()
