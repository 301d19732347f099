"""What the tree of a parsed expression says, before anything is compiled or evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from steersman.kernel.cel import operations
from steersman.kernel.cel.values import Path

if TYPE_CHECKING:
    from lark import Token, Tree

MACROS = ("all", "exists", "exists_one", "filter", "map")

_NOTHING: frozenset[Path] = frozenset()

WRAPPERS = frozenset(
    (
        "conditionalor",
        "conditionaland",
        "relation",
        "addition",
        "multiplication",
        "unary",
        "member",
        "primary",
        "expr",
    )
)
"""Rules that stand for their only child where they have one."""


def as_tree(child: Any) -> Tree[Token]:
    """A child that is a tree; the grammar says which are."""
    return cast("Tree[Token]", child)


def arguments_of(children: Sequence[Any]) -> list[Tree[Token]]:
    """The arguments of a call, or the items of a list."""
    return (
        [as_tree(child) for child in as_tree(children[0]).children]
        if children and children[0] is not None
        else []
    )


def literal_text(tree: Tree[Token]) -> str | None:
    """The text that a tree is a literal of; None where it is something else."""
    while len(tree.children) == 1 and str(tree.data) != "literal":
        child: Any = tree.children[0]
        if not hasattr(child, "children"):
            return None
        tree = child
    token: Any = tree.children[0] if len(tree.children) == 1 else None
    if getattr(token, "type", "") != "STRING_LIT" or token[:1] in "rR":
        return None
    return operations.unescaped(token[1:-1])


def first_token(tree: Tree[Token]) -> Token:
    """Where a tree begins in the text."""
    here: Any = tree
    while hasattr(here, "children"):
        here = here.children[0]
    return cast("Token", here)


def static_path(tree: Tree[Token]) -> Path | None:
    """The path of a chain of names and text keys; None where it is something else."""
    name = str(tree.data)
    if name in WRAPPERS and len(tree.children) == 1:
        return static_path(as_tree(tree.children[0]))
    if name in ("ident", "dot_ident"):
        return (str(tree.children[0]),)
    if name not in ("member_dot", "member_index"):
        return None
    before = static_path(as_tree(tree.children[0]))
    if before is None:
        return None
    if name == "member_dot":
        return (*before, str(tree.children[1]))
    key = literal_text(as_tree(tree.children[1]))
    return None if key is None else (*before, key)


def needed_paths(tree: Tree[Token], truth: bool | None = True) -> frozenset[Path]:
    """The names without which it can never come to `truth` (None: to anything at all), whatever the others
    are. A name that only one side of an `||` reads is not among them, nor is one that `has` asks for."""
    name, trees = str(tree.data), [as_tree(one) for one in tree.children if hasattr(one, "children")]
    if name in ("conditionalor", "conditionaland") and len(trees) == 2:
        if truth is None:
            return needed_paths(tree, True) & needed_paths(tree, False)
        left, right = (needed_paths(one, truth) for one in trees)
        # One side alone decides an `||` that is true and an `&&` that is false.
        return left & right if truth is (name == "conditionalor") else left | right
    if name == "expr" and len(trees) == 3:
        condition, yes, no = trees
        when_true = needed_paths(condition, True) | needed_paths(yes, truth)
        return when_true & (needed_paths(condition, False) | needed_paths(no, truth))
    if name == "unary" and len(trees) == 2:
        opposite = not truth if truth is not None and str(trees[0].data) == "unary_not" else None
        return needed_paths(trees[1], opposite)
    path = static_path(tree)
    if path is not None:
        return frozenset((path,))
    if name == "ident_arg" and str(tree.children[0]) == "has":
        return _NOTHING
    if name == "member_dot_arg" and str(tree.children[1]) in MACROS:
        return needed_paths(trees[0], None)  # there may be no item for the rest to look at
    kept = truth if len(trees) == 1 and (name in WRAPPERS or name == "paren_expr") else None
    return _NOTHING.union(*(needed_paths(one, kept) for one in trees))
